//! `XREADGROUP`: what came for a consumer of a group, or what it has not acknowledged yet.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::StreamRead;
use crate::{
    Arguments, CommandError, Context, Effect, Keys, KeysOutcome, Reply, Structure,
    stream::{
        GroupOperation, Stream, StreamId, StreamOperation, entry_reply, group::Group, groups::no_group, id_reply,
    },
};

/// What is asked of one stream.
enum Wanted {
    /// What no consumer of the group was given yet.
    New,
    /// What this one was given after this id, and has not acknowledged.
    After(StreamId),
}

/// A consumer of a group that reads a stream.
struct Reader<'a> {
    stream: &'a Stream,
    group: &'a Group,
    consumer: &'a Bytes,
    options: &'a StreamRead,
    now: u64,
}

pub(super) fn read(
    keys: &Keys<'_>,
    arguments: &mut Arguments<'_>,
    context: &Context,
) -> Result<KeysOutcome, CommandError> {
    let options = StreamRead::parse(keys.arguments())?;
    let word = |index: usize| options.group.and_then(|group| keys.arguments().get(group + index));
    let (name, consumer) = word(0).zip(word(1)).ok_or(CommandError::Syntax)?;
    let mut wanted = Vec::new();
    for index in 0..keys.len() {
        let stream = keys.find::<Stream>(index)?;
        let more = " in XREADGROUP with GROUP option";
        let stream = stream.filter(|stream| stream.groups.contains_key(name));
        let stream = stream.ok_or_else(|| no_group(keys.name(index), name, more))?;
        wanted.push((index, stream, Wanted::read(arguments.next_bytes()?)?));
    }
    let (mut found, mut effects) = (Vec::new(), Vec::new());
    // Of a key that is named twice, what is done first is seen by what is done next.
    let mut changed: BTreeMap<&[u8], Stream> = BTreeMap::new();
    for (index, stream, wanted) in wanted {
        let key = keys.name(index);
        let stream = changed.get(key).unwrap_or(stream);
        let Some(group) = stream.groups.get(name) else { continue };
        let reader = Reader { stream, group, consumer, options: &options, now: context.now.0 };
        let given = match wanted {
            Wanted::New => reader.new_entries(),
            Wanted::After(id) => Some(reader.given_after(id)),
        };
        let Some((entries, operation)) = given else { continue };
        let operation = StreamOperation::Group(name.clone(), operation);
        found.push((Reply::bulk(Bytes::copy_from_slice(key)), Reply::Array(entries)));
        effects.push((index, Effect::apply::<Stream>(&operation)));
        if (index + 1..keys.len()).any(|later| keys.is_same(index, later)) {
            let mut stream = stream.clone();
            stream.apply(operation);
            changed.insert(key, stream);
        }
    }
    let reply = if found.is_empty() { Reply::NullArray } else { Reply::PairsByName(found) };
    Ok(KeysOutcome::new(reply, effects))
}

impl Wanted {
    fn read(id: &[u8]) -> Result<Self, CommandError> {
        match id {
            b"$" => Err(CommandError::new(
                "The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer \
                 by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty \
                 result set.",
            )),
            b">" => Ok(Self::New),
            id => Ok(Self::After(StreamId::read(id)?)),
        }
    }
}

impl Reader<'_> {
    fn count(&self) -> usize {
        if self.options.count == 0 { usize::MAX } else { self.options.count }
    }

    fn give(&self, entries: Vec<(StreamId, u64)>, last: Option<(StreamId, Option<u64>)>) -> GroupOperation {
        let seen = Some((self.consumer.clone(), self.now));
        GroupOperation::Give { seen, given_at: self.now, entries, last, gone: Vec::new() }
    }

    /// What nobody was given yet; `None` if there is nothing.
    fn new_entries(&self) -> Option<(Vec<Reply>, GroupOperation)> {
        let start = self.group.last_id.next()?;
        let (mut replies, mut ids, mut read) = (Vec::new(), Vec::new(), self.group.entries_read);
        for entry in self.stream.entries.range(start..).take(self.count()) {
            read = self.stream.read_up_to(read, *entry.0);
            replies.push(entry_reply(entry));
            ids.push((*entry.0, 1));
        }
        let last = ids.last().map(|(id, _)| (*id, read))?;
        if self.options.is_acknowledged {
            ids.clear();
        }
        Some((replies, self.give(ids, Some(last))))
    }

    /// What this consumer has not acknowledged; an entry that is gone is named without what was in it.
    fn given_after(&self, id: StreamId) -> (Vec<Reply>, GroupOperation) {
        let (mut replies, mut given) = (Vec::new(), Vec::new());
        let start = id.next().unwrap_or(StreamId::ZERO);
        let pending = self.group.consumers().get(self.consumer).map(|consumer| consumer.pending.range(start..));
        for id in pending.into_iter().flatten().take(self.count()) {
            match self.stream.entries.get_key_value(id) {
                None => replies.push(Reply::Array(vec![id_reply(*id), Reply::NullArray])),
                Some(entry) => {
                    replies.push(entry_reply(entry));
                    let count = self.group.pending().get(id).map_or(0, |pending| pending.count);
                    given.push((*id, count.saturating_add(1)));
                }
            }
        }
        (replies, self.give(given, None))
    }
}
