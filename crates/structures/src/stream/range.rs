//! Commands that read a stream.

use super::{Planned, Stream, StreamId, entry_reply};
use crate::{
    Arguments, Command, CommandError, Context,
    Flag::{Fast, ReadOnly},
    Key, KeyCommand, Plan, Reply,
};

pub(super) fn commands() -> Vec<KeyCommand> {
    let command = |name, arity, flags, complexity, summary| {
        Command::on_key(name, arity, flags).documented("stream", "5.0.0", complexity, summary)
    };
    let each = "O(log N) and O(1) for each entry";
    vec![
        KeyCommand::on(command("xlen", 2, &[ReadOnly, Fast], "O(1)", "Counts the entries of a stream"), |key, _, _| {
            Ok(Plan::reply(Reply::count(key.find()?.map_or(0, |stream: &Stream| stream.entries.len()))))
        }),
        KeyCommand::on(command("xrange", -4, &[ReadOnly], each, "Reads the entries of a range of ids"), |key, a, _| {
            range(key, a, false)
        }),
        KeyCommand::on(command("xrevrange", -4, &[ReadOnly], each, "The same, the highest id first"), reversed),
    ]
}

fn reversed(key: &Key<'_, Stream>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    range(key, arguments, true)
}

fn range(key: &Key<'_, Stream>, arguments: &mut Arguments<'_>, is_reversed: bool) -> Planned {
    let (first, second) = (arguments.next_bytes()?, arguments.next_bytes()?);
    let (start, stop) = if is_reversed { (second, first) } else { (first, second) };
    let (start, stop) = (StreamId::read_start(start)?, StreamId::read_stop(stop)?);
    let mut count = None;
    while !arguments.is_empty() {
        if !arguments.take_option("count", 1) {
            return Err(CommandError::Syntax);
        }
        count = Some(usize::try_from(arguments.integer()?).unwrap_or(0));
    }
    let Some(stream) = key.find()? else { return Ok(Plan::reply(Reply::empty())) };
    if count == Some(0) {
        return Ok(Plan::reply(Reply::NullArray));
    }
    Ok(Plan::reply(Reply::Array(stream.between(start, stop, count, is_reversed))))
}

impl Stream {
    /// The entries from one id to another, both included; so many at most.
    pub(super) fn between(
        &self,
        start: StreamId,
        stop: StreamId,
        count: Option<usize>,
        is_reversed: bool,
    ) -> Vec<Reply> {
        if start > stop {
            return Vec::new();
        }
        let entries = self.entries.range(start..=stop);
        let count = count.unwrap_or(usize::MAX);
        match is_reversed {
            false => entries.take(count).map(entry_reply).collect(),
            true => entries.rev().take(count).map(entry_reply).collect(),
        }
    }
}
