//! What a leader refused: a copy of it that comes late, when its condition has come true, must be refused as well.
//!
//! A leader remembers its last refusals, and *lapses* every attempt that might be a copy of one that it does not remember:
//! of one by an earlier leader, or by itself a long time ago. Which these are an attempt's [`Anchor`] tells. So a refusal
//! is final, however late a copy is, and no clock is needed for it.
//!
//! Who does not know since when he may have sent an append does not know either which anchor its other copies carry: if it
//! lapses, everything does that was sent until then.
//!
//! Refusals are remembered in two generations, of which the older one is forgotten when the younger one is full. Each was
//! decided at a sequence of the term, and what it refused had been sent before: whoever was anchored at the younger one's
//! beginning or later cannot have been refused before it.

use std::collections::BTreeMap;

use difuse_types::OperationId;

use super::Leadership;
use crate::{Anchor, Answer, Ballot, Condition};

/// How many refusals a generation holds.
const REFUSED_MAX: usize = 128;

/// A refusal is found by its condition too: whoever asks again on another one asks something else.
type Refused = (OperationId, Condition);

/// The last refusals of a leader in one slot.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Refusals {
    younger: BTreeMap<Refused, Answer>,
    older: BTreeMap<Refused, Answer>,
    /// All that were decided at this sequence or later are in the younger generation.
    began: u64,
    /// All that were decided at this sequence or later are remembered, and nothing that was sent before is applied.
    floor: u64,
}

impl Refusals {
    /// What an append was refused with lately, if it was.
    pub(super) fn get(&self, operation_id: OperationId, condition: Condition) -> Option<&Answer> {
        let refused = (operation_id, condition);
        self.younger.get(&refused).or_else(|| self.older.get(&refused))
    }

    fn insert(&mut self, refused: Refused, answer: Answer, sequence: &mut u64) {
        if self.younger.len() >= REFUSED_MAX {
            self.older = std::mem::take(&mut self.younger);
            // Nothing may have been proposed meanwhile: then the sequence goes on without it, else nobody could be
            // anchored late enough.
            *sequence = self.began.max(*sequence);
            self.floor = self.floor.max(self.began);
            self.began = *sequence + 1;
        }
        self.younger.insert(refused, answer);
    }
}

impl Leadership {
    /// Remembers an answer to an append if it is a refusal.
    pub(super) fn note_answer(&mut self, operation_id: OperationId, condition: Condition, answer: &Answer) {
        if answer.is_refusal() {
            self.refusals.insert((operation_id, condition), answer.clone(), &mut self.sequence);
        }
    }

    /// Lets everything lapse that was sent until now.
    pub(super) fn let_all_lapse(&mut self) {
        self.sequence += 1;
        self.refusals.floor = self.sequence;
    }

    /// Whether an append that was first sent after `since` may be a copy of one that was refused and is not remembered.
    pub(super) fn has_lapsed(&self, since: Option<Anchor>) -> bool {
        let floor = Ballot { term: self.term, sequence: self.refusals.floor };
        since.is_none_or(|since| since.ballot < floor)
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::{Instant, OperationId};

    use super::REFUSED_MAX;
    use crate::{Anchor, Answer, Ballot, Condition, Term, leader::Leadership};

    fn anchor(number: u64, sequence: u64) -> Option<Anchor> {
        let term = Term { number, ..Term::start_of(1) };
        Some(Anchor { ballot: Ballot { term, sequence }, height: 0 })
    }

    fn refuse(leadership: &mut Leadership, number: u64) {
        let id = OperationId(u128::from(number).to_le_bytes());
        leadership.note_answer(id, Condition::Absent, &Answer::Conflict(None));
    }

    fn is_remembered(leadership: &Leadership, number: u64) -> bool {
        leadership.refusals.get(OperationId(u128::from(number).to_le_bytes()), Condition::Absent).is_some()
    }

    #[test]
    fn what_was_sent_before_a_refusal_that_is_forgotten_has_lapsed_and_the_present_never_has() {
        let mut leadership = Leadership::new(Term { number: 2, ..Term::start_of(1) }, Instant::default());
        assert!(leadership.has_lapsed(None) && leadership.has_lapsed(anchor(1, 99)));
        let mut decided_at = Vec::new();
        for number in 0..8 * REFUSED_MAX as u64 {
            // Here and there something is proposed, and for a while nothing.
            if number > 4 * REFUSED_MAX as u64 && number.is_multiple_of(50) {
                leadership.next_ballot();
            }
            decided_at.push(leadership.sequence);
            refuse(&mut leadership, number);
            assert!(!leadership.has_lapsed(anchor(2, leadership.sequence)), "refusal {number}");
            for (earlier, at) in (0..).zip(&decided_at) {
                let is_remembered = is_remembered(&leadership, earlier);
                assert!(is_remembered || leadership.has_lapsed(anchor(2, *at)), "refusal {earlier} after {number}");
                assert!(is_remembered || number - earlier >= REFUSED_MAX as u64);
            }
        }
        assert!(!is_remembered(&leadership, 0));
        let before = leadership.sequence;
        leadership.let_all_lapse();
        for number in 0..3 * REFUSED_MAX as u64 {
            assert!(leadership.has_lapsed(anchor(2, before)) && !leadership.has_lapsed(anchor(2, leadership.sequence)));
            refuse(&mut leadership, 1 << 40 | number);
        }
    }
}
