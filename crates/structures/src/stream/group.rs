//! Groups of consumers: who was given which entries of a stream, and has not acknowledged them yet.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::StreamId;
use crate::Rebuilding;

/// A group of consumers, who share what comes to a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Checkpoint")]
pub(super) struct Group {
    /// The last entry that was given to any of them.
    pub(super) last_id: StreamId,
    /// How many entries were given to them, as far as that is known.
    pub(super) entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: BTreeMap<Bytes, Consumer>,
}

/// An entry that was given to a consumer, and not acknowledged yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) consumer: Bytes,
    /// When it was given the last time, in milliseconds since 1970.
    pub(super) given_at: u64,
    /// How many times it was given.
    pub(super) count: u64,
}

/// A consumer of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Consumer {
    /// When it was heard of the last time, in milliseconds since 1970.
    pub(super) seen_at: u64,
    /// The entries that it has not acknowledged: they follow from those of the group.
    #[serde(skip)]
    pub(super) pending: BTreeSet<StreamId>,
}

/// What a checkpoint has of a group.
#[derive(Deserialize)]
struct Checkpoint {
    last_id: StreamId,
    entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: BTreeMap<Bytes, Consumer>,
}

impl From<Checkpoint> for Group {
    fn from(checkpoint: Checkpoint) -> Self {
        let Checkpoint { last_id, entries_read, pending, mut consumers } = checkpoint;
        for (id, one) in &pending {
            consumers.entry(one.consumer.clone()).or_default().pending.insert(*id);
        }
        Self { last_id, entries_read, pending, consumers }
    }
}

/// About how many bytes an entry that is not acknowledged, or a consumer, takes.
const BYTES_EACH: usize = 160;

impl Group {
    pub(super) fn new(last_id: StreamId, entries_read: Option<u64>) -> Self {
        Self { last_id, entries_read, ..Self::default() }
    }

    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        BYTES_EACH * (1 + self.pending.len() + self.consumers.len())
    }

    /// What is not acknowledged.
    pub(super) fn pending(&self) -> &BTreeMap<StreamId, Pending> {
        &self.pending
    }

    /// The consumers, by name.
    pub(super) fn consumers(&self) -> &BTreeMap<Bytes, Consumer> {
        &self.consumers
    }

    /// A consumer was heard of: it is one from now on.
    pub(super) fn see(&mut self, consumer: &Bytes, at: u64) {
        self.consumers.entry(consumer.clone()).or_default().seen_at = at;
    }

    /// An entry is with a consumer, which it was given so many times.
    pub(super) fn give(&mut self, id: StreamId, consumer: &Bytes, given_at: u64, count: u64) {
        self.acknowledge(id);
        self.consumers.entry(consumer.clone()).or_default().pending.insert(id);
        self.pending.insert(id, Pending { consumer: consumer.clone(), given_at, count });
    }

    /// An entry is with nobody any more.
    pub(super) fn acknowledge(&mut self, id: StreamId) {
        let Some(pending) = self.pending.remove(&id) else { return };
        if let Some(consumer) = self.consumers.get_mut(&pending.consumer) {
            consumer.pending.remove(&id);
        }
    }

    /// A consumer is one no more, and what it has not acknowledged is with nobody.
    pub(super) fn remove(&mut self, consumer: &Bytes) {
        for id in self.consumers.remove(consumer).unwrap_or_default().pending {
            self.pending.remove(&id);
        }
    }

    /// The commands that make it, without the key: what is not acknowledged and does not exist any more is left out.
    pub(super) fn rebuild(
        &self,
        name: &Bytes,
        entries: &BTreeMap<StreamId, Vec<Bytes>>,
        commands: &mut Vec<Rebuilding>,
    ) {
        let word = |text: &'static str| Bytes::from_static(text.as_bytes());
        let number = |number: u64| Bytes::from(number.min(i64::MAX as u64).to_string());
        let read = self.entries_read.map_or(word("-1"), number);
        let [xgroup, create] = ["xgroup", "create"].map(word);
        let last_id = Bytes::from(self.last_id.to_string());
        commands.push(vec![xgroup, create, name.clone(), last_id, word("entriesread"), read]);
        for consumer in self.consumers.keys() {
            let [xgroup, create] = ["xgroup", "createconsumer"].map(word);
            commands.push(vec![xgroup, create, name.clone(), consumer.clone()]);
        }
        for (id, pending) in self.pending.iter().filter(|(id, _)| entries.contains_key(id)) {
            let [claim, idle, time, count] = ["xclaim", "0", "time", "retrycount"].map(word);
            let [force, only_id] = ["force", "justid"].map(word);
            let (group, consumer, id) = (name.clone(), pending.consumer.clone(), Bytes::from(id.to_string()));
            let (given_at, given) = (number(pending.given_at), number(pending.count));
            commands.push(vec![claim, group, consumer, idle, id, time, given_at, count, given, force, only_id]);
        }
    }
}
