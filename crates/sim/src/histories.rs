//! Whether what clients saw of each key has an order. Where the slot was recovered there are two: one of what was answered
//! before any recovery, and one of what was answered under the recovery that stands, from whatever that began with.

use difuse_types::Hash;

use crate::{
    Violation,
    clients::{History, Noted},
    linearizability::{Answer, Call, NEVER_WRITTEN, Operation, WriteId, is_linearizable, is_linearizable_from},
    simulation::{Phase, Simulation},
};

impl Simulation {
    /// What clients saw has an order.
    pub(crate) fn check_histories(&mut self) -> Result<(), Violation> {
        self.check_pairs()?;
        self.check_sequences()?;
        self.check_commands()?;
        for history in &self.clients.histories {
            self.figures.histories += 1;
            if !self.has_order(history) {
                let history_text = history.operations.iter().map(describe_noted).collect::<Vec<_>>().join("\n");
                return Err(Violation::NotLinearizable { key: history.key.clone(), history: history_text });
            }
        }
        Ok(())
    }

    fn has_order(&self, history: &History) -> bool {
        let slot = self.plan.settings.slots.of_key(&history.key);
        let forgets = self.plan.tombstones_kept.is_some();
        let before: Vec<Operation> = history.operations.iter().filter_map(before_recoveries).collect();
        // A ring that does not come to rest has no last head.
        let has_more = self.recoveries.is_recovered(slot) && self.phase == Phase::Over;
        is_linearizable(&before, forgets) && (!has_more || self.has_order_since(history, forgets))
    }

    /// The same of what was answered under the recovery that stands. It may have begun with any write that was committed by
    /// then: most likely with the last that was not answered under it.
    fn has_order_since(&self, history: &History, forgets: bool) -> bool {
        let recovery = self.recoveries.standing(self.plan.settings.slots.of_key(&history.key));
        let committed = self.chains.committed(&history.key, self.last_head(&history.key), forgets);
        let is_earlier = |id: WriteId| {
            let writes_it = |noted: &&Noted| writes(noted) == Some(id);
            history.operations.iter().find(writes_it).is_some_and(|noted| noted.recovery != Some(recovery))
        };
        let begins_after = |done: usize| {
            let beginning = done.checked_sub(1).map_or(NEVER_WRITTEN, |last| committed[last]);
            let place = |id| committed.iter().position(|committed| *committed == id);
            let since = |noted: &Noted| since_recovery(noted, recovery, writes(noted).and_then(place), done);
            let since: Vec<Operation> = history.operations.iter().filter_map(since).collect();
            is_linearizable_from(beginning, &since, forgets)
        };
        let may_begin_after = |done: &usize| done.checked_sub(1).is_none_or(|last| is_earlier(committed[last]));
        (0..=committed.len()).rev().filter(may_begin_after).any(begins_after)
    }
}

fn writes(noted: &Noted) -> Option<WriteId> {
    match noted.operation.call {
        Call::Write { id, .. } => Some(id),
        Call::Read => None,
    }
}

/// An operation as one that may be done at any time, or never.
fn open(operation: Operation) -> Option<Operation> {
    let is_open = matches!(operation.call, Call::Write { .. });
    is_open.then_some(Operation { answer: Answer::Unknown, completed_at: u64::MAX, ..operation })
}

/// Before any recovery: whatever was answered later may have been done already. Refused as well: the recovery has lost it,
/// and then its repetition found the key in another state.
fn before_recoveries(noted: &Noted) -> Option<Operation> {
    if noted.recovery == Some(Hash::ZERO) { Some(noted.operation) } else { open(noted.operation) }
}

/// Under a recovery that began when so many of the committed writes were done, of which a write has this place: what was not
/// committed was not done, and what was is not done again.
fn since_recovery(noted: &Noted, recovery: Hash, place: Option<usize>, done: usize) -> Option<Operation> {
    let is_answered = noted.recovery == Some(recovery);
    let is_refused = matches!(noted.operation.answer, Answer::Conflict(_) | Answer::NotDone);
    match (open(noted.operation), place) {
        _ if is_answered && is_refused => Some(noted.operation),
        (Some(operation), Some(place)) if place < done => Some(Operation { invoked_at: u64::MAX, ..operation }),
        (Some(operation), Some(_)) if !is_answered => Some(operation),
        _ => is_answered.then_some(noted.operation),
    }
}

fn describe_noted(noted: &Noted) -> String {
    let under = match noted.recovery {
        Some(Hash::ZERO) => String::new(),
        recovery => format!(" under recovery {recovery:?}"),
    };
    describe(&noted.operation) + &under
}

/// An operation, for people.
pub(crate) fn describe(operation: &Operation) -> String {
    let Operation { client, call, answer, invoked_at, completed_at } = operation;
    match completed_at {
        &u64::MAX => format!("  {invoked_at:>6}..       client {client}: {call:?} -> {answer:?}"),
        _ => format!("  {invoked_at:>6}..{completed_at:<6} client {client}: {call:?} -> {answer:?}"),
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::Hash;

    use super::{before_recoveries, since_recovery};
    use crate::{
        clients::Noted,
        linearizability::{Answer, Call, Demand, Operation},
    };

    #[test]
    fn a_write_that_a_recovery_lost_is_refused_later_and_was_done_before() {
        let call = Call::Write { id: 1, demand: Demand::Absent, has_value: true };
        let answer = Answer::Conflict(2);
        let operation = Operation { client: 0, call, answer, invoked_at: 1, completed_at: 9 };
        let refused = |recovery| Noted { operation, recovery };
        let (ours, other) = (Hash::of(b"ours"), Hash::of(b"other"));
        let before = |recovery| before_recoveries(&refused(recovery)).map(|operation| operation.answer);
        assert_eq!(before(Some(Hash::ZERO)), Some(answer));
        assert_eq!([before(Some(ours)), before(None)], [Some(Answer::Unknown); 2]);
        let since = |recovery, place| since_recovery(&refused(recovery), ours, place, 2).map(|since| since.answer);
        assert_eq!(since(Some(ours), None), Some(answer));
        assert_eq!(since(Some(other), None), None);
        assert_eq!(since(Some(other), Some(3)), Some(Answer::Unknown));
    }

    #[test]
    fn a_write_that_was_not_done_may_be_what_a_recovery_begins_with() {
        let call = Call::Write { id: 1, demand: Demand::Present, has_value: true };
        let operation = Operation { client: 0, call, answer: Answer::NotDone, invoked_at: 1, completed_at: 2 };
        let not_done = Noted { operation, recovery: Some(Hash::ZERO) };
        assert_eq!(before_recoveries(&not_done), Some(operation));
        let ours = Hash::of(b"ours");
        let began_with_it = since_recovery(&not_done, ours, Some(0), 1);
        assert_eq!(began_with_it.map(|since| (since.answer, since.invoked_at)), Some((Answer::Unknown, u64::MAX)));
        assert_eq!(since_recovery(&not_done, ours, None, 1), None);
        let told_since = Noted { recovery: Some(ours), ..not_done };
        assert_eq!(since_recovery(&told_since, ours, None, 1), Some(operation));
    }
}
