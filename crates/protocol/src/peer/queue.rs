//! Writes at level lazy: kept durably by the node that took them, and submitted at level quorum until they are decided.
//! The outcome is kept for a while, for whoever asks.
//!
//! The writes of one key are submitted one after the other, in the order in which they came in. A write is never given up:
//! it is applied, or refused because its condition does not hold; or nobody can tell, after a restart of this node.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use difuse_keylog::{Store, StoreError, Write, WriteSequence};
use difuse_types::{Instant, Key, Level, NodeId, OperationId};

use super::{
    Peer, RequestId, is_present,
    keys::{Asker, AttemptOf, Attempted},
};
use crate::{
    message::{Message, Outcome},
    request::{OperationOutcome, OperationState, Reply, Request, RequestError, Since},
};

mod codec;

use codec::{Decided, QueuedWrite};

/// The most writes that wait.
const WRITES_MAX: usize = 4096;
/// About the most bytes that they take.
const BYTES_MAX: usize = 16 << 20;
/// How many writes are submitted at the same time.
const SUBMITTED_MAX: usize = 64;
/// The most outcomes that are kept.
const OUTCOMES_MAX: usize = 4096;
/// For how long an outcome is kept, in milliseconds.
const OUTCOME_AGE_MAX_MS: u64 = 24 * 3600 * 1000;
/// How long after an attempt without an answer a write is submitted again.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// How long after an attempt whose outcome is unknown a refusal is not believed: the attempt may be on its way.
const DOUBT: Duration = Duration::from_secs(60);

const QUEUE_PREFIX: &str = "queue/";
const OUTCOME_PREFIX: &str = "outcome/";

/// The writes that wait, and the outcomes that are remembered.
#[derive(Default)]
pub(crate) struct Queue {
    writes: BTreeMap<u64, Waiting>,
    by_key: BTreeMap<Key, VecDeque<u64>>,
    by_operation: BTreeMap<OperationId, u64>,
    bytes: usize,
    submitted: BTreeSet<u64>,
    outcomes: BTreeMap<u64, Decided>,
    outcome_of: BTreeMap<OperationId, u64>,
    last: u64,
    /// Clients to be answered when their write is durable.
    acknowledgements: VecDeque<(WriteSequence, RequestId, OperationId)>,
}

struct Waiting {
    write: QueuedWrite,
    bytes: usize,
    retry_at: Instant,
    /// Since when it may have been sent.
    since: Since,
    /// Until then an earlier attempt may still arrive.
    doubt_until: Instant,
}

impl Queue {
    /// Whether no write waits.
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    fn knows(&self, operation_id: &OperationId) -> bool {
        self.by_operation.contains_key(operation_id) || self.outcome_of.contains_key(operation_id)
    }

    fn outcome(&self, operation_id: &OperationId) -> Option<OperationOutcome> {
        if let Some(waiting) = self.by_operation.get(operation_id).and_then(|sequence| self.writes.get(sequence)) {
            return Some(OperationOutcome { key: waiting.write.key.clone(), state: OperationState::Queued });
        }
        let decided = self.outcomes.get(self.outcome_of.get(operation_id)?)?;
        Some(OperationOutcome { key: decided.key.clone(), state: decided.state.clone() })
    }

    fn add(&mut self, sequence: u64, waiting: Waiting) {
        self.last = self.last.max(sequence);
        self.bytes += waiting.bytes;
        self.by_key.entry(waiting.write.key.clone()).or_default().push_back(sequence);
        self.by_operation.insert(waiting.write.operation_id, sequence);
        self.writes.insert(sequence, waiting);
    }

    fn remove(&mut self, sequence: u64) -> Option<QueuedWrite> {
        let waiting = self.writes.remove(&sequence)?;
        self.bytes = self.bytes.saturating_sub(waiting.bytes);
        self.by_operation.remove(&waiting.write.operation_id);
        if let Some(line) = self.by_key.get_mut(&waiting.write.key) {
            line.retain(|other| *other != sequence);
            if line.is_empty() {
                self.by_key.remove(&waiting.write.key);
            }
        }
        Some(waiting.write)
    }

    fn add_outcome(&mut self, sequence: u64, decided: Decided) {
        self.last = self.last.max(sequence);
        self.outcome_of.insert(decided.operation_id, sequence);
        self.outcomes.insert(sequence, decided);
    }

    /// Takes out the outcomes that are kept no longer; gives their sequences.
    fn expire(&mut self, wall_ms: u64) -> Vec<u64> {
        let mut expired = Vec::new();
        while let Some((sequence, oldest)) = self.outcomes.first_key_value() {
            let is_old = wall_ms.saturating_sub(oldest.decided_at.0) > OUTCOME_AGE_MAX_MS;
            if self.outcomes.len() <= OUTCOMES_MAX && !is_old {
                break;
            }
            expired.push(*sequence);
            if let Some((_, oldest)) = self.outcomes.pop_first() {
                self.outcome_of.remove(&oldest.operation_id);
            }
        }
        expired
    }
}

