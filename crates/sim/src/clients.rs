//! Clients: each has at most one request under way, on few keys that they race for, through random nodes. A write of
//! unknown outcome is repeated with the same operation id, or left open.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use difuse_keylog::{Ballot, Operation as KeyOperation, Value, ValueKind};
use difuse_protocol::{
    Input, RequestId,
    request::{Anchor, Condition, Request, Since},
};
use difuse_types::{Hash, Instant, Key, Level, NodeId, OperationId, SlotId, Slots};

use crate::{
    Plan, Violation,
    linearizability::{Answer, Call, Demand, OPERATIONS_MAX, Operation},
    simulation::{Event, Phase, Simulation},
};

/// After so many operations a key is left, and another one used, so that histories stay short.
const OPERATIONS_PER_KEY: usize = 64;
/// For how long a deleted key is left alone where it may be forgotten.
const REST: Duration = Duration::from_secs(14);
/// How often a request is repeated during the faults.
const RETRIES_MAX: u32 = 3;

/// Number of the write that an operation id names.
pub(crate) fn operation_number(id: OperationId) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&id.0[..8]);
    u64::from_le_bytes(first)
}

/// What a client is about.
#[derive(Clone, Debug)]
pub(crate) enum Aim {
    Write {
        history: usize,
        operation: u64,
        call: Call,
        level: Level,
    },
    /// `least_height`: that of what the client's session has seen.
    Read {
        history: usize,
        least_height: u64,
        /// Under which recovery it was seen.
        seen_under: Hash,
    },
    List {
        histories: Vec<usize>,
    },
    PutBlock {
        hash: Hash,
        is_safe: bool,
    },
    ReadBlock {
        hash: Hash,
        must_be_there: bool,
    },
}

/// A request of a client, until the client has done with it.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    pub(crate) aim: Aim,
    request: Request,
    pub(crate) invoked_at: u64,
    retries: u32,
    /// Some attempt may have been applied.
    pub(crate) is_open: bool,
    is_asked: bool,
}

impl UnderWay {
    /// An attempt may have been applied, and the next one says so; `since` is what it was told to say.
    pub(crate) fn open(&mut self, told: Option<Anchor>) {
        self.is_open = true;
        repeat_open(&mut self.request, told);
    }

    /// No attempt until now will be applied: the next one is sent after this.
    pub(crate) fn begin_anew(&mut self, now: Anchor) {
        self.is_open = false;
        repeat_after(&mut self.request, now);
    }

    /// Whether it is a write on the condition that the head is another than this one.
    pub(crate) fn follows_another(&self, head: Hash) -> bool {
        matches!(self.request, Request::Write { condition: Condition::Head(hash), .. } if hash != head)
    }

    /// Whether it is a read whose level promises no more than a committed head.
    pub(crate) fn is_weak(&self) -> bool {
        matches!(self.request, Request::Read { level: Level::Lazy | Level::Leader, .. })
    }
}

#[derive(Default)]
struct Client {
    under_way: Option<UnderWay>,
    /// The last head of each key that it saw.
    seen: BTreeMap<usize, Hash>,
    /// Its session: the latest mark of each slot, and the greatest height of each key, that it saw.
    marks: BTreeMap<SlotId, Ballot>,
    heights: BTreeMap<(usize, Hash), u64>,
}

/// One key and what clients did with it.
pub(crate) struct History {
    pub(crate) key: Key,
    pub(crate) operations: Vec<Noted>,
}

/// An operation, and the recovery of its slot under which it was answered, where that is certain.
#[derive(Clone, Copy)]
pub(crate) struct Noted {
    pub(crate) operation: Operation,
    pub(crate) recovery: Option<Hash>,
}

/// What a write put there.
pub(crate) struct Written {
    pub(crate) key: Key,
    pub(crate) value: Option<Bytes>,
}

/// All clients of a simulation, and what they saw.
pub(crate) struct Clients {
    clients: Vec<Client>,
    pending: BTreeMap<RequestId, (usize, NodeId)>,
    last_request: RequestId,
    pub(crate) histories: Vec<History>,
    /// The keys in use.
    active: Vec<usize>,
    /// Keys that were deleted and are left alone until then: they may be forgotten meanwhile.
    resting: Vec<(Instant, usize)>,
    /// All writes by number, from 1.
    pub(crate) writes: BTreeMap<u64, Written>,
    /// Writes of which clients were told that nothing was changed.
    pub(crate) refused: BTreeSet<u64>,
    /// Histories that are still to be read in the end.
    pub(crate) last_reads: Vec<usize>,
    /// Counts the beginnings and ends of operations.
    clock: u64,
    slots: Slots,
    /// Whether keys may be forgotten: then nothing is written at level lazy, and heights begin anew.
    forgets: bool,
}

