//! `XREAD` and `XREADGROUP`: what came to several streams after some ids, or for a consumer of a group.

mod group;

use std::{ops::Range, time::Duration};

use bytes::Bytes;

use super::{Stream, StreamId};
use crate::{
    Arguments, Command, CommandError, Context, FindKeys,
    Flag::{Blocking, MovableKeys, ReadOnly, Write},
    KeyPositions, Keys, KeysCommand, KeysOutcome, Reply,
    number::parse_integer,
    timeout,
};

pub(super) fn commands() -> Vec<KeysCommand> {
    let summary = "Reads what came to several streams after some ids, waiting for it if asked to";
    let command =
        Command { keys: KeyPositions::NONE, ..Command::on_key("xread", -4, &[ReadOnly, Blocking, MovableKeys]) }
            .documented("stream", "5.0.0", "O(log N) for each stream, O(1) for each entry", summary);
    let of_group =
        Command { keys: KeyPositions::NONE, ..Command::on_key("xreadgroup", -7, &[Write, Blocking, MovableKeys]) };
    let summary = "Reads what came to several streams for a consumer of a group, waiting for it if asked to";
    let of_group = of_group.documented("stream", "5.0.0", "O(log N) for each stream and each entry", summary);
    let find: FindKeys = |_, arguments| Ok(StreamRead::parse(arguments)?.keys.collect());
    vec![KeysCommand::new(command, read).finding_keys(find), KeysCommand::new(of_group, group::read).finding_keys(find)]
}

/// What an `XREAD` or an `XREADGROUP` asks for besides the ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRead {
    /// For how long it waits if there is nothing, the inner `None` for ever; `None`: not at all.
    pub wait: Option<Option<Duration>>,
    /// How many entries of each stream it takes at most; 0: all.
    pub count: usize,
    /// Where the keys stand; the ids stand behind them, in the same order.
    pub keys: Range<usize>,
    /// Of `XREADGROUP`: where the group stands; the consumer stands behind it.
    group: Option<usize>,
    /// Of `XREADGROUP`: whether nothing need be acknowledged.
    is_acknowledged: bool,
}

impl StreamRead {
    /// From all arguments, the command's name with them.
    ///
    /// # Errors
    /// Those of Redis.
    pub fn parse(arguments: &[Bytes]) -> Result<Self, CommandError> {
        let is_of_group = arguments.first().is_some_and(|name| name.eq_ignore_ascii_case(b"xreadgroup"));
        let mut read = Self { wait: None, count: 0, keys: 0..0, group: None, is_acknowledged: false };
        let mut position = 1;
        while let Some(option) = arguments.get(position) {
            let more = arguments.len() - position - 1;
            let is = |word: &str, values: usize| option.eq_ignore_ascii_case(word.as_bytes()) && more >= values;
            if is("block", 1) {
                read.wait = Some(timeout::read_milliseconds(&arguments[position + 1])?);
                position += 2;
            } else if is("count", 1) {
                let count = parse_integer(&arguments[position + 1]).ok_or(CommandError::NotInteger)?;
                read.count = usize::try_from(count).unwrap_or(0);
                position += 2;
            } else if is("streams", 1) {
                let (first, count) = (position + 1, more);
                if !count.is_multiple_of(2) {
                    let text = "Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.";
                    return Err(CommandError::new(text));
                }
                read.keys = first..first + count / 2;
                if is_of_group && read.group.is_none() {
                    return Err(CommandError::new("Missing GROUP option for XREADGROUP"));
                }
                return Ok(read);
            } else if is("group", 2) {
                if !is_of_group {
                    return Err(only_groups("GROUP"));
                }
                read.group = Some(position + 1);
                position += 3;
            } else if is("noack", 0) {
                if !is_of_group {
                    return Err(only_groups("NOACK"));
                }
                read.is_acknowledged = true;
                position += 1;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Err(CommandError::Syntax)
    }
}

fn only_groups(option: &str) -> CommandError {
    let text = format!("The {option} option is only supported by XREADGROUP. You called XREAD instead.");
    CommandError::new(text)
}

fn read(keys: &Keys<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Result<KeysOutcome, CommandError> {
    let options = StreamRead::parse(keys.arguments())?;
    let count = (options.count > 0).then_some(options.count);
    let mut after = Vec::new();
    for index in 0..keys.len() {
        let stream = keys.find::<Stream>(index)?;
        let id = arguments.next_bytes()?;
        after.push(match &id[..] {
            b"$" => stream.map_or(StreamId::ZERO, |stream| stream.last_id),
            b">" => {
                let text =
                    "The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.";
                return Err(CommandError::new(text));
            }
            id => StreamId::read(id)?,
        });
    }
    let mut found = Vec::new();
    for (index, after) in after.into_iter().enumerate() {
        let Some((stream, start)) = keys.find::<Stream>(index)?.zip(after.next()) else { continue };
        let entries = stream.between(start, StreamId::MAX, count, false);
        if !entries.is_empty() {
            found.push((Reply::bulk(Bytes::copy_from_slice(keys.name(index))), Reply::Array(entries)));
        }
    }
    Ok(KeysOutcome::reply(if found.is_empty() { Reply::NullArray } else { Reply::PairsByName(found) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_found_among_the_arguments() {
        let parse = |line: &str| {
            let arguments: Vec<_> = line.split(' ').map(|word| Bytes::from(word.to_string())).collect();
            StreamRead::parse(&arguments).map_err(|error| error.to_string())
        };
        let read = |wait, count, keys| Ok(StreamRead { wait, count, keys, group: None, is_acknowledged: false });
        assert_eq!(parse("xread streams a b 0 $"), read(None, 0, 2..4));
        assert_eq!(parse("XREAD COUNT 5 BLOCK 0 STREAMS a 0"), read(Some(None), 5, 6..7));
        assert_eq!(
            parse("xread block 7 count -1 streams streams 0"),
            read(Some(Some(Duration::from_millis(7))), 0, 6..7)
        );
        for line in ["xread streams a b 0", "xread count x streams a 0", "xread a b c", "xread block -1 streams a 0"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
