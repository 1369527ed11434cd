//! When two values of one node's part are the same to whatever comes: for model checkers, which must not look at one
//! state twice.

use std::hash::{Hash, Hasher};

use super::Keylog;

/// Leaves out the options and the generator of random pauses, and counts batches from the last durable one: how many
/// there were before changes nothing of what follows.
impl<S: Hash> Hash for Keylog<S> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        (self.me, self.now, self.wall, self.next_tick, self.next_holdings).hash(hasher);
        (&self.store, &self.slots, &self.suspects, &self.met, &self.inbox).hash(hasher);
        (&self.assembly, &self.waiting_reads, &self.rounds, self.last_round, self.jobs).hash(hasher);
        (&self.damages, &self.no_room).hash(hasher);
        let pending = |batch: u64| batch.saturating_sub(self.durable.0);
        pending(self.last_write.0).hash(hasher);
        for (gate, to, message) in &self.gated {
            (pending(gate.0), to, message).hash(hasher);
        }
    }
}
