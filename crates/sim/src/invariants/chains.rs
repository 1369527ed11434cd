//! What clients were told forms one chain per key, and stays. Where a slot was recovered, that is so of what they were told
//! under one recovery, and what stays is what they were told under the last.

use std::collections::{BTreeMap, BTreeSet};

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

/// All transactions, and those of them that clients were told are committed. A key that was deleted and forgotten, and then
/// written anew, has another life: another chain, which begins with another transaction.
#[derive(Default)]
pub(crate) struct Chains {
    known: BTreeMap<Hash, Known>,
    /// The first transaction of the chain of others, as far as it was looked for.
    births: BTreeMap<Hash, Hash>,
    /// By key, the chain's first transaction, and the recovery under which it was shown.
    shown: BTreeMap<(Key, Hash, Hash), BTreeMap<u64, Hash>>,
    /// Transactions that delete a key.
    deletes: BTreeMap<Key, Vec<(u64, Hash)>>,
    /// Transactions below which some member has forgotten everything, and the recovery under which it held them.
    bases: BTreeMap<Key, BTreeSet<(u64, Hash, Hash)>>,
    /// By key and recovery, what was shown before it and held by a survivor.
    brought: BTreeMap<(Key, Hash), BTreeSet<(u64, Hash)>>,
}

impl Chains {
    pub(crate) fn known(&self, hash: &Hash) -> Option<Known> {
        self.known.get(hash).copied()
    }

    /// A member holds this transaction.
    pub(crate) fn learn(&mut self, hash: Hash, known: Known) {
        self.known.insert(hash, known);
    }

    /// A transaction that is known deletes its key.
    pub(crate) fn learn_delete(&mut self, key: &Key, height: u64, hash: Hash) {
        self.deletes.entry(key.clone()).or_default().push((height, hash));
    }

    /// A member relies on this transaction: it has forgotten what is below.
    pub(crate) fn rely(&mut self, key: &Key, height: u64, hash: Hash, recovery: Hash) {
        self.bases.entry(key.clone()).or_default().insert((height, hash, recovery));
    }

