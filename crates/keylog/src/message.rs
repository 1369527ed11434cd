//! What replicas of a slot say to each other. Every message names its slot and, by a configuration or a term, its
//! epoch: a receiver in another epoch answers [`KeylogMessage::Outdated`] or learns the newer configuration first.

use difuse_types::{Hash, Key, SlotId};

use crate::{Ballot, Configuration, Register, SlotDigest, Term, Transaction, store::Proposed};

/// The most registers in one page of a scan.
pub const SCAN_PAGE_MAX: usize = 512;
/// The most transactions in one message; longer chains travel in several.
pub const TRANSACTIONS_MAX: usize = 256;

/// The most keys that are dropped by one message.
pub const DROPS_MAX: usize = 256;

/// A register without its operation ids: enough to compare, to adopt and to ask for the chain behind it.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct RegisterSummary {
    /// The ballot at which it was accepted.
    pub ballot: Ballot,
    /// Height of its head.
    pub height: u64,
    /// Hash of its head.
    pub hash: Hash,
}

/// A key's next head, as a leader proposes it.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Proposal {
    /// The ballot.
    pub ballot: Ballot,
    /// The key.
    pub key: Key,
    /// Height of the proposed head.
    pub height: u64,
    /// Hash of the proposed head.
    pub hash: Hash,
    /// The chain that ends at the head, or nothing if the receiver is believed to hold it.
    pub transactions: Vec<Transaction>,
    /// The chain up to this height is committed, as far as the leader knows; 0: nothing is known to be. What is below a
    /// committed checkpoint may be forgotten.
    pub committed_height: u64,
    /// All proposals of the term up to this sequence are committed.
    pub committed_through: u64,
    /// The term began without steps: what earlier leaders proposed for the slot's key of steps was not committed.
    pub without_steps: bool,
}

impl Proposal {
    /// Proposes what a leader has proposed, and holds, to a member that has not accepted it. Who lacks the transactions asks
    /// for them.
    pub(crate) fn again(key: Key, own: &Register, committed_through: u64, without_steps: bool) -> Self {
        Self {
            ballot: own.ballot,
            key,
            height: own.head.height,
            hash: own.head.hash,
            transactions: Vec::new(),
            committed_height: 0,
            committed_through,
            without_steps,
        }
    }
}

/// What a member knows of a slot's steps: whether a new leader may have any to finish.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct StepsKnown {
    /// The term of its register of the slot's key of steps; `None`: it has none.
    pub held: Option<Term>,
    /// The newest term that it knows to have begun without steps: a register of an earlier one was not committed.
    pub begun_without: Option<Term>,
}

impl StepsKnown {
    /// Whether a leader of which a majority knows no more than this has no steps to finish.
    pub(crate) fn are_none(&self) -> bool {
        self.held.is_none() || self.held < self.begun_without
    }
}

