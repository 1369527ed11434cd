//! Looking at what passes by and at what lands in stores, for the invariants.

use difuse_keylog::{KeylogMessage, Store, Transaction};
use difuse_types::{Hash, Key, NodeId, SlotId};

use crate::{
    Violation,
    clients::operation_number,
    invariants::{Chains, Known},
    node::Node,
    simulation::Simulation,
};

impl Simulation {
    /// Looks at a message between replicas.
    pub(crate) fn observe_message(&mut self, message: &KeylogMessage) -> Result<(), Violation> {
        self.configurations.observe_message(message)?;
        if let KeylogMessage::Accept { slot, ballot, key, height, hash, transactions, .. } = message {
            transactions.iter().for_each(|transaction| self.learn(transaction));
            self.ballots.observe(*slot, key, *ballot, (*height, *hash))?;
        }
        Ok(())
    }

    fn learn(&mut self, transaction: &Transaction) {
        let hash = transaction.hash();
        if self.chains.known(&hash).is_none() {
            let (height, previous) = (transaction.height, transaction.previous);
            let operation = operation_number(transaction.operation_id);
            self.chains.learn(hash, Known { height, previous, operation });
        }
    }

    /// Looks at what a process changed in its store.
    pub(crate) fn look_into_store(&mut self, id: NodeId) -> Result<(), Violation> {
        let mut transactions = Vec::new();
        let Some(store) = self.nodes.get(&id).and_then(Node::disk) else { return Ok(()) };
        let written = store.written();
        if self.written.insert(id, written) == Some(written) {
            return Ok(());
        }
        for slot in self.plan.settings.slots.iter() {
            let Ok(digest) = store.digest(slot) else { continue };
            if self.looked_at.insert((id, slot), digest.0) == Some(digest.0) {
                continue;
            }
            for (key, register) in store.scan(slot, &Default::default(), None, usize::MAX).unwrap_or_default() {
                let (height, hash) = (register.head.height, register.head.hash);
                self.ballots.observe(slot, &key, register.ballot, (height, hash))?;
                let base = if register.base > 1 { store.transaction(slot, &key, register.base) } else { Ok(None) };
                if let Ok(Some(base)) = base {
                    self.chains.rely(&key, base.height, base.hash());
                }
                transactions.extend(unknown_transactions(store, &self.chains, slot, &key, height, hash));
            }
        }
        for record in store.slots().unwrap_or_default() {
            self.configurations.observe(&record.configuration)?;
        }
        transactions.iter().for_each(|transaction| self.learn(transaction));
        Ok(())
    }
}

/// The transactions below a head that were not seen before.
fn unknown_transactions(
    store: &impl Store,
    chains: &Chains,
    slot: SlotId,
    key: &Key,
    height: u64,
    hash: Hash,
) -> Vec<Transaction> {
    let (mut height, mut hash) = (height, hash);
    let mut found = Vec::new();
    while chains.known(&hash).is_none()
        && let Ok(Some(transaction)) = store.transaction(slot, key, height)
    {
        (height, hash) = (height.saturating_sub(1), transaction.previous);
        found.push(transaction);
    }
    found
}
