//! What to do after each attempt of one request. Pure: time and randomness are passed in.

use std::time::Duration;

use difuse_api::request::{Anchor, Reply, Request, RequestError, Since};
use difuse_protocol::message::Outcome;
use difuse_types::{NodeId, OperationId, SlotId};

use crate::exchange::ExchangeError;

const BACK_OFF_FIRST: Duration = Duration::from_millis(10);
const BACK_OFF_LONGEST: Duration = Duration::from_millis(500);

/// The history of one request's attempts.
pub(crate) struct Attempts {
    slot: SlotId,
    /// Of a write: its name.
    write: Option<OperationId>,
    /// Nodes that failed since the last pause.
    tried: Vec<NodeId>,
    /// A leader that a node named in a redirect.
    hint: Option<NodeId>,
    /// Whether an attempt may have been applied although its answer was lost.
    is_outcome_unknown: bool,
    /// Of a write: since when it may have been sent.
    since: Since,
    /// Nobody has sent it before this request.
    is_first: bool,
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
    /// `anchor` is what a write that is sent for the first time comes after, if that is known.
    pub(crate) fn new(request: &Request, slot: Option<SlotId>, anchor: Option<Anchor>) -> Self {
        let (write, given) = match request {
            Request::Write { operation_id, since, .. } | Request::Command { operation_id, since, .. } => {
                (Some(*operation_id), *since)
            }
            _ => (None, Since::Unknown),
        };
        let is_first = given == Since::Now;
        Self {
            slot: slot.unwrap_or_default(),
            write,
            tried: Vec::new(),
            hint: None,
            is_outcome_unknown: false,
            since: if is_first { anchor.into() } else { given },
            is_first,
            last_error: None,
            back_off: BACK_OFF_FIRST,
        }
    }

