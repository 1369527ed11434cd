use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Range,
};

use bytes::Bytes;
use difuse_keylog::{
    Register, SlotDigest, SlotRecord, StoreError, Transaction, Write,
    store::{SlotSize, Usage, is_counted},
};
use difuse_types::{Key, SlotId};

use super::{
    cache::HeadCache,
    index::KeyIndex,
    weight::{Held, fold, weight_after},
};
use crate::{
    codec::{BodyRange, Copied},
    index::Pending,
    log::{Checkpoint, Location, Position, SegmentFiles},
};

mod repaired;
mod staged;

pub(crate) use self::{
    repaired::RepairedOverlay,
    staged::{Staged, StagedOverlay},
};

/// From how many operations, at most, a structure is weighed anew.
const WEIGHED_MAX: usize = 4096;

/// A guess of what an entry takes in memory besides its key and values.
const ENTRY_BYTES: usize = 500;
const TRANSACTION_BYTES: usize = 250;
const MOVED_BYTES: usize = 150;

/// What a run of batches changed: the last state of everything that they touched.
#[derive(Debug)]
pub(crate) struct Overlay {
    pub records: BTreeMap<SlotId, SlotRecord>,
    pub meta: BTreeMap<String, Option<Vec<u8>>>,
    pub slots: BTreeMap<SlotId, SlotOverlay>,
    /// Bodies below this overlay that lie elsewhere as well now.
    pub moved: Vec<Moved>,
    /// About what it takes in memory.
    bytes: usize,
    /// The log's end after the last batch in it.
    end: Checkpoint,
}

/// A body that was copied within the log.
#[derive(Debug)]
pub(crate) struct Moved {
    pub slot: SlotId,
    pub key: Key,
    pub height: u64,
    pub old: Location,
    pub new: Location,
}

/// What changed in a slot.
#[derive(Debug)]
pub(crate) struct SlotOverlay {
    /// Nothing that lies below this overlay counts any more.
    pub cleared: bool,
    pub totals: Totals,
    /// Of the namespaces whose keys changed, by their names.
    pub usages: BTreeMap<String, Usage>,
    /// By encoded key.
    pub entries: BTreeMap<Bytes, Box<EntryOverlay>>,
    /// What was staged after what the entries say, by encoded key.
    pub staged: BTreeMap<Bytes, StagedOverlay>,
    /// What was written again of chains as the entries leave them, by encoded key.
    pub repaired: BTreeMap<Bytes, RepairedOverlay>,
    /// How many of the entries have no register, at most.
    pub dropped: usize,
}

/// What changed of a key.
#[derive(Debug)]
pub(crate) struct EntryOverlay {
    pub key: Key,
    /// `None`: the key was dropped.
    pub register: Option<Register>,
    /// What its value weighs, in bytes.
    pub weight: u64,
    /// From this height on, no transaction that lies below this overlay counts any more.
    pub gone_from: u64,
    /// Whether there may be such transactions.
    pub cuts: bool,
    /// Whether there may be transactions below the register's base.
    pub forgets: bool,
    /// Whether nothing that lies below this overlay is of the key.
    pub is_new: bool,
    /// By height. (A map would take ten times the memory for the usual one.)
    pub transactions: Vec<(Transaction, Location)>,
}

/// Digest and size of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub digest: SlotDigest,
    pub size: SlotSize,
}

/// What lies below an overlay: perhaps another one, then the index.
#[derive(Clone, Copy)]
pub(crate) struct Below<'a> {
    /// What is known of all of it, and follows what is added.
    pub heads: Option<&'a HeadCache>,
    pub frozen: Option<&'a Overlay>,
    pub index: &'a KeyIndex,
    pub files: &'a SegmentFiles,
    /// Whether the index may be ahead of the log: then what it says of a register's past does not count.
    pub index_is_ahead: bool,
}

/// What an overlay knows of a thing.
pub(crate) enum Known<T> {
    /// This, or that it is not there.
    Answer(Option<T>),
    /// Ask below.
    Unknown,
}

