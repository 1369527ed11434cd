use std::{collections::BTreeMap, io, ops::Range, sync::Arc};

use bytes::Bytes;
use difuse_keylog::{
    Register, SlotDigest, SlotRecord, Store, StoreError, Transaction, Write, WriteSequence,
    store::{SlotSize, Usage},
};
use difuse_types::{Key, KeyPrefix, SlotId};

use super::{
    cache::{CachedHead, HeadCache},
    cleaner::{Cleaning, Policy},
    index::{Head, KeyIndex},
    overlay::{Below, Known, Overlay, Totals},
    weight::Held,
};
use crate::{
    Options, Statistics,
    cleaner::Cleaner,
    codec::{decode_all, put_batch, take_body},
    index::{Core, Layers, Pending},
    log::{Admission, FRAME_HEADER_BYTES, Location, SegmentFiles},
};

/// How bytes of the log are read.
type ReadSegment = fn(&SegmentFiles, Location) -> Result<Bytes, StoreError>;

/// The store of one node's keys. Dropping it writes, flushes and indexes everything.
#[derive(Debug)]
pub struct KeyStore {
    pub(super) core: Arc<Core<KeyIndex>>,
    cleaner: Cleaner,
    heads: HeadCache,
}

impl KeyStore {
    /// The store on `core`, and the thread that cleans its log.
    pub(crate) fn start(core: Arc<Core<KeyIndex>>, options: &Options) -> io::Result<Self> {
        let policy = Policy {
            live_percent_min: options.key_log_live_percent,
            segment_bytes: options.key_segment_bytes,
            every: options.clean_every,
        };
        let cleaner = Cleaning::new(core.clone(), policy).start().inspect_err(|_| core.stop(false))?;
        Ok(Self { core, cleaner, heads: HeadCache::new(options.head_cache_bytes) })
    }

    /// Waits until the batch `sequence` is durable. Fails when the disk is full (the batch may still become durable
    /// later) or after a failure.
    pub fn wait_durable(&self, sequence: WriteSequence) -> Result<(), StoreError> {
        self.core.log.wait_durable(sequence.0)
    }

    /// The last batch written, or found at start.
    pub fn written(&self) -> WriteSequence {
        WriteSequence(self.core.log.end().sequence)
    }

    /// What was written since the store was opened.
    pub fn statistics(&self) -> Statistics {
        self.core.log.statistics()
    }

    /// Ends the store as if the process were killed: for tests.
    #[doc(hidden)]
    pub fn crash(self) {
        self.cleaner.stop();
        self.core.stop(true);
    }

    fn find<T>(&self, find: impl Fn(&Overlay) -> Known<T>) -> Known<T> {
        let layers = self.core.lock();
        let mut answers = layers.newest_first().map(find);
        answers.find(|known| matches!(known, Known::Answer(_))).unwrap_or(Known::Unknown)
    }

    fn uncached_transaction(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Transaction>, StoreError> {
        let known = self.find(|overlay| overlay.transaction(slot, key, height));
        if let Known::Answer(transaction) = known {
            return Ok(transaction);
        }
        Ok(self.indexed_transaction(slot, key, height, SegmentFiles::read)?.map(|(_, transaction)| transaction))
    }

    /// A transaction that only the index knows of, and where it lies.
    fn indexed_transaction(
        &self,
        slot: SlotId,
        key: &Key,
        height: u64,
        read: ReadSegment,
    ) -> Result<Option<(Location, Transaction)>, StoreError> {
        let Some((location, body)) = self.read_body(slot, key, height, read)? else { return Ok(None) };
        let transaction = decode_all(body, |from| take_body(key, from)).ok();
        let transaction = transaction.filter(|transaction| transaction.height == height);
        transaction.map(|transaction| Some((location, transaction))).ok_or_else(|| {
            let path = self.core.files.path(location.at.segment);
            let offset = location.at.offset;
            StoreError::Corrupt(format!("{} at offset {offset}: no transaction {height}", path.display()))
        })
    }

    /// A body and where it lies. It may be copied, and its file deleted, after the index was asked.
    fn read_body(
        &self,
        slot: SlotId,
        key: &Key,
        height: u64,
        read: ReadSegment,
    ) -> Result<Option<(Location, Bytes)>, StoreError> {
        let mut found = self.core.index.location(slot, key, height)?;
        while let Some(location) = found {
            let read = read(&self.core.files, location);
            if read.is_ok() {
                return read.map(|body| Some((location, body)));
            }
            found = self.core.index.location(slot, key, height)?;
            if found == Some(location) {
                return read.map(|body| Some((location, body)));
            }
        }
        Ok(None)
    }

    fn totals(&self, slot: SlotId) -> Result<Totals, StoreError> {
        let known = self.core.lock().newest_first().find_map(|overlay| overlay.totals(slot));
        known.map_or_else(|| self.core.index.totals(slot), Ok)
    }
}

impl Drop for KeyStore {
    fn drop(&mut self) {
        self.cleaner.stop();
        self.core.stop(false);
    }
}

impl Store for KeyStore {
    fn slot(&self, slot: SlotId) -> Result<Option<SlotRecord>, StoreError> {
        let known = self.core.lock().newest_first().find_map(|overlay| overlay.records.get(&slot).cloned());
        known.map_or_else(|| self.core.index.record(slot), |record| Ok(Some(record)))
    }

