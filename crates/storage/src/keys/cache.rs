use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use difuse_keylog::{Register, Transaction};
use difuse_types::{Key, SlotId};

/// A guess of what an entry takes in memory besides its key, its value and its operation ids.
const ENTRY_BYTES: usize = 450;

/// The heads of the keys in use, so that neither sled nor a segment is asked for them again and again. It always agrees
/// with what lies below it, or does not know.
///
/// What is used while the younger generation fills up stays; then the older one goes.
#[derive(Debug)]
pub(crate) struct HeadCache {
    generations: Mutex<Generations>,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<(SlotId, Key), CachedHead>,
    old: HashMap<(SlotId, Key), CachedHead>,
    /// About what the younger one takes in memory.
    young_bytes: usize,
}

/// What is known of a key's head.
#[derive(Debug, Clone)]
pub(crate) struct CachedHead {
    pub register: Register,
    /// The transaction that it ends at, if that is known too.
    pub transaction: Option<Transaction>,
}

impl CachedHead {
    fn bytes(&self, key: &Key) -> usize {
        let value = self.transaction.as_ref().and_then(Transaction::value).map_or(0, |value| value.bytes.len());
        ENTRY_BYTES + key.encoded().len() + value + 16 * self.register.head.recent.len()
    }
}

impl HeadCache {
    /// A cache that takes about this much memory when full.
    pub fn new(bytes_max: usize) -> Self {
        Self { generations: Mutex::default(), bytes_max }
    }

    /// What `find` takes of the key's head; `None` if that is not known here.
    pub fn get<T>(&self, slot: SlotId, key: &Key, find: impl FnOnce(&CachedHead) -> T) -> Option<T> {
        let mut generations = self.lock();
        let place = (slot, key.clone());
        if let Some(head) = generations.young.get(&place) {
            return Some(find(head));
        }
        let head = generations.old.remove(&place)?;
        let found = find(&head);
        generations.insert(place, head, self.bytes_max);
        Some(found)
    }

    /// Notes what lies below.
    pub fn insert(&self, slot: SlotId, key: &Key, head: CachedHead) {
        self.lock().insert((slot, key.clone()), head, self.bytes_max);
    }

    /// Adds the transaction that a known head ends at.
    pub fn complete(&self, slot: SlotId, key: &Key, transaction: &Transaction) {
        let mut generations = self.lock();
        let place = (slot, key.clone());
        if let Some(head) = generations.remove(&place) {
            let head = CachedHead { transaction: Some(transaction.clone()), ..head };
            generations.insert(place, head, self.bytes_max);
        }
    }

    /// Follows a change of a key, whose new head is that of `register`; `last` is the last of the transactions that came
    /// with it. Returns the register before, if that was known.
    pub fn replace(
        &self,
        slot: SlotId,
        key: &Key,
        register: &Register,
        last: Option<&Transaction>,
    ) -> Option<Register> {
        let mut generations = self.lock();
        let place = (slot, key.clone());
        let before = generations.remove(&place);
        let transaction = match (last, &before) {
            (Some(last), _) => Some(last).filter(|last| last.height == register.head.height),
            (None, Some(before)) if before.register.head.hash == register.head.hash => before.transaction.as_ref(),
            (None, _) => None,
        };
        let head = CachedHead { register: register.clone(), transaction: transaction.cloned() };
        generations.insert(place, head, self.bytes_max);
        before.map(|before| before.register)
    }

    /// Follows the removal of a key. Returns its register, if that was known.
    pub fn remove(&self, slot: SlotId, key: &Key) -> Option<Register> {
        self.lock().remove(&(slot, key.clone())).map(|before| before.register)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        *self.lock() = Generations::default();
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn remove(&mut self, place: &(SlotId, Key)) -> Option<CachedHead> {
        if let Some(head) = self.young.remove(place) {
            self.young_bytes = self.young_bytes.saturating_sub(head.bytes(&place.1));
            return Some(head);
        }
        self.old.remove(place)
    }

    fn insert(&mut self, place: (SlotId, Key), head: CachedHead, bytes_max: usize) {
        self.old.remove(&place);
        self.young_bytes += head.bytes(&place.1);
        if let Some(replaced) = self.young.insert(place.clone(), head) {
            self.young_bytes = self.young_bytes.saturating_sub(replaced.bytes(&place.1));
        }
        if self.young_bytes > bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use difuse_keylog::store::conformance;
    use difuse_types::{Hash, Key, SlotId};

    use super::HeadCache;

    const SLOT: SlotId = SlotId(1);

    /// Writes a chain of this length; returns the height of the head that was known before.
    fn replace(cache: &HeadCache, key: &Key, length: u64) -> Option<u64> {
        let transactions = conformance::sample_chain(key, (0, Hash::ZERO), length, 1);
        let register = conformance::sample_register(&transactions, 1);
        cache.replace(SLOT, key, &register, transactions.last()).map(|before| before.head.height)
    }

    /// The heights of the register and of the transaction that are known.
    fn heights(cache: &HeadCache, key: &Key) -> Option<(u64, Option<u64>)> {
        cache.get(SLOT, key, |head| {
            (head.register.head.height, head.transaction.as_ref().map(|transaction| transaction.height))
        })
    }

    #[test]
    fn what_is_in_use_stays_and_the_bound_holds() {
        let cache = HeadCache::new(20_000);
        let key = |number: u32| Key::new(&number.to_be_bytes()).unwrap();
        replace(&cache, &key(0), 2);
        for number in 1..1000 {
            assert_eq!(replace(&cache, &key(number), 1), None);
            assert_eq!(heights(&cache, &key(0)), Some((2, Some(2))), "after {number}");
        }
        let generations = cache.lock();
        assert!(generations.young.len() + generations.old.len() < 50);
        assert!(generations.young_bytes <= 10_000);
    }

    #[test]
    fn a_head_keeps_its_transaction_while_it_is_the_same() {
        let (cache, key) = (HeadCache::new(1 << 20), Key::new(b"k").unwrap());
        let transactions = conformance::sample_chain(&key, (0, Hash::ZERO), 3, 1);
        assert_eq!(replace(&cache, &key, 3), None);
        let again = conformance::sample_register(&transactions, 5);
        assert_eq!(cache.replace(SLOT, &key, &again, None).map(|before| before.head.height), Some(3));
        assert_eq!(heights(&cache, &key), Some((3, Some(3))));
        let shorter = conformance::sample_register(&transactions[..2], 6);
        cache.replace(SLOT, &key, &shorter, None);
        assert_eq!(heights(&cache, &key), Some((2, None)));
        cache.complete(SLOT, &key, &transactions[1]);
        assert_eq!(heights(&cache, &key), Some((2, Some(2))));
    }

    #[test]
    fn nothing_is_known_once_cleared() {
        let (cache, key) = (HeadCache::new(1 << 20), Key::new(b"k").unwrap());
        replace(&cache, &key, 1);
        cache.clear();
        assert_eq!(heights(&cache, &key), None);
    }
}
