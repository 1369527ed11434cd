use bytes::Bytes;
use difuse_types::WallTime;

use crate::{Arguments, Reply, State, Structure, structure::encode};

/// What a command does, as `COMMAND` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    /// It may change the key.
    Write,
    /// It changes nothing.
    ReadOnly,
    /// It may make the key larger.
    DenyOom,
    /// It takes constant or logarithmic time.
    Fast,
    /// It may wait.
    Blocking,
    /// It is about the server or the connection, not about keys.
    Admin,
    /// It belongs to publish and subscribe.
    PubSub,
    /// It is not allowed within `MULTI`.
    NoMulti,
    /// It is served while a ring is not ready.
    Loading,
    /// It is served before a client has authenticated.
    NoAuth,
    /// Its keys follow from its other arguments.
    MovableKeys,
}

impl Flag {
    /// Redis's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::ReadOnly => "readonly",
            Self::DenyOom => "denyoom",
            Self::Fast => "fast",
            Self::Blocking => "blocking",
            Self::Admin => "admin",
            Self::PubSub => "pubsub",
            Self::NoMulti => "no_multi",
            Self::Loading => "loading",
            Self::NoAuth => "no_auth",
            Self::MovableKeys => "movablekeys",
        }
    }
}

/// Which arguments are keys: positions from 1, the name being 0. All zero: none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyPositions {
    /// The first key.
    pub first: i16,
    /// The last one; negative: counted from the end.
    pub last: i16,
    /// How far keys are apart.
    pub step: i16,
}

impl KeyPositions {
    /// No key.
    pub const NONE: Self = Self { first: 0, last: 0, step: 0 };
    /// One key, right after the name.
    pub const ONE: Self = Self { first: 1, last: 1, step: 1 };
    /// All arguments are keys.
    pub const ALL: Self = Self { first: 1, last: -1, step: 1 };
}

/// What a command is called and takes.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its name, in lower case.
    pub name: &'static str,
    /// How many arguments it takes, its name with them; negative: at least so many.
    pub arity: i16,
    /// What it does.
    pub flags: &'static [Flag],
    /// Which arguments are keys.
    pub keys: KeyPositions,
    /// Redis's group: `string`, `hash`, …
    pub group: &'static str,
    /// The version of Redis that had it first.
    pub since: &'static str,
    /// What it costs.
    pub complexity: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
}

impl Command {
    /// Whether it may be called with so many arguments, its name with them.
    pub fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 { count >= arity } else { count == arity }
    }

    /// Whether it may change a key.
    pub fn is_write(&self) -> bool {
        self.flags.contains(&Flag::Write)
    }
}

/// Why a command was not done; the text is Redis's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The key holds another kind of value.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// The arguments make no sense.
    #[error("ERR syntax error")]
    Syntax,
    /// An argument or a value is no integer.
    #[error("ERR value is not an integer or out of range")]
    NotInteger,
    /// An argument or a value is no number.
    #[error("ERR value is not a valid float")]
    NotFloat,
    /// The number of arguments is wrong.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    /// The value lives in blocks: whoever asks has to read it and to write it anew.
    #[error("ERR the value is too long to be changed in place")]
    InBlocks,
    /// Anything else, code and text.
    #[error("{0}")]
    Other(String),
}

impl CommandError {
    /// An error `ERR text`.
    pub fn new(text: impl std::fmt::Display) -> Self {
        Self::Other(format!("ERR {text}"))
    }
}

/// What a command may use besides the key and its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// When it came in.
    pub now: WallTime,
    /// Decides every random choice.
    pub seed: u64,
}

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum Held<'a> {
    /// A string that lives in the log.
    String(&'a Bytes),
    /// A string that lives in blocks.
    Blocks,
    /// A structure.
    Structure(&'a dyn State),
}

/// A key as a command sees it: what has expired is not there.
#[derive(Clone, Copy, Debug, Default)]
pub struct View<'a> {
    /// What the key holds; `None` if it does not exist.
    pub held: Option<Held<'a>>,
    /// When it will expire.
    pub deadline: Option<WallTime>,
}

