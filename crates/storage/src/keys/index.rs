//! How the key store's index lies in its sled tree. The first byte of a key says what it is:
//!
//! | byte | key | value |
//! |---|---|---|
//! | 0 | – | checkpoint: segment, offset, sequence, whether an update was under way |
//! | 1 | slot | slot record |
//! | 2 | slot | digest, keys, tombstones, bytes |
//! | 3 | name | node value |
//! | 4 | slot, encoded key | register; location of the head's body, if known, and of a few below it; what its value weighs |
//! | 5 | slot, length of key, encoded key, height | locations of the bodies of other transactions, from this height on |
//! | 6 | segment | about how many bytes of it are live: a hint for the cleaner, which a crash may make wrong |
//! | 7 | slot, namespace | keys with values, bytes of their names and values |
//! | 8 | – | says that every register tells what its value weighs, and that 7 is there: not so before that was counted |
//! | 9 | slot, encoded key | what is staged of the chain: its heights, bytes, what the value weighs after it; its bodies are in 5 |
//!
//! Numbers in keys are big-endian, so that their order is that of the numbers; the registers of a slot are in the
//! order of their encoded keys.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use difuse_keylog::{
    Register, SlotDigest, SlotRecord, StoreError, Transaction,
    store::{SlotSize, Usage, is_counted},
};
use difuse_types::{Key, KeyPrefix, SlotId};

use self::{
    listed::{take_few_below, take_run},
    staged::StagedKeys,
};
use super::{
    overlay::{Below, EntryOverlay, Moved, Overlay, SlotOverlay, Totals},
    weight::{Held, fold},
};
use crate::{
    codec::{
        Decoder, Encode, Malformed, decode_all, is_copies, put_register, put_slot_record, take_batch, take_body,
        take_copies, take_register, take_slot_record,
    },
    index::{Index, Replayed, decode, failed, put_location, take_location, undecodable, value},
    log::{Location, SegmentFiles},
};

mod listed;
mod staged;

const RECORD: u8 = 1;
const TOTALS: u8 = 2;
const META: u8 = 3;
const REGISTER: u8 = 4;
const LOCATION: u8 = 5;
const LIVE: u8 = 6;
const USAGE: u8 = 7;
const COUNTED: u8 = 8;
const STAGED: u8 = 9;

/// What follows a register: these in a byte of flags, and what they say.
const HAS_LOCATION: u8 = 1;
const HAS_WEIGHT: u8 = 2;
const HAS_BELOW: u8 = 4;

/// What the copy of a body takes in the log besides the body and its key.
const COPY_BYTES: u64 = 36;

/// How the number of live bytes of each segment changes.
#[derive(Debug, Default)]
struct LiveBytes(BTreeMap<u32, i64>);

impl LiveBytes {
    fn add(&mut self, key_length: usize, location: Location) {
        *self.0.entry(location.at.segment).or_default() += cost(key_length, location) as i64;
    }

    fn remove(&mut self, key_length: usize, location: Location) {
        *self.0.entry(location.at.segment).or_default() -= cost(key_length, location) as i64;
    }

    fn add_all<'a>(&mut self, key_length: usize, locations: impl IntoIterator<Item = &'a Location>) {
        locations.into_iter().for_each(|location| self.add(key_length, *location));
    }

    fn remove_all<'a>(&mut self, key_length: usize, locations: impl IntoIterator<Item = &'a Location>) {
        locations.into_iter().for_each(|location| self.remove(key_length, *location));
    }
}

/// What a body counts for as live: what its copy would take.
fn cost(key_length: usize, location: Location) -> u64 {
    COPY_BYTES + key_length as u64 + u64::from(location.length)
}

/// A key's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub held: Held,
    /// Where its body lies, if that is not listed with the others.
    pub location: Option<Location>,
    /// Then also where those of a few transactions just below it do, in the order of heights; they are not listed.
    pub below: Vec<Location>,
}

impl Head {
    fn height(&self) -> u64 {
        self.held.register.head.height
    }

    /// The locations that are told with it.
    fn locations(&self) -> impl Iterator<Item = &Location> {
        self.below.iter().chain(&self.location)
    }

    /// The same with the transactions' heights.
    fn located(&self) -> impl Iterator<Item = (u64, Location)> {
        let lowest = self.height() - self.below.len() as u64;
        (lowest..).zip(self.locations().copied())
    }

