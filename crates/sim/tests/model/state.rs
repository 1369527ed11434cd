//! Some nodes, the messages between them, and what can happen next.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    sync::{Arc, LazyLock},
    time::Duration,
};

use difuse_keylog::{
    Answer, Ballot, CommittedHead, Condition, Configuration, Failure, Head, Job, Keylog, KeylogMessage, KeylogOptions,
    Operation, Output, Register, SlotRecord, Store, StoreError, Submission, Term, Transaction, Write,
    store::MemoryStore,
};
use difuse_types::{Instant, Key, Level, NodeId, OperationId, SlotId, Slots, WallTime};

use crate::{
    promises,
    setup::{Limits, Seen, Setup, node},
};

pub const SLOT: SlotId = SlotId(0);
pub static KEY: LazyLock<Key> = LazyLock::new(|| Key::new(b"k").expect("a short name"));

/// Longer than every timer.
const LONG: Duration = Duration::from_secs(60);

/// Most steps of what happens before a run begins.
const STEPS_MAX: usize = 10_000;

/// Something shared between states, with its fingerprint.
pub struct Shared<T>(Arc<T>, u64);

impl<T: Hash> Shared<T> {
    fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        Self(Arc::new(value), hasher.finish())
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), self.1)
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.1.hash(hasher);
    }
}

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.1 == other.1
    }
}

/// A message under way: sender, receiver, content.
type Envelope = (NodeId, NodeId, KeylogMessage);

/// A job that a client waits for: the node asked, and the highest write acknowledged before it was asked.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Waiting {
    acknowledged: u64,
}

#[derive(Clone, Hash, PartialEq)]
pub struct State {
    pub nodes: BTreeMap<NodeId, Shared<Keylog<MemoryStore>>>,
    /// In the order of their fingerprints; none twice.
    wire: Vec<Shared<Envelope>>,
    waiting: BTreeMap<u64, Waiting>,
    placement: Vec<NodeId>,
    /// Who suspects whom.
    suspicions: BTreeSet<(NodeId, NodeId)>,
    /// What may still happen.
    left: Limits,
    pub seen: Seen,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registers = self.nodes.iter().map(|(node, keylog)| (node, keylog.store().register(SLOT, &KEY)));
        f.debug_map().entries(registers).finish()?;
        self.seen.shown.fmt(f)
    }
}

/// What can happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// This message arrives.
    Deliver(KeylogMessage, usize),
    /// A node's clock jumps beyond all its timers.
    Tick(NodeId),
    /// All that a node wrote is durable.
    Flush(NodeId),
    /// A node crashes, and starts again on what was durable.
    Crash(NodeId),
    /// The first begins or ceases to suspect the second.
    Suspect(NodeId, NodeId, bool),
    /// A client asks a node to append.
    Write(NodeId),
    /// A client asks a node for the head.
    Read(NodeId),
    /// The ring proposes the other group.
    Place,
}

/// A leader's first proposal of its term.
fn first_ballot(number: u64, leader: u8) -> Ballot {
    Ballot { term: Term { epoch: 1, number, node: node(leader) }, sequence: 1 }
}

/// A register with its first transaction, the operation of this name, accepted at a ballot.
fn accepted(ballot: Ballot, operation: u8) -> Write {
    let transaction = Transaction {
        key: KEY.clone(),
        height: 1,
        previous: difuse_types::Hash::ZERO,
        operation: Operation::Delete,
        author: node(operation),
        time: WallTime(0),
        operation_id: OperationId([operation; 16]),
        checkpoint: None,
    };
    let recent = vec![transaction.operation_id];
    let register = Register {
        ballot,
        head: Head {
            height: 1,
            hash: transaction.hash(),
            checkpoint: 0,
            deleted: Some(WallTime(0)),
            deadline: None,
            recent,
        },
        base: 1,
    };
    Write::Accept { slot: SLOT, key: KEY.clone(), register, transactions: vec![transaction] }
}