impl<'a> View<'a> {
    /// The string that the key holds; `None` if it does not exist.
    pub fn string(&self) -> Result<Option<&'a Bytes>, CommandError> {
        match self.held {
            None => Ok(None),
            Some(Held::String(bytes)) => Ok(Some(bytes)),
            Some(Held::Blocks) => Err(CommandError::InBlocks),
            Some(Held::Structure(_)) => Err(CommandError::WrongType),
        }
    }

    /// The structure that the key holds; `None` if it does not exist.
    pub fn structure<S: Structure>(&self) -> Result<Option<&'a S>, CommandError> {
        match self.held {
            None => Ok(None),
            Some(Held::Structure(state)) => state.as_any().downcast_ref().map(Some).ok_or(CommandError::WrongType),
            Some(_) => Err(CommandError::WrongType),
        }
    }
}

/// What becomes of a key's deadline.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Deadline {
    /// It stays.
    Keep,
    /// The key never expires.
    None,
    /// The key expires then.
    At(WallTime),
}

/// What a command does to its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing: nothing is appended to the log.
    Nothing,
    /// The key holds this string.
    Set(Bytes, Deadline),
    /// The key does not exist any more.
    Delete,
    /// An operation, encoded, on the structure with this number; where the key does not exist, on its default state.
    Apply {
        /// The structure.
        structure: u8,
        /// The operation.
        operation: Vec<u8>,
    },
    /// The key stays as it is and expires then, or never.
    Expire(Option<WallTime>),
}

/// What a command comes to.
#[derive(Clone, PartialEq, Debug)]
pub struct Outcome {
    /// The answer.
    pub reply: Reply,
    /// What is done.
    pub effect: Effect,
}

impl Outcome {
    /// An answer without an effect.
    pub fn reply(reply: Reply) -> Self {
        Self { reply, effect: Effect::Nothing }
    }

    /// An answer with an effect.
    pub fn new(reply: Reply, effect: Effect) -> Self {
        Self { reply, effect }
    }
}

/// What a command on a structure comes to.
#[derive(Clone, PartialEq, Debug)]
pub struct Plan<O> {
    /// The answer.
    pub reply: Reply,
    /// What is appended to the log, if anything.
    pub operation: Option<O>,
}

impl<O> Plan<O> {
    /// An answer without an operation.
    pub fn reply(reply: Reply) -> Self {
        Self { reply, operation: None }
    }

    /// An answer with an operation.
    pub fn new(reply: Reply, operation: O) -> Self {
        Self { reply, operation: Some(operation) }
    }
}

/// What a function that evaluates a command on a structure gives.
pub type Planned<S> = Result<Plan<<S as Structure>::Operation>, CommandError>;

/// A function that evaluates a command on one key.
pub type Run = Box<dyn Fn(&View<'_>, &mut Arguments<'_>, &Context) -> Result<Outcome, CommandError> + Send + Sync>;

/// A command on one key, evaluated where the key is led.
pub struct KeyCommand {
    /// What it is called and takes.
    pub command: Command,
    pub(crate) run: Run,
}

impl KeyCommand {
    /// A command on a key of any kind. The arguments begin after the name and the key.
    pub fn new(
        command: Command,
        run: impl Fn(&View<'_>, &mut Arguments<'_>, &Context) -> Result<Outcome, CommandError> + Send + Sync + 'static,
    ) -> Self {
        Self { command, run: Box::new(run) }
    }

    /// A command on a structure: `run` is given its state, the default one if the key does not exist. A key of another
    /// kind is refused before. The arguments begin after the name and the key.
    pub fn on<S: Structure>(command: Command, run: fn(&S, &mut Arguments<'_>, &Context) -> Planned<S>) -> Self {
        Self::new(command, move |view, arguments, context| {
            let plan = match view.structure::<S>()? {
                Some(state) => run(state, arguments, context)?,
                None => run(&S::default(), arguments, context)?,
            };
            let effect = plan
                .operation
                .map_or(Effect::Nothing, |operation| Effect::Apply { structure: S::ID, operation: encode(&operation) });
            Ok(Outcome { reply: plan.reply, effect })
        })
    }
}
