//! Strings that live in blocks: read in part, or read, changed and written anew.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use difuse_api::{
    keylog::{Operation, Value},
    keys,
    request::{Condition, Entry},
    structures::{CommandError, Deadline, Effect, Held, Outcome as Evaluated, Reply, State, View},
    values,
};
use difuse_types::{Key, Level, WallTime};

use super::{is_word, scatter::REPLY_BYTES_MAX};
use crate::resp::{
    answer::{self, Answer},
    call::{Call, Kind, kind_of, with_value},
    failure::{Failure, Outcome},
    request::{BULK_BYTES_MAX, parse_integer},
};

/// How often a change is tried while others change the key too.
const ATTEMPTS_MAX: usize = 32;

/// Does a command that reads a string which lives in blocks.
pub(super) async fn read(call: &Call, value: Value) -> Outcome {
    let size = values::size_of(&value)?;
    let name = &call.arguments[0];
    let level = call.levels.read;
    if is_word(name, "get") {
        return Ok(Answer::Content(answer::Content { value, range: 0..size, level }));
    }
    if is_word(name, "getrange") || is_word(name, "substr") {
        let range = range_of(&call.arguments, size)?;
        return Ok(Answer::Content(answer::Content { value, range, level }));
    }
    if is_word(name, "strlen") {
        return Ok(Reply::Integer(i64::try_from(size).unwrap_or(i64::MAX)).into());
    }
    Ok(evaluate(call, Some(&value)).await?.reply.into())
}

/// The bytes between two positions, which count from the end if they are negative.
fn range_of(arguments: &[Bytes], size: u64) -> Result<Range<u64>, Failure> {
    let position =
        |index: usize| arguments.get(index).and_then(|text| parse_integer(text)).ok_or(CommandError::NotInteger);
    let (start, end, size) = (position(2)?, position(3)?, i64::try_from(size).unwrap_or(i64::MAX));
    let from_start = |position: i64| if position < 0 { size.saturating_add(position).max(0) } else { position };
    let is_empty = start < 0 && end < 0 && start > end;
    let (start, end) = (from_start(start), from_start(end).saturating_add(1).min(size));
    if is_empty || start >= end {
        return Ok(0..0);
    }
    Ok(start.unsigned_abs()..end.unsigned_abs())
}

/// Does a command that changes a string which lives in blocks, or which then may: here, not at the leader. The key is
/// read, what comes out is stored and then written if the key is still the same; else all of it is done again.
pub(super) async fn change(call: Call) -> Outcome {
    let key = call.key(&call.arguments[1])?;
    // One for all attempts: those that failed changed nothing.
    let operation_id = keys::new_operation_id();
    for _ in 0..ATTEMPTS_MAX {
        let head = keys::read(call.datastore(), key.clone(), read_level(&call)).await?;
        let condition = head.as_ref().map_or(Condition::Absent, |head| Condition::Head(head.hash));
        let value = head.and_then(with_value);
        if let Some((_, value)) = &value
            && matches!(kind_of(value), Kind::Structure(_))
        {
            let reply = call.evaluate_at_leader(key, operation_id).await?;
            return Ok(reply.map_or_else(|| Failure::contended().into(), Answer::from));
        }
        let outcome = evaluate(&call, value.as_ref().map(|(_, value)| value)).await?;
        let Some(operation) = operation_of(&call, &key, value, outcome.effect).await? else {
            return Ok(outcome.reply.into());
        };
        if call.write(key.clone(), operation, condition, operation_id).await?.is_some() {
            return Ok(outcome.reply.into());
        }
    }
    Err(Failure::contended())
}

/// Does a command on several strings of which some live in blocks, or which then may: as [`change`] does, with the one key
/// that is written unchanged meanwhile. The others are read one after the other.
pub(super) async fn change_several(call: Call, keys: Vec<Key>) -> Outcome {
    let _turn = call.shared.transfers.acquire().await;
    let operation_id = keys::new_operation_id();
    for _ in 0..ATTEMPTS_MAX {
        let mut found = Vec::new();
        let mut size = 0;
        for key in &keys {
            let head = keys::read(call.datastore(), key.clone(), read_level(&call)).await?;
            let condition = head.as_ref().map_or(Condition::Absent, |head| Condition::Head(head.hash));
            let value = head.and_then(with_value);
            let content = Content::of(&call, value.as_ref().map(|(_, value)| value), &mut size).await?;
            found.push((condition, value, content));
        }
        let views: Vec<View<'_>> = found.iter().map(|(_, value, content)| content.view(value.as_ref())).collect();
        let context = call.context(&keys::new_operation_id());
        let outcome = call.shared.registry.evaluate_keys(&views, &call.arguments, &context)?;
        let (index, effect) = match <[_; 1]>::try_from(outcome.effects) {
            Ok([effect]) => effect,
            Err(none) if none.is_empty() => return Ok(outcome.reply.into()),
            Err(_) => return Err(Failure::new("strings that live in blocks are changed one at a time")),
        };
        let (condition, value, _) = found.swap_remove(index);
        let Some(operation) = operation_of(&call, &keys[index], value, effect).await? else {
            return Ok(outcome.reply.into());
        };
        if call.write(keys[index].clone(), operation, condition, operation_id).await?.is_some() {
            return Ok(outcome.reply.into());
        }
    }
    Err(Failure::contended())
}

/// What a key holds, all of it.
enum Content {
    Nothing,
    Text(Bytes),
    /// What is in it does not matter to a command on strings.
    Structure(Box<dyn State>),
}

