//! Commands on several keys.

use bytes::Bytes;
use difuse_types::WallTime;

use crate::{
    Arguments, Command, CommandError, Context, Effect, KeysOutcome, State, Structure, View, number::parse_integer,
};

/// The keys of a command on several, in the order in which they stand among its arguments.
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    views: &'a [View<'a>],
    positions: &'a [usize],
    arguments: &'a [Bytes],
}

impl<'a> Keys<'a> {
    /// `views` are those of the keys at `positions`, as many; `arguments` begin with the command's name.
    pub(crate) fn new(views: &'a [View<'a>], positions: &'a [usize], arguments: &'a [Bytes]) -> Self {
        Self { views, positions, arguments }
    }

    /// How many there are; one that is named twice is two.
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// What a key holds; nothing if there are not so many.
    pub fn view(&self, index: usize) -> View<'a> {
        self.views.get(index).copied().unwrap_or_default()
    }

    /// What all of them hold.
    pub fn views(&self) -> &'a [View<'a>] {
        self.views
    }

    /// A key's name; empty if there are not so many.
    pub fn name(&self, index: usize) -> &'a [u8] {
        self.positions.get(index).and_then(|position| self.arguments.get(*position)).map_or(b"", |name| name)
    }

    /// Whether two of them are the same key.
    pub fn is_same(&self, first: usize, second: usize) -> bool {
        self.name(first) == self.name(second)
    }

    /// The structure that a key holds; `None` if it does not exist.
    ///
    /// # Errors
    /// [`CommandError::WrongType`] if it holds something else.
    pub fn find<S: Structure>(&self, index: usize) -> Result<Option<&'a S>, CommandError> {
        self.view(index).structure()
    }

    /// The first key that exists, with the structure that it holds.
    ///
    /// # Errors
    /// [`CommandError::WrongType`] if it holds something else.
    pub fn find_first<S: Structure>(&self) -> Result<Option<(usize, &'a S)>, CommandError> {
        for index in 0..self.len() {
            if let Some(state) = self.find(index)? {
                return Ok(Some((index, state)));
            }
        }
        Ok(None)
    }

    /// What lets a key hold this structure, whatever it holds; if nothing is in it, what lets the key not exist.
    pub fn hold(&self, index: usize, state: &dyn State, deadline: Option<WallTime>) -> Vec<(usize, Effect)> {
        if state.is_nothing() {
            return self.delete(index);
        }
        vec![(index, Effect::Hold { structure: state.id(), state: state.encode(), deadline })]
    }

    /// What lets a key not exist.
    pub fn delete(&self, index: usize) -> Vec<(usize, Effect)> {
        if self.view(index).exists() { vec![(index, Effect::Delete)] } else { Vec::new() }
    }

    /// All arguments of the command, its name with them.
    pub fn arguments(&self) -> &'a [Bytes] {
        self.arguments
    }
}

/// A function that evaluates a command on several keys. The arguments begin behind the last key.
pub type RunKeys =
    Box<dyn Fn(&Keys<'_>, &mut Arguments<'_>, &Context) -> Result<KeysOutcome, CommandError> + Send + Sync>;

/// A function that tells which arguments of a command are keys, given all of them, in ascending order. The number of
/// arguments is right.
pub type FindKeys = fn(&Command, &[Bytes]) -> Result<Vec<usize>, CommandError>;

/// A command on several keys of one slot, evaluated where the slot is led.
pub struct KeysCommand {
    /// What it is called and takes.
    pub command: Command,
    pub(crate) find: FindKeys,
    pub(crate) run: RunKeys,
}

impl KeysCommand {
    /// A command whose keys stand where [`Command::keys`] says. The arguments begin behind the last one.
    pub fn new(
        command: Command,
        run: impl Fn(&Keys<'_>, &mut Arguments<'_>, &Context) -> Result<KeysOutcome, CommandError> + Send + Sync + 'static,
    ) -> Self {
        let find: FindKeys = |command, arguments| Ok(command.keys.positions(arguments.len()));
        Self { command, find, run: Box::new(run) }
    }

    /// The same, but which arguments are keys follows from other arguments, as `find` knows.
    pub fn finding_keys(self, find: FindKeys) -> Self {
        Self { find, ..self }
    }
}

/// The argument that says how many keys follow it; 1 at least.
pub(crate) fn count_of_keys(arguments: &[Bytes], position: usize) -> Result<usize, CommandError> {
    positive(arguments.get(position).map_or(b"", |count| count), "numkeys should be greater than 0")
}

/// Keys that the argument at this position counts, and that at least a word follows.
pub(crate) fn counted_before_word(arguments: &[Bytes], position: usize) -> Result<Vec<usize>, CommandError> {
    let count = count_of_keys(arguments, position)?;
    if count > arguments.len().saturating_sub(position + 2) {
        return Err(CommandError::Syntax);
    }
    Ok((position + 1..=position + count).collect())
}

/// `COUNT` and a number behind it, at most once and nothing else; 1 without it.
pub(crate) fn count_option(arguments: &mut Arguments<'_>) -> Result<usize, CommandError> {
    if arguments.is_empty() {
        return Ok(1);
    }
    if !arguments.take_option("count", 1) {
        return Err(CommandError::Syntax);
    }
    let count = positive(arguments.next_bytes()?, "count should be greater than 0")?;
    arguments.finish()?;
    Ok(count)
}

fn positive(text: &[u8], error: &str) -> Result<usize, CommandError> {
    let number = parse_integer(text).and_then(|number| usize::try_from(number).ok());
    number.filter(|number| *number > 0).ok_or_else(|| CommandError::new(error))
}
