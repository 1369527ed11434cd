//! Streams: entries with ascending ids, added at the end and read by ranges.

mod add;
mod group;
mod group_operation;
mod groups;
mod id;
mod info;
mod range;
mod read;
mod trim;

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{CommandError, KeyCommand, KeysCommand, Plan, Rebuilding, Reply, Structure};
use group::Group;
pub use group_operation::GroupOperation;
pub use id::StreamId;
pub use read::StreamRead;

/// How many entries Redis keeps together: those that are trimmed about (`~`) go so many at a time.
const NODE_ENTRIES_MAX: u32 = 100;

/// Entries with ascending ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Checkpoint")]
pub struct Stream {
    /// What each entry holds: fields and values, one after the other.
    entries: BTreeMap<StreamId, Vec<Bytes>>,
    /// The entries that Redis would keep together, by the id of the first one of each.
    nodes: BTreeMap<StreamId, Node>,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    /// Whether it was made: a stream exists without entries, too.
    exists: bool,
    /// Consumers who share what comes, by name.
    groups: BTreeMap<Bytes, Group>,
    /// About how many bytes all of it takes: follows from them.
    #[serde(skip)]
    bytes: usize,
}

/// Entries that Redis would keep together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Node {
    /// How many were put there, those with them that are gone.
    total: u32,
    /// The last one of them.
    last: StreamId,
}

/// What a checkpoint has of a stream.
#[derive(Deserialize)]
struct Checkpoint {
    entries: BTreeMap<StreamId, Vec<Bytes>>,
    nodes: BTreeMap<StreamId, Node>,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    exists: bool,
    groups: BTreeMap<Bytes, Group>,
}

impl From<Checkpoint> for Stream {
    fn from(checkpoint: Checkpoint) -> Self {
        let Checkpoint { entries, nodes, last_id, max_deleted_id, entries_added, exists, groups } = checkpoint;
        let of_entries: usize = entries.values().map(|fields| entry_bytes(fields)).sum();
        let bytes = of_entries + groups.values().map(Group::weight).sum::<usize>();
        Self { entries, nodes, last_id, max_deleted_id, entries_added, exists, groups, bytes }
    }
}

/// What the log of a stream consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StreamOperation {
    /// An entry is added at the end, and then so many go from the beginning.
    Add {
        /// Its id, higher than the last one.
        id: StreamId,
        /// Fields and values, one after the other.
        fields: Vec<Bytes>,
        /// How many go.
        trimmed: u64,
    },
    /// So many entries go, from the beginning on.
    Trim(u64),
    /// These entries go.
    Delete(Vec<StreamId>),
    /// The stream has had entries up to this id.
    SetId {
        /// The id.
        last: StreamId,
        /// How many entries it has had; `None`: as before.
        entries_added: Option<u64>,
        /// The highest id of one that was deleted; `None`: as before.
        max_deleted: Option<StreamId>,
    },
    /// Something happened to the group of this name.
    Group(Bytes, GroupOperation),
}

type Planned = Result<Plan<StreamOperation>, CommandError>;

fn entry_bytes(fields: &[Bytes]) -> usize {
    80 + fields.iter().map(|field| 32 + field.len()).sum::<usize>()
}

impl Stream {
    fn add(&mut self, id: StreamId, fields: Vec<Bytes>) {
        if id <= self.last_id {
            return;
        }
        match self.nodes.last_entry() {
            Some(mut last) if last.get().total < NODE_ENTRIES_MAX => {
                let node = last.get_mut();
                (node.total, node.last) = (node.total + 1, id);
            }
            _ => drop(self.nodes.insert(id, Node { total: 1, last: id })),
        }
        self.bytes += entry_bytes(&fields);
        if let Some(before) = self.entries.insert(id, fields) {
            self.bytes -= entry_bytes(&before);
        }
        self.last_id = id;
        self.entries_added = self.entries_added.wrapping_add(1);
    }

    fn trim(&mut self, count: u64) {
        for _ in 0..count {
            let Some((_, fields)) = self.entries.pop_first() else { break };
            self.bytes -= entry_bytes(&fields);
        }
        let first = self.entries.keys().next().copied();
        while let Some((start, _)) = self.nodes.first_key_value().map(|(start, node)| (*start, *node)) {
            let next = self.nodes.range((std::ops::Bound::Excluded(start), std::ops::Bound::Unbounded)).next();
            let is_in_use = first.is_some_and(|first| next.is_none_or(|(next, _)| first < *next));
            if is_in_use {
                return;
            }
            self.nodes.remove(&start);
        }
    }

    fn delete(&mut self, id: StreamId) {
        let Some(fields) = self.entries.remove(&id) else { return };
        self.bytes -= entry_bytes(&fields);
        self.max_deleted_id = self.max_deleted_id.max(id);
        let Some((start, _)) = self.nodes.range(..=id).next_back().map(|(start, node)| (*start, *node)) else { return };
        let next = self.nodes.range((std::ops::Bound::Excluded(start), std::ops::Bound::Unbounded)).next();
        let last = next.map_or(Some(StreamId::MAX), |(next, _)| next.previous());
        let is_in_use = last.is_some_and(|last| start <= last && self.entries.range(start..=last).next().is_some());
        if !is_in_use {
            self.nodes.remove(&start);
        }
    }
}

