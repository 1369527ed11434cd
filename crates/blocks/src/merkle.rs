//! Digests of sets, to find what two members of a slot hold differently without sending all of it.
//!
//! A digest is a Merkle tree of two levels: 64 buckets and a root. A bucket is chosen by a hash of the item's *name*, so
//! that two states of one name meet in the same bucket; not by the name's own first bits, which all names of a slot
//! share.
//!
//! A bucket is the sum, modulo 2^128, of a hash of each of its items. A sum does not depend on order and is updated in
//! constant time when an item comes or goes. Not XOR: there an item that is added twice would vanish, and whoever
//! chooses a few hundred items could solve for a set that cancels out. Sums, too, can be made to collide with much
//! effort; that would hide a difference between members, which reading and writing do not depend on.

use difuse_types::Hash;

/// How many buckets a digest has.
pub const BUCKETS: usize = 64;

const BUCKET_CONTEXT: &str = "difuse 2026 set digest bucket v1";
const ITEM_CONTEXT: &str = "difuse 2026 set digest item v1";
const ROOT_CONTEXT: &str = "difuse 2026 set digest root v1";

/// One item of a set as the digest sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SetItem {
    bucket: u8,
    value: u128,
}

impl SetItem {
    /// The item of something called `name` (a block's hash, a key) in this `state` (an encoded record, a head's hash).
    pub fn new(name: &[u8], state: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(ITEM_CONTEXT);
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(state);
        let mut value = [0; 16];
        hasher.finalize_xof().fill(&mut value);
        Self { bucket: bucket_of(name), value: u128::from_le_bytes(value) }
    }
}

/// The bucket, below [`BUCKETS`], of everything called `name`.
pub fn bucket_of(name: &[u8]) -> u8 {
    blake3::derive_key(BUCKET_CONTEXT, name)[0] % BUCKETS as u8
}

/// The digest of a set. Equal sets have equal digests, different ones different digests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetDigest {
    buckets: [u128; BUCKETS],
}

/// A digest from elsewhere does not have [`BUCKETS`] buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a set digest has {BUCKETS} buckets, got {0}")]
pub struct WrongBucketCount(pub usize);

impl Default for SetDigest {
    fn default() -> Self {
        Self::new()
    }
}

impl SetDigest {
    /// The digest of the empty set.
    pub fn new() -> Self {
        Self { buckets: [0; BUCKETS] }
    }

    /// The digest that another member sent.
    pub fn from_buckets(buckets: &[[u8; 16]]) -> Result<Self, WrongBucketCount> {
        let buckets: &[[u8; 16]; BUCKETS] = buckets.try_into().map_err(|_| WrongBucketCount(buckets.len()))?;
        Ok(Self { buckets: buckets.map(u128::from_le_bytes) })
    }

    /// The buckets, to be sent: [`BUCKETS`] of them.
    pub fn to_buckets(&self) -> Vec<[u8; 16]> {
        self.buckets.iter().map(|bucket| bucket.to_le_bytes()).collect()
    }

    /// An item came into the set.
    pub fn add(&mut self, item: SetItem) {
        let bucket = &mut self.buckets[usize::from(item.bucket)];
        *bucket = bucket.wrapping_add(item.value);
    }

    /// An item left the set; it must have been added before.
    pub fn remove(&mut self, item: SetItem) {
        let bucket = &mut self.buckets[usize::from(item.bucket)];
        *bucket = bucket.wrapping_sub(item.value);
    }

    /// One hash of the whole set.
    pub fn root(&self) -> Hash {
        let mut hasher = blake3::Hasher::new_derive_key(ROOT_CONTEXT);
        for bucket in &self.buckets {
            hasher.update(&bucket.to_le_bytes());
        }
        Hash(*hasher.finalize().as_bytes())
    }

    /// The buckets, ascending, in which the two sets differ.
    pub fn differing_buckets(&self, other: &Self) -> Vec<u8> {
        (0..)
            .zip(self.buckets.iter().zip(&other.buckets))
            .filter(|(_, (mine, theirs))| mine != theirs)
            .map(|(index, _)| index)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{BUCKETS, SetDigest, SetItem, WrongBucketCount, bucket_of};

    fn digest<'a>(items: impl IntoIterator<Item = (&'a u16, &'a u8)>) -> SetDigest {
        let mut digest = SetDigest::new();
        items.into_iter().for_each(|(name, state)| digest.add(SetItem::new(&name.to_le_bytes(), &[*state])));
        digest
    }

    fn sets() -> impl prop::strategy::Strategy<Value = BTreeMap<u16, u8>> {
        prop::collection::btree_map(0_u16..50, 0_u8..3, 0..30)
    }

    proptest! {
        #[test]
        fn digests_are_equal_exactly_when_sets_are(one in sets(), other in sets()) {
            let (mine, theirs) = (digest(&one), digest(other.iter().rev()));
            prop_assert_eq!(one == other, mine.root() == theirs.root());
            let differing: BTreeSet<u8> = (0_u16..50)
                .filter(|name| one.get(name) != other.get(name))
                .map(|name| bucket_of(&name.to_le_bytes()))
                .collect();
            prop_assert_eq!(mine.differing_buckets(&theirs), differing.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn removing_undoes_adding(set in sets(), name in any::<u16>(), state in any::<u8>()) {
            let before = digest(&set);
            let mut after = before.clone();
            let item = SetItem::new(&name.to_le_bytes(), &[state]);
            after.add(item);
            prop_assert_eq!(after.differing_buckets(&before), vec![bucket_of(&name.to_le_bytes())]);
            after.remove(item);
            prop_assert_eq!(after, before);
        }
    }

    #[test]
    fn adding_twice_shows() {
        let mut twice = SetDigest::new();
        (0..2).for_each(|_| twice.add(SetItem::new(b"name", b"state")));
        assert_ne!(twice, SetDigest::new());
    }

    #[test]
    fn name_and_state_are_framed() {
        assert_ne!(SetItem::new(b"ab", b"c").value, SetItem::new(b"a", b"bc").value);
    }

    #[test]
    fn names_spread_over_all_buckets() {
        let used: BTreeSet<u8> = (0_u16..2000).map(|name| bucket_of(&name.to_le_bytes())).collect();
        assert_eq!(used.len(), BUCKETS);
    }

    #[test]
    fn travels_as_buckets() {
        let sent = digest(&BTreeMap::from([(1, 2), (3, 4)]));
        assert_eq!(SetDigest::from_buckets(&sent.to_buckets()), Ok(sent.clone()));
        assert_eq!(SetDigest::from_buckets(&sent.to_buckets()[1..]), Err(WrongBucketCount(BUCKETS - 1)));
    }
}
