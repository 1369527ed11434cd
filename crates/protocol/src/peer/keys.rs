//! Coordinating requests about keys: to the leader of the key's slot, again elsewhere if it does not answer, until the
//! request's deadline. Writes carry an operation id, so that trying again applies them once.

use bytes::Bytes;
use difuse_keylog::{Anchor, Failure, Operation, Store, StoreError};
use difuse_types::{Instant, Key, Level, NodeId, SlotId, Space};

use super::{
    Peer, RequestId,
    serve::{Asked, Purpose},
};
use crate::{
    message::{Message, Outcome},
    request::{ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, PAGE_MAX, Reply, Request, RequestError, Since},
};

/// A request about a key, until it is answered.
pub(crate) struct Pending {
    pub(crate) request: Request,
    pub(crate) slot: SlotId,
    deadline: Instant,
    tries: u32,
    state: Progress,
    /// An attempt may have proposed the write: then its outcome is open.
    is_open: bool,
    /// Nobody else has sent the write.
    is_first: bool,
    /// Why the last attempt failed, for people.
    last_failure: String,
}

/// How many members are asked one after the other for a read at level lazy, before a pause.
const LAZY_TRIES_MAX: u32 = 4;
/// How many attempts follow an answer at once that says how to do better.
const EARLY_TRIES_MAX: u32 = 4;

impl Pending {
    fn is_lazy_read(&self) -> bool {
        matches!(self.request, Request::Read { level: Level::Lazy, .. })
    }

    /// What an error means, given that an earlier attempt may still be on its way.
    fn settle(&self, error: RequestError) -> RequestError {
        match &self.request {
            Request::Write { operation_id, since, .. } | Request::Command { operation_id, since, .. }
                if self.is_open =>
            {
                error.beside_open_attempt(*operation_id, *since)
            }
            _ => error,
        }
    }
}

/// For whom a request about a key is coordinated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asker {
    /// A client of this node.
    Client(RequestId),
    /// A write that waits in this node's queue.
    Queue(u64),
}

enum Progress {
    /// A node was asked.
    Asked { attempt: u64, at: Instant },
    /// The next attempt is due.
    Pausing { until: Instant },
}

/// Something that was asked of another node.
pub(crate) struct Attempted {
    pub(crate) node: NodeId,
    pub(crate) of: AttemptOf,
}

pub(crate) enum AttemptOf {
    /// A request about a key.
    Key(Asker),
    /// What became of a write at level lazy.
    Outcome(RequestId),
    /// A part of a listing.
    ListPart(RequestId),
    /// What the keys of namespaces come to in the slots that a node leads.
    Usage(RequestId),
    /// A node's status.
    Status(RequestId),
    /// Whether a node knows that this one leaves.
    Leave,
    /// What a node knows and holds of slots that may have lost their majority.
    Survey(RequestId),
    /// Whether a node enters recoveries.
    Recover(RequestId),
}

impl<S: Store> Peer<S> {
    pub(super) fn coordinate(&mut self, id: RequestId, request: Request) -> Result<(), StoreError> {
        if let Err(error) = check(&request) {
            self.reply(id, Err(error));
            return Ok(());
        }
        if let Request::Write { level: Level::Lazy, .. } = request {
            return self.queue_write(id, request);
        }
        if let Request::List { slot: None, prefix, after, limit } = &request {
            let (prefix, after, limit) = (prefix.clone(), after.clone(), *limit);
            return self.start_list(id, prefix, after, limit);
        }
        self.coordinate_for(Asker::Client(id), request, false)
    }

    /// Begins a request about one slot's keys. `is_open`: an earlier attempt may still be on its way.
    pub(super) fn coordinate_for(&mut self, id: Asker, mut request: Request, is_open: bool) -> Result<(), StoreError> {
        let slot = match &request {
            Request::Read { key, .. }
            | Request::Write { key, .. }
            | Request::Command { key, .. }
            | Request::Log { key, .. }
            | Request::Generation { key } => self.settings.slots.of_key(key),
            Request::List { slot: Some(slot), .. } | Request::Collection { slot, .. }
                if slot.0 < self.settings.slots.count() =>
            {
                *slot
            }
            _ => return self.finish(id, Err(RequestError::Invalid("there is no such slot".into()))),
        };
        let mut is_first = false;
        if let Request::Write { key, since, .. } | Request::Command { key, since, .. } = &mut request
            && *since == Since::Now
        {
            *since = self.anchor_of(slot, key).into();
            is_first = true;
        }
        let pending = Pending {
            request,
            slot,
            deadline: self.now + self.options.request_timeout,
            tries: 0,
            state: Progress::Pausing { until: self.now },
            is_open,
            is_first,
            last_failure: "no member answered".into(),
        };
        self.keys.insert(id, pending);
        self.attempt(id)
    }

