//! Nodes whose disks are full or nearly so. One that is full accepts no transactions: a leader answers *full*, and goes on
//! without a member that is. One that is nearly full takes over no slots.

use std::time::Duration;

use difuse_types::{Instant, Key, NodeId};

use super::Keylog;
use crate::{
    KeylogMessage, Operation,
    store::{Store, StoreError},
};

/// For how long a node's word counts.
const WORD_FOR: Duration = Duration::from_secs(10);
/// How many nodes' words are kept at most.
const WORDS_MAX: usize = 1024;

/// A node's word that it has no room.
#[derive(Debug, Clone, Copy, Hash)]
pub(crate) struct NoRoom {
    is_full: bool,
    until: Instant,
}

impl<S: Store> Keylog<S> {
    /// What this node should tell all others about its room from time to time, if anything.
    pub fn word_of_room(&self) -> Option<KeylogMessage> {
        let is_full = self.store.check_room().is_err();
        (is_full || self.store.is_short_of_room()).then_some(KeylogMessage::NoRoom { is_full })
    }

    pub(crate) fn handle_no_room(&mut self, from: NodeId, is_full: bool) {
        let now = self.now;
        self.no_room.retain(|_, word| now < word.until);
        if self.no_room.len() < WORDS_MAX || self.no_room.contains_key(&from) {
            self.no_room.insert(from, NoRoom { is_full, until: now + WORD_FOR });
        }
    }

    /// Whether another node said lately that it is full.
    pub(crate) fn is_full(&self, node: &NodeId) -> bool {
        self.no_room.get(node).is_some_and(|word| word.is_full && self.now < word.until)
    }

    /// Whether a node, this one or another, should be given no slot because it is short of room.
    pub(crate) fn is_short_of_room(&self, node: &NodeId) -> bool {
        if *node == self.me {
            return self.store.is_short_of_room();
        }
        self.no_room.get(node).is_some_and(|word| self.now < word.until)
    }

    /// Why this node accepts no such operation on a key now, if so. What gives room back in the end is let into the room that
    /// is kept free: else a full ring could only be mended by larger disks.
    pub(crate) fn why_full_for<'a>(
        &self,
        key: &Key,
        mut operations: impl Iterator<Item = &'a Operation>,
    ) -> Result<Option<String>, StoreError> {
        let gives_room = *key == Key::of_generation() || operations.all(|operation| *operation == Operation::Delete);
        reason(if gives_room { self.store.check_reserve() } else { self.store.check_room() })
    }

    /// Why this node accepts no transactions now, if so.
    pub(crate) fn why_full(&self) -> Result<Option<String>, StoreError> {
        reason(self.store.check_room())
    }
}

fn reason(room: Result<(), StoreError>) -> Result<Option<String>, StoreError> {
    match room {
        Ok(()) => Ok(None),
        Err(StoreError::Full(reason)) => Ok(Some(reason)),
        Err(error) => Err(error),
    }
}
