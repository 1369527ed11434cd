use std::{collections::BTreeSet, time::Duration};

use difuse_keylog::store::MemoryStore;
use difuse_types::{Hash, Host, Incarnation, Instant, NodeId, RingId, RingSettings, SlotId, WallTime};

use crate::peer::{BlockCommand, BlockResult, Input, Output, Peer, PeerOptions, Start};

fn host(name: u8) -> Host {
    let node = NodeId([name; 32]);
    Host {
        node,
        incarnation: Incarnation(1),
        address: format!("127.0.0.1:{name}"),
        http: String::new(),
        zone: String::new(),
        label: node.to_string(),
    }
}

/// Runs a node for ten seconds whose disk holds blocks of these slots; returns those that it still holds.
fn left_over(start: Start, blocks: &[SlotId]) -> BTreeSet<SlotId> {
    let settings = RingSettings::new(RingId(Hash::ZERO), 3, 4, 1).unwrap();
    let mut now = Instant(1);
    let mut peer = Peer::new(host(1), settings, PeerOptions::default(), start, MemoryStore::default(), now, 1).unwrap();
    let mut held: BTreeSet<SlotId> = blocks.iter().copied().collect();
    for _ in 0..1000 {
        now = now + Duration::from_millis(10);
        let mut inputs = vec![Input::Tick];
        while !inputs.is_empty() {
            peer.store_mut().flush_all();
            let outputs = peer.handle(now, WallTime(0), std::mem::take(&mut inputs)).unwrap();
            for output in outputs {
                let Output::Block { ticket, command } = output else { continue };
                let result = match command {
                    BlockCommand::Digest { slot } => BlockResult::Digest(u128::from(held.contains(&slot))),
                    BlockCommand::Clear { slot } => {
                        held.remove(&slot);
                        BlockResult::Done
                    }
                    _ => BlockResult::Done,
                };
                inputs.push(Input::BlockDone { ticket, result });
            }
        }
    }
    held
}

/// Found with seed 519299 of the simulator: a node died when blocks were on its disk, and before the record that it is a
/// member of their slot was.
#[test]
fn blocks_of_a_slot_that_a_node_knows_nothing_of_are_dropped() {
    let blocks = [SlotId(0), SlotId(3)];
    assert_eq!(left_over(Start::Join(vec![host(2)]), &blocks), BTreeSet::new());
    assert_eq!(left_over(Start::Found, &blocks), BTreeSet::from(blocks), "its own stay");
}
