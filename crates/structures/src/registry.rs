use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    Arguments, Command, CommandError, Context, Effect, FindKeys, Flag, Hash, KeyCommand, Keys, KeysCommand,
    KeysOutcome, List, Malformed, Outcome, Reply, Run, RunKeys, Set, SortedSet, State, Stream, Structure, View,
    hyperloglog, keys, series_of, strings,
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

/// A command, and how it is evaluated.
struct Registered {
    command: Command,
    evaluator: Evaluator,
}

enum Evaluator {
    Key(Run),
    Keys(FindKeys, RunKeys),
}

/// The structures that a node knows, and the commands on them.
pub struct Registry {
    kinds: BTreeMap<u8, Kind>,
    commands: BTreeMap<&'static str, Registered>,
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
            .with::<Stream>()
            .with_commands(strings::commands())
            .with_commands(hyperloglog::commands())
            .with_commands(keys::commands())
            .with_commands_on_keys(strings::commands_on_keys())
            .with_commands_on_keys(hyperloglog::commands_on_keys())
            .with_commands_on_keys(keys::commands_on_keys())
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
        self.with_commands(S::commands()).with_commands_on_keys(S::commands_on_keys())
    }

    /// These and more commands.
    ///
    /// # Panics
    /// If the name of one of them is taken.
    pub fn with_commands(mut self, commands: Vec<KeyCommand>) -> Self {
        commands.into_iter().for_each(|KeyCommand { command, run }| self.add(command, Evaluator::Key(run)));
        self
    }

    /// These and more commands on several keys.
    ///
    /// # Panics
    /// If the name of one of them is taken.
    pub fn with_commands_on_keys(mut self, commands: Vec<KeysCommand>) -> Self {
        commands
            .into_iter()
            .for_each(|KeysCommand { command, find, run }| self.add(command, Evaluator::Keys(find, run)));
        self
    }

    fn add(&mut self, command: Command, evaluator: Evaluator) {
        let name = command.name;
        let previous = self.commands.insert(name, Registered { command, evaluator });
        assert!(previous.is_none(), "command {name} is there already");
    }

    /// All commands, by name.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        self.commands.values().map(|command| &command.command)
    }

    /// A command, by its name and its subcommand's, in any case.
    pub fn command(&self, arguments: &[Bytes]) -> Option<&Command> {
        self.find(arguments).map(|found| &found.command)
    }

    /// Whether the command with this name, in lower case, may have several keys.
    pub fn is_on_keys(&self, name: &str) -> bool {
        self.commands.get(name).is_some_and(|found| matches!(found.evaluator, Evaluator::Keys(..)))
    }

    fn find(&self, arguments: &[Bytes]) -> Option<&Registered> {
        let lower = |name: &Bytes| std::str::from_utf8(name).ok().map(str::to_ascii_lowercase);
        let name = lower(arguments.first()?)?;
        if let Some(found) = self.commands.get(name.as_str()) {
            return Some(found);
        }
        self.commands.get(format!("{name}|{}", lower(arguments.get(1)?)?).as_str())
    }

    /// Whether these are the arguments of a command that may change its key, or of a series with one.
    pub fn is_write(&self, arguments: &[Bytes]) -> bool {
        self.any_command(arguments, Command::is_write)
    }

    /// Whether these are the arguments of a command that may make its key larger, or of a series with one.
    pub fn may_add(&self, arguments: &[Bytes]) -> bool {
        self.any_command(arguments, |command| command.flags.contains(&Flag::DenyOom))
    }

    fn any_command(&self, arguments: &[Bytes], is_so: impl Fn(&Command) -> bool) -> bool {
        match series_of(arguments) {
            None => self.command(arguments).is_some_and(is_so),
            Some(commands) => commands.is_ok_and(|commands| {
                commands.into_iter().any(|arguments| self.command(arguments).is_some_and(&is_so))
            }),
        }
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

    /// Which of a command's arguments are its keys, in ascending order; the name is at 0.
    ///
    /// # Errors
    /// What Redis answers if that cannot be said: there is no such command, too few arguments, or a number of keys that
    /// is none.
    pub fn key_positions(&self, arguments: &[Bytes]) -> Result<Vec<usize>, CommandError> {
        let found = self.find_complete(arguments)?;
        match &found.evaluator {
            Evaluator::Key(_) => Ok(vec![found.command.first_key()]),
            Evaluator::Keys(find, _) => find(&found.command, arguments),
        }
    }

    /// What a command on a key comes to. `arguments`: its name, that of the subcommand if it has one, the key, and what
    /// follows. One that may have several keys may be asked for with one.
    ///
    /// # Errors
    /// [`CommandError::InBlocks`] alone: any other error is a reply, as for Redis's clients.
    pub fn evaluate(&self, view: &View<'_>, arguments: &[Bytes], context: &Context) -> Result<Outcome, CommandError> {
        let KeysOutcome { reply, mut effects } = self.evaluate_keys(&[*view], arguments, context)?;
        Ok(Outcome { reply, effect: effects.pop().map_or(Effect::Nothing, |(_, effect)| effect) })
    }

    /// What a command on keys comes to. `views` are those of its keys, in the order of [`Registry::key_positions`]; a key
    /// that is named twice has two.
    ///
    /// # Errors
    /// [`CommandError::InBlocks`] alone: any other error is a reply, as for Redis's clients.
    pub fn evaluate_keys(
        &self,
        views: &[View<'_>],
        arguments: &[Bytes],
        context: &Context,
    ) -> Result<KeysOutcome, CommandError> {
        match self.run(views, arguments, context) {
            Err(CommandError::InBlocks) => Err(CommandError::InBlocks),
            // An error is one line.
            Err(error) => Ok(KeysOutcome::reply(Reply::Error(error.to_string().replace(['\r', '\n'], " ")))),
            Ok(outcome) => Ok(outcome),
        }
    }

    fn run(&self, views: &[View<'_>], arguments: &[Bytes], context: &Context) -> Result<KeysOutcome, CommandError> {
        let Registered { command, evaluator } = self.find_complete(arguments)?;
        let after = |key: usize| Arguments::new(command.name, arguments.get(key + 1..).unwrap_or_default());
        match (evaluator, views) {
            (Evaluator::Key(run), [view]) => {
                let Outcome { reply, effect } = run(view, &mut after(command.first_key()), context)?;
                let effects = if effect == Effect::Nothing { Vec::new() } else { vec![(0, effect)] };
                Ok(KeysOutcome { reply, effects })
            }
            (Evaluator::Key(_), _) => Err(wrong_keys(command, 1, views.len())),
            (Evaluator::Keys(find, run), views) => {
                let positions = find(command, arguments)?;
                if positions.len() != views.len() {
                    return Err(wrong_keys(command, positions.len(), views.len()));
                }
                let last = positions.last().copied().unwrap_or_default();
                run(&Keys::new(views, &positions, arguments), &mut after(last), context)
            }
        }
    }

    /// The command of these arguments, if it takes so many.
    fn find_complete(&self, arguments: &[Bytes]) -> Result<&Registered, CommandError> {
        let found = self.find(arguments).ok_or_else(|| self.unknown(arguments))?;
        let command = &found.command;
        let is_key_there = command.keys.first == 0 || arguments.len() > command.first_key();
        if is_key_there && command.takes(arguments.len()) {
            return Ok(found);
        }
        Err(CommandError::Arity(command.name.to_string()))
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

/// Whoever asks has looked at other keys than those that the arguments name.
fn wrong_keys(command: &Command, named: usize, given: usize) -> CommandError {
    CommandError::new(format_args!("'{}' names {named} keys here, and is evaluated on {given}", command.name))
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
    use crate::{Effect, Held, ListOperation, structure::encode};

    fn words(line: &str) -> Vec<Bytes> {
        line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    fn evaluate(view: &View<'_>, line: &str) -> Result<Outcome, CommandError> {
        Registry::builtin().evaluate(view, &words(line), &Context::new(difuse_types::WallTime(1000), 1))
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
            let evaluated = Registry::builtin().evaluate(&View::default(), &words(line), &context);
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
    fn the_keys_of_a_command_are_found_or_its_error_is_that_of_redis() {
        let registry = Registry::builtin();
        let positions = |line: &str| registry.key_positions(&words(line)).map_err(|error| error.to_string());
        assert_eq!(positions("get k"), Ok(vec![1]));
        assert_eq!(positions("object encoding k"), Ok(vec![2]));
        assert_eq!(positions("SUNIONSTORE d a b a"), Ok(vec![1, 2, 3, 4]));
        assert_eq!(positions("lmove a b left right"), Ok(vec![1, 2]));
        assert_eq!(positions("lmove a"), Err("ERR wrong number of arguments for 'lmove' command".into()));
        assert_eq!(positions("nosuch a"), Err("ERR unknown command 'nosuch', with args beginning with: 'a' ".into()));
    }

    #[test]
    fn effects_on_several_keys_name_them_by_their_places() {
        let mut list = List::default();
        list.apply_encoded(&encode(&ListOperation::PushBack(vec![Bytes::from_static(b"only")]))).expect("an operation");
        let held = View { held: Some(Held::Structure(&list)), deadline: None };
        let evaluate = |line: &str, views: &[View<'_>]| {
            let context = Context::new(difuse_types::WallTime(0), 0);
            Registry::builtin().evaluate_keys(views, &words(line), &context).expect("nothing lives in blocks")
        };
        let moved = evaluate("lmove a b left left", &[held, View::default()]);
        let push = Effect::apply::<List>(&ListOperation::PushFront(vec![Bytes::from_static(b"only")]));
        let remove = |from| Effect::apply::<List>(&ListOperation::Remove(from, 1));
        assert_eq!(moved, KeysOutcome::new(Reply::bulk("only"), vec![(0, remove(0)), (1, push.clone())]));
        let turned = evaluate("lmove a a right left", &[held, held]);
        assert_eq!(turned.effects, [(0, push), (0, remove(1))], "it is never empty");
        assert_eq!(evaluate("sunionstore a b", &[held, View::default()]).effects, [(0, Effect::Delete)]);
        let refused = evaluate("lmove a b left left", &[held]).reply;
        assert!(matches!(&refused, Reply::Error(text) if text.contains("names 2 keys")), "{refused:?}");
    }

    #[test]
    fn a_structure_that_is_not_there_is_named() {
        let registry = Registry::builtin();
        assert_eq!(registry.name_of(63), Err(UnknownStructure(63)));
        assert!(registry.empty_state(63).is_err() && registry.decode_state(63, &[]).is_err());
    }
}