    /// The place for the location of a transaction, if it is told with the head.
    fn location_at(&mut self, height: u64) -> Option<&mut Location> {
        match self.height().checked_sub(height)? {
            0 => self.location.as_mut(),
            depth => self.below.len().checked_sub(usize::try_from(depth).ok()?).map(|place| &mut self.below[place]),
        }
    }
}

/// The index of keys.
#[derive(Debug, Clone)]
pub(crate) struct KeyIndex {
    tree: sled::Tree,
    staged: StagedKeys,
}

impl KeyIndex {
    pub fn new(tree: sled::Tree) -> Self {
        Self { tree, staged: StagedKeys::default() }
    }

    pub fn record(&self, slot: SlotId) -> Result<Option<SlotRecord>, StoreError> {
        value(&self.tree, &slot_key(RECORD, slot), take_slot_record)
    }

    pub fn records(&self) -> Result<Vec<SlotRecord>, StoreError> {
        let pairs = self.tree.scan_prefix([RECORD]);
        pairs.map(|pair| decode(&pair.map_err(failed)?.1, take_slot_record)).collect()
    }

    pub fn totals(&self, slot: SlotId) -> Result<Totals, StoreError> {
        Ok(value(&self.tree, &slot_key(TOTALS, slot), take_totals)?.unwrap_or_default())
    }

    /// What the keys of a namespace come to in a slot.
    pub fn usage(&self, slot: SlotId, namespace: &str) -> Result<Usage, StoreError> {
        Ok(value(&self.tree, &usage_key(slot, namespace), take_usage)?.unwrap_or_default())
    }