    /// What a write that is first sent now comes after.
    pub(super) fn anchor_of(&self, slot: SlotId, key: &Key) -> Option<Anchor> {
        let (told, known) = (self.anchors.of(slot, key), self.keylog.known_anchor(slot));
        // One of the present term serves best: a write with a condition lapses with its leader's term.
        let is_of_later_term = |known: &Anchor| told.is_none_or(|told| told.ballot.term < known.ballot.term);
        known.filter(is_of_later_term).or(told)
    }

    /// Asks the node that most likely leads the slot.
    fn attempt(&mut self, id: Asker) -> Result<(), StoreError> {
        let Some(pending) = self.keys.get(&id) else { return Ok(()) };
        let (slot, tries, is_lazy_read) = (pending.slot, pending.tries, pending.is_lazy_read());
        self.look_up_when_lost(slot, tries);
        let nearest = if is_lazy_read { self.nearest_members(slot) } else { Vec::new() };
        let target = nearest.get(tries as usize).copied().unwrap_or_else(|| self.target(slot, tries));
        let attempt = self.next_id();
        let now = self.now;
        let Some(pending) = self.keys.get_mut(&id) else { return Ok(()) };
        pending.tries += 1;
        pending.state = Progress::Asked { attempt, at: now };
        let (slot, request) = (pending.slot, pending.request.clone());
        if target == self.me {
            self.jobs.insert(attempt, Purpose::Local(id));
            return self.submit(attempt, slot, request);
        }
        self.attempts.insert(attempt, Attempted { node: target, of: AttemptOf::Key(id) });
        self.send(target, Message::Request { id: attempt, direct: true, request });
        Ok(())
    }

    /// The members in reach of a slot, nearest first: this node, those of its zone, the others.
    fn nearest_members(&self, slot: SlotId) -> Vec<NodeId> {
        let zone_of = |node: &NodeId| self.ring.host(node).map(|entry| entry.host.zone.as_str());
        let own_zone = zone_of(&self.me);
        let members = match self.keylog.configuration(slot).filter(|known| known.contains(&self.me)) {
            Some(configuration) => configuration.all_members(),
            None => match self.known_configurations.get(&slot) {
                Some(configuration) => configuration.all_members(),
                None => self.ring.successors(slot),
            },
        };
        let mut nearest: Vec<NodeId> =
            members.into_iter().filter(|node| *node == self.me || !self.ring.is_suspect(node)).collect();
        nearest.sort_by_key(|node| (*node != self.me, zone_of(node) != own_zone));
        nearest
    }

    /// Who most likely leads a slot; with every try that failed, one who may know better.
    fn target(&self, slot: SlotId, tries: u32) -> NodeId {
        let is_member = self.keylog.configuration(slot).is_some_and(|known| known.contains(&self.me));
        let known = if is_member { self.keylog.leader(slot) } else { self.known_leaders.get(&slot).copied() };
        let known = known.filter(|known| *known == self.me || !self.ring.is_suspect(known));
        match known {
            Some(known) if tries % 3 != 2 => known,
            // Every third try asks around, in case that what is known is wrong.
            Some(_) => self.guess(slot, tries / 3).unwrap_or(self.me),
            None => self.guess(slot, tries).unwrap_or(self.me),
        }
    }

    /// Tries the requests about a slot that pause again: somebody was found to ask.
    pub(super) fn resume_keys(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let is_pausing = |pending: &Pending| matches!(pending.state, Progress::Pausing { .. });
        let waiting = self.keys.iter().filter(|(_, pending)| pending.slot == slot && is_pausing(pending));
        let waiting: Vec<Asker> = waiting.map(|(id, _)| *id).collect();
        for id in waiting {
            self.attempt(id)?;
        }
        Ok(())
    }

