//! Steps: commands on several keys of a slot, done for all of them or for none (see [`Step`]).
//!
//! Each key is a register of its own, and a proposal carries one. So a step is decided in one register, that of the slot's
//! key of steps: what is proposed there holds the transactions of every key that the step changes. When it is committed,
//! the step is, and its transactions are proposed for their keys, which hold them in their own histories.
//!
//! - *Nobody comes in between.* From before a step is evaluated until its keys have what it gave them, the leader holds
//!   them: nothing else is appended.
//! - *Nobody sees a part of it.* All its proposals are made in one go, and reads of a key wait for that key's.
//! - *A new leader finishes it.* Before anything of the slot is served or changed, it learns of the last steps, from its
//!   key of steps, and proposes what their keys lack. Whether there can be any is told with the promises.
//! - *What was not committed is never done.* A step that its leader alone had begun may come to light when its keys have
//!   changed. A new leader proposes the last steps again before it serves anything, so that they have the highest ballot;
//!   where a majority had none, its proposals say so, and a register of an earlier term is void from then on, whoever
//!   finds it.
//! - *Nothing of an earlier leader comes to light below a step.* Before a step is decided, the heads of its keys are
//!   accepted in the leader's own term, as lapses are sealed. Else a write that an earlier leader alone holds could be found at
//!   the highest ballot by a later one, which could not give the key what the step gave it.
//! - *The last steps are enough.* Steps that wait together are proposed together, and the next when all keys have what
//!   they gave them; each names the first of those that it was proposed with.
//! - *No step is done again.* A key that is as high as a step took it has had the step. For that, tombstones that the last
//!   steps wrote are not dropped.

use std::collections::{BTreeMap, BTreeSet};

use difuse_types::{Hash, Key, SlotId, Space};

use super::{Appending, Leadership, Reads, Stage, append::BATCH_MAX};
use crate::{
    Ballot, Failure, Invocation, Step, Term, Transaction,
    keylog::Keylog,
    replica::damage::{ReadError, outcome},
    step::StepRecord,
    store::{Store, StoreError},
};

mod decide;

/// The steps of a slot, to its leader.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Steps {
    phase: Phase,
    /// Nothing is appended to these keys but by steps.
    held: BTreeSet<Key>,
    /// What steps that are decided give to keys, until these have it; `None` as soon as it is proposed.
    undone: BTreeMap<Key, Option<Vec<Transaction>>>,
    /// The keys that the last steps changed.
    changed: BTreeSet<Key>,
    /// The last term in which a majority is known to have been found without any: none was committed before it, and what was
    /// proposed in an earlier one is void.
    void_before: Option<Term>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Phase {
    /// What the last steps did is being found out.
    #[default]
    Unknown,
    /// The next steps, if any wait, are decided when nothing else is under way for their keys.
    Gathering,
    /// Steps are proposed.
    Recording,
    /// Steps are committed, and being proposed for their keys.
    Applying,
}

impl Steps {
    /// Of a slot that never had any.
    pub(crate) fn none() -> Self {
        Self { phase: Phase::Gathering, ..Self::default() }
    }

    /// Of a slot of which a majority has promised the term and holds no step. What an earlier leader may have begun to
    /// propose beside it is not committed and cannot be any more; it must not be adopted either, for its keys have been
    /// served without it.
    pub(crate) fn beginning(term: Term) -> Self {
        Self { void_before: Some(term), ..Self::none() }
    }

    /// Of a slot of which somebody who has promised the term holds a step that may be committed; `begun_without` is the last
    /// term that is known to have begun without any.
    pub(crate) fn after(begun_without: Option<Term>) -> Self {
        Self { void_before: begun_without, ..Self::default() }
    }

    /// Whether a register of the key of steps, with this ballot, was not committed and never will be.
    fn is_void(&self, ballot: Ballot) -> bool {
        Some(ballot.term) < self.void_before
    }

    /// Whether it is known what the last steps did: before that, nothing of the slot may be served or changed.
    pub(crate) fn is_known(&self) -> bool {
        self.phase != Phase::Unknown
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Gathering && self.held.is_empty()
    }

    /// Whether nothing is decided that some key has yet to get.
    pub(crate) fn is_done(&self) -> bool {
        !matches!(self.phase, Phase::Recording | Phase::Applying)
    }

