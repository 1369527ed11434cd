use std::{collections::BTreeMap, io, sync::Arc};

use bytes::Bytes;
use difuse_blocks::{BlockRecord, DeleteDecision, PutDecision, decide_delete, decide_put};
use difuse_keylog::StoreError;
use difuse_types::{Hash, SlotId};

use super::{cleaner::Cleaning, contents::NewContent, index::BlockIndex, overlay::find, record::LogRecord};
use crate::{
    Options, Statistics,
    cleaner::Cleaner,
    index::Core,
    log::{Admission, SegmentFiles},
};

/// The store of one node's blocks: a handle that can be cloned and used from many threads. All calls block; writes
/// return when they are durable, and those that wait at the same time share a flush. When the last handle is dropped,
/// everything is written, flushed and indexed.
///
/// Every call fails with [`StoreError::Failed`] after a failed write or flush; blocks are refused with
/// [`StoreError::Full`] while the disk is full. Content that is not what its hash says, or cannot be read, is never
/// returned: its record is marked as lost, and any put of the block stores it again.
#[derive(Debug, Clone)]
pub struct BlockStore {
    shared: Arc<Shared>,
}

/// What a node holds in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockTotals {
    /// Blocks, tombstones not among them.
    pub blocks: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core<BlockIndex>>,
    cleaner: Cleaner,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.cleaner.stop();
        self.core.stop(false);
    }
}

impl BlockStore {
    /// The store on `core`, and the thread that cleans its files.
    pub(crate) fn start(core: Arc<Core<BlockIndex>>, options: &Options) -> io::Result<Self> {
        let cleaning = Cleaning::new(core.clone(), options.block_segment_bytes);
        let cleaner = cleaning.start(options.clean_every).inspect_err(|_| core.stop(false))?;
        Ok(Self { shared: Arc::new(Shared { core, cleaner }) })
    }

    /// Stores a block whose content has this hash (which is not checked here), unless a record stands against it.
    pub fn put(
        &self,
        slot: SlotId,
        hash: Hash,
        bytes: Bytes,
        version: u64,
        referenced: bool,
    ) -> Result<PutDecision, StoreError> {
        let crc = crc32fast::hash(&bytes);
        let core = self.core();
        let layers = core.lock_with_room(Admission::WithRoom)?;
        let before = find(layers.newest_first(), &core.index, &hash)?;
        let existing = before.as_ref().map(|before| before.record);
        let decision = decide_put(existing, version, referenced);
        let length = bytes.len() as u32;
        let Some(record) = record_after_put(
            existing,
            decision,
            BlockRecord { version, present: true, referenced, lost: false, length },
        ) else {
            drop(layers);
            return core.wait_for(before.map_or(0, |before| before.sequence)).map(|()| decision);
        };
        let end = match before.and_then(|before| before.location) {
            Some(location) => core.append(layers, LogRecord::Set { slot, hash, record, content: Some(location) })?,
            None => core.append_content(layers, NewContent { slot, hash, record, bytes, crc }, Admission::WithRoom)?,
        };
        core.wait_for(end)?;
        core.forget_content(&hash, end);
        Ok(decision)
    }

    /// What is recorded of a block; a tombstone is a record too.
    pub fn stat(&self, hash: &Hash) -> Result<Option<BlockRecord>, StoreError> {
        Ok(self.core().find(hash)?.map(|stored| stored.record))
    }

    /// A block's record and content, checked against its hash; `None` if the content is not here, or is lost.
    pub fn read(&self, hash: &Hash) -> Result<Option<(BlockRecord, Bytes)>, StoreError> {
        self.core().read_by(hash, SegmentFiles::read)
    }

    /// Reads a block's content from the disk again, whatever is kept of it in memory, and checks it against its hash:
    /// gives what is recorded of the block, which is lost if its content was found damaged now or before.
    pub fn verify(&self, hash: &Hash) -> Result<Option<BlockRecord>, StoreError> {
        match self.core().read_by(hash, SegmentFiles::read_from_disk)? {
            Some((record, _)) => Ok(Some(record)),
            None => self.stat(hash),
        }
    }

    /// Records a block whose content nobody has any more, so that the loss stays known; `record` must be one of a lost
    /// block. Without effect if more is known of it here.
    pub fn note_lost(&self, slot: SlotId, hash: Hash, record: BlockRecord) -> Result<(), StoreError> {
        let core = self.core();
        let layers = core.lock_with_room(Admission::Always)?;
        let before = find(layers.newest_first(), &core.index, &hash)?;
        let merged = before.as_ref().map_or(record, |before| before.record.merge(record));
        if !merged.lost || before.as_ref().is_some_and(|before| before.record == merged) {
            return Ok(());
        }
        let end = core.append(layers, LogRecord::Set { slot, hash, record: merged, content: None })?;
        core.wait_for(end)
    }