    fn slots(&self) -> Result<Vec<SlotRecord>, StoreError> {
        let mut records: BTreeMap<_, _> = BTreeMap::new();
        {
            let layers = self.core.lock();
            for (slot, record) in layers.newest_first().flat_map(|overlay| &overlay.records) {
                records.entry(*slot).or_insert_with(|| record.clone());
            }
        }
        for record in self.core.index.records()? {
            records.entry(record.configuration.slot).or_insert(record);
        }
        Ok(records.into_values().collect())
    }

    fn register(&self, slot: SlotId, key: &Key) -> Result<Option<Register>, StoreError> {
        if let Some(known) = self.heads.get(slot, key, |head| head.map(|head| head.register.clone())) {
            return Ok(known);
        }
        let known = self.find(|overlay| overlay.held(slot, key));
        let found = match known {
            Known::Answer(held) => held.map(|held| Head { held, location: None, below: Vec::new() }),
            Known::Unknown => self.core.index.head(slot, key)?,
        };
        let register = found.as_ref().map(|head| head.held.register.clone());
        let head = found.map(|Head { held: Held { register, weight }, location, .. }| CachedHead {
            register,
            weight,
            transaction: None,
            location,
        });
        self.heads.insert(slot, key, head);
        Ok(register)
    }

    fn transaction(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Transaction>, StoreError> {
        let known = self.heads.get(slot, key, |head| match head {
            None => Known::Answer(None),
            // What is staged lies above the head.
            Some(head) if head.register.head.height < height => Known::Answer(None),
            Some(head) if head.register.head.height > height => Known::Unknown,
            Some(head) => Known::Answer(Some((head.transaction.clone(), head.location))),
        });
        let is_head = match known {
            Some(Known::Answer(None)) => return Ok(None),
            Some(Known::Answer(Some((Some(transaction), _)))) => return Ok(Some(transaction)),
            Some(Known::Answer(Some((None, Some(location))))) => {
                // It may have been moved: then the index knows where to.
                if let Ok(body) = self.core.files.read(location)
                    && let Ok(transaction) = decode_all(body, |from| take_body(key, from))
                    && transaction.height == height
                {
                    self.heads.complete(slot, key, &transaction);
                    return Ok(Some(transaction));
                }
                true
            }
            Some(Known::Answer(Some((None, None)))) => true,
            Some(Known::Unknown) => false,
            None if self.register(slot, key)?.is_none_or(|register| register.head.height < height) => return Ok(None),
            None => false,
        };
        let transaction = self.uncached_transaction(slot, key, height)?;
        if let Some(transaction) = transaction.as_ref().filter(|_| is_head) {
            self.heads.complete(slot, key, transaction);
        }
        Ok(transaction)
    }

    fn staged(&self, slot: SlotId, key: &Key) -> Result<Option<Range<u64>>, StoreError> {
        let staged = match self.find(|overlay| overlay.staged(slot, key)) {
            Known::Answer(staged) => staged,
            Known::Unknown => self.core.index.staged(slot, key),
        };
        Ok(staged.map(|staged| staged.heights))
    }

    fn verify(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<u64>, StoreError> {
        if let Known::Answer(transaction) = self.find(|overlay| overlay.transaction(slot, key, height)) {
            return Ok(transaction.map(|_| 0));
        }
        let found = self.indexed_transaction(slot, key, height, SegmentFiles::read_anew)?;
        Ok(found.map(|(location, _)| u64::from(location.length)))
    }

    fn scan(
        &self,
        slot: SlotId,
        prefix: &KeyPrefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Register)>, StoreError> {
        let mut found = BTreeMap::new();
        let (cleared, limit_below) = {
            let layers = self.core.lock();
            // What was dropped hides as many registers below.
            let slots = layers.newest_first().filter_map(|overlay| overlay.slots.get(&slot));
            let limit_below = slots.map(|overlay| overlay.dropped).fold(limit, usize::saturating_add);
            (merge_overlays(&layers, slot, prefix, after, limit_below, &mut found), limit_below)
        };
        if !cleared {
            for (key, register) in self.core.index.scan(slot, prefix, after, limit_below)? {
                found.entry(key).or_insert(Some(register));
            }
        }
        Ok(found.into_iter().filter_map(|(key, register)| Some((key, register?))).take(limit).collect())
    }

    fn digest(&self, slot: SlotId) -> Result<SlotDigest, StoreError> {
        Ok(self.totals(slot)?.digest)
    }

    fn size(&self, slot: SlotId) -> Result<SlotSize, StoreError> {
        Ok(self.totals(slot)?.size)
    }

    fn usage(&self, slot: SlotId) -> Result<BTreeMap<String, Usage>, StoreError> {
        let mut found: BTreeMap<String, Usage> = BTreeMap::new();
        let mut is_cleared = false;
        {
            let layers = self.core.lock();
            for overlay in layers.newest_first().filter_map(|overlay| overlay.slots.get(&slot)) {
                if is_cleared {
                    break;
                }
                for (namespace, usage) in &overlay.usages {
                    found.entry(namespace.clone()).or_insert(*usage);
                }
                is_cleared = overlay.cleared;
            }
        }
        if !is_cleared {
            for (namespace, usage) in self.core.index.usages(slot)? {
                found.entry(namespace).or_insert(usage);
            }
        }
        found.retain(|_, usage| usage.keys > 0);
        Ok(found)
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let known = self.core.lock().newest_first().find_map(|overlay| overlay.meta.get(name).cloned());
        known.map_or_else(|| self.core.index.meta(name), Ok)
    }

    fn metas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut found: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
        {
            let layers = self.core.lock();
            for overlay in layers.newest_first() {
                let named = overlay.meta.range(prefix.to_string()..).take_while(|(name, _)| name.starts_with(prefix));
                for (name, value) in named {
                    found.entry(name.clone()).or_insert_with(|| value.clone());
                }
            }
        }
        for (name, value) in self.core.index.metas(prefix)? {
            found.entry(name).or_insert(Some(value));
        }
        Ok(found.into_iter().filter_map(|(name, value)| Some((name, value?))).collect())
    }

    fn check_room(&self) -> Result<(), StoreError> {
        self.core.log.check_room()
    }

    fn check_reserve(&self) -> Result<(), StoreError> {
        self.core.log.check()
    }

    fn is_short_of_room(&self) -> bool {
        self.core.log.is_short_of_room()
    }

    fn write(&mut self, writes: Vec<Write>) -> Result<WriteSequence, StoreError> {
        let mut head = Vec::with_capacity(FRAME_HEADER_BYTES + approximate_bytes(&writes));
        head.resize(FRAME_HEADER_BYTES, 0);
        let ranges = put_batch(&mut head, &writes);
        let core = &self.core;
        let mut layers = core.lock_with_room(Admission::Always)?;
        let appended = core.log.append_early(head, Bytes::new(), Admission::Always)?;
        let Layers { active, frozen, .. } = &mut *layers;
        let before = active.bytes();
        let heads = Some(&self.heads);
        let (index, files) = (&core.index, &*core.files);
        let below = Below { heads, frozen: frozen.as_deref(), index, files, index_is_ahead: false };
        if let Err(error) = active.apply(writes, &ranges, appended.at, appended.end, below) {
            core.log.poison(error.clone());
            return Err(error);
        }
        core.added(layers, before);
        Ok(WriteSequence(appended.end.sequence))
    }

    fn flush(&mut self) {
        self.core.log.flush();
    }
}

/// About how many bytes a batch takes when encoded.
fn approximate_bytes(writes: &[Write]) -> usize {
    let bytes_of = |write: &Write| match write {
        Write::Accept { key, register, transactions, .. } => {
            let transactions: usize = transactions.iter().map(Transaction::approximate_bytes).sum();
            192 + key.encoded().len() + 16 * register.head.recent.len() + transactions
        }
        Write::Stage { transactions, .. } | Write::Repair { transactions, .. } => {
            256 + transactions.iter().map(Transaction::approximate_bytes).sum::<usize>()
        }
        _ => 256,
    };
    writes.iter().map(bytes_of).sum()
}

/// Adds the first `limit` fitting registers of each overlay, the newest of each key, and which keys were dropped; whether
/// nothing below counts.
fn merge_overlays(
    layers: &Layers<Overlay>,
    slot: SlotId,
    prefix: &KeyPrefix,
    after: Option<&Key>,
    limit: usize,
    found: &mut BTreeMap<Key, Option<Register>>,
) -> bool {
    let after = after.map(Key::encoded);
    for overlay in layers.newest_first().filter_map(|overlay| overlay.slots.get(&slot)) {
        let start = after.filter(|after| *after > prefix).unwrap_or(prefix);
        let entries = overlay.entries.range::<Bytes, _>(start..).map(|(_, entry)| entry);
        let fitting = entries
            .take_while(|entry| entry.key.encoded().starts_with(prefix))
            .filter(|entry| after.is_none_or(|after| entry.key.encoded() > after));
        for entry in fitting.take(limit) {
            found.entry(entry.key.clone()).or_insert_with(|| entry.register.clone());
        }
        if overlay.cleared {
            return true;
        }
    }
    false
}
