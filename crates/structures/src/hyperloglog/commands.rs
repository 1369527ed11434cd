use bytes::Bytes;

use super::registers::Registers;
use crate::{
    Arguments, Command, CommandError, Context, Deadline, Effect,
    Flag::{DenyOom, Fast, MayReplicate, ReadOnly, Write},
    KeyCommand, KeyPositions, Outcome, Reply, View,
};

pub(crate) fn commands() -> Vec<KeyCommand> {
    let add = Command::on_key("pfadd", -2, &[Write, DenyOom, Fast]);
    let count = Command { keys: KeyPositions::ALL, ..Command::on_key("pfcount", -2, &[ReadOnly, MayReplicate]) };
    let documented =
        |command: Command, complexity, summary| command.documented("hyperloglog", "2.8.9", complexity, summary);
    vec![
        KeyCommand::new(documented(add, "O(1) for each element", "Adds elements to a HyperLogLog"), pfadd),
        KeyCommand::new(documented(count, "O(1)", "Estimates how many elements a HyperLogLog has"), pfcount),
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

/// Of one key; whoever asks for several merges them first.
fn pfcount(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Result<Outcome, CommandError> {
    arguments.finish()?;
    let Some(value) = view.string()? else { return Ok(Outcome::reply(Reply::Integer(0))) };
    let count = match Registers::cached_count(value)? {
        Some(count) => count,
        None => Registers::decode(value)?.count(),
    };
    // Redis's integers are signed.
    Ok(Outcome::reply(Reply::Integer(count as i64)))
}