impl Clients {
    pub(crate) fn new(plan: &Plan) -> Self {
        let mut clients = Self {
            clients: (0..plan.clients).map(|_| Client::default()).collect(),
            pending: BTreeMap::new(),
            last_request: 0,
            histories: Vec::new(),
            active: Vec::new(),
            resting: Vec::new(),
            writes: BTreeMap::new(),
            refused: BTreeSet::new(),
            last_reads: Vec::new(),
            clock: 0,
            slots: plan.settings.slots,
            forgets: plan.tombstones_kept.is_some(),
        };
        for _ in 0..plan.keys {
            let history = clients.new_history();
            clients.active.push(history);
        }
        clients
    }

    pub(crate) fn count(&self) -> usize {
        self.clients.len()
    }

    pub(crate) fn next_request_id(&mut self) -> RequestId {
        self.last_request += 1;
        self.last_request
    }

    pub(crate) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// The time by the clock that counts the beginnings and ends of operations.
    pub(crate) fn now(&self) -> u64 {
        self.clock
    }

    /// Whatever was refused in a slot may have been decided after all: what told otherwise is lost.
    pub(crate) fn forget_refused(&mut self, slot: SlotId) {
        let (slots, writes) = (self.slots, &self.writes);
        let is_elsewhere = |operation: &u64| writes.get(operation).is_none_or(|it| slots.of_key(&it.key) != slot);
        self.refused.retain(is_elsewhere);
    }

    fn new_history(&mut self) -> usize {
        let name = format!("k{}", self.histories.len());
        // The name is neither empty nor long.
        let key = Key::new(name.as_bytes()).unwrap_or_else(|error| unreachable!("{error}"));
        self.histories.push(History { key, operations: Vec::new() });
        self.histories.len() - 1
    }

    /// Whether no client waits for anything.
    pub(crate) fn are_idle(&self) -> bool {
        self.clients.iter().all(|client| client.under_way.is_none())
    }

    /// What is still under way, for people.
    pub(crate) fn describe_waiting(&self) -> String {
        let waiting = self.pending.iter().filter_map(|(id, (client, node))| {
            let under_way = self.clients[*client].under_way.as_ref()?;
            Some(format!("client {client} waits for {node:?} (request {id}): {:?}", under_way.request))
        });
        waiting.collect::<Vec<_>>().join("; ")
    }

    /// Whom an answer is for.
    pub(crate) fn take_pending(&mut self, id: RequestId) -> Option<usize> {
        self.pending.remove(&id).map(|(client, _)| client)
    }

    /// The clients whose answers will never come.
    pub(crate) fn lose_node(&mut self, node: NodeId) -> Vec<usize> {
        let lost: Vec<RequestId> =
            self.pending.iter().filter(|(_, (_, asked))| *asked == node).map(|(id, _)| *id).collect();
        lost.into_iter().filter_map(|id| self.take_pending(id)).collect()
    }

    pub(crate) fn under_way(&mut self, client: usize) -> Option<&mut UnderWay> {
        self.clients[client].under_way.as_mut()
    }

    pub(crate) fn saw(&mut self, client: usize, history: usize, hash: Hash) {
        self.clients[client].seen.insert(history, hash);
    }

    /// A client's session saw this height of a key, in an answer with this mark, under a recovery if that is certain.
    pub(crate) fn saw_in_session(
        &mut self,
        client: usize,
        history: usize,
        height: u64,
        mark: Option<Ballot>,
        recovery: Option<Hash>,
    ) {
        let slot = self.slots.of_key(&self.histories[history].key);
        let client = &mut self.clients[client];
        if let Some(mark) = mark {
            let known = client.marks.entry(slot).or_insert(mark);
            *known = (*known).max(mark);
            if let Some(recovery) = recovery {
                let known = client.heights.entry((history, recovery)).or_default();
                *known = (*known).max(height);
            }
        }
    }

    /// The client is done; what it was told goes into the key's history, if there is anything to tell.
    pub(crate) fn record(
        &mut self,
        client: usize,
        history: usize,
        call: Call,
        answer: Answer,
        invoked_at: u64,
        recovery: Option<Hash>,
    ) {
        let completed_at = if answer == Answer::Unknown { u64::MAX } else { self.tick() };
        let operations = &mut self.histories[history].operations;
        if operations.len() < OPERATIONS_MAX {
            let operation = Operation { client, call, answer, invoked_at, completed_at };
            operations.push(Noted { operation, recovery });
        }
    }

