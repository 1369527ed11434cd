use difuse_types::{Hash, Host, Incarnation, RingId, RingPosition};

use super::network::{Network, SECOND, host, node};
use crate::{
    HostEntry, HostState, JoinOutcome, LookupOutcome, RefuseReason, Ring, RingConfig, RingMessage, RingOutput,
    VirtualNodeId,
};

fn anything(rng: &mut fastrand::Rng, ring: RingId) -> RingMessage {
    let mut virtual_node = || VirtualNodeId { node: node(rng.u16(0..5)), index: rng.u16(0..12) };
    let (from, to) = (virtual_node(), virtual_node());
    let many: Vec<_> = (0..300).map(|_| virtual_node()).collect();
    let (operation, position) = (rng.u64(..), RingPosition([rng.u8(..); 32]));
    match rng.u8(0..12) {
        0 => RingMessage::Ping { sent_ns: rng.u64(..) },
        1 => RingMessage::Pong { sent_ns: rng.u64(..), member: rng.bool() },
        2 => RingMessage::GossipDigest { ring, buckets: vec![1; rng.usize(0..600)] },
        3 => RingMessage::GossipRows { ring, entries: Vec::new(), wanted: vec![rng.u16(..); 70_000] },
        4 => RingMessage::JoinRequest { ring, operation, joiner: from },
        5 => {
            let outcome = JoinOutcome::Place { predecessor: from, successors: many };
            RingMessage::JoinReply { operation, joiner: to, outcome }
        }
        6 => RingMessage::StabilizeQuery { operation, from, to },
        7 => {
            let predecessor = Some(to);
            RingMessage::StabilizeReply { operation, from, to, member: true, predecessor, successors: many }
        }
        8 => RingMessage::Notify { from, to },
        9 => RingMessage::LookupRequest { lookup: operation, position },
        10 => RingMessage::LookupReply { lookup: operation, outcome: LookupOutcome::Next { next: to }, host: None },
        _ => RingMessage::Refuse { reason: RefuseReason::TableFull },
    }
}

#[test]
fn rubbish_does_no_lasting_harm() {
    let mut network = Network::settled(1, 3);
    let ring = RingId(Hash::of(b"ring"));
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..3000 {
        let (from, message) = (node(rng.u16(0..5)), anything(&mut rng, ring));
        network.call(0, |target, now, out| target.handle_message(now, from, message, out));
        network.step();
    }
    network.run_until_settled(20 * SECOND);
}

#[test]
fn rows_that_break_the_bounds_are_not_taken_in() {
    let mut network = Network::settled(1, 1);
    let row = |host: Host, version| HostEntry { host, state: HostState::Up, version };
    let bad = [
        row(Host { address: "a".repeat(257), ..host(5) }, 1),
        row(Host { incarnation: Incarnation(u64::MAX), ..host(5) }, 1),
        row(host(5), u64::MAX),
    ];
    for entry in bad {
        let rows = RingMessage::GossipRows { ring: RingId(Hash::of(b"ring")), entries: vec![entry], wanted: vec![] };
        network.call(0, |ring, now, out| ring.handle_message(now, node(9), rows, out));
    }
    assert_eq!(network.rings[&node(0)].hosts().count(), 1);
}

#[test]
fn two_rings_refuse_each_other() {
    let mut network = Network::settled(1, 2);
    let mut settings = network.config().settings;
    settings.id = RingId(Hash::of(b"another"));
    let config = RingConfig::new(settings, SECOND, SECOND);
    let stranger = Ring::join(config, host(7), vec![host(0)], network.now, 1);
    network.rings.insert(node(7), stranger);
    network.run_for(SECOND);
    let reason = RefuseReason::OtherRing { ring: RingId(Hash::of(b"ring")) };
    assert!(network.outputs[&node(7)].contains(&RingOutput::Refused { by: node(0), reason }));
    assert_eq!(network.state(0, 7), None);
}
