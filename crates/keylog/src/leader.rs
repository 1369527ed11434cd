//! The leader of a slot: the distinguished proposer of all its registers (arXiv 1802.07000, section 2.2.1).
//!
//! - [`election`] takes a term;
//! - [`jobs`] settles a key and works off what is asked of it;
//! - [`touch`] reads a key from a majority at its first use in a term and adopts what it finds;
//! - [`evaluate`] works out what a command on a structure comes to;
//! - [`retries`] tells appends that were applied before, or may have been, from those that were not;
//! - [`fold`] folds long logs a part at a time;
//! - [`series`] does commands on one key together that are asked for together;
//! - [`steps`] decides what is done for several keys at once;
//! - [`append`] builds transactions and proposes them, in one round trip;
//! - [`checkpoint`] decides where a log may begin anew;
//! - [`read`] confirms leadership once for all reads that wait, then answers from the committed heads;
//! - [`lease`] asks for the promise that nobody else leads for a while, for reads without a round;
//! - [`every`] waits for every member, for what is asked for at level all;
//! - [`generation`] refuses values whose blocks may have been collected, and tells when no earlier one can come;
//! - [`sync`] compares all registers with those of the members and repairs what differs;
//! - [`expiry`] deletes keys whose deadline has passed;
//! - [`tombstones`] gives up the registers of keys that were deleted long ago;
//! - [`change`] moves the slot to other members.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use difuse_types::{BoundedMap, Instant, Key, KeyPrefix, Level, NodeId, OperationId, SlotId};

use crate::{
    Anchor, Answer, Ballot, Condition, Configuration, Invocation, Operation, Proposal, Proposed, RegisterSummary,
    SlotDigest, Step, StepsKnown, Submission, Term, Ticket, Transaction, replica::Staged,
};

pub(crate) mod append;
pub(crate) mod change;
mod checkpoint;
mod election;
mod evaluate;
pub(crate) mod every;
pub(crate) mod expiry;
pub(crate) mod fold;
pub(crate) mod generation;
mod jobs;
mod lease;
mod read;
mod refusals;
mod retries;
mod series;
pub(crate) mod steps;
pub(crate) mod sync;
mod tick;
pub(crate) mod tombstones;
mod touch;
mod unreadable;

/// What members hold of a key.
pub(crate) type Reads = BTreeMap<NodeId, Option<RegisterSummary>>;

/// How many keys a leader remembers as settled at an older ballot than its own.
const TOUCHED_MAX: usize = 16_384;

#[derive(Clone, Debug, Hash)]
pub(crate) enum Phase {
    Follower,
    Candidate(Box<Candidate>),
    Leading(Box<Leadership>),
}

/// A campaign for a term.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Candidate {
    pub(crate) term: Term,
    /// Who has promised, and the digest of what it holds.
    pub(crate) promises: BTreeMap<NodeId, SlotDigest>,
    /// The next configuration accepted at the highest term among those who promised.
    pub(crate) proposed: Option<Proposed>,
    /// The newest that those who promised know of the slot's steps.
    pub(crate) steps: StepsKnown,
    pub(crate) sent_at: Instant,
}

