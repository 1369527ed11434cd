//! Every command that a client can send: those of the structures, and the gateway's own.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use difuse_api::structures::{Command, Flag, KeyPositions, Registry};
use futures::future::BoxFuture;

use super::{Shared, call::Call, commands, failure::Outcome, session::Session};

/// The longest name of a command, in bytes.
const NAME_BYTES_MAX: usize = 32;

/// What does a command about the connection or the server.
pub(super) type AtOnce = fn(&mut Session, &Arc<Shared>, &[Bytes]) -> Outcome;
/// What does a command on keys.
pub(super) type Task = fn(Call) -> BoxFuture<'static, Outcome>;

/// How a command is done.
#[derive(Clone, Copy)]
pub(super) enum Run {
    /// At once.
    AtOnce(AtOnce),
    /// At once, when all commands before it are answered.
    InOrder(AtOnce),
    /// While others of the connection are, if those touch other keys.
    OnKeys(Task),
    /// While no other one of the connection is.
    Alone(Task),
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
        // Those that take several keys are done where they take one.
        let takes_one = |name| !registry.is_on_keys(name) || matches!(name, "pfcount" | "sort");
        let on_one_key = registry.commands().filter(|command| takes_one(command.name));
        let of_structures = on_one_key.map(|command| Entry { command: *command, run: Run::OnKeys(commands::keyed) });
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

/// The arguments of a command that are keys. `arguments` begin with its name.
pub(super) fn keys_of<'a>(command: &Command, arguments: &'a [Bytes]) -> impl Iterator<Item = &'a Bytes> {
    let KeyPositions { first, last, step } = command.keys;
    let position = |position: i16| match usize::try_from(position) {
        Ok(position) => position,
        Err(_) => arguments.len().saturating_sub(usize::from(position.unsigned_abs())),
    };
    let (from, end) = (position(first), (position(last) + 1).min(arguments.len()));
    let step = usize::try_from(step).unwrap_or_default().max(1);
    let range = if first == 0 || from >= end { &[] } else { &arguments[from..end] };
    range.iter().step_by(step)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_api::structures::{KeyPositions, Registry};

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
    fn keys_are_found_by_their_positions() {
        let mut command = Catalogue::new(&Registry::builtin()).find(b"mset").unwrap().1.command;
        let arguments: Vec<Bytes> = ["name", "a", "b", "c", "d"].map(Bytes::from).to_vec();
        for (first, last, step, expected) in
            [(1, -1, 2, "a c"), (1, 1, 1, "a"), (1, -1, 1, "a b c d"), (2, -2, 1, "b c"), (0, 0, 0, ""), (9, 9, 1, "")]
        {
            command.keys = KeyPositions { first, last, step };
            let found: Vec<_> = keys_of(&command, &arguments).map(|key| String::from_utf8_lossy(key)).collect();
            assert_eq!(found.join(" "), expected);
        }
    }
}
