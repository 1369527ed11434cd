use std::collections::BTreeMap;

use difuse_types::{Key, SlotId};

use crate::{Transaction, verify_chain};

/// The most transactions that wait for the rest of their chain, over all keys.
const WAITING_MAX: usize = 100_000;

/// Parts of chains too long for one message, kept until the proposal that they lead up to arrives.
#[derive(Debug, Default, Clone, Hash)]
pub(crate) struct Assembly {
    parts: BTreeMap<(SlotId, Key), Vec<Transaction>>,
    waiting: usize,
}

impl Assembly {
    /// Adds a part. A part that does not follow what waits for its key replaces it.
    pub(crate) fn add(&mut self, slot: SlotId, key: &Key, part: Vec<Transaction>) {
        let Some(first) = part.first() else { return };
        let Some(parent_height) = first.height.checked_sub(1) else { return };
        if verify_chain(key, (parent_height, first.previous), &part).is_err() {
            return;
        }
        if self.waiting + part.len() > WAITING_MAX {
            self.parts.clear();
            self.waiting = 0;
        }
        let waiting = self.parts.entry((slot, key.clone())).or_default();
        let follows = waiting.last().is_some_and(|last| last.height == parent_height && last.hash() == first.previous);
        if !follows {
            self.waiting -= waiting.len();
            waiting.clear();
        }
        self.waiting += part.len();
        waiting.extend(part);
    }

    /// Takes what waits for the key, up to the parent of `transactions`, and puts it before them.
    pub(crate) fn join(&mut self, slot: SlotId, key: &Key, transactions: Vec<Transaction>) -> Vec<Transaction> {
        if self.parts.is_empty() {
            return transactions;
        }
        let Some(mut waiting) = self.parts.remove(&(slot, key.clone())) else { return transactions };
        self.waiting -= waiting.len();
        let Some(first) = transactions.first() else { return transactions };
        waiting.retain(|transaction| transaction.height < first.height);
        let follows =
            waiting.last().is_some_and(|last| last.height + 1 == first.height && last.hash() == first.previous);
        if !follows {
            return transactions;
        }
        waiting.extend(transactions);
        waiting
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::{Hash, Key, NodeId, OperationId, SlotId, WallTime};

    use super::Assembly;
    use crate::{Operation, Transaction};

    fn chain(key: &Key, length: u64) -> Vec<Transaction> {
        let mut previous = Hash::ZERO;
        let make = |height| {
            let transaction = Transaction {
                key: key.clone(),
                height,
                previous,
                operation: Operation::Delete,
                author: NodeId([0; 32]),
                time: WallTime(0),
                operation_id: OperationId::default(),
                checkpoint: None,
            };
            previous = transaction.hash();
            transaction
        };
        (1..=length).map(make).collect()
    }

    #[test]
    fn parts_that_follow_each_other_become_one_chain() {
        let key = Key::new(b"k").unwrap();
        let all = chain(&key, 9);
        let mut assembly = Assembly::default();
        assembly.add(SlotId(0), &key, all[..3].to_vec());
        assembly.add(SlotId(0), &key, all[3..6].to_vec());
        assert_eq!(assembly.join(SlotId(0), &key, all[6..].to_vec()), all);
        assert_eq!(assembly.waiting, 0);
    }

    #[test]
    fn a_part_that_follows_nothing_starts_anew() {
        let key = Key::new(b"k").unwrap();
        let all = chain(&key, 9);
        let mut assembly = Assembly::default();
        assembly.add(SlotId(0), &key, all[..3].to_vec());
        assembly.add(SlotId(0), &key, all[5..7].to_vec());
        assert_eq!(assembly.join(SlotId(0), &key, all[7..].to_vec()), all[5..]);
    }
}