    pub(super) fn handle_response(&mut self, from: NodeId, id: u64, outcome: Outcome) -> Result<(), StoreError> {
        if self.attempts.get(&id).is_none_or(|attempted| attempted.node != from) {
            return Ok(());
        }
        let Some(attempted) = self.attempts.remove(&id) else { return Ok(()) };
        match attempted.of {
            AttemptOf::Key(request) => self.handle_outcome(request, id, from, outcome),
            AttemptOf::ListPart(request) => {
                self.handle_list_part(request, from, outcome);
                Ok(())
            }
            AttemptOf::Usage(request) => {
                self.handle_usage_led(request, from, outcome);
                Ok(())
            }
            AttemptOf::Outcome(request) => {
                self.handle_outcome_told(request, from, Some(outcome));
                Ok(())
            }
            AttemptOf::Status(request) => {
                self.handle_node_status(request, from, outcome);
                Ok(())
            }
            AttemptOf::Leave => {
                self.handle_leave_known(from, outcome);
                Ok(())
            }
            AttemptOf::Survey(request) => self.handle_survey(request, from, outcome),
            AttemptOf::Recover(request) => {
                self.handle_recoveries_entered(request, from, outcome);
                Ok(())
            }
        }
    }

    /// How one attempt went.
    pub(super) fn handle_outcome(
        &mut self,
        id: Asker,
        attempt: u64,
        from: NodeId,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        let now = self.now;
        let Some(pending) = self.keys.get_mut(&id) else { return Ok(()) };
        if !matches!(pending.state, Progress::Asked { attempt: current, .. } if current == attempt) {
            return Ok(());
        }
        match outcome {
            Outcome::Reply(reply) => {
                self.anchors.note_reply(pending.slot, &pending.request, &reply);
                self.finish(id, Ok(reply))?;
            }
            Outcome::Error(error @ RequestError::Forgotten { now, .. }) => {
                let is_unapplied = !pending.is_open;
                return self.handle_turned_away(id, error, now, is_unapplied);
            }
            Outcome::Error(error @ RequestError::Lapsed { now, .. }) => {
                return self.handle_turned_away(id, error, now, true);
            }
            Outcome::Error(error) if error.is_transient() => {
                pending.is_open |= matches!(error, RequestError::Unknown { .. });
                pending.last_failure = describe(&error);
                self.pause(id);
            }
            Outcome::Error(error) => {
                let error = pending.settle(error);
                self.finish(id, Err(error))?;
            }
            Outcome::Redirect { slot, leader, .. } => {
                pending.last_failure = "no member leads the slot".into();
                // A member that cannot tell what is committed sends a lazy read on to the next one.
                let is_to_next = pending.is_lazy_read() && pending.tries <= LAZY_TRIES_MAX;
                let is_news =
                    is_to_next || (leader.is_some_and(|leader| leader != from) && pending.tries < EARLY_TRIES_MAX);
                if is_news {
                    pending.state = Progress::Pausing { until: now };
                }
                match leader {
                    Some(leader) => self.known_leaders.insert(slot, leader),
                    None => drop(self.known_leaders.remove(&slot)),
                }
                if is_news {
                    return self.attempt(id);
                }
                self.pause(id);
            }
        }
        Ok(())
    }

    /// The leader has not applied the write, and says what the present is. Who is the only one that sends it, and knows that
    /// no attempt was applied nor will be (`is_unapplied`), sends it again with that; else it is for the sender to do so,
    /// who may have asked somebody else by now.
    fn handle_turned_away(
        &mut self,
        id: Asker,
        error: RequestError,
        now: Anchor,
        is_unapplied: bool,
    ) -> Result<(), StoreError> {
        let Some(pending) = self.keys.get_mut(&id) else { return Ok(()) };
        let begins_anew = pending.is_first && is_unapplied;
        if let Request::Write { key, since, .. } | Request::Command { key, since, .. } = &mut pending.request {
            self.anchors.note(pending.slot, key, now);
            if begins_anew {
                *since = Since::After(now);
            }
        }
        if !begins_anew {
            return self.finish(id, Err(error));
        }
        pending.is_open = false;
        pending.last_failure = match error {
            RequestError::Lapsed { .. } => "the slot's leader changes too often".into(),
            _ => "the key is written too often".into(),
        };
        if pending.tries < EARLY_TRIES_MAX {
            return self.attempt(id);
        }
        self.pause(id);
        Ok(())
    }

