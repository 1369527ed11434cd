//! What two members of a slot have to do so that both hold the same blocks.

use std::collections::BTreeMap;

use difuse_types::Hash;

use crate::BlockRecord;

/// What one member does after it has compared its list with another member's. Each list is ascending by hash, and each
/// record is the merged one. When both members have carried out their plans, their lists are equal.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RepairPlan {
    /// Blocks to fetch from the other member (verified by hash), to be stored before their records.
    pub fetch: Vec<(Hash, BlockRecord)>,
    /// Blocks that are here already; only their records change.
    pub update: Vec<(Hash, BlockRecord)>,
    /// Tombstones to store; the blocks, where they are here, are dropped afterwards.
    pub delete: Vec<(Hash, BlockRecord)>,
    /// What the other member lacks: it fetches, updates or deletes in turn.
    pub offer: Vec<(Hash, BlockRecord)>,
}

impl RepairPlan {
    /// Whether the two lists were equal.
    pub fn is_empty(&self) -> bool {
        [&self.fetch, &self.update, &self.delete, &self.offer].iter().all(|list| list.is_empty())
    }
}

/// Compares two lists of the same bucket, in any order. Of `theirs`, records that no honest member can have are left
/// out, and the same hash twice is merged. The caller bounds the length of `theirs`.
pub fn plan_repair(mine: &[(Hash, BlockRecord)], theirs: &[(Hash, BlockRecord)]) -> RepairPlan {
    let mine = merged_by_hash(mine.iter().copied());
    let theirs = merged_by_hash(theirs.iter().copied().filter(|(_, record)| record.check().is_ok()));
    let mut both = mine.clone();
    theirs.iter().for_each(|(hash, record)| merge_into(&mut both, *hash, *record));
    let mut plan = RepairPlan::default();
    for (hash, merged) in both {
        plan.settle(hash, merged, mine.get(&hash));
        if theirs.get(&hash) != Some(&merged) {
            plan.offer.push((hash, merged));
        }
    }
    plan
}

impl RepairPlan {
    /// What to do about a block of which `held` is here and `merged` should be.
    fn settle(&mut self, hash: Hash, merged: BlockRecord, held: Option<&BlockRecord>) {
        if held == Some(&merged) {
            return;
        }
        let is_here = held.is_some_and(|held| held.present);
        let list = match (merged.present, is_here) {
            (true, false) => &mut self.fetch,
            (true, true) => &mut self.update,
            (false, _) => &mut self.delete,
        };
        list.push((hash, merged));
    }
}

fn merged_by_hash(list: impl Iterator<Item = (Hash, BlockRecord)>) -> BTreeMap<Hash, BlockRecord> {
    let mut map = BTreeMap::new();
    list.for_each(|(hash, record)| merge_into(&mut map, hash, record));
    map
}

fn merge_into(map: &mut BTreeMap<Hash, BlockRecord>, hash: Hash, record: BlockRecord) {
    map.entry(hash).and_modify(|held| *held = held.merge(record)).or_insert(record);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use difuse_types::Hash;
    use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

    use super::{RepairPlan, plan_repair};
    use crate::{BlockRecord, SetDigest, SetItem};

    type List = Vec<(Hash, BlockRecord)>;

    fn record(version: u64, present: bool) -> BlockRecord {
        BlockRecord { version, present, referenced: false, length: 7 }
    }

    #[test]
    fn each_difference_has_its_place() {
        let hash = Hash::of(b"block");
        let (old, new) = (record(1, true), record(2, true));
        let gone = record(2, false);
        let none = RepairPlan::default;
        let one = |record| vec![(hash, record)];
        for (mine, theirs, plan) in [
            (None, Some(old), RepairPlan { fetch: one(old), ..none() }),
            (Some(old), None, RepairPlan { offer: one(old), ..none() }),
            (Some(old), Some(old), none()),
            (Some(old), Some(new), RepairPlan { update: one(new), ..none() }),
            (Some(old), Some(gone), RepairPlan { delete: one(gone), ..none() }),
            (None, Some(gone), RepairPlan { delete: one(gone), ..none() }),
            (Some(gone), Some(old), RepairPlan { offer: one(gone), ..none() }),
            (Some(gone), Some(new), RepairPlan { fetch: one(new), ..none() }),
        ] {
            let list = |record: Option<BlockRecord>| record.map(|record| (hash, record)).into_iter().collect::<List>();
            assert_eq!(plan_repair(&list(mine), &list(theirs)), plan, "{mine:?} {theirs:?}");
            assert_eq!(plan.is_empty(), mine == theirs);
        }
    }

    #[test]
    fn impossible_records_are_left_out() {
        let theirs = [BlockRecord { length: u32::MAX, ..record(9, true) }, record(0, true)];
        let theirs: List = theirs.into_iter().map(|record| (Hash::of(b"block"), record)).collect();
        assert!(plan_repair(&[], &theirs).is_empty());
    }

    fn lists() -> impl Strategy<Value = List> {
        let item = (0_u8..10, 1_u64..4, any::<bool>(), any::<bool>());
        prop::collection::vec(item, 0..15).prop_map(|items| {
            items
                .into_iter()
                .map(|(name, version, present, referenced)| {
                    (Hash::of(&[name]), BlockRecord { version, present, referenced, length: 7 })
                })
                .collect()
        })
    }

    fn carry_out(mine: &[(Hash, BlockRecord)], plan: &RepairPlan) -> BTreeMap<Hash, BlockRecord> {
        let mut held = super::merged_by_hash(mine.iter().copied());
        held.extend(plan.fetch.iter().chain(&plan.update).chain(&plan.delete).copied());
        held
    }

    fn digest(held: &BTreeMap<Hash, BlockRecord>) -> SetDigest {
        let mut digest = SetDigest::new();
        held.iter().for_each(|(hash, record)| digest.add(SetItem::new(hash.as_bytes(), &record.encode())));
        digest
    }

    proptest! {
        #[test]
        fn both_plans_make_both_members_equal(mine in lists(), theirs in lists()) {
            let (my_plan, their_plan) = (plan_repair(&mine, &theirs), plan_repair(&theirs, &mine));
            let (me, them) = (carry_out(&mine, &my_plan), carry_out(&theirs, &their_plan));
            prop_assert_eq!(digest(&me).root(), digest(&them).root());
            prop_assert_eq!(me, them);
            // What one offers is exactly what the other has to do.
            let mut to_do = [their_plan.fetch, their_plan.update, their_plan.delete].concat();
            to_do.sort_by_key(|(hash, _)| *hash);
            prop_assert_eq!(&my_plan.offer, &to_do);
            // Only what the other member holds is fetched from it.
            let theirs = super::merged_by_hash(theirs.into_iter());
            prop_assert!(my_plan.fetch.iter().all(|(hash, _)| theirs[hash].present));
        }
    }
}
