//! One node's part in all slots: what comes in, what goes out, and the state in between.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use difuse_structures::Registry;

use difuse_types::{Hash, Instant, Key, KeyPrefix, Level, NodeId, OperationId, SlotId, Slots, WallTime};

use crate::{
    Anchor, Ballot, Configuration, KeylogMessage, Operation, SlotDigest, TRANSACTIONS_MAX, Term, Transaction, Write,
    WriteSequence,
    leader::{Phase, Round, WaitingRead, expiry::NOBODY, fold::Folds, sync::Comparisons},
    replica::{Assembly, Committed, damage::Damages},
    states::States,
    store::{SlotRecord, Store, StoreError},
};

mod dispatch;
mod fingerprint;
mod room;
mod summary;

pub use summary::SlotSummary;

/// How the logs are run: bounds and times.
#[derive(Debug, Clone)]
pub struct KeylogOptions {
    /// How the ring is sliced.
    pub slots: Slots,
    /// After how long an unanswered message is sent again.
    pub resend_after: Duration,
    /// For how long the ring must propose the same group before a move begins.
    pub damping: Duration,
    /// How often each member tells the leader what it holds.
    pub holdings_every: Duration,
    /// After how long a candidate's insistence is stronger than the belief that a preferred leader is alive.
    pub insist_after: Duration,
    /// For how long a member that grants a lease promises the slot to nobody else, by its own clock. The leader counts on
    /// it for one part in [`LEASE_DRIFT_BOUND`] less: clocks that run apart by no more are allowed for.
    pub lease: Duration,
    /// For how long an operation at level all waits for the last members.
    pub all_patience: Duration,
    /// How many slots a leader moves at the same time.
    pub moves_max: usize,
    /// How many requests wait in all on this node.
    pub jobs_max: usize,
    /// A leader makes a checkpoint of the transaction that lies so far above the last one; 0: of none, and so every
    /// transaction is kept. At least 256, or that is what counts.
    pub checkpoint_every: u64,
    /// For how long a tombstone is kept at least, by the clock on the wall; `None`: for ever. The time only says when the
    /// leader tries to drop it: whether that is safe does not depend on any clock.
    pub tombstones_kept: Option<Duration>,
    /// The structures that commands may use.
    pub structures: Arc<Registry>,
    /// How many bytes the states of structures take that this node keeps in memory, at most, but for the one that was used
    /// last. What does not fit is folded again when it is used.
    pub states_bytes_max: usize,
    /// The most transactions of a chain in one message: up to [`crate::TRANSACTIONS_MAX`].
    pub part_transactions_max: usize,
    /// How many bytes of a chain that comes in parts wait in memory before they are staged in the store.
    pub waiting_bytes_max: usize,
    /// A rule that is broken on purpose.
    #[cfg(feature = "controls")]
    pub broken: Option<crate::Rule>,
}

impl KeylogOptions {
    /// Usual values for a ring sliced into `slots`.
    pub fn new(slots: Slots) -> Self {
        Self {
            slots,
            resend_after: Duration::from_millis(300),
            damping: Duration::from_millis(200),
            holdings_every: Duration::from_secs(3),
            insist_after: Duration::from_secs(3),
            lease: Duration::from_millis(150),
            all_patience: Duration::from_secs(1),
            moves_max: 32,
            jobs_max: 65_536,
            checkpoint_every: 1024,
            tombstones_kept: Some(Duration::from_secs(24 * 3600)),
            structures: Arc::new(Registry::builtin()),
            states_bytes_max: 256 << 20,
            part_transactions_max: TRANSACTIONS_MAX,
            waiting_bytes_max: 4 << 20,
            #[cfg(feature = "controls")]
            broken: None,
        }
    }
}

/// Leases hold while the monotonic clocks of two nodes run apart by less than one part in this many: 1 %.
pub const LEASE_DRIFT_BOUND: u32 = 100;

/// The longest reply to a command, encoded, in bytes: whoever wants more asks for parts.
pub const REPLY_BYTES_MAX: usize = 2 << 20;

/// Names a submitted job; the caller chooses it, below `u64::MAX`.
pub type Ticket = u64;

