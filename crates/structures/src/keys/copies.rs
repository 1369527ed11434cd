//! Commands that give what one key holds to another.

use crate::{
    Arguments, Command, CommandError, Deadline, Effect,
    Flag::{DenyOom, Fast, Write},
    Held, KeyPositions, Keys, KeysCommand, KeysOutcome, Reply, View,
};

type Evaluated = Result<KeysOutcome, CommandError>;

pub(super) fn commands() -> Vec<KeysCommand> {
    let command = |name, arity, flags, since, summary| {
        let keys = KeyPositions { first: 1, last: 2, step: 1 };
        let complexity = "O(N) for the size of what the key holds";
        Command { keys, ..Command::on_key(name, arity, flags) }.documented("generic", since, complexity, summary)
    };
    vec![
        KeysCommand::new(command("rename", 3, &[Write], "1.0.0", "Renames a key"), |keys, _, _| rename(keys, false)),
        KeysCommand::new(
            command("renamenx", 3, &[Write, Fast], "1.0.0", "Renames a key unless the new name is taken"),
            |keys, _, _| rename(keys, true),
        ),
        KeysCommand::new(command("copy", -3, &[Write, DenyOom], "6.2.0", "Copies a key"), |keys, arguments, _| {
            copy(keys, arguments)
        }),
    ]
}

/// What lets another key hold what this one holds, until the same moment.
fn held_alike(view: &View<'_>) -> Result<Option<Effect>, CommandError> {
    let deadline = view.deadline.map_or(Deadline::None, Deadline::At);
    Ok(match view.held {
        None => None,
        Some(Held::String(bytes)) => Some(Effect::Set(bytes.clone(), deadline)),
        Some(Held::Structure(state)) => {
            Some(Effect::Hold { structure: state.id(), state: state.encode(), deadline: view.deadline })
        }
        Some(Held::Blocks) => return Err(CommandError::InBlocks),
    })
}

fn rename(keys: &Keys<'_>, must_be_free: bool) -> Evaluated {
    if !keys.view(0).exists() {
        return Err(CommandError::new("no such key"));
    }
    let reply = |is_done| if must_be_free { Reply::one_if(is_done) } else { Reply::ok() };
    if keys.is_same(0, 1) || (must_be_free && keys.view(1).exists()) {
        return Ok(KeysOutcome::reply(reply(false)));
    }
    let given = held_alike(&keys.view(0))?.map(|effect| (1, effect));
    Ok(KeysOutcome::new(reply(true), given.into_iter().chain([(0, Effect::Delete)]).collect()))
}

/// Which database `DB` names is a matter of whoever looks the keys up: here it says that both may have one name.
fn copy(keys: &Keys<'_>, arguments: &mut Arguments<'_>) -> Evaluated {
    let (mut replaces, mut is_elsewhere) = (false, false);
    while !arguments.is_empty() {
        if arguments.take_word("replace") {
            replaces = true;
        } else if arguments.take_option("db", 1) {
            arguments.integer()?;
            is_elsewhere = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    if keys.is_same(0, 1) && !is_elsewhere {
        return Err(CommandError::new("source and destination objects are the same"));
    }
    if keys.view(1).exists() && !replaces {
        return Ok(KeysOutcome::reply(Reply::Integer(0)));
    }
    let given = held_alike(&keys.view(0))?.map(|effect| (1, effect));
    Ok(KeysOutcome::new(Reply::one_if(given.is_some()), given.into_iter().collect()))
}
