use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    Arguments, Command, CommandError, Context, Hash, KeyCommand, Malformed, Outcome, Reply, State, Structure, View,
};

/// A log names a structure that this program does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no structure with the number {0} in this program")]
pub struct UnknownStructure(pub u8);

type Decode = fn(&[u8]) -> Result<Box<dyn State>, Malformed>;

struct Kind {
    name: &'static str,
    empty: fn() -> Box<dyn State>,
    decode: Decode,
}

/// The structures that a node knows, and the commands on them.
pub struct Registry {
    kinds: BTreeMap<u8, Kind>,
    commands: BTreeMap<&'static str, KeyCommand>,
}

impl Registry {
    /// No structures.
    pub fn empty() -> Self {
        Self { kinds: BTreeMap::new(), commands: BTreeMap::new() }
    }

    /// Those of difuse itself.
    pub fn builtin() -> Self {
        Self::empty().with::<Hash>()
    }

    /// These and one more.
    ///
    /// # Panics
    /// If its number, its name or one of its commands is taken: two structures of one program must not be confused.
    pub fn with<S: Structure>(mut self) -> Self {
        let kind = Kind {
            name: S::NAME,
            empty: || Box::new(S::default()),
            decode: |bytes| {
                let malformed = Malformed { what: "state", structure: S::NAME };
                Ok(Box::new(postcard::from_bytes::<S>(bytes).map_err(|_| malformed)?))
            },
        };
        let is_name_taken = self.kinds.values().any(|other| other.name == kind.name);
        let previous = self.kinds.insert(S::ID, kind);
        assert!(previous.is_none() && !is_name_taken, "structure {} ({}) is there already", S::NAME, S::ID);
        self.with_commands(S::commands())
    }

    /// These and more commands.
    ///
    /// # Panics
    /// If the name of one of them is taken.
    pub fn with_commands(mut self, commands: Vec<KeyCommand>) -> Self {
        for command in commands {
            let name = command.command.name;
            assert!(self.commands.insert(name, command).is_none(), "command {name} is there already");
        }
        self
    }

    /// All commands, by name.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.commands.values().map(|command| &command.command)
    }

    /// A command, by its name in any case.
    pub fn command(&self, name: &[u8]) -> Option<&Command> {
        self.find(name).map(|found| &found.command)
    }

    fn find(&self, name: &[u8]) -> Option<&KeyCommand> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        self.commands.get(name.as_str())
    }

    /// The name of a structure, as `TYPE` answers it.
    pub fn name_of(&self, id: u8) -> Result<&'static str, UnknownStructure> {
        self.kinds.get(&id).map(|kind| kind.name).ok_or(UnknownStructure(id))
    }

    /// The state of a key that does not exist.
    pub fn empty_state(&self, id: u8) -> Result<Box<dyn State>, UnknownStructure> {
        self.kinds.get(&id).map(|kind| (kind.empty)()).ok_or(UnknownStructure(id))
    }

    /// A state in its checkpoint form; the outer error says that the structure is unknown, the inner one that the bytes
    /// are none of its states.
    pub fn decode_state(&self, id: u8, bytes: &[u8]) -> Result<Result<Box<dyn State>, Malformed>, UnknownStructure> {
        self.kinds.get(&id).map(|kind| (kind.decode)(bytes)).ok_or(UnknownStructure(id))
    }

    /// What a command on a key comes to. `arguments`: its name, the key, and what follows. Errors are replies, as for
    /// Redis's clients, except that of a value in blocks.
    pub fn evaluate(&self, view: &View<'_>, arguments: &[Bytes], context: &Context) -> Result<Outcome, CommandError> {
        let name = arguments.first().map(|name| String::from_utf8_lossy(name).to_ascii_lowercase()).unwrap_or_default();
        let Some(found) = self.commands.get(name.as_str()) else {
            return Ok(Outcome::reply(Reply::Error(format!("ERR unknown command '{name}'"))));
        };
        if arguments.len() < 2 || !found.command.takes(arguments.len()) {
            return Ok(Outcome::reply(Reply::Error(CommandError::Arity(name).to_string())));
        }
        match (found.run)(view, &mut Arguments::new(&name, &arguments[2..]), context) {
            Err(CommandError::InBlocks) => Err(CommandError::InBlocks),
            Err(error) => Ok(Outcome::reply(Reply::Error(error.to_string()))),
            Ok(outcome) => Ok(outcome),
        }
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kinds.values().map(|kind| kind.name)).finish()
    }
}