/// What a leader is asked to do with one key, or with a slot.
#[derive(Debug, Clone, Hash)]
pub enum Job {
    /// The committed head. Level lazy is served like leader by whoever leads.
    Read {
        /// Who stands behind it.
        level: Level,
        /// At weaker levels: the answer is not older than one that had this mark.
        seen: Option<Ballot>,
    },
    /// A part of the committed log.
    Log {
        /// First height.
        from_height: u64,
        /// At most so many.
        limit: u32,
    },
    /// Append a transaction if the condition holds.
    Append(Submission),
    /// Evaluate a command on what the key holds, and append what it comes to.
    Evaluate(Invocation),
}

/// A command on a key as it is asked for.
#[derive(Debug, Clone, Hash)]
pub struct Invocation {
    /// Its name, the key as the client names it, and what follows.
    pub arguments: Vec<Bytes>,
    /// Names it, so that it is applied once; decides its random choices.
    pub operation_id: OperationId,
    /// The node through which it came in.
    pub author: NodeId,
    /// When it came in there.
    pub time: WallTime,
    /// Who must have what it appends before it is answered. Level lazy is served like leader by whoever leads.
    pub level: Level,
    /// It was first sent after this: see [`Submission::since`].
    pub since: Option<Anchor>,
}

/// An append as it is asked for.
#[derive(Debug, Clone, Hash)]
pub struct Submission {
    /// What to do.
    pub operation: Operation,
    /// What must hold of the head.
    pub condition: Condition,
    /// Names the write.
    pub operation_id: OperationId,
    /// The node through which it came in.
    pub author: NodeId,
    /// When it came in there.
    pub time: WallTime,
    /// Who must have it before it is answered. Level lazy is served like leader by whoever leads.
    pub level: Level,
    /// If the value names blocks: the generation that they were stored in. It is refused when the slot is two
    /// generations further: by then they may have been collected.
    pub generation: Option<u64>,
    /// If it was applied before, then after this; `None`: at any time.
    pub since: Option<Anchor>,
}

/// A committed transaction with the hash of the state after it: where the part of a key's log begins that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
    /// The hash of the state: see [`Operation::state_hash`].
    pub state: Hash,
}

/// What must hold of a key's head for a write to be applied (compare-and-set).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The key has no value: never written, or deleted.
    Absent,
    /// The key has a value.
    Present,
    /// The key's last transaction has this hash.
    Head(Hash),
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The committed head.
    Head(Box<CommittedHead>),
    /// The new transaction is committed; at level leader: it is durable here, and on its way to the others.
    Appended {
        /// Its height.
        height: u64,
        /// Its hash.
        hash: Hash,
        /// Whether the key had no value before.
        created: bool,
        /// The slot is seen at least up to here by whoever sees this write; `None` before it is proposed.
        mark: Option<Ballot>,
    },
    /// A command was evaluated; what it came to is as safe as its level asks for.
    Evaluated {
        /// The reply, encoded.
        reply: Bytes,
        /// Whether it is a command that may change its key.
        is_write: bool,
        /// Height and hash of the transaction that was appended, if one was.
        appended: Option<(u64, Hash)>,
        /// As for an append.
        mark: Option<Ballot>,
    },
    /// The condition does not hold of the committed head: height, hash, whether it has a value.
    Conflict(Option<(u64, Hash, bool)>),
    /// A part of the committed log.
    Log {
        /// They follow each other.
        transactions: Vec<Transaction>,
        /// Height of the committed head.
        head_height: u64,
    },
    /// The part of the log asked for begins below what is kept, which begins with this checkpoint.
    Pruned(Checkpoint),
    /// Committed heads of a range of the slot, in order; those without a value are left out.
    Range {
        /// The heads.
        heads: Vec<(Hash, Transaction)>,
        /// Where to go on; `None` if nothing follows.
        next: Option<Key>,
    },
}

impl Answer {
    /// Whether something was appended.
    pub(crate) fn is_append(&self) -> bool {
        matches!(self, Self::Appended { .. } | Self::Evaluated { appended: Some(_), .. })
    }

    /// Whether something that might have been appended was not.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Conflict(_) | Self::Evaluated { is_write: true, appended: None, .. })
    }
}

/// A committed head, and how it stands to what else was committed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CommittedHead {
    /// Hash and last transaction; `None` if the key was never written.
    pub head: Option<(Hash, Transaction)>,
    /// Whether nothing later was committed when the read came in.
    pub is_linearizable: bool,
    /// Everything that is committed at this ballot of the slot or below was seen; `None` if the key was never written.
    pub mark: Option<Ballot>,
}

