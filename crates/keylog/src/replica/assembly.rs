use std::{collections::BTreeMap, time::Duration};

use difuse_types::{Instant, Key, SlotId};

use crate::{Ballot, Transaction, verify_chain};

/// The most bytes of transactions that wait for the rest of their chain, over all keys: a chain is accepted as one write, which
/// has to fit into a record of the log.
const WAITING_BYTES_MAX: usize = 192 << 20;
/// The most keys whose chain is wanted at a time: what is forgotten is asked for again.
const KEYS_MAX: usize = 65_536;

/// Chains too long for one message, which are asked for part by part until one ends below a proposal. One part is under way at
/// a time, so that the longest chain fits through the queues between nodes; and what has come is kept while the
/// leader goes on proposing.
#[derive(Debug, Default, Clone, Hash)]
pub(crate) struct Assembly {
    chains: BTreeMap<(SlotId, Key), Chain>,
    bytes: usize,
}

#[derive(Debug, Clone, Hash)]
struct Chain {
    /// From where on the chain was asked for last, for which proposal, and when.
    from_height: u64,
    ballot: Ballot,
    asked_at: Instant,
    /// What has come so far.
    parts: Vec<Transaction>,
    bytes: usize,
}

impl Assembly {
    /// Where to go on with what waits for the key, if the proposal that begins at `first_height` lacks more than that.
    pub(crate) fn next_height(&self, slot: SlotId, key: &Key, first_height: u64) -> Option<u64> {
        let last = self.chains.get(&(slot, key.clone()))?.parts.last()?;
        (last.height + 1 < first_height).then_some(last.height + 1)
    }

    /// Whether to ask the leader for the chain of the proposal at `ballot`, from `from_height` on: not if it was asked for
    /// just that less than `patience` ago.
    pub(crate) fn ask(
        &mut self,
        slot: SlotId,
        key: &Key,
        ballot: Ballot,
        from_height: u64,
        now: Instant,
        patience: Duration,
    ) -> bool {
        if self.chains.len() >= KEYS_MAX {
            *self = Self::default();
        }
        let chain = self.chains.entry((slot, key.clone())).or_insert_with(|| Chain {
            from_height: 0,
            ballot,
            asked_at: now,
            parts: Vec::new(),
            bytes: 0,
        });
        let is_asked = chain.from_height == from_height
            && chain.ballot.term == ballot.term
            && now.since(chain.asked_at) < patience;
        chain.ballot = chain.ballot.max(ballot);
        if is_asked {
            return false;
        }
        (chain.from_height, chain.asked_at) = (from_height, now);
        true
    }

    /// Adds a part, if it is what was asked for, or begins at a checkpoint above that because what is below was forgotten.
    /// Returns the proposal, and from where on to ask for the rest.
    pub(crate) fn add(
        &mut self,
        slot: SlotId,
        key: &Key,
        part: Vec<Transaction>,
        now: Instant,
    ) -> Option<(Ballot, u64)> {
        let (first, last) = (part.first()?, part.last()?);
        let parent_height = first.height.checked_sub(1)?;
        let next = last.height.checked_add(1)?;
        let bytes: usize = part.iter().map(Transaction::approximate_bytes).sum();
        let chain = self.chains.get(&(slot, key.clone()))?;
        let is_asked = first.height == chain.from_height;
        let is_base = first.height > chain.from_height && first.checkpoint.is_some();
        if !(is_asked || is_base) || verify_chain(key, (parent_height, first.previous), &part).is_err() {
            return None;
        }
        let follows =
            chain.parts.last().is_some_and(|last| last.height == parent_height && last.hash() == first.previous);
        let held = if follows { chain.bytes } else { 0 };
        if self.bytes - chain.bytes + held + bytes > WAITING_BYTES_MAX {
            // Others are asked for again.
            self.chains.retain(|(of, other), _| (*of, other) == (slot, key));
            self.bytes = self.chains.values().map(|chain| chain.bytes).sum();
        }
        if held + bytes > WAITING_BYTES_MAX {
            self.forget(slot, key);
            return None;
        }
        let chain = self.chains.get_mut(&(slot, key.clone()))?;
        if !follows {
            chain.parts.clear();
        }
        chain.parts.extend(part);
        self.bytes = self.bytes - chain.bytes + held + bytes;
        chain.bytes = held + bytes;
        (chain.from_height, chain.asked_at) = (next, now);
        Some((chain.ballot, next))
    }