impl Structure for Stream {
    const ID: u8 = 5;
    const NAME: &'static str = "stream";
    type Operation = StreamOperation;

    fn apply(&mut self, operation: StreamOperation) {
        self.exists = true;
        match operation {
            StreamOperation::Add { id, fields, trimmed } => {
                self.add(id, fields);
                self.trim(trimmed);
            }
            StreamOperation::Trim(count) => self.trim(count),
            StreamOperation::Delete(ids) => ids.into_iter().for_each(|id| self.delete(id)),
            StreamOperation::SetId { last, entries_added, max_deleted } => {
                self.last_id = last;
                self.entries_added = entries_added.unwrap_or(self.entries_added);
                self.max_deleted_id = max_deleted.unwrap_or(self.max_deleted_id);
            }
            StreamOperation::Group(name, operation) => self.apply_to_group(name, operation),
        }
    }

    fn is_empty(&self) -> bool {
        !self.exists
    }

    fn weight(&self) -> usize {
        self.bytes
    }

    fn encoding(&self) -> &'static str {
        "stream"
    }

    /// Which entries Redis would keep together is not told: they are put together anew.
    fn rebuild(&self) -> Option<Vec<Rebuilding>> {
        let word = |text: &'static str| Bytes::from_static(text.as_bytes());
        let id = |id: StreamId| Bytes::from(id.to_string());
        let mut commands: Vec<Rebuilding> = Vec::new();
        if self.entries.is_empty() {
            // There is no other way to make one without entries.
            commands.push(["xadd", "maxlen", "0", "0-1", "", ""].map(word).to_vec());
        }
        for (entry, fields) in &self.entries {
            commands.push([word("xadd"), id(*entry)].into_iter().chain(fields.iter().cloned()).collect());
        }
        let added = self.entries_added.min(i64::MAX as u64).to_string();
        let deleted = [word("maxdeletedid"), id(self.max_deleted_id)];
        if self.max_deleted_id > self.last_id {
            // Only the one who was the last then may be said to be gone.
            commands.push([word("xsetid"), id(self.max_deleted_id)].into_iter().chain(deleted).collect());
            commands.push(vec![word("xsetid"), id(self.last_id), word("entriesadded"), added.into()]);
        } else {
            let set = [word("xsetid"), id(self.last_id), word("entriesadded"), added.into()];
            commands.push(set.into_iter().chain(deleted).collect());
        }
        self.groups.iter().for_each(|(name, group)| group.rebuild(name, &self.entries, &mut commands));
        Some(commands)
    }

    fn commands() -> Vec<KeyCommand> {
        [add::commands(), range::commands()].into_iter().flatten().collect()
    }

    fn commands_on_keys() -> Vec<KeysCommand> {
        [read::commands(), groups::commands(), info::commands()].into_iter().flatten().collect()
    }
}

/// An entry as a client sees it.
fn entry_reply((id, fields): (&StreamId, &Vec<Bytes>)) -> Reply {
    Reply::Array(vec![id_reply(*id), Reply::bulks(fields.iter().cloned())])
}

fn id_reply(id: StreamId) -> Reply {
    Reply::bulk(id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u64) -> StreamId {
        StreamId { milliseconds: 1, sequence }
    }

    fn stream(count: u64) -> Stream {
        let mut stream = Stream::default();
        for sequence in 1..=count {
            let fields = vec![Bytes::from_static(b"field"), Bytes::from(sequence.to_string())];
            stream.apply(StreamOperation::Add { id: id(sequence), fields, trimmed: 0 });
        }
        stream
    }

    #[test]
    fn operations_do_what_they_say() {
        let mut stream = stream(250);
        assert_eq!((stream.entries.len(), stream.nodes.len(), stream.last_id), (250, 3, id(250)));
        stream.apply(StreamOperation::Trim(100));
        assert_eq!((stream.entries.len(), stream.nodes.len()), (150, 2));
        stream.apply(StreamOperation::Delete((101..=200).chain([7, 7]).map(id).collect()));
        assert_eq!((stream.entries.len(), stream.nodes.len(), stream.max_deleted_id), (50, 1, id(200)));
        // What is not above the last one is no entry.
        stream.apply(StreamOperation::Add { id: id(250), fields: Vec::new(), trimmed: 49 });
        assert_eq!((stream.entries.len(), stream.entries_added), (1, 250));
        stream.apply(StreamOperation::Trim(u64::MAX));
        assert_eq!((stream.entries.len(), stream.nodes.len(), stream.bytes), (0, 0, 0));
        assert!(!stream.is_empty(), "a stream without entries exists");
        assert!(Stream::default().is_empty());
    }

    #[test]
    fn a_checkpoint_reads_back() {
        let stream = stream(120);
        let read: Stream = postcard::from_bytes(&crate::structure::encode(&stream)).expect("a checkpoint");
        assert_eq!(read, stream);
    }
}