impl<S: Store> Peer<S> {
    /// Takes up what the store holds.
    pub(super) fn load_queue(&mut self) -> Result<(), StoreError> {
        let doubt_until = self.now + DOUBT;
        for (name, bytes) in self.keylog.store().metas(QUEUE_PREFIX)? {
            let write = codec::decode_write(&bytes).map_err(|error| corrupt(&name, &error))?;
            let since = write.since.into();
            let waiting = Waiting { write, bytes: bytes.len(), retry_at: self.now, since, doubt_until };
            self.queue.add(sequence_of(&name, QUEUE_PREFIX)?, waiting);
        }
        for (name, bytes) in self.keylog.store().metas(OUTCOME_PREFIX)? {
            let decided = codec::decode_decided(&bytes).map_err(|error| corrupt(&name, &error))?;
            self.queue.add_outcome(sequence_of(&name, OUTCOME_PREFIX)?, decided);
        }
        Ok(())
    }

    /// Queues a client's write; it is answered when the write is durable here.
    pub(super) fn queue_write(&mut self, id: RequestId, request: Request) -> Result<(), StoreError> {
        let Request::Write { key, operation, condition, operation_id, since, .. } = request else { return Ok(()) };
        if !self.queue.knows(&operation_id) {
            let known = self.anchor_of(self.settings.slots.of_key(&key), &key);
            let (since, of_record) = match (since, known) {
                (Since::Now, known) => (Since::Now, known),
                (Since::Unsent, Some(now)) => {
                    // It may have come late. Its sender knows, and sends it again.
                    self.reply(id, Err(RequestError::Forgotten { operation_id, now }));
                    return Ok(());
                }
                (since, _) => (since, since.anchor()),
            };
            let write = QueuedWrite { key, operation, condition, operation_id, since: of_record };
            let encoded = codec::encode_write(&write);
            let bytes = encoded.len();
            if self.queue.writes.len() >= WRITES_MAX || self.queue.bytes + bytes > BYTES_MAX {
                self.reply(id, Err(RequestError::Busy));
                return Ok(());
            }
            let sequence = self.queue.last + 1;
            self.keylog.remember(vec![Write::Meta(name(QUEUE_PREFIX, sequence), Some(encoded))])?;
            let waiting = Waiting { write, bytes, retry_at: self.now, since, doubt_until: self.now };
            self.queue.add(sequence, waiting);
        }
        let written = self.keylog.last_write();
        self.queue.acknowledgements.push_back((written, id, operation_id));
        self.acknowledge_queued();
        Ok(())
    }

    /// Answers those whose writes are durable.
    pub(super) fn acknowledge_queued(&mut self) {
        let durable = self.keylog.durable();
        while let Some((written, id, operation_id)) = self.queue.acknowledgements.front().copied() {
            if written > durable {
                return;
            }
            self.queue.acknowledgements.pop_front();
            self.reply(id, Ok(Reply::Queued { operation_id }));
        }
    }

    /// Submits the first write of each key, a bounded number at a time.
    pub(super) fn sweep_queue(&mut self) -> Result<(), StoreError> {
        if self.queue.writes.is_empty() || !self.is_joined() {
            return Ok(());
        }
        let now = self.now;
        let room = SUBMITTED_MAX.saturating_sub(self.queue.submitted.len());
        let firsts = self.queue.by_key.values().filter_map(|line| line.front());
        let is_due = |sequence: &&u64| {
            let waiting = self.queue.writes.get(sequence);
            !self.queue.submitted.contains(sequence) && waiting.is_some_and(|waiting| waiting.retry_at <= now)
        };
        let due: Vec<u64> = firsts.filter(is_due).take(room).copied().collect();
        for sequence in due {
            let Some(waiting) = self.queue.writes.get(&sequence) else { continue };
            let is_open = waiting.doubt_until > now;
            let (since, level) = (waiting.since, Level::Quorum);
            let QueuedWrite { key, operation, condition, operation_id, .. } = waiting.write.clone();
            let request = Request::Write { key, operation, condition, operation_id, level, since };
            self.queue.submitted.insert(sequence);
            self.coordinate_for(Asker::Queue(sequence), request, is_open)?;
        }
        Ok(())
    }