impl State {
    /// Where all begins: nobody leads. If it is torn, three leaders have each proposed before and reached nobody but
    /// themselves: the first and the third the same transaction (the third found it with the first), the second another
    /// one. So the first and the third hold equal heads at different ballots, and still the second's may win.
    pub fn first(setup: &Setup) -> Self {
        let members: Vec<NodeId> = setup.members.iter().map(|name| node(*name)).collect();
        let record = SlotRecord {
            configuration: Configuration::first(SLOT, members.clone()),
            promised: Term::start_of(1),
            proposed: None,
            dropped: None,
            without_steps: None,
        };
        let mut state = Self {
            nodes: BTreeMap::new(),
            wire: Vec::new(),
            waiting: BTreeMap::new(),
            placement: members.clone(),
            suspicions: BTreeSet::new(),
            left: setup.limits,
            seen: Seen::default(),
        };
        for id in setup.nodes() {
            let mut store = MemoryStore::new();
            if members.contains(&id) {
                store.write(vec![Write::Slot(Box::new(record.clone()))]).expect("memory does not fail");
            }
            if setup.is_torn {
                let (promised, write) = match id.0[0] {
                    1 => (first_ballot(3, 2), accepted(first_ballot(1, 1), 1)),
                    2 => (first_ballot(3, 2), accepted(first_ballot(3, 2), 1)),
                    _ => (first_ballot(2, 3), accepted(first_ballot(2, 3), 2)),
                };
                let record = SlotRecord { promised: promised.term, ..record.clone() };
                store.write(vec![Write::Slot(Box::new(record)), write]).expect("memory does not fail");
            }
            store.flush_all();
            let keylog = state.start(setup, id, store, Instant(0));
            state.nodes.insert(id, Shared::new(keylog));
        }
        // The first word of all holdings says nothing: it is lost.
        for id in setup.nodes() {
            state.call(setup, id, |keylog| keylog.handle_tick());
        }
        state.wire.retain(|envelope| !matches!(envelope.2, KeylogMessage::Holdings { .. }));
        if setup.is_moved_without_leader {
            state.move_without_leader(setup);
        }
        state
    }

    /// The first node leads; then nobody hears it, or is heard by it, until the others have moved the slot to the target.
    /// It still takes itself for the leader.
    fn move_without_leader(&mut self, setup: &Setup) {
        let (mut left, leader) = (self.left, node(setup.members[0]));
        self.left = Limits { ticks: u8::MAX, suspicions: u8::MAX, placements: 1, ..left };
        while let Some(index) = self.wire.len().checked_sub(1) {
            let message = self.wire[index].2.clone();
            self.act(setup, Action::Deliver(message, index));
        }
        assert!(self.nodes[&leader].is_leading(SLOT), "the first member leads");
        let others: Vec<NodeId> = setup.nodes().into_iter().filter(|id| *id != leader).collect();
        for id in &others {
            self.act(setup, Action::Suspect(*id, leader, true));
        }
        self.act(setup, Action::Place);
        for turn in 0..STEPS_MAX {
            self.wire.retain(|envelope| envelope.0.0 != leader && envelope.0.1 != leader);
            if let Some(index) = self.wire.len().checked_sub(1) {
                let message = self.wire[index].2.clone();
                self.act(setup, Action::Deliver(message, index));
            } else if promises::is_with_target(setup, self) {
                break;
            } else if self.left.ticks > 0 {
                self.act(setup, Action::Tick(others[turn % others.len()]));
            }
        }
        assert!(promises::is_with_target(setup, self), "the slot has moved");
        self.suspicions.clear();
        left.placements = 0;
        self.left = left;
    }

