//! Commands on several keys of one slot, each as one step of it.

use bytes::Bytes;
use difuse_api::{
    keylog::{STEP_KEYS_MAX, StepCommand},
    keys,
    request::RequestError,
    structures::Reply,
};
use difuse_types::{Key, Level};
use futures::{FutureExt, future::BoxFuture};

use super::{is_word, keyed, long};
use crate::resp::{
    Shared,
    call::Call,
    failure::{Failure, Outcome},
    request::parse_integer,
    session::namespace_of,
};

/// Does a command of the registry on the keys that its arguments name.
pub(in crate::resp) fn stepped(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let keys = keys_of(&call.shared, call.database, &call.arguments)?;
        // One key that is only read may be read here, at the connection's level.
        if keys.len() == 1 && call.command.keys.first == 1 && !call.command.is_write() {
            return keyed(call).await;
        }
        match step(&call, keys.clone()).await? {
            Some(reply) => Ok(reply.into()),
            None => Box::pin(long::change_several(call, keys)).await,
        }
    };
    task.boxed()
}

/// The keys of a command, in the order of [`difuse_api::structures::Registry::key_positions`].
pub(super) fn keys_of(shared: &Shared, database: u32, arguments: &[Bytes]) -> Result<Vec<Key>, Failure> {
    let positions = shared.registry.key_positions(arguments)?;
    let key = |database: u32, name: &[u8]| Ok(Key::in_namespace(&namespace_of(database), name)?);
    let mut keys: Vec<Key> =
        positions.iter().map(|position| key(database, &arguments[*position])).collect::<Result<_, Failure>>()?;
    if let Some(elsewhere) = database_of_copy(shared, arguments)?
        && let Some(copy) = keys.last_mut()
    {
        *copy = key(elsewhere, copy.name())?;
    }
    Ok(keys)
}

/// The database that a `COPY` names for the copy, the last one that it names.
fn database_of_copy(shared: &Shared, arguments: &[Bytes]) -> Result<Option<u32>, Failure> {
    if !is_word(&arguments[0], "copy") {
        return Ok(None);
    }
    let mut found = None;
    let mut rest = &arguments[3..];
    while let [word, following @ ..] = rest {
        rest = following;
        if is_word(word, "db")
            && let [index, following @ ..] = following
            // What is no number is complained of where the command is evaluated.
            && parse_integer(index).is_some()
        {
            found = Some(super::connection::database_of(shared, index)?);
            rest = following;
        }
    }
    Ok(found)
}

/// Lets the leader of the keys' slot do the command; `None` if a string lives in blocks, or would have to.
pub(super) async fn step(call: &Call, keys: Vec<Key>) -> Result<Option<Reply>, Failure> {
    if let [key] = &keys[..] {
        return call.evaluate_at_leader(key.clone(), keys::new_operation_id()).await;
    }
    if keys.len() > STEP_KEYS_MAX {
        return Err(Failure::new(format_args!("the command has more than {STEP_KEYS_MAX} keys")));
    }
    let slots = call.shared.ring_settings().await?.slots;
    if keys.windows(2).any(|pair| slots.of_key(&pair[0]) != slots.of_key(&pair[1])) {
        return Err(Failure::cross_slot());
    }
    let level = known_level(if call.command.is_write() { call.levels.write } else { call.levels.read });
    let command = StepCommand { keys, arguments: call.arguments.clone() };
    match keys::step(call.datastore(), slots, vec![command], Vec::new(), keys::new_operation_id(), level).await {
        Err(RequestError::InBlocks) => Ok(None),
        Ok(None) => Err(Failure::contended()),
        Ok(Some(mut replies)) => Ok(Some(replies.pop().ok_or_else(|| Failure::new("the step has no reply"))?)),
        Err(error) => Err(error.into()),
    }
}

/// What has an answer has a place in the log: at level lazy it is done by the leader.
pub(super) fn known_level(level: Level) -> Level {
    if level == Level::Lazy { Level::Leader } else { level }
}
