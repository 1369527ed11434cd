//! `XGROUP` and `XACK`.

use bytes::Bytes;

use super::{Done, changed, find, no_group_of};
use crate::{
    Arguments, Command, CommandError, Context,
    Flag::{self, DenyOom, Fast, Write},
    KeyPositions, Keys, KeysCommand, KeysOutcome, Reply,
    number::parse_integer,
    stream::{GroupOperation, Stream, StreamId},
};

pub(super) fn commands() -> Vec<KeysCommand> {
    let group = |name, arity, flags, summary| {
        let keys = KeyPositions { first: 2, last: 2, step: 1 };
        Command { keys, ..Command::on_key(name, arity, flags) }.documented("stream", "5.0.0", "O(1)", summary)
    };
    const MAKES: &[Flag] = &[Write, DenyOom];
    let acknowledge = Command::on_key("xack", -4, &[Write, Fast]);
    let acknowledge = acknowledge.documented("stream", "5.0.0", "O(log N) for each id", "Acknowledges entries");
    vec![
        KeysCommand::new(group("xgroup|create", -5, MAKES, "Makes a group of consumers"), create),
        KeysCommand::new(group("xgroup|setid", -5, &[Write], "Sets what a group was given last"), set_id),
        KeysCommand::new(group("xgroup|destroy", 4, &[Write], "Deletes a group"), destroy),
        KeysCommand::new(group("xgroup|createconsumer", 5, MAKES, "Makes a consumer of a group"), create_consumer),
        KeysCommand::new(group("xgroup|delconsumer", 5, &[Write], "Deletes a consumer of a group"), remove_consumer),
        KeysCommand::new(acknowledge, acknowledged),
    ]
}

/// What `XGROUP` is told behind the id.
struct Options {
    makes_stream: bool,
    entries_read: Option<u64>,
}

/// What Redis says of a second word that it does not know, or that has too many arguments.
pub(in crate::stream) fn unknown(arguments: &[Bytes]) -> CommandError {
    let word = |index: usize| arguments.get(index).map(|word| super::shown(word)).unwrap_or_default();
    let (subcommand, container) = (word(1), word(0).to_ascii_uppercase());
    CommandError::new(format_args!(
        "unknown subcommand or wrong number of arguments for '{subcommand:.128}'. Try {container} HELP."
    ))
}

fn options(keys: &Keys<'_>, arguments: &mut Arguments<'_>, is_create: bool) -> Result<Options, CommandError> {
    let mut options = Options { makes_stream: false, entries_read: None };
    while !arguments.is_empty() {
        if is_create && arguments.take_word("mkstream") {
            options.makes_stream = true;
        } else if arguments.take_option("entriesread", 1) {
            let read = arguments.integer()?;
            if read < -1 {
                return Err(CommandError::new("value for ENTRIESREAD must be positive or -1"));
            }
            options.entries_read = u64::try_from(read).ok();
        } else {
            return Err(unknown(keys.arguments()));
        }
    }
    Ok(options)
}

fn no_stream() -> CommandError {
    CommandError::new(
        "The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
         option to create an empty stream automatically.",
    )
}

/// An id, or the last one (`$`).
fn id_or_last(text: &[u8], stream: Option<&Stream>) -> Result<StreamId, CommandError> {
    match text {
        b"$" => Ok(stream.map_or(StreamId::ZERO, |stream| stream.last_id)),
        text => StreamId::read(text),
    }
}

fn create(keys: &Keys<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Done {
    let (name, id) = (arguments.next_bytes()?, arguments.next_bytes()?);
    let options = options(keys, arguments, true)?;
    let stream = keys.find::<Stream>(0)?;
    if stream.is_none() && !options.makes_stream {
        return Err(no_stream());
    }
    if keys.arguments().len() > 8 {
        return Err(unknown(keys.arguments()));
    }
    let last_id = id_or_last(id, stream)?;
    if stream.is_some_and(|stream| stream.groups.contains_key(name)) {
        return Err(CommandError::Other("BUSYGROUP Consumer Group name already exists".into()));
    }
    let operation = GroupOperation::Set { last_id, entries_read: options.entries_read };
    Ok(changed(Reply::ok(), name, [operation]))
}

fn set_id(keys: &Keys<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Done {
    let (name, id) = (arguments.next_bytes()?, arguments.next_bytes()?);
    let options = options(keys, arguments, false)?;
    let stream = keys.find::<Stream>(0)?.ok_or_else(no_stream)?;
    if !stream.groups.contains_key(name) {
        return Err(no_group_of(keys.name(0), name));
    }
    if !matches!(keys.arguments().len(), 5 | 7) {
        return Err(unknown(keys.arguments()));
    }
    let last_id = match &id[..] {
        b"-" => StreamId::ZERO,
        b"+" => StreamId::MAX,
        id => id_or_last(id, Some(stream))?,
    };
    let operation = GroupOperation::Set { last_id, entries_read: options.entries_read };
    Ok(changed(Reply::ok(), name, [operation]))
}

fn destroy(keys: &Keys<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Done {
    let name = arguments.next_bytes()?;
    let stream = keys.find::<Stream>(0)?.ok_or_else(no_stream)?;
    if !stream.groups.contains_key(name) {
        return Ok(KeysOutcome::reply(Reply::Integer(0)));
    }
    Ok(changed(Reply::Integer(1), name, [GroupOperation::Destroy]))
}

fn create_consumer(keys: &Keys<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Done {
    let (name, consumer) = (arguments.next_bytes()?, arguments.next_bytes()?);
    let stream = keys.find::<Stream>(0)?.ok_or_else(no_stream)?;
    let group = stream.groups.get(name).ok_or_else(|| no_group_of(keys.name(0), name))?;
    if group.consumers().contains_key(consumer) {
        return Ok(KeysOutcome::reply(Reply::Integer(0)));
    }
    let operation = GroupOperation::See { consumer: consumer.clone(), at: context.now.0 };
    Ok(changed(Reply::Integer(1), name, [operation]))
}

fn remove_consumer(keys: &Keys<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Done {
    let (name, consumer) = (arguments.next_bytes()?, arguments.next_bytes()?);
    let stream = keys.find::<Stream>(0)?.ok_or_else(no_stream)?;
    let group = stream.groups.get(name).ok_or_else(|| no_group_of(keys.name(0), name))?;
    match group.consumers().get(consumer) {
        None => Ok(KeysOutcome::reply(Reply::Integer(0))),
        Some(found) => {
            let reply = Reply::count(found.pending.len());
            Ok(changed(reply, name, [GroupOperation::RemoveConsumer(consumer.clone())]))
        }
    }
}

fn acknowledged(keys: &Keys<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Done {
    let name = arguments.next_bytes()?;
    let Some((_, group)) = find(keys, name)? else { return Ok(KeysOutcome::reply(Reply::Integer(0))) };
    let ids = arguments.take_rest().iter().map(|id| StreamId::read(id)).collect::<Result<Vec<_>, _>>()?;
    let mut ids: Vec<_> = ids.into_iter().filter(|id| group.pending().contains_key(id)).collect();
    ids.sort_unstable();
    ids.dedup();
    let reply = Reply::count(ids.len());
    if ids.is_empty() {
        return Ok(KeysOutcome::reply(reply));
    }
    Ok(changed(reply, name, [GroupOperation::Acknowledge(ids)]))
}

/// An integer, or an error of this text.
pub(super) fn integer_or(text: &[u8], error: &str) -> Result<i64, CommandError> {
    parse_integer(text).ok_or_else(|| CommandError::new(error))
}
