use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{Hash, Hasher},
    ops::{Bound, Range},
};

use bytes::Bytes;
use difuse_types::{Key, KeyPrefix, SlotId};

use super::{
    Register, SlotDigest, SlotRecord, SlotSize, Store, StoreError, Usage, Write, WriteSequence, is_counted, weigh,
};
use crate::Transaction;

/// Bytes of a transaction besides its key and its value: two hashes' worth of ids, height, time.
const TRANSACTION_OVERHEAD_BYTES: u64 = 112;

/// A store in memory, for tests and the simulator: it can crash like a disk. Writes are visible at once and stay
/// undoable until they are flushed.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    records: BTreeMap<SlotId, SlotRecord>,
    contents: BTreeMap<SlotId, Contents>,
    meta: BTreeMap<String, Vec<u8>>,
    /// How to undo each batch that is not durable, oldest first.
    unflushed: VecDeque<Vec<Undo>>,
    written: WriteSequence,
    fault: Option<Fault>,
    is_full: bool,
    /// Transactions that cannot be read: slot, encoded key, height.
    damaged: BTreeSet<(SlotId, Bytes, u64)>,
}

/// What some batches of writes changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Slots whose record was written.
    pub records: BTreeSet<SlotId>,
    /// Keys whose register was written.
    pub keys: BTreeSet<(SlotId, Key)>,
}

/// The registers of one slot.
#[derive(Clone, Debug, Default, Hash)]
struct Contents {
    /// By encoded key, so that a prefix is where a scan begins.
    entries: BTreeMap<Bytes, Entry>,
    /// What is staged of chains, at least one transaction each, by encoded key.
    staged: BTreeMap<Bytes, Vec<Transaction>>,
    digest: SlotDigest,
    bytes: u64,
}

#[derive(Clone, Debug, Hash)]
struct Entry {
    key: Key,
    register: Register,
    transactions: BTreeMap<u64, Transaction>,
}

/// How many batches were written makes no difference.
impl Hash for MemoryStore {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (&self.records, &self.contents, &self.meta, &self.unflushed, &self.fault).hash(hasher);
    }
}

/// What brings back the state before one write.
#[derive(Clone, Debug, Hash)]
enum Undo {
    Record(SlotId, Option<SlotRecord>),
    Accept {
        slot: SlotId,
        key: Key,
        register: Option<Register>,
        removed: BTreeMap<u64, Transaction>,
        inserted: Vec<u64>,
        staged: Option<Vec<Transaction>>,
        digest: SlotDigest,
        bytes: u64,
    },
    /// What could not be read.
    Repair(BTreeSet<(SlotId, Bytes, u64)>),
    /// What was staged.
    Stage(SlotId, Bytes, Option<Vec<Transaction>>),
    /// What was dropped of a key.
    Drop {
        slot: SlotId,
        key: Bytes,
        entry: Option<Entry>,
        staged: Option<Vec<Transaction>>,
        digest: SlotDigest,
        bytes: u64,
    },
    Contents(SlotId, Option<Contents>),
    Meta(String, Option<Vec<u8>>),
}

#[derive(Clone, Debug, Hash)]
struct Fault {
    error: StoreError,
    stays: bool,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The last batch written.
    pub fn written(&self) -> WriteSequence {
        self.written
    }

    /// The last batch that survives a crash.
    pub fn durable(&self) -> WriteSequence {
        WriteSequence(self.written.0 - self.unflushed.len() as u64)
    }

    /// What was written after the batch `seen`, but for slots that were cleared and keys that were dropped; `None` if some of that is durable
    /// already: it is not remembered then.
    pub fn changed_since(&self, seen: WriteSequence) -> Option<Changes> {
        let known = seen.0.checked_sub(self.durable().0)? as usize;
        let mut changes = Changes::default();
        for undo in self.unflushed.iter().skip(known).flatten() {
            match undo {
                Undo::Record(slot, _) => _ = changes.records.insert(*slot),
                Undo::Accept { slot, key, .. } => _ = changes.keys.insert((*slot, key.clone())),
                Undo::Stage(..) | Undo::Repair(_) | Undo::Drop { .. } | Undo::Contents(..) | Undo::Meta(..) => {}
            }
        }
        Some(changes)
    }