    /// Whether only steps may append to a key now.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.held.contains(key)
    }

    /// Whether reads of a key must wait: it may lack what steps that are committed gave it.
    pub(crate) fn withholds(&self, key: &Key) -> bool {
        match self.phase {
            Phase::Unknown => key.steps_of().is_none(),
            Phase::Applying => self.held.contains(key) && !self.are_all_proposed(),
            Phase::Gathering | Phase::Recording => false,
        }
    }

    /// Whether no read of the slot must wait.
    pub(crate) fn is_visible(&self) -> bool {
        self.is_known() && (self.phase != Phase::Applying || self.are_all_proposed())
    }

    /// Whether a key's height tells that it has had the last steps: its register must not be dropped.
    pub(crate) fn needs_height_of(&self, key: &Key) -> bool {
        self.changed.contains(key) || !self.is_known()
    }

    fn are_all_proposed(&self) -> bool {
        self.undone.values().all(Option::is_none)
    }

    /// Too few members are reachable: what waits has failed.
    pub(crate) fn let_go(&mut self) {
        if self.phase == Phase::Gathering {
            self.held.clear();
        }
    }
}

impl<S: Store> Keylog<S> {
    fn steps(&mut self, slot: SlotId) -> Option<&mut Steps> {
        self.leadership(slot).map(|leadership| &mut leadership.steps)
    }

    /// A step as it is to wait for its turn, if it is one that this slot can do.
    pub(super) fn appending_of_step(
        &self,
        slot: SlotId,
        key: &Key,
        invocation: Invocation,
    ) -> Result<Appending, Failure> {
        let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(error.to_string());
        if key.steps_of() != Some(slot) {
            return Err(invalid(&"what the ring keeps about itself knows no commands"));
        }
        let step = Step::from_arguments(&invocation.arguments).map_err(|error| invalid(&error))?;
        if step.keys().next().is_none() {
            return Err(invalid(&"a step names a key at least"));
        }
        let is_here = |key: &Key| key.space() != Space::Ring && self.options.slots.of_key(key) == slot;
        if !step.keys().all(is_here) {
            return Err(invalid(&"the keys of a step lie in one slot, and are nobody's but users'"));
        }
        let structures = &self.options.structures;
        for command in &step.commands {
            let count = structures.key_positions(&command.arguments).map_or(0, |positions| positions.len());
            if count != command.keys.len() {
                return Err(invalid(&"a command of the step comes with other keys than its arguments name"));
            }
        }
        let is_write = step.commands.iter().any(|command| structures.is_write(&command.arguments));
        let invocation = Invocation { arguments: Vec::new(), ..invocation };
        Ok(Appending::Step { step, invocation, is_write })
    }

    /// Goes on with the steps of a slot.
    pub(super) fn advance_steps(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let key = Key::of_steps(slot);
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let is_busy = leadership.keys.get(&key).is_some_and(|state| !matches!(state.stage, Stage::Idle));
        if is_busy {
            return Ok(());
        }
        match leadership.steps.phase {
            Phase::Unknown => self.learn_steps(slot, &key),
            Phase::Gathering => self.gather_steps(slot, &key),
            Phase::Recording => self.apply_steps(slot),
            Phase::Applying => Ok(()),
        }
    }

    /// Finds out what the last steps did, if that must be known first.
    pub(crate) fn find_out_steps(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let key = Key::of_steps(slot);
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        if leadership.steps.is_known() || leadership.change.is_some() {
            return Ok(());
        }
        leadership.keys.entry(key.clone()).or_default();
        self.advance(slot, &key)
    }

    /// This node has begun to lead: what it holds of the key of steps goes if it was not committed.
    pub(super) fn drop_void_steps(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let key = Key::of_steps(slot);
        let Some(own) = self.store.register(slot, &key)? else { return Ok(()) };
        let Some(leadership) = self.leadership(slot).filter(|it| it.steps.is_void(own.ballot)) else { return Ok(()) };
        let term = leadership.term;
        self.handle_drop(self.me, slot, Ballot { term, sequence: 0 }, &[(key, own.ballot)])
    }

    /// What members hold of a key, but for steps that are void: whoever has those is as good as without any.
    pub(super) fn without_void_steps(&mut self, slot: SlotId, key: &Key, mut reads: Reads) -> Reads {
        if key.steps_of().is_some()
            && let Some(steps) = self.steps(slot)
        {
            for read in reads.values_mut() {
                *read = read.take().filter(|summary| !steps.is_void(summary.ballot));
            }
        }
        reads
    }

