//! What to do after each attempt of one request. Pure: time and randomness are passed in.

use std::time::Duration;

use difuse_api::request::{Condition, Reply, Request, RequestError};
use difuse_protocol::message::Outcome;
use difuse_types::{NodeId, OperationId, SlotId};

use crate::exchange::ExchangeError;

const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
const BACK_OFF_LONGEST: Duration = Duration::from_millis(500);

/// The history of one request's attempts.
pub(crate) struct Attempts {
    slot: SlotId,
    /// Of a write: its name, and what it depends on.
    write: Option<(OperationId, Condition)>,
    /// Nodes that failed since the last pause.
    tried: Vec<NodeId>,
    /// A leader that a node named in a redirect.
    hint: Option<NodeId>,
    /// Whether an attempt may have been applied although its answer was lost.
    is_outcome_unknown: bool,
    last_error: Option<RequestError>,
    back_off: Duration,
}

/// What follows an attempt.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// The request is done.
    Done(Box<Result<Reply, RequestError>>),
    /// Another node may do better at once.
    TryAnother,
    /// Wait a little first.
    Pause,
}

impl Attempts {
    /// A request that has not been tried; `slot` is where it belongs (0 when it belongs to none).
    pub(crate) fn new(request: &Request, slot: Option<SlotId>) -> Self {
        let write = match request {
            Request::Write { operation_id, condition, .. } => Some((*operation_id, *condition)),
            Request::Command { operation_id, .. } => Some((*operation_id, Condition::None)),
            _ => None,
        };
        Self {
            slot: slot.unwrap_or_default(),
            write,
            tried: Vec::new(),
            hint: None,
            is_outcome_unknown: false,
            last_error: None,
            back_off: BACK_OFF_FIRST,
        }
    }

    /// Nodes not to ask before the next pause.
    pub(crate) fn tried(&self) -> &[NodeId] {
        &self.tried
    }

    /// The leader named by the last redirect, once.
    pub(crate) fn take_hint(&mut self) -> Option<NodeId> {
        self.hint.take()
    }

    /// Takes note of how an attempt at `node` went.
    pub(crate) fn handle_outcome(&mut self, node: NodeId, outcome: Result<Outcome, ExchangeError>) -> Verdict {
        self.tried.push(node);
        match outcome {
            Ok(Outcome::Reply(reply)) => Verdict::Done(Box::new(match self.write {
                Some((operation_id, _)) if self.is_outcome_unknown => reply.beside_open_attempt(operation_id),
                _ => Ok(reply),
            })),
            Ok(Outcome::Error(error)) => self.handle_error(error),
            Ok(Outcome::Redirect { leader, .. }) => {
                self.hint = leader.filter(|leader| !self.tried.contains(leader));
                self.unavailable("the slot's leader is changing");
                if self.hint.is_some() { Verdict::TryAnother } else { Verdict::Pause }
            }
            Err(error) => {
                self.is_outcome_unknown |= !matches!(error, ExchangeError::NotSent(_));
                self.unavailable(&format!("node {}: {error}", node.short()));
                Verdict::TryAnother
            }
        }
    }

    /// Takes note that there was no node to ask.
    pub(crate) fn handle_nobody(&mut self) {
        if self.tried.is_empty() {
            self.unavailable("no node can be reached");
        }
    }

    fn handle_error(&mut self, error: RequestError) -> Verdict {
        let is_open = matches!(error, RequestError::Unknown { .. });
        let error = match self.write {
            Some((operation_id, condition)) if self.is_outcome_unknown => {
                error.beside_open_attempt(operation_id, condition)
            }
            _ => error,
        };
        let has_become_open = !is_open && matches!(error, RequestError::Unknown { .. });
        if has_become_open || !error.is_transient() {
            return Verdict::Done(Box::new(Err(error)));
        }
        self.is_outcome_unknown |= matches!(error, RequestError::Unknown { .. });
        let is_of_this_node = matches!(error, RequestError::NotServing(_) | RequestError::Busy);
        self.last_error = Some(error);
        if is_of_this_node { Verdict::TryAnother } else { Verdict::Pause }
    }

    fn unavailable(&mut self, reason: &str) {
        self.last_error = Some(RequestError::Unavailable { slot: self.slot, reason: reason.into() });
    }

    /// How long to wait before the next round; `random` is uniform. Every node may be asked again after it.
    pub(crate) fn pause(&mut self, random: u64) -> Duration {
        self.tried.clear();
        let half = self.back_off / 2;
        let jitter_ns = random % (half.as_nanos() as u64).max(1);
        self.back_off = (self.back_off * 2).min(BACK_OFF_LONGEST);
        half + Duration::from_nanos(jitter_ns)
    }

