use std::collections::BTreeMap;

use bytes::Bytes;
use difuse_blocks::BlockRecord;
use difuse_keylog::StoreError;
use difuse_types::{Hash, SlotId};

use super::{
    index::BlockIndex,
    record::{LogRecord, record_digest},
};
use crate::{
    index::Pending,
    log::{Checkpoint, Location},
};

/// A guess of what an entry takes in memory.
const ENTRY_BYTES: usize = 250;

/// What a run of records changed: the last state of every block that they touched.
#[derive(Debug)]
pub(crate) struct BlockOverlay {
    pub entries: BTreeMap<Hash, Stored>,
    pub slots: BTreeMap<SlotId, SlotOverlay>,
    /// Content that these records stored and gave up again.
    pub unused: Vec<Location>,
    bytes: usize,
    end: Checkpoint,
}

/// What changed in a slot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlotOverlay {
    /// Nothing that lies below this overlay counts any more.
    pub cleared: bool,
    pub totals: SlotTotals,
}

/// A block as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub slot: SlotId,
    pub record: BlockRecord,
    /// Where its content lies; `None` for a tombstone.
    pub location: Option<Location>,
    /// The content, as long as it may not be in the file yet.
    pub content: Option<Bytes>,
    /// The record of the log that says so; 0 if it is known to be durable.
    pub sequence: u64,
}

/// Digest and size of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SlotTotals {
    pub digest: u128,
    pub blocks: u64,
    pub bytes: u64,
}

impl SlotTotals {
    pub fn add(&mut self, hash: &Hash, record: &BlockRecord, location: Option<Location>) {
        self.digest = self.digest.wrapping_add(record_digest(hash, record));
        self.blocks += u64::from(location.is_some());
        self.bytes += location.map_or(0, |location| u64::from(location.length));
    }

    fn subtract(&mut self, hash: &Hash, record: &BlockRecord, location: Option<Location>) {
        self.digest = self.digest.wrapping_sub(record_digest(hash, record));
        self.blocks = self.blocks.saturating_sub(u64::from(location.is_some()));
        self.bytes = self.bytes.saturating_sub(location.map_or(0, |location| u64::from(location.length)));
    }
}

impl Pending for BlockOverlay {
    fn new(end: Checkpoint) -> Self {
        Self { entries: BTreeMap::new(), slots: BTreeMap::new(), unused: Vec::new(), bytes: 0, end }
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

impl BlockOverlay {
    pub fn is_cleared(&self, slot: SlotId) -> bool {
        self.slots.get(&slot).is_some_and(|overlay| overlay.cleared)
    }

    /// Takes over a record, after which the log ends at `end`.
    pub fn apply(
        &mut self,
        log_record: LogRecord,
        content: Option<Bytes>,
        end: Checkpoint,
        below: Option<&Self>,
        index: &BlockIndex,
    ) -> Result<(), StoreError> {
        match log_record {
            LogRecord::Clear(slot) => self.clear(slot),
            LogRecord::Set { slot, hash, record, content: location } => {
                let stored = Stored { slot, record, location, content, sequence: end.sequence };
                self.set(hash, stored, below, index)?;
            }
        }
        self.bytes += ENTRY_BYTES;
        self.end = end;
        Ok(())
    }

    fn clear(&mut self, slot: SlotId) {
        let (entries, unused) = (&mut self.entries, &mut self.unused);
        entries.retain(|_, stored| {
            let stays = stored.slot != slot;
            unused.extend(stored.location.filter(|_| !stays));
            stays
        });
        self.slots.insert(slot, SlotOverlay { cleared: true, totals: SlotTotals::default() });
    }

    fn set(&mut self, hash: Hash, stored: Stored, below: Option<&Self>, index: &BlockIndex) -> Result<(), StoreError> {
        let layers = [Some(&*self), below];
        let before = find(layers.into_iter().flatten(), index, &hash)?;
        let slot = self.slot(stored.slot, below, index)?;
        if let Some(before) = &before {
            slot.totals.subtract(&hash, &before.record, before.location);
        }
        slot.totals.add(&hash, &stored.record, stored.location);
        let location = stored.location;
        let replaced = self.entries.insert(hash, stored).and_then(|stored| stored.location);
        self.unused.extend(replaced.filter(|replaced| Some(*replaced) != location));
        Ok(())
    }

    fn slot(&mut self, slot: SlotId, below: Option<&Self>, index: &BlockIndex) -> Result<&mut SlotOverlay, StoreError> {
        let known = self.slots.get(&slot).copied();
        let overlay = match (known, below.and_then(|below| below.slots.get(&slot))) {
            (Some(known), _) => known,
            (None, Some(below)) => SlotOverlay { cleared: false, totals: below.totals },
            (None, None) => SlotOverlay { cleared: false, totals: index.totals(slot)? },
        };
        Ok(self.slots.entry(slot).or_insert(overlay))
    }
}

/// What is stored of a block, in these overlays (the newest first) or below them.
pub(crate) fn find<'a>(
    layers: impl Iterator<Item = &'a BlockOverlay> + Clone,
    index: &BlockIndex,
    hash: &Hash,
) -> Result<Option<Stored>, StoreError> {
    for (depth, layer) in layers.clone().enumerate() {
        if let Some(stored) = layer.entries.get(hash) {
            let is_cleared = layers.clone().take(depth).any(|above| above.is_cleared(stored.slot));
            return Ok(Some(stored.clone()).filter(|_| !is_cleared));
        }
    }
    let stored = index.stored(hash)?;
    Ok(stored.filter(|stored| !layers.clone().any(|layer| layer.is_cleared(stored.slot))))
}
