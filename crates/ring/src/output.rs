use difuse_types::NodeId;

use crate::{HostEntry, RefuseReason, RingMessage, VirtualNodeId};

/// Names a lookup that [`Ring::lookup`](crate::Ring::lookup) started, until its [`RingOutput::LookupDone`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LookupId(pub u64);

/// What the ring wants done, or known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RingOutput {
    /// Send a message, best effort: the ring repeats what matters. Never to ourselves.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: RingMessage,
    },
    /// A row of the host table changed, perhaps our own: remember it over a restart.
    HostChanged {
        /// The row as it is now.
        entry: HostEntry,
    },
    /// All our virtual nodes are members, and we are announced as up.
    Joined,
    /// The hosts that take part in placement changed: ask [`Ring::successors`](crate::Ring::successors) again.
    PlacementChanged,
    /// We began or ceased to suspect a host.
    SuspicionChanged {
        /// The host.
        node: NodeId,
        /// Whether we suspect it now.
        suspect: bool,
    },
    /// Where a node is reached (`host:port` or a multiaddr), new or changed.
    AddressKnown {
        /// The node.
        node: NodeId,
        /// Its address.
        address: String,
    },
    /// The node left for good or was dropped from the table: connections to it are of no use any more.
    Forget {
        /// The node.
        node: NodeId,
    },
    /// Another node will have nothing to do with us.
    Refused {
        /// That node.
        by: NodeId,
        /// Its reason.
        reason: RefuseReason,
    },
    /// A lookup by fingers ended.
    LookupDone {
        /// Which one.
        lookup: LookupId,
        /// The first virtual node at or after the position; `None` when nobody answered.
        owner: Option<VirtualNodeId>,
        /// How many other nodes were asked.
        hops: u32,
    },
}
