use bytes::Bytes;

use super::{Fast, Flag, Hash, Planned, ReadOnly};
use crate::{Arguments, Command, Context, Key, KeyCommand, Plan, Reply, sample, scan};

const FAST: &[Flag] = &[ReadOnly, Fast];
const SLOW: &[Flag] = &[ReadOnly];

pub(super) fn commands() -> Vec<KeyCommand> {
    let command = |name, arity, flags, since, complexity, summary| {
        Command::on_key(name, arity, flags).documented("hash", since, complexity, summary)
    };
    vec![
        KeyCommand::on(command("hget", 3, FAST, "2.0.0", "O(1)", "Reads a field of a hash"), hget),
        KeyCommand::on(command("hmget", -3, FAST, "2.0.0", "O(1) for each field", "Reads fields of a hash"), hmget),
        KeyCommand::on(command("hlen", 2, FAST, "2.0.0", "O(1)", "Counts the fields of a hash"), hlen),
        KeyCommand::on(command("hstrlen", 3, FAST, "3.2.0", "O(1)", "Reads the length of a field's value"), hstrlen),
        KeyCommand::on(command("hexists", 3, FAST, "2.0.0", "O(1)", "Tells whether a hash has a field"), hexists),
        KeyCommand::on(command("hkeys", 2, SLOW, "2.0.0", "O(N) for N fields", "Reads all fields of a hash"), hkeys),
        KeyCommand::on(command("hvals", 2, SLOW, "2.0.0", "O(N) for N fields", "Reads all values of a hash"), hvals),
        KeyCommand::on(
            command("hgetall", 2, SLOW, "2.0.0", "O(N) for N fields", "Reads all fields and values of a hash"),
            hgetall,
        ),
        KeyCommand::on(
            command("hrandfield", -2, SLOW, "6.2.0", "O(N) for N fields answered", "Reads fields of a hash at random"),
            hrandfield,
        ),
        KeyCommand::on(
            command("hscan", -3, SLOW, "2.8.0", "O(1) for a step", "Reads the fields and values of a hash in steps"),
            hscan,
        ),
    ]
}

fn hget(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let field = arguments.next_bytes()?;
    Ok(Plan::reply(Reply::bulk_or_null(key.state()?.fields.get(field).cloned())))
}

fn hmget(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let hash = key.state()?;
    let values = arguments.take_rest().iter().map(|field| Reply::bulk_or_null(hash.fields.get(field).cloned()));
    Ok(Plan::reply(Reply::Array(values.collect())))
}

fn hlen(key: &Key<'_, Hash>, _: &mut Arguments<'_>, _: &Context) -> Planned {
    Ok(Plan::reply(Reply::count(key.state()?.fields.len())))
}

fn hstrlen(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let field = arguments.next_bytes()?;
    Ok(Plan::reply(Reply::count(key.state()?.fields.get(field).map_or(0, Bytes::len))))
}

fn hexists(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let field = arguments.next_bytes()?;
    Ok(Plan::reply(Reply::one_if(key.state()?.fields.contains_key(field))))
}

fn hkeys(key: &Key<'_, Hash>, _: &mut Arguments<'_>, _: &Context) -> Planned {
    Ok(Plan::reply(Reply::bulks(key.state()?.fields.keys().cloned())))
}

fn hvals(key: &Key<'_, Hash>, _: &mut Arguments<'_>, _: &Context) -> Planned {
    Ok(Plan::reply(Reply::bulks(key.state()?.fields.values().cloned())))
}

fn hgetall(key: &Key<'_, Hash>, _: &mut Arguments<'_>, _: &Context) -> Planned {
    let hash = key.state()?;
    let pairs = hash.fields.iter().map(|(field, value)| (Reply::bulk(field.clone()), Reply::bulk(value.clone())));
    Ok(Plan::reply(Reply::Map(pairs.collect())))
}

fn hrandfield(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, context: &Context) -> Planned {
    if arguments.is_empty() {
        let hash = key.state()?;
        let chosen = hash.fields.get_index(sample::index(hash.fields.len(), context.seed));
        return Ok(Plan::reply(Reply::bulk_or_null(chosen.map(|(field, _)| field.clone()))));
    }
    let (count, has_values) = sample::count_and_word(arguments, "withvalues")?;
    let hash = key.state()?;
    let chosen = sample::indexes(hash.fields.len(), count, context.seed)?;
    let chosen = chosen.into_iter().filter_map(|index| hash.fields.get_index(index));
    Ok(Plan::reply(if has_values {
        Reply::Pairs(chosen.map(|(field, value)| (Reply::bulk(field.clone()), Reply::bulk(value.clone()))).collect())
    } else {
        Reply::bulks(chosen.map(|(field, _)| field.clone()))
    }))
}

fn hscan(key: &Key<'_, Hash>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let cursor = scan::cursor(arguments)?;
    let Some(hash) = key.find()? else { return Ok(Plan::reply(scan::nothing())) };
    let entry = |index| hash.fields.get_index(index).map(|(field, value)| (field.clone(), Some(value.clone())));
    Ok(Plan::reply(scan::step(arguments, cursor, hash.fields.len(), !hash.is_table, entry)?))
}