    /// How an attempt at a queued write ended.
    pub(super) fn handle_queued_result(
        &mut self,
        sequence: u64,
        result: Result<Reply, RequestError>,
    ) -> Result<(), StoreError> {
        self.queue.submitted.remove(&sequence);
        let state = match result {
            Ok(Reply::Written { height, hash, .. }) => OperationState::Applied { height, hash },
            Err(error @ RequestError::Conflict { current }) => {
                OperationState::Refused { reason: error.to_string(), current }
            }
            Err(RequestError::Forgotten { .. }) => OperationState::Forgotten,
            // It may be let in later, but nobody could tell when.
            Err(error @ (RequestError::Invalid(_) | RequestError::QuotaReached { .. })) => {
                OperationState::Refused { reason: error.to_string(), current: None }
            }
            other => {
                let now = self.now;
                let is_doubtful = matches!(other, Err(RequestError::Unknown { .. }));
                if let Some(waiting) = self.queue.writes.get_mut(&sequence) {
                    waiting.retry_at = now + RETRY_AFTER;
                    match other {
                        Err(RequestError::Unknown { since, .. }) => waiting.since = since.into(),
                        // No attempt until now will be applied: the next one is the first.
                        Err(RequestError::Lapsed { now: anchor, .. }) => {
                            waiting.since = Since::After(anchor);
                            (waiting.retry_at, waiting.doubt_until) = (now, now);
                        }
                        _ => {}
                    }
                    // The first attempt begins the doubt; those that only repeat it do not prolong it.
                    if is_doubtful && waiting.doubt_until <= now {
                        waiting.doubt_until = now + DOUBT;
                    }
                }
                return Ok(());
            }
        };
        let Some(write) = self.queue.remove(sequence) else { return Ok(()) };
        let decided = Decided { key: write.key, operation_id: write.operation_id, state, decided_at: self.wall };
        let mut writes = vec![
            Write::Meta(name(QUEUE_PREFIX, sequence), None),
            Write::Meta(name(OUTCOME_PREFIX, sequence), Some(codec::encode_decided(&decided))),
        ];
        self.queue.add_outcome(sequence, decided);
        let expired = self.queue.expire(self.wall.0);
        writes.extend(expired.into_iter().map(|sequence| Write::Meta(name(OUTCOME_PREFIX, sequence), None)));
        self.keylog.remember(writes)?;
        Ok(())
    }

    /// What this node knows of a write at level lazy.
    pub(super) fn own_outcome(&self, operation_id: &OperationId) -> Option<OperationOutcome> {
        self.queue.outcome(operation_id)
    }

    /// A client asks what became of a write at level lazy: this node may know, or any other.
    pub(super) fn find_outcome(&mut self, id: RequestId, operation_id: OperationId) {
        if let Some(outcome) = self.own_outcome(&operation_id) {
            return self.reply(id, Ok(Reply::Operation(Some(outcome))));
        }
        let hosts = self.ring.hosts().filter(|entry| is_present(entry.state) && entry.host.node != self.me);
        let hosts: Vec<NodeId> = hosts.map(|entry| entry.host.node).collect();
        let reachable: Vec<NodeId> = hosts.iter().filter(|node| !self.ring.is_suspect(node)).copied().collect();
        let search = Search {
            waiting: reachable.iter().copied().collect(),
            is_complete: reachable.len() == hosts.len(),
            deadline: self.now + self.options.attempt_timeout,
        };
        self.searches.insert(id, search);
        for node in reachable {
            let attempt = self.next_id();
            self.attempts.insert(attempt, Attempted { node, of: AttemptOf::Outcome(id) });
            let request = Request::Operation { operation_id };
            self.send(node, Message::Request { id: attempt, direct: true, request });
        }
        self.finish_search(id);
    }

    /// A node told what it knows; `None`: it does not answer.
    pub(super) fn handle_outcome_told(&mut self, id: RequestId, node: NodeId, told: Option<Outcome>) {
        let Some(search) = self.searches.get_mut(&id) else { return };
        search.waiting.remove(&node);
        match told {
            Some(Outcome::Reply(Reply::Operation(Some(outcome)))) => {
                self.searches.remove(&id);
                return self.reply(id, Ok(Reply::Operation(Some(outcome))));
            }
            Some(Outcome::Reply(Reply::Operation(None))) => {}
            _ => search.is_complete = false,
        }
        self.finish_search(id);
    }

    /// Nobody is left to ask: nobody knows, or some could not be asked.
    fn finish_search(&mut self, id: RequestId) {
        let Some(search) = self.searches.get(&id).filter(|search| search.waiting.is_empty()) else { return };
        let result = match search.is_complete {
            true => Ok(Reply::Operation(None)),
            false => Err(RequestError::NotServing("a node that may know of the operation does not answer".into())),
        };
        self.searches.remove(&id);
        self.reply(id, result);
    }

    pub(super) fn sweep_searches(&mut self) {
        let now = self.now;
        let overdue: Vec<RequestId> =
            self.searches.iter().filter(|(_, search)| search.deadline <= now).map(|(id, _)| *id).collect();
        for id in overdue {
            if let Some(search) = self.searches.get_mut(&id) {
                search.is_complete = false;
                search.waiting.clear();
            }
            self.finish_search(id);
        }
    }
}

/// Asking all nodes for the outcome of a write.
pub(crate) struct Search {
    waiting: BTreeSet<NodeId>,
    /// Whether every node has been, or is being, asked.
    is_complete: bool,
    deadline: Instant,
}

fn name(prefix: &str, sequence: u64) -> String {
    format!("{prefix}{sequence:016x}")
}

fn sequence_of(name: &str, prefix: &str) -> Result<u64, StoreError> {
    let digits = name.strip_prefix(prefix).unwrap_or_default();
    u64::from_str_radix(digits, 16).map_err(|_| StoreError::Corrupt(format!("{name} names no queued write")))
}

fn corrupt(name: &str, error: &codec::DecodeError) -> StoreError {
    StoreError::Corrupt(format!("{name}: {error}"))
}
