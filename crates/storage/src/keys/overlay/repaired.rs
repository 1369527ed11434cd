//! Transactions that were written again, because they could not be read, and whose new places are not in the index yet.

use std::collections::BTreeMap;

use difuse_keylog::{StoreError, Transaction};
use difuse_types::{Key, SlotId};

use super::{Below, Overlay, SlotOverlay, TRANSACTION_BYTES};
use crate::log::Location;

/// Those of one key.
#[derive(Debug)]
pub(crate) struct RepairedOverlay {
    pub key: Key,
    pub transactions: BTreeMap<u64, (Transaction, Location)>,
}

impl Overlay {
    /// Takes over transactions that are stored already.
    pub(super) fn repair(
        &mut self,
        slot: SlotId,
        key: Key,
        transactions: Vec<(Transaction, Location)>,
        below: Below<'_>,
    ) -> Result<(), StoreError> {
        let Some(held) = self.held_before(slot, &key, below)? else { return Ok(()) };
        let heights = held.register.base..=held.register.head.height;
        let bytes =
            transactions.iter().map(|(_, location)| location.length as usize + TRANSACTION_BYTES).sum::<usize>();
        self.bytes += bytes;
        let encoded = key.encoded().clone();
        let overlay = self.slot(slot, below)?;
        let of_key =
            overlay.repaired.entry(encoded).or_insert_with(|| RepairedOverlay { key, transactions: BTreeMap::new() });
        let kept = transactions.into_iter().filter(|(transaction, _)| heights.contains(&transaction.height));
        of_key.transactions.extend(kept.map(|(transaction, location)| (transaction.height, (transaction, location))));
        Ok(())
    }
}

impl SlotOverlay {
    /// A transaction that was written again.
    pub(super) fn repaired(&self, key: &Key, height: u64) -> Option<&Transaction> {
        let of_key = self.repaired.get(key.encoded())?;
        of_key.transactions.get(&height).map(|(transaction, _)| transaction)
    }

    /// The chain is another one from a height on, and begins at its base.
    pub(super) fn cut_repaired(&mut self, key: &Key, base: u64, gone_from: u64) {
        if let Some(of_key) = self.repaired.get_mut(key.encoded()) {
            of_key.transactions.retain(|height, _| (base..gone_from).contains(height));
        }
    }
}
