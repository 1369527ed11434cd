//! What nodes say to each other about the ring. Plain data: the `wire` crate gives it bytes.

use difuse_types::{Host, NodeId, RingId, RingPosition};

/// Most host entries in one message; more are sent as several pages.
pub const ENTRIES_PER_PAGE_MAX: usize = 256;
/// Most virtual nodes in a successor list, whatever the settings.
pub const SUCCESSORS_MAX: usize = 128;
/// Into how many buckets a digest divides the host table (by the first byte of the node's identity).
pub const DIGEST_BUCKETS: usize = 256;

/// Names a virtual node; its position on the ring follows from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct VirtualNodeId {
    /// The node that runs it.
    pub node: NodeId,
    /// Which of that node's virtual nodes it is: 0 up to the ring's `virtual_nodes`, exclusive.
    pub index: u16,
}

/// What a host is up to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum HostState {
    /// Its virtual nodes are still becoming members; it takes no part in placement.
    Joining,
    /// It serves and takes part in placement.
    Up,
    /// It is up by its own word, but does not answer *us*. A local opinion: never gossiped, still in placement.
    Suspect,
    /// It hands over what it holds and still serves, but is out of placement.
    Leaving,
    /// Others gave it up: out of placement. A higher incarnation brings it back.
    Gone,
    /// It left for good, by its own word.
    Left,
}

/// One row of the host table. Of two rows about one node the greater in [`HostEntry::precedence`] wins everywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostEntry {
    /// Who it is and where.
    pub host: Host,
    /// What it is up to.
    pub state: HostState,
    /// Counted up by the host itself at every change of its row within one incarnation.
    pub version: u64,
}

/// A message of the ring protocol.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RingMessage {
    /// Are you there?
    Ping {
        /// The sender's clock in nanoseconds; to be sent back.
        sent_ns: u64,
    },
    /// I am.
    Pong {
        /// From the ping.
        sent_ns: u64,
        /// Whether the answering node's virtual nodes are members of the ring.
        member: bool,
    },
    /// Anti-entropy, first step: a hash of every bucket of my table.
    GossipDigest {
        /// The sender's ring; a node of another ring refuses.
        ring: RingId,
        /// [`DIGEST_BUCKETS`] hashes.
        buckets: Vec<u64>,
    },
    /// News, or the rows of buckets that differ.
    GossipRows {
        /// The sender's ring.
        ring: RingId,
        /// At most [`ENTRIES_PER_PAGE_MAX`] rows.
        entries: Vec<HostEntry>,
        /// Buckets of the receiver's table that the sender asks for in return; at most [`DIGEST_BUCKETS`].
        wanted: Vec<u16>,
    },
    /// Zave's Join, first step: whose place is before mine?
    JoinRequest {
        /// The sender's ring.
        ring: RingId,
        /// Echoed in the reply.
        operation: u64,
        /// The virtual node that wants to join.
        joiner: VirtualNodeId,
    },
    /// The answer to [`RingMessage::JoinRequest`].
    JoinReply {
        /// From the request.
        operation: u64,
        /// From the request.
        joiner: VirtualNodeId,
        /// What came of it.
        outcome: JoinOutcome,
    },
    /// Asks a virtual node for its pointers: StabilizeFromSuccessor, StabilizeFromPredecessor, the liveness question
    /// of Rectify, and the second step of Join.
    StabilizeQuery {
        /// Echoed in the reply.
        operation: u64,
        /// The virtual node that asks.
        from: VirtualNodeId,
        /// The virtual node that is asked.
        to: VirtualNodeId,
    },
    /// The answer to [`RingMessage::StabilizeQuery`].
    StabilizeReply {
        /// From the query.
        operation: u64,
        /// The virtual node that answers.
        from: VirtualNodeId,
        /// The virtual node that asked.
        to: VirtualNodeId,
        /// Whether the answering virtual node is a member; the other fields are empty when not.
        member: bool,
        /// Its predecessor, if it knows one.
        predecessor: Option<VirtualNodeId>,
        /// Its successor list, clockwise; at most [`SUCCESSORS_MAX`].
        successors: Vec<VirtualNodeId>,
    },
    /// You are my first successor (leads to Rectify); no answer.
    Notify {
        /// The virtual node that stabilized.
        from: VirtualNodeId,
        /// Its first successor.
        to: VirtualNodeId,
    },
    /// Whose is this position, by your fingers?
    LookupRequest {
        /// Echoed in the reply.
        lookup: u64,
        /// The position looked for.
        position: RingPosition,
    },
    /// The answer to [`RingMessage::LookupRequest`].
    LookupReply {
        /// From the request.
        lookup: u64,
        /// What came of it.
        outcome: LookupOutcome,
        /// Where the node of the virtual node found is reached, if the sender knows: the receiver may not.
        host: Option<Host>,
    },
    /// The receiver of something will have nothing to do with its sender.
    Refuse {
        /// Why.
        reason: RefuseReason,
    },
}

/// What came of a [`RingMessage::JoinRequest`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinOutcome {
    /// The place is between `predecessor` and the first of `successors`.
    Place {
        /// The member that answers: the joiner's predecessor.
        predecessor: VirtualNodeId,
        /// Its whole successor list; at most [`SUCCESSORS_MAX`].
        successors: Vec<VirtualNodeId>,
    },
    /// Ask the node of this virtual node, which lies nearer before the place.
    Redirect {
        /// The nearer virtual node.
        next: VirtualNodeId,
        /// Where its node is reached.
        host: Host,
    },
    /// The member before the place is in the midst of an operation of its own; ask again soon.
    Busy,
    /// The node asked is no member itself.
    NotMember,
}

/// What came of a [`RingMessage::LookupRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LookupOutcome {
    /// The first virtual node at or after the position.
    Found {
        /// That virtual node.
        owner: VirtualNodeId,
    },
    /// A virtual node nearer before the position: ask its node.
    Next {
        /// That virtual node.
        next: VirtualNodeId,
    },
    /// The node asked is no member.
    NotMember,
}

/// Why a node will have nothing to do with another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RefuseReason {
    /// They belong to different rings.
    #[error("that node belongs to another ring, {ring}")]
    OtherRing {
        /// The ring of the node that refuses.
        ring: RingId,
    },
    /// The host table is full.
    #[error("the ring's host table is full")]
    TableFull,
}
