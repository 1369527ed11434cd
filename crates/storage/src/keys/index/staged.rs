//! What is staged of chains. Its bodies are listed with those of the chains; which keys have any is known without asking
//! sled, because every write of a key asks.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use difuse_keylog::StoreError;
use difuse_types::{Key, SlotId};

use super::{KeyIndex, LiveBytes, REGISTER_KEY_BYTES, STAGED, slot_key};
use crate::{
    codec::{Decoder, Encode, Malformed},
    index::{decode, failed, undecodable},
    keys::overlay::{Staged, StagedOverlay},
};

/// What is staged, by slot and encoded key: as it is in sled.
#[derive(Debug, Clone, Default)]
pub(super) struct StagedKeys(Arc<Mutex<BTreeMap<(SlotId, Bytes), Staged>>>);

impl StagedKeys {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(SlotId, Bytes), Staged>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeyIndex {
    /// What is staged of a key's chain.
    pub fn staged(&self, slot: SlotId, key: &Key) -> Option<Staged> {
        let staged = self.staged.lock();
        if staged.is_empty() { None } else { staged.get(&(slot, key.encoded().clone())).cloned() }
    }

    /// Finds what is staged, once, when the store is opened.
    pub(super) fn load_staged(&self) -> Result<(), StoreError> {
        let mut found = self.staged.lock();
        for pair in self.tree.scan_prefix([STAGED]) {
            let (key, value) = pair.map_err(failed)?;
            let (slot, encoded) = key.get(1..).and_then(<[u8]>::split_first_chunk).ok_or_else(undecodable)?;
            let place = (SlotId(u32::from_be_bytes(*slot)), Bytes::copy_from_slice(encoded));
            found.insert(place, decode(&value, take_staged)?);
        }
        Ok(())
    }

    /// Lists what was staged. What it replaces lies above the head.
    pub(super) fn apply_staged(
        &self,
        slot: SlotId,
        here: &StagedOverlay,
        live: &mut LiveBytes,
    ) -> Result<(), StoreError> {
        let StagedOverlay { key, staged, replaces, transactions } = here;
        if *replaces {
            let above = self.head(slot, key)?.map_or(0, |head| head.height().saturating_add(1));
            self.remove_listed(slot, key, above..u64::MAX, live)?;
        }
        let located: Vec<_> = transactions.iter().map(|(one, location)| (one.height, *location)).collect();
        self.put_listed(slot, key, &located, live)?;
        self.put(staged_key(slot, key.encoded()), put_staged(staged))?;
        self.staged.lock().insert((slot, key.encoded().clone()), staged.clone());
        Ok(())
    }

    /// Nothing is staged of a key any more: it is listed as part of the chain, or not at all.
    pub(super) fn forget_staged(&self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        if self.staged(slot, key).is_some() {
            self.remove(&staged_key(slot, key.encoded()))?;
            self.staged.lock().remove(&(slot, key.encoded().clone()));
        }
        Ok(())
    }

    /// The same of all keys of a slot.
    pub(super) fn clear_staged(&self, slot: SlotId) -> Result<(), StoreError> {
        for pair in self.tree.scan_prefix(slot_key(STAGED, slot)) {
            self.remove(&pair.map_err(failed)?.0)?;
        }
        self.staged.lock().retain(|(of, _), _| *of != slot);
        Ok(())
    }
}

fn put_staged(staged: &Staged) -> Vec<u8> {
    let mut out = Vec::with_capacity(33);
    out.put_u64(staged.heights.start);
    out.put_u64(staged.heights.end);
    out.put_u64(staged.bytes);
    out.put_u8(u8::from(staged.weight.is_some()));
    out.put_u64(staged.weight.unwrap_or_default());
    out
}

fn take_staged(from: &mut Decoder) -> Result<Staged, Malformed> {
    let heights = from.take_u64()?..from.take_u64()?;
    let bytes = from.take_u64()?;
    let (is_known, weight) = (from.take_u8()? != 0, from.take_u64()?);
    Ok(Staged { heights, bytes, weight: is_known.then_some(weight) })
}

fn staged_key(slot: SlotId, encoded: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(REGISTER_KEY_BYTES + encoded.len());
    key.extend_from_slice(&slot_key(STAGED, slot));
    key.extend_from_slice(encoded);
    key
}