/// Transactions with where their bodies lie, of a batch whose payload lies at `at` in the log.
fn locate<'a>(
    transactions: Vec<Transaction>,
    ranges: impl Iterator<Item = &'a BodyRange>,
    at: Position,
) -> Vec<(Transaction, Location)> {
    let located = transactions.into_iter().zip(ranges).map(|(transaction, range)| {
        let at = Position { offset: at.offset + range.start, ..at };
        (transaction, Location { at, length: range.length, crc: range.crc })
    });
    located.collect()
}

/// How many of these transactions, in the order of heights, are below a height.
fn count_below(transactions: &[(Transaction, Location)], height: u64) -> usize {
    transactions.partition_point(|(transaction, _)| transaction.height < height)
}

/// The one of them at a height.
fn at_height(transactions: &[(Transaction, Location)], height: u64) -> Option<&(Transaction, Location)> {
    transactions.get(count_below(transactions, height)).filter(|(transaction, _)| transaction.height == height)
}

impl Pending for Overlay {
    fn new(end: Checkpoint) -> Self {
        let (records, meta, slots) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { records, meta, slots, moved: Vec::new(), bytes: 0, end }
    }

    fn end(&self) -> Checkpoint {
        self.end
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn touched_slots(&self) -> Vec<SlotId> {
        self.slots.keys().copied().collect()
    }
}

impl Overlay {
    pub fn held(&self, slot: SlotId, key: &Key) -> Known<Held> {
        let held = |entry: &EntryOverlay| Some(Held { register: entry.register.clone()?, weight: entry.weight });
        self.entry(slot, key, |entry| Known::Answer(held(entry)))
    }

    /// Also one that is staged: a layer above may have made it part of the chain.
    pub fn transaction(&self, slot: SlotId, key: &Key, height: u64) -> Known<Transaction> {
        let staged = self.slots.get(&slot).and_then(|overlay| overlay.staged.get(key.encoded()));
        if let Some(here) = staged.filter(|here| here.staged.heights.contains(&height)) {
            // What is not here went to the index earlier.
            let found = at_height(&here.transactions, height);
            return found.map_or(Known::Unknown, |(transaction, _)| Known::Answer(Some(transaction.clone())));
        }
        let found = self.entry(slot, key, |entry| match at_height(&entry.transactions, height) {
            _ if entry.register.as_ref().is_none_or(|register| height < register.base) => Known::Answer(None),
            Some((transaction, _)) => Known::Answer(Some(transaction.clone())),
            None if height >= entry.gone_from => Known::Answer(None),
            None => Known::Unknown,
        });
        let slot = self.slots.get(&slot);
        match found {
            Known::Unknown => match slot.and_then(|slot| slot.repaired(key, height)) {
                Some(transaction) => Known::Answer(Some(transaction.clone())),
                None if slot.is_some_and(|slot| slot.cleared) => Known::Answer(None),
                None => Known::Unknown,
            },
            found => found,
        }
    }

    fn entry<T>(&self, slot: SlotId, key: &Key, find: impl FnOnce(&EntryOverlay) -> Known<T>) -> Known<T> {
        let Some(overlay) = self.slots.get(&slot) else { return Known::Unknown };
        match overlay.entries.get(key.encoded()) {
            Some(entry) => find(entry),
            None if overlay.cleared => Known::Answer(None),
            None => Known::Unknown,
        }
    }

    pub fn is_cleared(&self, slot: SlotId) -> bool {
        self.slots.get(&slot).is_some_and(|overlay| overlay.cleared)
    }

    pub fn totals(&self, slot: SlotId) -> Option<Totals> {
        self.slots.get(&slot).map(|overlay| overlay.totals)
    }

