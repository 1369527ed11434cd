use difuse_ring::{
    DIGEST_BUCKETS, HostEntry, HostState, JoinOutcome, LookupOutcome, RefuseReason, RingMessage, VirtualNodeId,
};
use difuse_types::RingPosition;

use super::parts::{host, node, ring_id};

pub(super) const STATES: [HostState; 6] =
    [HostState::Joining, HostState::Up, HostState::Suspect, HostState::Leaving, HostState::Gone, HostState::Left];

pub(super) fn samples() -> Vec<RingMessage> {
    let mut messages = gossip();
    messages.extend(joins());
    messages.extend(pointers());
    messages.extend(lookups());
    messages
}

fn virtual_node(name: u8) -> VirtualNodeId {
    VirtualNodeId { node: node(name), index: u16::from(name) }
}

fn gossip() -> Vec<RingMessage> {
    let entries = STATES.into_iter().zip(1..).map(|(state, name)| HostEntry {
        host: host(name),
        state,
        version: u64::from(name),
    });
    vec![
        RingMessage::Ping { sent_ns: 5 },
        RingMessage::Pong { sent_ns: 5, member: true },
        RingMessage::GossipDigest { ring: ring_id(), buckets: (0..DIGEST_BUCKETS as u64).collect() },
        RingMessage::GossipRows { ring: ring_id(), entries: entries.collect(), wanted: vec![0, 255] },
        RingMessage::GossipRows { ring: ring_id(), entries: vec![], wanted: vec![] },
        RingMessage::Refuse { reason: RefuseReason::OtherRing { ring: ring_id() } },
        RingMessage::Refuse { reason: RefuseReason::TableFull },
    ]
}

fn joins() -> Vec<RingMessage> {
    let reply = |outcome| RingMessage::JoinReply { operation: 6, joiner: virtual_node(1), outcome };
    let successors = vec![virtual_node(3), virtual_node(255)];
    vec![
        RingMessage::JoinRequest { ring: ring_id(), operation: 6, joiner: virtual_node(1) },
        reply(JoinOutcome::Place { predecessor: virtual_node(2), successors }),
        reply(JoinOutcome::Redirect { next: virtual_node(2), host: host(2) }),
        reply(JoinOutcome::Busy),
        reply(JoinOutcome::NotMember),
    ]
}

fn pointers() -> Vec<RingMessage> {
    let reply = |member, predecessor, successors| RingMessage::StabilizeReply {
        operation: 7,
        from: virtual_node(1),
        to: virtual_node(2),
        member,
        predecessor,
        successors,
    };
    vec![
        RingMessage::StabilizeQuery { operation: 7, from: virtual_node(1), to: virtual_node(2) },
        reply(true, Some(virtual_node(4)), vec![virtual_node(5)]),
        reply(false, None, vec![]),
        RingMessage::Notify { from: virtual_node(1), to: virtual_node(2) },
    ]
}

fn lookups() -> Vec<RingMessage> {
    let reply = |outcome, host| RingMessage::LookupReply { lookup: 8, outcome, host };
    vec![
        RingMessage::LookupRequest { lookup: 8, position: RingPosition([200; 32]) },
        reply(LookupOutcome::Found { owner: virtual_node(1) }, Some(host(1))),
        reply(LookupOutcome::Next { next: virtual_node(2) }, None),
        reply(LookupOutcome::NotMember, None),
    ]
}
