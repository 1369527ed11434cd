//! A head that its only holders cannot read any more, while a quorum holds nothing of the key: a tombstone that rotted at a
//! member that was not told that the others dropped it. A register that a quorum lacks was not chosen at any ballot, or was
//! dropped, so a new leader need not adopt it (Paxos: any quorum's answers will do). It does nevertheless while somebody can
//! read it: a write at level leader that its leader alone holds is not given up without need.

use difuse_types::{Key, NodeId, SlotId};

use super::{Fetching, Reads, Stage};
use crate::{
    Ballot,
    keylog::Keylog,
    replica::damage::ReadError,
    store::{Store, StoreError},
};

impl<S: Store> Keylog<S> {
    /// Whether this node can read a key's chain as far down as it is kept.
    pub(super) fn can_read_chain(&mut self, slot: SlotId, key: &Key) -> Result<bool, StoreError> {
        let Some(register) = self.store.register(slot, key)? else { return Ok(true) };
        let mut next = register.base.max(1);
        while next <= register.head.height {
            match self.read_chain(slot, key, next, register.head.height) {
                Ok(part) if part.is_empty() => return Ok(false),
                Ok(part) => next += part.len() as u64,
                Err(ReadError::Damaged) => return Ok(false),
                Err(ReadError::Store(error)) => return Err(error),
            }
        }
        Ok(true)
    }

    /// A holder of the head that is being fetched cannot read it. If no holder can, the key is read again when it is time,
    /// from a quorum beside them.
    pub(super) fn note_unreadable(&mut self, from: NodeId, slot: SlotId, key: &Key, mut fetching: Fetching) {
        if fetching.is_lacked && fetching.holders.contains(&from) {
            fetching.holders.retain(|holder| *holder != from);
            fetching.unreadable.insert(from);
        }
        if let Some(state) = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key)) {
            state.stage = Stage::Fetching(fetching);
        }
    }

    /// A quorum holds nothing of a key: settles it as absent, and tells those who hold what cannot be read to drop it, this
    /// node first.
    pub(super) fn do_without(&mut self, slot: SlotId, key: &Key, reads: &Reads) -> Result<(), StoreError> {
        let me = self.me;
        let strays = reads.iter().filter_map(|(node, read)| Some((*node, read.as_ref()?.ballot)));
        let (own, others): (Vec<_>, Vec<_>) = strays.partition(|(node, _)| *node == me);
        let Some(term) = self.leadership(slot).map(|leadership| leadership.term) else { return Ok(()) };
        for (_, ballot) in own {
            self.handle_drop(me, slot, ballot.max(Ballot { term, sequence: 0 }), &[(key.clone(), ballot)])?;
        }
        self.drop_strays(slot, key, others);
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        leadership.touched.insert(key.clone(), ());
        self.advance(slot, key)
    }
}