    /// Takes over a batch whose payload lies at `at` in the log, and after which the log ends at `end`.
    pub fn apply(
        &mut self,
        writes: Vec<Write>,
        ranges: &[BodyRange],
        at: Position,
        end: Checkpoint,
        below: Below<'_>,
    ) -> Result<(), StoreError> {
        let mut ranges = ranges.iter();
        self.end = end;
        // Even an empty batch moves the log's end, which the index should learn.
        self.bytes += 1;
        for write in writes {
            match write {
                Write::Slot(record) => {
                    self.bytes += ENTRY_BYTES;
                    self.records.insert(record.configuration.slot, *record);
                }
                Write::Accept { slot, key, register, transactions } => {
                    self.accept(slot, key, register, locate(transactions, ranges.by_ref(), at), below)?;
                }
                Write::Stage { slot, key, first_height, transactions } => {
                    self.stage(slot, key, first_height, locate(transactions, ranges.by_ref(), at), below)?;
                }
                Write::Repair { slot, key, transactions } => {
                    self.repair(slot, key, locate(transactions, ranges.by_ref(), at), below)?;
                }
                Write::Drop { slot, key } => self.drop_key(slot, key, below)?,
                Write::ClearSlot(slot) => {
                    if let Some(heads) = below.heads {
                        heads.clear();
                    }
                    let cleared = SlotOverlay { cleared: true, ..SlotOverlay::new(Totals::default()) };
                    self.slots.insert(slot, cleared);
                    self.bytes += ENTRY_BYTES;
                }
                Write::Meta(name, value) => {
                    self.bytes += ENTRY_BYTES + name.len() + value.as_ref().map_or(0, Vec::len);
                    self.meta.insert(name, value);
                }
            }
        }
        Ok(())
    }

    /// Takes over a record of copies, as [`Overlay::apply`] does a batch.
    pub fn apply_copies(&mut self, copies: Vec<Copied>, ranges: &[BodyRange], at: Position, end: Checkpoint) {
        self.end = end;
        self.bytes += 1;
        for (Copied { slot, key, height, old, .. }, range) in copies.into_iter().zip(ranges) {
            let at = Position { offset: at.offset + range.start, ..at };
            self.bytes += MOVED_BYTES + key.encoded().len();
            let new = Location { at, length: range.length, crc: range.crc };
            self.moved.push(Moved { slot, key, height, old, new });
        }
    }

