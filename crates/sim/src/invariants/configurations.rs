//! No epoch of a slot has two contents, but for those of two recoveries that do not know of each other.

use std::collections::BTreeMap;

use difuse_keylog::{Configuration, KeylogMessage};
use difuse_types::{Hash, SlotId};

use crate::Violation;

/// Every configuration that a node took for decided.
#[derive(Default)]
pub(crate) struct Configurations {
    decided: BTreeMap<(SlotId, u64, Hash), Hash>,
}

impl Configurations {
    /// A node takes this for decided.
    pub(crate) fn observe(&mut self, configuration: &Configuration) -> Result<(), Violation> {
        let (slot, epoch, hash) = (configuration.slot, configuration.epoch, configuration.hash());
        let of_recovery = (slot, epoch, configuration.recovery);
        if *self.decided.entry(of_recovery).or_insert(hash) == hash {
            return Ok(());
        }
        Err(Violation::TwoConfigurations { slot, epoch, second: format!("{configuration:?}") })
    }

    /// A message passes by.
    pub(crate) fn observe_message(&mut self, message: &KeylogMessage) -> Result<(), Violation> {
        match message {
            KeylogMessage::Prepare { configuration, .. }
            | KeylogMessage::Outdated { configuration }
            | KeylogMessage::Install { configuration } => self.observe(configuration),
            _ => Ok(()),
        }
    }
}
