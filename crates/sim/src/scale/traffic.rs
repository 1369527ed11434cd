//! How many messages were sent, and how long they are on the wire.

use std::collections::BTreeMap;

use difuse_protocol::message::Message;
use difuse_ring::RingMessage;

/// Of every kind of message but rows, which differ much, the first ones are measured, then one in so many.
const MEASURED_FIRST: u64 = 64;
const MEASURED_ONE_IN: u64 = 64;
/// What stands before each frame on a stream.
const FRAME_HEADER_BYTES: usize = 4;

/// Messages of the ring, by kind: all are counted, a sample is encoded to learn their length.
#[derive(Debug, Default, Clone)]
pub(super) struct Traffic {
    kinds: BTreeMap<&'static str, Kind>,
}

#[derive(Debug, Default, Clone)]
struct Kind {
    sent: u64,
    measured: u64,
    bytes: u64,
}

impl Traffic {
    pub(super) fn note(&mut self, message: &RingMessage) {
        let kind = self.kinds.entry(kind_of(message)).or_default();
        kind.sent += 1;
        let is_measured = matches!(message, RingMessage::GossipRows { .. })
            || kind.sent <= MEASURED_FIRST
            || kind.sent.is_multiple_of(MEASURED_ONE_IN);
        if is_measured {
            kind.measured += 1;
            let frame = difuse_wire::encode(&[Message::Ring(message.clone())]);
            kind.bytes += (frame.len() + FRAME_HEADER_BYTES) as u64;
        }
    }

    pub(super) fn messages(&self) -> u64 {
        self.kinds.values().map(|kind| kind.sent).sum()
    }

    /// As many as the measured ones make probable.
    pub(super) fn bytes(&self) -> f64 {
        self.kinds.values().map(|kind| kind.sent as f64 * kind.bytes as f64 / kind.measured.max(1) as f64).sum()
    }

    /// Kind, share of the messages, share of the bytes.
    pub(super) fn shares(&self) -> Vec<(&'static str, f64, f64)> {
        let (messages, bytes) = (self.messages().max(1) as f64, self.bytes().max(1.0));
        let share = |(name, kind): (&&'static str, &Kind)| {
            let length = kind.bytes as f64 / kind.measured.max(1) as f64;
            (*name, kind.sent as f64 / messages, kind.sent as f64 * length / bytes)
        };
        self.kinds.iter().map(share).collect()
    }
}

fn kind_of(message: &RingMessage) -> &'static str {
    match message {
        RingMessage::Ping { .. } | RingMessage::Pong { .. } => "pings",
        RingMessage::GossipDigest { .. } => "gossip digests",
        RingMessage::GossipRows { .. } => "gossip rows",
        RingMessage::JoinRequest { .. } | RingMessage::JoinReply { .. } => "joins",
        RingMessage::StabilizeQuery { .. } | RingMessage::StabilizeReply { .. } | RingMessage::Notify { .. } => {
            "stabilization"
        }
        RingMessage::LookupRequest { .. } | RingMessage::LookupReply { .. } => "lookups of fingers",
        RingMessage::Refuse { .. } => "refusals",
    }
}
