//! Commands on structures: evaluated against the state at the end of a key's log as it is being built, appended as the
//! operation that they come to, and answered with the reply.
//!
//! A structure's state is the fold of the log from the last transaction on that holds a whole value. The leader keeps the
//! states in use in memory; everybody else keeps the log alone. What is appended follows from the state, the command,
//! its time and its operation id alone: so the reply to a command that was applied before can be found again.

use bytes::Bytes;
use difuse_structures::{CommandError, Context, Deadline, Effect, Held, Outcome, Reply, State, View};
use difuse_types::{Hash, Key, OperationId, SlotId, WallTime};

use super::append::Draft;
use crate::{
    Failure, MAX_INLINE_BYTES, MAX_OPERATION_BYTES, Operation, Value, ValueKind,
    keylog::Keylog,
    replica::damage::ReadError,
    store::{Head, Store},
};

/// What a key holds at a point of its log.
#[derive(Debug, Default)]
pub(crate) struct Content {
    /// The value as the last transaction has it; `None`: the key does not exist.
    pub(crate) value: Option<Value>,
    /// The state, if the value is one of a structure and it has been folded.
    pub(crate) state: Option<Box<dyn State>>,
    /// What there is of a state in parts, while it is folded.
    pub(super) parts: Vec<u8>,
}

/// What a command comes to.
pub(super) struct Evaluated {
    /// Encoded.
    pub(super) reply: Bytes,
    /// What is appended, if anything.
    pub(super) operation: Option<Operation>,
}

impl Content {
    /// What the key holds after a value was set or deleted outside of any structure.
    pub(crate) fn of(operation: &Operation) -> Self {
        Self { value: operation.value().cloned(), ..Self::default() }
    }

    /// Adds a part of a state to those before it: gives the whole with the last one; `None` if it does not follow them.
    fn add_part(&mut self, value: &Value) -> Option<Option<Vec<u8>>> {
        let (index, count, part) = value.part()?;
        if index == 0 {
            self.parts.clear();
        } else if self.value.as_ref().and_then(Value::part).map(|(before, of, _)| (before + 1, of))
            != Some((index, count))
        {
            return None;
        }
        self.parts.extend_from_slice(part);
        Some((index + 1 == count).then(|| std::mem::take(&mut self.parts)))
    }

    /// What a head tells of its key without its last transaction: whether there is a value, and until when. The value
    /// itself is left empty.
    pub(crate) fn unread(head: &Head) -> Self {
        let value = Value::inline(Bytes::new()).until(head.deadline);
        Self { value: head.deleted.is_none().then_some(value), ..Self::default() }
    }

    /// Whether the key exists at this time.
    pub(crate) fn exists(&self, now: WallTime) -> bool {
        self.value.as_ref().is_some_and(|value| !value.has_expired(now))
    }

    pub(super) fn view(&self, now: WallTime) -> View<'_> {
        let Some(value) = self.value.as_ref().filter(|value| !value.has_expired(now)) else {
            return View::default();
        };
        let held = match (value.kind, &self.state) {
            (ValueKind::Inline, _) => Held::String(&value.bytes),
            (_, Some(state)) => Held::Structure(&**state),
            (_, None) => Held::Blocks,
        };
        View { held: Some(held), deadline: value.deadline }
    }
}

impl<S: Store> Keylog<S> {
    /// Evaluates a command on what a draft has come to, and carries its effect over to the draft's content, unless the reply
    /// is longer than it may be.
    pub(super) fn evaluate(
        &mut self,
        slot: SlotId,
        draft: &mut Draft,
        arguments: &[Bytes],
        context: &Context,
        reply_bytes_max: usize,
    ) -> Result<Result<Evaluated, Failure>, ReadError> {
        if let Err(failure) = self.fold_draft(slot, draft)? {
            return Ok(Err(failure));
        }
        let content = &mut draft.content;
        let Outcome { reply, effect } = match self.evaluate_on(content, arguments, context) {
            Ok(outcome) => outcome,
            Err(failure) => return Ok(Err(failure)),
        };
        let reply = reply.encode();
        if reply.len() > reply_bytes_max {
            let length = reply.len();
            return Ok(Err(Failure::Invalid(format!(
                "the reply takes {length} bytes, at most {reply_bytes_max} are given at a time: ask for parts of it"
            ))));
        }
        Ok(match self.operation_of(draft, effect, context, MAX_OPERATION_BYTES) {
            Ok(operation) => Ok(Evaluated { reply: reply.into(), operation }),
            Err(failure) => Err(failure),
        })
    }