    /// The client thinks of something new to ask for.
    fn invent(
        &mut self,
        client: usize,
        now: Instant,
        blocks: &mut crate::invariants::Blocks,
        recoveries: &crate::invariants::Recoveries,
        rng: &mut fastrand::Rng,
    ) {
        let place = rng.usize(..self.active.len());
        if self.histories[self.active[place]].operations.len() >= OPERATIONS_PER_KEY {
            self.active[place] = self.new_history();
        }
        if let Some(rested) = self.resting.iter().position(|(until, _)| *until <= now) {
            self.active[place] = self.resting.swap_remove(rested).1;
        }
        let history = self.active[place];
        let (aim, request) = match rng.u32(..100) {
            0..50 => self.invent_write(client, history, rng),
            50..82 => {
                let level = level(rng);
                let slot = self.slots.of_key(&self.histories[history].key);
                let seen = self.clients[client].marks.get(&slot).copied();
                let is_session = matches!(level, Level::Lazy | Level::Leader) && rng.bool();
                let seen = seen.filter(|_| is_session);
                let seen_under = recoveries.standing(slot);
                let heights = &self.clients[client].heights;
                let least_height = match seen {
                    Some(_) if !self.forgets => heights.get(&(history, seen_under)).copied().unwrap_or_default(),
                    _ => 0,
                };
                (Aim::Read { history, least_height, seen_under }, self.read_request(history, level, seen))
            }
            82..86 => self.invent_list(),
            86..93 => {
                let bytes = Bytes::from(format!("block {}", rng.u64(..)));
                let hash = blocks.attempt(bytes.clone());
                let level = level(rng);
                // With fewer copies than a majority it may be lost.
                let is_safe = matches!(level, Level::Quorum | Level::All);
                (
                    Aim::PutBlock { hash, is_safe },
                    Request::PutBlock { hash, bytes, referenced: rng.bool(), generation: 0, level },
                )
            }
            _ => {
                let Some(hash) = blocks.any(rng) else { return };
                let level = level(rng);
                let is_sure = matches!(level, Level::Quorum | Level::All);
                let must_be_there = is_sure && blocks.acknowledged().contains(&hash);
                (Aim::ReadBlock { hash, must_be_there }, Request::ReadBlock { hash, level })
            }
        };
        if let Aim::Write { call: Call::Write { has_value: false, .. }, .. } = aim
            && self.forgets
        {
            self.resting.push((now + REST, history));
            self.active[place] = self.new_history();
        }
        self.begin(client, aim, request);
    }

    fn begin(&mut self, client: usize, aim: Aim, request: Request) {
        let invoked_at = self.tick();
        self.clients[client].under_way =
            Some(UnderWay { aim, request, invoked_at, retries: 0, is_open: false, is_asked: false });
    }

    fn read_request(&self, history: usize, level: Level, seen: Option<Ballot>) -> Request {
        Request::Read { key: self.histories[history].key.clone(), level, seen }
    }

    fn invent_list(&mut self) -> (Aim, Request) {
        let prefix = Key::prefix("", b"k").unwrap_or_default();
        (Aim::List { histories: self.active.clone() }, Request::List { prefix, after: None, limit: 1000, slot: None })
    }

    fn invent_write(&mut self, client: usize, history: usize, rng: &mut fastrand::Rng) -> (Aim, Request) {
        let operation = self.writes.len() as u64 + 1;
        let has_value = rng.u32(..5) > 0;
        let seen = self.clients[client].seen.get(&history).copied();
        let condition = match (rng.u32(..10), seen) {
            (0..3, _) | (_, None) => Condition::None,
            (3..5, _) => Condition::Absent,
            (5, _) => Condition::Present,
            (_, Some(hash)) => Condition::Head(hash),
        };
        let level = match level(rng) {
            Level::Lazy if self.forgets => Level::Leader,
            level => level,
        };
        let key = self.histories[history].key.clone();
        let value = has_value.then(|| Bytes::from(format!("{key} {operation}")));
        self.writes.insert(operation, Written { key: key.clone(), value: value.clone() });
        let kind = ValueKind::Inline;
        let request = Request::Write {
            key,
            operation: value.map_or(KeyOperation::Delete, |bytes| KeyOperation::Set(Value::new(kind, bytes))),
            condition,
            operation_id: operation_id(operation, rng),
            level,
            since: Since::Now,
        };
        // Which write a hash stands for is filled in by the simulation, which knows all transactions.
        let call = Call::Write { id: operation, demand: Demand::None, has_value };
        (Aim::Write { history, operation, call, level }, request)
    }
}

/// Mostly quorum, of which most is promised.
fn level(rng: &mut fastrand::Rng) -> Level {
    match rng.u32(..10) {
        0 => Level::Lazy,
        1 => Level::Leader,
        2 => Level::All,
        _ => Level::Quorum,
    }
}

