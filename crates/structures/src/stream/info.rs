//! `XINFO`: what a stream consists of, and its groups of consumers.

use bytes::Bytes;

use super::{
    Stream, StreamId, entry_reply,
    group::{Consumer, Group},
    groups::{no_group_of, unknown},
    id_reply,
};
use crate::{
    Arguments, Command, CommandError, Context, Flag::ReadOnly, KeyPositions, Keys, KeysCommand, KeysOutcome, Reply,
};

type Described = Result<KeysOutcome, CommandError>;

/// How many entries are shown unless a command says otherwise.
const SHOWN: i64 = 10;

pub(super) fn commands() -> Vec<KeysCommand> {
    let command = |name, arity, complexity, summary| {
        let keys = KeyPositions { first: 2, last: 2, step: 1 };
        Command { keys, ..Command::on_key(name, arity, &[ReadOnly]) }.documented("stream", "5.0.0", complexity, summary)
    };
    vec![
        KeysCommand::new(
            command("xinfo|stream", -3, "O(1), and O(N) for what FULL shows", "Describes a stream"),
            |keys, arguments, _| describe(keys, arguments),
        ),
        KeysCommand::new(command("xinfo|groups", 3, "O(N)", "Describes the groups of a stream"), |keys, _, _| {
            let stream = stream_of(keys)?;
            let groups = stream.groups.iter().map(|(name, group)| stream.group_reply(name, group));
            Ok(KeysOutcome::reply(Reply::Array(groups.collect())))
        }),
        KeysCommand::new(command("xinfo|consumers", 4, "O(N)", "Describes the consumers of a group"), consumers),
    ]
}

fn stream_of<'a>(keys: &Keys<'a>) -> Result<&'a Stream, CommandError> {
    keys.find(0)?.ok_or_else(|| CommandError::new("no such key"))
}

fn map<'a>(fields: impl IntoIterator<Item = (&'a str, Reply)>) -> Reply {
    Reply::Map(fields.into_iter().map(|(name, reply)| (Reply::bulk(name.to_string()), reply)).collect())
}

/// As Redis shows a number of 64 bits.
fn number(number: u64) -> Reply {
    Reply::Integer(number.cast_signed())
}

fn describe(keys: &Keys<'_>, arguments: &mut Arguments<'_>) -> Described {
    let stream = stream_of(keys)?;
    let mut fields = stream.described();
    match entries_shown(keys, arguments)? {
        None => fields.extend([
            ("groups", Reply::count(stream.groups.len())),
            ("first-entry", stream.entries.iter().next().map_or(Reply::Null, entry_reply)),
            ("last-entry", stream.entries.iter().next_back().map_or(Reply::Null, entry_reply)),
        ]),
        Some(count) => {
            let groups = stream.groups.iter().map(|(name, group)| stream.whole_group_reply(name, group, count));
            fields.extend([
                ("entries", Reply::Array(stream.between(StreamId::ZERO, StreamId::MAX, count, false))),
                ("groups", Reply::Array(groups.collect())),
            ]);
        }
    }
    Ok(KeysOutcome::reply(map(fields)))
}

fn consumers(keys: &Keys<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Described {
    let (stream, name) = (stream_of(keys)?, arguments.next_bytes()?);
    let group = stream.groups.get(name).ok_or_else(|| no_group_of(keys.name(0), name))?;
    let reply = |(name, consumer): (&Bytes, &Consumer)| {
        map([
            ("name", Reply::bulk(name.clone())),
            ("pending", Reply::count(consumer.pending.len())),
            ("idle", number(context.now.0.saturating_sub(consumer.seen_at))),
        ])
    };
    Ok(KeysOutcome::reply(Reply::Array(group.consumers().iter().map(reply).collect())))
}

/// How many entries `FULL` shows, the inner `None` for all; `None`: it was not asked for.
fn entries_shown(keys: &Keys<'_>, arguments: &mut Arguments<'_>) -> Result<Option<Option<usize>>, CommandError> {
    if arguments.is_empty() {
        return Ok(None);
    }
    let unknown = || unknown(keys.arguments());
    if !matches!(arguments.len(), 1 | 3) || !arguments.take_word("full") {
        return Err(unknown());
    }
    let count = if arguments.is_empty() {
        SHOWN
    } else if arguments.take_word("count") {
        arguments.integer()?
    } else {
        return Err(unknown());
    };
    let count = if count < 0 { SHOWN } else { count };
    Ok(Some(usize::try_from(count).ok().filter(|count| *count > 0)))
}

impl Stream {
    fn described(&self) -> Vec<(&'static str, Reply)> {
        let nodes = self.nodes.len() as u64;
        vec![
            ("length", Reply::count(self.entries.len())),
            ("radix-tree-keys", number(nodes)),
            ("radix-tree-nodes", number(nodes + 1)),
            ("last-generated-id", id_reply(self.last_id)),
            ("max-deleted-entry-id", id_reply(self.max_deleted_id)),
            ("entries-added", number(self.entries_added)),
            ("recorded-first-entry-id", id_reply(self.entries.keys().next().copied().unwrap_or_default())),
        ]
    }

    fn group_reply(&self, name: &Bytes, group: &Group) -> Reply {
        map([
            ("name", Reply::bulk(name.clone())),
            ("consumers", Reply::count(group.consumers().len())),
            ("pending", Reply::count(group.pending().len())),
            ("last-delivered-id", id_reply(group.last_id)),
            ("entries-read", group.entries_read.map_or(Reply::Null, number)),
            ("lag", self.lag_of(group)),
        ])
    }

    /// A group as `FULL` shows it, with so many entries that are not acknowledged, of it and of each consumer; `None`: all.
    fn whole_group_reply(&self, name: &Bytes, group: &Group, count: Option<usize>) -> Reply {
        let count = count.unwrap_or(usize::MAX);
        let pending = group.pending().iter().take(count).map(|(id, pending)| {
            let consumer = Reply::bulk(pending.consumer.clone());
            Reply::Array(vec![id_reply(*id), consumer, number(pending.given_at), number(pending.count)])
        });
        let consumers = group.consumers().iter().map(|(name, consumer)| {
            let pending = consumer.pending.iter().take(count).filter_map(|id| Some((id, group.pending().get(id)?)));
            let pending = pending.map(|(id, pending)| {
                Reply::Array(vec![id_reply(*id), number(pending.given_at), number(pending.count)])
            });
            map([
                ("name", Reply::bulk(name.clone())),
                ("seen-time", number(consumer.seen_at)),
                ("pel-count", Reply::count(consumer.pending.len())),
                ("pending", Reply::Array(pending.collect())),
            ])
        });
        map([
            ("name", Reply::bulk(name.clone())),
            ("last-delivered-id", id_reply(group.last_id)),
            ("entries-read", group.entries_read.map_or(Reply::Null, number)),
            ("lag", self.lag_of(group)),
            ("pel-count", Reply::count(group.pending().len())),
            ("pending", Reply::Array(pending.collect())),
            ("consumers", Reply::Array(consumers.collect())),
        ])
    }
}
