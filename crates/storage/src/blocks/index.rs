//! How the block store's index lies in its sled tree. The first byte of a key says what it is:
//!
//! | byte | key | value |
//! |---|---|---|
//! | 0 | – | checkpoint |
//! | 1 | hash | slot, record, location of the content if there is any |
//! | 2 | slot, hash | record |
//! | 3 | slot | digest, blocks, bytes |

use difuse_blocks::BlockRecord;
use difuse_keylog::StoreError;
use difuse_types::{Hash, SlotId};

use super::{
    overlay::{BlockOverlay, SlotTotals, Stored},
    record::{decode as decode_log_record, put_record, take_record},
};
use crate::{
    codec::{Decoder, Encode, Malformed},
    index::{Index, Replayed, decode, failed, put_location, take_location, undecodable, value},
    log::{Location, SegmentFiles},
};

const BLOCK: u8 = 1;
const LISTED: u8 = 2;
const TOTALS: u8 = 3;

/// The index of blocks.
#[derive(Debug)]
pub(crate) struct BlockIndex {
    tree: sled::Tree,
}

impl BlockIndex {
    pub fn new(tree: sled::Tree) -> Self {
        Self { tree }
    }

    pub fn stored(&self, hash: &Hash) -> Result<Option<Stored>, StoreError> {
        value(&self.tree, &block_key(hash), take_stored)
    }

    pub fn totals(&self, slot: SlotId) -> Result<SlotTotals, StoreError> {
        Ok(value(&self.tree, &slot_key(TOTALS, slot), take_totals)?.unwrap_or_default())
    }

    /// The totals of every slot that has any.
    pub fn all_totals(&self) -> Result<Vec<(SlotId, SlotTotals)>, StoreError> {
        let pairs = self.tree.scan_prefix([TOTALS]);
        let decoded = pairs.map(|pair| {
            let (key, value) = pair.map_err(failed)?;
            let slot = key.last_chunk().map(|slot| SlotId(u32::from_be_bytes(*slot))).ok_or_else(undecodable)?;
            Ok((slot, decode(&value, take_totals)?))
        });
        decoded.collect()
    }

    /// The first `limit` records of a slot whose hashes are greater than `after`.
    pub fn list(
        &self,
        slot: SlotId,
        after: Option<Hash>,
        limit: usize,
    ) -> Result<Vec<(Hash, BlockRecord)>, StoreError> {
        let prefix = slot_key(LISTED, slot);
        // The least byte string after this hash.
        let begin = after.map_or_else(|| prefix.clone(), |after| [&prefix[..], after.as_bytes(), &[0]].concat());
        let mut found = Vec::new();
        for pair in self.tree.range(begin..).take(limit) {
            let (key, value) = pair.map_err(failed)?;
            if !key.starts_with(&prefix) {
                break;
            }
            let hash = key.last_chunk().map(|hash| Hash(*hash)).ok_or_else(undecodable)?;
            found.push((hash, decode(&value, take_record)?));
        }
        Ok(found)
    }

    /// The first `limit` blocks whose hashes are greater than `after`, and where the content of each lies.
    pub fn contents(&self, after: Option<Hash>, limit: usize) -> Result<Vec<(Hash, Option<Location>)>, StoreError> {
        let begin = after.map_or_else(|| vec![BLOCK], |after| [&block_key(&after)[..], &[0]].concat());
        let pairs = self.tree.range(begin..vec![BLOCK + 1]).take(limit);
        let decoded = pairs.map(|pair| {
            let (key, value) = pair.map_err(failed)?;
            let hash = key.last_chunk().map(|hash| Hash(*hash)).ok_or_else(undecodable)?;
            Ok((hash, decode(&value, take_stored)?.location))
        });
        decoded.collect()
    }

    /// Removes a slot's entries; adds where their content lies to `unused`.
    fn clear(&self, slot: SlotId, unused: &mut Vec<(Hash, Location)>) -> Result<(), StoreError> {
        for (hash, _) in self.list(slot, None, usize::MAX)? {
            let location = self.stored(&hash)?.and_then(|stored| stored.location);
            unused.extend(location.map(|location| (hash, location)));
            self.tree.remove(block_key(&hash)).map_err(failed)?;
            self.tree.remove(listed_key(slot, &hash)).map_err(failed)?;
        }
        Ok(())
    }