    fn start(&self, setup: &Setup, id: NodeId, store: MemoryStore, now: Instant) -> Keylog<MemoryStore> {
        let slots = Slots::with_count(1).expect("one is a power of two");
        let options = KeylogOptions {
            broken: setup.broken,
            holdings_every: LONG * 100,
            // Nobody reads at level leader here, and no time passes that a member could wait for.
            lease: Duration::ZERO,
            ..KeylogOptions::new(slots)
        };
        let seed = u64::from(id.0[0]) * 100 + u64::from(self.left.crashes);
        let mut keylog = Keylog::new(id, options, store, now, seed).expect("memory does not fail");
        keylog.set_time(now);
        keylog.handle_placement(SLOT, self.placement.clone());
        setup.nodes().into_iter().for_each(|other| keylog.handle_connected(other));
        for (_, other) in self.suspicions.iter().filter(|(suspecting, _)| *suspecting == id) {
            keylog.handle_suspicion(*other, true).expect("memory does not fail");
        }
        keylog
    }

    pub fn possible(&self, setup: &Setup, actions: &mut Vec<Action>) {
        let delivered = self.wire.iter().enumerate();
        actions.extend(delivered.map(|(index, envelope)| Action::Deliver(envelope.2.clone(), index)));
        let left = &self.left;
        for (id, keylog) in &self.nodes {
            if setup.is_flush_apart && keylog.store().durable() < keylog.store().written() {
                actions.push(Action::Flush(*id));
            }
            if left.ticks > 0 {
                actions.push(Action::Tick(*id));
            }
            if left.crashes > 0 {
                actions.push(Action::Crash(*id));
            }
            if left.writes > 0 && keylog.is_leading(SLOT) {
                actions.push(Action::Write(*id));
            }
            if left.reads > 0 && keylog.is_leading(SLOT) {
                actions.push(Action::Read(*id));
            }
            if left.suspicions > 0 {
                let others = self.nodes.keys().filter(|other| *other != id);
                actions.extend(
                    others.map(|other| Action::Suspect(*id, *other, !self.suspicions.contains(&(*id, *other)))),
                );
            }
        }
        if left.placements > 0 {
            actions.push(Action::Place);
        }
    }

    pub fn act(&mut self, setup: &Setup, action: Action) {
        match action {
            Action::Deliver(_, index) => {
                let envelope = self.wire.remove(index);
                let (from, to, message) = (*envelope.0).clone();
                self.call(setup, to, |keylog| keylog.handle_message(from, message));
            }
            Action::Tick(id) => {
                self.left.ticks -= 1;
                let now = self.nodes[&id].next_wakeup() + LONG;
                self.call(setup, id, |keylog| {
                    keylog.set_time(now);
                    keylog.handle_tick()
                });
            }
            Action::Flush(id) => self.call(setup, id, |keylog| {
                let sequence = keylog.store_mut().flush_all();
                keylog.handle_durable(sequence)
            }),
            Action::Crash(id) => self.crash(setup, id),
            Action::Suspect(id, other, is_suspect) => {
                self.left.suspicions -= 1;
                if is_suspect {
                    self.suspicions.insert((id, other));
                } else {
                    self.suspicions.remove(&(id, other));
                }
                self.call(setup, id, |keylog| keylog.handle_suspicion(other, is_suspect).map(drop));
            }
            Action::Write(id) => {
                self.left.writes -= 1;
                let ticket = u64::from(self.left.writes);
                let submission = Submission {
                    operation: Operation::Delete,
                    condition: Condition::None,
                    operation_id: OperationId([self.left.writes; 16]),
                    author: id,
                    time: WallTime(0),
                    level: Level::Quorum,
                    generation: None,
                    since: self.nodes[&id].known_anchor(SLOT),
                };
                self.ask(setup, id, ticket, Job::Append(submission));
            }
            Action::Read(id) => {
                self.left.reads -= 1;
                self.ask(setup, id, 100 + u64::from(self.left.reads), Job::Read { level: Level::Quorum, seen: None });
            }
            Action::Place => {
                self.left.placements -= 1;
                self.placement = setup.target.iter().map(|name| node(*name)).collect();
                let placement = self.placement.clone();
                for id in setup.nodes() {
                    self.call(setup, id, |keylog| {
                        keylog.handle_placement(SLOT, placement.clone());
                        Ok(())
                    });
                }
            }
        }
    }