    fn pause(&mut self, id: Asker) {
        let jitter = self.rng.u32(500..1000);
        let Some(pending) = self.keys.get_mut(&id) else { return };
        let pause = super::retry_pause(pending.tries, jitter);
        pending.state = Progress::Pausing { until: self.now + pause };
    }

    /// A node is gone or suspect: what was asked of it is asked elsewhere.
    pub(super) fn retry_attempts_at(&mut self, node: NodeId) -> Result<(), StoreError> {
        let lost: Vec<u64> =
            self.attempts.iter().filter(|(_, attempted)| attempted.node == node).map(|(id, _)| *id).collect();
        for attempt in lost {
            let Some(attempted) = self.attempts.remove(&attempt) else { continue };
            match attempted.of {
                AttemptOf::Key(request) => self.lose_attempt(request, attempt),
                AttemptOf::ListPart(request) => self.retry_list(request),
                AttemptOf::Usage(request) => self.retry_usage(request),
                AttemptOf::Status(request) => self.lose_status(request),
                AttemptOf::Outcome(request) => self.handle_outcome_told(request, node, None),
                // Those that do not answer in time are done without.
                AttemptOf::Leave | AttemptOf::Survey(_) | AttemptOf::Recover(_) => {}
            }
        }
        self.retry_block_questions(node)
    }

    fn lose_attempt(&mut self, id: Asker, attempt: u64) {
        self.attempts.remove(&attempt);
        self.jobs.remove(&attempt);
        let Some(pending) = self.keys.get_mut(&id) else { return };
        if matches!(pending.state, Progress::Asked { attempt: current, .. } if current == attempt) {
            pending.is_open = true;
            pending.last_failure = "the node asked did not answer".into();
            let slot = pending.slot;
            self.known_leaders.remove(&slot);
            self.pause(id);
        }
    }

    pub(super) fn sweep_keys(&mut self) -> Result<(), StoreError> {
        let now = self.now;
        let patience = self.options.attempt_timeout;
        let overdue: Vec<Asker> =
            self.keys.iter().filter(|(_, pending)| pending.deadline <= now).map(|(id, _)| *id).collect();
        for id in overdue {
            self.give_up(id)?;
        }
        let mut lost = Vec::new();
        let mut due = Vec::new();
        for (id, pending) in &self.keys {
            match pending.state {
                Progress::Asked { attempt, at } if now.since(at) >= patience => lost.push((*id, attempt)),
                Progress::Pausing { until } if until <= now => due.push(*id),
                _ => {}
            }
        }
        for (id, attempt) in lost {
            self.lose_attempt(id, attempt);
        }
        for id in due {
            self.attempt(id)?;
        }
        self.sweep_lists()
    }

    /// The deadline has passed: say what is known of the outcome.
    fn give_up(&mut self, id: Asker) -> Result<(), StoreError> {
        let Some(pending) = self.keys.get(&id) else { return Ok(()) };
        let was_asked = matches!(pending.state, Progress::Asked { .. });
        let error = match &pending.request {
            Request::Write { operation_id, since, .. } | Request::Command { operation_id, since, .. }
                if pending.is_open || was_asked =>
            {
                RequestError::Unknown { operation_id: *operation_id, since: since.anchor() }
            }
            _ => RequestError::Unavailable { slot: pending.slot, reason: pending.last_failure.clone() },
        };
        self.finish(id, Err(error))
    }

    fn finish(&mut self, id: Asker, result: Result<Reply, RequestError>) -> Result<(), StoreError> {
        if let Some(pending) = self.keys.remove(&id)
            && let Progress::Asked { attempt, .. } = pending.state
        {
            self.attempts.remove(&attempt);
            self.jobs.remove(&attempt);
        }
        match id {
            Asker::Client(id) => {
                self.reply(id, result);
                Ok(())
            }
            Asker::Queue(sequence) => self.handle_queued_result(sequence, result),
        }
    }
}

