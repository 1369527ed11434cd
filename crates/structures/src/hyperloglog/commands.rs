use bytes::Bytes;

use super::registers::Registers;
use crate::{
    Arguments, Command, CommandError, Context, Deadline, Effect,
    Flag::{DenyOom, Fast, MayReplicate, ReadOnly, Write},
    KeyCommand, KeyPositions, Keys, KeysCommand, KeysOutcome, Outcome, Reply, View,
};

fn documented(command: Command, complexity: &'static str, summary: &'static str) -> Command {
    command.documented("hyperloglog", "2.8.9", complexity, summary)
}

pub(crate) fn commands() -> Vec<KeyCommand> {
    let add = Command::on_key("pfadd", -2, &[Write, DenyOom, Fast]);
    vec![KeyCommand::new(documented(add, "O(1) for each element", "Adds elements to a HyperLogLog"), pfadd)]
}

pub(crate) fn commands_on_keys() -> Vec<KeysCommand> {
    let all = KeyPositions::ALL;
    let count = Command { keys: all, ..Command::on_key("pfcount", -2, &[ReadOnly, MayReplicate]) };
    let merge = Command { keys: all, ..Command::on_key("pfmerge", -2, &[Write, DenyOom]) };
    let count = documented(count, "O(N) for N keys", "Estimates how many elements HyperLogLogs have together");
    let merge = documented(merge, "O(N) for N keys", "Adds what HyperLogLogs have to the first one");
    vec![
        KeysCommand::new(count, |keys, _, _| Ok(KeysOutcome::reply(pfcount(keys)?))),
        KeysCommand::new(merge, |keys, _, _| pfmerge(keys)),
    ]
}

fn pfadd(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Result<Outcome, CommandError> {
    let (mut registers, is_new) = match view.string()? {
        Some(value) => (Registers::decode(value)?, false),
        None => (Registers::default(), true),
    };
    let mut is_changed = is_new;
    for element in arguments.take_rest() {
        is_changed |= registers.add(element);
    }
    if !is_changed {
        return Ok(Outcome::reply(Reply::Integer(0)));
    }
    Ok(Outcome::new(Reply::Integer(1), Effect::Set(Bytes::from(registers.encode()), Deadline::Keep)))
}

/// Of one key, what Redis has left in its header will do.
fn pfcount(keys: &Keys<'_>) -> Result<Reply, CommandError> {
    let cached = match keys.views() {
        [view] => view.string()?.map(|value| Registers::cached_count(value)).transpose()?.flatten(),
        _ => None,
    };
    let count = match cached {
        Some(count) => count,
        None => merged(keys)?.count(),
    };
    // Redis's integers are signed.
    Ok(Reply::Integer(count as i64))
}

/// All keys in one.
fn merged(keys: &Keys<'_>) -> Result<Registers, CommandError> {
    let mut merged = Registers::default();
    for view in keys.views() {
        if let Some(value) = view.string()? {
            merged.merge(&Registers::decode(value)?);
        }
    }
    Ok(merged)
}

fn pfmerge(keys: &Keys<'_>) -> Result<KeysOutcome, CommandError> {
    let value = Bytes::from(merged(keys)?.encode());
    let is_changed = keys.view(0).string()? != Some(&value);
    let effects = if is_changed { vec![(0, Effect::Set(value, Deadline::Keep))] } else { Vec::new() };
    Ok(KeysOutcome::new(Reply::ok(), effects))
}