    /// Takes what waits for the key, up to the parent of `transactions`, and puts it before them. What ends further below stays.
    pub(crate) fn join(&mut self, slot: SlotId, key: &Key, transactions: Vec<Transaction>) -> Vec<Transaction> {
        let Some(first) = transactions.first() else { return transactions };
        if self.chains.is_empty() || self.next_height(slot, key, first.height).is_some() {
            return transactions;
        }
        let Some(chain) = self.forget(slot, key) else { return transactions };
        let mut waiting = chain.parts;
        waiting.retain(|transaction| transaction.height < first.height);
        let follows =
            waiting.last().is_some_and(|last| last.height + 1 == first.height && last.hash() == first.previous);
        if !follows {
            return transactions;
        }
        waiting.extend(transactions);
        waiting
    }

    /// Keeps nothing of a key's chain any more.
    fn forget(&mut self, slot: SlotId, key: &Key) -> Option<Chain> {
        let chain = self.chains.remove(&(slot, key.clone()))?;
        self.bytes -= chain.bytes;
        Some(chain)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use difuse_types::{Hash, Instant, Key, NodeId, OperationId, SlotId, WallTime};

    use super::Assembly;
    use crate::{Ballot, Operation, Term, Transaction};

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

    const SLOT: SlotId = SlotId(0);

    fn asked(assembly: &mut Assembly, key: &Key, from_height: u64, after: Duration) -> bool {
        let ballot = Ballot { term: Term::start_of(0), sequence: 1 };
        assembly.ask(SLOT, key, ballot, from_height, Instant(0) + after, Duration::from_secs(1))
    }

    #[test]
    fn a_chain_is_asked_for_part_by_part() {
        let key = Key::new(b"k").unwrap();
        let all = chain(&key, 9);
        let mut assembly = Assembly::default();
        assert!(asked(&mut assembly, &key, 1, Duration::ZERO));
        assert!(!asked(&mut assembly, &key, 1, Duration::from_millis(999)), "asked again too early");
        assert!(asked(&mut assembly, &key, 1, Duration::from_secs(1)));
        let mut add = |part: &[Transaction]| assembly.add(SLOT, &key, part.to_vec(), Instant(0)).map(|(_, next)| next);
        assert_eq!(add(&all[..3]), Some(4));
        assert_eq!(add(&all[..3]), None, "it was not asked for again");
        assert_eq!(add(&all[3..6]), Some(7));
        // A proposal that begins further up leaves what has come, and is asked for from there.
        assert_eq!(assembly.join(SLOT, &key, all[8..].to_vec()), all[8..]);
        assert_eq!(assembly.next_height(SLOT, &key, 9), Some(7));
        assert_eq!(assembly.join(SLOT, &key, all[6..].to_vec()), all);
        assert_eq!(assembly.bytes, 0);
    }

    #[test]
    fn what_was_not_asked_for_is_not_kept() {
        let key = Key::new(b"k").unwrap();
        let all = chain(&key, 9);
        let mut assembly = Assembly::default();
        assert_eq!(assembly.add(SLOT, &key, all[..3].to_vec(), Instant(0)), None);
        assert!(asked(&mut assembly, &key, 1, Duration::ZERO));
        assert_eq!(assembly.add(SLOT, &key, all[3..6].to_vec(), Instant(0)), None);
        assert_eq!(assembly.join(SLOT, &key, all[6..].to_vec()), all[6..]);
    }

    #[test]
    fn a_part_that_nothing_can_follow_is_not_kept() {
        let key = Key::new(b"k").unwrap();
        let mut last = chain(&key, 1).remove(0);
        (last.height, last.checkpoint) = (u64::MAX, Some(Hash::ZERO));
        let mut assembly = Assembly::default();
        assert!(asked(&mut assembly, &key, 1, Duration::ZERO));
        assert_eq!(assembly.add(SLOT, &key, vec![last], Instant(0)), None);
    }

    #[test]
    fn a_part_that_follows_nothing_starts_anew() {
        let key = Key::new(b"k").unwrap();
        let all = chain(&key, 9);
        let mut assembly = Assembly::default();
        assert!(asked(&mut assembly, &key, 1, Duration::ZERO));
        assert!(assembly.add(SLOT, &key, all[..3].to_vec(), Instant(0)).is_some());
        // Its own chain is another one at the height that was to follow: it asks further down.
        assert!(asked(&mut assembly, &key, 2, Duration::ZERO));
        assert!(assembly.add(SLOT, &key, all[1..6].to_vec(), Instant(0)).is_some());
        assert_eq!(assembly.join(SLOT, &key, all[6..].to_vec()), all[1..]);
    }
}
