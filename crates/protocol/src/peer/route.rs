//! Whom to ask about a slot: who should hold it by the host table, in one hop, as a rule; and where nobody whom the table
//! shows was of use, whom the ring's fingers lead to.

use std::{collections::BTreeMap, time::Duration};

use difuse_keylog::{Store, StoreError};
use difuse_ring::{LookupId, VirtualNodeId};
use difuse_types::{BoundedMap, Instant, NodeId, SlotId};

use super::Peer;

/// How long what a lookup found, or that it found nobody, stands before the slot is looked up again.
const LOOK_UP_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How many slots' owners are remembered.
const FOUND_MAX: usize = 4096;

/// Lookups by fingers: at most one at a time for each slot, for all requests that want it.
pub(crate) struct Lookups {
    running: BTreeMap<LookupId, SlotId>,
    latest: BoundedMap<SlotId, Latest>,
}

/// The last lookup of a slot.
#[derive(Clone, Copy)]
struct Latest {
    started_at: Instant,
    owner: Option<NodeId>,
}

impl Default for Lookups {
    fn default() -> Self {
        Self { running: BTreeMap::new(), latest: BoundedMap::new(FOUND_MAX) }
    }
}

impl<S: Store> Peer<S> {
    /// Whom to ask about a slot after `tries` were in vain: its successors by the table one after the other, then the
    /// owner that the fingers led to, and again from the start. `None` while nobody is known.
    pub(super) fn guess(&self, slot: SlotId, tries: u32) -> Option<NodeId> {
        let mut nodes = self.alive(self.ring.successors(slot));
        let found = self.lookups.latest.get(&slot).and_then(|latest| latest.owner);
        nodes.extend(self.alive(found.filter(|owner| !nodes.contains(owner))));
        nodes.get(tries as usize % nodes.len().max(1)).copied()
    }

    /// Begins to look up the slot's owner by fingers, once everybody whom the table shows was asked in vain.
    pub(super) fn look_up_when_lost(&mut self, slot: SlotId, tries: u32) {
        // As a rule the first one asked is the right one: that costs nothing here.
        if tries == 0 && self.is_joined {
            return;
        }
        let shown = self.alive(self.ring.successors(slot)).len();
        let is_recent = |latest: &Latest| self.now.since(latest.started_at) < LOOK_UP_AGAIN_AFTER;
        if (tries as usize) < shown || self.lookups.latest.get(&slot).is_some_and(is_recent) {
            return;
        }
        let owner = self.lookups.latest.get(&slot).and_then(|latest| latest.owner);
        self.lookups.latest.insert(slot, Latest { started_at: self.now, owner });
        let mut outputs = Vec::new();
        let lookup = self.ring.lookup(self.now, self.settings.slots.position(slot), &mut outputs);
        self.lookups.running.insert(lookup, slot);
        self.take_ring_outputs(outputs);
    }

    /// A lookup has ended: the requests that wait for it go on at once.
    pub(super) fn handle_lookup_done(
        &mut self,
        lookup: LookupId,
        owner: Option<VirtualNodeId>,
    ) -> Result<(), StoreError> {
        let Some(slot) = self.lookups.running.remove(&lookup) else { return Ok(()) };
        let owner = owner.map(|owner| owner.node);
        self.lookups.latest.insert(slot, Latest { started_at: self.now, owner });
        if owner.is_some_and(|owner| owner != self.me) {
            self.resume_keys(slot)?;
            self.resume_block_requests(slot);
        }
        Ok(())
    }
}