    /// Marks a block as deleted unless a record stands against it. The space is freed later.
    pub fn delete(&self, slot: SlotId, hash: Hash, version: u64) -> Result<DeleteDecision, StoreError> {
        let core = self.core();
        let layers = core.lock_with_room(Admission::Always)?;
        let before = find(layers.newest_first(), &core.index, &hash)?;
        let decision = decide_delete(before.as_ref().map(|before| before.record), version);
        if decision != DeleteDecision::Delete {
            drop(layers);
            return core.wait_for(before.map_or(0, |before| before.sequence)).map(|()| decision);
        }
        // Without the length, which a member that never had the block does not know: all tombstones are alike.
        let record = BlockRecord { version, present: false, referenced: false, lost: false, length: 0 };
        let end = core.append(layers, LogRecord::Set { slot, hash, record, content: None })?;
        core.wait_for(end).map(|()| decision)
    }

    /// At most `limit` records of a slot, tombstones among them, in the order of hashes, after `after`.
    pub fn list(
        &self,
        slot: SlotId,
        after: Option<Hash>,
        limit: usize,
    ) -> Result<Vec<(Hash, BlockRecord)>, StoreError> {
        let core = self.core();
        let mut found = BTreeMap::new();
        let layers = core.lock();
        let mut is_cleared = false;
        for layer in layers.newest_first() {
            if is_cleared {
                break;
            }
            let is_wanted = |hash: &Hash| after.is_none_or(|after| *hash > after);
            let entries = layer.entries.range(after.unwrap_or(Hash::ZERO)..);
            let wanted = entries.filter(|(hash, stored)| stored.slot == slot && is_wanted(hash)).take(limit);
            wanted.for_each(|(hash, stored)| {
                found.entry(*hash).or_insert(stored.record);
            });
            is_cleared = layer.is_cleared(slot);
        }
        // The lock is kept, so that what moves to the index meanwhile is not listed as it was before.
        if !is_cleared {
            for (hash, record) in core.index.list(slot, after, limit)? {
                found.entry(hash).or_insert(record);
            }
        }
        drop(layers);
        Ok(found.into_iter().take(limit).collect())
    }

    /// The wrapping sum of the digests of a slot's records.
    pub fn digest(&self, slot: SlotId) -> Result<u128, StoreError> {
        let core = self.core();
        let layers = core.lock();
        let known = layers.newest_first().find_map(|layer| layer.slots.get(&slot)).map(|slot| slot.totals);
        Ok(known.map_or_else(|| core.index.totals(slot), Ok)?.digest)
    }

    /// Forgets all blocks and records of a slot. Their space is freed later.
    pub fn clear_slot(&self, slot: SlotId) -> Result<(), StoreError> {
        let core = self.core();
        let layers = core.lock_with_room(Admission::Always)?;
        let end = core.append(layers, LogRecord::Clear(slot))?;
        core.wait_for(end)
    }

    /// What there is in all slots.
    pub fn totals(&self) -> Result<BlockTotals, StoreError> {
        let core = self.core();
        let layers = core.lock();
        let mut slots: BTreeMap<_, _> = core.index.all_totals()?.into_iter().collect();
        for layer in [layers.frozen.as_deref(), Some(&layers.active)].into_iter().flatten() {
            slots.extend(layer.slots.iter().map(|(slot, overlay)| (*slot, overlay.totals)));
        }
        let sum = |sum: BlockTotals, totals: &super::overlay::SlotTotals| BlockTotals {
            blocks: sum.blocks + totals.blocks,
            bytes: sum.bytes + totals.bytes,
        };
        Ok(slots.values().fold(BlockTotals::default(), sum))
    }

    /// What was written since the store was opened.
    pub fn statistics(&self) -> Statistics {
        self.core().log.statistics()
    }

    /// Ends the store as if the process were killed: for tests.
    #[doc(hidden)]
    pub fn crash(self) {
        self.shared.cleaner.stop();
        self.core().stop(true);
    }

    pub(super) fn core(&self) -> &Arc<Core<BlockIndex>> {
        &self.shared.core
    }
}

/// The record to write, if any: a block that is there may still gain a version or a reference.
fn record_after_put(existing: Option<BlockRecord>, decision: PutDecision, put: BlockRecord) -> Option<BlockRecord> {
    let merged = existing.map_or(put, |existing| existing.merge(put));
    let changes = !matches!(decision, PutDecision::Superseded { .. }) && existing != Some(merged);
    changes.then_some(merged)
}