    /// The same of all namespaces that have keys there.
    pub fn usages(&self, slot: SlotId) -> Result<BTreeMap<String, Usage>, StoreError> {
        let named = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
            let (key, value) = pair.map_err(failed)?;
            let namespace = String::from_utf8(key[SLOT_KEY_BYTES..].to_vec()).map_err(|_| undecodable())?;
            Ok((namespace, decode(&value, take_usage)?))
        };
        self.tree.scan_prefix(slot_key(USAGE, slot)).map(named).collect()
    }

    fn put_usages(&self, slot: SlotId, usages: &BTreeMap<String, Usage>) -> Result<(), StoreError> {
        for (namespace, usage) in usages {
            let key = usage_key(slot, namespace);
            match usage.keys {
                0 => self.remove(&key)?,
                _ => self.put(key, put_usage(usage))?,
            }
        }
        Ok(())
    }

    pub fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.tree.get(meta_key(name)).map_err(failed)?;
        Ok(value.map(|value| value.to_vec()))
    }

    /// All named values whose names begin with `prefix`, in the order of names.
    pub fn metas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let named = |pair: sled::Result<(sled::IVec, sled::IVec)>| {
            let (name, value) = pair.map_err(failed)?;
            let name = String::from_utf8(name[1..].to_vec());
            let name = name.map_err(|_| StoreError::Corrupt("the name of a small value is not text".into()))?;
            Ok((name, value.to_vec()))
        };
        self.tree.scan_prefix(meta_key(prefix)).map(named).collect()
    }

    /// A key's head.
    pub fn head(&self, slot: SlotId, key: &Key) -> Result<Option<Head>, StoreError> {
        value(&self.tree, &register_key(slot, key.encoded()), take_head)
    }

    /// Where a transaction's body lies. The head comes first: an update lists a head with the others before it
    /// replaces it.
    pub fn location(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Location>, StoreError> {
        let mut head = self.head(slot, key)?;
        if head.as_ref().is_some_and(|head| height < head.held.register.base) {
            return Ok(None);
        }
        match head.as_mut().and_then(|head| head.location_at(height)) {
            Some(location) => Ok(Some(*location)),
            None => self.listed_location(slot, key, height),
        }
    }

    /// A transaction; `None` also if it cannot be read.
    pub fn transaction(
        &self,
        files: &SegmentFiles,
        slot: SlotId,
        key: &Key,
        height: u64,
    ) -> Result<Option<Transaction>, StoreError> {
        let body = self.location(slot, key, height)?.and_then(|location| files.read(location).ok());
        Ok(body.and_then(|body| decode_all(body, |from| take_body(key, from)).ok()))
    }

    /// Where the transactions of a key at these heights lie. The head comes first here too.
    pub fn locations(
        &self,
        slot: SlotId,
        key: &Key,
        heights: Range<u64>,
    ) -> Result<BTreeMap<u64, Location>, StoreError> {
        let head = self.head(slot, key)?;
        let mut found = self.listed(slot, key, heights.clone())?;
        let with_head = head.iter().flat_map(Head::located);
        found.extend(with_head.filter(|(height, _)| heights.contains(height)));
        Ok(found)
    }

    /// The first `limit` registers of a slot whose encoded keys begin with `prefix` and are greater than `after`.
    pub fn scan(
        &self,
        slot: SlotId,
        prefix: &KeyPrefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Register)>, StoreError> {
        let begin = match after {
            // The least byte string after this one.
            Some(after) if after.encoded() >= prefix => [&register_key(slot, after.encoded())[..], &[0]].concat(),
            _ => register_key(slot, prefix),
        };
        let common = register_key(slot, prefix);
        let mut found = Vec::new();
        for pair in self.tree.range(begin..).take(limit) {
            let (key, value) = pair.map_err(failed)?;
            if !key.starts_with(&common) {
                break;
            }
            let key = Key::from_encoded(Bytes::copy_from_slice(&key[5..])).map_err(|_| undecodable())?;
            found.push((key, decode(&value, take_head)?.held.register));
        }
        Ok(found)
    }

    /// About how many bytes of a segment are live.
    pub fn live_bytes(&self, segment: u32) -> Result<u64, StoreError> {
        Ok(value(&self.tree, &live_key(segment), Decoder::take_u64)?.unwrap_or_default())
    }

    /// A segment was deleted.
    pub fn forget_segment(&self, segment: u32) -> Result<(), StoreError> {
        self.tree.remove(live_key(segment)).map(drop).map_err(failed)
    }

    fn apply_live_bytes(&self, live: LiveBytes) -> Result<(), StoreError> {
        for (segment, change) in live.0 {
            let bytes = self.live_bytes(segment)?.saturating_add_signed(change);
            self.put(live_key(segment), bytes.to_le_bytes().to_vec())?;
        }
        Ok(())
    }

    /// The body of a transaction lies at `new` now; with `old`, only if it lay there.
    fn relocate(
        &self,
        slot: SlotId,
        key: &Key,
        height: u64,
        (old, new): (Option<Location>, Location),
        live: &mut LiveBytes,
    ) -> Result<(), StoreError> {
        if let Some(mut head) = self.head(slot, key)?
            && let Some(location) = head.location_at(height)
        {
            if old.is_some_and(|old| *location != old) {
                return Ok(());
            }
            *location = new;
            return self.put_head(slot, key, &head, live);
        }
        self.relocate_listed(slot, key, height, (old, new), live)
    }

    fn apply_slot(&self, slot: SlotId, overlay: &SlotOverlay, live: &mut LiveBytes) -> Result<(), StoreError> {
        if overlay.cleared {
            self.clear(slot, live)?;
        }
        for entry in overlay.entries.values() {
            self.apply_entry(slot, entry, overlay.cleared, live)?;
        }
        for repaired in overlay.repaired.values() {
            for (height, (_, location)) in &repaired.transactions {
                self.relocate(slot, &repaired.key, *height, (None, *location), live)?;
            }
        }
        for staged in overlay.staged.values() {
            self.apply_staged(slot, staged, live)?;
        }
        self.put_usages(slot, &overlay.usages)?;
        self.put(slot_key(TOTALS, slot), put_totals(&overlay.totals))
    }

    fn apply_entry(
        &self,
        slot: SlotId,
        entry: &EntryOverlay,
        is_cleared: bool,
        live: &mut LiveBytes,
    ) -> Result<(), StoreError> {
        let key = &entry.key;
        self.forget_staged(slot, key)?;
        let Some(register) = &entry.register else { return self.remove_key(slot, key, live) };
        let before = if is_cleared || entry.is_new { None } else { self.head(slot, key)? };
        let base = register.base;
        if entry.cuts && !is_cleared {
            self.remove_listed(slot, key, entry.gone_from..u64::MAX, live)?;
        }
        if entry.forgets && !is_cleared {
            self.remove_listed(slot, key, 0..base, live)?;
        }
        let old = before.iter().flat_map(Head::located);
        let old = old.filter(|(height, _)| (base..entry.gone_from).contains(height));
        let new = entry.transactions.iter().map(|(transaction, location)| (transaction.height, *location));
        let mut located: Vec<(u64, Location)> = old.chain(new).collect();
        let height = register.head.height;
        let location = located.pop_if(|(last, _)| *last == height).map(|(_, location)| location);
        let below = if location.is_some() { take_few_below(&mut located, height) } else { Vec::new() };
        self.put_listed(slot, key, &located, live)?;
        let held = Held { register: register.clone(), weight: entry.weight };
        self.put_head(slot, key, &Head { held, location, below }, live)
    }

    /// Removes a key's register and the locations of all its transactions.
    fn remove_key(&self, slot: SlotId, key: &Key, live: &mut LiveBytes) -> Result<(), StoreError> {
        self.remove_listed(slot, key, 0..u64::MAX, live)?;
        let before = self.tree.remove(register_key(slot, key.encoded())).map_err(failed)?;
        let before = before.map(|before| decode(&before, take_head)).transpose()?;
        if let Some(before) = before {
            live.remove_all(key.encoded().len(), before.locations());
        }
        Ok(())
    }

    fn put_head(&self, slot: SlotId, key: &Key, head: &Head, live: &mut LiveBytes) -> Result<(), StoreError> {
        let out = put_head(head);
        let before = self.tree.insert(register_key(slot, key.encoded()), out).map_err(failed)?;
        let key_length = key.encoded().len();
        let before = before.map(|before| decode(&before, take_head)).transpose()?;
        if let Some(before) = before {
            live.remove_all(key_length, before.locations());
        }
        live.add_all(key_length, head.locations());
        Ok(())
    }

    /// Removes all registers and locations of a slot.
    fn clear(&self, slot: SlotId, live: &mut LiveBytes) -> Result<(), StoreError> {
        for pair in self.tree.scan_prefix(slot_key(REGISTER, slot)) {
            let (key, value) = pair.map_err(failed)?;
            self.remove(&key)?;
            live.remove_all(key.len() - REGISTER_KEY_BYTES, decode(&value, take_head)?.locations());
        }
        for pair in self.tree.scan_prefix(slot_key(LOCATION, slot)) {
            let (key, value) = pair.map_err(failed)?;
            self.remove(&key)?;
            live.remove_all(key.len() - LOCATION_KEY_BYTES, &decode(&value, take_run)?);
        }
        self.clear_staged(slot)?;
        self.clear_usages(slot)
    }

    /// Makes the index one of before anything was weighed.
    #[cfg(test)]
    pub fn forget_usage(&self) {
        self.tree.remove([COUNTED]).unwrap();
        for pair in self.tree.scan_prefix([USAGE]) {
            self.tree.remove(pair.unwrap().0).unwrap();
        }
        for pair in self.tree.scan_prefix([REGISTER]) {
            let (key, value) = pair.unwrap();
            let head = decode(&value, take_head).unwrap();
            let mut old = Vec::new();
            put_register(&mut old, &head.held.register);
            old.put_u8(u8::from(head.location.is_some()) | if head.below.is_empty() { 0 } else { HAS_BELOW });
            head.location.iter().chain(&head.below).for_each(|location| put_location(&mut old, *location));
            self.tree.insert(key, old).unwrap();
        }
    }

    fn clear_usages(&self, slot: SlotId) -> Result<(), StoreError> {
        for pair in self.tree.scan_prefix(slot_key(USAGE, slot)) {
            self.remove(&pair.map_err(failed)?.0)?;
        }
        Ok(())
    }

    /// Weighs the values of a directory of which nobody did, and counts what they come to: once.
    fn count_all(&self, files: &SegmentFiles) -> Result<(), StoreError> {
        tracing::info!("counting what the keys of each namespace come to: once for this data directory");
        for pair in self.tree.scan_prefix([REGISTER]) {
            let (key, value) = pair.map_err(failed)?;
            let slot = key.get(1..SLOT_KEY_BYTES).and_then(|slot| slot.try_into().ok()).map(u32::from_be_bytes);
            let slot = SlotId(slot.ok_or_else(undecodable)?);
            let name = Bytes::copy_from_slice(key.get(REGISTER_KEY_BYTES..).unwrap_or_default());
            let name = Key::from_encoded(name).map_err(|_| undecodable())?;
            let mut head = decode(&value, take_head)?;
            if is_counted(&name, &head.held.register) {
                head.held.weight = self.weight_of(files, slot, &name, &head)?;
                self.put(key.to_vec(), put_head(&head))?;
            }
        }
        for pair in self.tree.scan_prefix([TOTALS]) {
            let (key, _) = pair.map_err(failed)?;
            let slot = key.get(1..SLOT_KEY_BYTES).and_then(|slot| slot.try_into().ok()).map(u32::from_be_bytes);
            self.recompute_totals(SlotId(slot.ok_or_else(undecodable)?))?;
        }
        Ok(())
    }

    /// What a value weighs, by its last transaction; a structure, and what cannot be read, by its log.
    fn weight_of(&self, files: &SegmentFiles, slot: SlotId, key: &Key, head: &Head) -> Result<u64, StoreError> {
        let last = self.transaction(files, slot, key, head.height())?;
        if let Some(weight) = last.and_then(|last| fold(None, [&last])) {
            return Ok(weight);
        }
        let locations = self.locations(slot, key, head.held.register.base..u64::MAX)?;
        Ok(locations.into_values().map(|location| u64::from(location.length)).sum())
    }

    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> Result<(), StoreError> {
        self.tree.insert(key, value).map(drop).map_err(failed)
    }

    fn remove(&self, key: &[u8]) -> Result<(), StoreError> {
        self.tree.remove(key).map(drop).map_err(failed)
    }
}