    /// The error to report when time is up: a write that may have been applied is unknown, never merely failed.
    pub(crate) fn into_error(self) -> RequestError {
        match (self.write, self.is_outcome_unknown, self.last_error) {
            (Some((operation_id, _)), true, _) => RequestError::Unknown { operation_id },
            (_, _, Some(error)) => error,
            (_, _, None) => RequestError::Busy,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_api::request::{Condition, Reply, Request, RequestError};
    use difuse_keylog::{Operation, Value};
    use difuse_protocol::message::Outcome;
    use difuse_types::{Hash, Key, Level, NodeId, OperationId, SlotId};

    use super::{Attempts, BACK_OFF_LONGEST, Verdict};
    use crate::exchange::ExchangeError;

    const OPERATION: OperationId = OperationId([9; 16]);

    fn write() -> Attempts {
        write_if(Condition::None)
    }

    fn write_if(condition: Condition) -> Attempts {
        let value = Value::inline(Bytes::from_static(b"v"));
        let request = Request::Write {
            key: Key::new(b"k").unwrap(),
            operation: Operation::Set(value),
            condition,
            operation_id: OPERATION,
            level: Level::Quorum,
        };
        Attempts::new(&request, Some(SlotId(3)))
    }

    fn read() -> Attempts {
        Attempts::new(
            &Request::Read { key: Key::new(b"k").unwrap(), level: Level::Quorum, seen: None },
            Some(SlotId(3)),
        )
    }

    fn node(name: u8) -> NodeId {
        NodeId([name; 32])
    }

    fn unavailable() -> RequestError {
        RequestError::Unavailable { slot: SlotId(3), reason: "no majority".into() }
    }

    #[test]
    fn final_answers_end_the_request() {
        let done = Outcome::Reply(Reply::Done);
        assert_eq!(read().handle_outcome(node(1), Ok(done)), Verdict::Done(Box::new(Ok(Reply::Done))));
        let conflict = RequestError::Conflict { current: None };
        let verdict = write().handle_outcome(node(1), Ok(Outcome::Error(conflict.clone())));
        assert_eq!(verdict, Verdict::Done(Box::new(Err(conflict))));
    }

    #[test]
    fn a_lost_answer_makes_a_write_unknown_even_if_later_attempts_changed_nothing() {
        for lost in [ExchangeError::TimedOut, ExchangeError::Disconnected] {
            let mut attempts = write();
            assert_eq!(attempts.handle_outcome(node(1), Err(lost)), Verdict::TryAnother);
            assert_eq!(attempts.handle_outcome(node(2), Ok(Outcome::Error(unavailable()))), Verdict::Pause);
            assert_eq!(attempts.into_error(), RequestError::Unknown { operation_id: OPERATION });
        }
    }

    /// The lost attempt may arrive when the key has come to be as it wants; but a head never comes back.
    #[test]
    fn a_refusal_beside_a_lost_attempt_is_final_only_if_the_condition_cannot_come_true_again() {
        let conflict = RequestError::Conflict { current: None };
        let unknown = RequestError::Unknown { operation_id: OPERATION };
        let check = |condition, expected: &RequestError| {
            let mut attempts = write_if(condition);
            attempts.handle_outcome(node(1), Err(ExchangeError::Disconnected));
            let verdict = attempts.handle_outcome(node(2), Ok(Outcome::Error(conflict.clone())));
            assert_eq!(verdict, Verdict::Done(Box::new(Err(expected.clone()))), "{condition:?}");
        };
        check(Condition::Absent, &unknown);
        check(Condition::Present, &unknown);
        check(Condition::Head(Hash::of(b"head")), &conflict);
    }

    #[test]
    fn a_write_that_was_never_sent_and_a_lost_read_are_unavailable() {
        let mut never_sent = write();
        never_sent.handle_outcome(node(1), Err(ExchangeError::NotSent("full".into())));
        assert!(matches!(never_sent.into_error(), RequestError::Unavailable { slot: SlotId(3), .. }));
        let mut lost_read = read();
        lost_read.handle_outcome(node(1), Err(ExchangeError::TimedOut));
        assert!(matches!(lost_read.into_error(), RequestError::Unavailable { slot: SlotId(3), .. }));
    }

    #[test]
    fn a_redirect_is_followed_once_and_never_to_a_node_just_tried() {
        let redirect = |leader| Ok(Outcome::Redirect { slot: SlotId(3), configuration: None, leader });
        let mut attempts = read();
        assert_eq!(attempts.handle_outcome(node(1), redirect(Some(node(2)))), Verdict::TryAnother);
        assert_eq!(attempts.take_hint(), Some(node(2)));
        assert_eq!(attempts.take_hint(), None);
        assert_eq!(attempts.handle_outcome(node(2), redirect(Some(node(1)))), Verdict::Pause);
        assert_eq!(attempts.take_hint(), None);
    }

    #[test]
    fn pauses_grow_to_a_bound_and_let_every_node_be_asked_again() {
        let mut attempts = read();
        attempts.handle_outcome(node(1), Err(ExchangeError::Disconnected));
        assert_eq!(attempts.tried(), [node(1)]);
        let pauses: Vec<_> = (0..12).map(|round| attempts.pause(round * 7_777_777)).collect();
        assert!(attempts.tried().is_empty());
        assert!(pauses[0] < pauses[11] && pauses.iter().all(|pause| *pause <= BACK_OFF_LONGEST), "{pauses:?}");
    }
}