/// A term that a majority has promised.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Leadership {
    pub(crate) term: Term,
    /// The last proposal's number.
    pub(crate) sequence: u64,
    /// This node holds every committed head of the slot, and all heads that it holds are committed, but for the
    /// proposals in `keys`: so what is not here is absent.
    pub(crate) is_synced: bool,
    /// Keys with something under way.
    pub(crate) keys: BTreeMap<Key, KeyState>,
    /// Keys found committed as they are here though at an older ballot, or absent.
    pub(crate) touched: BoundedMap<Key, ()>,
    pub(crate) refusals: refusals::Refusals,
    pub(crate) sync: Option<sync::Sync>,
    /// When the next comparison with the members is due, if any.
    pub(crate) sync_at: Option<Instant>,
    /// When members were last asked for the digest of what they hold.
    pub(crate) digests_asked_at: Instant,
    pub(crate) change: Option<change::Change>,
    /// Newcomers that have all blocks.
    pub(crate) ready: BTreeSet<NodeId>,
    /// Members that held the same as this node when last compared, and have been reachable since.
    pub(crate) in_sync: BTreeSet<NodeId>,
    /// Members that have promised this term, and held the same as this node when they had: nothing that was proposed in
    /// earlier terms, and that this node does not know of, will ever come from them.
    pub(crate) accounted: BTreeSet<NodeId>,
    pub(crate) last_append: Instant,
    /// Range reads that wait until the slot is synced.
    pub(crate) ranges: Vec<(Ticket, RangeRead)>,
    /// Until then nobody else leads: a majority has promised.
    pub(crate) lease_until: Instant,
    pub(crate) lease_asked_at: Option<Instant>,
    /// When a head was last read at level leader.
    pub(crate) lease_read_at: Instant,
    /// The proposals that wait for their majority.
    pub(crate) in_flight: BTreeSet<u64>,
    /// Up to which sequence members were last told that the slot is committed and at rest.
    pub(crate) told: Option<u64>,
    /// Committed appends whose level is all and that some member has not accepted yet.
    pub(crate) awaited: Vec<every::Awaited>,
    pub(crate) tombstones: tombstones::Tombstones,
    /// Whether nothing can be committed any more that was proposed before a generation.
    pub(crate) sealing: Option<generation::Sealing>,
    /// Keys whose appends wait until the slot's generation is known.
    pub(crate) waiting_for_generation: BTreeSet<Key>,
    pub(crate) expiry: expiry::Expiry,
    pub(crate) steps: steps::Steps,
}

/// An append that waits for its turn.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Append {
    pub(crate) ticket: Ticket,
    pub(crate) appending: Appending,
    /// It was not applied before, for certain, or it was and that is remembered: see [`retries`].
    is_judged: bool,
}

#[derive(Default, Clone, Debug, Hash)]
pub(crate) struct KeyState {
    pub(crate) stage: Stage,
    pub(crate) appends: VecDeque<Append>,
    /// What was applied since something waits for the key.
    applied: VecDeque<retries::Applied>,
    pub(crate) reads: Vec<(Ticket, KeyRead)>,
    /// Reads at level all that wait for a comparison.
    pub(crate) comparisons: Vec<Ticket>,
    /// Up to where the chain of the head that is being adopted is committed, if a member handed it on from a checkpoint
    /// on: else that member would not have forgotten what is below. 0 if nothing says so.
    pub(crate) handed_height: u64,
}

impl KeyState {
    /// Whether what is being proposed may have been shown to somebody who has seen the slot up to `seen`.
    pub(crate) fn may_have_been_shown(&self, seen: Option<Ballot>) -> bool {
        matches!(&self.stage, Stage::Proposing(proposing) if Some(proposing.proposal.ballot) <= seen)
    }
}

/// What may add to a key's log, in the order in which it came.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Appending {
    Write(Submission),
    Command {
        invocation: Invocation,
        /// Whether it may change its key: else it is a read that waits for its turn.
        is_write: bool,
    },
    /// Waits for the slot's key of steps.
    Step {
        step: Step,
        /// Without the arguments.
        invocation: Invocation,
        /// Whether any of its commands may change a key.
        is_write: bool,
    },
}

impl Append {
    /// Whether it is to be evaluated on what the key holds.
    fn is_command(&self) -> bool {
        matches!(self.appending, Appending::Command { .. })
    }
}

impl Appending {
    pub(crate) fn level(&self) -> Level {
        match self {
            Self::Write(submission) => submission.level,
            Self::Command { invocation, .. } | Self::Step { invocation, .. } => invocation.level,
        }
    }

    /// What it is called, on which condition it is asked for, and since when it may have been sent.
    fn name(&self) -> (OperationId, Condition, Option<Anchor>) {
        match self {
            Self::Write(submission) => (submission.operation_id, submission.condition, submission.since),
            Self::Command { invocation, .. } | Self::Step { invocation, .. } => {
                (invocation.operation_id, Condition::None, invocation.since)
            }
        }
    }

    /// Whether a refusal of it could be followed by its being applied, if a copy of it came late: what a key holds may be
    /// as it wants by then. A head never comes back.
    fn may_be_refused_wrongly(&self) -> bool {
        match self {
            Self::Write(submission) => matches!(submission.condition, Condition::Absent | Condition::Present),
            Self::Command { is_write, .. } | Self::Step { is_write, .. } => *is_write,
        }
    }