/// A message between two replicas, or between a leader and itself.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum KeylogMessage {
    /// A would-be leader asks for the promise never to accept below its term. Carries the configuration of the term's
    /// epoch, so that a member that has not heard of it enters it.
    Prepare {
        /// The configuration that the candidate is in.
        configuration: Configuration,
        /// Its term.
        term: Term,
    },
    /// The promise, durable.
    Promise {
        /// The slot.
        slot: SlotId,
        /// The term promised.
        term: Term,
        /// Digest of the sender's registers.
        digest: SlotDigest,
        /// The next configuration that it has accepted, if any: the new leader must finish it.
        proposed: Option<Proposed>,
        /// What it knows of the slot's steps.
        steps: Box<StepsKnown>,
    },
    /// The sender has promised a higher term, or (to a candidate) still hears a leader that it prefers.
    Refuse {
        /// The slot.
        slot: SlotId,
        /// The term of the message refused.
        term: Term,
        /// The term that stands against it; its node is the leader as far as the sender knows.
        promised: Term,
    },
    /// The message refused belongs to an epoch before this configuration's.
    Outdated {
        /// The newest configuration that the sender knows to be decided.
        configuration: Configuration,
    },
    /// Asks for a key's register, on the leader's first touch of the key in its term.
    ReadRegister {
        /// The slot.
        slot: SlotId,
        /// The leader's term.
        term: Term,
        /// The key.
        key: Key,
    },
    /// The register, in a term that the sender has promised.
    RegisterRead {
        /// The slot.
        slot: SlotId,
        /// The leader's term.
        term: Term,
        /// The key.
        key: Key,
        /// What the sender has accepted for it.
        register: Option<RegisterSummary>,
    },
    /// Proposes a key's next head.
    Accept {
        /// The slot.
        slot: SlotId,
        /// The head.
        proposal: Proposal,
    },
    /// Accepted, durably.
    Accepted {
        /// The slot.
        slot: SlotId,
        /// The ballot.
        ballot: Ballot,
        /// The key.
        key: Key,
    },
    /// Cannot accept yet: the chain below is missing here.
    Lacking {
        /// The slot.
        slot: SlotId,
        /// The ballot of the proposal.
        ballot: Ballot,
        /// The key.
        key: Key,
        /// The chain is wanted from this height on.
        from_height: u64,
    },
    /// Asks whether the sender still leads: one round for all reads that wait.
    Confirm {
        /// Names the round.
        round: u64,
        /// The slots and the terms in which the sender leads them.
        leaderships: Vec<(SlotId, Term)>,
        /// Whether a lease is asked for: whoever confirms promises these slots to nobody else for a while.
        is_lease: bool,
    },
    /// For these slots, no higher term had been promised when the question came.
    Confirmed {
        /// The round.
        round: u64,
        /// The slots.
        slots: Vec<SlotId>,
    },
    /// Asks for a page of the slot's registers, in the order of keys.
    Scan {
        /// The slot.
        slot: SlotId,
        /// The leader's term.
        term: Term,
        /// The page begins after this key.
        after: Option<Key>,
    },
    /// A page of registers.
    Scanned {
        /// The slot.
        slot: SlotId,
        /// The leader's term.
        term: Term,
        /// The page began after this key.
        after: Option<Key>,
        /// At most [`SCAN_PAGE_MAX`] registers.
        registers: Vec<(Key, RegisterSummary)>,
        /// Whether nothing follows.
        is_last: bool,
    },
    /// Asks any member for a part of a key's chain.
    FetchTransactions {
        /// The slot.
        slot: SlotId,
        /// The key.
        key: Key,
        /// First height wanted.
        from_height: u64,
        /// Last height wanted.
        to_height: u64,
    },
    /// A part of a chain: shorter than asked for if the sender holds less or the message would grow too long; from the
    /// sender's base on, a committed checkpoint, if it has forgotten what it was asked for.
    Transactions {
        /// The slot.
        slot: SlotId,
        /// The key.
        key: Key,
        /// They follow each other.
        transactions: Vec<Transaction>,
    },
    /// Proposes the slot's next configuration.
    Propose {
        /// The leader's term, in the epoch before.
        term: Term,
        /// The next configuration.
        configuration: Configuration,
        /// Up to where tombstones were dropped as far as the leader knows: see
        /// [`SlotRecord::dropped`](crate::SlotRecord::dropped). Newcomers learn it by this.
        dropped: Option<Ballot>,
    },
    /// Accepted, durably: from now on the sender accepts no key's proposal in the term's epoch.
    ProposalAccepted {
        /// The slot.
        slot: SlotId,
        /// The leader's term.
        term: Term,
        /// The epoch of the accepted configuration.
        epoch: u64,
    },
    /// This configuration is decided.
    Install {
        /// The configuration.
        configuration: Configuration,
    },
    /// A newcomer has fetched every block of the slot.
    BlocksReady {
        /// The slot.
        slot: SlotId,
        /// The joint configuration's epoch.
        epoch: u64,
    },
    /// From time to time, while it is so: the sender is short of room and takes over no more slots; if it is full, it
    /// accepts no transactions either.
    NoRoom {
        /// Whether it is full.
        is_full: bool,
    },
    /// From the leader: nothing is under way in these slots; all proposals of the ballot's term up to it are committed, and
    /// whoever holds registers of this digest holds nothing that is not.
    Committed {
        /// Slot, ballot and digest.
        slots: Vec<(SlotId, Ballot, SlotDigest)>,
    },
    /// From the leader: these keys have no value, and what was accepted for them at these ballots or below matters to nobody
    /// any more. Whoever holds such a register drops it, and accepts nothing up to `through` for keys without one.
    Drop {
        /// The slot.
        slot: SlotId,
        /// In the leader's term: not below the ballot of that term at which any of the keys was ever proposed.
        through: Ballot,
        /// At most [`DROPS_MAX`] keys and ballots.
        keys: Vec<(Key, Ballot)>,
    },
    /// To the leader: the sender cannot tell which of its registers are committed.
    AskCommitted {
        /// The slots.
        slots: Vec<SlotId>,
    },
    /// From time to time, to the leader that the sender believes in: what it holds. A leader that holds something else
    /// repairs; a receiver in a later epoch answers with its configuration.
    Holdings {
        /// Slot, epoch and digest.
        slots: Vec<(SlotId, u64, SlotDigest)>,
    },
}
