//! What a sender of writes was told of slots and keys, so that their leaders can tell its first attempts from repeated
//! ones (see [`Anchor`]).

use difuse_keylog::Anchor;
use difuse_types::{BoundedMap, Key, Level, SlotId};

use crate::request::{Reading, Reply, Request};

/// How many slots are remembered.
const SLOTS_MAX: usize = 65_536;
/// How many keys are.
const KEYS_MAX: usize = 4096;
/// Keys below this height are not: no leader has forgotten any of their writes.
const HEIGHT_MIN: u64 = 64;

/// The latest anchors that a sender knows.
#[derive(Debug)]
pub struct Anchors {
    slots: BoundedMap<SlotId, Anchor>,
    keys: BoundedMap<Key, Anchor>,
}

impl Default for Anchors {
    fn default() -> Self {
        Self { slots: BoundedMap::new(SLOTS_MAX), keys: BoundedMap::new(KEYS_MAX) }
    }
}

impl Anchors {
    /// What a write of the key that is first sent now comes after. Slot and key are not mixed: a height says nothing
    /// about another life of the key.
    pub fn of(&self, slot: SlotId, key: &Key) -> Option<Anchor> {
        let of_slot = self.slots.get(&slot).copied();
        self.keys.get(key).copied().or(of_slot)
    }

    /// Takes note of what a leader said of the present. One that goes back to another recovery than the one before is
    /// believed, whichever has the higher ballots: that one may be lost.
    pub fn note(&mut self, slot: SlotId, key: &Key, anchor: Anchor) {
        let of_slot = Anchor { height: 0, ..anchor };
        let replaces =
            |known: &Anchor, anchor: &Anchor| known.recovered_at() != anchor.recovered_at() || known < anchor;
        if self.slots.get(&slot).is_none_or(|known| replaces(known, &of_slot)) {
            self.slots.insert(slot, of_slot);
        }
        let is_newer = match self.keys.get(key) {
            Some(known) => replaces(known, &anchor),
            None => anchor.height >= HEIGHT_MIN,
        };
        if is_newer {
            self.keys.insert(key.clone(), anchor);
        }
    }

    /// Takes note of an answer, if what it tells is committed.
    pub fn note_reply(&mut self, slot: SlotId, request: &Request, reply: &Reply) {
        match (request, reply) {
            (
                Request::Write { key, level: Level::Quorum | Level::All, .. },
                Reply::Written { height, mark: Some(ballot), .. },
            ) => self.note(slot, key, Anchor { ballot: *ballot, height: *height }),
            (Request::Read { key, .. }, Reply::Entry(Reading { entry: Some(entry), mark: Some(ballot), .. })) => {
                self.note(slot, key, Anchor { ballot: *ballot, height: entry.height });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use difuse_keylog::{Anchor, Ballot, Configuration, Term};
    use difuse_types::{Key, NodeId, SlotId};

    use super::{Anchors, HEIGHT_MIN};

    fn anchor(sequence: u64, height: u64) -> Anchor {
        Anchor { ballot: Ballot { term: Term::start_of(1), sequence }, height }
    }

    #[test]
    fn a_height_is_never_taken_for_one_of_another_life_of_the_key() {
        let (slot, hot, other) = (SlotId(1), Key::new(b"hot").unwrap(), Key::new(b"other").unwrap());
        let mut anchors = Anchors::default();
        assert_eq!(anchors.of(slot, &hot), None);
        anchors.note(slot, &hot, anchor(5, HEIGHT_MIN));
        anchors.note(slot, &other, anchor(9, 1));
        assert_eq!(anchors.of(slot, &hot), Some(anchor(5, HEIGHT_MIN)));
        assert_eq!(anchors.of(slot, &other), Some(anchor(9, 0)));
        assert_eq!(anchors.of(SlotId(2), &other), None);
        // Older words change nothing; a later life of the key does, however short it is.
        anchors.note(slot, &hot, anchor(4, 2 * HEIGHT_MIN));
        assert_eq!(anchors.of(slot, &hot), Some(anchor(5, HEIGHT_MIN)));
        anchors.note(slot, &hot, anchor(10, 1));
        assert_eq!(anchors.of(slot, &hot), Some(anchor(10, 1)));
    }

    /// Else whoever was told something by a recovery that is lost would be turned away with each first attempt by another one
    /// whose ballots are lower.
    #[test]
    fn what_another_recovery_tells_replaces_what_a_lost_one_told() {
        let (slot, key) = (SlotId(1), Key::new(b"key").unwrap());
        let first = Configuration::first(slot, vec![NodeId([1; 32])]);
        let [higher, lower] = [2000, 1000].map(|drawn| {
            let term = Term::start_of(first.recovered(first.members.clone(), drawn).unwrap().epoch);
            Anchor { ballot: Ballot { term, sequence: 1 }, height: HEIGHT_MIN }
        });
        let mut anchors = Anchors::default();
        for told in [higher, lower] {
            anchors.note(slot, &key, told);
            assert_eq!(anchors.of(slot, &key), Some(told));
            let of_slot = Anchor { height: 0, ..told };
            assert_eq!(anchors.of(slot, &Key::new(b"other").unwrap()), Some(of_slot));
        }
    }
}
