//! Commands on several strings.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{READS_FAST, WRITES, check_length};
use crate::{
    Arguments, Command, CommandError, Context, Deadline, Effect, Flag, Held, KeyPositions, Keys, KeysCommand,
    KeysOutcome, Reply,
};

type Evaluated = Result<KeysOutcome, CommandError>;

pub(super) fn commands() -> Vec<KeysCommand> {
    let command = |name, arity, flags: &'static [Flag], keys, group, since, complexity, summary| {
        Command { keys, ..Command::on_key(name, arity, flags) }.documented(group, since, complexity, summary)
    };
    let each = "O(N) for N keys";
    let pairs = KeyPositions { first: 1, last: -1, step: 2 };
    let sources = KeyPositions { first: 2, last: -1, step: 1 };
    let all = KeyPositions::ALL;
    let bits = "Stores the bitwise combination of strings";
    vec![
        KeysCommand::new(command("mget", -2, READS_FAST, all, "string", "1.0.0", each, "Reads strings"), mget),
        KeysCommand::new(command("mset", -3, WRITES, pairs, "string", "1.0.1", each, "Sets strings"), |keys, _, _| {
            Ok(KeysOutcome::new(Reply::ok(), set_all(keys)?))
        }),
        KeysCommand::new(
            command("msetnx", -3, WRITES, pairs, "string", "1.0.1", each, "Sets strings if none of them exists"),
            |keys, _, _| {
                let effects = set_all(keys)?;
                let is_free = !keys.views().iter().any(|view| view.exists());
                Ok(KeysOutcome::new(Reply::one_if(is_free), if is_free { effects } else { Vec::new() }))
            },
        ),
        KeysCommand::new(command("bitop", -4, WRITES, sources, "bitmap", "2.6.0", "O(N) for N bytes", bits), bitop),
    ]
}

/// A key that holds no string is answered as one that does not exist.
fn mget(keys: &Keys<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let read = |held| match held {
        Some(Held::String(bytes)) => Ok(Reply::Bulk(Bytes::clone(bytes))),
        Some(Held::Blocks) => Err(CommandError::InBlocks),
        None | Some(Held::Structure(_)) => Ok(Reply::Null),
    };
    let replies = keys.views().iter().map(|view| read(view.held));
    Ok(KeysOutcome::reply(Reply::Array(replies.collect::<Result<_, _>>()?)))
}

/// Of a key that is named twice, the last value.
fn set_all(keys: &Keys<'_>) -> Result<Vec<(usize, Effect)>, CommandError> {
    let pairs = &keys.arguments()[1..];
    if !pairs.len().is_multiple_of(2) {
        let name = String::from_utf8_lossy(&keys.arguments()[0]).to_ascii_lowercase();
        return Err(CommandError::Arity(name));
    }
    let mut seen = BTreeSet::new();
    let mut effects: Vec<_> = pairs
        .chunks_exact(2)
        .enumerate()
        .rev()
        .filter(|(_, pair)| seen.insert(&pair[0]))
        .map(|(index, pair)| (index, Effect::Set(pair[1].clone(), Deadline::None)))
        .collect();
    effects.reverse();
    Ok(effects)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    And,
    Or,
    Xor,
    Not,
}

fn bitop(keys: &Keys<'_>, _: &mut Arguments<'_>, context: &Context) -> Evaluated {
    let operator = match &*keys.arguments()[1].to_ascii_lowercase() {
        b"and" => Operator::And,
        b"or" => Operator::Or,
        b"xor" => Operator::Xor,
        b"not" => Operator::Not,
        _ => return Err(CommandError::Syntax),
    };
    if operator == Operator::Not && keys.len() != 2 {
        return Err(CommandError::new("BITOP NOT must be called with a single source key."));
    }
    let strings = keys.views()[1..].iter().map(|view| Ok(view.string()?.map_or(&b""[..], |string| string)));
    let strings = strings.collect::<Result<Vec<&[u8]>, CommandError>>()?;
    let length = strings.iter().map(|string| string.len()).max().unwrap_or_default();
    check_length(length as u64, context)?;
    let reply = Reply::count(length);
    if length == 0 {
        return Ok(KeysOutcome::new(reply, keys.delete(0)));
    }
    let combined = Bytes::from(combine(operator, &strings, length));
    Ok(KeysOutcome::new(reply, vec![(0, Effect::Set(combined, Deadline::None))]))
}

/// Behind its end, every string is zeros.
fn combine(operator: Operator, strings: &[&[u8]], length: usize) -> Vec<u8> {
    let Some((first, others)) = strings.split_first() else { return Vec::new() };
    let mut combined = first.to_vec();
    combined.resize(length, 0);
    for other in others {
        for (index, byte) in combined.iter_mut().enumerate() {
            let other = other.get(index).copied().unwrap_or(0);
            match operator {
                Operator::And => *byte &= other,
                Operator::Or => *byte |= other,
                Operator::Xor => *byte ^= other,
                Operator::Not => {}
            }
        }
    }
    if operator == Operator::Not {
        combined.iter_mut().for_each(|byte| *byte = !*byte);
    }
    combined
}