    /// In which generation the blocks that it names were stored, if it names any.
    pub(crate) fn generation(&self) -> Option<u64> {
        match self {
            Self::Write(submission) => submission.generation,
            Self::Command { .. } | Self::Step { .. } => None,
        }
    }

    /// How many transactions it may add.
    pub(crate) fn transactions(&self) -> usize {
        match self {
            Self::Command { invocation, is_write: true } => series::transactions_of(&invocation.arguments),
            Self::Command { .. } | Self::Write(_) | Self::Step { .. } => 1,
        }
    }

    /// About how many bytes it adds.
    pub(crate) fn approximate_bytes(&self) -> usize {
        match self {
            Self::Write(Submission { operation: Operation::Set(value), .. }) => value.bytes.len(),
            Self::Write(_) => 0,
            Self::Command { invocation, .. } => invocation.arguments.iter().map(bytes::Bytes::len).sum(),
            Self::Step { step, .. } => {
                step.commands.iter().flat_map(|command| &command.arguments).map(bytes::Bytes::len).sum()
            }
        }
    }
}

#[derive(Default, Clone, Debug, Hash)]
pub(crate) enum Stage {
    /// Nothing is under way.
    #[default]
    Idle,
    /// Reading the register from a majority.
    Touching {
        reads: Reads,
        /// Members that are known not to be able to read what they hold: a quorum beside them is waited for.
        unreadable: BTreeSet<NodeId>,
        sent_at: Instant,
    },
    /// Fetching the chain of the head to adopt.
    Fetching(Fetching),
    /// A proposal waits for its majority.
    Proposing(Proposing),
    /// The committed head is compared with that of every member; appends wait.
    Comparing(every::Comparing),
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Fetching {
    pub(crate) target: RegisterSummary,
    /// Members that hold the target; the last one was asked.
    pub(crate) holders: Vec<NodeId>,
    /// What is staged of the chain, from where it was fetched on.
    pub(crate) staged: Option<Staged>,
    /// What has come above that.
    pub(crate) collected: Vec<Transaction>,
    /// The member asked has forgotten what comes before: the first that came is a checkpoint.
    pub(crate) begins_at_base: bool,
    pub(crate) from_height: u64,
    pub(crate) sent_at: Instant,
    /// Whether a member holds nothing of the key: then the head may turn out not to be needed.
    pub(crate) is_lacked: bool,
    /// Members that hold the target and cannot read it.
    pub(crate) unreadable: BTreeSet<NodeId>,
}

impl Fetching {
    /// The height that is wanted next.
    pub(crate) fn next_height(&self) -> u64 {
        let staged = self.staged.as_ref().map(|staged| staged.heights().end);
        self.collected.last().map(|last| last.height + 1).or(staged).unwrap_or(self.from_height)
    }

    /// Forgets what has come.
    pub(crate) fn clear(&mut self) {
        (self.staged, self.begins_at_base) = (None, false);
        self.collected.clear();
    }
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct Proposing {
    pub(crate) proposal: Proposal,
    pub(crate) voters: BTreeSet<NodeId>,
    /// The height that is committed for certain meanwhile (0: absent); `None` until the proposal is.
    pub(crate) committed_height: Option<u64>,
    /// What to answer when it has gone as far as each level asks for.
    pub(crate) results: Vec<Decided>,
    pub(crate) sent_at: Instant,
}

impl Proposing {
    /// The proposal as this node takes it itself, or as others are sent it. A long chain was fetched because this node
    /// lacked it, and may be too long for one message, as a state in parts may be; others that lack it will say so.
    pub(crate) fn proposal_to(&self, is_myself: bool) -> Proposal {
        let mut proposal = self.proposal.clone();
        let is_long = |transactions: &[Transaction]| {
            transactions.len() > append::BATCH_MAX
                || transactions.iter().map(Transaction::approximate_bytes).sum::<usize>() > append::PROPOSAL_BYTES_MAX
        };
        if !is_myself && is_long(&proposal.transactions) {
            proposal.transactions.clear();
        }
        proposal
    }
}

/// What an append is to be answered with.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Decided {
    pub(crate) ticket: Ticket,
    pub(crate) level: Level,
    pub(crate) answer: Answer,
}

/// What a read wants of a key's committed log.
#[derive(Debug, Clone, Hash)]
pub(crate) enum KeyRead {
    Head,
    /// The head as this node knows it, without asking anybody, for somebody who has seen the slot up to here.
    OwnHead {
        seen: Option<Ballot>,
    },
    Log {
        from_height: u64,
        limit: u32,
    },
}

#[derive(Debug, Clone, Hash)]
pub(crate) struct RangeRead {
    pub(crate) prefix: KeyPrefix,
    pub(crate) after: Option<Key>,
    pub(crate) limit: usize,
}

/// A read whose answer waits for a majority's word that this node still leads.
#[derive(Clone, Debug, Hash)]
pub(crate) struct WaitingRead {
    pub(crate) ticket: Ticket,
    pub(crate) slot: SlotId,
    pub(crate) wanted: Wanted,
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum Wanted {
    Key(Key, KeyRead),
    Range(RangeRead),
    /// An answer found already, that holds if the leadership does.
    Found(Answer),
    /// To tell that an attempt has lapsed, which a leader that was succeeded cannot know.
    Lapse {
        now: Anchor,
    },
}

/// One round of confirmation for all reads that waited when it began.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Round {
    pub(crate) slots: BTreeMap<SlotId, RoundSlot>,
    /// When it began: a lease counts from here.
    pub(crate) began_at: Instant,
    pub(crate) sent_at: Instant,
    pub(crate) asks: Asks,
}

/// Whom a round asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) enum Asks {
    /// As few members as can confirm what is asked.
    Enough,
    /// Every member: one of the few was late.
    Everybody,
    /// Every member, and for a promise.
    ForLeases,
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct RoundSlot {
    pub(crate) term: Term,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) reads: Vec<WaitingRead>,
}

