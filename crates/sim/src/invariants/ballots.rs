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
        let both = format!("{ballot:?} carries {first:?} and {value:?}");
        Err(Violation::TwoValues { slot, key: key.clone(), both })
    }
}

#[cfg(test)]
mod tests {
    use difuse_keylog::{Ballot, Term};
    use difuse_types::{Hash, Key, SlotId};

    use super::Ballots;

    #[test]
    fn a_ballot_carries_one_value() {
        let key = Key::new(b"k").unwrap();
        let mut ballots = Ballots::default();
        let mut observe = |sequence, value| {
            let ballot = Ballot { term: Term::start_of(1), sequence };
            ballots.observe(SlotId(0), &key, ballot, (1, Hash::of(value))).is_ok()
        };
        assert!(observe(1, b"a") && observe(1, b"a") && observe(2, b"b"));
        assert!(!observe(2, b"a"));
    }
}
