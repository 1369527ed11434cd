//! Commands that give what one key holds to another key of the same slot, as one step of it.
//!
//! A string that lives in blocks is no part of a step: its blocks are kept for another key first. Copying it is one write.
//! Renaming it is two, of which the first alone may happen: the string is then under both names.

use difuse_api::{
    keylog::{Operation, Value},
    keys,
    request::{Condition, Entry as Head},
    structures::{
        Flag::{DenyOom, Fast, Write},
        KeyPositions, Reply,
    },
    values::{self, SourceError},
};
use difuse_types::{Key, Level};
use futures::{FutureExt, TryStreamExt, future::BoxFuture};

use super::{connection::database_of, is_word, stepped};
use crate::resp::{
    answer::Answer,
    call::{Call, Kind, kind_of, with_value},
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
    session::namespace_of,
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let both = KeyPositions { first: 1, last: 2, step: 1 };
    let entry = |name, arity, flags, since, summary, task| {
        Entry::new(name, arity, flags, "generic", since, summary, Run::OnKeys(task)).with_keys(both)
    };
    vec![
        entry("rename", 3, &[Write], "1.0.0", "Renames a key within its slot", rename),
        entry("renamenx", 3, &[Write, Fast], "1.0.0", "The same unless the new name is taken", rename_if_free),
        entry("copy", -3, &[Write, DenyOom], "6.2.0", "Copies a key within its slot", copy),
    ]
}

fn rename(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let keys = stepped::keys_of(&call.shared, call.database, &call.arguments)?;
        if let Some(reply) = stepped::step(&call, keys).await? {
            return Ok(reply.into());
        }
        move_value(&call, Condition::None).await?;
        Ok(Answer::ok())
    };
    task.boxed()
}

fn rename_if_free(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let keys = stepped::keys_of(&call.shared, call.database, &call.arguments)?;
        match stepped::step(&call, keys).await? {
            Some(reply) => Ok(reply.into()),
            None => Ok(Reply::Integer(move_value(&call, Condition::Absent).await?.into()).into()),
        }
    };
    task.boxed()
}

/// Whether it was renamed.
async fn move_value(call: &Call, condition: Condition) -> Result<bool, Failure> {
    let (from, to) = (call.key(&call.arguments[1])?, call.key(&call.arguments[2])?);
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
                (database, options) = (database_of(&call.shared, index)?, rest);
            }
            _ => return Err(Failure::syntax()),
        }
    }
    let from = call.key(&call.arguments[1])?;
    let to = Key::in_namespace(&namespace_of(database), &call.arguments[2])?;
    if from == to {
        return Err(Failure::new("source and destination objects are the same"));
    }
    if let Some(reply) = stepped::step(&call, vec![from.clone(), to.clone()]).await? {
        return Ok(reply.into());
    }
    let Some((_, value)) = source(&call, &from, &to).await? else { return Ok(Reply::Integer(0).into()) };
    let written = call.write(to, Operation::Set(value), condition, keys::new_operation_id()).await?;
    Ok(Reply::Integer(written.is_some().into()).into())
}

/// The head of a key, and its value as another key may hold it: blocks are stored once more, which costs a look at each,
/// so that they are kept for the other key, too.
async fn source(call: &Call, from: &Key, to: &Key) -> Result<Option<(Head, Value)>, Failure> {
    let head = keys::read(call.datastore(), from.clone(), Level::Quorum).await?;
    let Some((head, value)) = head.and_then(with_value) else { return Ok(None) };
    let copied = match kind_of(&value) {
        Kind::Text(_) => value,
        // It was made one meanwhile.
        Kind::Structure(_) => return Err(Failure::contended()),
        Kind::Blocks => {
            let parts = values::stream(call.shared.datastore.clone(), &value, None, call.levels.read)?;
            let parts = parts.map_err(|error| Box::new(error) as SourceError);
            values::store(call.datastore(), to, parts, call.levels.write).await?.value.until(value.deadline)
        }
    };
    Ok(Some((head, copied)))
}
