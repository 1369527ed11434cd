//! The states of structures that a leader has folded, so that it need not fold them again for every command.

use std::collections::BTreeMap;

use difuse_structures::State;
use difuse_types::{Hash, Key, SlotId};

/// States by key, each with the hash of the transaction after which it holds: whoever finds that hash at the key's head
/// has the state of that head, whatever happened meanwhile. Bounded by the memory that the states take; those used
/// longest ago go first.
#[derive(Debug, Default)]
pub(crate) struct States {
    held: BTreeMap<(SlotId, Key), Held>,
    /// The order of use.
    used: BTreeMap<u64, (SlotId, Key)>,
    uses: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Held {
    hash: Hash,
    state: Box<dyn State>,
    bytes: usize,
    used: u64,
}

impl States {
    /// Takes out the state of a key after the transaction with this hash, if it is here.
    pub(crate) fn take(&mut self, slot: SlotId, key: &Key, hash: Hash) -> Option<Box<dyn State>> {
        let held = self.held.remove(&(slot, key.clone()))?;
        self.used.remove(&held.used);
        self.bytes -= held.bytes;
        (held.hash == hash).then_some(held.state)
    }

    /// Whether the state of a key after the transaction with this hash is here.
    pub(crate) fn holds(&self, slot: SlotId, key: &Key, hash: Hash) -> bool {
        self.held.get(&(slot, key.clone())).is_some_and(|held| held.hash == hash)
    }

    /// Keeps the state of a key after the transaction with this hash, and of all states no more than `bytes_max`.
    pub(crate) fn put(&mut self, slot: SlotId, key: &Key, hash: Hash, state: Box<dyn State>, bytes_max: usize) {
        let name = (slot, key.clone());
        if let Some(before) = self.held.remove(&name) {
            self.used.remove(&before.used);
            self.bytes -= before.bytes;
        }
        self.uses += 1;
        let bytes = state.memory() + key.encoded().len();
        self.used.insert(self.uses, name.clone());
        self.held.insert(name, Held { hash, state, bytes, used: self.uses });
        self.bytes += bytes;
        // The one that was just used stays, however large it is: it would be folded for each command.
        while self.bytes > bytes_max && self.held.len() > 1 {
            let Some((_, oldest)) = self.used.pop_first() else { return };
            self.bytes -= self.held.remove(&oldest).map_or(0, |held| held.bytes);
        }
    }
}

/// A copy of a node's part begins without them: they can be folded again.
impl Clone for States {
    fn clone(&self) -> Self {
        Self::default()
    }
}
