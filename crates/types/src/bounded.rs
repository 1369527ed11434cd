use std::collections::{BTreeMap, VecDeque};

/// A map that never holds more than `capacity` entries: inserting beyond it drops the oldest insertion. For caches
/// that a peer could otherwise make grow. Iteration order is that of the keys.
#[derive(Debug, Clone, Hash)]
pub struct BoundedMap<K, V> {
    entries: BTreeMap<K, V>,
    order: VecDeque<K>,
    capacity: usize,
}

impl<K: Ord + Clone, V> BoundedMap<K, V> {
    /// An empty map that holds at most `capacity` (at least 1) entries.
    pub fn new(capacity: usize) -> Self {
        Self { entries: BTreeMap::new(), order: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// The value at `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    /// Sets the value at `key`; drops the oldest insertion when full.
    pub fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.entries.len() > self.capacity {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
        // Removed keys linger in `order`; rebuild before it grows past twice the bound.
        if self.order.len() > 2 * self.capacity {
            let entries = &self.entries;
            self.order.retain(|key| entries.contains_key(key));
        }
    }

    /// Removes and returns the value at `key`.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.entries.remove(key)
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops all entries.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::BoundedMap;

    #[test]
    fn the_oldest_goes_first_and_the_bound_holds() {
        let mut map = BoundedMap::new(2);
        for key in 0..100 {
            map.insert(key, ());
            map.remove(&(key / 2));
        }
        assert!(map.len() <= 2 && map.order.len() <= 4);
        map.insert(1000, ());
        assert!(map.get(&1000).is_some());
    }
}