impl Leadership {
    pub(crate) fn new(term: Term, now: Instant) -> Self {
        Self {
            term,
            sequence: 0,
            is_synced: false,
            keys: BTreeMap::new(),
            touched: BoundedMap::new(TOUCHED_MAX),
            refusals: Default::default(),
            sync: None,
            sync_at: None,
            digests_asked_at: now,
            change: None,
            ready: BTreeSet::new(),
            in_sync: BTreeSet::new(),
            accounted: BTreeSet::new(),
            last_append: now,
            ranges: Vec::new(),
            lease_until: Instant::default(),
            lease_asked_at: None,
            lease_read_at: now,
            in_flight: BTreeSet::new(),
            told: None,
            awaited: Vec::new(),
            tombstones: Default::default(),
            sealing: None,
            waiting_for_generation: BTreeSet::new(),
            expiry: Default::default(),
            steps: Default::default(),
        }
    }

    /// Whether nothing is proposed, fetched or read for any key.
    pub(crate) fn is_quiet(&self) -> bool {
        self.keys.values().all(|key| matches!(key.stage, Stage::Idle)) && self.steps.is_done()
    }

    /// Whether nothing is under way, and no comparison due.
    pub(crate) fn is_idle(&self) -> bool {
        let are_keys_idle = self.keys.is_empty() && self.awaited.is_empty() && self.steps.is_idle();
        are_keys_idle && self.sync.is_none() && self.sync_at.is_none() && self.change.is_none()
    }

    pub(crate) fn next_ballot(&mut self) -> Ballot {
        self.sequence += 1;
        self.in_flight.insert(self.sequence);
        Ballot { term: self.term, sequence: self.sequence }
    }

    /// The last ballot: what is sent now comes after it.
    pub(crate) fn present(&self) -> Ballot {
        Ballot { term: self.term, sequence: self.sequence }
    }

    /// All proposals of the term up to this sequence are committed.
    pub(crate) fn committed_through(&self) -> u64 {
        self.in_flight.first().map_or(self.sequence, |first| first - 1)
    }
}

/// The members that hold exactly `summary` among what they told.
pub(crate) fn holders_of(reads: &Reads, summary: &RegisterSummary) -> BTreeSet<NodeId> {
    reads.iter().filter(|(_, read)| read.as_ref() == Some(summary)).map(|(node, _)| *node).collect()
}

/// Whether the reachable members could decide anything.
pub(crate) fn can_decide(configuration: &Configuration, me: NodeId, suspects: &BTreeSet<NodeId>) -> bool {
    // Seldom is anybody suspect.
    if suspects.is_empty() {
        return true;
    }
    let reachable =
        configuration.all_members().into_iter().filter(|node| *node == me || !suspects.contains(node)).collect();
    configuration.is_quorum(&reachable)
}
