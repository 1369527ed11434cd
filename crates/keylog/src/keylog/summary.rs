//! How the slots of this node stand, for people and for the ring's `settled`.

use std::collections::BTreeMap;

use difuse_structures::Registry;
use difuse_types::{Key, SlotId};

use super::Keylog;
use crate::{
    leader::{Phase, change::is_same_group},
    store::{SlotSize, Store, StoreError, Usage},
};

/// How one slot stands on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotSummary {
    /// The slot.
    pub slot: SlotId,
    /// Whether this node leads it.
    pub is_led: bool,
    /// Whether this node is a member, old or to be.
    pub is_member: bool,
    /// How many members it has (the old ones while it moves).
    pub members: usize,
    /// Whether it is moving to other members.
    pub is_moving: bool,
    /// Known to a leader only: its members are who the ring proposes, and all hold what this node does.
    pub is_settled: bool,
}

impl<S: Store> Keylog<S> {
    /// How every slot stands.
    pub fn summaries(&self) -> impl Iterator<Item = SlotSummary> {
        self.slots.iter().map(|(slot, state)| {
            let configuration = &state.record.configuration;
            let desired = state.desired.as_ref().map(|(members, _)| members.as_slice()).unwrap_or_default();
            let is_settled = match &state.phase {
                Phase::Leading(leadership) => {
                    leadership.change.is_none()
                        && !configuration.is_joint()
                        && !configuration.is_recovery()
                        && is_same_group(desired, &configuration.members)
                        && configuration.members.iter().all(|node| leadership.in_sync.contains(node))
                }
                _ => false,
            };
            SlotSummary {
                slot: *slot,
                is_led: matches!(state.phase, Phase::Leading(_)),
                is_member: configuration.contains(&self.me),
                members: configuration.members.len(),
                is_moving: configuration.is_joint(),
                is_settled,
            }
        })
    }

    /// How much this node holds of a slot.
    pub fn size(&self, slot: SlotId) -> Result<SlotSize, StoreError> {
        self.store.size(slot)
    }

    /// Whether a key has a value, as far as this node has accepted one.
    pub fn has_value(&self, slot: SlotId, key: &Key) -> Result<bool, StoreError> {
        let register = self.store.register(slot, key)?;
        Ok(register.is_some_and(|register| register.has_value()))
    }

    /// The structures that commands may use.
    pub fn structures(&self) -> &Registry {
        &self.options.structures
    }

    /// What the flat keys of each namespace come to in a slot, as far as this node holds it.
    pub fn usage(&self, slot: SlotId) -> Result<BTreeMap<String, Usage>, StoreError> {
        self.store.usage(slot)
    }
}
