use std::collections::BTreeSet;

use bytes::Bytes;

use super::{DenyOom, Fast, Flag, Hash, HashOperation, Planned, Write};
use crate::{
    Arguments, Command, CommandError, Context, Key, KeyCommand, Plan, Reply,
    number::{add_extended, parse_extended, parse_integer},
};

const ADDS: &[Flag] = &[Write, DenyOom, Fast];

pub(super) fn commands() -> Vec<KeyCommand> {
    let command = |name, arity, since, complexity, summary| {
        Command::on_key(name, arity, ADDS).documented("hash", since, complexity, summary)
    };
    let remove = Command::on_key("hdel", -3, &[Write, Fast]);
    vec![
        KeyCommand::on(command("hset", -4, "2.0.0", "O(1) for each field", "Sets fields of a hash"), hset),
        KeyCommand::on(command("hmset", -4, "2.0.0", "O(1) for each field", "Sets fields of a hash"), hmset),
        KeyCommand::on(command("hsetnx", 4, "2.0.0", "O(1)", "Sets a field of a hash that is not there yet"), hsetnx),
        KeyCommand::on(command("hincrby", 4, "2.0.0", "O(1)", "Adds to the integer in a field of a hash"), hincrby),
        KeyCommand::on(
            command("hincrbyfloat", 4, "2.6.0", "O(1)", "Adds to the number in a field of a hash"),
            hincrbyfloat,
        ),
        KeyCommand::on(remove.documented("hash", "2.0.0", "O(1) for each field", "Removes fields of a hash"), hdel),
    ]
}

/// The operation that sets all pairs, and how many fields are new.
fn set_all(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>) -> Result<(usize, HashOperation), CommandError> {
    let pairs = arguments.take_pairs()?;
    let hash = key.state()?;
    let created: BTreeSet<&Bytes> =
        pairs.clone().map(|(field, _)| field).filter(|field| !hash.fields.contains_key(*field)).collect();
    let fields = pairs.map(|(field, value)| (field.clone(), value.clone())).collect();
    Ok((created.len(), HashOperation::Set(fields)))
}

fn set_one(field: &Bytes, value: impl Into<Bytes>) -> HashOperation {
    HashOperation::Set(vec![(field.clone(), value.into())])
}

fn hset(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let (created, operation) = set_all(key, arguments)?;
    Ok(Plan::new(Reply::count(created), operation))
}

fn hmset(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let (_, operation) = set_all(key, arguments)?;
    Ok(Plan::new(Reply::ok(), operation))
}

fn hsetnx(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let (field, value) = (arguments.next_bytes()?, arguments.next_bytes()?);
    let is_new = !key.state()?.fields.contains_key(field);
    Ok(Plan::only_if(is_new, Reply::one_if(is_new), || set_one(field, value.clone())))
}

fn hincrby(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let field = arguments.next_bytes()?;
    let increment = arguments.integer()?;
    let value = match key.state()?.fields.get(field) {
        Some(value) => parse_integer(value).ok_or_else(|| CommandError::new("hash value is not an integer"))?,
        None => 0,
    };
    let sum = value.checked_add(increment).ok_or(CommandError::Overflow)?;
    Ok(Plan::new(Reply::Integer(sum), set_one(field, sum.to_string())))
}

fn hincrbyfloat(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let field = arguments.next_bytes()?;
    let increment = parse_extended(arguments.next_bytes()?).ok_or(CommandError::NotFloat)?;
    if !increment.is_finite() {
        return Err(CommandError::new("value is NaN or Infinity"));
    }
    let hash = key.state()?;
    let value: &[u8] = hash.fields.get(field).map_or(b"0", |value| value);
    let value = parse_extended(value).ok_or_else(|| CommandError::new("hash value is not a float"))?;
    let sum = add_extended(value, increment)
        .map(Bytes::from)
        .ok_or_else(|| CommandError::new("increment would produce NaN or Infinity"))?;
    Ok(Plan::new(Reply::Bulk(sum.clone()), set_one(field, sum)))
}

fn hdel(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let hash = key.state()?;
    let removed: BTreeSet<&Bytes> =
        arguments.take_rest().iter().filter(|field| hash.fields.contains_key(*field)).collect();
    let reply = Reply::count(removed.len());
    Ok(Plan::only_if(!removed.is_empty(), reply, || HashOperation::Remove(removed.into_iter().cloned().collect())))
}
