use bytes::Bytes;
use difuse_types::NodeId;

use crate::RingTag;

/// Kind of traffic; each has queues and a connection of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Class {
    /// Heads, ring, requests: small and urgent.
    Control,
    /// Blocks: large, never in the way of [`Class::Control`].
    Bulk,
}

/// What a remote is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// A node: it listens and may be a member of the ring.
    Peer,
    /// A client: it only dials.
    Client,
}

/// What the transport reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A link to `node` is up, and there was none before.
    Connected {
        /// Who it is, proven by its key.
        node: NodeId,
        /// What it is, in its own words.
        role: Role,
        /// The ring that it belongs to, if it does yet; not different from ours.
        ring: RingTag,
        /// `ip:port` of the other end of the connection. Of a node that dialled us this is *not* where it listens.
        address: String,
    },
    /// The last link to `node` has ended.
    Disconnected {
        /// Who is gone.
        node: NodeId,
    },
    /// A frame arrived.
    Frame {
        /// Who sent it.
        from: NodeId,
        /// What the sender is.
        role: Role,
        /// How it was sent.
        class: Class,
        /// The bytes that were sent. They share a larger buffer with their neighbours: copy what is kept for long.
        frame: Bytes,
    },
}
