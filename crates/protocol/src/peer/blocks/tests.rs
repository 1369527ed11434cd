use difuse_keylog::{Configuration, store::MemoryStore};
use difuse_ring::{HostEntry, HostState};
use difuse_types::{Hash, Host, Incarnation, Instant, Level, NodeId, RingId, RingSettings, WallTime};

use crate::{
    message::{BlockMessage, BlockQuestion, Message},
    peer::{Input, Output, Peer, PeerOptions, Start},
    request::Request,
};

const ME: NodeId = NodeId([1; 32]);
const GONE: NodeId = NodeId([2; 32]);
const ALIVE: NodeId = NodeId([3; 32]);

fn entry(node: NodeId, state: HostState) -> HostEntry {
    let address = String::from("127.0.0.1:1");
    let host = Host {
        node,
        incarnation: Incarnation(1),
        http: String::new(),
        zone: String::new(),
        label: node.to_string(),
        address,
    };
    HostEntry { host, state, version: 1 }
}

/// A node that had heard of a slot's members and not of their successors refused its blocks for ever once those members
/// were gone: it asked nobody else.
#[test]
fn members_that_are_gone_are_not_the_last_word() {
    let settings = RingSettings::new(RingId(Hash::ZERO), 1, 1, 1).unwrap();
    let hosts = vec![entry(ME, HostState::Up), entry(GONE, HostState::Gone), entry(ALIVE, HostState::Up)];
    let host = hosts[0].host.clone();
    let (start, store) = (Start::Resume(hosts), MemoryStore::default());
    let mut peer = Peer::new(host, settings, PeerOptions::default(), start, store, Instant(1), 1).unwrap();
    let hash = Hash::of(b"block");
    let slot = settings.slots.of_block(&hash);
    let old = Configuration::first(slot, vec![GONE]);
    peer.known_configurations.insert(slot, old);
    peer.handle(Instant(2), WallTime(0), [Input::Connected(ALIVE)]).unwrap();
    let request = Request::ReadBlock { hash, level: Level::Quorum };
    let outputs = peer.handle(Instant(3), WallTime(0), [Input::Request { id: 1, request }]).unwrap();
    let asks_for_members = |output: &Output| match output {
        Output::Send { to, message: Message::Block(BlockMessage::Ask { question, .. }) } => {
            *to == ALIVE && *question == BlockQuestion::Configuration
        }
        _ => false,
    };
    assert!(outputs.iter().any(asks_for_members), "{outputs:?}");
}
