//! Commands on groups of consumers: `XGROUP`, `XACK`, `XPENDING`, `XCLAIM`, `XAUTOCLAIM`.

mod claim;
mod manage;
mod pending;

use bytes::Bytes;
pub(super) use manage::unknown;

use super::{GroupOperation, Stream, StreamId, StreamOperation, group::Group};
use crate::{CommandError, Effect, Keys, KeysCommand, KeysOutcome, Reply};

type Done = Result<KeysOutcome, CommandError>;

pub(super) fn commands() -> Vec<KeysCommand> {
    [manage::commands(), pending::commands(), claim::commands()].into_iter().flatten().collect()
}

/// The group of a stream, if both are there.
fn find<'a>(keys: &Keys<'a>, name: &[u8]) -> Result<Option<(&'a Stream, &'a Group)>, CommandError> {
    let Some(stream) = keys.find::<Stream>(0)? else { return Ok(None) };
    Ok(stream.groups.get(name).map(|group| (stream, group)))
}

/// What happened to a group, with the answer.
fn changed(reply: Reply, group: &Bytes, operations: impl IntoIterator<Item = GroupOperation>) -> KeysOutcome {
    let operations = operations.into_iter().map(|operation| StreamOperation::Group(group.clone(), operation));
    KeysOutcome::new(reply, operations.map(|operation| (0, Effect::apply::<Stream>(&operation))).collect())
}

/// A name as an error shows it: up to the first zero byte.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// There is no such key, or no such group.
pub(super) fn no_group(key: &[u8], group: &[u8], more: &str) -> CommandError {
    let (key, group) = (shown(key), shown(group));
    CommandError::Other(format!("NOGROUP No such key '{key}' or consumer group '{group}'{more}"))
}

/// There is no such group of a key that is there.
pub(super) fn no_group_of(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (shown(key), shown(group));
    CommandError::Other(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

impl Stream {
    /// Whether an entry that is gone lies at this id or behind it, as far as Redis knows.
    fn has_gap_from(&self, id: StreamId) -> bool {
        let Some(first) = self.entries.keys().next() else { return false };
        self.max_deleted_id != StreamId::ZERO && *first <= self.max_deleted_id && id <= self.max_deleted_id
    }

    /// How many entries there were up to this one, if that can be told.
    fn count_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        let length = self.entries.len() as u64;
        if id == self.last_id || (length == 0 && id < self.last_id) {
            return Some(self.entries_added);
        }
        if id > self.last_id {
            return None;
        }
        let first = self.entries.keys().next().copied().unwrap_or_default();
        let is_whole = self.max_deleted_id == StreamId::ZERO || self.max_deleted_id < first;
        match id.cmp(&first) {
            std::cmp::Ordering::Less if is_whole => Some(self.entries_added.wrapping_sub(length)),
            std::cmp::Ordering::Equal if is_whole => Some(self.entries_added.wrapping_sub(length).wrapping_add(1)),
            _ => None,
        }
    }

    /// How many entries a group has been given once it was given this one after so many.
    pub(super) fn read_up_to(&self, read: Option<u64>, id: StreamId) -> Option<u64> {
        match read {
            Some(read) if !self.has_gap_from(id) => Some(read.wrapping_add(1)),
            _ if self.entries_added > 0 => self.count_up_to(id),
            read => read,
        }
    }

    /// How many entries a group has still to be given, if that can be told.
    pub(super) fn lag_of(&self, group: &Group) -> Reply {
        let read = match group.entries_read {
            _ if self.entries_added == 0 => Some(0),
            Some(read) if !self.has_gap_from(group.last_id) => Some(read),
            _ => self.count_up_to(group.last_id),
        };
        read.map_or(Reply::Null, |read| Reply::Integer(self.entries_added.wrapping_sub(read).cast_signed()))
    }
}
