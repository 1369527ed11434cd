use bytes::Bytes;
use difuse_types::WallTime;

use crate::{Reply, Structure, structure::encode};

/// What a command may use besides the key and its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// When it came in.
    pub now: WallTime,
    /// Decides every random choice.
    pub seed: u64,
    /// How long a string may become here, in bytes: a command that makes a longer one is an
    /// [`crate::CommandError::InBlocks`], before any memory is taken for it.
    pub string_bytes_max: u64,
}

impl Context {
    /// One that takes strings of any length that a command allows.
    pub fn new(now: WallTime, seed: u64) -> Self {
        Self { now, seed, string_bytes_max: crate::STRING_LENGTH_MAX }
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
    /// The key holds this structure, whatever it held before.
    Hold {
        /// The structure.
        structure: u8,
        /// The state, in its checkpoint form; it is never an empty one.
        state: Vec<u8>,
        /// When the key expires; `None`: never.
        deadline: Option<WallTime>,
    },
}

impl Effect {
    /// An operation on a structure.
    pub fn apply<S: Structure>(operation: &S::Operation) -> Self {
        Self::Apply { structure: S::ID, operation: encode(operation) }
    }
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

/// What a command on several keys comes to.
#[derive(Clone, PartialEq, Debug)]
pub struct KeysOutcome {
    /// The answer.
    pub reply: Reply,
    /// What is done, in this order, each to the key with this index among the command's keys. Two indexes may be those
    /// of one key: what is done first is then seen by what is done next.
    pub effects: Vec<(usize, Effect)>,
}

impl KeysOutcome {
    /// An answer without effects.
    pub fn reply(reply: Reply) -> Self {
        Self { reply, effects: Vec::new() }
    }

    /// An answer with effects.
    pub fn new(reply: Reply, effects: Vec<(usize, Effect)>) -> Self {
        Self { reply, effects }
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

    /// An answer, with an operation if `has_effect`.
    pub fn only_if(has_effect: bool, reply: Reply, operation: impl FnOnce() -> O) -> Self {
        Self { reply, operation: has_effect.then(operation) }
    }
}