impl Index for KeyIndex {
    type Pending = Overlay;

    fn tree(&self) -> &sled::Tree {
        &self.tree
    }

    fn apply(&self, overlay: &Overlay) -> Result<Vec<Location>, StoreError> {
        for (slot, record) in &overlay.records {
            let mut out = Vec::new();
            put_slot_record(&mut out, record);
            self.put(slot_key(RECORD, *slot), out)?;
        }
        for (name, value) in &overlay.meta {
            match value {
                Some(value) => self.put(meta_key(name), value.clone())?,
                None => self.remove(&meta_key(name))?,
            }
        }
        let mut live = LiveBytes::default();
        for (slot, slot_overlay) in &overlay.slots {
            self.apply_slot(*slot, slot_overlay, &mut live)?;
        }
        for moved in &overlay.moved {
            // It counts where it is now if the index still has it where it was.
            let Moved { slot, key, height, old, new } = moved;
            self.relocate(*slot, key, *height, (Some(*old), *new), &mut live)?;
        }
        self.apply_live_bytes(live)?;
        Ok(Vec::new())
    }

    fn prepare(&self, files: &SegmentFiles) -> Result<(), StoreError> {
        self.load_staged()?;
        if self.tree.contains_key([COUNTED]).map_err(failed)? {
            return Ok(());
        }
        if !self.tree.is_empty() {
            self.count_all(files)?;
            // What says that it is done must not be there before what was done.
            self.tree.flush().map_err(failed)?;
        }
        self.put(vec![COUNTED], Vec::new())
    }