impl Content {
    /// `size` counts the bytes of all strings of a command.
    async fn of(call: &Call, value: Option<&Value>, size: &mut u64) -> Result<Self, Failure> {
        let Some(value) = value else { return Ok(Self::Nothing) };
        match kind_of(value) {
            Kind::Text(bytes) => Ok(Self::Text(bytes.clone())),
            Kind::Structure(id) => Ok(Self::Structure(call.shared.registry.empty_state(id).map_err(Failure::new)?)),
            Kind::Blocks => {
                *size += values::size_of(value)?;
                if *size > REPLY_BYTES_MAX as u64 {
                    return Err(Failure::new(format_args!(
                        "the strings have more than {REPLY_BYTES_MAX} bytes together"
                    )));
                }
                Ok(Self::Text(load(call, Some(value)).await?))
            }
        }
    }

    fn view(&self, value: Option<&(Entry, Value)>) -> View<'_> {
        let held = match self {
            Self::Nothing => None,
            Self::Text(bytes) => Some(Held::String(bytes)),
            Self::Structure(state) => Some(Held::Structure(&**state)),
        };
        View { held, deadline: value.and_then(|(_, value)| value.deadline) }
    }
}

/// What is changed must be what is there.
fn read_level(call: &Call) -> Level {
    if call.levels.write == Level::All { Level::All } else { Level::Quorum }
}

/// What is appended to the key's log, if anything.
async fn operation_of(
    call: &Call,
    key: &Key,
    before: Option<(Entry, Value)>,
    effect: Effect,
) -> Result<Option<Operation>, Failure> {
    let kept = before.as_ref().and_then(|(_, value)| value.deadline);
    Ok(match effect {
        Effect::Nothing => None,
        Effect::Delete => before.map(|_| Operation::Delete),
        Effect::Set(bytes, deadline) => {
            let deadline = match deadline {
                Deadline::Keep => kept,
                Deadline::None => None,
                Deadline::At(time) => Some(time),
            };
            Some(Operation::Set(call.value_of(key, bytes, deadline).await?))
        }
        Effect::Expire(deadline) => match before {
            None => None,
            // An upload of long ago may not be given to a key again: its blocks are stored once more.
            Some((_, value)) if matches!(kind_of(&value), Kind::Blocks) => {
                Some(Operation::Set(call.value_of(key, load(call, Some(&value)).await?, deadline).await?))
            }
            Some((_, value)) => Some(Operation::Set(value.until(deadline))),
        },
        Effect::Apply { .. } | Effect::Hold { .. } => {
            return Err(Failure::new("a string cannot be changed as a structure is"));
        }
    })
}

/// What the command comes to on `value`. A long string is fetched only if the command needs to see it.
async fn evaluate(call: &Call, value: Option<&Value>) -> Result<Evaluated, Failure> {
    let deadline = value.and_then(|value| value.deadline);
    let on = |held| evaluate_on(call, held, deadline);
    let evaluated = match value.map(kind_of) {
        None => on(None),
        Some(Kind::Text(bytes)) => on(Some(Held::String(bytes))),
        Some(Kind::Blocks | Kind::Structure(_)) => match on(Some(Held::Blocks)) {
            Err(CommandError::InBlocks) => {
                let _turn = call.shared.transfers.acquire().await;
                let bytes = load(call, value).await?;
                on(Some(Held::String(&bytes)))
            }
            evaluated => evaluated,
        },
    };
    match evaluated {
        // All of the string was there: what comes out is too long for anybody.
        Err(CommandError::InBlocks) => Err(too_long()),
        evaluated => Ok(evaluated?),
    }
}

fn evaluate_on(call: &Call, held: Option<Held<'_>>, deadline: Option<WallTime>) -> Result<Evaluated, CommandError> {
    // Random choices may differ from attempt to attempt: only one of them is written.
    let context = call.context(&keys::new_operation_id());
    call.shared.registry.evaluate(&View { held, deadline }, &call.arguments, &context)
}

/// All of a string that lives in blocks.
pub(super) async fn load(call: &Call, value: Option<&Value>) -> Result<Bytes, Failure> {
    let Some(value) = value else { return Ok(Bytes::new()) };
    let size = values::size_of(value)?;
    if size > BULK_BYTES_MAX as u64 {
        return Err(too_long());
    }
    Ok(values::whole(call.shared.datastore.clone(), value, call.levels.read).await?)
}

/// A string would be longer than an argument may be.
fn too_long() -> Failure {
    Failure::new("string exceeds maximum allowed size (proto-max-bulk-len)")
}

/// The string that a key holds, in full; `None` if it holds none.
pub(super) async fn text_of(call: Arc<Call>, name: Bytes) -> Result<Option<Bytes>, Failure> {
    let Some((_, value)) = call.read(call.key(&name)?).await? else { return Ok(None) };
    Ok(match kind_of(&value) {
        Kind::Text(bytes) => Some(bytes.clone()),
        Kind::Blocks => {
            let _turn = call.shared.transfers.acquire().await;
            Some(load(&call, Some(&value)).await?)
        }
        Kind::Structure(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::range_of;

    #[test]
    fn positions_count_from_either_end() {
        for (start, end, expected) in [
            (0, -1, 0..10),
            (-3, -1, 7..10),
            (-100, 100, 0..10),
            (5, 2, 0..0),
            (-1, -3, 0..0),
            (10, 20, 0..0),
            (3, 3, 3..4),
        ] {
            let arguments = ["getrange".into(), "k".into(), start.to_string(), end.to_string()].map(Bytes::from);
            assert_eq!(range_of(&arguments, 10).unwrap(), expected, "{start} {end}");
        }
        assert!(range_of(&["getrange", "k", "a", "1"].map(Bytes::from), 10).is_err());
    }
}