    /// Makes all batches up to `sequence` durable.
    pub fn flush_through(&mut self, sequence: WriteSequence) {
        let count = sequence.0.saturating_sub(self.durable().0) as usize;
        self.unflushed.drain(..count.min(self.unflushed.len()));
    }

    /// Makes everything durable; returns the last batch.
    pub fn flush_all(&mut self) -> WriteSequence {
        self.unflushed.clear();
        self.written
    }

    /// Loses everything that is not durable, and clears faults: what a restart finds on the disk.
    pub fn crash(&mut self) {
        self.crash_torn(0);
    }

    /// As [`MemoryStore::crash`], but the first `kept` of the batches that were not durable reached the disk all the
    /// same (always a prefix: batches are made durable in order).
    pub fn crash_torn(&mut self, kept: usize) {
        while self.unflushed.len() > kept {
            let undos = self.unflushed.pop_back().unwrap_or_default();
            undos.into_iter().rev().for_each(|undo| self.undo(undo));
            self.written.0 -= 1;
        }
        self.unflushed.clear();
        self.fault = None;
        self.is_full = false;
    }

    /// The next write is refused with `error`. [`StoreError::Full`] passes; after any other error, as on a disk, all
    /// later writes fail as well, until a crash.
    pub fn fail_next_write(&mut self, error: StoreError) {
        let stays = !matches!(error, StoreError::Full(_));
        self.fault = Some(Fault { error, stays });
    }

    /// While `full`, there is no room for transactions.
    pub fn set_full(&mut self, full: bool) {
        self.is_full = full;
    }

    /// From now on the transaction at `height` reads as [`StoreError::Corrupt`], until it is written again.
    pub fn damage(&mut self, slot: SlotId, key: &Key, height: u64) {
        self.damaged.insert((slot, key.encoded().clone(), height));
    }

    fn check_fault(&mut self) -> Result<(), StoreError> {
        match &self.fault {
            None => Ok(()),
            Some(fault) => {
                let error = fault.error.clone();
                if !fault.stays {
                    self.fault = None;
                }
                Err(error)
            }
        }
    }

    fn apply(&mut self, write: Write) -> Undo {
        match write {
            Write::Slot(record) => {
                let slot = record.configuration.slot;
                Undo::Record(slot, self.records.insert(slot, *record))
            }
            Write::Accept { slot, key, register, transactions } => {
                if let Some(first) = transactions.first().filter(|_| !self.damaged.is_empty()) {
                    let (encoded, gone_from) = (key.encoded(), first.height);
                    self.damaged.retain(|(of, key, height)| (of, key) != (&slot, encoded) || *height < gone_from);
                }
                self.contents.entry(slot).or_default().accept(slot, key, register, transactions)
            }
            Write::Stage { slot, key, first_height, transactions } => {
                let before = self.contents.entry(slot).or_default().stage(&key, first_height, transactions);
                Undo::Stage(slot, key.encoded().clone(), before)
            }
            Write::Repair { slot, key, transactions } => {
                let place = |transaction: &Transaction| (slot, key.encoded().clone(), transaction.height);
                Undo::Repair(transactions.iter().filter_map(|one| self.damaged.take(&place(one))).collect())
            }
            Write::Drop { slot, key } => {
                let encoded = key.encoded();
                self.damaged.retain(|(of, key, _)| (of, key) != (&slot, encoded));
                self.contents.entry(slot).or_default().drop_key(slot, &key)
            }
            Write::ClearSlot(slot) => {
                self.damaged.retain(|(of, ..)| *of != slot);
                Undo::Contents(slot, self.contents.remove(&slot))
            }
            Write::Meta(name, value) => {
                let before = set(&mut self.meta, name.clone(), value);
                Undo::Meta(name, before)
            }
        }
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Record(slot, before) => {
                set(&mut self.records, slot, before);
            }
            Undo::Accept { slot, key, register, removed, inserted, staged, digest, bytes } => {
                let contents = self.contents.entry(slot).or_default();
                set(&mut contents.staged, key.encoded().clone(), staged);
                contents.restore(key, register, removed, &inserted);
                (contents.digest, contents.bytes) = (digest, bytes);
            }
            Undo::Repair(damaged) => self.damaged.extend(damaged),
            Undo::Stage(slot, key, before) => {
                set(&mut self.contents.entry(slot).or_default().staged, key, before);
            }
            Undo::Drop { slot, key, entry, staged, digest, bytes } => {
                let contents = self.contents.entry(slot).or_default();
                set(&mut contents.staged, key, staged);
                contents.entries.extend(entry.map(|entry| (entry.key.encoded().clone(), entry)));
                (contents.digest, contents.bytes) = (digest, bytes);
            }
            Undo::Contents(slot, before) => {
                set(&mut self.contents, slot, before);
            }
            Undo::Meta(name, before) => {
                set(&mut self.meta, name, before);
            }
        }
    }
}