    /// The key of steps is settled: takes up the last steps where they are. They are proposed again first, unless they were in
    /// this term: what is found beside them at an earlier ballot by a later leader is not taken up then.
    fn learn_steps(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let own = self.store.register(slot, key)?;
        let term = self.leadership(slot).map(|leadership| leadership.term);
        let void_before = if own.is_none() { term } else { None };
        if let Some(own) = own.filter(|own| Some(own.ballot.term) != term) {
            return self.propose_again(slot, key, (own.head.height, own.head.hash));
        }
        // What is damaged is being repaired, and looked at again.
        let Ok(changes) = outcome(self.last_steps(slot, key))? else { return Ok(()) };
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let changed: BTreeSet<Key> = changes.keys().cloned().collect();
        for key in &changed {
            leadership.keys.entry(key.clone()).or_default();
        }
        let phase = if changes.is_empty() { Phase::Gathering } else { Phase::Applying };
        let undone = changes.into_iter().map(|(key, transactions)| (key, Some(transactions))).collect();
        leadership.steps = Steps { phase, held: changed.clone(), undone, changed, void_before };
        let waiting: Vec<Key> = leadership.keys.keys().cloned().collect();
        for key in waiting {
            self.advance(slot, &key)?;
        }
        self.release_ranges(slot);
        Ok(())
    }

    /// What the steps did that were proposed last, together.
    fn last_steps(&mut self, slot: SlotId, key: &Key) -> Result<BTreeMap<Key, Vec<Transaction>>, ReadError> {
        let mut changes: BTreeMap<Key, Vec<Transaction>> = BTreeMap::new();
        let Some(register) = self.store.register(slot, key)? else { return Ok(changes) };
        let last = register.head.height;
        let mut next = self.step_at(slot, key, last)?.map_or(last, |record| record.first_height);
        next = next.clamp(register.base.max(1), last);
        for height in next..=last {
            for (key, transactions) in self.step_at(slot, key, height)?.map_or_else(Vec::new, |record| record.changes) {
                changes.entry(key).or_default().extend(transactions);
            }
        }
        Ok(changes)
    }

    /// The step at a height of the key of steps; `None` if what lies there is none.
    fn step_at(&mut self, slot: SlotId, key: &Key, height: u64) -> Result<Option<StepRecord>, ReadError> {
        let Some(transaction) = self.stored(slot, key, height)? else {
            self.note_damage(slot, key, height);
            return Err(ReadError::Damaged);
        };
        Ok(StepRecord::of(&transaction).ok())
    }

    /// Holds the keys of the steps that wait, and decides the steps when nothing is under way for any.
    fn gather_steps(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let drafted = outcome(self.draft(slot, key, true))?;
        match &drafted {
            Ok(draft) => {
                if self.judge_appends(slot, draft) {
                    return self.seal_key(slot, draft);
                }
            }
            Err(failure) => self.fail_appends(slot, key, failure),
        }
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let wanted = leadership.keys_of_next_steps(key);
        let let_go: Vec<Key> =
            leadership.steps.held.iter().filter(|held| !wanted.contains_key(held)).cloned().collect();
        leadership.steps.held = wanted.keys().cloned().collect();
        for key in wanted.keys() {
            leadership.keys.entry(key.clone()).or_default();
        }
        let mut are_ready = true;
        for (key, may_change) in &wanted {
            are_ready &= self.is_ready_for_steps(slot, key, *may_change)?;
        }
        for key in let_go {
            self.advance(slot, &key)?;
        }
        match drafted {
            Ok(draft) if are_ready && !wanted.is_empty() => self.decide_steps(slot, draft),
            _ => Ok(()),
        }
    }