    /// Since when the request, if it is a write, may have been sent, to be sent along with the next attempt.
    pub(crate) fn since(&self) -> Since {
        match self.since {
            Since::Unknown if self.is_first && !self.is_outcome_unknown => Since::Unsent,
            since => since,
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
            Ok(Outcome::Reply(reply)) => Verdict::Done(Box::new(Ok(reply))),
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
        let told = match error {
            RequestError::Forgotten { now, .. } if self.is_first && !self.is_outcome_unknown => Some(now),
            RequestError::Lapsed { now, .. } => Some(now),
            _ => None,
        };
        if let Some(now) = told {
            // It was never applied, nor will be what was sent until now: the same node again, with what it said.
            self.since = Since::After(now);
            self.is_outcome_unknown = false;
            self.tried.pop();
            self.last_error = Some(error);
            return Verdict::TryAnother;
        }
        let is_open = matches!(error, RequestError::Unknown { .. });
        let error = match self.write {
            Some(operation_id) if self.is_outcome_unknown => error.beside_open_attempt(operation_id, self.since),
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
            (Some(operation_id), true, _) => RequestError::Unknown { operation_id, since: self.since.anchor() },
            // Nothing of it was applied, it was merely never in time.
            (_, _, Some(RequestError::Forgotten { .. } | RequestError::Lapsed { .. })) => RequestError::Busy,
            (_, _, Some(error)) => error,
            (_, _, None) => RequestError::Busy,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_api::request::{Anchor, Condition, Reply, Request, RequestError, Since};
    use difuse_keylog::{Ballot, Operation, Term, Value};
    use difuse_protocol::message::Outcome;
    use difuse_types::{Hash, Key, Level, NodeId, OperationId, SlotId};

    use super::{Attempts, BACK_OFF_LONGEST, Verdict};
    use crate::exchange::ExchangeError;

    const OPERATION: OperationId = OperationId([9; 16]);

    fn write() -> Attempts {
        write_if(Condition::None)
    }

    fn write_if(condition: Condition) -> Attempts {
        write_since(condition, Since::Now)
    }

    fn write_since(condition: Condition, since: Since) -> Attempts {
        let value = Value::inline(Bytes::from_static(b"v"));
        let request = Request::Write {
            key: Key::new(b"k").unwrap(),
            operation: Operation::Set(value),
            condition,
            operation_id: OPERATION,
            level: Level::Quorum,
            since,
        };
        Attempts::new(&request, Some(SlotId(3)), None)
    }

    fn read() -> Attempts {
        Attempts::new(
            &Request::Read { key: Key::new(b"k").unwrap(), level: Level::Quorum, seen: None },
            Some(SlotId(3)),
            None,
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
            assert_eq!(attempts.into_error(), RequestError::Unknown { operation_id: OPERATION, since: None });
        }
    }

    /// Leaders see to it that the lost attempt is not applied later.
    #[test]
    fn a_refusal_is_final_beside_a_lost_attempt() {
        let conflict = RequestError::Conflict { current: None };
        for condition in [Condition::Absent, Condition::Present, Condition::Head(Hash::of(b"head"))] {
            let mut attempts = write_if(condition);
            attempts.handle_outcome(node(1), Err(ExchangeError::Disconnected));
            let verdict = attempts.handle_outcome(node(2), Ok(Outcome::Error(conflict.clone())));
            assert_eq!(verdict, Verdict::Done(Box::new(Err(conflict.clone()))), "{condition:?}");
        }
    }

    /// Nothing that was sent until then is applied: even a repeated write goes on, as if it were sent for the first time.
    #[test]
    fn an_attempt_that_lapsed_is_sent_again_with_what_the_leader_said() {
        let now = Anchor { ballot: Ballot { term: Term::start_of(2), sequence: 3 }, height: 7 };
        let lapsed = || Ok(Outcome::Error(RequestError::Lapsed { operation_id: OPERATION, now }));
        let mut lost = write_if(Condition::Absent);
        lost.handle_outcome(node(1), Err(ExchangeError::TimedOut));
        let repeated = write_since(Condition::Absent, Since::After(Anchor { height: 1, ..now }));
        for mut attempts in [write_if(Condition::Absent), lost, repeated] {
            assert_eq!(attempts.handle_outcome(node(2), lapsed()), Verdict::TryAnother);
            assert_eq!(attempts.since(), Since::After(now));
            assert!(!attempts.tried().contains(&node(2)));
            assert_eq!(attempts.into_error(), RequestError::Busy, "nothing was applied");
        }
    }

    fn forgotten(height: u64) -> (Anchor, Result<Outcome, ExchangeError>) {
        let now = Anchor { ballot: Ballot { term: Term::start_of(1), sequence: 1 }, height };
        (now, Ok(Outcome::Error(RequestError::Forgotten { operation_id: OPERATION, now })))
    }

    fn is_forgotten(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Done(result) if matches!(**result, Err(RequestError::Forgotten { .. })))
    }

    /// As long as no attempt is open, nothing can have been applied: the write is sent again, with what the leader said.
    #[test]
    fn a_first_attempt_is_never_refused_as_forgotten() {
        let mut attempts = write();
        assert_eq!(attempts.since(), Since::Unsent);
        let (now, outcome) = forgotten(200);
        assert_eq!(attempts.handle_outcome(node(1), outcome), Verdict::TryAnother);
        assert_eq!((attempts.since(), attempts.tried()), (Since::After(now), &[][..]));
        // And that stays what the write came after.
        attempts.handle_outcome(node(1), Err(ExchangeError::Disconnected));
        assert_eq!(attempts.since(), Since::After(now));
        let (_, outcome) = forgotten(400);
        assert!(is_forgotten(&attempts.handle_outcome(node(2), outcome)));
    }

    #[test]
    fn a_write_that_may_have_been_applied_and_forgotten_is_not_sent_again() {
        let mut lost = write();
        lost.handle_outcome(node(1), Err(ExchangeError::TimedOut));
        let mut repeated = write_since(Condition::None, Since::Unknown);
        for attempts in [&mut lost, &mut repeated] {
            assert_eq!(attempts.since(), Since::Unknown);
            let (_, outcome) = forgotten(200);
            assert!(is_forgotten(&attempts.handle_outcome(node(2), outcome)));
        }
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