impl Contents {
    fn accept(&mut self, slot: SlotId, key: Key, register: Register, mut transactions: Vec<Transaction>) -> Undo {
        let (digest, bytes) = (self.digest, self.bytes);
        let staged = self.staged.remove(key.encoded());
        let end_staged = staged.iter().flatten().last().map(|last| last.height + 1);
        if transactions.first().is_some_and(|first| Some(first.height) == end_staged) {
            transactions.splice(..0, staged.iter().flatten().cloned());
        }
        let before = self.entries.get(key.encoded()).map(|entry| entry.register.clone());
        self.digest = digest.replace(&key, before.as_ref(), Some(&register));
        let above = register.head.height.saturating_add(1);
        let gone_from = transactions.first().map_or(above, |first| first.height.min(above));
        let entry = self.entries.entry(key.encoded().clone()).or_insert_with(|| Entry {
            key: key.clone(),
            register: register.clone(),
            transactions: BTreeMap::new(),
        });
        let base = register.base;
        entry.register = register;
        let transactions: Vec<_> = transactions.into_iter().filter(|transaction| transaction.height >= base).collect();
        let mut removed = entry.transactions.split_off(&gone_from);
        let kept = entry.transactions.split_off(&base);
        removed.extend(std::mem::replace(&mut entry.transactions, kept));
        let inserted = transactions.iter().map(|transaction| transaction.height).collect();
        self.bytes -= removed.values().map(stored_bytes).sum::<u64>();
        self.bytes += transactions.iter().map(stored_bytes).sum::<u64>();
        entry.transactions.extend(transactions.into_iter().map(|transaction| (transaction.height, transaction)));
        Undo::Accept { slot, key, register: before, removed, inserted, staged, digest, bytes }
    }

    /// Gives what was staged before.
    fn stage(&mut self, key: &Key, first_height: u64, transactions: Vec<Transaction>) -> Option<Vec<Transaction>> {
        let begins = transactions.first().is_none_or(|first| first.height == first_height);
        let staged = self.staged.entry(key.encoded().clone()).or_default();
        let before = (!staged.is_empty()).then(|| staged.clone());
        if begins {
            staged.clear();
        }
        staged.extend(transactions);
        before
    }

    fn drop_key(&mut self, slot: SlotId, key: &Key) -> Undo {
        let (digest, bytes) = (self.digest, self.bytes);
        let encoded = key.encoded().clone();
        let (entry, staged) = (self.entries.remove(&encoded), self.staged.remove(&encoded));
        if let Some(entry) = &entry {
            self.digest = digest.replace(key, Some(&entry.register), None);
            self.bytes -= entry.transactions.values().map(stored_bytes).sum::<u64>();
        }
        Undo::Drop { slot, key: encoded, entry, staged, digest, bytes }
    }

