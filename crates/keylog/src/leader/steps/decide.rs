//! Deciding steps: their commands are done on drafts of the keys' logs, which become one transaction of the slot's key of
//! steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use difuse_structures::{CommandError, Reply, View};
use difuse_types::{Hash, Key, Level, OperationId, SlotId};

use super::Phase;
use crate::{
    Anchor, Answer, Condition, Failure, Invocation, MAX_OPERATION_BYTES, REPLY_BYTES_MAX, Step, Transaction,
    keylog::Keylog,
    leader::{
        Append, Appending, Decided,
        append::{Draft, lost_reply, transaction_after},
        evaluate::{Content, context_of},
    },
    replica::damage::{ReadError, outcome},
    step::{StepRecord, operation_id_in, operation_id_of},
    store::{Store, StoreError},
};

/// About how many bytes of steps are proposed together, but for the last one.
const STEPS_BYTES_MAX: usize = MAX_OPERATION_BYTES;
/// A step writes the whole state of a structure, where its log is to begin anew, up to this length: it shares one
/// transaction with everything else that the step does.
const STATE_BYTES_MAX: usize = 32 << 10;

/// A step that is being decided, and those decided before it that are to be proposed with it.
struct Drafts {
    steps: Draft,
    keys: BTreeMap<Key, Draft>,
}

/// What a key's draft was before a step.
struct Before {
    height: u64,
    hash: Hash,
    checkpoint: u64,
    content: Content,
    transactions: usize,
}

