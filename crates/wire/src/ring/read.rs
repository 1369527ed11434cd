use difuse_ring::{DIGEST_BUCKETS, ENTRIES_PER_PAGE_MAX, JoinOutcome, LookupOutcome, RefuseReason, RingMessage};
use difuse_types::{RingId, RingPosition};
use flatbuffers::Vector;

use super::parts::{read_entry, read_successors, virtual_node_in};
use crate::{
    error::{WireError, check, present},
    frame::list,
    generated::difuse::{ring as fb, types},
    types::{hash_in, read_host},
};

/// Reads a message.
pub(crate) fn read(message: fb::RingMessage<'_>) -> Result<RingMessage, WireError> {
    use fb::RingBody as Body;
    const WHAT: &str = "a ring message without its body";
    match message.body_type() {
        Body::Ping => Ok(RingMessage::Ping { sent_ns: present(message.body_as_ping(), WHAT)?.sent_ns() }),
        Body::Pong => {
            let pong = present(message.body_as_pong(), WHAT)?;
            Ok(RingMessage::Pong { sent_ns: pong.sent_ns(), member: pong.member() })
        }
        Body::GossipDigest => gossip_digest(present(message.body_as_gossip_digest(), WHAT)?),
        Body::GossipRows => gossip_rows(present(message.body_as_gossip_rows(), WHAT)?),
        Body::JoinRequest => join_request(present(message.body_as_join_request(), WHAT)?),
        Body::JoinReply => join_reply(present(message.body_as_join_reply(), WHAT)?),
        Body::StabilizeQuery => stabilize_query(present(message.body_as_stabilize_query(), WHAT)?),
        Body::StabilizeReply => stabilize_reply(present(message.body_as_stabilize_reply(), WHAT)?),
        Body::Notify => notify(present(message.body_as_notify(), WHAT)?),
        Body::LookupRequest => lookup_request(present(message.body_as_lookup_request(), WHAT)?),
        Body::LookupReply => lookup_reply(present(message.body_as_lookup_reply(), WHAT)?),
        Body::Refuse => refuse(present(message.body_as_refuse(), WHAT)?),
        _ => Err(WireError::malformed("an unknown ring message")),
    }
}

fn ring_in(ring: &types::Hash) -> RingId {
    RingId(hash_in(ring))
}

fn gossip_digest(table: fb::GossipDigest<'_>) -> Result<RingMessage, WireError> {
    check(table.buckets().len() == DIGEST_BUCKETS, "buckets")?;
    Ok(RingMessage::GossipDigest { ring: ring_in(table.ring()), buckets: table.buckets().iter().collect() })
}

fn gossip_rows(table: fb::GossipRows<'_>) -> Result<RingMessage, WireError> {
    Ok(RingMessage::GossipRows {
        ring: ring_in(table.ring()),
        entries: list(table.entries(), ENTRIES_PER_PAGE_MAX, "entries", read_entry)?,
        wanted: table.wanted().map_or(Ok(Vec::new()), wanted_in)?,
    })
}

fn wanted_in(wanted: Vector<'_, u16>) -> Result<Vec<u16>, WireError> {
    list(wanted, DIGEST_BUCKETS, "wanted", |bucket| {
        check(usize::from(bucket) < DIGEST_BUCKETS, "wanted")?;
        Ok(bucket)
    })
}

fn join_request(table: fb::JoinRequest<'_>) -> Result<RingMessage, WireError> {
    Ok(RingMessage::JoinRequest {
        ring: ring_in(table.ring()),
        operation: table.operation(),
        joiner: virtual_node_in(table.joiner())?,
    })
}

fn join_reply(table: fb::JoinReply<'_>) -> Result<RingMessage, WireError> {
    Ok(RingMessage::JoinReply {
        operation: table.operation(),
        joiner: virtual_node_in(table.joiner())?,
        outcome: join_outcome(table)?,
    })
}

fn join_outcome(table: fb::JoinReply<'_>) -> Result<JoinOutcome, WireError> {
    const WHAT: &str = "the answer to a join without its outcome";
    match table.outcome_type() {
        fb::JoinOutcome::JoinPlace => {
            let place = present(table.outcome_as_join_place(), WHAT)?;
            Ok(JoinOutcome::Place {
                predecessor: virtual_node_in(place.predecessor())?,
                successors: read_successors(Some(place.successors()))?,
            })
        }
        fb::JoinOutcome::JoinRedirect => {
            let redirect = present(table.outcome_as_join_redirect(), WHAT)?;
            Ok(JoinOutcome::Redirect { next: virtual_node_in(redirect.next())?, host: read_host(redirect.host())? })
        }
        fb::JoinOutcome::JoinBusy => Ok(JoinOutcome::Busy),
        fb::JoinOutcome::JoinNotMember => Ok(JoinOutcome::NotMember),
        _ => Err(WireError::malformed("an unknown outcome of a join")),
    }
}

fn stabilize_query(table: fb::StabilizeQuery<'_>) -> Result<RingMessage, WireError> {
    Ok(RingMessage::StabilizeQuery {
        operation: table.operation(),
        from: virtual_node_in(table.from())?,
        to: virtual_node_in(table.to())?,
    })
}

fn stabilize_reply(table: fb::StabilizeReply<'_>) -> Result<RingMessage, WireError> {
    Ok(RingMessage::StabilizeReply {
        operation: table.operation(),
        from: virtual_node_in(table.from())?,
        to: virtual_node_in(table.to())?,
        member: table.member(),
        predecessor: table.predecessor().map(virtual_node_in).transpose()?,
        successors: read_successors(table.successors())?,
    })
}

fn notify(table: fb::Notify<'_>) -> Result<RingMessage, WireError> {
    Ok(RingMessage::Notify { from: virtual_node_in(table.from())?, to: virtual_node_in(table.to())? })
}

fn lookup_request(table: fb::LookupRequest<'_>) -> Result<RingMessage, WireError> {
    Ok(RingMessage::LookupRequest { lookup: table.lookup(), position: RingPosition(table.position().0) })
}

fn lookup_reply(table: fb::LookupReply<'_>) -> Result<RingMessage, WireError> {
    let outcome = match (table.kind(), table.node()) {
        (fb::LookupKind::Found, Some(owner)) => LookupOutcome::Found { owner: virtual_node_in(owner)? },
        (fb::LookupKind::Next, Some(next)) => LookupOutcome::Next { next: virtual_node_in(next)? },
        (fb::LookupKind::NotMember, None) => LookupOutcome::NotMember,
        _ => return Err(WireError::OutOfBounds { field: "kind" }),
    };
    Ok(RingMessage::LookupReply { lookup: table.lookup(), outcome, host: table.host().map(read_host).transpose()? })
}

fn refuse(table: fb::Refuse<'_>) -> Result<RingMessage, WireError> {
    let reason = match (table.kind(), table.ring()) {
        (fb::RefuseKind::OtherRing, Some(ring)) => RefuseReason::OtherRing { ring: ring_in(ring) },
        (fb::RefuseKind::TableFull, None) => RefuseReason::TableFull,
        _ => return Err(WireError::OutOfBounds { field: "kind" }),
    };
    Ok(RingMessage::Refuse { reason })
}
