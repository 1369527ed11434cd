//! Appending to a key: conditions are decided against the head, transactions are built and proposed together, and one
//! round trip later they are committed.

use std::collections::VecDeque;

use difuse_types::{Hash, Key, Level, NodeId, SlotId};

use super::{Decided, Proposing, Stage, WaitingRead, Wanted, generation::is_too_old};
use crate::{
    Answer, Ballot, Condition, Failure, Operation, Register, Submission, Ticket, Transaction,
    keylog::Keylog,
    replica::damage::{ReadError, outcome},
    rule::Rule,
    store::{RECENT_OPERATIONS_MAX, Store, StoreError},
};

/// The most appends to one key that travel in one proposal.
pub(crate) const BATCH_MAX: usize = 64;
/// A checkpoint is relied on when something so far above it is committed that no head forgets an operation id by it; two
/// proposals later at the latest a proposal says so.
const CHECKPOINTS_APART_MIN: u64 = (RECENT_OPERATIONS_MAX + 2 * BATCH_MAX) as u64;

/// A key's log while a batch of appends is built on it.
struct Draft {
    key: Key,
    base: Option<Register>,
    height: u64,
    hash: Hash,
    has_value: bool,
    /// Height of the newest checkpoint; 0 if there is none.
    checkpoint: u64,
    transactions: Vec<Transaction>,
}