    fn accept(
        &mut self,
        slot: SlotId,
        key: Key,
        register: Register,
        mut transactions: Vec<(Transaction, Location)>,
        below: Below<'_>,
    ) -> Result<(), StoreError> {
        let staged = self.staged_before(slot, &key, below);
        let first_height = transactions.first().map(|(first, _)| first.height);
        let joined = staged.as_ref().filter(|staged| first_height == Some(staged.heights.end));
        let (held, weight) = self.weigh(slot, &key, &register, &transactions, joined, below)?;
        let weight_before = held.as_ref().and_then(|held| held.counted(&key));
        let weight_now = is_counted(&key, &register).then_some(weight);
        let before = held.map(|held| held.register);
        let above = register.head.height.saturating_add(1);
        let gone_from = first_height.map_or(above, |first| above.min(first));
        let end_before = before.as_ref().map_or(0, |before| before.head.height.saturating_add(1));
        let mut cuts = gone_from < end_before;
        let lowest = before.as_ref().map(|before| before.base).or(joined.map(|joined| joined.heights.start));
        let mut forgets = lowest.is_some_and(|lowest| lowest < register.base);
        let mut removed_bytes = if cuts { self.bytes_in(slot, &key, gone_from..end_before, below)? } else { 0 };
        if let Some(lowest) = lowest.filter(|_| forgets) {
            let end_counted = joined.map_or(end_before, |joined| joined.heights.end);
            let end = register.base.min(gone_from).min(end_counted);
            removed_bytes += self.bytes_in(slot, &key, lowest..end, below)?;
        }
        let kept = transactions.iter().filter(|(transaction, _)| transaction.height >= register.base);
        let added: u64 = kept.map(|(_, location)| u64::from(location.length)).sum();
        let added_bytes = added + joined.map_or(0, |joined| joined.bytes);
        let mut bytes = added as usize + TRANSACTION_BYTES * transactions.len();
        let is_joined = joined.is_some();

        let overlay = self.slot(slot, below)?;
        let staged_here = overlay.staged.remove(key.encoded());
        // What else is staged below this overlay lies above the head that was, or below the base: both are cleared.
        let leaves = staged.is_some() && (!is_joined || staged_here.as_ref().is_some_and(|here| here.replaces));
        (cuts, forgets) = (cuts || leaves, forgets || leaves);
        if let Some(staged_here) = staged_here.filter(|_| is_joined) {
            let new = std::mem::replace(&mut transactions, staged_here.transactions);
            transactions.extend(new);
        }
        let gone_from = transactions.first().map_or(gone_from, |(first, _)| gone_from.min(first.height));
        overlay.cut_repaired(&key, register.base, gone_from);
        overlay.count(slot, &key, weight_before, weight_now, below)?;
        let totals = &mut overlay.totals;
        totals.replace(&key, before.as_ref(), Some(&register));
        totals.size.bytes = (totals.size.bytes + added_bytes).saturating_sub(removed_bytes);

        let entry = overlay.entries.entry(key.encoded().clone()).or_insert_with(|| {
            bytes += ENTRY_BYTES + key.encoded().len() + 16 * register.head.recent.len();
            let is_ahead = below.index_is_ahead;
            Box::new(EntryOverlay {
                key,
                register: None,
                weight,
                gone_from,
                cuts: is_ahead,
                forgets: is_ahead,
                is_new: before.is_none() && !is_ahead,
                transactions: Vec::new(),
            })
        });
        (entry.cuts, entry.forgets) = (entry.cuts || cuts, entry.forgets || forgets);
        entry.accept(register, weight, gone_from, transactions);
        self.bytes += bytes;
        Ok(())
    }

    /// What was held of a key before `register` is accepted with these transactions, and what its value weighs with it. The cache
    /// of heads follows.
    fn weigh(
        &self,
        slot: SlotId,
        key: &Key,
        register: &Register,
        transactions: &[(Transaction, Location)],
        joined: Option<&Staged>,
        below: Below<'_>,
    ) -> Result<(Option<Held>, u64), StoreError> {
        let last = transactions.last().map(|(transaction, _)| transaction);
        let follows = |before: Option<&Held>| {
            let added = transactions.iter().map(|(transaction, _)| transaction);
            match joined {
                Some(joined) => fold(joined.weight, added),
                None => weight_after(before, register, added),
            }
        };
        let cached = below.heads.and_then(|heads| heads.replace(slot, key, register, last, follows));
        let is_cached = cached.is_some();
        let held = match cached {
            Some(before) => before,
            None => self.held_before(slot, key, below)?,
        };
        let known = follows(held.as_ref());
        let weight = match known {
            Some(weight) => weight,
            None => self.weigh_anew(slot, key, register, transactions, below)?,
        };
        if let Some(heads) = below.heads.filter(|_| !is_cached || known.is_none()) {
            heads.set_weight(slot, key, weight);
        }
        Ok((held, weight))
    }

    fn drop_key(&mut self, slot: SlotId, key: Key, below: Below<'_>) -> Result<(), StoreError> {
        let held = match below.heads.and_then(|heads| heads.remove(slot, &key)) {
            Some(before) => before,
            None => self.held_before(slot, &key, below)?,
        };
        let weight_before = held.as_ref().and_then(|held| held.counted(&key));
        let before = held.map(|held| held.register);
        let removed_bytes = match &before {
            Some(before) => self.bytes_in(slot, &key, 0..before.head.height.saturating_add(1), below)?,
            None => 0,
        };
        let overlay = self.slot(slot, below)?;
        overlay.staged.remove(key.encoded());
        overlay.repaired.remove(key.encoded());
        overlay.count(slot, &key, weight_before, None, below)?;
        overlay.totals.replace(&key, before.as_ref(), None);
        overlay.totals.size.bytes = overlay.totals.size.bytes.saturating_sub(removed_bytes);
        overlay.dropped += 1;
        let bytes = ENTRY_BYTES + key.encoded().len();
        let gone = EntryOverlay {
            key: key.clone(),
            register: None,
            weight: 0,
            gone_from: 0,
            cuts: true,
            forgets: true,
            is_new: false,
            transactions: Vec::new(),
        };
        overlay.entries.insert(key.encoded().clone(), Box::new(gone));
        self.bytes += bytes;
        Ok(())
    }

