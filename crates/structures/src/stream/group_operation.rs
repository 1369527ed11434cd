//! What the log has of groups of consumers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Stream, StreamId, group::Group};

/// What happened to a group of consumers. Times are in milliseconds since 1970. What names a group that is not there changes
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupOperation {
    /// There is one that was given the entries up to an id; if there is one of this name, what it was given is another now.
    Set {
        /// The last entry that it was given.
        last_id: StreamId,
        /// How many it was given, if that is known.
        entries_read: Option<u64>,
    },
    /// There is none any more.
    Destroy,
    /// A consumer was heard of.
    See {
        /// Its name.
        consumer: Bytes,
        /// When.
        at: u64,
    },
    /// A consumer is one no more.
    RemoveConsumer(Bytes),
    /// A consumer was given entries.
    Give {
        /// Its name, and when it was heard of; `None`: nobody was given any.
        seen: Option<(Bytes, u64)>,
        /// When they were given, as far as others are told.
        given_at: u64,
        /// The entries, and how many times each was given to anybody.
        entries: Vec<(StreamId, u64)>,
        /// The last entry that the group was given, and how many; `None`: as before.
        last: Option<(StreamId, Option<u64>)>,
        /// Entries that do not exist any more, and are with nobody.
        gone: Vec<StreamId>,
    },
    /// These entries are with nobody any more.
    Acknowledge(Vec<StreamId>),
}

impl Stream {
    pub(super) fn apply_to_group(&mut self, name: Bytes, operation: GroupOperation) {
        if let GroupOperation::Set { last_id, entries_read } = operation {
            match self.groups.get_mut(&name) {
                Some(group) => (group.last_id, group.entries_read) = (last_id, entries_read),
                None => {
                    let group = Group::new(last_id, entries_read);
                    self.bytes += group.weight();
                    self.groups.insert(name, group);
                }
            }
            return;
        }
        let Some(group) = self.groups.get_mut(&name) else { return };
        self.bytes -= group.weight();
        match operation {
            GroupOperation::Set { .. } => {}
            GroupOperation::Destroy => {
                self.groups.remove(&name);
                return;
            }
            GroupOperation::See { consumer, at } => group.see(&consumer, at),
            GroupOperation::RemoveConsumer(consumer) => group.remove(&consumer),
            GroupOperation::Give { seen, given_at, entries, last, gone } => {
                if let Some((consumer, seen_at)) = seen {
                    group.see(&consumer, seen_at);
                    entries.into_iter().for_each(|(id, count)| group.give(id, &consumer, given_at, count));
                }
                if let Some((last_id, entries_read)) = last {
                    (group.last_id, group.entries_read) = (last_id, entries_read);
                }
                gone.into_iter().for_each(|id| group.acknowledge(id));
            }
            GroupOperation::Acknowledge(ids) => ids.into_iter().for_each(|id| group.acknowledge(id)),
        }
        self.bytes += group.weight();
    }
}
