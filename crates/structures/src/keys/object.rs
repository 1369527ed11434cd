use super::Evaluated;
use crate::{
    Arguments, Command, CommandError, Context, Flag, Held, KeyCommand, KeyPositions, Outcome, Reply, View,
    number::parse_integer,
};

pub(super) fn commands() -> Vec<KeyCommand> {
    let command = |name, since, summary| Command {
        keys: KeyPositions { first: 2, last: 2, step: 1 },
        ..Command::on_key(name, 3, &[Flag::ReadOnly]).documented("generic", since, "O(1)", summary)
    };
    vec![
        KeyCommand::new(
            command("object|encoding", "2.2.3", "Tells how a key's value would be kept by Redis"),
            encoding,
        ),
        KeyCommand::new(command("object|refcount", "2.2.3", "Tells how often Redis would share a value"), refcount),
        KeyCommand::new(command("object|idletime", "2.2.3", "Answers 0: reads are not recorded"), idletime),
        KeyCommand::new(command("object|freq", "4.0.0", "Fails: reads are not recorded"), freq),
    ]
}

/// Redis's bounds: of integers' digits, and of short strings' bytes.
const INTEGER_LENGTH_MAX: usize = 20;
const SHORT_LENGTH_MAX: usize = 44;

fn string_encoding(value: &[u8]) -> &'static str {
    if value.len() <= INTEGER_LENGTH_MAX && parse_integer(value).is_some() {
        "int"
    } else if value.len() <= SHORT_LENGTH_MAX {
        "embstr"
    } else {
        "raw"
    }
}

fn encoding(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let encoding = view.held.map(|held| match held {
        Held::String(value) => string_encoding(value),
        Held::Blocks => "raw",
        Held::Structure(state) => state.encoding_name(),
    });
    Ok(Outcome::reply(Reply::bulk_or_null(encoding)))
}

fn refcount(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    // Integers below 10,000 are shared for ever.
    let is_shared = |value: &[u8]| parse_integer(value).is_some_and(|number| (0..10_000).contains(&number));
    Ok(Outcome::reply(match view.held {
        None => Reply::Null,
        Some(Held::String(value)) if is_shared(value) => Reply::Integer(i64::from(i32::MAX)),
        Some(_) => Reply::Integer(1),
    }))
}

fn idletime(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    Ok(Outcome::reply(if view.exists() { Reply::Integer(0) } else { Reply::Null }))
}

fn freq(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    if view.exists() { Err(CommandError::new(NO_FREQUENCY)) } else { Ok(Outcome::reply(Reply::Null)) }
}

const NO_FREQUENCY: &str = "An LFU maxmemory policy is not selected, access frequency not tracked. \
                            Please note that when switching between policies at runtime LRU and LFU data \
                            will take some time to adjust.";
