//! Serving requests as the leader of a slot: for clients of this node, and for nodes that coordinate for theirs.

use difuse_keylog::{
    Answer, CommittedHead, Failure, Invocation, Job, Operation, Store, StoreError, Submission, Ticket, Transaction,
};
use difuse_types::{Hash, Level, NodeId, OperationId, SlotId, WallTime};

use super::{
    Peer,
    collection::generation_of,
    keys::{Asker, outcome_of_failure},
};
use crate::{
    message::{Message, Outcome},
    request::{CollectionStep, Entry, ListEntry, Reading, Reply, Request, RequestError, Since},
};

/// The most requests of other nodes that wait here.
const SERVED_MAX: usize = 65_536;

/// Whom a job of the key logs is for.
pub(crate) enum Purpose {
    /// A request that this node coordinates.
    Local(Asker),
    /// A request that another node coordinates, or a client that came straight to the leader.
    Remote { from: NodeId, id: u64, slot: SlotId, asked: Asked },
    /// One slot of a listing of all slots that this node leads.
    ListPart { list: u64, slot: SlotId },
}

/// As much of a request as its answer depends on besides the job's result.
pub(crate) enum Asked {
    /// A write or a command.
    Append { operation_id: OperationId, since: Since },
    /// A step of a collection.
    Step(Box<Request>),
    /// Something else that changes nothing.
    Read,
}

impl Asked {
    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::Write { operation_id, since, .. } | Request::Command { operation_id, since, .. } => {
                Self::Append { operation_id: *operation_id, since: *since }
            }
            Request::Generation { .. } | Request::Collection { .. } => Self::Step(Box::new(request.clone())),
            _ => Self::Read,
        }
    }
}

impl<S: Store> Peer<S> {
    /// Another node asks this one as the leader.
    pub(super) fn serve(&mut self, from: NodeId, id: u64, request: Request) -> Result<(), StoreError> {
        if self.jobs.len() >= SERVED_MAX {
            self.send(from, Message::Response { id, outcome: Outcome::Error(RequestError::Busy) });
            return Ok(());
        }
        match request {
            Request::Status => {
                let outcome = Outcome::Reply(Reply::Status(self.status()?));
                self.send(from, Message::Response { id, outcome });
                Ok(())
            }
            Request::Routes => {
                let outcome = Outcome::Reply(Reply::Routes(Box::new(self.routes())));
                self.send(from, Message::Response { id, outcome });
                Ok(())
            }
            Request::Operation { operation_id } => {
                let outcome = Outcome::Reply(Reply::Operation(self.own_outcome(&operation_id)));
                self.send(from, Message::Response { id, outcome });
                Ok(())
            }
            Request::Survey { first } => {
                let outcome = Outcome::Reply(Reply::Survey(self.survey(first)?));
                self.send(from, Message::Response { id, outcome });
                Ok(())
            }
            Request::BeginEpochs { recoveries } => {
                let slots = self.enter_recoveries(recoveries)?;
                self.send(from, Message::Response { id, outcome: Outcome::Reply(Reply::EpochsBegun { slots }) });
                Ok(())
            }
            Request::UsageLed { from: first, limit } => {
                let outcome = Outcome::Reply(self.usage_led(&first, limit)?);
                self.send(from, Message::Response { id, outcome });
                Ok(())
            }
            Request::ListLed { prefix, after, limit } => self.list_led(from, id, prefix, after, limit),
            request => match self.slot_of(&request) {
                Some(slot) => {
                    let ticket = self.next_id();
                    self.jobs.insert(ticket, Purpose::Remote { from, id, slot, asked: Asked::of(&request) });
                    self.submit(ticket, slot, request)
                }
                None => {
                    let error = RequestError::Invalid("this request is not one that a leader serves".into());
                    self.send(from, Message::Response { id, outcome: Outcome::Error(error) });
                    Ok(())
                }
            },
        }
    }

    fn slot_of(&self, request: &Request) -> Option<SlotId> {
        match request {
            Request::Read { key, .. }
            | Request::Write { key, .. }
            | Request::Command { key, .. }
            | Request::Log { key, .. }
            | Request::Generation { key } => Some(self.settings.slots.of_key(key)),
            Request::List { slot, .. } => slot.filter(|slot| slot.0 < self.settings.slots.count()),
            Request::Collection { slot, .. } => Some(*slot).filter(|slot| slot.0 < self.settings.slots.count()),
            _ => None,
        }
    }

