//! What a ring can do that Redis has no commands for.

use std::sync::Arc;

use bytes::Bytes;
use difuse_api::{
    keylog::{Operation, Transaction, Value, ValueKind},
    keys,
    request::{Condition, PAGE_MAX},
    structures::{
        CommandError,
        Flag::{Fast, ReadOnly, Write},
        KeyPositions, Reply,
    },
};
use difuse_types::{Hash, Level, NodeId};
use futures::{FutureExt, future::BoxFuture};

use super::{is_word, text};
use crate::resp::{
    Shared,
    call::Call,
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
    request::parse_integer,
    session::{ChosenLevels, Levels, Session},
};

/// How many transactions `DIFUSE.LOG` tells unless it is asked for another number.
const LOG_COUNT: i64 = 10;

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let entry = |name, arity, flags, summary, run| Entry::new(name, arity, flags, "difuse", "0.1.0", summary, run);
    let on_key = |name, arity, flags, summary, task| {
        entry(name, arity, flags, summary, Run::OnKeys(task)).with_keys(KeyPositions::ONE)
    };
    vec![
        entry(
            "difuse.consistency",
            -1,
            &[Fast],
            "Tells or sets the connection's levels",
            Run::Told(choose_levels, tell_levels),
        ),
        on_key("difuse.log", -2, &[ReadOnly], "Reads a key's history", log).costing("O(N) where N is the count"),
        on_key("difuse.verify", 2, &[ReadOnly], "Checks a key's history", verify)
            .costing("O(N) where N is the length of the history"),
        on_key("difuse.cas", 4, &[Write], "Sets a string if the key's head is the expected one", compare_and_set),
        on_key("difuse.locate", 2, &[ReadOnly], "Tells who holds a key", locate),
    ]
}

/// A name with a value of a map.
fn pair(name: &'static str, value: Reply) -> (Reply, Reply) {
    (Reply::bulk(name), value)
}

fn number(number: u64) -> Reply {
    Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

fn hash(hash: &Hash) -> Reply {
    Reply::bulk(hash.to_string())
}

/// Chooses the levels, and tells them by what is known of the namespace.
fn choose_levels(session: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    let level = |word: &Bytes| match text(word).to_ascii_lowercase().as_str() {
        "default" => Ok(None),
        word => word.parse::<Level>().map(Some).map_err(Failure::new),
    };
    match &arguments[1..] {
        [] => {}
        [read, write] => session.levels = ChosenLevels { read: level(read)?, write: level(write)? },
        _ => return Err(Failure::arity("difuse.consistency")),
    }
    tell(session.levels.or(&shared.levels.last_known(&session.namespace)))
}

fn tell_levels(call: Call) -> BoxFuture<'static, Outcome> {
    std::future::ready(tell(call.levels)).boxed()
}

fn tell(Levels { read, write }: Levels) -> Outcome {
    Ok(Reply::Array(vec![Reply::bulk(read.as_str()), Reply::bulk(write.as_str())]).into())
}

fn log(call: Call) -> BoxFuture<'static, Outcome> {
    read_log(call).boxed()
}

async fn read_log(call: Call) -> Outcome {
    let key = call.key(&call.arguments[1])?;
    let argument = |index: usize, default: i64| match call.arguments.get(index) {
        None => Ok(default),
        Some(text) => parse_integer(text).filter(|number| *number > 0).ok_or(CommandError::NotInteger),
    };
    let (from, count) = (argument(2, 1)?, argument(3, LOG_COUNT)?);
    if call.arguments.len() > 4 {
        return Err(Failure::syntax());
    }
    let limit = u32::try_from(count).unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let page = match call.arguments.len() {
        // From where the history is kept.
        2 => keys::kept_log(call.datastore(), key, limit).await?.1,
        _ => keys::log(call.datastore(), key, from.unsigned_abs(), limit).await?,
    };
    Ok(Reply::Array(page.transactions.iter().map(transaction).collect()).into())
}

fn transaction(one: &Transaction) -> Reply {
    let (name, value) = match &one.operation {
        Operation::Delete => ("delete", Reply::Null),
        Operation::Set(Value { kind: ValueKind::Inline, bytes, .. }) => ("set", Reply::Bulk(bytes.clone())),
        Operation::Set(_) => ("set", Reply::Null),
    };
    let checkpoint = one.checkpoint.as_ref().map_or(Reply::Null, hash);
    Reply::Map(vec![
        pair("height", number(one.height)),
        pair("hash", hash(&one.hash())),
        pair("previous", hash(&one.previous)),
        pair("operation", Reply::bulk(name)),
        pair("value", value),
        pair("author", Reply::bulk(one.author.to_string())),
        pair("time_ms", number(one.time.0)),
        pair("operation_id", Reply::bulk(one.operation_id.to_string())),
        pair("checkpoint", checkpoint),
    ])
}

fn verify(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let verified = keys::verify(call.datastore(), call.key(&call.arguments[1])?).await?;
        let from = verified.checkpoint.map_or(1, |checkpoint| checkpoint.height);
        Ok(Reply::Map(vec![
            pair("height", number(verified.height)),
            pair("hash", hash(&verified.hash)),
            pair("verified_from", number(from)),
        ])
        .into())
    };
    task.boxed()
}

fn compare_and_set(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let key = call.key(&call.arguments[1])?;
        let expected = &call.arguments[2];
        let condition = match is_word(expected, "absent") {
            true => Condition::Absent,
            false => Condition::Head(text(expected).parse().map_err(Failure::new)?),
        };
        if call.levels.write == Level::Lazy {
            return Err(Failure::new(
                "at level lazy nobody knows yet whether the condition holds: choose another level",
            ));
        }
        let value = call.value_of(&key, call.arguments[3].clone(), None).await?;
        let (operation, operation_id) = (Operation::Set(value), keys::new_operation_id());
        let written = keys::write(call.datastore(), key, operation, condition, operation_id, call.levels.write).await?;
        Ok(Reply::Map(vec![pair("height", number(written.height)), pair("hash", hash(&written.hash))]).into())
    };
    task.boxed()
}

fn locate(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let located = keys::locate(call.datastore(), call.key(&call.arguments[1])?).await?;
        let nodes = |nodes: &[NodeId]| Reply::Array(nodes.iter().map(|node| Reply::bulk(node.to_string())).collect());
        let holdings = located.holdings.iter().map(|holding| {
            let (height, head) =
                holding.head.map_or((Reply::Null, Reply::Null), |(at, head)| (number(at), hash(&head)));
            Reply::Map(vec![
                pair("node", Reply::bulk(holding.node.to_string())),
                pair("answered", Reply::Boolean(holding.answered)),
                pair("height", height),
                pair("hash", head),
            ])
        });
        Ok::<_, Failure>(
            Reply::Map(vec![
                pair("slot", number(located.slot.0.into())),
                pair("epoch", number(located.epoch)),
                pair("leader", Reply::bulk(located.leader.to_string())),
                pair("members", nodes(&located.members)),
                pair("joining", nodes(&located.joint)),
                pair("holdings", Reply::Array(holdings.collect())),
            ])
            .into(),
        )
    };
    task.boxed()
}
