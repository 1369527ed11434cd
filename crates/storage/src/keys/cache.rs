use std::{
    collections::{
        HashMap,
        hash_map::Entry::{Occupied, Vacant},
    },
    sync::{Mutex, MutexGuard, PoisonError},
};

use difuse_keylog::{Register, Transaction};
use difuse_types::{Key, SlotId};

use super::weight::Held;
use crate::log::Location;

/// A guess of what an entry takes in memory besides its key, its value and its operation ids.
const ENTRY_BYTES: usize = 450;
/// The same of an entry that says that there is no register.
const ABSENT_BYTES: usize = 120;

/// The heads of the keys in use, and which of those keys have none, so that neither sled nor a segment is asked for them
/// again and again. It always agrees with what lies below it, or does not know.
///
/// What is used while the younger generation fills up stays; then the older one goes.
#[derive(Debug)]
pub(crate) struct HeadCache {
    generations: Mutex<Generations>,
    bytes_max: usize,
}

/// A key in its slot: there is a key that is in every slot.
type Place = (SlotId, Key);
/// What is known of a place; `None`: it has no register.
type Entry = Option<Box<CachedHead>>;

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Place, Entry>,
    old: HashMap<Place, Entry>,
    /// About what the younger one takes in memory.
    young_bytes: usize,
}

/// What is known of a key's head.
#[derive(Debug, Clone)]
pub(crate) struct CachedHead {
    pub register: Register,
    /// What its value weighs, in bytes.
    pub weight: u64,
    /// The transaction that it ends at, if that is known too.
    pub transaction: Option<Transaction>,
    /// Where the index said that the transaction's body lies; it may have been moved since.
    pub location: Option<Location>,
}

fn bytes_of(key: &Key, entry: &Entry) -> usize {
    let held = entry.as_ref().map_or(ABSENT_BYTES, |head| {
        let value = head.transaction.as_ref().and_then(Transaction::value).map_or(0, |value| value.bytes.len());
        ENTRY_BYTES + value + 16 * head.register.head.recent.len()
    });
    held + key.encoded().len()
}

impl HeadCache {
    /// A cache that takes about this much memory when full.
    pub fn new(bytes_max: usize) -> Self {
        Self { generations: Mutex::default(), bytes_max }
    }

    /// What `find` takes of the key's head, or of there being none; `None` if that is not known here.
    pub fn get<T>(&self, slot: SlotId, key: &Key, find: impl FnOnce(Option<&CachedHead>) -> T) -> Option<T> {
        let mut generations = self.lock();
        let place = (slot, key.clone());
        if let Some(entry) = generations.young.get(&place) {
            return Some(find(entry.as_deref()));
        }
        let entry = generations.old.remove(&place)?;
        let found = find(entry.as_deref());
        generations.insert(place, entry, self.bytes_max);
        Some(found)
    }

    /// Notes what lies below; `None`: the key has no register.
    pub fn insert(&self, slot: SlotId, key: &Key, head: Option<CachedHead>) {
        let mut generations = self.lock();
        let place = (slot, key.clone());
        generations.old.remove(&place);
        generations.insert(place, head.map(Box::new), self.bytes_max);
    }

    /// Adds the transaction that a known head ends at.
    pub fn complete(&self, slot: SlotId, key: &Key, transaction: &Transaction) {
        let mut generations = self.lock();
        let place = (slot, key.clone());
        if let Some(Some(mut head)) = generations.take(&place) {
            head.transaction = Some(transaction.clone());
            generations.insert(place, Some(head), self.bytes_max);
        }
    }

    /// Follows a change of a key, whose new head is that of `register`; `last` is the last of the transactions that came
    /// with it. Returns the register before, and what it weighed, if that was known; the inner `None` if there was none. What
    /// the new one weighs is to be told with [`HeadCache::set_weight`] if it is not what `weigh` makes of the one before.
    pub fn replace(
        &self,
        slot: SlotId,
        key: &Key,
        register: &Register,
        last: Option<&Transaction>,
        weigh: impl FnOnce(Option<&Held>) -> Option<u64>,
    ) -> Option<Option<Held>> {
        let mut generations = self.lock();
        let place = (slot, key.clone());
        let before = generations.take(&place);
        let head = |transaction, weight| CachedHead { register: register.clone(), weight, transaction, location: None };
        let last_of_head = last.filter(|last| last.height == register.head.height).cloned();
        let (before, entry) = match before {
            Some(Some(mut held)) => {
                let is_same = last.is_none() && held.register.head.hash == register.head.hash;
                let transaction = if is_same { held.transaction.take() } else { last_of_head };
                let before = std::mem::replace(&mut *held, head(transaction, 0));
                let before = Held { register: before.register, weight: before.weight };
                held.weight = weigh(Some(&before)).unwrap_or_default();
                (Some(Some(before)), held)
            }
            Some(None) => (Some(None), Box::new(head(last_of_head, weigh(None).unwrap_or_default()))),
            None => (None, Box::new(head(last_of_head, 0))),
        };
        generations.insert(place, Some(entry), self.bytes_max);
        before
    }