    fn recompute_totals(&self, slot: SlotId) -> Result<(), StoreError> {
        let (mut totals, mut usages) = (Totals::default(), BTreeMap::<String, Usage>::new());
        for pair in self.tree.scan_prefix(slot_key(REGISTER, slot)) {
            let (key, value) = pair.map_err(failed)?;
            let key = Bytes::copy_from_slice(key.get(REGISTER_KEY_BYTES..).unwrap_or_default());
            let key = Key::from_encoded(key).map_err(|_| undecodable())?;
            let Head { held, .. } = decode(&value, take_head)?;
            if let Some(weight) = held.counted(&key) {
                usages.entry(key.namespace().to_owned()).or_default().replace(&key, None, Some(weight));
            }
            let register = held.register;
            totals.digest = totals.digest.replace(&key, None, Some(&register));
            totals.size.keys += 1;
            totals.size.tombstones += u64::from(register.head.deleted.is_some());
            totals.size.expiring += u64::from(register.head.deadline.is_some());
            let heights = register.base..register.head.height.saturating_add(1);
            let locations = self.locations(slot, &key, heights)?.into_values();
            totals.size.bytes += locations.map(|location| u64::from(location.length)).sum::<u64>();
        }
        self.clear_usages(slot)?;
        self.put_usages(slot, &usages)?;
        self.put(slot_key(TOTALS, slot), put_totals(&totals))
    }

    fn replay(
        &self,
        files: &SegmentFiles,
        overlay: &mut Overlay,
        record: Replayed,
        is_ahead: bool,
    ) -> Result<bool, StoreError> {
        if is_copies(&record.payload) {
            let Ok((copies, ranges)) = take_copies(record.payload) else { return Ok(false) };
            overlay.apply_copies(copies, &ranges, record.at, record.end);
            return Ok(true);
        }
        let Ok((writes, ranges)) = take_batch(record.payload) else { return Ok(false) };
        let below = Below { heads: None, frozen: None, index: self, files, index_is_ahead: is_ahead };
        overlay.apply(writes, &ranges, record.at, record.end, below)?;
        Ok(true)
    }
}