/// What can be refused without asking anyone.
fn check(request: &Request) -> Result<(), RequestError> {
    match request {
        Request::Write { key, .. } if !key.is_written_by_users() => {
            Err(RequestError::Invalid("what the ring keeps about itself is not written from outside".into()))
        }
        Request::Write { operation, .. } if !operation.is_well_formed() => {
            Err(RequestError::Invalid("the value is too large for a transaction: store it as blocks".into()))
        }
        Request::Write { operation: Operation::Set(value), .. } if value.kind.is_structure() => {
            Err(RequestError::Invalid("what a structure holds changes by its commands alone".into()))
        }
        Request::Command { key, .. } if key.space() == Space::Ring && key.steps_of().is_none() => {
            Err(RequestError::Invalid("what the ring keeps about itself is not written from outside".into()))
        }
        Request::Command { arguments, .. } => check_arguments(arguments),
        Request::Log { from_height: 0, .. } => Err(RequestError::Invalid("heights begin at 1".into())),
        Request::Log { limit, .. } | Request::List { limit, .. } if !(1..=PAGE_MAX).contains(limit) => {
            Err(RequestError::Invalid(format!("the limit must be between 1 and {PAGE_MAX}")))
        }
        _ => Ok(()),
    }
}

fn check_arguments(arguments: &[Bytes]) -> Result<(), RequestError> {
    let bytes: usize = arguments.iter().map(Bytes::len).sum();
    if arguments.len() > ARGUMENTS_MAX || bytes > ARGUMENT_BYTES_MAX {
        return Err(RequestError::Invalid(format!(
            "the command has {} arguments of {bytes} bytes in all: {ARGUMENTS_MAX} of {ARGUMENT_BYTES_MAX} are allowed",
            arguments.len()
        )));
    }
    Ok(())
}

fn describe(error: &RequestError) -> String {
    match error {
        RequestError::Unavailable { reason, .. } => reason.clone(),
        other => other.to_string(),
    }
}

/// What a leader's failure means to whoever coordinates the request.
pub(super) fn outcome_of_failure(slot: SlotId, asked: &Asked, failure: Failure) -> Outcome {
    match (failure, asked) {
        (Failure::Redirect { was_proposed: true, .. }, Asked::Append { operation_id, since }) => {
            Outcome::Error(RequestError::Unknown { operation_id: *operation_id, since: since.anchor() })
        }
        (Failure::Forgotten { now }, Asked::Append { operation_id, .. }) => {
            Outcome::Error(RequestError::Forgotten { operation_id: *operation_id, now })
        }
        (Failure::Lapsed { now }, Asked::Append { operation_id, .. }) => {
            Outcome::Error(RequestError::Lapsed { operation_id: *operation_id, now })
        }
        // Only a write fails so.
        (Failure::Forgotten { .. } | Failure::Lapsed { .. }, _) => Outcome::Error(RequestError::Busy),
        (Failure::Redirect { leader, .. }, _) => Outcome::Redirect { slot, configuration: None, leader },
        (Failure::NoQuorum, _) => {
            let reason = "too few of its members are reachable to decide anything".into();
            Outcome::Error(RequestError::Unavailable { slot, reason })
        }
        (Failure::NotAll { silent, differing, applied }, _) => {
            let (is_applied, written) = (applied.is_some(), applied);
            Outcome::Error(RequestError::NotAll { slot, silent, differing, is_applied, written })
        }
        (Failure::Damaged, _) => {
            let reason = "a transaction is damaged on the leader, which is fetching it from another member".into();
            Outcome::Error(RequestError::Unavailable { slot, reason })
        }
        (Failure::TooOld { generation }, _) => Outcome::Error(RequestError::UploadTooOld { generation }),
        (Failure::Full(reason), _) => Outcome::Error(RequestError::Full { reason }),
        (Failure::InBlocks, _) => Outcome::Error(RequestError::InBlocks),
        (Failure::Invalid(reason), _) => Outcome::Error(RequestError::Invalid(reason)),
        (Failure::Busy, _) => Outcome::Error(RequestError::Busy),
    }
}