/// The next attempt at a request says that an earlier one may have been applied; `told` is what it was told to say.
pub(crate) fn repeat_open(request: &mut Request, told: Option<Anchor>) {
    if let Request::Write { since, .. } | Request::Command { since, .. } = request
        && since.anchor().is_none()
    {
        *since = told.into();
    }
}

/// The next attempt at a request says that it is first sent after this: no earlier one will be applied.
pub(crate) fn repeat_after(request: &mut Request, now: Anchor) {
    if let Request::Write { since, .. } | Request::Command { since, .. } = request {
        *since = Since::After(now);
    }
}

pub(crate) fn operation_id(operation: u64, rng: &mut fastrand::Rng) -> OperationId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&operation.to_le_bytes());
    rng.fill(&mut bytes[8..]);
    OperationId(bytes)
}

impl Simulation {
    /// A client asks for something new, or once more.
    pub(crate) fn step_client(&mut self, client: usize) -> Result<(), Violation> {
        if self.clients.under_way(client).is_none() {
            match self.phase {
                Phase::Faults => {
                    self.clients.invent(client, self.now, &mut self.blocks, &self.recoveries, &mut self.rng);
                }
                Phase::LastReads => {
                    if let Some(history) = self.clients.last_reads.pop() {
                        let request = self.clients.read_request(history, Level::Quorum, None);
                        self.clients.begin(
                            client,
                            Aim::Read { history, least_height: 0, seen_under: Hash::ZERO },
                            request,
                        );
                    }
                }
                _ => return Ok(()),
            }
            self.resolve_demand(client);
        }
        self.ask(client);
        Ok(())
    }

    /// Puts the write that a condition's hash stands for into the history.
    fn resolve_demand(&mut self, client: usize) {
        let Some(under_way) = self.clients.under_way(client) else { return };
        let Request::Write { condition, .. } = &under_way.request else { return };
        let resolved = match condition {
            Condition::None => Demand::None,
            Condition::Absent => Demand::Absent,
            Condition::Present => Demand::Present,
            Condition::Head(hash) => {
                // It was shown, so it is known.
                Demand::Last(self.chains.known(hash).map_or(u64::MAX, |known| known.operation))
            }
        };
        if let Aim::Write { call: Call::Write { demand, .. }, .. } = &mut under_way.aim {
            *demand = resolved;
        }
    }

    fn ask(&mut self, client: usize) {
        if self.clients.under_way(client).is_none_or(|under_way| under_way.is_asked) {
            return;
        }
        let Some(node) = self.rng.choice(self.ready_nodes()) else {
            self.queue.push(self.now + Duration::from_millis(50), Event::Client { client });
            return;
        };
        let id = self.clients.next_request_id();
        self.clients.pending.insert(id, (client, node));
        let Some(under_way) = self.clients.under_way(client) else { return };
        under_way.is_asked = true;
        let request = under_way.request.clone();
        self.figures.requests += 1;
        self.trace.line(self.now, || format!("client {client} asks {node:?} (request {id}): {request:?}"));
        self.give(node, Input::Request { id, request });
    }

    /// The client goes on after a pause.
    pub(crate) fn finish_client(&mut self, client: usize) {
        self.clients.clients[client].under_way = None;
        self.figures.operations += 1;
        self.pause_client(client);
    }

    fn pause_client(&mut self, client: usize) {
        let pause = Duration::from_micros(self.rng.u64(100..=self.plan.pause_max.as_micros() as u64));
        self.queue.push(self.now + pause, Event::Client { client });
    }

    /// Asks again later, or not: then it is for the caller to end the operation.
    pub(crate) fn retries(&mut self, client: usize) -> bool {
        let is_last = self.phase == Phase::LastReads;
        let wants = is_last || self.rng.bool();
        let Some(under_way) = self.clients.under_way(client) else { return false };
        if !wants || (!is_last && under_way.retries >= RETRIES_MAX) {
            return false;
        }
        under_way.retries += 1;
        under_way.is_asked = false;
        self.figures.retries += 1;
        self.pause_client(client);
        true
    }

    /// The node asked died.
    pub(crate) fn lose_answer(&mut self, client: usize) {
        if let Some(under_way) = self.clients.under_way(client) {
            under_way.open(None);
        }
        self.end_without_answer(client);
    }

    /// No attempt so far gave an answer.
    pub(crate) fn end_without_answer(&mut self, client: usize) {
        if self.retries(client) {
            return;
        }
        let Some(under_way) = self.clients.under_way(client).cloned() else { return };
        if let Aim::Write { history, operation, call, .. } = under_way.aim {
            if under_way.is_open {
                self.figures.unknown += 1;
                self.clients.record(client, history, call, Answer::Unknown, under_way.invoked_at, None);
            } else {
                self.end_not_done(client, history, operation, call, under_way.invoked_at);
            }
        }
        self.finish_client(client);
    }
}
