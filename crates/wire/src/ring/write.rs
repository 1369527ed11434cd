use difuse_ring::{HostEntry, JoinOutcome, LookupOutcome, RefuseReason, RingMessage, VirtualNodeId};
use difuse_types::{Host, RingId, RingPosition};

use super::parts::{virtual_node_out, write_entry, write_successors};
use crate::{
    builder::{Builder, Offset, UnionOffset, write_tables},
    generated::difuse::ring as fb,
    types::{hash_out, write_host},
};

/// Writes a message.
pub(crate) fn write(builder: &mut Builder, message: &RingMessage) -> Offset<fb::RingMessage<'static>> {
    let (body_type, body) = write_body(builder, message);
    fb::RingMessage::create(builder, &fb::RingMessageArgs { body_type, body: Some(body) })
}

fn write_body(builder: &mut Builder, message: &RingMessage) -> (fb::RingBody, UnionOffset) {
    use fb::RingBody as Body;
    match message {
        RingMessage::Ping { sent_ns } => {
            (Body::Ping, fb::Ping::create(builder, &fb::PingArgs { sent_ns: *sent_ns }).as_union_value())
        }
        RingMessage::Pong { sent_ns, member } => {
            let table = fb::Pong::create(builder, &fb::PongArgs { sent_ns: *sent_ns, member: *member });
            (Body::Pong, table.as_union_value())
        }
        RingMessage::GossipDigest { ring, buckets } => (Body::GossipDigest, gossip_digest(builder, ring, buckets)),
        RingMessage::GossipRows { ring, entries, wanted } => {
            (Body::GossipRows, gossip_rows(builder, ring, entries, wanted))
        }
        RingMessage::JoinRequest { ring, operation, joiner } => {
            (Body::JoinRequest, join_request(builder, ring, *operation, joiner))
        }
        RingMessage::JoinReply { operation, joiner, outcome } => {
            (Body::JoinReply, join_reply(builder, *operation, joiner, outcome))
        }
        RingMessage::StabilizeQuery { operation, from, to } => {
            (Body::StabilizeQuery, stabilize_query(builder, *operation, from, to))
        }
        RingMessage::StabilizeReply { operation, from, to, member, predecessor, successors } => {
            let pointers = (predecessor.as_ref(), &successors[..]);
            (Body::StabilizeReply, stabilize_reply(builder, *operation, from, to, *member, pointers))
        }
        RingMessage::Notify { from, to } => (Body::Notify, notify(builder, from, to)),
        RingMessage::LookupRequest { lookup, position } => {
            (Body::LookupRequest, lookup_request(builder, *lookup, position))
        }
        RingMessage::LookupReply { lookup, outcome, host } => {
            (Body::LookupReply, lookup_reply(builder, *lookup, outcome, host.as_ref()))
        }
        RingMessage::Refuse { reason } => (Body::Refuse, refuse(builder, reason)),
    }
}

fn gossip_digest(builder: &mut Builder, ring: &RingId, buckets: &[u64]) -> UnionOffset {
    let buckets = Some(builder.create_vector(buckets));
    fb::GossipDigest::create(builder, &fb::GossipDigestArgs { ring: Some(&hash_out(&ring.0)), buckets })
        .as_union_value()
}

fn gossip_rows(builder: &mut Builder, ring: &RingId, entries: &[HostEntry], wanted: &[u16]) -> UnionOffset {
    let entries = Some(write_tables(builder, entries, write_entry));
    let wanted = (!wanted.is_empty()).then(|| builder.create_vector(wanted));
    fb::GossipRows::create(builder, &fb::GossipRowsArgs { ring: Some(&hash_out(&ring.0)), entries, wanted })
        .as_union_value()
}

fn join_request(builder: &mut Builder, ring: &RingId, operation: u64, joiner: &VirtualNodeId) -> UnionOffset {
    let (ring, joiner) = (hash_out(&ring.0), virtual_node_out(joiner));
    fb::JoinRequest::create(builder, &fb::JoinRequestArgs { ring: Some(&ring), operation, joiner: Some(&joiner) })
        .as_union_value()
}

fn join_reply(builder: &mut Builder, operation: u64, joiner: &VirtualNodeId, outcome: &JoinOutcome) -> UnionOffset {
    let (outcome_type, outcome) = join_outcome(builder, outcome);
    let joiner = virtual_node_out(joiner);
    fb::JoinReply::create(
        builder,
        &fb::JoinReplyArgs { operation, joiner: Some(&joiner), outcome_type, outcome: Some(outcome) },
    )
    .as_union_value()
}