    fn restore(&mut self, key: Key, register: Option<Register>, removed: BTreeMap<u64, Transaction>, inserted: &[u64]) {
        let Some(register) = register else {
            self.entries.remove(key.encoded());
            return;
        };
        if let Some(entry) = self.entries.get_mut(key.encoded()) {
            entry.register = register;
            inserted.iter().for_each(|height| {
                entry.transactions.remove(height);
            });
            entry.transactions.extend(removed);
        }
    }
}

fn stored_bytes(transaction: &Transaction) -> u64 {
    let value = transaction.value().map_or(0, |value| value.bytes.len());
    (transaction.key.encoded().len() + value) as u64 + TRANSACTION_OVERHEAD_BYTES
}

fn set<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

impl Store for MemoryStore {
    fn slot(&self, slot: SlotId) -> Result<Option<SlotRecord>, StoreError> {
        Ok(self.records.get(&slot).cloned())
    }

    fn slots(&self) -> Result<Vec<SlotRecord>, StoreError> {
        Ok(self.records.values().cloned().collect())
    }

    fn register(&self, slot: SlotId, key: &Key) -> Result<Option<Register>, StoreError> {
        let entry = self.contents.get(&slot).and_then(|contents| contents.entries.get(key.encoded()));
        Ok(entry.map(|entry| entry.register.clone()))
    }