    /// What an effect writes down in the log that a draft is built on, if anything; carries it over to the draft's content.
    /// States of structures are written whole, where that is due, up to `state_bytes_max`.
    pub(super) fn operation_of(
        &self,
        draft: &mut Draft,
        effect: Effect,
        context: &Context,
        state_bytes_max: usize,
    ) -> Result<Option<Operation>, Failure> {
        let is_checkpoint = self.is_checkpoint_due(draft.checkpoint, draft.height + 1);
        let content = &mut draft.content;
        let operation = match effect {
            Effect::Nothing => return Ok(None),
            Effect::Delete => Operation::Delete,
            Effect::Set(bytes, _) if bytes.len() > MAX_INLINE_BYTES => return Err(Failure::InBlocks),
            Effect::Set(bytes, deadline) => {
                let deadline = match deadline {
                    Deadline::Keep => content.view(context.now).deadline,
                    Deadline::None => None,
                    Deadline::At(at) => Some(at),
                };
                set_unless_expired(Value::inline(bytes).until(deadline), context.now)
            }
            Effect::Expire(deadline) => match &content.value {
                Some(value) => {
                    let value = match value.kind {
                        ValueKind::Operation | ValueKind::State | ValueKind::Part => {
                            // An operation without anything after the structure's number changes the deadline alone.
                            Value::new(ValueKind::Operation, value.bytes.slice(..value.bytes.len().min(1)))
                        }
                        ValueKind::Inline | ValueKind::Inode => value.clone(),
                    };
                    set_unless_expired(value.until(deadline), context.now)
                }
                None => return Ok(None),
            },
            Effect::Apply { structure, operation } => {
                let whole_bytes_max = if is_checkpoint { state_bytes_max } else { 0 };
                self.apply(content, structure, &operation, context.now, whole_bytes_max)?
            }
            Effect::Hold { structure, state, deadline } => {
                let value = self.hold(content, structure, &state)?;
                set_unless_expired(value.until(deadline), context.now)
            }
        };
        draft.content.value = operation.value().cloned();
        if !draft.content.value.as_ref().is_some_and(|value| value.kind.is_structure()) {
            draft.content.state = None;
        }
        Ok(Some(operation))
    }

    /// Applies an operation to the state and says what is written down of it: the operation, the whole state where the
    /// log is to begin anew and it takes less than `whole_bytes_max`, or that the key does not exist any more.
    fn apply(
        &self,
        content: &mut Content,
        structure: u8,
        operation: &[u8],
        now: WallTime,
        whole_bytes_max: usize,
    ) -> Result<Operation, Failure> {
        let malformed = |error: &dyn std::fmt::Display| Failure::Invalid(error.to_string());
        if operation.len() >= MAX_OPERATION_BYTES {
            return Err(Failure::Invalid(format!(
                "the change takes {} bytes: at most {} fit into one transaction",
                operation.len(),
                MAX_OPERATION_BYTES - 1
            )));
        }
        let value = content.value.as_ref().filter(|value| !value.has_expired(now));
        let deadline = value.and_then(|value| value.deadline);
        // An expired value is still in the log: what follows must not be folded on top of it.
        let begins_anew = value.is_none() && content.value.is_some();
        let held = if value.is_some() { content.state.take() } else { None };
        let mut state = match held {
            Some(state) => state,
            None => self.options.structures.empty_state(structure).map_err(|error| malformed(&error))?,
        };
        state.apply_encoded(operation).map_err(|error| malformed(&error))?;
        if state.is_nothing() {
            return Ok(Operation::Delete);
        }
        // What it takes in memory is more than what it takes when encoded.
        let is_written_whole = begins_anew || state.memory() < whole_bytes_max;
        let (kind, rest) =
            if is_written_whole { (ValueKind::State, &state.encode()[..]) } else { (ValueKind::Operation, operation) };
        let bytes = [&[structure], rest].concat();
        content.state = Some(state);
        Ok(Operation::Set(Value::new(kind, bytes).until(deadline)))
    }

    /// The value of a key that is given a whole structure, and its state as the draft's.
    fn hold(&self, content: &mut Content, structure: u8, state: &[u8]) -> Result<Value, Failure> {
        if state.len() >= MAX_OPERATION_BYTES {
            return Err(Failure::Invalid(format!(
                "the structure that is stored takes {} bytes: at most {} fit into one transaction",
                state.len(),
                MAX_OPERATION_BYTES - 1
            )));
        }
        let value = Value::new(ValueKind::State, [&[structure], state].concat());
        self.fold_one(content, Operation::Set(value.clone()))?;
        Ok(value)
    }

    /// Folds the log below a draft if its key holds a structure and that was not done yet.
    pub(super) fn fold_draft(&mut self, slot: SlotId, draft: &mut Draft) -> Result<Result<(), Failure>, ReadError> {
        let is_folded = draft.content.state.is_some();
        let holds_structure = draft.content.value.as_ref().is_some_and(|value| value.kind.is_structure());
        if is_folded || !holds_structure {
            return Ok(Ok(()));
        }
        if let Some(state) = self.states.take(slot, &draft.key, draft.hash) {
            draft.content.state = Some(state);
            return Ok(Ok(()));
        }
        let pending: Vec<Operation> =
            draft.transactions.iter().map(|transaction| transaction.operation.clone()).collect();
        let below = draft.height - pending.len() as u64;
        match self.fold(slot, &draft.key, below, pending)? {
            Ok(content) => draft.content = content,
            Err(failure) => return Ok(Err(failure)),
        }
        Ok(Ok(()))
    }