fn join_outcome(builder: &mut Builder, outcome: &JoinOutcome) -> (fb::JoinOutcome, UnionOffset) {
    match outcome {
        JoinOutcome::Place { predecessor, successors } => {
            let successors = Some(write_successors(builder, successors));
            let args = fb::JoinPlaceArgs { predecessor: Some(&virtual_node_out(predecessor)), successors };
            (fb::JoinOutcome::JoinPlace, fb::JoinPlace::create(builder, &args).as_union_value())
        }
        JoinOutcome::Redirect { next, host } => {
            let host = Some(write_host(builder, host));
            let args = fb::JoinRedirectArgs { next: Some(&virtual_node_out(next)), host };
            (fb::JoinOutcome::JoinRedirect, fb::JoinRedirect::create(builder, &args).as_union_value())
        }
        JoinOutcome::Busy => {
            (fb::JoinOutcome::JoinBusy, fb::JoinBusy::create(builder, &fb::JoinBusyArgs {}).as_union_value())
        }
        JoinOutcome::NotMember => {
            let table = fb::JoinNotMember::create(builder, &fb::JoinNotMemberArgs {});
            (fb::JoinOutcome::JoinNotMember, table.as_union_value())
        }
    }
}

fn stabilize_query(builder: &mut Builder, operation: u64, from: &VirtualNodeId, to: &VirtualNodeId) -> UnionOffset {
    let (from, to) = (virtual_node_out(from), virtual_node_out(to));
    fb::StabilizeQuery::create(builder, &fb::StabilizeQueryArgs { operation, from: Some(&from), to: Some(&to) })
        .as_union_value()
}

fn stabilize_reply(
    builder: &mut Builder,
    operation: u64,
    from: &VirtualNodeId,
    to: &VirtualNodeId,
    member: bool,
    (predecessor, successors): (Option<&VirtualNodeId>, &[VirtualNodeId]),
) -> UnionOffset {
    let successors = (!successors.is_empty()).then(|| write_successors(builder, successors));
    let predecessor = predecessor.map(virtual_node_out);
    fb::StabilizeReply::create(
        builder,
        &fb::StabilizeReplyArgs {
            operation,
            from: Some(&virtual_node_out(from)),
            to: Some(&virtual_node_out(to)),
            member,
            predecessor: predecessor.as_ref(),
            successors,
        },
    )
    .as_union_value()
}

fn notify(builder: &mut Builder, from: &VirtualNodeId, to: &VirtualNodeId) -> UnionOffset {
    let (from, to) = (virtual_node_out(from), virtual_node_out(to));
    fb::Notify::create(builder, &fb::NotifyArgs { from: Some(&from), to: Some(&to) }).as_union_value()
}

fn lookup_request(builder: &mut Builder, lookup: u64, position: &RingPosition) -> UnionOffset {
    let position = fb::RingPosition(position.0);
    fb::LookupRequest::create(builder, &fb::LookupRequestArgs { lookup, position: Some(&position) }).as_union_value()
}

fn lookup_reply(builder: &mut Builder, lookup: u64, outcome: &LookupOutcome, host: Option<&Host>) -> UnionOffset {
    let host = host.map(|host| write_host(builder, host));
    let (kind, node) = match outcome {
        LookupOutcome::Found { owner } => (fb::LookupKind::Found, Some(virtual_node_out(owner))),
        LookupOutcome::Next { next } => (fb::LookupKind::Next, Some(virtual_node_out(next))),
        LookupOutcome::NotMember => (fb::LookupKind::NotMember, None),
    };
    fb::LookupReply::create(builder, &fb::LookupReplyArgs { lookup, kind, node: node.as_ref(), host }).as_union_value()
}

fn refuse(builder: &mut Builder, reason: &RefuseReason) -> UnionOffset {
    let (kind, ring) = match reason {
        RefuseReason::OtherRing { ring } => (fb::RefuseKind::OtherRing, Some(hash_out(&ring.0))),
        RefuseReason::TableFull => (fb::RefuseKind::TableFull, None),
    };
    fb::Refuse::create(builder, &fb::RefuseArgs { kind, ring: ring.as_ref() }).as_union_value()
}