    /// Whether a key that is held can be read and built on; does what that needs first. Until a key has what a step gives it, only
    /// the head that was there before stands above what an earlier leader had begun to propose.
    fn is_ready_for_steps(&mut self, slot: SlotId, key: &Key, may_change: bool) -> Result<bool, StoreError> {
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get(key));
        if state.is_some_and(|state| !matches!(state.stage, Stage::Idle)) {
            return Ok(false);
        }
        if !self.is_settled(slot, key)? {
            self.touch(slot, key)?;
            return Ok(false);
        }
        if may_change
            && let Ok(draft) = outcome(self.draft(slot, key, false))?
            && !self.is_sealed(slot, &draft)
        {
            self.seal_key(slot, &draft)?;
            return Ok(false);
        }
        // What is wrong with reading it is told when it is read.
        Ok(!outcome(self.must_fold_first(slot, key))?.unwrap_or(false))
    }

    /// The steps are committed: proposes for each key what it gets.
    fn apply_steps(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let Some(steps) = self.steps(slot) else { return Ok(()) };
        steps.phase = Phase::Applying;
        let keys: Vec<Key> = steps.undone.keys().cloned().collect();
        for key in &keys {
            self.advance(slot, key)?;
        }
        if keys.is_empty() { self.finish_steps(slot) } else { Ok(()) }
    }

    /// Proposes for a settled key for which nothing is under way what a step gives it, or notes that it has it; says
    /// whether that ends what can be done for the key now.
    pub(super) fn apply_step_to(&mut self, slot: SlotId, key: &Key) -> Result<bool, StoreError> {
        let Some(steps) = self.steps(slot).filter(|steps| steps.phase == Phase::Applying) else { return Ok(false) };
        let Some(waiting) = steps.undone.get_mut(key) else { return Ok(steps.withholds(key)) };
        let was_proposed = waiting.is_none();
        let rest = match waiting.take() {
            Some(transactions) => self.lacking_of(slot, key, transactions)?,
            None => Vec::new(),
        };
        if let Some(last) = rest.last() {
            let head = (last.height, last.hash());
            self.propose(slot, key, head, rest, None, Vec::new())?;
        } else if let Some(steps) = self.steps(slot) {
            steps.undone.remove(key);
        }
        let Some(steps) = self.steps(slot) else { return Ok(true) };
        if steps.undone.is_empty() {
            self.finish_steps(slot)?;
            return Ok(true);
        }
        if !was_proposed && steps.are_all_proposed() {
            // Whoever waits to read a key that needed no proposal waits no more.
            let held: Vec<Key> = steps.held.iter().filter(|other| *other != key).cloned().collect();
            for other in held {
                self.advance(slot, &other)?;
            }
            self.release_ranges(slot);
        }
        let Some(leadership) = self.leadership(slot) else { return Ok(true) };
        let is_idle = leadership.keys.get(key).is_none_or(|state| matches!(state.stage, Stage::Idle));
        Ok(!is_idle || leadership.steps.withholds(key))
    }

    /// Of what steps give to a settled key, what it lacks.
    fn lacking_of(
        &mut self,
        slot: SlotId,
        key: &Key,
        mut transactions: Vec<Transaction>,
    ) -> Result<Vec<Transaction>, StoreError> {
        let head = self.store.register(slot, key)?.map(|register| (register.head.height, register.head.hash));
        let (height, hash) = head.unwrap_or((0, Hash::ZERO));
        transactions.retain(|transaction| transaction.height > height);
        let connects = transactions.first().is_some_and(|first| first.height == height + 1 && first.previous == hash);
        Ok(if connects { transactions } else { Vec::new() })
    }

    /// All keys have what the last steps gave them: lets them go, and turns to the next steps.
    fn finish_steps(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let Some(steps) = self.steps(slot) else { return Ok(()) };
        steps.phase = Phase::Gathering;
        let held = std::mem::take(&mut steps.held);
        for key in held {
            self.advance(slot, &key)?;
        }
        self.release_ranges(slot);
        self.advance(slot, &Key::of_steps(slot))
    }
}

impl Leadership {
    /// Whether a majority was found in this term to have no step. The key of steps counts as absent then until something is
    /// proposed for it in this term.
    pub(crate) fn begins_without_steps(&self) -> bool {
        self.steps.void_before == Some(self.term)
    }

    /// The keys of the steps that come next, and whether these may change each.
    fn keys_of_next_steps(&self, key: &Key) -> BTreeMap<Key, bool> {
        let mut wanted = BTreeMap::new();
        let waiting = self.keys.get(key).map(|state| state.appends.iter().take(BATCH_MAX));
        for append in waiting.into_iter().flatten() {
            if let Appending::Step { step, is_write, .. } = &append.appending {
                for key in step.keys() {
                    *wanted.entry(key.clone()).or_default() |= *is_write;
                }
            }
        }
        wanted
    }
}
