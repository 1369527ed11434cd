use std::time::Duration;

use bytes::Bytes;
use difuse_keylog::store::MemoryStore;
use difuse_protocol::{BlockCommand, BlockResult, Input, Output, Peer, PeerOptions, Start};
use difuse_types::{Hash, Host, Incarnation, Instant, NodeId, RingId, RingSettings, WallTime};

/// Most frames that one run hands to the peer.
const FRAMES_MAX: usize = 64;
/// More than a message to a peer with nothing in it may make it send.
const OUTPUTS_MAX: usize = 100_000;

/// Messages that a peer does not expect: frames of the wire, each after two bytes for its length (little-endian), one
/// for its sender and one for the time that has passed. Whatever they say, the peer goes on.
pub fn peer_messages(bytes: &[u8]) {
    let mut now = Instant(1_000_000_000);
    let mut peer = founder(now);
    let mut rest = bytes;
    let mut inputs = Vec::new();
    for _ in 0..FRAMES_MAX {
        let Some(([low, high, sender, pause], after)) = rest.split_first_chunk() else { break };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(after.len());
        let (frame, after) = after.split_at(length);
        rest = after;
        now = now + Duration::from_millis(u64::from(*pause) * 16);
        let from = node(*sender % 5);
        for message in difuse_wire::decode(&Bytes::copy_from_slice(frame)).unwrap_or_default() {
            inputs.push(Input::Message { from, message });
        }
        inputs = handle(&mut peer, now, inputs);
    }
    // Some time later, with what it has begun meanwhile.
    for _ in 0..4 {
        now = now + Duration::from_millis(700);
        inputs = handle(&mut peer, now, inputs);
    }
}

/// What comes back from the disk.
fn handle(peer: &mut Peer<MemoryStore>, now: Instant, inputs: Vec<Input>) -> Vec<Input> {
    let outputs = peer.handle(now, WallTime(1), inputs).expect("a store in memory does not fail");
    assert!(outputs.len() < OUTPUTS_MAX, "{} outputs at once", outputs.len());
    peer.store_mut().flush_all();
    let done = outputs.into_iter().filter_map(|output| match output {
        Output::Block { ticket, command } => Some(Input::BlockDone { ticket, result: perform(&command) }),
        _ => None,
    });
    let mut inputs: Vec<Input> = done.collect();
    inputs.push(Input::Durable(peer.store_mut().durable()));
    inputs
}

fn founder(now: Instant) -> Peer<MemoryStore> {
    let settings = RingSettings::new(RingId(Hash([9; 32])), 3, 8, 2).expect("valid settings");
    let (options, store) = (PeerOptions::default(), MemoryStore::new());
    let peer = Peer::new(host(0), settings, options, Start::Found, store, now, 1);
    peer.expect("a store in memory does not fail")
}

/// As in the samples of the wire, but for the founder.
fn node(name: u8) -> NodeId {
    NodeId([name; 32])
}

fn host(name: u8) -> Host {
    Host {
        node: node(name),
        incarnation: Incarnation(1),
        address: format!("127.0.0.1:{name}"),
        http: String::new(),
        zone: String::new(),
        label: name.to_string(),
    }
}

/// A disk without blocks that takes none.
fn perform(command: &BlockCommand) -> BlockResult {
    match command {
        BlockCommand::Read { .. } => BlockResult::Content { record: None, bytes: None },
        BlockCommand::Stat { .. } | BlockCommand::Verify { .. } => BlockResult::Record(None),
        BlockCommand::Delete { .. } | BlockCommand::NoteLost { .. } | BlockCommand::Clear { .. } => BlockResult::Done,
        BlockCommand::List { .. } => BlockResult::Page { records: Vec::new(), is_last: true },
        BlockCommand::Digest { .. } => BlockResult::Digest(0),
        BlockCommand::Put { .. } => BlockResult::Full("there is none".into()),
    }
}
