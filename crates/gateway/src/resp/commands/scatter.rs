//! Commands on several keys that may lie anywhere: atomic for each key, not for all of them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use difuse_api::{
    keylog::{MAX_INLINE_BYTES, Operation},
    keys,
    request::Condition,
    structures::{
        Flag::{DenyOom, Fast, ReadOnly, Write},
        KeyPositions, Reply,
    },
};
use futures::{FutureExt, StreamExt, TryStreamExt, future::BoxFuture, stream};

use super::{keyed::set, long, stepped};
use crate::resp::{
    answer::Answer,
    call::Call,
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
};

/// How many keys of one command are served at a time.
const KEYS_IN_FLIGHT: usize = 64;
/// The longest reply that is put together from several keys, in bytes.
pub(super) const REPLY_BYTES_MAX: usize = 128 << 20;

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let entry = |name, flags, since, summary, task| {
        let entry = Entry::new(name, -2, flags, "generic", since, summary, Run::OnKeys(task));
        entry.with_keys(KeyPositions::ALL).costing("O(N) where N is the number of keys")
    };
    let pairs = KeyPositions { first: 1, last: -1, step: 2 };
    let many = |name, since, summary, task| {
        let entry = Entry::new(name, -3, &[Write, DenyOom], "string", since, summary, Run::OnKeys(task));
        entry.with_keys(pairs).costing("O(N) where N is the number of keys")
    };
    let mget = Entry::new("mget", -2, &[ReadOnly, Fast], "string", "1.0.0", "Reads strings", Run::OnKeys(read));
    vec![
        entry("del", &[Write], "1.0.0", "Deletes keys", delete),
        entry("unlink", &[Write, Fast], "4.0.0", "Deletes keys", delete),
        entry("exists", &[ReadOnly, Fast], "1.0.0", "Counts the keys that exist", count),
        entry("touch", &[ReadOnly, Fast], "3.2.1", "Counts the keys that exist", count),
        mget.with_keys(KeyPositions::ALL).costing("O(N) where N is the number of keys"),
        many("mset", "1.0.1", "Sets strings, each for itself", write),
        many("msetnx", "1.0.1", "Sets strings of one slot if none of them exists", write_if_absent),
    ]
}

fn delete(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let call = Arc::new(call);
        let deleted = each(&call, delete_one).await.map_err(|failure| part_done(&call, failure))?;
        Ok(Reply::count(deleted).into())
    };
    task.boxed()
}

/// Whether the key had a value.
async fn delete_one(call: Arc<Call>, name: Bytes) -> Result<usize, Failure> {
    let key = call.key(&name)?;
    // A tombstone on nothing would be a transaction for nothing.
    let written = call.write(key, Operation::Delete, Condition::Present, keys::new_operation_id()).await?;
    Ok(usize::from(written.is_some()))
}

fn count(call: Call) -> BoxFuture<'static, Outcome> {
    async move { Ok(Reply::count(each(&Arc::new(call), exists).await?).into()) }.boxed()
}

async fn exists(call: Arc<Call>, name: Bytes) -> Result<usize, Failure> {
    Ok(usize::from(call.read(call.key(&name)?).await?.is_some()))
}

/// The sum of what `task` gives for each key, some of them at a time.
async fn each<F>(call: &Arc<Call>, task: impl Fn(Arc<Call>, Bytes) -> F) -> Result<usize, Failure>
where
    F: Future<Output = Result<usize, Failure>>,
{
    let names = stream::iter(call.arguments[1..].to_vec());
    let tasks = names.map(|name| task(call.clone(), name)).buffer_unordered(KEYS_IN_FLIGHT);
    tasks.try_fold(0, |sum, one| async move { Ok(sum + one) }).await
}

fn read(call: Call) -> BoxFuture<'static, Outcome> {
    read_all(Arc::new(call)).boxed()
}

async fn read_all(call: Arc<Call>) -> Outcome {
    let names = stream::iter(call.arguments[1..].to_vec());
    let mut texts = names.map(|name| long::text_of(call.clone(), name)).buffered(KEYS_IN_FLIGHT);
    let (mut replies, mut length) = (Vec::new(), 0);
    while let Some(text) = texts.try_next().await? {
        length += text.as_ref().map_or(0, Bytes::len);
        if length > REPLY_BYTES_MAX {
            return Err(Failure::new(format_args!(
                "the reply is longer than {REPLY_BYTES_MAX} bytes: ask for fewer keys"
            )));
        }
        replies.push(Reply::bulk_or_null(text));
    }
    drop(texts);
    Ok(Reply::Array(replies).into())
}

fn write(call: Call) -> BoxFuture<'static, Outcome> {
    write_all(Arc::new(call)).boxed()
}

async fn write_all(call: Arc<Call>) -> Outcome {
    let pairs: Vec<_> = pairs_of(&call)?.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let write_one = |(name, value): (Bytes, Bytes)| {
        let call = call.clone();
        async move { set(&call, &name, value, None).await }
    };
    let mut tasks = stream::iter(pairs).map(write_one).buffer_unordered(KEYS_IN_FLIGHT);
    while tasks.try_next().await.map_err(|failure| part_done(&call, failure))?.is_some() {}
    Ok(Answer::ok())
}

/// Keys and values; of a key that is there several times, the last.
fn pairs_of(call: &Call) -> Result<BTreeMap<&Bytes, &Bytes>, Failure> {
    let rest = &call.arguments[1..];
    if !rest.len().is_multiple_of(2) {
        return Err(Failure::arity(call.command.name));
    }
    Ok(rest.chunks_exact(2).map(|pair| (&pair[0], &pair[1])).collect())
}

/// All of them or none: the keys are of one slot.
fn write_if_absent(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let keys = stepped::keys_of(&call.shared, call.database, &call.arguments)?;
        if let Some(reply) = stepped::step(&call, keys.clone()).await? {
            return Ok(reply.into());
        }
        let pairs = pairs_of(&call)?;
        let (Some((_, value)), [key]) = (pairs.iter().next(), &keys[..]) else {
            return Err(Failure::new(format_args!(
                "MSETNX of several keys takes strings of at most {MAX_INLINE_BYTES} bytes"
            )));
        };
        let value = call.value_of(key, (*value).clone(), None).await?;
        let operation = Operation::Set(value);
        let written = call.write(key.clone(), operation, Condition::Absent, keys::new_operation_id()).await?;
        Ok(Reply::Integer(written.is_some().into()).into())
    };
    task.boxed()
}

/// What became of one key says nothing of the others.
fn part_done(call: &Call, failure: Failure) -> Failure {
    let is_one = call.arguments.len() <= 2;
    if is_one { failure } else { Failure(format!("{} (other keys of the command may have been changed)", failure.0)) }
}
