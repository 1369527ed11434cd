use bytes::Bytes;

use super::{Evaluated, WRITES_FAST, changed, command};
use crate::{
    Arguments, CommandError, Context, KeyCommand, Reply, View,
    number::{add_extended, parse_extended, parse_integer},
};

pub(super) fn commands() -> Vec<KeyCommand> {
    let new = |name, arity, since, summary| command(name, arity, WRITES_FAST, since, "O(1)", summary);
    vec![
        KeyCommand::new(new("incr", 2, "1.0.0", "Adds 1 to an integer"), |view, _, _| add(view, 1)),
        KeyCommand::new(new("decr", 2, "1.0.0", "Takes 1 from an integer"), |view, _, _| add(view, -1)),
        KeyCommand::new(new("incrby", 3, "1.0.0", "Adds to an integer"), |view, a, _| add(view, a.integer()?)),
        KeyCommand::new(new("decrby", 3, "1.0.0", "Takes from an integer"), |view, a, _| {
            let decrement = a.integer()?;
            add(view, decrement.checked_neg().ok_or_else(|| CommandError::new("decrement would overflow"))?)
        }),
        KeyCommand::new(new("incrbyfloat", 3, "2.6.0", "Adds to a number"), incrbyfloat),
    ]
}

fn add(view: &View<'_>, increment: i64) -> Evaluated {
    let before = match view.string()? {
        Some(value) => parse_integer(value).ok_or(CommandError::NotInteger)?,
        None => 0,
    };
    let sum = before.checked_add(increment).ok_or(CommandError::Overflow)?;
    Ok(changed(Reply::Integer(sum), sum.to_string()))
}

fn incrbyfloat(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let before: &[u8] = view.string()?.map_or(b"0", |value| value);
    let before = parse_extended(before).ok_or(CommandError::NotFloat)?;
    let increment = parse_extended(arguments.next_bytes()?).ok_or(CommandError::NotFloat)?;
    let sum = add_extended(before, increment)
        .map(Bytes::from)
        .ok_or_else(|| CommandError::new("increment would produce NaN or Infinity"))?;
    Ok(changed(Reply::Bulk(sum.clone()), sum))
}
