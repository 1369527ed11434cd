//! Commands on strings. A string is no structure but the plain value of a key: a command that changes it appends the
//! whole value that comes out.

mod bitfield;
mod bits;
mod common;
mod numbers;
mod ranges;
mod several;
mod values;

use bytes::Bytes;

use crate::{Command, CommandError, Context, Deadline, Effect, Flag, KeyCommand, KeysCommand, Outcome, Reply};

/// Bytes of a string at most: Redis's `proto-max-bulk-len`.
pub const STRING_LENGTH_MAX: u64 = 512 << 20;

type Evaluated = Result<Outcome, CommandError>;

/// All of them.
pub(crate) fn commands() -> Vec<KeyCommand> {
    [values::commands(), ranges::commands(), numbers::commands(), bits::commands(), bitfield::commands()]
        .into_iter()
        .flatten()
        .collect()
}

/// All of them on several keys.
pub(crate) fn commands_on_keys() -> Vec<KeysCommand> {
    [several::commands(), common::commands()].into_iter().flatten().collect()
}

const READS: &[Flag] = &[Flag::ReadOnly];
const READS_FAST: &[Flag] = &[Flag::ReadOnly, Flag::Fast];
const WRITES: &[Flag] = &[Flag::Write, Flag::DenyOom];
const WRITES_FAST: &[Flag] = &[Flag::Write, Flag::DenyOom, Flag::Fast];

const fn command(
    name: &'static str,
    arity: i16,
    flags: &'static [Flag],
    since: &'static str,
    complexity: &'static str,
    summary: &'static str,
) -> Command {
    Command::on_key(name, arity, flags).documented("string", since, complexity, summary)
}

/// An answer, and a value that keeps its deadline.
fn changed(reply: Reply, value: impl Into<Bytes>) -> Outcome {
    Outcome::new(reply, Effect::Set(value.into(), Deadline::Keep))
}

/// An error if a string of this length would be too long, at all or for where it is made.
fn check_length(length: u64, context: &Context) -> Result<(), CommandError> {
    if length > STRING_LENGTH_MAX {
        return Err(CommandError::new("string exceeds maximum allowed size (proto-max-bulk-len)"));
    }
    if length > context.string_bytes_max { Err(CommandError::InBlocks) } else { Ok(()) }
}

/// A range's ends as Redis takes those of bytes and bits: negative ones count from the end, what lies before the front
/// is the front, the second one is cut to the last position. It is empty if the first one is behind the second one.
fn range_ends(start: i64, end: i64, total: usize) -> (i64, i64) {
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    let from_front = |index: i64| if index < 0 { total.saturating_add(index).max(0) } else { index };
    (from_front(start), from_front(end).min(total - 1))
}
