//! Commands on keys, evaluated as the leader of a key's slot does.

use bytes::Bytes;
use difuse_keylog::{MAX_INLINE_BYTES, Operation, Step, StepCommand, Value, ValueKind};
use difuse_protocol::request::{Condition, Reply, RequestError};
use difuse_structures::{self as structures, CommandError, Context, Effect, Held, Outcome, State as Structure, View};
use difuse_types::{Hash, Key, OperationId, WallTime};

use super::State;

impl State {
    /// Evaluates a command once per operation id.
    pub(super) fn command(
        &mut self,
        key: Key,
        arguments: &[Bytes],
        operation_id: OperationId,
    ) -> Result<Reply, RequestError> {
        if let Some(reply) = self.replies.get(&operation_id) {
            return Ok(reply.clone());
        }
        if key.steps_of().is_some() {
            let reply = self.step(arguments, operation_id)?;
            self.replies.insert(operation_id, reply.clone());
            return Ok(reply);
        }
        let is_write = self.registry.is_write(arguments);
        let (reply, appended) = match structures::series_of(arguments) {
            None => self.single(&key, arguments, operation_id)?,
            Some(commands) => self.series(&key, &commands.map_err(invalid)?, operation_id)?,
        };
        let reply = Reply::Command { reply: reply.encode().into(), is_write, appended, mark: None };
        self.replies.insert(operation_id, reply.clone());
        Ok(reply)
    }

    /// Does one command.
    fn single(
        &mut self,
        key: &Key,
        arguments: &[Bytes],
        operation_id: OperationId,
    ) -> Result<(structures::Reply, Option<(u64, Hash)>), RequestError> {
        let outcome = self.evaluate(key, arguments)?;
        let appended = match self.operation_of(key, outcome.effect)? {
            None => None,
            Some(operation) => Some(self.append(key.clone(), operation, operation_id)?),
        };
        Ok((outcome.reply, appended))
    }

    /// Does commands on a key up to the first one that cannot be done, which is refused if it is the first of all.
    fn series(
        &mut self,
        key: &Key,
        commands: &[&[Bytes]],
        operation_id: OperationId,
    ) -> Result<(structures::Reply, Option<(u64, Hash)>), RequestError> {
        let (mut replies, mut last) = (Vec::new(), None);
        let mut id = u128::from_le_bytes(operation_id.0);
        for arguments in commands {
            match self.single(key, arguments, OperationId(id.to_le_bytes())) {
                Ok((reply, appended)) => {
                    replies.push(reply);
                    last = appended.or(last);
                }
                Err(error) if replies.is_empty() => return Err(error),
                Err(_) => break,
            }
            id = id.wrapping_add(1);
        }
        Ok((structures::Reply::Array(replies), last))
    }

    /// Does the commands of a step, all or none.
    fn step(&mut self, arguments: &[Bytes], operation_id: OperationId) -> Result<Reply, RequestError> {
        let step = Step::from_arguments(arguments).map_err(invalid)?;
        let is_unchanged = step.unchanged.iter().all(|(key, condition)| match condition {
            Condition::None => true,
            Condition::Absent => self.live(key).is_none(),
            Condition::Present => self.live(key).is_some(),
            Condition::Head(hash) => self.head(key).is_some_and(|head| head.hash() == *hash),
        });
        let logs = self.logs.clone();
        let replies = if is_unchanged {
            self.run_step(&step, operation_id).map(structures::Reply::Array)
        } else {
            Ok(structures::Reply::Null)
        };
        if replies.is_err() {
            self.logs = logs;
        }
        let is_write = step.commands.iter().any(|command| self.registry.is_write(&command.arguments));
        Ok(Reply::Command { reply: replies?.encode().into(), is_write, appended: None, mark: None })
    }

    fn run_step(&mut self, step: &Step, operation_id: OperationId) -> Result<Vec<structures::Reply>, RequestError> {
        let mut replies = Vec::new();
        let mut id = u128::from_le_bytes(operation_id.0);
        for StepCommand { keys, arguments } in &step.commands {
            let states: Vec<_> = keys.iter().map(|key| self.structure(key)).collect::<Result<_, _>>()?;
            let views: Vec<_> = keys.iter().zip(&states).map(|(key, state)| self.view(key, state.as_deref())).collect();
            let outcome = match self.registry.evaluate_keys(&views, arguments, &self.context()) {
                Err(CommandError::InBlocks) => return Err(RequestError::InBlocks),
                outcome => outcome.map_err(invalid)?,
            };
            for (position, effect) in outcome.effects {
                let key = &keys[position];
                if let Some(operation) = self.operation_of(key, effect)? {
                    id = id.wrapping_add(1);
                    self.append(key.clone(), operation, OperationId(id.to_le_bytes()))?;
                }
            }
            replies.push(outcome.reply);
        }
        Ok(replies)
    }