    fn transaction(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Transaction>, StoreError> {
        if self.damaged.contains(&(slot, key.encoded().clone(), height)) {
            return Err(StoreError::Corrupt(format!("transaction {height} of {key} in slot {slot} is damaged")));
        }
        let entry = self.contents.get(&slot).and_then(|contents| contents.entries.get(key.encoded()));
        Ok(entry.and_then(|entry| entry.transactions.get(&height)).cloned())
    }

    fn staged(&self, slot: SlotId, key: &Key) -> Result<Option<Range<u64>>, StoreError> {
        let staged = self.contents.get(&slot).and_then(|contents| contents.staged.get(key.encoded()));
        Ok(staged.and_then(|staged| Some(staged.first()?.height..staged.last()?.height + 1)))
    }

    fn verify(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<u64>, StoreError> {
        Ok(self.transaction(slot, key, height)?.as_ref().map(stored_bytes))
    }

    fn scan(
        &self,
        slot: SlotId,
        prefix: &KeyPrefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Register)>, StoreError> {
        let Some(contents) = self.contents.get(&slot) else { return Ok(Vec::new()) };
        let after = after.map(Key::encoded).filter(|after| *after >= prefix);
        let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
        let entries = contents.entries.range::<Bytes, _>((start, Bound::Unbounded));
        Ok(entries
            .take_while(|(encoded, _)| encoded.starts_with(prefix))
            .take(limit)
            .map(|(_, entry)| (entry.key.clone(), entry.register.clone()))
            .collect())
    }

    fn digest(&self, slot: SlotId) -> Result<SlotDigest, StoreError> {
        Ok(self.contents.get(&slot).map_or_else(SlotDigest::default, |contents| contents.digest))
    }

    fn size(&self, slot: SlotId) -> Result<SlotSize, StoreError> {
        let size = |contents: &Contents| {
            let heads = || contents.entries.values().map(|entry| &entry.register.head);
            SlotSize {
                keys: contents.entries.len() as u64,
                tombstones: heads().filter(|head| head.deleted.is_some()).count() as u64,
                expiring: heads().filter(|head| head.deadline.is_some()).count() as u64,
                bytes: contents.bytes,
            }
        };
        Ok(self.contents.get(&slot).map_or_else(SlotSize::default, size))
    }

    /// By what is there, since nothing of it is counted. What an inode names is not known here: it weighs what it takes.
    fn usage(&self, slot: SlotId) -> Result<BTreeMap<String, Usage>, StoreError> {
        let mut usages: BTreeMap<String, Usage> = BTreeMap::new();
        let entries = self.contents.get(&slot).into_iter().flat_map(|contents| contents.entries.values());
        for entry in entries.filter(|entry| is_counted(&entry.key, &entry.register)) {
            let weight = entry
                .transactions
                .values()
                .fold(0, |before, transaction| weigh(transaction, Some(before), |_| None).unwrap_or_default());
            usages.entry(entry.key.namespace().to_owned()).or_default().replace(&entry.key, None, Some(weight));
        }
        Ok(usages)
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.meta.get(name).cloned())
    }

    fn metas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let from = self.meta.range(prefix.to_string()..).take_while(|(name, _)| name.starts_with(prefix));
        Ok(from.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn check_room(&self) -> Result<(), StoreError> {
        if self.is_full { Err(StoreError::Full("injected".to_string())) } else { Ok(()) }
    }

    fn check_reserve(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn write(&mut self, writes: Vec<Write>) -> Result<WriteSequence, StoreError> {
        self.check_fault()?;
        let undos = writes.into_iter().map(|write| self.apply(write)).collect();
        self.unflushed.push_back(undos);
        self.written.0 += 1;
        Ok(self.written)
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::SlotId;

    use super::{MemoryStore, SlotRecord, Store, StoreError, Write, WriteSequence};
    use crate::{Configuration, Term, store::conformance};

    fn meta(value: u8) -> Vec<Write> {
        vec![Write::Meta("name".to_string(), Some(vec![value]))]
    }

    #[test]
    fn conforms() {
        conformance::check_all(MemoryStore::new);
    }

    #[test]
    fn conforms_when_it_crashes() {
        let mut random = fastrand::Rng::with_seed(7);
        conformance::check_persistent(
            MemoryStore::new,
            |store| {
                store.flush_all();
            },
            |mut store, crash| {
                let kept = if crash { random.usize(..4) } else { usize::MAX };
                store.crash_torn(kept);
                store
            },
        );
    }

    #[test]
    fn a_crash_returns_to_the_flushed_prefix() {
        let mut store = MemoryStore::new();
        let first = store.write(meta(1)).unwrap();
        for value in 2..=5 {
            store.write(meta(value)).unwrap();
        }
        store.flush_through(first);
        assert_eq!((store.written().0, store.durable().0), (5, 1));
        let mut torn = store.clone();
        torn.crash_torn(2);
        assert_eq!((torn.meta("name").unwrap(), torn.written().0), (Some(vec![3]), 3));
        store.crash();
        assert_eq!((store.meta("name").unwrap(), store.written().0), (Some(vec![1]), 1));
    }

    #[test]
    fn tells_what_was_written_since() {
        let slot = |number| {
            let configuration = Configuration::first(SlotId(number), Vec::new());
            let promised = Term::start_of(1);
            let record = SlotRecord { configuration, promised, proposed: None, dropped: None, without_steps: None };
            Write::Slot(Box::new(record))
        };
        let mut store = MemoryStore::new();
        let seen: Vec<_> = (0..3).map(|number| store.write(vec![slot(number)]).unwrap()).collect();
        store.flush_through(seen[0]);
        let slots = |seen| store.changed_since(seen).map(|changes| changes.records.into_iter().collect::<Vec<_>>());
        assert_eq!(slots(seen[0]), Some(vec![SlotId(1), SlotId(2)]));
        assert_eq!(slots(seen[2]), Some(Vec::new()));
        assert_eq!(slots(WriteSequence(0)), None, "the first batch is durable");
    }

    #[test]
    fn injected_errors_refuse_writes() {
        let mut store = MemoryStore::new();
        store.fail_next_write(StoreError::Full("f".into()));
        assert_eq!(store.write(meta(1)), Err(StoreError::Full("f".into())));
        assert!(store.write(meta(1)).is_ok());
        store.set_full(true);
        assert_eq!(store.check_room(), Err(StoreError::Full("injected".into())));
        assert!(store.write(meta(1)).is_ok(), "what is no transaction is taken");
        store.set_full(false);
        assert_eq!(store.check_room(), Ok(()));
        store.fail_next_write(StoreError::Failed("x".into()));
        assert!(store.write(meta(2)).is_err() && store.write(meta(2)).is_err());
        assert_eq!(store.meta("name"), Ok(Some(vec![1])));
        store.crash();
        assert_eq!(store.meta("name"), Ok(None));
        assert!(store.write(meta(2)).is_ok());
    }
}