fn put_head(head: &Head) -> Vec<u8> {
    let Held { register, weight } = &head.held;
    let mut out = Vec::with_capacity(168 + 16 * (register.head.recent.len() + head.below.len()));
    put_register(&mut out, register);
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    out.put_u8(HAS_WEIGHT | flag(head.location.is_some(), HAS_LOCATION) | flag(!head.below.is_empty(), HAS_BELOW));
    if let Some(location) = head.location {
        put_location(&mut out, location);
    }
    out.put_u64(*weight);
    // To the end.
    head.below.iter().for_each(|location| put_location(&mut out, *location));
    out
}

fn take_head(from: &mut Decoder) -> Result<Head, Malformed> {
    let register = take_register(from)?;
    let flags = from.take_u8()?;
    if flags & !(HAS_LOCATION | HAS_WEIGHT | HAS_BELOW) != 0 {
        return Err(Malformed);
    }
    let location = if flags & HAS_LOCATION == 0 { None } else { Some(take_location(from)?) };
    let weight = if flags & HAS_WEIGHT == 0 { 0 } else { from.take_u64()? };
    let below = if flags & HAS_BELOW == 0 { Vec::new() } else { take_run(from)? };
    if below.len() as u64 >= register.head.height.max(1) || (location.is_none() && !below.is_empty()) {
        return Err(Malformed);
    }
    Ok(Head { held: Held { register, weight }, location, below })
}

fn put_usage(usage: &Usage) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    out.put_u64(usage.keys);
    out.put_u64(usage.bytes);
    out
}

fn take_usage(from: &mut Decoder) -> Result<Usage, Malformed> {
    Ok(Usage { keys: from.take_u64()?, bytes: from.take_u64()? })
}

fn put_totals(totals: &Totals) -> Vec<u8> {
    let mut out = totals.digest.0.to_le_bytes().to_vec();
    out.put_u64(totals.size.keys);
    out.put_u64(totals.size.tombstones);
    out.put_u64(totals.size.expiring);
    out.put_u64(totals.size.bytes);
    out
}

fn take_totals(from: &mut Decoder) -> Result<Totals, Malformed> {
    let digest = SlotDigest(u128::from_le_bytes(from.take_array()?));
    let (keys, tombstones) = (from.take_u64()?, from.take_u64()?);
    let (expiring, bytes) = (from.take_u64()?, from.take_u64()?);
    Ok(Totals { digest, size: SlotSize { keys, tombstones, expiring, bytes } })
}

fn slot_key(kind: u8, slot: SlotId) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&slot.0.to_be_bytes());
    key
}

fn usage_key(slot: SlotId, namespace: &str) -> Vec<u8> {
    [&slot_key(USAGE, slot)[..], namespace.as_bytes()].concat()
}

fn meta_key(name: &str) -> Vec<u8> {
    [&[META], name.as_bytes()].concat()
}

fn live_key(segment: u32) -> Vec<u8> {
    [&[LIVE], &segment.to_be_bytes()[..]].concat()
}

/// What the key of something of a slot begins with.
const SLOT_KEY_BYTES: usize = 5;
/// What a register's key holds besides the encoded key.
const REGISTER_KEY_BYTES: usize = 5;
/// What a location's key holds besides the encoded key.
const LOCATION_KEY_BYTES: usize = 15;

fn register_key(slot: SlotId, encoded: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(REGISTER_KEY_BYTES + encoded.len());
    key.push(REGISTER);
    key.extend_from_slice(&slot.0.to_be_bytes());
    key.extend_from_slice(encoded);
    key
}

fn location_key(slot: SlotId, key: &Key, height: u64) -> Vec<u8> {
    let encoded = key.encoded();
    let mut out = Vec::with_capacity(LOCATION_KEY_BYTES + encoded.len());
    out.push(LOCATION);
    out.extend_from_slice(&slot.0.to_be_bytes());
    out.extend_from_slice(&(encoded.len() as u16).to_be_bytes());
    out.extend_from_slice(encoded);
    out.extend_from_slice(&height.to_be_bytes());
    out
}
