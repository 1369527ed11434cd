//! Telling a write that was applied before from one that was not.
//!
//! The operation ids of a key's last transactions are part of its head, so that any leader finds a write that is repeated.
//! What it does not find may still have been applied: so many others may have followed that its id was forgotten, or the
//! key's tombstone was dropped, and the head with it. A write therefore carries an [`Anchor`], and is refused with
//! [`Failure::Forgotten`] unless everything after the anchor is remembered. Such a refusal carries the present anchor: a
//! sender that knows that nothing of the write is under way sends it again with that one.
//!
//! This is decided soon after a write has come in, not when its turn comes: behind many others its anchor would be too
//! old by then. From then on the leader remembers by itself what it applies, as long as anything waits for the key.

use std::collections::VecDeque;

use difuse_types::{Hash, OperationId, SlotId};

use super::{
    Appending, KeyState, Leadership,
    append::{BATCH_MAX, Draft},
    jobs::KEY_QUEUE_MAX,
};
use crate::{
    Anchor, Answer, Ballot, Configuration, Failure, Submission, keylog::Keylog, replica::damage::ReadError, rule::Rule,
    store::Store,
};

/// How many of the appends of a key that has some waiting are remembered: all that were applied while one waited.
const APPLIED_MAX: usize = KEY_QUEUE_MAX + BATCH_MAX;

/// An append as it was applied.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Applied {
    pub(super) operation_id: OperationId,
    pub(super) height: u64,
    pub(super) hash: Hash,
    pub(super) created: bool,
}

impl KeyState {
    /// Remembers an append as long as anything waits for the key.
    pub(super) fn note_applied(&mut self, applied: Applied) {
        if self.applied.len() >= APPLIED_MAX {
            self.applied.pop_front();
        }
        self.applied.push_back(applied);
    }
}

impl<S: Store> Keylog<S> {
    /// A point in the slot's history that has passed, if this node knows one: a late one is of more use, but any will do.
    pub fn known_anchor(&self, slot: SlotId) -> Option<Anchor> {
        let dropped = self.slots.get(&slot)?.record.dropped?;
        Some(Anchor { ballot: dropped, height: 0 })
    }

    /// Judges the appends that came in since the last time: refuses those that may have been applied and forgotten, and puts
    /// first those that were applied and are remembered, so that they still are when their turn comes.
    pub(super) fn judge_appends(&mut self, slot: SlotId, draft: &Draft) {
        if self.breaks(Rule::RememberedAppends) {
            return;
        }
        let dropped = self.slots.get(&slot).and_then(|state| state.record.dropped);
        let Some(leadership) = self.leadership(slot) else { return };
        let ballot = Ballot { term: leadership.term, sequence: leadership.sequence };
        let Leadership { keys, refused: refusals, .. } = leadership;
        let Some(state) = keys.get_mut(&draft.key) else { return };
        let first_known = state.applied.front().map_or(u64::MAX, |first| first.height);
        let forgotten_height = draft.forgotten_height().min(first_known - 1);
        let recovered_at = Configuration::recovery_epoch(ballot.term.epoch);
        let is_remembered = |since: Option<Anchor>| match since {
            Some(since) => {
                // A recovery may have set the key back to a lesser height than was told before.
                let height = if since.ballot.term.epoch >= recovered_at { since.height } else { 0 };
                height >= forgotten_height && Some(since.ballot) >= dropped
            }
            None => forgotten_height == 0 && dropped.is_none(),
        };
        let (mut known, mut others, mut forgotten) = (VecDeque::new(), VecDeque::new(), Vec::new());
        for mut append in std::mem::take(&mut state.appends) {
            if let Appending::Command { is_write: false, .. } | Appending::Step { is_write: false, .. } =
                append.appending
            {
                others.push_back(append);
                continue;
            }
            let (operation_id, condition, since) = append.appending.name();
            let is_known = !append.is_judged
                && (draft.recent().contains(&operation_id)
                    || state.applied.iter().any(|applied| applied.operation_id == operation_id)
                    || refusals.get(&(operation_id, condition)).is_some());
            if is_known {
                append.is_judged = true;
                known.push_back(append);
            } else if append.is_judged || is_remembered(since) {
                append.is_judged = true;
                others.push_back(append);
            } else {
                forgotten.push(append.ticket);
            }
        }
        known.append(&mut others);
        state.appends = known;
        for ticket in forgotten {
            self.done(ticket, Err(Failure::Forgotten { now: Anchor { ballot, height: draft.height } }));
        }
    }

    /// The height at which an append was applied before, if it was and that is remembered.
    pub(super) fn height_of(&mut self, slot: SlotId, draft: &Draft, id: OperationId) -> Option<u64> {
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get(&draft.key));
        let applied = state.and_then(|state| state.applied.iter().find(|applied| applied.operation_id == id));
        let recent = || {
            let depth = draft.recent().iter().position(|recent| *recent == id)?;
            Some(draft.base.as_ref()?.head.height - depth as u64)
        };
        applied.map(|applied| applied.height).or_else(recent)
    }

    /// The outcome of an append that was applied before: found by its operation id.
    pub(super) fn find_retried(
        &mut self,
        slot: SlotId,
        draft: &Draft,
        submission: &Submission,
    ) -> Result<Option<Answer>, ReadError> {
        let id = submission.operation_id;
        if let Some(transaction) = draft.transactions.iter().find(|transaction| transaction.operation_id == id) {
            let (height, hash) = (transaction.height, transaction.hash());
            return Ok(Some(Answer::Appended { height, hash, created: false, mark: None }));
        }
        let Some(base) = &draft.base else { return Ok(None) };
        let mark = Some(base.ballot);
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get(&draft.key));
        let found = state.and_then(|state| state.applied.iter().find(|applied| applied.operation_id == id));
        if let Some(Applied { height, hash, created, .. }) = found.cloned() {
            return Ok(Some(Answer::Appended { height, hash, created, mark }));
        }
        let Some(depth) = draft.recent().iter().position(|recent| *recent == id) else { return Ok(None) };
        let height = base.head.height - depth as u64;
        let Some(transaction) = self.stored(slot, &draft.key, height)? else {
            self.note_damage(slot, &draft.key, height);
            return Err(ReadError::Damaged);
        };
        let before = if height > 1 { self.stored(slot, &draft.key, height - 1)? } else { None };
        let had_value = before.is_some_and(|before| before.value().is_some());
        let created = !had_value && transaction.value().is_some();
        Ok(Some(Answer::Appended { height, hash: transaction.hash(), created, mark }))
    }
}

impl Draft {
    /// The operation ids that the head remembers.
    fn recent(&self) -> &[OperationId] {
        self.base.as_ref().map_or(&[], |base| &base.head.recent)
    }

    /// Up to this height the head remembers nothing.
    fn forgotten_height(&self) -> u64 {
        self.base.as_ref().map_or(0, |base| base.head.height.saturating_sub(base.head.recent.len() as u64))
    }
}
