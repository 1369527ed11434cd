use difuse_types::NodeId;

/// A leader's claim to one slot: a majority of the slot's configuration has promised, durably and slot-wide, never to
/// accept below it. Ordered by epoch, then number, then node, so that any term of a later configuration is higher.
/// (The ballot of a CASPaxos distinguished proposer, arXiv 1802.07000 section 2.2, shared by all registers of a slot.)
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Term {
    /// The configuration's epoch.
    pub epoch: u64,
    /// Counts campaigns within the epoch.
    pub number: u64,
    /// Who claims it; makes terms of different candidates distinct.
    pub node: NodeId,
}

impl Term {
    /// Below every term of `epoch`: what a replica has promised when it enters the epoch.
    pub fn start_of(epoch: u64) -> Self {
        Self { epoch, number: 0, node: NodeId([0; 32]) }
    }
}

/// Names one proposal for one register. The sequence counts the proposals of a term, so that **no ballot ever carries
/// two values**: a leader never proposes twice with one sequence, and never reuses a term after a restart, because its
/// own promise is durable and the next term is higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ballot {
    /// The leader's term.
    pub term: Term,
    /// Counts the leader's proposals within the term.
    pub sequence: u64,
}
