//! What is staged of chains and not in the index yet.
//!
//! It is no entry of its key: nothing that is asked of the key shows it. A register that is written next makes it part of its
//! entry, if the transactions that come with it go on where it ends, and lets it go else.

use std::ops::Range;

use difuse_keylog::{StoreError, Transaction};
use difuse_types::{Key, SlotId};

use super::{Below, Known, Overlay, TRANSACTION_BYTES};
use crate::{
    keys::weight::{Held, fold},
    log::Location,
};

/// What is staged of a chain, in all layers together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Staged {
    pub heights: Range<u64>,
    /// What the bodies take in the log.
    pub bytes: u64,
    /// What the key's value would weigh after it, if that is known.
    pub weight: Option<u64>,
}

/// What was staged since something went to the index.
#[derive(Debug)]
pub(crate) struct StagedOverlay {
    pub key: Key,
    /// With what lies below this overlay.
    pub staged: Staged,
    /// Whether nothing that was staged below this overlay counts any more.
    pub replaces: bool,
    /// By height, at least one.
    pub transactions: Vec<(Transaction, Location)>,
}

impl Overlay {
    /// What is staged of a key's chain as far as this overlay tells.
    pub fn staged(&self, slot: SlotId, key: &Key) -> Known<Staged> {
        let Some(overlay) = self.slots.get(&slot) else { return Known::Unknown };
        match overlay.staged.get(key.encoded()) {
            Some(here) => Known::Answer(Some(here.staged.clone())),
            // A register that was written, or dropped, leaves nothing staged.
            None if overlay.cleared || overlay.entries.contains_key(key.encoded()) => Known::Answer(None),
            None => Known::Unknown,
        }
    }

    /// The same with what lies below.
    pub(super) fn staged_before(&self, slot: SlotId, key: &Key, below: Below<'_>) -> Option<Staged> {
        for overlay in [Some(self), below.frozen].into_iter().flatten() {
            if let Known::Answer(staged) = overlay.staged(slot, key) {
                return staged;
            }
        }
        below.index.staged(slot, key)
    }

    /// Takes over a part of a chain that is staged.
    pub(super) fn stage(
        &mut self,
        slot: SlotId,
        key: Key,
        first_height: u64,
        transactions: Vec<(Transaction, Location)>,
        below: Below<'_>,
    ) -> Result<(), StoreError> {
        let (Some((first, _)), Some((last, _))) = (transactions.first(), transactions.last()) else { return Ok(()) };
        let replaces = first.height == first_height;
        let before = self.staged_before(slot, &key, below).filter(|_| !replaces);
        let weight = match &before {
            Some(before) => before.weight,
            None if first.height == 1 => Some(0),
            None => {
                let is_parent = |held: &Held| held.register.head.hash == first.previous;
                self.held_before(slot, &key, below)?.filter(is_parent).map(|held| held.weight)
            }
        };
        let added: u64 = transactions.iter().map(|(_, location)| u64::from(location.length)).sum();
        let staged = Staged {
            heights: first_height..last.height.saturating_add(1),
            bytes: before.map_or(0, |before| before.bytes) + added,
            weight: fold(weight, transactions.iter().map(|(transaction, _)| transaction)),
        };
        self.bytes += added as usize + TRANSACTION_BYTES * transactions.len();
        let overlay = self.slot(slot, below)?;
        match overlay.staged.get_mut(key.encoded()) {
            Some(here) if !replaces => {
                here.transactions.extend(transactions);
                here.staged = staged;
            }
            _ => {
                let encoded = key.encoded().clone();
                overlay.staged.insert(encoded, StagedOverlay { key, staged, replaces, transactions });
            }
        }
        Ok(())
    }
}