impl<S: Store> Keylog<S> {
    /// Builds on what waits for a settled key and proposes it.
    pub(crate) fn propose_appends(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let Some(state) = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key)) else {
            return Ok(());
        };
        if state.appends.is_empty() {
            return Ok(());
        }
        // What is wrong with reading it is told when it is checked.
        if outcome(self.must_wait_for_generation(slot, key))?.unwrap_or(false) {
            return Ok(());
        }
        let Some(state) = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key)) else {
            return Ok(());
        };
        let count = state.appends.len().min(BATCH_MAX);
        let batch: VecDeque<_> = state.appends.drain(..count).collect();
        if let Some(reason) = self.why_full()? {
            self.fail_appends(slot, key, batch, &Failure::Full(reason));
            return Ok(());
        }
        let mut draft = match outcome(self.draft(slot, key))? {
            Ok(draft) => draft,
            Err(failure) => {
                self.fail_appends(slot, key, batch, &failure);
                return Ok(());
            }
        };
        let committed_height = draft.height;
        let mut results = Vec::with_capacity(batch.len());
        for (ticket, submission) in batch {
            let level = submission.level;
            if level == Level::All && self.refuse_without_all(slot, ticket) {
                continue;
            }
            if let Some(failure) = outcome(self.check_generation(slot, &draft, &submission))?.unwrap_or_else(Some) {
                self.done(ticket, Err(failure));
                continue;
            }
            match outcome(self.decide(slot, &mut draft, submission))? {
                Ok(answer) => results.push(Decided { ticket, level, answer }),
                Err(failure) => self.done(ticket, Err(failure)),
            }
        }
        let head = (draft.height, draft.hash);
        if results.is_empty() {
            return self.advance(slot, key);
        }
        // Whether every member has an append that was applied before is found out by proposing it again.
        let is_for_all =
            |decided: &Decided| decided.level == Level::All && matches!(decided.answer, Answer::Appended { .. });
        let must_propose = results.iter().any(is_for_all) || self.must_seal(slot, draft.base.as_ref(), &results);
        if draft.transactions.is_empty() && !must_propose {
            return self.answer_after_round(slot, key, results);
        }
        self.propose(slot, key, head, draft.transactions, Some(committed_height), results)
    }

    /// Whether a refusal must be sealed by proposing the head again: it may answer the retry of an append that another
    /// leader had begun to propose. While the head is of an older term, that proposal could still be found and adopted by
    /// a later leader; below an accepted ballot of this term it cannot.
    fn must_seal(&mut self, slot: SlotId, base: Option<&Register>, results: &[Decided]) -> bool {
        let is_refusal = results.iter().any(|decided| matches!(decided.answer, Answer::Conflict(_)));
        let term = self.leadership(slot).map(|leadership| leadership.term);
        is_refusal && base.is_some_and(|base| Some(base.ballot.term) != term)
    }

    /// Fails a batch and all appends that wait behind it.
    fn fail_appends(&mut self, slot: SlotId, key: &Key, batch: VecDeque<(Ticket, Submission)>, failure: &Failure) {
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key));
        let waiting = state.map(|state| std::mem::take(&mut state.appends)).unwrap_or_default();
        for (ticket, _) in batch.into_iter().chain(waiting) {
            self.done(ticket, Err(failure.clone()));
        }
    }

    fn draft(&mut self, slot: SlotId, key: &Key) -> Result<Draft, ReadError> {
        let base = self.store.register(slot, key)?;
        let (height, hash) = base.as_ref().map_or((0, Hash::ZERO), |base| (base.head.height, base.head.hash));
        let head = if height == 0 { None } else { self.stored(slot, key, height)? };
        let has_value = head.is_some_and(|head| head.value().is_some());
        let checkpoint = base.as_ref().map_or(0, |base| base.head.checkpoint);
        Ok(Draft { key: key.clone(), base, height, hash, has_value, checkpoint, transactions: Vec::new() })
    }

    /// Why an append may not be decided now, for the sake of the blocks that its value names. One that was applied before
    /// stays applied.
    fn check_generation(
        &mut self,
        slot: SlotId,
        draft: &Draft,
        submission: &Submission,
    ) -> Result<Option<Failure>, ReadError> {
        let Some(stored_in) = submission.generation else { return Ok(None) };
        if self.breaks(Rule::UploadGeneration) {
            return Ok(None);
        }
        if self.find_retried(slot, draft, submission)?.is_some() {
            return Ok(None);
        }
        Ok(match self.slot_generation(slot)? {
            None => Some(Failure::Busy),
            Some(generation) if is_too_old(stored_in, generation) => Some(Failure::TooOld { generation }),
            Some(_) => None,
        })
    }

    /// Decides one append against the draft and adds its transaction if it may be applied.
    fn decide(&mut self, slot: SlotId, draft: &mut Draft, submission: Submission) -> Result<Answer, ReadError> {
        if let Some(answer) = self.find_retried(slot, draft, &submission)? {
            return Ok(answer);
        }
        if let Some(answer) = self
            .leadership(slot)
            .and_then(|leadership| leadership.refused.get(&(submission.operation_id, submission.condition)))
        {
            return Ok(answer.clone());
        }
        let holds = match submission.condition {
            _ if draft.key == Key::of_generation() => !self.would_lower_generation(slot, &submission.operation)?,
            Condition::None => true,
            Condition::Absent => !draft.has_value,
            Condition::Present => draft.has_value,
            Condition::Head(hash) => draft.height > 0 && draft.hash == hash,
        };
        if !holds {
            let answer = Answer::Conflict((draft.height > 0).then_some((draft.height, draft.hash, draft.has_value)));
            if let Some(leadership) = self.leadership(slot) {
                leadership.refused.insert((submission.operation_id, submission.condition), answer.clone());
            }
            return Ok(answer);
        }
        let created = !draft.has_value && matches!(submission.operation, Operation::Set(_));
        let height = draft.height + 1;
        let checkpoint = self.is_checkpoint_due(draft.checkpoint, height).then(|| submission.operation.state_hash());
        if checkpoint.is_some() {
            draft.checkpoint = height;
        }
        let transaction = Transaction {
            key: draft.key.clone(),
            height,
            previous: draft.hash,
            operation: submission.operation,
            author: submission.author,
            time: submission.time,
            operation_id: submission.operation_id,
            checkpoint,
        };
        draft.height = transaction.height;
        draft.hash = transaction.hash();
        draft.has_value = transaction.value().is_some();
        draft.transactions.push(transaction);
        Ok(Answer::Appended { height: draft.height, hash: draft.hash, created, mark: None })
    }

    /// Whether the transaction at a height becomes a checkpoint. They are so far apart that there is a proposal on top of
    /// each that is old enough to be relied on, before the next one is made: [`CHECKPOINTS_APART_MIN`].
    fn is_checkpoint_due(&self, last: u64, height: u64) -> bool {
        let every = self.options.checkpoint_every;
        every > 0 && height >= last + every.max(CHECKPOINTS_APART_MIN)
    }

    /// The outcome of an append that was applied before: found by its operation id.
    fn find_retried(
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
        let Some(depth) = base.head.recent.iter().position(|recent| *recent == id) else { return Ok(None) };
        let height = base.head.height - depth as u64;
        let Some(transaction) = self.stored(slot, &draft.key, height)? else { return Ok(None) };
        let before = if height > 1 { self.stored(slot, &draft.key, height - 1)? } else { None };
        let had_value = before.is_some_and(|before| before.value().is_some());
        let created = !had_value && transaction.value().is_some();
        Ok(Some(Answer::Appended { height, hash: transaction.hash(), created, mark: Some(base.ballot) }))
    }

    /// Nothing was proposed, so nothing shows that this node still leads: a conflict is a read, and waits for a round.
    fn answer_after_round(&mut self, slot: SlotId, key: &Key, results: Vec<Decided>) -> Result<(), StoreError> {
        let found = results.into_iter().map(|decided| WaitingRead {
            ticket: decided.ticket,
            slot,
            wanted: Wanted::Found(decided.answer),
        });
        self.waiting_reads.extend(found);
        self.advance(slot, key)
    }

    pub(crate) fn handle_accepted(
        &mut self,
        from: NodeId,
        slot: SlotId,
        ballot: Ballot,
        key: Key,
    ) -> Result<(), StoreError> {
        let me = self.me;
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        let configuration = &state.record.configuration;
        let super::Phase::Leading(leadership) = &mut state.phase else { return Ok(()) };
        if !configuration.contains(&from) {
            return Ok(());
        }
        let mut answered = leadership.note_accepted(from, ballot, &key);
        leadership.tombstones.note_accepted(from, ballot, &key);
        if let Some(key_state) = leadership.keys.get_mut(&key)
            && let Stage::Proposing(proposing) = &mut key_state.stage
            && proposing.proposal.ballot == ballot
        {
            proposing.voters.insert(from);
            if from == me {
                answered.extend(proposing.take_early());
            }
            // Its own vote too: what is committed must be here, for the reads that follow.
            if proposing.voters.contains(&me) && configuration.is_quorum(&proposing.voters) {
                self.commit(slot, &key)?;
            }
        }
        for (ticket, answer) in answered {
            self.done(ticket, Ok(answer));
        }
        Ok(())
    }

    fn commit(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let Some(state) = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key)) else {
            return Ok(());
        };
        let Stage::Proposing(mut proposing) = std::mem::take(&mut state.stage) else { return Ok(()) };
        if let Some(leadership) = self.leadership(slot) {
            leadership.in_flight.remove(&proposing.proposal.ballot.sequence);
        }
        for mut decided in std::mem::take(&mut proposing.results) {
            decided.mark(proposing.proposal.ballot);
            match decided.level {
                Level::All if matches!(decided.answer, Answer::Appended { .. }) => {
                    self.await_every_member(slot, key, &proposing, decided);
                }
                _ => self.done(decided.ticket, Ok(decided.answer)),
            }
        }
        self.advance(slot, key)?;
        self.continue_change(slot)
    }
}

impl Proposing {
    /// The appends that are answered as soon as this node has them: level leader, unless they are refused.
    fn take_early(&mut self) -> Vec<(Ticket, Answer)> {
        let is_early = |decided: &mut Decided| {
            matches!(decided.level, Level::Lazy | Level::Leader) && matches!(decided.answer, Answer::Appended { .. })
        };
        let ballot = self.proposal.ballot;
        let early = self.results.extract_if(.., is_early);
        early
            .map(|mut decided| {
                decided.mark(ballot);
                (decided.ticket, decided.answer)
            })
            .collect()
    }
}

impl Decided {
    /// Whoever sees the append sees the slot up to the ballot at which it was proposed.
    fn mark(&mut self, ballot: Ballot) {
        if let Answer::Appended { mark, .. } = &mut self.answer {
            *mark = Some(ballot);
        }
    }
}
