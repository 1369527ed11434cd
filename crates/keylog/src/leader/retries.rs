//! Telling a write that was applied before from one that was not.
//!
//! The operation ids of a key's last transactions are part of its head, so that any leader finds a write that is repeated.
//! What it does not find may still have been applied: so many others may have followed that its id was forgotten, or the
//! key's tombstone was dropped, and the head with it. A write therefore carries an [`Anchor`], and is refused with
//! [`Failure::Forgotten`] unless everything after the anchor is remembered. Such a refusal carries the present anchor: a
//! sender that knows that nothing of the write is under way sends it again with that one.
//!
//! And it may have been refused, by another leader or too long ago: if it could be applied all the same now, it is
//! answered with [`Failure::Lapsed`] (see [`refusals`](super::refusals)), and never applied as it is.
//!
//! This is decided soon after a write has come in, not when its turn comes: behind many others its anchor would be too
//! old by then. From then on the leader remembers by itself what it applies, as long as anything waits for the key.

use std::collections::{BTreeSet, VecDeque};

use difuse_types::{Hash, OperationId, SlotId};

use super::{
    Append, Appending, KeyState, Leadership, Phase, WaitingRead, Wanted,
    append::{BATCH_MAX, Draft, transaction_after},
    jobs::KEY_QUEUE_MAX,
};
use crate::{
    Anchor, Answer, Ballot, Condition, Configuration, Failure, Operation, Submission,
    keylog::Keylog,
    replica::damage::ReadError,
    rule::Rule,
    store::{Store, StoreError},
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
        let state = self.slots.get(&slot)?;
        let passed = match &state.phase {
            Phase::Leading(leadership) => Some(leadership.present()),
            _ => state.committed.watermark(),
        };
        Some(Anchor { ballot: passed.max(state.record.dropped)?, height: 0 })
    }

    /// What an append was refused with lately, if it was.
    pub(super) fn refused_with(
        &mut self,
        slot: SlotId,
        operation_id: OperationId,
        condition: Condition,
    ) -> Option<Answer> {
        self.leadership(slot)?.refusals.get(operation_id, condition).cloned()
    }

    /// Remembers an answer if it is a refusal.
    pub(super) fn note_answer(
        &mut self,
        slot: SlotId,
        operation_id: OperationId,
        condition: Condition,
        answer: &Answer,
    ) {
        if let Some(leadership) = self.leadership(slot) {
            leadership.note_answer(operation_id, condition, answer);
        }
    }

    /// Judges the appends that came in since the last time: turns away those that may have been applied and forgotten, or
    /// refused, and puts first those that were applied and are remembered, so that they still are when their turn comes.
    ///
    /// That one has lapsed is told only when it cannot be found any more by a later leader, among what an earlier one had
    /// begun to propose: when what the key holds is [sealed](Self::is_sealed). If it is not, that one waits, and the answer is
    /// true: the key must be sealed first. And it is told by a leader that a majority still takes for one: a later leader may have
    /// applied it.
    pub(super) fn judge_appends(&mut self, slot: SlotId, draft: &Draft) -> bool {
        if self.breaks(Rule::RememberedAppends) {
            return false;
        }
        let dropped = self.slots.get(&slot).and_then(|state| state.record.dropped);
        let must_seal = !self.is_sealed(slot, draft);
        let Some(leadership) = self.leadership(slot) else { return false };
        let Some(state) = leadership.keys.get_mut(&draft.key) else { return false };
        let waiting = std::mem::take(&mut state.appends);
        let past = Past::new(leadership, draft, dropped);
        let (mut known, mut others, mut turned_away) = (VecDeque::new(), VecDeque::new(), Vec::new());
        let judged: Vec<(Append, Verdict)> = waiting
            .into_iter()
            .map(|append| {
                let verdict = past.judge(&append);
                (append, verdict)
            })
            .collect();
        // Copies that wait together are one append, in whatever order they came: none may be told that it is not applied
        // while another is.
        let is_new = |(_, verdict): &&(Append, Verdict)| matches!(verdict, Verdict::IsNew);
        let new_ids: BTreeSet<OperationId> =
            judged.iter().filter(is_new).map(|(append, _)| append.appending.name().0).collect();
        let (mut let_all_lapse, mut seals) = (false, false);
        for (mut append, verdict) in judged {
            let (operation_id, _, since) = append.appending.name();
            let verdict = match verdict {
                Verdict::IsForgotten | Verdict::HasLapsed if new_ids.contains(&operation_id) => Verdict::IsNew,
                verdict => verdict,
            };
            match verdict {
                Verdict::IsRead => others.push_back(append),
                Verdict::IsKnown => {
                    append.is_judged = true;
                    known.push_back(append);
                }
                Verdict::IsNew => {
                    append.is_judged = true;
                    others.push_back(append);
                }
                Verdict::IsForgotten => turned_away.push((append.ticket, true)),
                Verdict::HasLapsed if must_seal && !self.breaks(Rule::SealedLapses) => {
                    seals = true;
                    others.push_back(append);
                }
                Verdict::HasLapsed => {
                    let_all_lapse |= since.is_none();
                    turned_away.push((append.ticket, false));
                }
            }
        }
        if let_all_lapse && let Some(leadership) = self.leadership(slot) {
            leadership.let_all_lapse();
        }
        known.append(&mut others);
        let Some(leadership) = self.leadership(slot) else { return false };
        let now = Anchor { ballot: leadership.present(), height: draft.height };
        if let Some(state) = leadership.keys.get_mut(&draft.key) {
            state.appends = known;
        }
        for (ticket, is_forgotten) in turned_away {
            if is_forgotten {
                self.done(ticket, Err(Failure::Forgotten { now }));
            } else {
                self.waiting_reads.push(WaitingRead { ticket, slot, wanted: Wanted::Lapse { now } });
            }
        }
        seals
    }

    /// Whether nothing that an earlier leader had begun to propose for a settled key can be found any more by a later one: the
    /// head was accepted in this term; or there is none, and no member can come up with one. The key of steps counts as
    /// absent though members may hold steps that are void: these stay so only once something is proposed in this term.
    pub(super) fn is_sealed(&self, slot: SlotId, draft: &Draft) -> bool {
        let Some(state) = self.slots.get(&slot) else { return true };
        let Phase::Leading(leadership) = &state.phase else { return true };
        match &draft.base {
            Some(base) => base.ballot.term == leadership.term,
            None => {
                let Configuration { members, joint, .. } = &state.record.configuration;
                let are_accounted = members.iter().chain(joint).all(|node| leadership.accounted.contains(node));
                are_accounted && draft.key.steps_of().is_none()
            }
        }
    }

    /// Seals a settled key: proposes its head again, or, where it has none, a delete, which says the same to everybody.
    pub(super) fn seal_key(&mut self, slot: SlotId, draft: &Draft) -> Result<(), StoreError> {
        if draft.base.is_some() {
            return self.propose_again(slot, &draft.key, (draft.height, draft.hash));
        }
        let operation_id = self.draw_operation_id();
        let delete = transaction_after(draft, Operation::Delete, operation_id, self.me, self.wall);
        let head = (delete.height, delete.hash());
        self.propose(slot, &draft.key, head, vec![delete], Some(draft.height), Vec::new())
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

/// What is remembered of a key when its appends are judged.
struct Past<'a> {
    leadership: &'a Leadership,
    state: Option<&'a KeyState>,
    draft: &'a Draft,
    /// Up to this height nothing is remembered.
    forgotten_height: u64,
    /// Nothing is remembered of keys whose tombstone was dropped at this ballot or below.
    dropped: Option<Ballot>,
}