/// Why a job was not done. [`Failure::Redirect`] after an append was proposed leaves its outcome open; repeating
/// it with its operation id settles it, unless that ends in [`Failure::Forgotten`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Failure {
    /// This node does not lead the slot (any more).
    Redirect {
        /// The leader as far as it knows.
        leader: Option<NodeId>,
        /// Whether an append had been proposed: then its outcome is open.
        was_proposed: bool,
    },
    /// Too few members are reachable. Nothing was changed.
    NoQuorum,
    /// At level all: not every member stands behind it.
    NotAll {
        /// Members that are suspect, or did not answer in time.
        silent: Vec<NodeId>,
        /// Members that hold another head than the committed one.
        differing: Vec<NodeId>,
        /// Height and hash of the append if a majority has it all the same; `None`: nothing was changed.
        applied: Option<(u64, Hash)>,
    },
    /// A transaction of the key, or of one in the range, is damaged on this node, which fetches it from another member.
    /// Nothing was changed.
    Damaged,
    /// The blocks that the value names were stored in a generation that is over; the slot is in this one. Nothing was
    /// changed.
    TooOld {
        /// The slot's.
        generation: u64,
    },
    /// An append that may have been applied before, and forgotten since: its outcome cannot be told. It was not applied
    /// now.
    Forgotten {
        /// Of the present: for a sender that knows that the append was never applied.
        now: Anchor,
    },
    /// An append that was not applied, nor will be: it was sent so long ago that it may be a copy of one that was refused
    /// (see [`Anchor`]). This holds of all its copies that were sent before this answer.
    Lapsed {
        /// Of the present: to send it again with.
        now: Anchor,
    },
    /// This node's disk is full; the reason names it. Nothing was changed.
    Full(String),
    /// Too much is waiting. Nothing was changed.
    Busy,
    /// The value lives in blocks, or is too long for the log: whoever asks has to read it, change it and write it anew.
    /// Nothing was changed.
    InBlocks,
    /// What was asked for cannot be done, for the reason given. Nothing was changed.
    Invalid(String),
}

/// What the caller must do, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send a message (never to this node itself).
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: KeylogMessage,
    },
    /// A job is done.
    Done {
        /// The job.
        ticket: Ticket,
        /// Its result.
        result: Result<Answer, Failure>,
    },
    /// A slot has entered a new configuration. A collector fetches the slot's blocks and then calls
    /// [`Keylog::handle_blocks_fetched`]; a node that is no member any more may [`Keylog::clear`] the slot.
    Entered {
        /// The configuration.
        configuration: Configuration,
        /// A recovery has done without what this member held: its registers are cleared, and its blocks are to be.
        begins_anew: bool,
    },
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct SlotState {
    pub(crate) record: SlotRecord,
    pub(crate) phase: Phase,
    /// Jobs that wait until this node leads the slot, or knows that it does not.
    pub(crate) parked: VecDeque<ParkedJob>,
    /// Who should hold the slot according to the ring, and since when it says so.
    pub(crate) desired: Option<(Vec<NodeId>, Instant)>,
    /// When a candidate was first refused because a preferred leader is alive.
    pub(crate) refused_since: Option<Instant>,
    /// No campaign before this.
    pub(crate) retry_at: Option<Instant>,
    /// This node, a collector, has all blocks of the slot in this epoch.
    pub(crate) blocks_fetched: Option<u64>,
    pub(crate) lease: Option<Lease>,
    /// What this node, as a member, knows to be committed.
    pub(crate) committed: Committed,
}

/// A member's promise to promise a slot to nobody else.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Lease {
    /// Whom it was given; `None`: perhaps somebody that this node does not know of.
    pub(crate) holder: Option<NodeId>,
    pub(crate) until: Instant,
}

impl SlotState {
    pub(crate) fn new(record: SlotRecord) -> Self {
        Self {
            record,
            phase: Phase::Follower,
            parked: VecDeque::new(),
            desired: None,
            refused_since: None,
            retry_at: None,
            blocks_fetched: None,
            lease: None,
            committed: Committed::default(),
        }
    }
}

#[derive(Clone, Debug, Hash)]
pub(crate) struct ParkedJob {
    pub(crate) ticket: Ticket,
    pub(crate) work: Work,
    pub(crate) since: Instant,
}

