use std::collections::{BTreeMap, VecDeque};

use difuse_types::{Instant, NodeId};

use crate::{RingMessage, VirtualNodeId, circle::VirtualNode};

/// One virtual node that this node runs: Zave's member state, and the one operation it may be in.
#[derive(Debug)]
pub(crate) struct LocalVirtualNode {
    pub(crate) place: VirtualNode,
    /// Whether it joined: only then does it answer queries as a member.
    pub(crate) member: bool,
    pub(crate) predecessor: Option<VirtualNode>,
    /// Clockwise; not empty while a member.
    pub(crate) successors: Vec<VirtualNode>,
    /// The first virtual node at or after position + 2^exponent, as lookups found it.
    pub(crate) fingers: BTreeMap<u8, VirtualNode>,
    /// The exponent whose finger is refreshed next.
    pub(crate) next_finger: u8,
    /// Whether its pointers changed in the operation in progress.
    pub(crate) changed: bool,
    pub(crate) operation: Option<Operation>,
    /// A notification that came during an operation.
    pub(crate) pending_notify: Option<VirtualNode>,
    /// When to begin the next operation: a stabilization, or a join while no member.
    pub(crate) due: Instant,
    /// How often joining failed: each attempt asks a virtual node farther back.
    pub(crate) join_attempts: usize,
}

/// An operation in progress: one question is out.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) id: u64,
    /// The node whose answer is awaited.
    pub(crate) asked: NodeId,
    /// When to ask again, or to give up.
    pub(crate) deadline: Instant,
    /// What was asked: asked again when no answer comes.
    pub(crate) question: RingMessage,
    /// How often it was asked.
    pub(crate) tries: u32,
    pub(crate) kind: OperationKind,
}

/// Which operation, and what it has yet to do.
#[derive(Debug)]
pub(crate) enum OperationKind {
    /// Looking for the place before ours.
    FindPlace { redirects: u32 },
    /// StabilizeFromSuccessor, and the second step of Join: asking candidates until one is alive.
    FromSuccessor { asked: VirtualNode, others: VecDeque<VirtualNode>, joining: Option<VirtualNode> },
    /// StabilizeFromPredecessor: asking the successor's predecessor, which lies nearer.
    FromPredecessor { asked: VirtualNode, steps: u32 },
    /// Rectify: asking the old predecessor whether it lives, for else `candidate` takes its place.
    Rectify { candidate: VirtualNode },
}

impl LocalVirtualNode {
    pub(crate) fn new(node: NodeId, index: u16, due: Instant) -> Self {
        Self {
            place: VirtualNode::new(VirtualNodeId { node, index }),
            member: false,
            predecessor: None,
            successors: Vec::new(),
            fingers: BTreeMap::new(),
            next_finger: u8::MAX,
            changed: false,
            operation: None,
            pending_notify: None,
            due,
            join_attempts: 0,
        }
    }

    /// The first successor; the virtual node itself when it has none.
    pub(crate) fn head(&self) -> VirtualNode {
        self.successors.first().copied().unwrap_or(self.place)
    }

    /// Those next to it on the ring.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = &VirtualNode> {
        self.successors.iter().chain(self.predecessor.iter())
    }

    /// All it knows on the ring.
    pub(crate) fn pointers(&self) -> impl Iterator<Item = &VirtualNode> {
        self.neighbours().chain(self.fingers.values())
    }

    /// When it next needs attention.
    pub(crate) fn wakeup(&self) -> Instant {
        self.operation.as_ref().map_or(self.due, |operation| operation.deadline)
    }

    /// Ceases to be a member: a host that left answers queries no more.
    pub(crate) fn withdraw(&mut self) {
        self.member = false;
        self.operation = None;
        self.pending_notify = None;
        self.successors.clear();
        self.fingers.clear();
        self.predecessor = None;
    }
}