    fn evaluate(&self, key: &Key, arguments: &[Bytes]) -> Result<Outcome, RequestError> {
        let state = self.structure(key)?;
        match self.registry.evaluate(&self.view(key, state.as_deref()), arguments, &self.context()) {
            Err(CommandError::InBlocks) => Err(RequestError::InBlocks),
            outcome => outcome.map_err(invalid),
        }
    }

    fn context(&self) -> Context {
        Context { string_bytes_max: MAX_INLINE_BYTES as u64, ..Context::new(now(), self.clock_ms) }
    }

    fn view<'a>(&'a self, key: &Key, state: Option<&'a dyn Structure>) -> View<'a> {
        let value = self.live(key);
        let held = value.map(|value| match (state, value.kind) {
            (Some(state), _) => Held::Structure(state),
            (None, ValueKind::Inline) => Held::String(&value.bytes),
            (None, _) => Held::Blocks,
        });
        View { held, deadline: value.and_then(|value| value.deadline) }
    }

    /// The value of a key that has not expired.
    fn live(&self, key: &Key) -> Option<&Value> {
        self.head(key)?.value().filter(|value| !value.has_expired(now()))
    }

    /// The structure that a key holds: the fold of its log.
    fn structure(&self, key: &Key) -> Result<Option<Box<dyn Structure>>, RequestError> {
        let mut state: Option<Box<dyn Structure>> = None;
        for transaction in self.logs.get(key).into_iter().flatten() {
            match transaction.value().map(|value| (value.kind, value.structure(), &value.bytes)) {
                Some((ValueKind::Operation, Some(id), bytes)) => {
                    let empty = || self.registry.empty_state(id).map_err(invalid);
                    let next = state.get_or_insert(empty()?);
                    next.apply_encoded(&bytes[1..]).map_err(invalid)?;
                }
                Some((ValueKind::State, Some(id), bytes)) => {
                    let decoded = self.registry.decode_state(id, &bytes[1..]).map_err(invalid)?;
                    state = Some(decoded.map_err(invalid)?);
                }
                _ => state = None,
            }
        }
        Ok(state)
    }

    /// What is appended to the key's log, if anything.
    fn operation_of(&self, key: &Key, effect: Effect) -> Result<Option<Operation>, RequestError> {
        let before = self.live(key).cloned();
        let deadline = before.as_ref().and_then(|value| value.deadline);
        Ok(match effect {
            Effect::Nothing => None,
            Effect::Delete => Some(Operation::Delete),
            Effect::Set(bytes, _) if bytes.len() > MAX_INLINE_BYTES => return Err(RequestError::InBlocks),
            Effect::Set(bytes, change) => {
                use difuse_structures::Deadline;
                let deadline = match change {
                    Deadline::Keep => deadline,
                    Deadline::None => None,
                    Deadline::At(time) => Some(time),
                };
                Some(set_unless_expired(Value::inline(bytes).until(deadline)))
            }
            Effect::Apply { structure, operation } => {
                let bytes = [&[structure][..], &operation].concat();
                let value = Value::new(ValueKind::Operation, bytes.clone()).until(deadline);
                let state = self.structure(key)?.filter(|_| before.is_some());
                let mut next = state.map_or_else(|| self.registry.empty_state(structure), Ok).map_err(invalid)?;
                next.apply_encoded(&operation).map_err(invalid)?;
                Some(if next.is_nothing() { Operation::Delete } else { Operation::Set(value) })
            }
            Effect::Hold { structure, state, deadline } => {
                let bytes = [&[structure][..], &state].concat();
                Some(set_unless_expired(Value::new(ValueKind::State, bytes).until(deadline)))
            }
            Effect::Expire(deadline) => match (before, self.structure(key)?) {
                (None, _) => None,
                (Some(_), Some(state)) => {
                    let bytes = [&[state.id()][..], &state.encode()].concat();
                    Some(set_unless_expired(Value::new(ValueKind::State, bytes).until(deadline)))
                }
                (Some(value), None) => Some(set_unless_expired(value.until(deadline))),
            },
        })
    }

    fn append(
        &mut self,
        key: Key,
        operation: Operation,
        operation_id: OperationId,
    ) -> Result<(u64, Hash), RequestError> {
        match self.write(key, operation, Condition::None, operation_id)? {
            Reply::Written { height, hash, .. } => Ok((height, hash)),
            other => Err(invalid(format!("{other:?}"))),
        }
    }
}

/// A deadline that has passed already deletes the key at once.
fn set_unless_expired(value: Value) -> Operation {
    if value.has_expired(now()) { Operation::Delete } else { Operation::Set(value) }
}

fn now() -> WallTime {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn invalid(reason: impl ToString) -> RequestError {
    RequestError::Invalid(reason.to_string())
}
