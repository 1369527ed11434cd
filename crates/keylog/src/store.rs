//! What a replica keeps, and the trait of the stores that keep it.

use std::{collections::BTreeMap, ops::Range};

use difuse_types::{Hash, HashContext, Key, KeyPrefix, OperationId, SlotId, WallTime};

use crate::{Ballot, Configuration, Term, Transaction};

pub mod conformance;
mod memory;
mod usage;

pub use memory::{Changes, MemoryStore};
pub use usage::{Usage, is_counted, weigh};

static DIGEST: HashContext = HashContext::new("difuse 2026 slot digest v1");

/// How many operation ids a head remembers: a retry finds its own write among the last this many of its key.
pub const RECENT_OPERATIONS_MAX: usize = 128;

/// What a replica keeps of a slot besides its registers.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct SlotRecord {
    /// The newest configuration that it knows to be decided. Kept even when this node is no member (any more).
    pub configuration: Configuration,
    /// The highest term it has promised in that epoch.
    pub promised: Term,
    /// The next configuration that it has accepted, if any: from then on it accepts no key's proposal in this epoch,
    /// so that everything committed in the epoch is visible to a majority read that follows.
    pub proposed: Option<Proposed>,
    /// Nothing is accepted at this ballot or below for a key that has no register: the key may have had one, up to this
    /// ballot, that was dropped with its tombstone; nor is an append taken for a new one that may have been applied before.
    /// `None`: nothing was ever dropped.
    pub dropped: Option<Ballot>,
    /// The newest term, as far as it proposed anything here, that began without steps: a majority had promised it and held
    /// none. A register of the key of steps that was accepted in an earlier term was not committed; its keys may have been
    /// changed since, so that it must not be taken up any more.
    pub without_steps: Option<Term>,
}

/// A next configuration, as accepted in a term.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Proposed {
    /// The term of the leader that proposed it.
    pub term: Term,
    /// The proposal.
    pub configuration: Configuration,
}

/// What a key's group agrees on.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Head {
    /// Height of the last transaction.
    pub height: u64,
    /// Its hash.
    pub hash: Hash,
    /// Height of the newest checkpoint at or below it; 0 if there is none.
    pub checkpoint: u64,
    /// When the last transaction came in, if it deletes the key: then the head is a tombstone.
    pub deleted: Option<WallTime>,
    /// When the key expires, if the last transaction says so.
    pub deadline: Option<WallTime>,
    /// The operation ids of the last transactions, newest first: that of height `height - i` at index `i`.
    pub recent: Vec<OperationId>,
}

/// What a replica has accepted for a key: the CASPaxos acceptor state.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Register {
    /// The ballot it was accepted at.
    pub ballot: Ballot,
    /// The value.
    pub head: Head,
    /// Height of the first transaction that this replica keeps: 1, or that of a committed checkpoint, below which it has
    /// forgotten everything. A replica's own affair: others may keep more, or less.
    pub base: u64,
}

impl Register {
    /// Whether the key has a value.
    pub fn has_value(&self) -> bool {
        self.head.height > 0 && self.head.deleted.is_none()
    }
}

/// Digest of the registers of a slot: equal sets have equal digests, and it can be updated by one register. The sum
/// (wrapping, 128 bits) of [`register_digest`] over the slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct SlotDigest(pub u128);

/// The part that a key's register adds to the digest of its slot.
pub fn register_digest(key: &Key, register: &Register) -> u128 {
    let mut hasher = DIGEST.hasher();
    hasher.update(&register.ballot.term.epoch.to_le_bytes());
    hasher.update(&register.ballot.term.number.to_le_bytes());
    hasher.update(register.ballot.term.node.as_bytes());
    hasher.update(&register.ballot.sequence.to_le_bytes());
    hasher.update(&register.head.height.to_le_bytes());
    hasher.update(register.head.hash.as_bytes());
    hasher.update(key.encoded());
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(first)
}

impl SlotDigest {
    /// The digest after a register of `key` changed from `before` to `after`.
    #[must_use]
    pub fn replace(self, key: &Key, before: Option<&Register>, after: Option<&Register>) -> Self {
        let part = |register: Option<&Register>| register.map_or(0, |register| register_digest(key, register));
        Self(self.0.wrapping_sub(part(before)).wrapping_add(part(after)))
    }
}