#[derive(Clone, Debug, Hash)]
pub(crate) enum Work {
    Key(Key, Job),
    Range { prefix: KeyPrefix, after: Option<Key>, limit: usize },
}

/// One node's part in the replication of all slots; see the crate's page.
///
/// Every `handle_*` and `submit*` call passes the time first to [`Keylog::set_time`]; after a batch of calls,
/// [`Keylog::finish_batch`] starts the rounds that serve all of them, and [`Keylog::take_outputs`] gives what to do.
/// An error of any call means that the store cannot go on, and neither can this value.
#[derive(Clone)]
pub struct Keylog<S> {
    pub(crate) me: NodeId,
    pub(crate) options: KeylogOptions,
    pub(crate) store: S,
    pub(crate) now: Instant,
    /// The time on the wall, for the age of tombstones.
    pub(crate) wall: WallTime,
    pub(crate) rng: fastrand::Rng,
    pub(crate) slots: BTreeMap<SlotId, SlotState>,
    pub(crate) suspects: BTreeSet<NodeId>,
    /// Nodes that were connected to this one since it began: they have been alive since then.
    pub(crate) met: BTreeSet<NodeId>,
    /// Whether this node becomes a member of nothing any more.
    pub(crate) has_left: bool,
    /// Nodes that said that they have no room.
    pub(crate) no_room: BTreeMap<NodeId, room::NoRoom>,
    pub(crate) outputs: Vec<Output>,
    /// Messages to this node itself, handled before a call returns.
    pub(crate) inbox: VecDeque<KeylogMessage>,
    /// Messages that wait for a batch to be durable, in the order of batches.
    pub(crate) gated: VecDeque<(WriteSequence, NodeId, KeylogMessage)>,
    pub(crate) last_write: WriteSequence,
    pub(crate) durable: WriteSequence,
    pub(crate) assembly: Assembly,
    /// Keys with transactions that cannot be read here.
    pub(crate) damages: Damages,
    /// Reads that wait for the next round of confirmation.
    pub(crate) waiting_reads: Vec<WaitingRead>,
    pub(crate) comparisons: Comparisons,
    /// Of structures that this node leads.
    pub(crate) states: States,
    pub(crate) folds: Folds,
    pub(crate) rounds: BTreeMap<u64, Round>,
    pub(crate) last_round: u64,
    /// Slots that were read at level leader lately, and those of them whose lease is to be asked for now.
    pub(crate) leased: BTreeSet<SlotId>,
    pub(crate) lease_due: BTreeSet<SlotId>,
    pub(crate) jobs: usize,
    pub(crate) next_holdings: Instant,
    pub(crate) next_tick: Instant,
}

