use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    Arguments, Command, CommandError, Context, Hash, KeyCommand, List, Malformed, Outcome, Reply, Set, SortedSet,
    State, Structure, View, hyperloglog, keys, strings,
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
        Self::empty()
            .with::<Hash>()
            .with::<List>()
            .with::<Set>()
            .with::<SortedSet>()
            .with_commands(strings::commands())
            .with_commands(hyperloglog::commands())
            .with_commands(keys::commands())
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

    /// A command, by its name and its subcommand's, in any case.
    pub fn command(&self, arguments: &[Bytes]) -> Option<&Command> {
        self.find(arguments).map(|found| &found.command)
    }

    fn find(&self, arguments: &[Bytes]) -> Option<&KeyCommand> {
        let lower = |name: &Bytes| std::str::from_utf8(name).ok().map(str::to_ascii_lowercase);
        let name = lower(arguments.first()?)?;
        if let Some(found) = self.commands.get(name.as_str()) {
            return Some(found);
        }
        self.commands.get(format!("{name}|{}", lower(arguments.get(1)?)?).as_str())
    }

    /// Whether these are the arguments of a command that may change its key.
    pub fn is_write(&self, arguments: &[Bytes]) -> bool {
        self.command(arguments).is_some_and(Command::is_write)
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

    /// What a command on a key comes to. `arguments`: its name, that of the subcommand if it has one, the key, and what
    /// follows.
    ///
    /// # Errors
    /// [`CommandError::InBlocks`] alone: any other error is a reply, as for Redis's clients.
    pub fn evaluate(&self, view: &View<'_>, arguments: &[Bytes], context: &Context) -> Result<Outcome, CommandError> {
        match self.run(view, arguments, context) {
            Err(CommandError::InBlocks) => Err(CommandError::InBlocks),
            // An error is one line.
            Err(error) => Ok(Outcome::reply(Reply::Error(error.to_string().replace(['\r', '\n'], " ")))),
            Ok(outcome) => Ok(outcome),
        }
    }

    fn run(&self, view: &View<'_>, arguments: &[Bytes], context: &Context) -> Result<Outcome, CommandError> {
        let found = self.find(arguments).ok_or_else(|| self.unknown(arguments))?;
        let command = &found.command;
        let key = usize::try_from(command.keys.first).unwrap_or(1);
        if arguments.len() <= key || !command.takes(arguments.len()) {
            return Err(CommandError::Arity(command.name.to_string()));
        }
        (found.run)(view, &mut Arguments::new(command.name, &arguments[key + 1..]), context)
    }

    /// The error that Redis answers when there is no such command, or no such subcommand of a command.
    pub fn unknown(&self, arguments: &[Bytes]) -> CommandError {
        let name = arguments.first().map(|name| beginning(name, 128)).unwrap_or_default();
        match arguments.get(1) {
            Some(subcommand) if self.has_subcommands(&name) => {
                let subcommand = beginning(subcommand, 128);
                let name = name.to_ascii_uppercase();
                CommandError::new(format_args!("unknown subcommand '{subcommand}'. Try {name} HELP."))
            }
            None if self.has_subcommands(&name) => CommandError::Arity(name.to_ascii_lowercase()),
            _ => unknown_command(&name, arguments.get(1..).unwrap_or_default()),
        }
    }

    fn has_subcommands(&self, name: &str) -> bool {
        let prefix = format!("{}|", name.to_ascii_lowercase());
        self.commands.keys().any(|command| command.starts_with(&prefix))
    }
}

/// An argument as an error shows it: up to the first zero byte, and no longer than this.
fn beginning(argument: &[u8], length_max: usize) -> String {
    let text = argument.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(&text[..text.len().min(length_max)]).into_owned()
}

