//! Requests find the members of a slot even where the host table does not show them.

mod network;

use std::time::Duration;

use bytes::Bytes;
use difuse_keylog::{Operation, Value};
use difuse_protocol::request::{Condition, Reply, Request, Since};
use difuse_types::{Hash, Key, Level, NodeId, OperationId, SlotId};
use network::{Network, host, node, settings};

fn key_in(slot: SlotId) -> Key {
    let keys = (0u32..).map(|number| Key::new(number.to_string().as_bytes()).expect("a short key"));
    let mut of_slot = keys.filter(|key| settings().slots.of_key(key) == slot);
    of_slot.next().expect("some key is in every slot")
}

fn write(key: Key) -> Request {
    let value = Value::inline(Bytes::from_static(b"x"));
    Request::Write {
        key,
        operation: Operation::Set(value),
        condition: Condition::None,
        operation_id: OperationId([7; 16]),
        level: Level::Quorum,
        since: Since::Now,
    }
}

/// A ring of four hosts with one replica each slot, and a fifth that joins, whose table shows itself and host 3 alone.
/// Returns a slot that host 3 has nothing to do with.
fn ring_with_a_stranger() -> (Network, SlotId) {
    let mut network = Network::default();
    network.found(0);
    for number in 1..4 {
        network.join(number, host(0));
    }
    network.run_until("the slots are spread", Network::is_spread);
    network.shown_to = Some((node(4), node(3)));
    network.join(4, host(3));
    network.run_for(Duration::from_secs(3));
    let known: Vec<NodeId> = network.peer(4).ring().hosts().map(|entry| entry.host.node).collect();
    assert!(known.iter().all(|known| [node(3), node(4)].contains(known)) && known.len() == 2, "{known:?}");
    let slot = settings().slots.iter().find(|slot| network.peer(3).keylog().configuration(*slot).is_none());
    (network, slot.expect("host 3 never heard of most slots"))
}

#[test]
fn a_node_that_knows_one_host_serves_keys_that_this_host_does_not_hold() {
    let (mut network, slot) = ring_with_a_stranger();
    let key = key_in(slot);
    let reply = network.request(4, write(key.clone()));
    assert!(matches!(reply, Ok(Reply::Written { height: 1, .. })), "{reply:?}");
    let reply = network.request(4, Request::Read { key, level: Level::Quorum, seen: None });
    let Ok(Reply::Entry(reading)) = reply else { panic!("{reply:?}") };
    assert_eq!(reading.entry.map(|entry| entry.height), Some(1));
}

#[test]
fn a_node_that_knows_one_host_finds_the_members_of_blocks() {
    let (mut network, slot) = ring_with_a_stranger();
    let contents = (0u32..).map(|number| Bytes::copy_from_slice(&number.to_le_bytes()));
    let mut of_slot = contents.filter(|bytes| settings().slots.of_block(&Hash::of(bytes)) == slot);
    let bytes = of_slot.next().expect("some block is in every slot");
    let hash = Hash::of(&bytes);
    let put = Request::PutBlock { hash, bytes, referenced: false, generation: 0, level: Level::Quorum };
    assert_eq!(network.request(4, put), Ok(Reply::BlockPut { created: true }));
}

#[test]
fn a_lookup_tells_where_the_node_found_is_reached() {
    let (mut network, slot) = ring_with_a_stranger();
    let _ = network.request(4, write(key_in(slot)));
    let leader = network.peer(0).ring().successors(slot)[0];
    let dialed = network.dialed.get(&node(4)).cloned().unwrap_or_default();
    let address = network.peer(0).ring().host(&leader).map(|entry| entry.host.address.clone());
    assert_eq!(dialed.get(&leader), address.as_ref());
}
