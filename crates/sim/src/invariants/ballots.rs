//! At most one value per ballot.

use std::collections::BTreeMap;

use difuse_keylog::Ballot;
use difuse_types::{Hash, Key, SlotId};

use crate::Violation;

/// Every value that was ever proposed or accepted at a ballot.
#[derive(Default)]
pub(crate) struct Ballots {
    values: BTreeMap<(SlotId, Key, Ballot), (u64, Hash)>,
}

impl Ballots {
    /// A proposal passed by, or a register was found in a store.
    pub(crate) fn observe(
        &mut self,
        slot: SlotId,
        key: &Key,
        ballot: Ballot,
        value: (u64, Hash),
    ) -> Result<(), Violation> {
        let first = *self.values.entry((slot, key.clone(), ballot)).or_insert(value);
        if first == value {
            return Ok(());
        }
        Err(Violation::TwoValues { slot, key: key.clone(), ballot, first, second: value })
    }
}
