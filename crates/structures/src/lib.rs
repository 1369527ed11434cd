//! Data structures as folds of a key's log, and the commands on them, without I/O.
//!
//! A [`Structure`] is a deterministic state machine: its state is the fold of the operations in a key's log. A command
//! (`LPUSH`, `HGET`, …) is a pure function of the state before it, its arguments, the time and a seed: it plans one
//! operation at most, and the reply. The leader of a key's slot evaluates commands one after the other, appends the
//! operations to the key's log and answers when the log is as safe as the level of the request asks for.
//!
//! **Adding a structure** takes one module: a type that implements [`Structure`] (its name, its number, its operations,
//! `apply`, its commands with arity, flags and key positions), and one line in [`Registry::builtin`], or
//! [`Registry::with`] in a program of your own. The codec of operations and of the state (its checkpoint form) comes
//! from serde; nothing else needs to know of it.
//!
//! Strings are no structure: a string is the plain value of a key, as over HTTP, and a command that changes it appends
//! the value that comes out. Replies and errors are those of Redis 7.0, to the letter.
//!
//! *Invariant:* the same state, command, time and seed give the same operation and the same reply, everywhere and always.

mod arguments;
mod command;
mod error;
mod expiry;
mod glob;
mod hash;
mod hyperloglog;
mod keys;
mod keys_command;
mod list;
mod number;
mod outcome;
mod range;
mod rebuild;
mod registry;
mod reply;
mod sample;
mod scan;
mod series;
mod set;
mod sorted_set;
mod stream;
mod strings;
mod structure;
mod timeout;
mod view;

pub use arguments::Arguments;
pub use command::{Command, Flag, KeyCommand, KeyPositions, Run};
pub use error::CommandError;
pub use glob::matches as glob_matches;
pub use hash::{Hash, HashOperation};
pub use keys_command::{FindKeys, Keys, KeysCommand, RunKeys};
pub use list::{List, ListOperation};
pub use number::format_double;
pub use outcome::{Context, Deadline, Effect, KeysOutcome, Outcome, Plan};
pub use rebuild::{Rebuilding, in_commands};
pub use registry::{Registry, UnknownStructure};
pub use reply::{MalformedReply, Reply};
pub use series::{MalformedSeries, SERIES_MAX, in_series, series_of};
pub use set::{Set, SetOperation};
pub use sorted_set::{SortedSet, SortedSetOperation};
pub use stream::{GroupOperation, Stream, StreamId, StreamOperation, StreamRead};
pub use strings::STRING_LENGTH_MAX;
pub use structure::{Malformed, State, Structure};
pub use timeout::read as read_timeout;
pub use view::{Held, Key, View};