    fn held_before(&self, slot: SlotId, key: &Key, below: Below<'_>) -> Result<Option<Held>, StoreError> {
        match self.held(slot, key) {
            Known::Answer(before) => Ok(before),
            Known::Unknown => below.held(slot, key),
        }
    }

    /// What a value weighs if that does not follow from what was there, because the log was cut: by its transactions, from the
    /// last one on that says it all.
    fn weigh_anew(
        &self,
        slot: SlotId,
        key: &Key,
        register: &Register,
        transactions: &[(Transaction, Location)],
        below: Below<'_>,
    ) -> Result<u64, StoreError> {
        let mut height = register.head.height.saturating_sub(transactions.len() as u64);
        let mut earlier = Vec::new();
        let mut start = None;
        while start.is_none() && height >= register.base.max(1) && earlier.len() < WEIGHED_MAX {
            let Some(transaction) = self.transaction_before(slot, key, height, below)? else { break };
            start = fold(None, [&transaction]);
            if start.is_none() {
                earlier.push(transaction);
            }
            height -= 1;
        }
        let new = transactions.iter().map(|(transaction, _)| transaction);
        Ok(fold(start.or(Some(0)), earlier.iter().rev().chain(new)).unwrap_or_default())
    }

    /// A transaction as it was before this overlay takes over a change; `None` also if it cannot be read.
    fn transaction_before(
        &self,
        slot: SlotId,
        key: &Key,
        height: u64,
        below: Below<'_>,
    ) -> Result<Option<Transaction>, StoreError> {
        for overlay in [Some(self), below.frozen].into_iter().flatten() {
            if let Known::Answer(transaction) = overlay.transaction(slot, key, height) {
                return Ok(transaction);
            }
        }
        below.index.transaction(below.files, slot, key, height)
    }

    /// The bytes of a key's transactions at these heights.
    fn bytes_in(&self, slot: SlotId, key: &Key, heights: Range<u64>, below: Below<'_>) -> Result<u64, StoreError> {
        let mut lengths: BTreeMap<u64, u32> = BTreeMap::new();
        let mut hidden_from = heights.end;
        for overlay in [Some(self), below.frozen].into_iter().flatten() {
            let slot_overlay = overlay.slots.get(&slot);
            let staged = slot_overlay.and_then(|overlay| overlay.staged.get(key.encoded()));
            let staged = staged.map(|here| {
                let hides_from = if here.replaces { here.staged.heights.start } else { u64::MAX };
                (&here.transactions, hides_from)
            });
            let entry = slot_overlay.and_then(|overlay| overlay.entries.get(key.encoded()));
            let entry = entry.map(|entry| (&entry.transactions, entry.gone_from));
            for (transactions, hides_from) in staged.into_iter().chain(entry) {
                let above = transactions[count_below(transactions, heights.start)..].iter();
                let counted = above.map(|(transaction, location)| (transaction.height, location.length));
                lengths.extend(counted.filter(|(height, _)| *height < hidden_from));
                hidden_from = hidden_from.min(hides_from);
            }
            if overlay.is_cleared(slot) {
                return Ok(lengths.into_values().map(u64::from).sum());
            }
        }
        if heights.start < hidden_from {
            for (height, location) in below.index.locations(slot, key, heights.start..hidden_from)? {
                lengths.entry(height).or_insert(location.length);
            }
        }
        Ok(lengths.into_values().map(u64::from).sum())
    }

