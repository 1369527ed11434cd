//! Appending to a key: conditions are decided against the head, transactions are built and proposed together, and one
//! round trip later they are committed.

use bytes::Bytes;
use difuse_structures::{Reply, series_of};
use difuse_types::{Hash, Key, Level, NodeId, OperationId, SlotId, WallTime};

use super::{
    Append, Appending, Decided, Proposing, Stage, WaitingRead, Wanted,
    evaluate::{Content, Evaluated, context_of},
    generation::is_too_old,
    retries::Applied,
};
use crate::{
    Answer, Ballot, Condition, Failure, Invocation, Operation, REPLY_BYTES_MAX, Register, Submission, Ticket,
    Transaction,
    keylog::Keylog,
    replica::damage::{ReadError, outcome},
    rule::Rule,
    store::{Store, StoreError},
};

/// The most appends to one key that travel in one proposal.
pub(crate) const BATCH_MAX: usize = 64;
/// The most bytes of transactions that travel in one proposal, but for its last one.
pub(super) const BATCH_BYTES_MAX: usize = 512 << 10;

/// A proposal with more bytes of transactions is sent without them, and those who lack them, all, fetch them in parts.
pub(super) const PROPOSAL_BYTES_MAX: usize = 1 << 20;

/// The reply to a repeated command is found again by folding no more than so many transactions.
const REPLIES_FOUND_WITHIN: u64 = 16_384;

/// A key's log while a batch of appends is built on it.
pub(super) struct Draft {
    pub(super) key: Key,
    pub(super) base: Option<Register>,
    pub(super) height: u64,
    pub(super) hash: Hash,
    pub(super) content: Content,
    /// Height of the newest checkpoint; 0 if there is none.
    pub(super) checkpoint: u64,
    pub(super) transactions: Vec<Transaction>,
}

