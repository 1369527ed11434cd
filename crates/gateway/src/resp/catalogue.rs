//! Every command that a client can send: those of the structures, and the gateway's own.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use difuse_api::structures::{Command, Flag, KeyPositions, Registry};
use futures::future::BoxFuture;

use super::{Shared, call::Call, commands, failure::Outcome, session::Session, transaction::Transaction};

/// The longest name of a command, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// What does a command about the connection or the server.
pub(super) type AtOnce = fn(&mut Session, &Arc<Shared>, &[Bytes]) -> Outcome;
/// What does a command on keys.
pub(super) type Task = fn(Call) -> BoxFuture<'static, Outcome>;
/// What does the commands that were put aside, if `MULTI` came before.
pub(super) type Exec = fn(Call, Option<Transaction>) -> BoxFuture<'static, Outcome>;

/// How a command is done.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// At once.
    AtOnce(AtOnce),
    /// At once, when all commands before it are answered.
    InOrder(AtOnce),
    /// At once, and answered, outside of transactions, by the task.
    Told(AtOnce, Task),
    /// As a command of the structures on one key, while others of the connection are, if those touch other keys; together
    /// with those behind it on the same key.
    OnKey,
    /// While others of the connection are, if those touch other keys.
    OnKeys(Task),
    /// While no other one of the connection is.
    Alone(Task),
    /// In the same way, for as long as the client is willing to wait.
    Waiting(Task),
    /// In the same way, with the commands that were put aside.
    Transaction(Exec),
}

/// One command.
pub(super) struct Entry {
    pub(super) command: Command,
    pub(super) run: Run,
}

impl Entry {
    /// One of the gateway's own commands, without keys, in constant time.
    pub(super) fn new(
        name: &'static str,
        arity: i16,
        flags: &'static [Flag],
        group: &'static str,
        since: &'static str,
        summary: &'static str,
        run: Run,
    ) -> Self {
        let keys = KeyPositions::NONE;
        Self { command: Command { name, arity, flags, keys, group, since, complexity: "O(1)", summary }, run }
    }

    /// The same with keys.
    pub(super) fn with_keys(mut self, keys: KeyPositions) -> Self {
        self.command.keys = keys;
        self
    }

    /// The same with other costs.
    pub(super) fn costing(mut self, complexity: &'static str) -> Self {
        self.command.complexity = complexity;
        self
    }
}

/// All commands.
pub(super) struct Catalogue {
    entries: Vec<Entry>,
    index: BTreeMap<&'static str, usize>,
}

impl Catalogue {
    /// The gateway's own commands, and those of `registry` that it does not do itself.
    pub(super) fn new(registry: &Registry) -> Self {
        let run = |command: &Command| {
            if command.flags.contains(&Flag::Blocking) {
                Run::Waiting(commands::blocking)
            } else if registry.is_on_keys(command.name) {
                Run::OnKeys(commands::stepped)
            } else {
                Run::OnKey
            }
        };
        let of_structures = registry.commands().map(|command| Entry { command: *command, run: run(command) });
        let mut all: BTreeMap<_, _> = of_structures.map(|entry| (entry.command.name, entry)).collect();
        all.extend(commands::own().into_iter().map(|entry| (entry.command.name, entry)));
        let entries: Vec<_> = all.into_values().collect();
        let index = entries.iter().enumerate().map(|(index, entry)| (entry.command.name, index)).collect();
        Self { entries, index }
    }

    /// The place of a command, by its name in any case, and the command.
    pub(super) fn find(&self, name: &[u8]) -> Option<(usize, &Entry)> {
        let mut buffer = [0; NAME_BYTES_MAX];
        let lower = buffer.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let index = *self.index.get(std::str::from_utf8(lower).ok()?)?;
        Some((index, &self.entries[index]))
    }

    /// The command of a request: by its name, or by that of a container (`OBJECT`) and the word after it.
    pub(super) fn find_command(&self, arguments: &[Bytes]) -> Option<(usize, &Entry)> {
        let name = arguments.first()?;
        self.find(name).or_else(|| self.find(&[&name[..], b"|", arguments.get(1)?].concat()))
    }

    /// All commands, by name.
    pub(super) fn commands(&self) -> impl ExactSizeIterator<Item = &Command> {
        self.entries.iter().map(|entry| &entry.command)
    }

    /// The names of all commands, in the order of their places.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.entries.iter().map(|entry| entry.command.name)
    }
}

/// The arguments of a command that are keys; none if that cannot be said, which is then its error. `arguments` begin with
/// its name.
pub(super) fn keys_of<'a>(registry: &Registry, command: &Command, arguments: &'a [Bytes]) -> Vec<&'a Bytes> {
    let positions = match command.flags.contains(&Flag::MovableKeys) {
        true => registry.key_positions(arguments).unwrap_or_default(),
        false => command.keys.positions(arguments.len()),
    };
    positions.into_iter().filter_map(|position| arguments.get(position)).collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_api::structures::Registry;

    use super::{Catalogue, keys_of};

    #[test]
    fn commands_are_found_in_any_case() {
        let catalogue = Catalogue::new(&Registry::builtin());
        assert_eq!(catalogue.find(b"PiNg").unwrap().1.command.name, "ping");
        for name in [&b""[..], b"pingg", &[b'a'; 100], b"\xff"] {
            assert!(catalogue.find(name).is_none());
        }
    }

    #[test]
    fn keys_are_found_wherever_they_stand() {
        let registry = Registry::builtin();
        let catalogue = Catalogue::new(&registry);
        for (line, expected) in [
            ("mset a 1 b 2", "a b"),
            ("get a", "a"),
            ("get", ""),
            ("exists a b c", "a b c"),
            ("object encoding a", "a"),
            ("blpop a b 0", "a b"),
            ("bitop and a b c", "a b c"),
            ("zunionstore a 2 b c weights 1 2", "a b c"),
            ("lmpop 2 a b left", "a b"),
            ("lmpop 9 a b left", ""),
            ("sort a limit 0 1 store b", "a b"),
            ("ping a", ""),
        ] {
            let arguments: Vec<Bytes> = line.split(' ').map(|word| Bytes::from(word.to_string())).collect();
            let (_, entry) = catalogue.find_command(&arguments).unwrap();
            let found = keys_of(&registry, &entry.command, &arguments);
            let found: Vec<_> = found.into_iter().map(|key| String::from_utf8_lossy(key)).collect();
            assert_eq!(found.join(" "), expected, "{line}");
        }
    }
}
