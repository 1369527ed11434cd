//! Looking at what passes by and at what lands in stores, for the invariants.

use difuse_keylog::{
    KeylogMessage, Operation, Store, Transaction,
    store::{Changes, MemoryStore},
};
use difuse_types::{Hash, Key, NodeId, SlotId, Slots};

use crate::{
    Violation,
    clients::operation_number,
    invariants::{Brought, Chains, Known},
    linearizability::NEVER_WRITTEN,
    node::Node,
    simulation::Simulation,
};

impl Simulation {
    /// Looks at a message between replicas.
    pub(crate) fn observe_message(&mut self, message: &KeylogMessage) -> Result<(), Violation> {
        self.configurations.observe_message(message)?;
        if let KeylogMessage::Accept { slot, proposal } = message {
            proposal.transactions.iter().for_each(|transaction| self.learn(transaction));
            self.ballots.observe(*slot, &proposal.key, proposal.ballot, (proposal.height, proposal.hash))?;
        }
        if let KeylogMessage::Drop { keys, .. } = message {
            self.figures.dropped += keys.len() as u64;
        }
        Ok(())
    }

    fn learn(&mut self, transaction: &Transaction) {
        let hash = transaction.hash();
        if self.chains.known(&hash).is_none() {
            let (height, previous) = (transaction.height, transaction.previous);
            let operation = self.operation_of(transaction);
            self.chains.learn(hash, Known { height, previous, operation });
            if transaction.deletes_at().is_some() {
                self.chains.learn_delete(&transaction.key, height, hash);
            }
        }
    }

    /// The number of the write that a transaction stems from. Nobody asked for the delete with which a leader seals a key that holds
    /// nothing: it leaves the key as it was.
    fn operation_of(&self, transaction: &Transaction) -> u64 {
        let number = operation_number(transaction.operation_id);
        let is_seal = transaction.height == 1
            && matches!(transaction.operation, Operation::Delete)
            && !self.clients.writes.contains_key(&number);
        if is_seal { NEVER_WRITTEN } else { number }
    }

    /// Looks at what a process changed in its store: at all of it the first time, and then at what was written since.
    pub(crate) fn look_into_store(&mut self, id: NodeId) -> Result<(), Violation> {
        let mut transactions = Vec::new();
        let Some(store) = self.nodes.get(&id).and_then(Node::disk) else { return Ok(()) };
        let written = store.written();
        let seen = self.written.insert(id, written);
        if seen == Some(written) {
            return Ok(());
        }
        let changes = seen.and_then(|seen| store.changed_since(seen));
        let changes = changes.unwrap_or_else(|| everything(store, self.plan.settings.slots));
        let has_changed = !changes.records.is_empty();
        let mut entered = Vec::new();
        for record in changes.records.iter().filter_map(|slot| store.slot(*slot).ok().flatten()) {
            self.configurations.observe(&record.configuration)?;
            self.recoveries.observe(&record.configuration);
            if self.plan.disasters > 0 {
                let brought = self.recoveries.enter(id, &record.configuration);
                entered.extend(brought.map(|brought| (brought, record.configuration.recovery)));
            }
        }
        for (slot, key) in changes.keys {
            let Ok(Some(register)) = store.register(slot, &key) else { continue };
            let (height, hash) = (register.head.height, register.head.hash);
            self.ballots.observe(slot, &key, register.ballot, (height, hash))?;
            if self.plan.disasters > 0 {
                self.recoveries.hold(id, slot, &key, hash);
            }
            let lowest_named = (height + 1).saturating_sub(register.head.recent.len() as u64);
            if register.base > 1 && register.base > lowest_named {
                let base = register.base;
                return Err(Violation::ForgottenOperations { key, height, base });
            }
            let base = if register.base > 1 { store.transaction(slot, &key, register.base) } else { Ok(None) };
            if let Ok(Some(base)) = base {
                let recovery = self.recoveries.of_epoch(slot, register.ballot.term.epoch);
                recovery.into_iter().for_each(|recovery| self.chains.rely(&key, base.height, base.hash(), recovery));
            }
            transactions.extend(unknown_transactions(store, &self.chains, slot, &key, height, hash));
        }
        transactions.iter().for_each(|transaction| self.learn(transaction));
        if has_changed {
            self.judge_recoveries();
        }
        for ((lost, heads), recovery) in entered {
            // What it holds of what clients were told is committed must stay.
            for (key, head) in heads {
                if let Some((height, hash)) = self.chains.last_shown(&key, head, lost) {
                    self.recoveries.bring(Brought { by: id, sequence: written, recovery, key, height, hash });
                }
            }
        }
        Ok(())
    }
}

fn everything(store: &MemoryStore, slots: Slots) -> Changes {
    let keys_of = |slot| store.scan(slot, &Default::default(), None, usize::MAX).unwrap_or_default();
    let keys = slots.iter().flat_map(|slot| keys_of(slot).into_iter().map(move |(key, _)| (slot, key)));
    Changes { records: slots.iter().collect(), keys: keys.collect() }
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