    /// Hands a request about a slot to the key logs.
    pub(super) fn submit(&mut self, ticket: Ticket, slot: SlotId, request: Request) -> Result<(), StoreError> {
        if let Some(refusal) = self.quota_refusal(slot, &request)? {
            return self.end_job(ticket, Outcome::Error(refusal));
        }
        match request {
            Request::Read { key, level, seen } => {
                if level == Level::Lazy
                    && let Some(head) = self.keylog.read_lazily(slot, &key, seen)?
                {
                    return self.handle_job_done(ticket, Ok(Answer::Head(Box::new(head))));
                }
                self.keylog.submit(ticket, slot, key, Job::Read { level, seen })
            }
            Request::Log { key, from_height, limit } => {
                self.keylog.submit(ticket, slot, key, Job::Log { from_height, limit })
            }
            Request::Write { key, operation, condition, operation_id, level, since } => {
                let (author, time) = (self.me, self.wall);
                let (generation, since) = (generation_of(&operation), since.anchor());
                let submission =
                    Submission { operation, condition, operation_id, author, time, level, generation, since };
                self.keylog.submit(ticket, slot, key, Job::Append(submission))
            }
            Request::Command { key, arguments, operation_id, level, since } => {
                let (author, time) = (self.me, self.wall);
                let invocation = Invocation { arguments, operation_id, author, time, level, since: since.anchor() };
                self.keylog.submit(ticket, slot, key, Job::Evaluate(invocation))
            }
            Request::List { prefix, after, limit, .. } => {
                self.keylog.submit_range(ticket, slot, prefix, after, limit as usize)
            }
            Request::Generation { .. } => self.take_collection_step(ticket, slot, CollectionStep::Look),
            Request::Collection { step, .. } => self.take_collection_step(ticket, slot, step),
            _ => Ok(()),
        }
    }

    /// Answers whoever a job is for, without the key logs.
    pub(super) fn end_job(&mut self, ticket: Ticket, outcome: Outcome) -> Result<(), StoreError> {
        match self.jobs.remove(&ticket) {
            Some(Purpose::Local(request)) => self.handle_outcome(request, ticket, self.me, outcome),
            Some(Purpose::Remote { from, id, .. }) => {
                self.send(from, Message::Response { id, outcome });
                Ok(())
            }
            Some(Purpose::ListPart { .. }) | None => Ok(()),
        }
    }

    pub(super) fn handle_job_done(
        &mut self,
        ticket: Ticket,
        result: Result<Answer, Failure>,
    ) -> Result<(), StoreError> {
        match self.jobs.remove(&ticket) {
            Some(Purpose::Local(request)) => {
                let Some(pending) = self.keys.get(&request) else { return Ok(()) };
                let (slot, asked) = (pending.slot, Asked::of(&pending.request));
                let outcome = self.outcome_of(slot, &asked, result)?;
                self.handle_outcome(request, ticket, self.me, outcome)
            }
            Some(Purpose::Remote { from, id, slot, asked }) => {
                let outcome = self.outcome_of(slot, &asked, result)?;
                self.send(from, Message::Response { id, outcome });
                Ok(())
            }
            Some(Purpose::ListPart { list, slot }) => {
                self.handle_led_slot(list, slot, result);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn outcome_of(
        &mut self,
        slot: SlotId,
        asked: &Asked,
        result: Result<Answer, Failure>,
    ) -> Result<Outcome, StoreError> {
        match (asked, &result) {
            (Asked::Step(request), Ok(_)) => self.generation_outcome(slot, request),
            _ => Ok(outcome_of(slot, asked, result, self.wall)),
        }
    }
}

/// What a job came to, as a client sees it at a time: what has expired by then has no value.
fn outcome_of(slot: SlotId, asked: &Asked, result: Result<Answer, Failure>, now: WallTime) -> Outcome {
    let reply = match result {
        Err(failure) => return outcome_of_failure(slot, asked, failure),
        Ok(Answer::Conflict(current)) => return Outcome::Error(RequestError::Conflict { current }),
        Ok(Answer::Pruned(checkpoint)) => return Outcome::Error(RequestError::Pruned(checkpoint)),
        Ok(Answer::Head(read)) => {
            let CommittedHead { head, is_linearizable, mark } = *read;
            let entry = head.map(|(hash, transaction)| entry_of(hash, transaction, now));
            Reply::Entry(Reading { entry, is_linearizable, mark })
        }
        Ok(Answer::Appended { height, hash, created, mark }) => Reply::Written { height, hash, created, mark },
        Ok(Answer::Evaluated { reply, is_write, appended, mark }) => Reply::Command { reply, is_write, appended, mark },
        Ok(Answer::Log { transactions, head_height }) => Reply::Log { transactions, head_height },
        Ok(Answer::Range { heads, next }) => Reply::List { entries: entries_of(heads, now), next },
    };
    Outcome::Reply(reply)
}

fn entry_of(hash: Hash, transaction: Transaction, now: WallTime) -> Entry {
    let Transaction { height, time, author, operation, .. } = transaction;
    let value = match operation {
        Operation::Set(value) => Some(value).filter(|value| !value.has_expired(now)),
        Operation::Delete => None,
    };
    Entry { height, hash, time, author, value }
}

pub(super) fn entries_of(heads: Vec<(Hash, Transaction)>, now: WallTime) -> Vec<ListEntry> {
    let entry = |(hash, transaction): (Hash, Transaction)| ListEntry {
        key: transaction.key.clone(),
        entry: entry_of(hash, transaction, now),
    };
    heads.into_iter().map(entry).filter(|listed| listed.entry.value.is_some()).collect()
}