    /// A client was told, under a recovery, that this transaction is committed: so are all before it.
    pub(crate) fn show(&mut self, key: &Key, height: u64, hash: Hash, recovery: Hash) -> Result<(), Violation> {
        let birth = self.birth(hash).ok_or_else(|| Violation::Unheard { key: key.clone(), height, hash })?;
        let shown = self.shown.entry((key.clone(), birth, recovery)).or_default();
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

    /// The last transaction in the chain of a head that clients were shown under a recovery.
    pub(crate) fn last_shown(&mut self, key: &Key, head: Hash, recovery: Hash) -> Option<(u64, Hash)> {
        let birth = self.birth(head)?;
        let shown = self.shown.get(&(key.clone(), birth, recovery))?;
        let held = std::iter::successors(Some(head), |hash| Some(self.known.get(hash)?.previous));
        let mut held = held.map_while(|hash| Some((self.known.get(&hash)?.height, hash)));
        held.find(|(height, hash)| shown.get(height) == Some(hash))
    }

    /// A survivor holds what was shown before a recovery, and goes on with it.
    pub(crate) fn bring(&mut self, key: Key, recovery: Hash, height: u64, hash: Hash) {
        self.brought.entry((key, recovery)).or_default().insert((height, hash));
    }

    /// The first transaction of the chain that ends with this one; `None` if not all of it is known.
    fn birth(&mut self, hash: Hash) -> Option<Hash> {
        let mut passed = Vec::new();
        let mut next = hash;
        let birth = loop {
            if let Some(birth) = self.births.get(&next) {
                break *birth;
            }
            let known = self.known.get(&next)?;
            passed.push(next);
            if known.height <= 1 {
                break next;
            }
            next = known.previous;
        };
        self.births.extend(passed.into_iter().map(|hash| (hash, birth)));
        Some(birth)
    }

    /// The chain that ends at `head`, from its first transaction on.
    pub(crate) fn chain(&self, head: Hash) -> Vec<Known> {
        let mut chain: Vec<Known> =
            std::iter::successors(self.known(&head), |known| self.known(&known.previous)).collect();
        chain.reverse();
        chain
    }

    /// The last head of a key, as all its members hold it: what was shown under `recovery` must be at or below it, or, if a deleted key may be
    /// forgotten, all at or below one transaction that deletes the key; and no write must be there twice, or at all if its
    /// client was told that it was not applied.
    pub(crate) fn check_final(
        &self,
        key: &Key,
        head: Option<(u64, Hash)>,
        recovery: Hash,
        forgets: bool,
        is_refused: impl Fn(u64) -> bool,
    ) -> Result<(), Violation> {
        let deletes = self.deletes.get(key).into_iter().flatten().filter(|_| forgets);
        let ends: Vec<(u64, Hash)> = head.into_iter().chain(deletes.copied()).collect();
        let chains: Vec<BTreeMap<u64, Hash>> = ends.into_iter().map(|end| self.hashes_below(Some(end))).collect();
        let is_in = |chain: &BTreeMap<u64, Hash>, (height, hash): (&u64, &Hash)| chain.get(height) == Some(hash);
        let of_key = self.shown.range((key.clone(), Hash::ZERO, Hash::ZERO)..).take_while(|((of, ..), _)| of == key);
        for (_, shown) in of_key.filter(|((.., shown_under), _)| *shown_under == recovery) {
            let is_whole = |chain: &&BTreeMap<u64, Hash>| shown.iter().all(|place| is_in(chain, place));
            if chains.iter().find(is_whole).is_none() {
                let lost = shown.iter().find(|place| chains.first().is_none_or(|chain| !is_in(chain, *place)));
                let (height, hash) = lost.map_or((0, Hash::ZERO), |(height, hash)| (*height, *hash));
                return Err(Violation::Lost { key: key.clone(), height, hash });
            }
        }
        for (height, hash) in self.brought.get(&(key.clone(), recovery)).into_iter().flatten() {
            if !chains.iter().any(|chain| is_in(chain, (height, hash))) {
                return Err(Violation::Lost { key: key.clone(), height: *height, hash: *hash });
            }
        }
        let bases = self.bases.get(key).into_iter().flatten();
        for (height, hash, _) in bases.filter(|(.., held_under)| *held_under == recovery) {
            if !chains.iter().any(|chain| is_in(chain, (height, hash))) {
                return Err(Violation::Forgotten { key: key.clone(), height: *height, hash: *hash });
            }
        }
        let mut seen = BTreeSet::new();
        for known in head.map(|(_, hash)| self.chain(hash)).unwrap_or_default() {
            let (height, operation) = (known.height, known.operation);
            let unwanted = |reason| Violation::Unwanted { key: key.clone(), height, operation, reason };
            if !seen.insert(operation) {
                return Err(unwanted("was applied before"));
            }
            if is_refused(operation) {
                return Err(unwanted("was refused: its client was told that nothing was changed"));
            }
        }
        Ok(())
    }

    /// The writes that can have been done to a key by the end, in their order: those that a delete may have made forgotten, then
    /// those of its last chain.
    pub(crate) fn committed(&self, key: &Key, head: Option<(u64, Hash)>, forgets: bool) -> Vec<u64> {
        let deletes = self.deletes.get(key).into_iter().flatten().filter(|_| forgets);
        let chains = deletes.copied().chain(head).flat_map(|(_, hash)| self.chain(hash));
        let mut found = BTreeSet::new();
        chains.map(|known| known.operation).filter(|operation| found.insert(*operation)).collect()
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

    /// Before any recovery.
    const BEFORE: Hash = Hash::ZERO;

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
        chains.show(&key, 3, c, BEFORE).unwrap();
        chains.show(&key, 1, a, BEFORE).unwrap();
        chains.show(&key, 2, b, BEFORE).unwrap();
        assert!(chains.show(&key, 2, fork, BEFORE).is_err());
        assert!(chains.show(&key, 4, Hash::of(b"x"), BEFORE).is_err());
    }

    #[test]
    fn what_is_relied_on_must_stay() {
        let key = Key::new(b"k").unwrap();
        let (mut chains, [_, b, c, fork]) = chains();
        chains.rely(&key, 2, b, BEFORE);
        assert!(chains.check_final(&key, Some((3, c)), BEFORE, false, |_| false).is_ok());
        assert!(chains.check_final(&key, Some((2, fork)), BEFORE, false, |_| false).is_err());
    }

    #[test]
    fn what_was_shown_must_stay() {
        let key = Key::new(b"k").unwrap();
        let (mut chains, [_, b, c, fork]) = chains();
        chains.show(&key, 2, b, BEFORE).unwrap();
        assert!(chains.check_final(&key, Some((3, c)), BEFORE, false, |_| false).is_ok());
        assert!(chains.check_final(&key, Some((3, c)), BEFORE, false, |operation| operation == 3).is_err());
        assert!(chains.check_final(&key, Some((2, fork)), BEFORE, false, |_| false).is_err());
        assert!(chains.check_final(&key, None, BEFORE, false, |_| false).is_err());
    }

    #[test]
    fn what_was_shown_may_go_with_a_tombstone_above_it() {
        let key = Key::new(b"k").unwrap();
        let (mut chains, [a, b, c, fork]) = chains();
        let anew = Hash::of(b"e");
        chains.learn(anew, Known { height: 1, previous: Hash::ZERO, operation: 5 });
        chains.show(&key, 2, b, BEFORE).unwrap();
        chains.show(&key, 1, anew, BEFORE).unwrap();
        let check = |chains: &Chains| chains.check_final(&key, Some((1, anew)), BEFORE, true, |_| false).is_ok();
        assert!(!check(&chains), "nothing deletes it");
        chains.learn_delete(&key, 2, fork);
        chains.learn_delete(&key, 1, a);
        assert!(!check(&chains), "what deletes it is not above all that was shown");
        chains.learn_delete(&key, 3, c);
        assert!(check(&chains));
    }

    #[test]
    fn what_was_shown_before_a_recovery_may_be_lost_but_not_what_was_shown_since() {
        let key = Key::new(b"k").unwrap();
        let (mut chains, [_, b, c, fork]) = chains();
        let recovery = Hash::of(b"recovery");
        chains.rely(&key, 2, b, BEFORE);
        chains.show(&key, 3, c, BEFORE).unwrap();
        chains.show(&key, 2, fork, recovery).unwrap();
        assert!(chains.check_final(&key, Some((2, fork)), recovery, false, |_| false).is_ok());
        assert!(chains.check_final(&key, Some((3, c)), recovery, false, |_| false).is_err());
        assert!(chains.check_final(&key, Some((2, fork)), BEFORE, false, |_| false).is_err());

        assert_eq!(chains.last_shown(&key, c, BEFORE), Some((3, c)));
        assert_eq!(chains.last_shown(&key, fork, BEFORE), Some((1, Hash::of(b"a"))));
        chains.bring(key.clone(), recovery, 2, b);
        let lost = chains.check_final(&key, Some((2, fork)), recovery, false, |_| false);
        assert!(lost.is_err(), "a survivor held it");
        assert!(chains.show(&key, 2, b, recovery).is_err());
    }
}
