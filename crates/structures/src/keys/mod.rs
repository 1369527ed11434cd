//! Commands on a key of any kind.

mod copies;
mod deadlines;
mod object;
mod sort;

use std::collections::BTreeSet;

use crate::{
    Arguments, Command, CommandError, Context, Effect,
    Flag::{self, Fast, ReadOnly, Write},
    Held, KeyCommand, KeyPositions, Keys, KeysCommand, KeysOutcome, Outcome, Reply, View,
};

type Evaluated = Result<Outcome, CommandError>;

/// All of them.
pub(crate) fn commands() -> Vec<KeyCommand> {
    let command = Command::on_key("type", 2, &[ReadOnly, Fast]);
    let kind = KeyCommand::new(command.documented("generic", "1.0.0", "O(1)", "Tells what a key holds"), kind);
    [vec![kind], deadlines::commands(), object::commands(), sort::commands()].into_iter().flatten().collect()
}

/// All of them on several keys.
pub(crate) fn commands_on_keys() -> Vec<KeysCommand> {
    [whole_keys(), copies::commands(), sort::commands_on_keys()].into_iter().flatten().collect()
}

fn whole_keys() -> Vec<KeysCommand> {
    let command = |name, flags, since, summary| Command {
        keys: KeyPositions::ALL,
        ..Command::on_key(name, -2, flags).documented("generic", since, "O(1) for each key", summary)
    };
    const READS: &[Flag] = &[ReadOnly, Fast];
    vec![
        KeysCommand::new(command("exists", READS, "1.0.0", "Counts the keys that exist"), |keys, _, _| exists(keys)),
        KeysCommand::new(command("touch", READS, "3.2.1", "Counts the keys that exist"), |keys, _, _| exists(keys)),
        KeysCommand::new(command("del", &[Write], "1.0.0", "Deletes keys"), |keys, _, _| delete(keys)),
        KeysCommand::new(command("unlink", &[Write, Fast], "4.0.0", "Deletes keys"), |keys, _, _| delete(keys)),
    ]
}

/// One that is named twice counts twice.
fn exists(keys: &Keys<'_>) -> Result<KeysOutcome, CommandError> {
    Ok(KeysOutcome::reply(Reply::count(keys.views().iter().filter(|view| view.exists()).count())))
}

fn delete(keys: &Keys<'_>) -> Result<KeysOutcome, CommandError> {
    let mut deleted = BTreeSet::new();
    let is_there = |index: &usize| keys.view(*index).exists();
    let effects: Vec<(usize, Effect)> = (0..keys.len())
        .filter(is_there)
        .filter(|index| deleted.insert(keys.name(*index)))
        .map(|index| (index, Effect::Delete))
        .collect();
    Ok(KeysOutcome::new(Reply::count(effects.len()), effects))
}

fn kind(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let name = match view.held {
        None => "none",
        Some(Held::String(_) | Held::Blocks) => "string",
        Some(Held::Structure(state)) => state.name(),
    };
    Ok(Outcome::reply(Reply::Status(name.into())))
}
