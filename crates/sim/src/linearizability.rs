//! Whether what clients saw of one key could have happened one after the other (Herlihy and Wing 1990).

use crate::search::{Model, Span, has_order};

pub use crate::search::OPERATIONS_MAX;

/// Names a write of the history; [`NEVER_WRITTEN`] stands for the state before the first.
pub type WriteId = u64;

/// The state of a key before its first write.
pub const NEVER_WRITTEN: WriteId = 0;

/// What a write demands of the state it finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demand {
    /// Nothing.
    None,
    /// The key has no value.
    Absent,
    /// The key has a value.
    Present,
    /// The last write was this one.
    Last(WriteId),
    /// What cannot be any more.
    Never,
}

/// What a client asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// Makes `id` the key's last write.
    Write {
        /// The write.
        id: WriteId,
        /// Under this condition.
        demand: Demand,
        /// Whether the key has a value afterwards.
        has_value: bool,
    },
    /// Asks for the key's last write.
    Read,
}

/// What the client was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// The write was done.
    Written,
    /// The write was not done, because this was the last one.
    Conflict(WriteId),
    /// The write was not done, and will not be.
    NotDone,
    /// To a read: this was the last write.
    Last(WriteId),
    /// To a read: the key has no value.
    NoValue,
    /// Nothing: the write may have been done, may be done later, or never.
    Unknown,
}

/// One operation. Times are any numbers that grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: usize,
    /// What.
    pub call: Call,
    /// The answer.
    pub answer: Answer,
    /// When it was asked.
    pub invoked_at: u64,
    /// When the answer came; `u64::MAX` if none did.
    pub completed_at: u64,
}

/// Whether some order explains the history. At most [`OPERATIONS_MAX`] operations. `forgets`: a deleted key and one
/// that was never written are the same.
pub fn is_linearizable(operations: &[Operation], forgets: bool) -> bool {
    is_linearizable_from(NEVER_WRITTEN, operations, forgets)
}

/// The same of a key whose last write was `beginning` when the history began.
pub fn is_linearizable_from(beginning: WriteId, operations: &[Operation], forgets: bool) -> bool {
    let span = |operation: &Operation| Span::new(operation.invoked_at, operation.completed_at);
    let spans: Vec<Span> = operations.iter().map(span).collect();
    has_order(&Register { operations, forgets }, &spans, beginning)
}

/// A key whose state is its last write.
struct Register<'a> {
    operations: &'a [Operation],
    forgets: bool,
}

impl Model for Register<'_> {
    type State = WriteId;

    fn apply(&self, operation: usize, state: &WriteId) -> Option<WriteId> {
        self.after(self.operations.get(operation)?, *state)
    }

    fn is_read(&self, operation: usize) -> bool {
        !matches!(self.operations[operation].answer, Answer::Written | Answer::Unknown)
    }
}