    fn put(&self, hash: &Hash, stored: &Stored) -> Result<(), StoreError> {
        let mut block = Vec::new();
        block.put_u32(stored.slot.0);
        put_record(&mut block, &stored.record);
        block.put_u8(u8::from(stored.location.is_some()));
        if let Some(location) = stored.location {
            put_location(&mut block, location);
        }
        let mut listed = Vec::new();
        put_record(&mut listed, &stored.record);
        self.tree.insert(block_key(hash), block).map_err(failed)?;
        self.tree.insert(listed_key(stored.slot, hash), listed).map(drop).map_err(failed)
    }

    fn put_totals(&self, slot: SlotId, totals: &SlotTotals) -> Result<(), StoreError> {
        let mut out = totals.digest.to_le_bytes().to_vec();
        out.put_u64(totals.blocks);
        out.put_u64(totals.bytes);
        self.tree.insert(slot_key(TOTALS, slot), out).map(drop).map_err(failed)
    }
}

impl Index for BlockIndex {
    type Pending = BlockOverlay;

    fn tree(&self) -> &sled::Tree {
        &self.tree
    }

    fn apply(&self, overlay: &BlockOverlay) -> Result<Vec<Location>, StoreError> {
        let mut replaced = Vec::new();
        for (slot, _) in overlay.slots.iter().filter(|(_, slot)| slot.cleared) {
            self.clear(*slot, &mut replaced)?;
        }
        for (hash, stored) in &overlay.entries {
            let before = self.stored(hash)?.and_then(|before| before.location);
            replaced.extend(before.map(|before| (*hash, before)));
            self.put(hash, stored)?;
        }
        for (slot, slot_overlay) in &overlay.slots {
            self.put_totals(*slot, &slot_overlay.totals)?;
        }
        let kept = |hash: &Hash| overlay.entries.get(hash).and_then(|stored| stored.location);
        let unused = replaced.into_iter().filter(|(hash, location)| kept(hash) != Some(*location));
        Ok(unused.map(|(_, location)| location).chain(overlay.unused.iter().copied()).collect())
    }

    fn recompute_totals(&self, slot: SlotId) -> Result<(), StoreError> {
        let mut totals = SlotTotals::default();
        for (hash, record) in self.list(slot, None, usize::MAX)? {
            let location = self.stored(&hash)?.and_then(|stored| stored.location);
            totals.add(&hash, &record, location);
        }
        self.put_totals(slot, &totals)
    }

    fn replay(
        &self,
        _files: &SegmentFiles,
        overlay: &mut BlockOverlay,
        replayed: Replayed,
        _is_ahead: bool,
    ) -> Result<bool, StoreError> {
        let Ok(log_record) = decode_log_record(&replayed.payload, replayed.at) else { return Ok(false) };
        overlay.apply(log_record, None, replayed.end, None, self)?;
        Ok(true)
    }
}

fn take_stored(from: &mut Decoder) -> Result<Stored, Malformed> {
    let (slot, record) = (SlotId(from.take_u32()?), take_record(from)?);
    let location = match from.take_u8()? {
        0 => None,
        1 => Some(take_location(from)?),
        _ => return Err(Malformed),
    };
    Ok(Stored { slot, record, location, content: None, sequence: 0 })
}

fn take_totals(from: &mut Decoder) -> Result<SlotTotals, Malformed> {
    let digest = u128::from_le_bytes(from.take_array()?);
    Ok(SlotTotals { digest, blocks: from.take_u64()?, bytes: from.take_u64()? })
}

fn block_key(hash: &Hash) -> Vec<u8> {
    [&[BLOCK], &hash.as_bytes()[..]].concat()
}

fn slot_key(kind: u8, slot: SlotId) -> Vec<u8> {
    [&[kind], &slot.0.to_be_bytes()[..]].concat()
}

fn listed_key(slot: SlotId, hash: &Hash) -> Vec<u8> {
    [&slot_key(LISTED, slot)[..], hash.as_bytes()].concat()
}
