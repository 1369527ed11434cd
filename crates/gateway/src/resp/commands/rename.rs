//! Commands that give what one key holds to another key of the same slot.
//!
//! Copying is one write. Renaming is two, of which the first alone may happen: the value is then under both names.

use difuse_api::{
    keylog::{Operation, Value},
    keys,
    request::{Condition, Entry as Head},
    structures::{
        CommandError,
        Flag::{DenyOom, Fast, Write},
        KeyPositions, Reply,
    },
    values::{self, SourceError},
};
use difuse_types::{Key, Level};
use futures::{FutureExt, TryStreamExt, future::BoxFuture};

use super::is_word;
use crate::resp::{
    answer::Answer,
    call::{Call, Kind, kind_of, with_value},
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
    request::parse_integer,
    session::namespace_of,
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let both = KeyPositions { first: 1, last: 2, step: 1 };
    let entry = |name, arity, flags, since, summary, task| {
        Entry::new(name, arity, flags, "generic", since, summary, Run::OnKeys(task)).with_keys(both)
    };
    vec![
        entry("rename", 3, &[Write], "1.0.0", "Renames a key within its slot, in two steps", rename),
        entry("renamenx", 3, &[Write, Fast], "1.0.0", "The same unless the new name is taken", rename_if_free),
        entry("copy", -3, &[Write, DenyOom], "6.2.0", "Copies a key within its slot", copy),
    ]
}

fn rename(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        move_value(&call, Condition::None).await?;
        Ok(Answer::ok())
    };
    task.boxed()
}

fn rename_if_free(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move { Ok(Reply::Integer(move_value(&call, Condition::Absent).await?.into()).into()) };
    task.boxed()
}

/// Whether it was renamed.
async fn move_value(call: &Call, condition: Condition) -> Result<bool, Failure> {
    let (from, to) = (call.key(&call.arguments[1])?, call.key(&call.arguments[2])?);
    check_slot(call, &from, &to).await?;
    let (head, value) = source(call, &from, &to).await?.ok_or_else(|| Failure::new("no such key"))?;
    if from == to {
        return Ok(condition == Condition::None);
    }
    if call.write(to, Operation::Set(value), condition, keys::new_operation_id()).await?.is_none() {
        return Ok(false);
    }
    let unchanged = Condition::Head(head.hash);
    match call.write(from, Operation::Delete, unchanged, keys::new_operation_id()).await? {
        Some(_) => Ok(true),
        None => Err(Failure(
            "TRYAGAIN the key was changed meanwhile: the new name has its value of before, and the old name is still there"
                .into(),
        )),
    }
}

fn copy(call: Call) -> BoxFuture<'static, Outcome> {
    copy_value(call).boxed()
}

async fn copy_value(call: Call) -> Outcome {
    let (mut database, mut condition) = (call.database, Condition::Absent);
    let mut options = &call.arguments[3..];
    loop {
        match options {
            [] => break,
            [word, rest @ ..] if is_word(word, "replace") => (condition, options) = (Condition::None, rest),
            [word, index, rest @ ..] if is_word(word, "db") => {
                let index = parse_integer(index).ok_or(CommandError::NotInteger)?;
                let found = u32::try_from(index).ok().filter(|index| *index < call.shared.settings.databases);
                database = found.ok_or_else(|| Failure::new("DB index is out of range"))?;
                options = rest;
            }
            _ => return Err(Failure::syntax()),
        }
    }
    let from = call.key(&call.arguments[1])?;
    let to = Key::in_namespace(&namespace_of(database), &call.arguments[2])?;
    if from == to {
        return Err(Failure::new("source and destination objects are the same"));
    }
    check_slot(&call, &from, &to).await?;
    let Some((_, value)) = source(&call, &from, &to).await? else { return Ok(Reply::Integer(0).into()) };
    let written = call.write(to, Operation::Set(value), condition, keys::new_operation_id()).await?;
    Ok(Reply::Integer(written.is_some().into()).into())
}

async fn check_slot(call: &Call, from: &Key, to: &Key) -> Result<(), Failure> {
    let slots = call.shared.ring_settings().await?.slots;
    if slots.of_key(from) == slots.of_key(to) { Ok(()) } else { Err(Failure::cross_slot()) }
}

/// The head of a key, and its value as another key may hold it: blocks are stored once more, which costs a look at each,
/// so that they are kept for the other key, too.
async fn source(call: &Call, from: &Key, to: &Key) -> Result<Option<(Head, Value)>, Failure> {
    let head = keys::read(call.datastore(), from.clone(), Level::Quorum).await?;
    let Some((head, value)) = head.and_then(with_value) else { return Ok(None) };
    let copied = match kind_of(&value) {
        Kind::Text(_) => value,
        Kind::Structure(_) => return Err(Failure::new("a structure cannot be renamed or copied yet")),
        Kind::Blocks => {
            let parts = values::stream(call.shared.datastore.clone(), &value, None, call.levels.read)?;
            let parts = parts.map_err(|error| Box::new(error) as SourceError);
            values::store(call.datastore(), to, parts, call.levels.write).await?.value.until(value.deadline)
        }
    };
    Ok(Some((head, copied)))
}