/// One change of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Replaces the record of a slot.
    Slot(Box<SlotRecord>),
    /// Replaces a key's register. `transactions` follow each other and end at the register's head (they are empty when
    /// the head is already stored); whatever was stored at their heights or above goes, and nothing stays above the
    /// head, nor below the register's base. If they begin where what is staged ends, that becomes part of the chain;
    /// else it goes.
    Accept {
        /// The slot.
        slot: SlotId,
        /// The key.
        key: Key,
        /// The new acceptor state.
        register: Register,
        /// The new transactions.
        transactions: Vec<Transaction>,
    },
    /// Stages a part of a chain: keeps it above the key's head until the rest of it is there and all of it can be accepted.
    /// Nobody is shown it before. `transactions`, at least one, follow each other; they go on where what is staged ends or,
    /// if they begin at `first_height`, which is above the head, replace it.
    Stage {
        /// The slot.
        slot: SlotId,
        /// The key.
        key: Key,
        /// Where what is staged begins.
        first_height: u64,
        /// The new transactions.
        transactions: Vec<Transaction>,
    },
    /// Writes transactions of a key's chain again because they cannot be read: the same ones, between the register's base
    /// and its head. Nothing else changes.
    Repair {
        /// The slot.
        slot: SlotId,
        /// The key.
        key: Key,
        /// The transactions.
        transactions: Vec<Transaction>,
    },
    /// Removes a key's register and its transactions, if there are any, and what is staged.
    Drop {
        /// The slot.
        slot: SlotId,
        /// The key.
        key: Key,
    },
    /// Removes all registers and transactions of a slot, and what is staged there; its record stays.
    ClearSlot(SlotId),
    /// Sets a small named value of the node itself (its host table, its incarnation, …); `None` removes it.
    Meta(String, Option<Vec<u8>>),
}

/// Names the batches written to a store in their order, from 1; a store may skip numbers. When the store reports a sequence as durable, all batches up to it
/// survive a crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct WriteSequence(pub u64);

/// The store cannot go on. A node that meets it stops serving rather than guess.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Hash)]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("storage failed: {0}")]
    Failed(String),
    /// What was read is not what was written.
    #[error("storage is corrupt: {0}")]
    Corrupt(String),
    /// There is no room; reads go on.
    #[error("storage is full: {0}")]
    Full(String),
}

/// What a replica needs of a disk. Reads see every write at once; a write is durable only when the store reports its
/// sequence (how it reports is the runtime's affair: the core receives it as an input).
///
/// Every implementation passes [`conformance`].
pub trait Store {
    /// The record of a slot.
    fn slot(&self, slot: SlotId) -> Result<Option<SlotRecord>, StoreError>;

    /// The records of all slots, by slot.
    fn slots(&self) -> Result<Vec<SlotRecord>, StoreError>;

    /// The register of a key.
    fn register(&self, slot: SlotId, key: &Key) -> Result<Option<Register>, StoreError>;

    /// The transaction of a key at a height, not above its head.
    fn transaction(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Transaction>, StoreError>;

    /// The heights of what is staged of a key's chain.
    fn staged(&self, slot: SlotId, key: &Key) -> Result<Option<Range<u64>>, StoreError>;

    /// Reads the transaction of a key at a height from the disk again, past everything that is kept in memory, and checks
    /// it: gives the bytes that it takes there. Fails with [`StoreError::Corrupt`] if it is not what was written. What
    /// was written a moment ago may still be checked in memory.
    fn verify(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<u64>, StoreError>;

    /// At most `limit` registers of a slot in the order of their keys: those whose encoded key begins with `prefix`
    /// and is greater than `after`.
    fn scan(
        &self,
        slot: SlotId,
        prefix: &KeyPrefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Register)>, StoreError>;

    /// The digest of a slot's registers.
    fn digest(&self, slot: SlotId) -> Result<SlotDigest, StoreError>;

    /// How many keys a slot has here, and how many bytes their transactions take, both as good estimates.
    fn size(&self, slot: SlotId) -> Result<SlotSize, StoreError>;

    /// What the flat keys of each namespace come to in a slot, as they were accepted here; namespaces without any are left out.
    fn usage(&self, slot: SlotId) -> Result<BTreeMap<String, Usage>, StoreError>;

    /// A small named value of the node itself.
    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// All small named values whose names begin with `prefix`, in the order of names.
    fn metas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Whether there is room for more transactions; fails with [`StoreError::Full`] if not. Whoever is about to accept
    /// one asks. [`Store::write`] itself takes all it can: what keeps slots going (promises, configurations, heads) needs
    /// little, and is gated on being durable anyway.
    fn check_room(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether a little more is taken, of what gives room back in the end: fails with [`StoreError::Full`] if not even that.
    fn check_reserve(&self) -> Result<(), StoreError> {
        self.check_room()
    }

    /// Whether there is so little room that this node should take over no more slots.
    fn is_short_of_room(&self) -> bool {
        self.check_room().is_err()
    }

    /// Queues a batch, to be made durable together and in order; visible to reads at once. More may be about to follow: that
    /// it becomes durable without delay is sure after [`Store::flush`] only.
    fn write(&mut self, writes: Vec<Write>) -> Result<WriteSequence, StoreError>;

    /// Begins to make durable what was written. Does not wait for it.
    fn flush(&mut self) {}
}

/// How much of a slot a node holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SlotSize {
    /// Keys, tombstones among them.
    pub keys: u64,
    /// Keys that were deleted and whose tombstones are kept.
    pub tombstones: u64,
    /// Keys with a deadline.
    pub expiring: u64,
    /// Bytes of their transactions.
    pub bytes: u64,
}
