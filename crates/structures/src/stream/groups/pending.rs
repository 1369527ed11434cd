//! `XPENDING`: what is not acknowledged yet.

use super::{Done, find, no_group};
use crate::{
    Arguments, Command, CommandError, Context,
    Flag::ReadOnly,
    Keys, KeysCommand, KeysOutcome, Reply,
    number::parse_integer,
    stream::{StreamId, group::Group, id_reply},
};

pub(super) fn commands() -> Vec<KeysCommand> {
    let summary = "Tells what a group has not acknowledged";
    let complexity = "O(N) for what is looked at";
    let command = Command::on_key("xpending", -3, &[ReadOnly]).documented("stream", "5.0.0", complexity, summary);
    vec![KeysCommand::new(command, pending)]
}

/// Which entries are asked for.
struct Range<'a> {
    start: StreamId,
    stop: StreamId,
    count: usize,
    idle_min: i64,
    consumer: Option<&'a [u8]>,
}

fn pending(keys: &Keys<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Done {
    let name = arguments.next_bytes()?;
    let range = if arguments.is_empty() { None } else { Some(range(arguments)?) };
    let (_, group) = find(keys, name)?.ok_or_else(|| no_group(keys.name(0), name, ""))?;
    Ok(KeysOutcome::reply(match range {
        None => summary(group),
        Some(range) => listed(group, &range, context.now.0),
    }))
}

fn range<'a>(arguments: &mut Arguments<'a>) -> Result<Range<'a>, CommandError> {
    if !(3..=6).contains(&arguments.len()) {
        return Err(CommandError::Syntax);
    }
    let rest = arguments.take_rest();
    let integer = |text: &[u8]| parse_integer(text).ok_or(CommandError::NotInteger);
    let (idle_min, rest) = match rest {
        [word, idle, following @ ..] if word.eq_ignore_ascii_case(b"idle") => {
            let idle = integer(idle)?;
            if following.len() < 3 {
                return Err(CommandError::Syntax);
            }
            (idle, following)
        }
        rest => (0, rest),
    };
    let [start, stop, count, rest @ ..] = rest else { return Err(CommandError::Syntax) };
    let count = usize::try_from(integer(count)?).unwrap_or(0);
    let (start, stop) = (StreamId::read_start(start)?, StreamId::read_stop(stop)?);
    Ok(Range { start, stop, count, idle_min, consumer: rest.first().map(|consumer| &consumer[..]) })
}

fn summary(group: &Group) -> Reply {
    let pending = group.pending();
    let (Some((first, _)), Some((last, _))) = (pending.first_key_value(), pending.last_key_value()) else {
        return Reply::Array(vec![Reply::Integer(0), Reply::Null, Reply::Null, Reply::NullArray]);
    };
    let consumers = group.consumers().iter().filter(|(_, consumer)| !consumer.pending.is_empty());
    let consumers = consumers
        .map(|(name, consumer)| {
            Reply::Array(vec![Reply::bulk(name.clone()), Reply::bulk(consumer.pending.len().to_string())])
        })
        .collect();
    Reply::Array(vec![Reply::count(pending.len()), id_reply(*first), id_reply(*last), Reply::Array(consumers)])
}

fn listed(group: &Group, range: &Range<'_>, now: u64) -> Reply {
    if range.start > range.stop {
        return Reply::empty();
    }
    let ids: Box<dyn Iterator<Item = &StreamId>> = match range.consumer {
        None => Box::new(group.pending().range(range.start..=range.stop).map(|(id, _)| id)),
        Some(name) => match group.consumers().get(name) {
            None => return Reply::empty(),
            Some(consumer) => Box::new(consumer.pending.range(range.start..=range.stop)),
        },
    };
    let entry = |id: &StreamId| {
        let pending = group.pending().get(id)?;
        let idle = now.saturating_sub(pending.given_at);
        let is_idle = range.idle_min == 0 || i64::try_from(idle).unwrap_or(i64::MAX) >= range.idle_min;
        let number = |number: u64| Reply::Integer(number.cast_signed());
        let fields = || vec![id_reply(*id), Reply::bulk(pending.consumer.clone()), number(idle), number(pending.count)];
        is_idle.then(|| Reply::Array(fields()))
    };
    Reply::Array(ids.filter_map(entry).take(range.count).collect())
}