    fn slot(&mut self, slot: SlotId, below: Below<'_>) -> Result<&mut SlotOverlay, StoreError> {
        match self.slots.entry(slot) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let totals = below.totals(slot)?;
                Ok(unknown.insert(SlotOverlay::new(totals)))
            }
        }
    }
}

impl SlotOverlay {
    fn new(totals: Totals) -> Self {
        let (usages, entries, staged) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { cleared: false, totals, usages, entries, staged, repaired: BTreeMap::new(), dropped: 0 }
    }

    /// Counts a key with the weight `after` instead of `before`.
    fn count(
        &mut self,
        slot: SlotId,
        key: &Key,
        before: Option<u64>,
        after: Option<u64>,
        below: Below<'_>,
    ) -> Result<(), StoreError> {
        if before.is_none() && after.is_none() {
            return Ok(());
        }
        let namespace = key.namespace();
        if let Some(usage) = self.usages.get_mut(namespace) {
            usage.replace(key, before, after);
            return Ok(());
        }
        let mut usage = if self.cleared { Usage::default() } else { below.usage(slot, namespace)? };
        usage.replace(key, before, after);
        self.usages.insert(namespace.to_owned(), usage);
        Ok(())
    }
}

impl Totals {
    /// Counts a key's register `after` instead of `before`.
    fn replace(&mut self, key: &Key, before: Option<&Register>, after: Option<&Register>) {
        self.digest = self.digest.replace(key, before, after);
        let counts = |register: Option<&Register>| {
            let is_tombstone = register.is_some_and(|register| register.head.deleted.is_some());
            let is_expiring = register.is_some_and(|register| register.head.deadline.is_some());
            [register.is_some(), is_tombstone, is_expiring].map(u64::from)
        };
        let ([keys, tombstones, expiring], size) = (counts(after), &mut self.size);
        let [keys_before, tombstones_before, expiring_before] = counts(before);
        size.keys = (size.keys + keys).saturating_sub(keys_before);
        size.tombstones = (size.tombstones + tombstones).saturating_sub(tombstones_before);
        size.expiring = (size.expiring + expiring).saturating_sub(expiring_before);
    }
}

impl EntryOverlay {
    /// Takes over a register, and transactions that replace whatever is from `gone_from` on.
    fn accept(&mut self, register: Register, weight: u64, gone_from: u64, transactions: Vec<(Transaction, Location)>) {
        self.gone_from = self.gone_from.min(gone_from);
        self.transactions.truncate(count_below(&self.transactions, gone_from));
        if self.transactions.is_empty() {
            // As a rule there is one, and stays the only one: it takes no more room than it needs.
            self.transactions = transactions;
        } else {
            self.transactions.extend(transactions);
        }
        self.transactions.drain(..count_below(&self.transactions, register.base));
        (self.register, self.weight) = (Some(register), weight);
    }
}

impl Below<'_> {
    fn held(&self, slot: SlotId, key: &Key) -> Result<Option<Held>, StoreError> {
        match self.frozen.map_or(Known::Unknown, |frozen| frozen.held(slot, key)) {
            Known::Answer(held) => Ok(held),
            Known::Unknown => Ok(self.index.head(slot, key)?.map(|head| head.held)),
        }
    }

    fn usage(&self, slot: SlotId, namespace: &str) -> Result<Usage, StoreError> {
        let frozen = self.frozen.and_then(|frozen| frozen.slots.get(&slot));
        match frozen.and_then(|frozen| frozen.usages.get(namespace)) {
            Some(usage) => Ok(*usage),
            None if frozen.is_some_and(|frozen| frozen.cleared) => Ok(Usage::default()),
            None => self.index.usage(slot, namespace),
        }
    }

    fn totals(&self, slot: SlotId) -> Result<Totals, StoreError> {
        match self.frozen.and_then(|frozen| frozen.totals(slot)) {
            Some(totals) => Ok(totals),
            None => self.index.totals(slot),
        }
    }
}