    fn ask(&mut self, setup: &Setup, id: NodeId, ticket: u64, job: Job) {
        let acknowledged = self.seen.shown.last_key_value().map_or(0, |(height, _)| *height);
        self.waiting.insert(ticket, Waiting { acknowledged });
        self.call(setup, id, |keylog| keylog.submit(ticket, SLOT, KEY.clone(), job));
    }

    fn crash(&mut self, setup: &Setup, id: NodeId) {
        self.left.crashes -= 1;
        let before = &self.nodes[&id];
        let mut store = before.store().clone();
        store.crash();
        let keylog = self.start(setup, id, store, before.next_wakeup());
        self.nodes.insert(id, Shared::new(keylog));
        self.call(setup, id, |_| Ok(()));
    }

    /// Calls one node, makes what it wrote durable unless that is a step of its own, and does what it wants done.
    fn call(
        &mut self,
        setup: &Setup,
        id: NodeId,
        call: impl FnOnce(&mut Keylog<MemoryStore>) -> Result<(), StoreError>,
    ) {
        let mut keylog = (*self.nodes[&id].0).clone();
        call(&mut keylog).expect("memory does not fail");
        keylog.finish_batch().expect("memory does not fail");
        loop {
            if !setup.is_flush_apart && keylog.store().durable() < keylog.store().written() {
                let sequence = keylog.store_mut().flush_all();
                keylog.handle_durable(sequence).expect("memory does not fail");
            }
            let outputs = keylog.take_outputs();
            if outputs.is_empty() && (setup.is_flush_apart || keylog.store().durable() == keylog.store().written()) {
                break;
            }
            for output in outputs {
                self.perform(id, &mut keylog, output);
            }
        }
        if let Ok(Some(register)) = keylog.store().register(SLOT, &KEY) {
            self.seen.note_value(register.ballot, (register.head.height, register.head.hash));
        }
        self.nodes.insert(id, Shared::new(keylog));
    }

    fn perform(&mut self, id: NodeId, keylog: &mut Keylog<MemoryStore>, output: Output) {
        match output {
            Output::Send { to, message } => self.send(id, to, message),
            Output::Done { ticket, result } => self.note_done(ticket, result),
            Output::Entered { configuration, .. } if configuration.collectors().contains(&id) => {
                keylog.handle_blocks_fetched(SLOT, configuration.epoch).expect("memory does not fail");
            }
            Output::Entered { configuration, .. } if !configuration.contains(&id) => {
                keylog.clear(SLOT).expect("memory does not fail");
            }
            Output::Entered { .. } => {}
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: KeylogMessage) {
        if let KeylogMessage::Accept { proposal, .. } = &message {
            self.seen.note_value(proposal.ballot, (proposal.height, proposal.hash));
        }
        if !self.nodes.contains_key(&to) {
            return;
        }
        let envelope = Shared::new((from, to, message));
        if let Err(place) = self.wire.binary_search_by_key(&envelope.1, |other| other.1) {
            self.wire.insert(place, envelope);
        }
    }

    fn note_done(&mut self, ticket: u64, result: Result<Answer, Failure>) {
        let Some(waiting) = self.waiting.remove(&ticket) else { return };
        match result {
            Ok(Answer::Appended { height, hash, .. }) => self.seen.note_shown(height, hash),
            Ok(Answer::Head(committed)) => {
                let CommittedHead { head, .. } = *committed;
                let height = head.as_ref().map_or(0, |(_, head)| head.height);
                self.seen.has_stale_read |= height < waiting.acknowledged;
                if let Some((hash, head)) = head {
                    self.seen.note_shown(head.height, hash);
                }
            }
            _ => {}
        }
    }
}