impl<S: Store> Keylog<S> {
    /// Decides the steps whose keys are held, in the order in which they came, and proposes what they come to.
    pub(super) fn decide_steps(&mut self, slot: SlotId, steps: Draft) -> Result<(), StoreError> {
        let key = steps.key.clone();
        let committed_height = steps.height;
        let mut drafts = Drafts { steps, keys: BTreeMap::new() };
        let batch = self.take_batch(slot, &key);
        let mut batch: VecDeque<Append> = self.admit(&key, batch)?.into();
        let mut results = Vec::with_capacity(batch.len());
        while let Some(append) = batch.pop_front() {
            let Append { ticket, appending: Appending::Step { step, invocation, is_write }, .. } = append else {
                continue;
            };
            let level = invocation.level;
            if level == Level::All && self.refuse_without_all(slot, ticket) {
                continue;
            }
            match outcome(self.decide_step(slot, &mut drafts, step, &invocation, is_write))?.and_then(|decided| decided)
            {
                Ok(answer) => results.push(Decided { ticket, level, answer }),
                Err(failure) => self.done(ticket, Err(failure)),
            }
            if drafts.bytes() >= STEPS_BYTES_MAX {
                break;
            }
        }
        if let Some(state) = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(&key)) {
            // What did not fit comes next.
            batch.into_iter().rev().for_each(|append| state.appends.push_front(append));
        }
        self.propose_steps(slot, drafts, committed_height, results)
    }
    fn propose_steps(
        &mut self,
        slot: SlotId,
        drafts: Drafts,
        committed_height: u64,
        results: Vec<Decided>,
    ) -> Result<(), StoreError> {
        let Drafts { steps, keys } = drafts;
        let key = steps.key.clone();
        let mut undone = BTreeMap::new();
        for (key, mut draft) in keys {
            if let Some(state) = draft.content.state.take() {
                self.states.put(slot, &key, draft.hash, state, self.options.states_bytes_max);
            }
            if !draft.transactions.is_empty() {
                undone.insert(key, Some(draft.transactions));
            }
        }
        if results.is_empty() {
            return self.advance(slot, &key);
        }
        if steps.transactions.is_empty() && !self.must_propose(slot, steps.base.as_ref(), &results) {
            return self.answer_after_round(slot, &key, results);
        }
        let Some(own) = self.steps(slot) else { return Ok(()) };
        own.phase = Phase::Recording;
        if !undone.is_empty() {
            own.changed = undone.keys().cloned().collect();
        }
        own.undone = undone;
        self.propose(slot, &key, (steps.height, steps.hash), steps.transactions, Some(committed_height), results)
    }

    /// Decides one step on the drafts, and adds its transactions to them if it changes anything.
    fn decide_step(
        &mut self,
        slot: SlotId,
        drafts: &mut Drafts,
        step: Step,
        invocation: &Invocation,
        is_write: bool,
    ) -> Result<Result<Answer, Failure>, ReadError> {
        let id = invocation.operation_id;
        if is_write {
            if drafts.steps.transactions.iter().any(|transaction| transaction.operation_id == id) {
                // The same step twice in one batch: the second is asked again, and finds the first.
                return Ok(Err(Failure::Busy));
            }
            if let Some(found) = self.find_step(slot, &drafts.steps, id)? {
                return Ok(Ok(found));
            }
            if let Some(answer) = self.refused_with(slot, id, Condition::None) {
                return Ok(Ok(answer));
            }
            if self.is_lost_by_recovery(slot, &step, id)? {
                let Some(ballot) = self.leadership(slot).map(|leadership| leadership.present()) else {
                    return Ok(Err(Failure::Busy));
                };
                let now = Anchor { ballot, height: drafts.steps.height };
                return Ok(Err(Failure::Forgotten { now }));
            }
        }
        let mut before = BTreeMap::new();
        let (reply, appended) = match self.evaluate_step(slot, drafts, &step, invocation, &mut before)? {
            Ok(done) => done,
            Err(failure) => {
                drafts.restore(before);
                return Ok(Err(failure));
            }
        };
        let answer = Answer::Evaluated { reply, is_write, appended, mark: None };
        self.note_answer(slot, id, Condition::None, &answer);
        Ok(Ok(answer))
    }

    /// The encoded reply of a step, and where it came to stand if it changes anything. `before`: what the drafts were that
    /// it has changed.
    #[expect(clippy::type_complexity)]
    fn evaluate_step(
        &mut self,
        slot: SlotId,
        drafts: &mut Drafts,
        step: &Step,
        invocation: &Invocation,
        before: &mut BTreeMap<Key, Before>,
    ) -> Result<Result<(bytes::Bytes, Option<(u64, Hash)>), Failure>, ReadError> {
        for key in step.keys() {
            if !drafts.keys.contains_key(key) {
                let draft = self.draft(slot, key, true)?;
                drafts.keys.insert(key.clone(), draft);
            }
        }
        let is_unchanged = step.unchanged.iter().all(|(key, condition)| {
            drafts.keys.get(key).is_some_and(|draft| draft.satisfies(*condition, invocation.time))
        });
        let reply = if is_unchanged {
            match self.run_commands(slot, drafts, step, invocation, before)? {
                Ok(replies) => Reply::Array(replies),
                Err(failure) => return Ok(Err(failure)),
            }
        } else {
            Reply::Null
        };
        let reply: bytes::Bytes = reply.encode().into();
        if reply.len() > REPLY_BYTES_MAX {
            let length = reply.len();
            let text = format!("the replies take {length} bytes: {REPLY_BYTES_MAX} are given at a time");
            return Ok(Err(Failure::Invalid(text)));
        }
        let changes: Vec<(Key, Vec<Transaction>)> = before
            .iter()
            .filter_map(|(key, before)| {
                let added = drafts.keys.get(key)?.transactions.get(before.transactions..)?;
                (!added.is_empty()).then(|| (key.clone(), added.to_vec()))
            })
            .collect();
        if changes.is_empty() {
            return Ok(Ok((reply, None)));
        }
        let steps = &mut drafts.steps;
        let first_height = steps.base.as_ref().map_or(0, |base| base.head.height) + 1;
        let operation = StepRecord::new(first_height, &reply, changes).operation();
        if !operation.is_well_formed() {
            let text = format!("what the step changes takes more than {MAX_OPERATION_BYTES} bytes");
            return Ok(Err(Failure::Invalid(text)));
        }
        let Invocation { operation_id, author, time, .. } = *invocation;
        let transaction = transaction_after(steps, operation, operation_id, author, time);
        self.append_to(slot, steps, transaction, false);
        Ok(Ok((reply, Some((steps.height, steps.hash)))))
    }

    /// Does the commands of a step one after the other on the drafts.
    fn run_commands(
        &mut self,
        slot: SlotId,
        drafts: &mut Drafts,
        step: &Step,
        invocation: &Invocation,
        before: &mut BTreeMap<Key, Before>,
    ) -> Result<Result<Vec<Reply>, Failure>, ReadError> {
        let Invocation { operation_id, author, time, .. } = *invocation;
        let mut replies = Vec::with_capacity(step.commands.len());
        for (index, command) in (0..).zip(&step.commands) {
            for key in &command.keys {
                let Some(draft) = drafts.keys.get_mut(key) else { continue };
                if let Err(failure) = self.fold_draft(slot, draft)? {
                    return Ok(Err(failure));
                }
            }
            let context = context_of(operation_id_in(operation_id, u64::MAX - index), time);
            let view_of = |key: &Key| drafts.keys.get(key).map_or_else(View::default, |draft| draft.content.view(time));
            let views: Vec<View<'_>> = command.keys.iter().map(view_of).collect();
            let evaluated = self.options.structures.evaluate_keys(&views, &command.arguments, &context);
            let outcome = match evaluated {
                Ok(outcome) => outcome,
                Err(CommandError::InBlocks) => return Ok(Err(Failure::InBlocks)),
                Err(error) => {
                    replies.push(Reply::Error(error.to_string()));
                    continue;
                }
            };
            for (position, effect) in outcome.effects {
                let Some(key) = command.keys.get(position) else { continue };
                let Some(draft) = drafts.keys.get_mut(key) else { continue };
                let before = before.entry(key.clone()).or_insert_with(|| Before::of(draft));
                // An effect of the same command on the same key may have left a structure that must be folded.
                if let Err(failure) = self.fold_draft(slot, draft)? {
                    return Ok(Err(failure));
                }
                match self.operation_of(draft, effect, &context, STATE_BYTES_MAX) {
                    Ok(Some(operation)) => {
                        let index = draft.transactions.len() - before.transactions;
                        let id = operation_id_of(operation_id, key, index as u64);
                        let transaction = transaction_after(draft, operation, id, author, time);
                        self.append_to(slot, draft, transaction, false);
                    }
                    Ok(None) => {}
                    Err(failure) => return Ok(Err(failure)),
                }
            }
            replies.push(outcome.reply);
        }
        Ok(Ok(replies))
    }

    /// Whether a key has had something of a step of which the key of steps knows nothing: a survivor of a recovery may hold
    /// the one without the other.
    fn is_lost_by_recovery(&self, slot: SlotId, step: &Step, id: OperationId) -> Result<bool, ReadError> {
        if self.configuration(slot).is_none_or(|known| known.recoveries() == 0) {
            return Ok(false);
        }
        let mut changes: BTreeMap<&Key, u64> = BTreeMap::new();
        for key in step.commands.iter().flat_map(|command| &command.keys) {
            *changes.entry(key).or_default() += 1;
        }
        for (key, changes) in changes {
            let ids: BTreeSet<OperationId> = (0..changes).map(|index| operation_id_of(id, key, index)).collect();
            let register = self.store.register(slot, key)?;
            if register.is_some_and(|register| register.head.recent.iter().any(|recent| ids.contains(recent))) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The answer to a step that was done before: found by its operation id.
    fn find_step(&mut self, slot: SlotId, draft: &Draft, id: OperationId) -> Result<Option<Answer>, ReadError> {
        let Some(base) = &draft.base else { return Ok(None) };
        let Some(height) = self.height_of(slot, draft, id) else { return Ok(None) };
        let mark = Some(base.ballot);
        let stored = if height >= base.base { self.stored(slot, &draft.key, height)? } else { None };
        let appended = stored.as_ref().map(|step| (height, step.hash()));
        let kept = stored.and_then(|step| StepRecord::of(&step).ok()?.reply);
        let reply = kept.unwrap_or_else(|| lost_reply(height));
        Ok(Some(Answer::Evaluated { reply, is_write: appended.is_some(), appended, mark }))
    }
}

impl Drafts {
    /// About how many bytes of steps there are.
    fn bytes(&self) -> usize {
        self.steps.transactions.iter().map(Transaction::approximate_bytes).sum()
    }

    /// Undoes what a step did that fails half-way.
    fn restore(&mut self, before: BTreeMap<Key, Before>) {
        for (key, before) in before {
            let Some(draft) = self.keys.get_mut(&key) else { continue };
            (draft.height, draft.hash, draft.checkpoint) = (before.height, before.hash, before.checkpoint);
            draft.content = before.content;
            draft.transactions.truncate(before.transactions);
        }
    }
}

impl Before {
    /// The state of a structure is not kept: should it be needed, it is folded again.
    fn of(draft: &Draft) -> Self {
        let content = Content { value: draft.content.value.clone(), ..Content::default() };
        let Draft { height, hash, checkpoint, .. } = *draft;
        Self { height, hash, checkpoint, content, transactions: draft.transactions.len() }
    }
}