/// The beginnings of the arguments are shown, 128 characters of them all.
fn unknown_command(name: &str, arguments: &[Bytes]) -> CommandError {
    let mut shown = String::new();
    for argument in arguments {
        if shown.len() >= 128 {
            break;
        }
        shown.push_str(&format!("'{}' ", beginning(argument, 128 - shown.len())));
    }
    CommandError::new(format_args!("unknown command '{name}', with args beginning with: {shown}"))
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kinds.values().map(|kind| kind.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, Held};

    fn evaluate(view: &View<'_>, line: &str) -> Result<Outcome, CommandError> {
        let arguments: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        Registry::builtin().evaluate(view, &arguments, &Context::new(difuse_types::WallTime(1000), 1))
    }

    /// A string that lives in blocks.
    fn in_blocks() -> View<'static> {
        View { held: Some(Held::Blocks), deadline: None }
    }

    #[test]
    fn a_value_in_blocks_is_asked_for_only_where_it_is_needed() {
        for line in [
            "get k",
            "strlen k",
            "append k x",
            "getrange k 0 1",
            "setrange k 0 ",
            "incr k",
            "set k v get",
            "getdel k",
            "getex k",
            "bitcount k",
        ] {
            assert_eq!(evaluate(&in_blocks(), line), Err(CommandError::InBlocks), "{line}");
        }
        for (line, reply) in [
            ("exists k", Reply::Integer(1)),
            ("type k", Reply::Status("string".into())),
            ("set k v nx", Reply::Null),
            ("set k v", Reply::ok()),
            ("setnx k v", Reply::Integer(0)),
            ("expire k 10", Reply::Integer(1)),
            ("del k", Reply::Integer(1)),
            ("object encoding k", Reply::bulk("raw")),
        ] {
            assert_eq!(evaluate(&in_blocks(), line).map(|outcome| outcome.reply), Ok(reply), "{line}");
        }
        let wrong = Reply::Error(CommandError::WrongType.to_string());
        assert_eq!(evaluate(&in_blocks(), "lpush k x").map(|outcome| outcome.reply), Ok(wrong));
    }

    #[test]
    fn a_string_that_is_to_be_too_long_for_its_place_takes_no_memory() {
        let context = Context { string_bytes_max: 100, ..Context::new(difuse_types::WallTime(0), 0) };
        for line in ["setbit k 4294967295 1", "setrange k 536870900 x", "bitfield k set u8 4294967280 1"] {
            let arguments: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            let evaluated = Registry::builtin().evaluate(&View::default(), &arguments, &context);
            assert_eq!(evaluated, Err(CommandError::InBlocks), "{line}");
        }
    }

    #[test]
    fn what_is_no_command_is_told_on_one_line() {
        let reply = |line: &str| match evaluate(&View::default(), line) {
            Ok(Outcome { reply: Reply::Error(text), effect: Effect::Nothing }) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(reply("nosuch a b"), "ERR unknown command 'nosuch', with args beginning with: 'a' 'b' ");
        assert_eq!(reply("no\r\nsuch"), "ERR unknown command 'no  such', with args beginning with: ");
        assert_eq!(reply("object nosuch k"), "ERR unknown subcommand 'nosuch'. Try OBJECT HELP.");
        assert_eq!(reply("OBJECT"), "ERR wrong number of arguments for 'object' command");
        assert_eq!(reply("Get"), "ERR wrong number of arguments for 'get' command");
        assert_eq!(reply(""), "ERR unknown command '', with args beginning with: ");
        let registry = Registry::builtin();
        assert!(registry.evaluate(&View::default(), &[], &Context::new(Default::default(), 0)).is_ok());
    }

    #[test]
    fn a_moment_that_has_passed_deletes() {
        for line in ["set k v pxat 1000", "expire k -1", "pexpireat k 1000", "getdel k"] {
            let held = Bytes::from_static(b"v");
            let view = View { held: Some(Held::String(&held)), deadline: None };
            assert_eq!(evaluate(&view, line).map(|outcome| outcome.effect), Ok(Effect::Delete), "{line}");
            let nothing = evaluate(&View::default(), line).map(|outcome| outcome.effect);
            assert_eq!(nothing, Ok(Effect::Nothing), "{line}");
        }
    }

    #[test]
    fn a_structure_that_is_not_there_is_named() {
        let registry = Registry::builtin();
        assert_eq!(registry.name_of(63), Err(UnknownStructure(63)));
        assert!(registry.empty_state(63).is_err() && registry.decode_state(63, &[]).is_err());
    }
}