impl<S: Store> Keylog<S> {
    /// Takes up what the store holds. `seed` decides every random choice.
    pub fn new(me: NodeId, options: KeylogOptions, store: S, now: Instant, seed: u64) -> Result<Self, StoreError> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let take_up = |record: SlotRecord| {
            // A lease that was granted before the restart is not remembered, and must have run out before it is broken.
            let (promised, configuration) = (record.promised, &record.configuration);
            let is_promised = promised.number > 0 && configuration.all_members() != [me];
            let holder = (promised.number > 0).then_some(promised.node);
            let until = now + options.lease;
            let lease = (is_promised || configuration.is_recovery()).then_some(Lease { holder, until });
            (record.configuration.slot, SlotState { lease, ..SlotState::new(record) })
        };
        let slots: BTreeMap<SlotId, SlotState> = store.slots()?.into_iter().map(take_up).collect();
        Ok(Self {
            me,
            slots,
            options,
            store,
            now,
            wall: WallTime(0),
            // Rounds of an earlier life of this node must not be taken for those of this one.
            last_round: rng.u64(..u64::MAX / 2),
            rng,
            suspects: BTreeSet::new(),
            met: BTreeSet::new(),
            has_left: false,
            no_room: BTreeMap::new(),
            outputs: Vec::new(),
            inbox: VecDeque::new(),
            gated: VecDeque::new(),
            last_write: WriteSequence::default(),
            durable: WriteSequence::default(),
            assembly: Assembly::default(),
            damages: Damages::new(),
            waiting_reads: Vec::new(),
            comparisons: Comparisons::default(),
            states: States::default(),
            folds: Folds::default(),
            rounds: BTreeMap::new(),
            leased: BTreeSet::new(),
            lease_due: BTreeSet::new(),
            jobs: 0,
            next_holdings: now,
            next_tick: now,
        })
    }

    /// Founds a ring: this node is the only member of every slot.
    pub fn found(&mut self) -> Result<(), StoreError> {
        let records: Vec<_> = self
            .options
            .slots
            .iter()
            .map(|slot| SlotRecord {
                configuration: Configuration::first(slot, vec![self.me]),
                promised: Term::start_of(1),
                proposed: None,
                dropped: None,
                without_steps: None,
            })
            .collect();
        self.write(records.iter().cloned().map(|record| Write::Slot(Box::new(record))).collect())?;
        for record in records {
            let slot = record.configuration.slot;
            self.slots.insert(slot, SlotState::new(record));
            self.consider_campaign(slot);
        }
        self.deliver_to_self()
    }

    /// The time of the calls that follow.
    pub fn set_time(&mut self, now: Instant) {
        self.now = self.now.max(now);
    }

    /// The time on the wall, by which tombstones grow old; without it, none does.
    pub fn set_wall_time(&mut self, wall: WallTime) {
        self.wall = wall;
    }

    /// What to do, in order, since the last call.
    pub fn take_outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Whether [`Keylog::take_outputs`] would give anything.
    pub fn has_outputs(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// As [`Keylog::take_outputs`], into `taken`, which is empty and whose memory is used for the next ones.
    pub fn swap_outputs(&mut self, taken: &mut Vec<Output>) {
        std::mem::swap(&mut self.outputs, taken);
    }

    /// The store, to read from.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for what is not about keys (`Write::Meta`).
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Writes something that is not about keys, in one batch.
    pub fn remember(&mut self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.write(writes)
    }

    /// The last batch written.
    pub fn last_write(&self) -> WriteSequence {
        self.last_write
    }

    /// The last batch that is known to be durable.
    pub fn durable(&self) -> WriteSequence {
        self.durable
    }

    /// Takes the store back, as for a restart.
    pub fn into_store(self) -> S {
        self.store
    }

    /// Queues a batch of changes.
    pub(crate) fn write(&mut self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.last_write = self.store.write(writes)?;
        Ok(())
    }

    pub(crate) fn send(&mut self, to: NodeId, message: KeylogMessage) {
        if to == self.me {
            self.inbox.push_back(message);
        } else {
            self.outputs.push(Output::Send { to, message });
        }
    }

    /// Sends when everything written so far is durable.
    pub(crate) fn send_durably(&mut self, to: NodeId, message: KeylogMessage) {
        if self.last_write <= self.durable {
            self.send(to, message);
        } else {
            self.gated.push_back((self.last_write, to, message));
        }
    }

    pub(crate) fn done(&mut self, ticket: Ticket, result: Result<Answer, Failure>) {
        if ticket == NOBODY {
            return;
        }
        self.jobs = self.jobs.saturating_sub(1);
        self.outputs.push(Output::Done { ticket, result });
    }

    /// The slot's configuration as far as this node knows.
    pub fn configuration(&self, slot: SlotId) -> Option<&Configuration> {
        self.slots.get(&slot).map(|state| &state.record.configuration)
    }

    /// The leader of a slot as far as this node knows: the node whose term it has promised, unless that is suspect;
    /// else the member that should lead.
    pub fn leader(&self, slot: SlotId) -> Option<NodeId> {
        let record = &self.slots.get(&slot)?.record;
        let promised = record.promised.node;
        let has_given_up = promised == self.me && !self.is_leading(slot);
        let is_known = record.promised.number > 0 && !self.suspects.contains(&promised) && !has_given_up;
        if is_known { Some(promised) } else { self.preferred_leader(&record.configuration) }
    }

    /// Whether this node leads the slot.
    pub fn is_leading(&self, slot: SlotId) -> bool {
        matches!(self.slots.get(&slot).map(|state| &state.phase), Some(Phase::Leading(_)))
    }

    /// The first member that is not suspect.
    pub(crate) fn preferred_leader(&self, configuration: &Configuration) -> Option<NodeId> {
        let members = configuration.members.iter().chain(&configuration.joint);
        members.copied().find(|node| *node == self.me || !self.suspects.contains(node))
    }
}

/// What a member told of one slot.
pub(crate) type Held = (SlotId, u64, SlotDigest);
