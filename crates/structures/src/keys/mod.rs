//! Commands on a key of any kind.

mod deadlines;
mod object;
mod sort;

use crate::{
    Arguments, Command, CommandError, Context, Effect,
    Flag::{self, Fast, ReadOnly, Write},
    Held, KeyCommand, KeyPositions, Outcome, Reply, View,
};

type Evaluated = Result<Outcome, CommandError>;

/// All of them.
pub(crate) fn commands() -> Vec<KeyCommand> {
    [whole_keys(), deadlines::commands(), object::commands(), sort::commands()].into_iter().flatten().collect()
}

/// Those that Redis has for several keys: here each is asked for one of them, and whoever asks adds up.
fn whole_keys() -> Vec<KeyCommand> {
    let command = |name, flags, since, summary| Command {
        keys: KeyPositions::ALL,
        ..Command::on_key(name, -2, flags).documented("generic", since, "O(1) for each key", summary)
    };
    const READS: &[Flag] = &[ReadOnly, Fast];
    vec![
        KeyCommand::new(command("exists", READS, "1.0.0", "Counts the keys that exist"), exists),
        KeyCommand::new(command("touch", READS, "3.2.1", "Counts the keys that exist"), exists),
        KeyCommand::new(command("del", &[Write], "1.0.0", "Deletes keys"), delete),
        KeyCommand::new(command("unlink", &[Write, Fast], "4.0.0", "Deletes keys"), delete),
        KeyCommand::new(
            Command::on_key("type", 2, READS).documented("generic", "1.0.0", "O(1)", "Tells what a key holds"),
            kind,
        ),
    ]
}

fn exists(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Evaluated {
    arguments.finish()?;
    Ok(Outcome::reply(Reply::one_if(view.exists())))
}

fn delete(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Evaluated {
    arguments.finish()?;
    let effect = if view.exists() { Effect::Delete } else { Effect::Nothing };
    Ok(Outcome::new(Reply::one_if(view.exists()), effect))
}

fn kind(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let name = match view.held {
        None => "none",
        Some(Held::String(_) | Held::Blocks) => "string",
        Some(Held::Structure(state)) => state.name(),
    };
    Ok(Outcome::reply(Reply::Status(name.into())))
}