enum Verdict {
    /// It changes nothing.
    IsRead,
    /// It was applied or refused, and that is remembered.
    IsKnown,
    /// It was neither.
    IsNew,
    /// It may have been applied.
    IsForgotten,
    /// It was not applied, but may have been refused.
    HasLapsed,
}

impl<'a> Past<'a> {
    fn new(leadership: &'a Leadership, draft: &'a Draft, dropped: Option<Ballot>) -> Self {
        let state = leadership.keys.get(&draft.key);
        let first_known = state.and_then(|state| state.applied.front()).map_or(u64::MAX, |first| first.height);
        let forgotten_height = draft.forgotten_height().min(first_known - 1);
        Self { leadership, state, draft, forgotten_height, dropped }
    }

    fn judge(&self, append: &Append) -> Verdict {
        if let Appending::Command { is_write: false, .. } | Appending::Step { is_write: false, .. } = append.appending {
            return Verdict::IsRead;
        }
        if append.is_judged {
            return Verdict::IsNew;
        }
        let (operation_id, condition, since) = append.appending.name();
        if self.remembers(operation_id, condition) {
            return Verdict::IsKnown;
        }
        let since = since.and_then(|since| self.of_this_history(since));
        if !self.remembers_all_after(since) {
            return Verdict::IsForgotten;
        }
        match append.appending.may_be_refused_wrongly() && self.leadership.has_lapsed(since) {
            true => Verdict::HasLapsed,
            false => Verdict::IsNew,
        }
    }

    fn remembers(&self, operation_id: OperationId, condition: Condition) -> bool {
        let is_applied = |state: &KeyState| state.applied.iter().any(|applied| applied.operation_id == operation_id);
        self.draft.recent().contains(&operation_id)
            || self.state.is_some_and(is_applied)
            || self.leadership.refusals.get(operation_id, condition).is_some()
    }

    /// Whether everything that was applied after this is remembered.
    fn remembers_all_after(&self, since: Option<Anchor>) -> bool {
        let Some(since) = since else { return self.forgotten_height == 0 && self.dropped.is_none() };
        since.height >= self.forgotten_height && Some(since.ballot) >= self.dropped
    }

    /// What an anchor tells of the history that this leader goes on with, if anything. A recovery may have set the key back to
    /// a lesser height than was told before. And what was told under another recovery need not have come before this one,
    /// whichever has the higher ballots: two may not know of each other.
    fn of_this_history(&self, since: Anchor) -> Option<Anchor> {
        match since.recovered_at() {
            _ if since == Anchor::LATEST => Some(since),
            told_under if told_under == Configuration::recovery_epoch(self.leadership.term.epoch) => Some(since),
            0 => Some(Anchor { height: 0, ..since }),
            _ => None,
        }
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