impl Register<'_> {
    /// The state after an operation that is told its answer in `state`; `None` if it would be told another.
    fn after(&self, operation: &Operation, state: WriteId) -> Option<WriteId> {
        match (operation.call, operation.answer) {
            (Call::Read, Answer::Last(last)) => self.is_same(last, state).then_some(state),
            (Call::Read, Answer::NoValue) => (!self.has_value(state)).then_some(state),
            (Call::Write { id, demand, .. }, Answer::Written | Answer::Unknown) => {
                self.holds(demand, state).then_some(id)
            }
            (Call::Write { .. }, Answer::NotDone) => Some(state),
            (Call::Write { demand, .. }, Answer::Conflict(last)) => {
                // A head that deletes, and that the write was to follow, may be forgotten when it is decided.
                let may_fail = matches!(demand, Demand::Last(_)) && self.forgets && !self.has_value(state);
                (self.is_same(last, state) && (may_fail || !self.holds(demand, state))).then_some(state)
            }
            _ => None,
        }
    }

    fn holds(&self, demand: Demand, state: WriteId) -> bool {
        match demand {
            Demand::None => true,
            Demand::Absent => !self.has_value(state),
            Demand::Present => self.has_value(state),
            Demand::Last(last) => self.is_same(last, state),
            Demand::Never => false,
        }
    }

    /// Whether a key is the same after one write as after another: where deleted keys are forgotten, all that have no value are,
    /// whether a tombstone is left or not, and one may be found again at a member that was not told to drop it.
    fn is_same(&self, one: WriteId, other: WriteId) -> bool {
        one == other || (self.forgets && !self.has_value(one) && !self.has_value(other))
    }

    fn has_value(&self, state: WriteId) -> bool {
        self.operations
            .iter()
            .any(|operation| matches!(operation.call, Call::Write { id, has_value: true, .. } if id == state))
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Call, Demand, Operation, is_linearizable};
    use crate::search::OPEN;

    fn set(id: u64, demand: Demand) -> Call {
        Call::Write { id, demand, has_value: true }
    }

    fn delete(id: u64) -> Call {
        Call::Write { id, demand: Demand::Present, has_value: false }
    }

    fn check(name: &str, history: &[(Call, Answer, u64, u64)], expected: bool) -> Vec<Operation> {
        let operation = |(client, (call, answer, invoked_at, completed_at)): (usize, &(Call, Answer, u64, u64))| {
            Operation { client, call: *call, answer: *answer, invoked_at: *invoked_at, completed_at: *completed_at }
        };
        let operations: Vec<_> = history.iter().enumerate().map(operation).collect();
        assert_eq!(is_linearizable(&operations, false), expected, "{name}");
        assert!(!expected || is_linearizable(&operations, true), "{name}");
        operations
    }

    #[test]
    fn tells_good_histories_from_bad_ones() {
        use Answer::{Conflict, Last, NoValue, NotDone, Unknown, Written};
        let (first, second) = (set(1, Demand::None), set(2, Demand::None));
        check("empty", &[], true);
        check("one after the other", &[(first, Written, 0, 1), (Call::Read, Last(1), 2, 3)], true);
        check("a stale read", &[(first, Written, 0, 1), (Call::Read, Last(0), 2, 3)], false);
        check("a read meanwhile", &[(first, Written, 0, 9), (Call::Read, Last(0), 2, 3)], true);
        let back = [(first, Written, 0, 20), (Call::Read, Last(1), 2, 3), (Call::Read, Last(0), 4, 5)];
        check("a read goes back", &back, false);
        check("an unknown write shows later", &[(first, Unknown, 0, OPEN), (Call::Read, Last(1), 50, 51)], true);
        check("an unknown write never shows", &[(first, Unknown, 0, OPEN), (Call::Read, Last(0), 50, 51)], true);
        check("a write that was not done", &[(first, NotDone, 0, 1), (Call::Read, Last(0), 2, 3)], true);
        check("it was done after all", &[(first, NotDone, 0, 1), (Call::Read, Last(1), 2, 3)], false);
        let flickers = [(first, Unknown, 0, OPEN), (Call::Read, Last(1), 2, 3), (Call::Read, Last(0), 4, 5)];
        check("an unknown write flickers", &flickers, false);
        check("shown before it was asked for", &[(Call::Read, Last(1), 0, 1), (first, Written, 2, 3)], false);
        let twice = [(first, Written, 0, 1), (second, Written, 2, 3), (Call::Read, Last(1), 4, 5)];
        check("a lost write", &twice, false);
        let both = [(set(1, Demand::Absent), Written, 0, 5), (set(2, Demand::Absent), Written, 0, 5)];
        check("both create", &both, false);
        let one = [(set(1, Demand::Absent), Written, 0, 5), (set(2, Demand::Absent), Conflict(1), 0, 5)];
        check("one creates", &one, true);
        let race = [
            (first, Written, 0, 1),
            (set(2, Demand::Last(1)), Written, 2, 5),
            (set(3, Demand::Last(1)), Written, 2, 5),
        ];
        check("two follow one head", &race, false);
        let deleted = [(first, Written, 0, 1), (delete(2), Written, 2, 3), (Call::Read, NoValue, 4, 5)];
        check("deleted", &deleted, true);
        check("a value vanishes", &[(first, Written, 0, 1), (Call::Read, NoValue, 4, 5)], false);
        let again = [(first, Written, 0, 1), (delete(2), Unknown, 2, OPEN), (set(3, Demand::Absent), Written, 4, 5)];
        check("an unknown delete explains a creation", &again, true);
        check("a conflict that was none", &[(set(1, Demand::Absent), Conflict(0), 0, 1)], false);
    }

    #[test]
    fn only_a_deleted_key_may_be_forgotten() {
        use Answer::{Conflict, Last, Written};
        let first = set(1, Demand::None);
        let gone = [
            (first, Written, 0, 1),
            (delete(2), Written, 2, 3),
            (Call::Read, Last(0), 4, 5),
            (set(3, Demand::Last(2)), Conflict(0), 6, 7),
        ];
        assert!(is_linearizable(&check("a tombstone was dropped", &gone, false), true));
        let back = [
            (first, Written, 0, 1),
            (delete(2), Written, 2, 3),
            (Call::Read, Last(0), 4, 5),
            (Call::Read, Last(2), 6, 7),
        ];
        assert!(is_linearizable(&check("a tombstone comes back", &back, false), true));
        let value_back = [back[0], back[1], back[2], (Call::Read, Last(1), 6, 7)];
        assert!(!is_linearizable(&check("a value comes back", &value_back, false), true));
        let kept = [(first, Written, 0, 1), (Call::Read, Last(0), 2, 3)];
        assert!(!is_linearizable(&check("a value was dropped", &kept, false), true));
    }
}