impl Draft {
    /// Whether a condition holds of it at a time.
    pub(super) fn satisfies(&self, condition: Condition, now: WallTime) -> bool {
        match condition {
            Condition::None => true,
            Condition::Absent => !self.content.exists(now),
            Condition::Present => self.content.exists(now),
            Condition::Head(hash) => self.height > 0 && self.hash == hash,
        }
    }
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
        match outcome(self.must_fold_first(slot, key))? {
            Ok(false) => {}
            Ok(true) => return Ok(()),
            Err(failure) => {
                self.fail_appends(slot, key, &failure);
                return Ok(());
            }
        }
        // What is wrong with reading it is told when it is checked.
        if outcome(self.must_wait_for_generation(slot, key))?.unwrap_or(false) {
            return Ok(());
        }
        let is_read = self.must_read(slot, key);
        let mut draft = match outcome(self.draft(slot, key, is_read))? {
            Ok(draft) => draft,
            Err(failure) => {
                self.fail_appends(slot, key, &failure);
                return Ok(());
            }
        };
        if self.judge_appends(slot, &draft) {
            return self.seal_key(slot, &draft);
        }
        let batch = self.take_batch(slot, key);
        let batch = self.admit(key, batch)?;
        let committed_height = draft.height;
        let mut results = Vec::with_capacity(batch.len());
        for Append { ticket, appending, .. } in batch {
            let level = appending.level();
            if level == Level::All && self.refuse_without_all(slot, ticket) {
                continue;
            }
            let decided = match appending {
                Appending::Write(submission) => {
                    if let Some(failure) =
                        outcome(self.check_generation(slot, &draft, &submission))?.unwrap_or_else(Some)
                    {
                        self.done(ticket, Err(failure));
                        continue;
                    }
                    outcome(self.decide(slot, &mut draft, submission))?
                }
                // They wait for the key of steps alone, and are taken from there.
                Appending::Step { .. } => Err(Failure::Busy),
                Appending::Command { invocation, is_write } => {
                    outcome(self.decide_command(slot, &mut draft, invocation, is_write))?.and_then(|decided| decided)
                }
            };
            match decided {
                Ok(answer) => results.push(Decided { ticket, level, answer }),
                Err(failure) => self.done(ticket, Err(failure)),
            }
        }
        let head = (draft.height, draft.hash);
        if let Some(state) = draft.content.state.take() {
            self.states.put(slot, key, draft.hash, state, self.options.states_bytes_max);
        }
        if results.is_empty() {
            return self.advance(slot, key);
        }
        if draft.transactions.is_empty() && !self.must_propose(slot, draft.base.as_ref(), &results) {
            return self.answer_after_round(slot, key, results);
        }
        self.propose(slot, key, head, draft.transactions, Some(committed_height), results)
    }

    /// Whether the head must be proposed again though nothing is added to it.
    pub(super) fn must_propose(&mut self, slot: SlotId, base: Option<&Register>, results: &[Decided]) -> bool {
        // Whether every member has an append that was applied before is found out by proposing it again.
        let is_for_all = |decided: &Decided| decided.level == Level::All && decided.answer.is_append();
        results.iter().any(is_for_all) || self.must_seal(slot, base, results)
    }

    /// Whether a refusal must be sealed by proposing the head again: it may answer the retry of an append that another
    /// leader had begun to propose. While the head is of an older term, that proposal could still be found and adopted by
    /// a later leader; below an accepted ballot of this term it cannot.
    fn must_seal(&mut self, slot: SlotId, base: Option<&Register>, results: &[Decided]) -> bool {
        let is_refusal = results.iter().any(|decided| decided.answer.is_refusal());
        let term = self.leadership(slot).map(|leadership| leadership.term);
        is_refusal && base.is_some_and(|base| Some(base.ballot.term) != term)
    }

    /// The name of a write that nobody but this leader asks for.
    pub(super) fn draw_operation_id(&mut self) -> OperationId {
        let mut id = [0; 16];
        self.rng.fill(&mut id);
        OperationId(id)
    }

    /// Proposes a settled head again, so that nothing can be found below it any more.
    pub(super) fn propose_again(&mut self, slot: SlotId, key: &Key, head: (u64, Hash)) -> Result<(), StoreError> {
        self.propose(slot, key, head, Vec::new(), Some(head.0), Vec::new())
    }

    /// Takes the appends that come next.
    pub(super) fn take_batch(&mut self, slot: SlotId, key: &Key) -> Vec<Append> {
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key));
        let Some(state) = state else { return Vec::new() };
        let (mut bytes, mut transactions) = (0, 0);
        let fits = |append: &&Append| {
            let is_first = transactions == 0;
            transactions += append.appending.transactions();
            let fits = is_first || (bytes < BATCH_BYTES_MAX && transactions <= BATCH_MAX);
            bytes += append.appending.approximate_bytes();
            fits
        };
        let count = state.appends.iter().take_while(fits).count();
        state.appends.drain(..count).collect()
    }

    /// What there is room for; the rest is refused.
    pub(super) fn admit(&mut self, key: &Key, batch: Vec<Append>) -> Result<Vec<Append>, StoreError> {
        let mut admitted = Vec::with_capacity(batch.len());
        for append in batch {
            match self.why_no_room(key, &append.appending)? {
                None => admitted.push(append),
                Some(reason) => self.done(append.ticket, Err(Failure::Full(reason))),
            }
        }
        Ok(admitted)
    }

    /// Why there is no room for what may add to a key's log, if so.
    pub(super) fn why_no_room(&self, key: &Key, appending: &Appending) -> Result<Option<String>, StoreError> {
        match appending {
            Appending::Write(submission) => self.why_full_for(key, std::iter::once(&submission.operation)),
            Appending::Command { is_write: false, .. } | Appending::Step { is_write: false, .. } => Ok(None),
            Appending::Command { is_write: true, .. } | Appending::Step { is_write: true, .. } => self.why_full(),
        }
    }

    /// Fails all appends that wait.
    pub(super) fn fail_appends(&mut self, slot: SlotId, key: &Key, failure: &Failure) {
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key));
        let waiting = state.map(|state| std::mem::take(&mut state.appends)).unwrap_or_default();
        for append in waiting {
            self.done(append.ticket, Err(failure.clone()));
        }
    }

    /// The end of a key's log, to be built on; with the value that it holds only if that is going to be looked at.
    pub(super) fn draft(&mut self, slot: SlotId, key: &Key, is_read: bool) -> Result<Draft, ReadError> {
        let base = self.store.register(slot, key)?;
        let (height, hash) = base.as_ref().map_or((0, Hash::ZERO), |base| (base.head.height, base.head.hash));
        let content = match &base {
            None => Content::default(),
            Some(base) if !is_read => Content::unread(&base.head),
            Some(_) => self.stored(slot, key, height)?.map(|head| Content::of(&head.operation)).unwrap_or_default(),
        };
        let checkpoint = base.as_ref().map_or(0, |base| base.head.checkpoint);
        Ok(Draft { key: key.clone(), base, height, hash, content, checkpoint, transactions: Vec::new() })
    }

    /// Whether what waits for a key depends on its value: what is written without being evaluated takes the place of any. A key
    /// that is known to be damaged is not written before it is repaired.
    fn must_read(&mut self, slot: SlotId, key: &Key) -> bool {
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get(key));
        let is_evaluated = state.is_some_and(|state| state.appends.iter().any(Append::is_command));
        is_evaluated || self.is_damaged(slot, key, 0..=u64::MAX)
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
        if let Some(answer) = self.refused_with(slot, submission.operation_id, submission.condition) {
            return Ok(answer);
        }
        let has_value = draft.content.exists(submission.time);
        let holds = if draft.key == Key::of_generation() {
            !self.would_lower_generation(slot, &submission.operation)?
        } else {
            draft.satisfies(submission.condition, submission.time)
        };
        if !holds {
            let answer = Answer::Conflict((draft.height > 0).then_some((draft.height, draft.hash, has_value)));
            self.note_answer(slot, submission.operation_id, submission.condition, &answer);
            return Ok(answer);
        }
        let created = !has_value && matches!(submission.operation, Operation::Set(_));
        draft.content = Content::of(&submission.operation);
        let Submission { operation, operation_id, author, time, .. } = submission;
        let transaction = transaction_after(draft, operation, operation_id, author, time);
        self.append_to(slot, draft, transaction, created);
        Ok(Answer::Appended { height: draft.height, hash: draft.hash, created, mark: None })
    }

    /// Evaluates one command on the draft and adds its transaction if it comes to one.
    fn decide_command(
        &mut self,
        slot: SlotId,
        draft: &mut Draft,
        invocation: Invocation,
        is_write: bool,
    ) -> Result<Result<Answer, Failure>, ReadError> {
        let Invocation { arguments, operation_id, author, time, .. } = invocation;
        if is_write {
            if draft.transactions.iter().any(|transaction| transaction.operation_id == operation_id) {
                // The same command twice in one batch: the second is asked again, and finds the first.
                return Ok(Err(Failure::Busy));
            }
            if let Some(found) = self.find_command(slot, draft, operation_id, &arguments)? {
                return Ok(found);
            }
            if let Some(answer) = self.refused_with(slot, operation_id, Condition::None) {
                return Ok(Ok(answer));
            }
        }
        let by = (operation_id, author, time);
        let evaluated = match series_of(&arguments) {
            None => self.evaluate_command(slot, draft, &arguments, by)?,
            Some(Ok(commands)) => self.evaluate_series(slot, draft, &commands, by)?,
            Some(Err(malformed)) => Err(Failure::Invalid(malformed.to_string())),
        };
        let (reply, appended) = match evaluated {
            Ok(evaluated) => evaluated,
            Err(failure) => return Ok(Err(failure)),
        };
        let answer = Answer::Evaluated { reply, is_write, appended, mark: None };
        self.note_answer(slot, operation_id, Condition::None, &answer);
        Ok(Ok(answer))
    }

    /// The encoded reply to one command, and height and hash of its transaction if it comes to one.
    #[expect(clippy::type_complexity)]
    fn evaluate_command(
        &mut self,
        slot: SlotId,
        draft: &mut Draft,
        arguments: &[Bytes],
        (operation_id, author, time): (OperationId, NodeId, WallTime),
    ) -> Result<Result<(Bytes, Option<(u64, Hash)>), Failure>, ReadError> {
        let context = context_of(operation_id, time);
        let Evaluated { reply, operation } = match self.evaluate(slot, draft, arguments, &context, REPLY_BYTES_MAX)? {
            Ok(evaluated) => evaluated,
            Err(failure) => return Ok(Err(failure)),
        };
        let appended = operation.map(|operation| {
            let transaction = transaction_after(draft, operation, operation_id, author, time);
            self.append_to(slot, draft, transaction, false);
            (draft.height, draft.hash)
        });
        if appended.is_some() {
            self.append_large_checkpoint(slot, draft, (operation_id, author, time));
        }
        Ok(Ok((reply, appended)))
    }

    /// The reply to a command that was applied before: found by its operation id.
    fn find_command(
        &mut self,
        slot: SlotId,
        draft: &Draft,
        operation_id: OperationId,
        arguments: &[Bytes],
    ) -> Result<Option<Result<Answer, Failure>>, ReadError> {
        let Some(base) = &draft.base else { return Ok(None) };
        let Some(height) = self.height_of(slot, draft, operation_id) else { return Ok(None) };
        let (key, mark) = (&draft.key, Some(base.ballot));
        // What was applied while others waited may be below what is kept.
        let is_kept = height >= base.base;
        let Some(transaction) = (if is_kept { self.stored(slot, key, height)? } else { None }) else {
            let reply = lost_reply(height);
            return Ok(Some(Ok(Answer::Evaluated { reply, is_write: false, appended: None, mark })));
        };
        let (time, appended) = (transaction.time, Some((height, transaction.hash())));
        let checkpoint = if base.head.checkpoint < height { base.head.checkpoint } else { 0 };
        let first = checkpoint.max(base.base);
        let can_be_found = base.base < height || height == 1;
        let reply = match height - first {
            ..REPLIES_FOUND_WITHIN if can_be_found => match series_of(arguments).and_then(Result::ok) {
                None => self.reply_again(slot, key, height, arguments, &context_of(operation_id, time))?,
                Some(commands) => self.series_again(slot, key, height, &commands, (operation_id, time))?,
            },
            _ => Ok(lost_reply(height)),
        };
        Ok(Some(reply.map(|reply| Answer::Evaluated { reply, is_write: true, appended, mark })))
    }

    /// Adds a transaction to a draft, as a checkpoint if one is due and it holds the whole state.
    pub(super) fn append_to(&mut self, slot: SlotId, draft: &mut Draft, transaction: Transaction, created: bool) {
        let is_due = self.is_checkpoint_due(draft.checkpoint, transaction.height);
        let checkpoint = if is_due { transaction.operation.state_hash() } else { None };
        let transaction = Transaction { checkpoint, ..transaction };
        if checkpoint.is_some() {
            draft.checkpoint = transaction.height;
        }
        draft.height = transaction.height;
        draft.hash = transaction.hash();
        if let Some(state) = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(&draft.key)) {
            let (operation_id, height, hash) = (transaction.operation_id, draft.height, draft.hash);
            state.note_applied(Applied { operation_id, height, hash, created });
        }
        draft.transactions.push(transaction);
    }

    /// Nothing was proposed, so nothing shows that this node still leads: a conflict is a read, and waits for a round.
    pub(super) fn answer_after_round(
        &mut self,
        slot: SlotId,
        key: &Key,
        results: Vec<Decided>,
    ) -> Result<(), StoreError> {
        for Decided { ticket, level, answer } in results {
            let is_weak = matches!(level, Level::Lazy | Level::Leader);
            if is_weak && matches!(answer, Answer::Evaluated { is_write: false, .. }) {
                // The leader's word is enough for a read at these levels.
                self.done(ticket, Ok(answer));
            } else {
                self.waiting_reads.push(WaitingRead { ticket, slot, wanted: Wanted::Found(answer) });
            }
        }
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
                Level::All if decided.answer.is_append() => {
                    self.await_every_member(slot, key, &proposing, decided);
                }
                _ => self.done(decided.ticket, Ok(decided.answer)),
            }
        }
        self.advance(slot, key)?;
        self.continue_change(slot)
    }
}

/// What a repeated command is answered with whose reply would take too long to find again.
pub(super) fn lost_reply(height: u64) -> Bytes {
    let text = format!("UNKNOWN the command was applied, at height {height}, but its reply is lost: read the key");
    Reply::Error(text).encode().into()
}

/// A transaction on top of a draft.
pub(super) fn transaction_after(
    draft: &Draft,
    operation: Operation,
    operation_id: OperationId,
    author: NodeId,
    time: WallTime,
) -> Transaction {
    Transaction {
        key: draft.key.clone(),
        height: draft.height + 1,
        previous: draft.hash,
        operation,
        author,
        time,
        operation_id,
        checkpoint: None,
    }
}

impl Proposing {
    /// The appends that are answered as soon as this node has them: level leader, unless they are refused.
    fn take_early(&mut self) -> Vec<(Ticket, Answer)> {
        let is_early =
            |decided: &mut Decided| matches!(decided.level, Level::Lazy | Level::Leader) && decided.answer.is_append();
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
        if let Answer::Appended { mark, .. } | Answer::Evaluated { mark, .. } = &mut self.answer {
            *mark = Some(ballot);
        }
    }
}
