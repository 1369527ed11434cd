//! What clients were told forms one chain per key, and stays.

use std::collections::{BTreeMap, BTreeSet};

use difuse_keylog::store::RECENT_OPERATIONS_MAX;
use difuse_types::{Hash, Key};

use crate::Violation;

/// A transaction that some member holds or held.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    pub(crate) height: u64,
    pub(crate) previous: Hash,
    /// The number of the write that it stems from.
    pub(crate) operation: u64,
}

/// All transactions, and those of them that clients were told are committed.
#[derive(Default)]
pub(crate) struct Chains {
    known: BTreeMap<Hash, Known>,
    shown: BTreeMap<Key, BTreeMap<u64, Hash>>,
    /// Transactions below which some member has forgotten everything.
    bases: BTreeMap<Key, BTreeSet<(u64, Hash)>>,
}

impl Chains {
    pub(crate) fn known(&self, hash: &Hash) -> Option<Known> {
        self.known.get(hash).copied()
    }

    /// A member holds this transaction.
    pub(crate) fn learn(&mut self, hash: Hash, known: Known) {
        self.known.insert(hash, known);
    }

    /// A member relies on this transaction: it has forgotten what is below.
    pub(crate) fn rely(&mut self, key: &Key, height: u64, hash: Hash) {
        self.bases.entry(key.clone()).or_default().insert((height, hash));
    }

    /// A client was told that this transaction is committed: so are all before it.
    pub(crate) fn show(&mut self, key: &Key, height: u64, hash: Hash) -> Result<(), Violation> {
        let shown = self.shown.entry(key.clone()).or_default();
        let (mut height, mut hash) = (height, hash);
        while height > 0 {
            match shown.insert(height, hash) {
                Some(first) if first == hash => return Ok(()),
                Some(first) => return Err(Violation::TwoChildren { key: key.clone(), height, first, second: hash }),
                None => {}
            }
            let known = self.known.get(&hash).filter(|known| known.height == height);
            let known = known.ok_or_else(|| Violation::Unheard { key: key.clone(), height, hash })?;
            (height, hash) = (height - 1, known.previous);
        }
        Ok(())
    }

    /// The chain that ends at `head`, from its first transaction on.
    pub(crate) fn chain(&self, head: Hash) -> Vec<Known> {
        let mut chain: Vec<Known> =
            std::iter::successors(self.known(&head), |known| self.known(&known.previous)).collect();
        chain.reverse();
        chain
    }

    /// The last head of a key, as all its members hold it: what was shown must be at or below it, and no write must be
    /// there twice, or at all if its client was told that it was not applied.
    pub(crate) fn check_final(
        &self,
        key: &Key,
        head: Option<(u64, Hash)>,
        is_refused: impl Fn(u64) -> bool,
    ) -> Result<(), Violation> {
        let chain: BTreeMap<u64, Hash> = self.hashes_below(head);
        for (height, hash) in self.shown.get(key).into_iter().flatten() {
            if chain.get(height) != Some(hash) {
                return Err(Violation::Lost { key: key.clone(), height: *height, hash: *hash });
            }
        }
        for &(height, hash) in self.bases.get(key).into_iter().flatten() {
            if chain.get(&height) != Some(&hash) {
                return Err(Violation::Forgotten { key: key.clone(), height, hash });
            }
        }
        let mut seen = BTreeMap::new();
        for known in head.map(|(_, hash)| self.chain(hash)).unwrap_or_default() {
            let (height, operation) = (known.height, known.operation);
            let unwanted = |reason| Violation::Unwanted { key: key.clone(), height, operation, reason };
            // A head remembers the operation ids of so many transactions; a retry that comes later is a new write.
            let is_repeated = |earlier: u64| height - earlier < RECENT_OPERATIONS_MAX as u64;
            if seen.insert(operation, height).is_some_and(is_repeated) {
                return Err(unwanted("was applied before"));
            }
            if is_refused(operation) {
                return Err(unwanted("was refused: its client was told that nothing was changed"));
            }
        }
        Ok(())
    }

    fn hashes_below(&self, head: Option<(u64, Hash)>) -> BTreeMap<u64, Hash> {
        let below = |(height, hash): &(u64, Hash)| {
            let known = self.known(hash)?;
            (*height > 1).then_some((height - 1, known.previous))
        };
        std::iter::successors(head, below).collect()
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::{Hash, Key};

    use super::{Chains, Known};

    fn chains() -> (Chains, [Hash; 4]) {
        let mut chains = Chains::default();
        let [a, b, c, fork] = [b"a", b"b", b"c", b"d"].map(|name| Hash::of(name));
        let parents = [(a, 1, Hash::ZERO, 1), (b, 2, a, 2), (c, 3, b, 3), (fork, 2, a, 4)];
        for (hash, height, previous, operation) in parents {
            chains.learn(hash, Known { height, previous, operation });
        }
        (chains, [a, b, c, fork])
    }

    #[test]
    fn one_chain_passes_and_a_second_child_does_not() {
        let key = Key::new(b"k").unwrap();
        let (mut chains, [a, b, c, fork]) = chains();
        chains.show(&key, 3, c).unwrap();
        chains.show(&key, 1, a).unwrap();
        chains.show(&key, 2, b).unwrap();
        assert!(chains.show(&key, 2, fork).is_err());
        assert!(chains.show(&key, 4, Hash::of(b"x")).is_err());
    }

    #[test]
    fn what_is_relied_on_must_stay() {
        let key = Key::new(b"k").unwrap();
        let (mut chains, [_, b, c, fork]) = chains();
        chains.rely(&key, 2, b);
        assert!(chains.check_final(&key, Some((3, c)), |_| false).is_ok());
        assert!(chains.check_final(&key, Some((2, fork)), |_| false).is_err());
    }

    #[test]
    fn what_was_shown_must_stay() {
        let key = Key::new(b"k").unwrap();
        let (mut chains, [_, b, c, fork]) = chains();
        chains.show(&key, 2, b).unwrap();
        assert!(chains.check_final(&key, Some((3, c)), |_| false).is_ok());
        assert!(chains.check_final(&key, Some((3, c)), |operation| operation == 3).is_err());
        assert!(chains.check_final(&key, Some((2, fork)), |_| false).is_err());
        assert!(chains.check_final(&key, None, |_| false).is_err());
    }
}
