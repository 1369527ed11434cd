//! `MULTI`, `EXEC` and `WATCH`: several commands as one step of a slot.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use difuse_api::{
    keylog::StepCommand,
    keys,
    request::{Condition, RequestError},
    structures::{
        Flag::{Fast, Loading},
        KeyPositions, Reply,
    },
};
use difuse_types::{Key, Level};
use futures::{FutureExt, future::BoxFuture};

use super::{connection::database_of, is_word, stepped};
use crate::resp::{
    Shared,
    answer::{Answer, Part},
    call::Call,
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
    session::Session,
    transaction::{Kind, Queued, Transaction, too_long},
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let entry =
        |name, arity, flags, since, summary, run| Entry::new(name, arity, flags, "transactions", since, summary, run);
    let watch =
        entry("watch", -2, &[Fast], "2.2.0", "Lets EXEC do nothing if one of these keys changes", Run::Alone(watch));
    vec![
        entry("multi", 1, &[Fast, Loading], "1.2.0", "Puts aside the commands up to EXEC", Run::AtOnce(multi)),
        entry("exec", 1, &[], "1.2.0", "Does what was put aside as one step of a slot", Run::Transaction(exec)),
        entry("discard", 1, &[Fast, Loading], "2.0.0", "Forgets what was put aside", Run::AtOnce(discard)),
        entry("unwatch", 1, &[Fast], "2.2.0", "Watches no key any more", Run::AtOnce(unwatch)),
        watch.with_keys(KeyPositions::ALL).costing("O(N) where N is the number of keys"),
    ]
}

fn multi(session: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    if session.transaction.is_some() {
        return Err(Failure::new("MULTI calls can not be nested"));
    }
    session.transaction = Some(Transaction::default());
    session.client.edit(|details| details.queued = Some(0));
    Ok(Answer::ok())
}

fn discard(session: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    if session.end_transaction().is_none() {
        return Err(Failure::new("DISCARD without MULTI"));
    }
    session.watched.take();
    Ok(Answer::ok())
}

fn unwatch(session: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    session.watched.take();
    Ok(Answer::ok())
}

fn watch(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        if call.is_in_transaction {
            return Err(Failure::new("WATCH inside MULTI is not allowed"));
        }
        for name in &call.arguments[1..] {
            let key = call.key(name)?;
            let was = condition_of(&call, &key).await?;
            call.watched.add(key, was)?;
        }
        Ok(Answer::ok())
    };
    task.boxed()
}

/// What holds of a key as long as nobody changes it.
async fn condition_of(call: &Call, key: &Key) -> Result<Condition, Failure> {
    let head = keys::read(call.datastore(), key.clone(), stepped::known_level(call.levels.read)).await?;
    Ok(head.map_or(Condition::Absent, |head| Condition::Head(head.hash)))
}

/// Does what was put aside; `None`: there was no `MULTI`.
fn exec(call: Call, transaction: Option<Transaction>) -> BoxFuture<'static, Outcome> {
    execute(call, transaction).boxed()
}

async fn execute(call: Call, transaction: Option<Transaction>) -> Outcome {
    let transaction = transaction.ok_or_else(|| Failure::new("EXEC without MULTI"))?;
    let watched = call.watched.take();
    if transaction.is_aborted {
        return Err(Failure("EXECABORT Transaction discarded because of previous errors.".into()));
    }
    let is_write = transaction.queued.iter().any(|queued| matches!(queued.kind, Kind::OnKeys { is_write: true }));
    let level = stepped::known_level(if is_write { call.levels.write } else { call.levels.read });
    let (mut parts, commands) = plan(&call, transaction);
    let is_unchanged = match done(&call, commands, watched, level).await? {
        Some(replies) => {
            let mut replies = replies.into_iter();
            for part in parts.iter_mut().filter(|part| matches!(part, Part::Missing)) {
                *part = Part::Reply(replies.next().ok_or_else(|| Failure::new("the step has too few replies"))?);
            }
            true
        }
        None => false,
    };
    Ok(if is_unchanged { Answer::Parts(parts) } else { Reply::NullArray.into() })
}

/// All commands in their order, and those among them that the step consists of.
fn plan(call: &Call, transaction: Transaction) -> (Vec<Part>, Vec<StepCommand>) {
    let (mut parts, mut commands) = (Vec::new(), Vec::new());
    let mut database = call.database;
    for Queued { arguments, kind } in transaction.queued {
        parts.push(match kind {
            Kind::AtOnce(run) => {
                if is_word(&arguments[0], "select") {
                    database = database_of(&call.shared, &arguments[1]).unwrap_or(database);
                }
                Part::AtOnce(run, arguments)
            }
            Kind::OnKeys { .. } => match stepped::keys_of(&call.shared, database, &arguments) {
                Ok(keys) => {
                    commands.push(StepCommand { keys, arguments });
                    Part::Missing
                }
                Err(Failure(text)) => Part::Reply(Reply::Error(text)),
            },
        });
    }
    (parts, commands)
}

/// The replies to the step's commands; `None` if a watched key was changed.
async fn done(
    call: &Call,
    commands: Vec<StepCommand>,
    watched: BTreeMap<Key, Condition>,
    level: Level,
) -> Result<Option<Vec<Reply>>, Failure> {
    if commands.is_empty() {
        for (key, was) in &watched {
            if condition_of(call, key).await? != *was {
                return Ok(None);
            }
        }
        return Ok(Some(Vec::new()));
    }
    let slots = call.shared.ring_settings().await?.slots;
    let mut all = commands.iter().flat_map(|command| &command.keys).chain(watched.keys()).map(|key| slots.of_key(key));
    let first = all.next();
    if all.any(|slot| Some(slot) != first) {
        return Err(Failure::cross_slot());
    }
    let unchanged = watched.into_iter().collect();
    match keys::step(call.datastore(), slots, commands, unchanged, keys::new_operation_id(), level).await {
        Err(RequestError::InBlocks) => Err(too_long()),
        stepped => Ok(stepped?),
    }
}

/// The keys that a transaction touches, for the order of a pipeline and for those who wait for items.
pub(in crate::resp) fn keys_in(shared: &Shared, mut database: u32, transaction: &Transaction) -> Vec<(u32, Bytes)> {
    let mut keys = Vec::new();
    for Queued { arguments, kind } in &transaction.queued {
        if is_word(&arguments[0], "select") {
            database = database_of(shared, &arguments[1]).unwrap_or(database);
        }
        if matches!(kind, Kind::OnKeys { is_write: true })
            && let Ok(positions) = shared.registry.key_positions(arguments)
        {
            keys.extend(positions.into_iter().map(|position| (database, arguments[position].clone())));
        }
    }
    keys
}
