//! Dropping registers of keys that have no value, when the leader says so: see [`crate::leader`]'s `tombstones`.

use difuse_types::{Key, NodeId, SlotId};

use super::Standing;
use crate::{
    Ballot,
    keylog::Keylog,
    rule::Rule,
    store::{Store, StoreError, Write},
};

impl<S: Store> Keylog<S> {
    /// Drops registers that were accepted up to these ballots, and with them, in one batch, promises to accept nothing up
    /// to `through` for a key that has none: a proposal of the key's earlier life that comes late must not bring it back.
    pub(crate) fn handle_drop(
        &mut self,
        from: NodeId,
        slot: SlotId,
        through: Ballot,
        keys: &[(Key, Ballot)],
    ) -> Result<(), StoreError> {
        if let Standing::Dealt = self.check_term(from, slot, through.term)? {
            return Ok(());
        }
        let Some(mut record) = self.slots.get(&slot).map(|state| state.record.clone()) else { return Ok(()) };
        if record.proposed.is_some() {
            // The epoch may be over: nothing of it changes any more.
            return Ok(());
        }
        record.dropped = record.dropped.max(Some(through));
        let mut writes = vec![Write::Slot(Box::new(record.clone()))];
        let mut dropped = Vec::new();
        for (key, ballot) in keys {
            if self.store.register(slot, key)?.is_some_and(|register| register.ballot <= *ballot) {
                writes.push(Write::Drop { slot, key: key.clone() });
                dropped.push(key);
            }
        }
        self.write(writes)?;
        if let Some(state) = self.slots.get_mut(&slot) {
            state.record = record;
            dropped.iter().for_each(|key| state.committed.note_dropped(key));
        }
        for key in dropped {
            self.damages.remove(&(slot, key.clone()));
        }
        Ok(())
    }

    /// Whether a proposal for a key that has no register here may be one of an earlier life of the key.
    pub(super) fn may_be_of_a_dropped_key(&self, slot: SlotId, ballot: Ballot) -> bool {
        let dropped = self.slots.get(&slot).and_then(|state| state.record.dropped);
        dropped.is_some_and(|dropped| ballot <= dropped) && !self.breaks(Rule::DroppedFloor)
    }
}