    /// Follows the removal of a key. Returns what was known of its register, as [`HeadCache::replace`] does.
    pub fn remove(&self, slot: SlotId, key: &Key) -> Option<Option<Held>> {
        let mut generations = self.lock();
        let place = (slot, key.clone());
        let before = generations.take(&place);
        generations.insert(place, None, self.bytes_max);
        before.map(|before| before.map(|head| Held { register: head.register, weight: head.weight }))
    }

    /// Notes what a key's value weighs.
    pub fn set_weight(&self, slot: SlotId, key: &Key, weight: u64) {
        let mut generations = self.lock();
        let place = (slot, key.clone());
        if let Some(Some(mut head)) = generations.take(&place) {
            head.weight = weight;
            generations.insert(place, Some(head), self.bytes_max);
        }
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
    /// What is known of a place, to be inserted again.
    fn take(&mut self, place: &Place) -> Option<Entry> {
        if let Some(entry) = self.young.get_mut(place) {
            let entry = entry.take();
            self.young_bytes = self.young_bytes.saturating_sub(bytes_of(&place.1, &entry));
            self.young_bytes += bytes_of(&place.1, &None);
            return Some(entry);
        }
        self.old.remove(place)
    }

    /// Notes what is known of a place that is not in the older generation.
    fn insert(&mut self, place: Place, entry: Entry, bytes_max: usize) {
        self.young_bytes += bytes_of(&place.1, &entry);
        match self.young.entry(place) {
            Occupied(mut held) => {
                let replaced = held.insert(entry);
                self.young_bytes = self.young_bytes.saturating_sub(bytes_of(&held.key().1, &replaced));
            }
            Vacant(free) => drop(free.insert(entry)),
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

    use super::{CachedHead, HeadCache};

    const SLOT: SlotId = SlotId(1);

    /// Writes a chain of this length; returns the height of the head that was known before.
    fn replace(cache: &HeadCache, key: &Key, length: u64) -> Option<u64> {
        let transactions = conformance::sample_chain(key, (0, Hash::ZERO), length, 1);
        let register = conformance::sample_register(&transactions, 1);
        let before = cache.replace(SLOT, key, &register, transactions.last(), |_| Some(0));
        before.flatten().map(|before| before.register.head.height)
    }

    /// The heights of the register and of the transaction that are known.
    fn heights(cache: &HeadCache, key: &Key) -> Option<(u64, Option<u64>)> {
        let heights = |head: &CachedHead| {
            (head.register.head.height, head.transaction.as_ref().map(|transaction| transaction.height))
        };
        cache.get(SLOT, key, |head| head.map(heights)).flatten()
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
        assert_eq!(
            cache.replace(SLOT, &key, &again, None, |_| Some(0)).flatten().map(|before| before.register.head.height),
            Some(3)
        );
        assert_eq!(heights(&cache, &key), Some((3, Some(3))));
        let shorter = conformance::sample_register(&transactions[..2], 6);
        cache.replace(SLOT, &key, &shorter, None, |_| Some(0));
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

    #[test]
    fn that_there_is_no_register_is_known_as_well() {
        let (cache, key) = (HeadCache::new(1 << 20), Key::new(b"k").unwrap());
        let is_known_absent = |cache: &HeadCache| cache.get(SLOT, &key, |head| head.is_none());
        assert_eq!(is_known_absent(&cache), None);
        cache.insert(SLOT, &key, None);
        assert_eq!(is_known_absent(&cache), Some(true));
        replace(&cache, &key, 1);
        assert_eq!(is_known_absent(&cache), Some(false));
        assert_eq!(cache.remove(SLOT, &key).flatten().map(|before| before.register.head.height), Some(1));
        assert_eq!(is_known_absent(&cache), Some(true));
        assert_eq!(cache.remove(SLOT, &key), Some(None));
    }
}