    /// What a key holds after the transaction at a height, and after `further` operations on top.
    fn fold(
        &mut self,
        slot: SlotId,
        key: &Key,
        height: u64,
        further: Vec<Operation>,
    ) -> Result<Result<Content, Failure>, ReadError> {
        // From the newest on, to where the log begins or holds a whole value.
        let mut operations = Vec::new();
        let mut has_begun = false;
        for operation in further.into_iter().rev() {
            has_begun = !operation.builds_on_earlier();
            operations.push(operation);
            if has_begun {
                break;
            }
        }
        let mut next = height;
        while !has_begun && next > 0 {
            let Some(transaction) = self.stored(slot, key, next)? else {
                self.note_damage(slot, key, next);
                return Err(ReadError::Damaged);
            };
            has_begun = !transaction.operation.builds_on_earlier();
            operations.push(transaction.operation);
            next -= 1;
        }
        let mut content = Content::default();
        for operation in operations.into_iter().rev() {
            if let Err(failure) = self.fold_one(&mut content, operation) {
                return Ok(Err(failure));
            }
        }
        Ok(Ok(content))
    }

    pub(super) fn fold_one(&self, content: &mut Content, operation: Operation) -> Result<(), Failure> {
        let invalid = |error: &dyn std::fmt::Display| Failure::Invalid(error.to_string());
        let Operation::Set(value) = operation else {
            *content = Content::default();
            return Ok(());
        };
        let structures = &self.options.structures;
        let state = match (value.kind, value.bytes.split_first()) {
            (ValueKind::State, Some((structure, bytes))) => {
                let state = structures.decode_state(*structure, bytes).map_err(|error| invalid(&error))?;
                Some(state.map_err(|error| invalid(&error))?)
            }
            (ValueKind::Operation, Some((structure, bytes))) => {
                let mut state = match content.state.take() {
                    Some(state) if state.id() == *structure => state,
                    _ => structures.empty_state(*structure).map_err(|error| invalid(&error))?,
                };
                if !bytes.is_empty() {
                    state.apply_encoded(bytes).map_err(|error| invalid(&error))?;
                }
                Some(state)
            }
            (ValueKind::Part, Some((structure, _))) => {
                let whole = content.add_part(&value).ok_or_else(|| invalid(&"a part of a state is missing"))?;
                match whole {
                    Some(bytes) => {
                        let state = structures.decode_state(*structure, &bytes).map_err(|error| invalid(&error))?;
                        Some(state.map_err(|error| invalid(&error))?)
                    }
                    None => None,
                }
            }
            _ => None,
        };
        (content.value, content.state) = (Some(value), state);
        Ok(())
    }

    /// The reply to a command that was applied before, at a height.
    pub(super) fn reply_again(
        &mut self,
        slot: SlotId,
        key: &Key,
        height: u64,
        arguments: &[Bytes],
        context: &Context,
    ) -> Result<Result<Bytes, Failure>, ReadError> {
        let content = match self.fold(slot, key, height.saturating_sub(1), Vec::new())? {
            Ok(content) => content,
            Err(failure) => return Ok(Err(failure)),
        };
        Ok(self.evaluate_on(&content, arguments, context).map(|outcome| outcome.reply.encode().into()))
    }

    /// A draft that holds what a key held below a height: nothing that is done on it is written down.
    pub(super) fn draft_again(
        &mut self,
        slot: SlotId,
        key: &Key,
        height: u64,
    ) -> Result<Result<Draft, Failure>, ReadError> {
        let below = height.saturating_sub(1);
        let folded = self.fold(slot, key, below, Vec::new())?;
        Ok(folded.map(|content| Draft {
            key: key.clone(),
            base: None,
            height: below,
            hash: Hash::ZERO,
            content,
            // No state is written whole.
            checkpoint: below,
            transactions: Vec::new(),
        }))
    }

    /// What a command comes to on what a key holds.
    pub(super) fn evaluate_on(
        &self,
        content: &Content,
        arguments: &[Bytes],
        context: &Context,
    ) -> Result<Outcome, Failure> {
        match self.options.structures.evaluate(&content.view(context.now), arguments, context) {
            Err(CommandError::InBlocks) => Err(Failure::InBlocks),
            Err(error) => Ok(Outcome::reply(Reply::Error(error.to_string()))),
            Ok(outcome) => Ok(outcome),
        }
    }
}

/// A deadline that has passed already deletes the key at once.
fn set_unless_expired(value: Value, now: WallTime) -> Operation {
    if value.has_expired(now) { Operation::Delete } else { Operation::Set(value) }
}

/// What a command may use besides its key and its arguments: the same whenever the same command is evaluated.
pub(super) fn context_of(operation_id: OperationId, now: WallTime) -> Context {
    let mut seed = [0; 8];
    seed.copy_from_slice(&operation_id.0[..8]);
    Context { now, seed: u64::from_le_bytes(seed), string_bytes_max: MAX_INLINE_BYTES as u64 }
}
