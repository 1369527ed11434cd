//! What a key holds.

use difuse_api::{
    structures::{
        Flag::{Fast, ReadOnly},
        KeyPositions, Reply,
    },
    values,
};
use futures::{FutureExt, future::BoxFuture};

use super::{expect_words, help, iterate::type_of, subcommand, unknown_subcommand};
use crate::resp::{
    call::{Call, Kind, kind_of},
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
};

/// What a key costs besides its name and its value, about.
const KEY_BYTES: usize = 256;

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let second = KeyPositions { first: 2, last: 2, step: 1 };
    let entry = |name, arity, flags, since, summary, task| {
        Entry::new(name, arity, flags, "generic", since, summary, Run::OnKeys(task))
    };
    vec![
        entry("type", 2, &[ReadOnly, Fast], "1.0.0", "Tells what a key holds", kind).with_keys(KeyPositions::ONE),
        entry("memory", -2, &[ReadOnly], "4.0.0", "Tells about how much a key takes", memory).with_keys(second),
    ]
}

fn kind(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let found = call.read(call.key(&call.arguments[1])?).await?;
        let name = found.map_or("none", |(_, value)| type_of(&call, &value));
        Ok(Reply::Status(name.into()).into())
    };
    task.boxed()
}

fn memory(call: Call) -> BoxFuture<'static, Outcome> {
    memory_usage(call).boxed()
}

async fn memory_usage(call: Call) -> Outcome {
    match &*subcommand(&call.arguments) {
        "USAGE" => expect_words(&call.arguments, |count| count == 3 || count == 5)?,
        "HELP" => return help("MEMORY", &["USAGE <key>", "    Return memory in bytes used by <key> and its value."]),
        word @ ("DOCTOR" | "MALLOC-STATS" | "PURGE" | "STATS") => {
            return Err(Failure::new(format_args!("MEMORY {word} is not supported by difuse")));
        }
        _ => return Err(unknown_subcommand(&call.arguments)),
    }
    let name = &call.arguments[2];
    let Some((_, value)) = call.read(call.key(name)?).await? else { return Ok(Reply::Null.into()) };
    let size = match kind_of(&value) {
        Kind::Text(_) | Kind::Blocks => usize::try_from(values::size_of(&value)?).unwrap_or(usize::MAX),
        Kind::Structure(_) => return Err(Failure::new("MEMORY USAGE of a structure is not supported yet")),
    };
    Ok(Reply::count(size.saturating_add(name.len() + KEY_BYTES)).into())
}
