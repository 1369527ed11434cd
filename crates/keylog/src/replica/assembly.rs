use std::{collections::BTreeMap, ops::Range, time::Duration};

use difuse_types::{Hash, Instant, Key, SlotId};

use super::accepted::head_after;
use crate::{Ballot, Head, Register, Transaction, verify_chain};

/// The most bytes of transactions that wait in memory for the rest of their chain, over all keys.
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
    /// The beginning of what has come, in the store.
    staged: Option<Staged>,
    /// What has come so far above that.
    parts: Vec<Transaction>,
    bytes: usize,
}

/// What a store has staged of a chain: in memory there is what is needed to go on from there.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Staged {
    /// The height where it begins, the hash of what is below, and whether it begins with a checkpoint.
    pub(crate) first: (u64, Hash, bool),
    /// The key's head if it ended there.
    pub(crate) head: Head,
}

/// What was staged is not what goes on: something else was accepted meanwhile, or the parts are of different chains.
pub(crate) struct Lost;

impl Staged {
    /// `before`, or nothing yet above what `own` holds, with transactions that follow; `None` if they do not belong there, but
    /// replace some of that. `stored`: what the store has staged.
    pub(crate) fn extended(
        before: Option<&Self>,
        own: Option<&Register>,
        stored: Option<Range<u64>>,
        transactions: &[Transaction],
    ) -> Result<Option<Self>, Lost> {
        let Some(first) = transactions.first() else { return Ok(before.cloned()) };
        let below = match before {
            Some(before) if Some(before.heights()) != stored => return Err(Lost),
            Some(before) => Some(before.clone()),
            None => Self::begin(own, first),
        };
        let Some(mut staged) = below else { return Ok(None) };
        if !staged.is_below(first) {
            return Err(Lost);
        }
        staged.head = head_after(&staged.head, transactions);
        Ok(Some(staged))
    }

    fn begin(own: Option<&Register>, first: &Transaction) -> Option<Self> {
        let parent = (first.height.checked_sub(1)?, first.previous);
        let nothing =
            Head { height: parent.0, hash: parent.1, checkpoint: 0, deleted: None, deadline: None, recent: Vec::new() };
        let head = match own {
            Some(own) if (own.head.height, own.head.hash) == parent => own.head.clone(),
            Some(own) if own.head.height >= first.height => return None,
            _ if first.height > 1 && first.checkpoint.is_none() => return None,
            _ => nothing,
        };
        Some(Self { first: (first.height, first.previous, first.checkpoint.is_some()), head })
    }

    /// As a store tells it.
    pub(crate) fn heights(&self) -> Range<u64> {
        self.first.0..self.head.height.saturating_add(1)
    }

    /// Whether a transaction follows it.
    pub(crate) fn is_below(&self, next: &Transaction) -> bool {
        (self.head.height.checked_add(1), self.head.hash) == (Some(next.height), next.previous)
    }
}

impl Chain {
    /// Height and hash of the last that has come.
    fn end(&self) -> Option<(u64, Hash)> {
        let staged = self.staged.as_ref().map(|staged| (staged.head.height, staged.head.hash));
        self.parts.last().map(|last| (last.height, last.hash())).or(staged)
    }
}

impl Assembly {
    /// Where to go on with what waits for the key, if the proposal that begins at `first_height` lacks more than that.
    pub(crate) fn next_height(&self, slot: SlotId, key: &Key, first_height: u64) -> Option<u64> {
        let chain = self.chains.get(&(slot, key.clone()))?;
        let staged = chain.staged.as_ref().map(|staged| staged.head.height);
        let last = chain.parts.last().map(|last| last.height).or(staged)?;
        (last + 1 < first_height).then_some(last + 1)
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
            // What is staged took the most to get, and a leader may be about to propose it.
            self.chains.retain(|_, chain| chain.staged.is_some());
            self.count_bytes();
        }
        let chain = self.chains.entry((slot, key.clone())).or_insert_with(|| Chain {
            from_height: 0,
            ballot,
            asked_at: now,
            staged: None,
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
        let follows = chain.end() == Some((parent_height, first.previous));
        let held = if follows { chain.bytes } else { 0 };
        if self.bytes - chain.bytes + held + bytes > WAITING_BYTES_MAX {
            // Others are asked for again.
            self.chains.retain(|(of, other), _| (*of, other) == (slot, key));
            self.count_bytes();
        }
        if held + bytes > WAITING_BYTES_MAX {
            self.forget(slot, key);
            return None;
        }
        let chain = self.chains.get_mut(&(slot, key.clone()))?;
        if !follows {
            chain.parts.clear();
            chain.staged = None;
        }
        chain.parts.extend(part);
        self.bytes = self.bytes - chain.bytes + held + bytes;
        chain.bytes = held + bytes;
        (chain.from_height, chain.asked_at) = (next, now);
        Some((chain.ballot, next))
    }

    /// Takes what waits in memory for a key, if that is more than `bytes_max` and belongs above what `own` holds, to be
    /// staged. `stored`: what the store has staged.
    pub(crate) fn stage(
        &mut self,
        slot: SlotId,
        key: &Key,
        own: Option<&Register>,
        stored: Option<Range<u64>>,
        bytes_max: usize,
    ) -> Option<(u64, Vec<Transaction>)> {
        let chain = self.chains.get_mut(&(slot, key.clone()))?;
        if chain.bytes <= bytes_max {
            return None;
        }
        let Ok(staged) = Staged::extended(chain.staged.as_ref(), own, stored, &chain.parts) else {
            self.forget(slot, key);
            return None;
        };
        let first_height = staged.as_ref()?.first.0;
        chain.staged = staged;
        self.bytes -= std::mem::take(&mut chain.bytes);
        Some((first_height, std::mem::take(&mut chain.parts)))
    }

    /// What a leader has staged of a chain that it is about to propose.
    pub(crate) fn hand(&mut self, slot: SlotId, key: &Key, ballot: Ballot, staged: Staged, now: Instant) {
        self.forget(slot, key);
        let from_height = staged.heights().end;
        let chain = Chain { from_height, ballot, asked_at: now, staged: Some(staged), parts: Vec::new(), bytes: 0 };
        self.chains.insert((slot, key.clone()), chain);
    }

    /// Takes what waits for the key, up to the parent of `transactions`, and puts it before them; what of it is staged is given
    /// beside them. What ends further below stays. `stored` tells what the store has staged.
    pub(crate) fn join<E>(
        &mut self,
        slot: SlotId,
        key: &Key,
        transactions: Vec<Transaction>,
        stored: impl FnOnce() -> Result<Option<Range<u64>>, E>,
    ) -> Result<(Option<Staged>, Vec<Transaction>), E> {
        let Some(first) = transactions.first() else { return Ok((None, transactions)) };
        if self.chains.is_empty() || self.next_height(slot, key, first.height).is_some() {
            return Ok((None, transactions));
        }
        let Some(Chain { staged, parts: mut waiting, .. }) = self.take(slot, key) else {
            return Ok((None, transactions));
        };
        waiting.retain(|transaction| transaction.height < first.height);
        let is_below = |last: &Transaction| last.height + 1 == first.height && last.hash() == first.previous;
        let follows = waiting.last().is_none_or(is_below);
        let lowest = waiting.first().unwrap_or(first);
        let is_staged = match &staged {
            Some(staged) => staged.is_below(lowest) && stored()? == Some(staged.heights()),
            None => true,
        };
        if !(follows && is_staged) {
            return Ok((None, transactions));
        }
        waiting.extend(transactions);
        Ok((staged, waiting))
    }

    /// Keeps nothing of a key's chain any more.
    pub(crate) fn forget(&mut self, slot: SlotId, key: &Key) {
        self.take(slot, key);
    }

    fn count_bytes(&mut self) {
        self.bytes = self.chains.values().map(|chain| chain.bytes).sum();
    }

    fn take(&mut self, slot: SlotId, key: &Key) -> Option<Chain> {
        let chain = self.chains.remove(&(slot, key.clone()))?;
        self.bytes -= chain.bytes;
        Some(chain)
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, ops::Range, time::Duration};

    use difuse_types::{Hash, Instant, Key, NodeId, OperationId, SlotId, WallTime};

    use super::Assembly;
    use crate::{Ballot, Operation, Register, Term, Transaction, store::conformance::sample_register};

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

    /// The heights that are staged, and the transactions, of a proposal that brings `last`.
    fn joined(
        assembly: &mut Assembly,
        key: &Key,
        last: &[Transaction],
        stored: Option<Range<u64>>,
    ) -> (Option<Range<u64>>, Vec<Transaction>) {
        let stored = || Ok::<_, Infallible>(stored);
        let Ok((staged, transactions)) = assembly.join(SLOT, key, last.to_vec(), stored);
        (staged.map(|staged| staged.heights()), transactions)
    }

    #[test]
    fn a_long_chain_is_staged() {
        let key = Key::new(b"k").unwrap();
        let all = chain(&key, 9);
        let began = || {
            let mut assembly = Assembly::default();
            assert!(asked(&mut assembly, &key, 1, Duration::ZERO));
            assert!(assembly.add(SLOT, &key, all[..3].to_vec(), Instant(0)).is_some());
            assert_eq!(assembly.stage(SLOT, &key, None, None, 1 << 20), None, "it is not much");
            assert_eq!(assembly.stage(SLOT, &key, None, None, 0), Some((1, all[..3].to_vec())));
            assert_eq!((assembly.bytes, assembly.next_height(SLOT, &key, 9)), (0, Some(4)));
            assert!(assembly.add(SLOT, &key, all[3..6].to_vec(), Instant(0)).is_some());
            assembly
        };
        // The rest waits in memory, or is staged as well.
        assert_eq!(joined(&mut began(), &key, &all[6..], Some(1..4)), (Some(1..4), all[3..].to_vec()));
        let mut assembly = began();
        assert_eq!(assembly.stage(SLOT, &key, None, Some(1..4), 0), Some((1, all[3..6].to_vec())));
        let recent = all[..6].iter().rev().map(|transaction| transaction.operation_id).collect::<Vec<_>>();
        let (staged, _) =
            assembly.clone().join(SLOT, &key, all[6..].to_vec(), || Ok::<_, Infallible>(Some(1..7))).unwrap();
        assert_eq!(staged.map(|staged| (staged.head.hash, staged.head.recent)), Some((all[5].hash(), recent)));
        assert_eq!(joined(&mut assembly, &key, &all[6..], Some(1..7)), (Some(1..7), all[6..].to_vec()));
        // What the store has no more is asked for again.
        assert_eq!(joined(&mut began(), &key, &all[6..], None), (None, all[6..].to_vec()));
        let mut assembly = began();
        assert_eq!(assembly.stage(SLOT, &key, None, None, 0), None);
        assert_eq!(assembly.next_height(SLOT, &key, 9), None);
    }

    /// Only above what is held: what would replace some of that waits in memory.
    #[test]
    fn nothing_is_staged_over_what_is_held() {
        let key = Key::new(b"k").unwrap();
        let all = chain(&key, 9);
        let mut register = sample_register(&all[..2], 1);
        let mut assembly = Assembly::default();
        let mut stage = |from: usize, register: &Register| {
            assert!(asked(&mut assembly, &key, from as u64 + 1, Duration::ZERO));
            assert!(assembly.add(SLOT, &key, all[from..6].to_vec(), Instant(0)).is_some());
            assembly.stage(SLOT, &key, Some(register), None, 0).map(|(first_height, _)| first_height)
        };
        assert_eq!(stage(1, &register), None);
        assert_eq!(stage(2, &register), Some(3));
        register.head.hash = Hash::ZERO;
        assert_eq!(stage(2, &register), None, "it is another chain");
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
        assert_eq!(joined(&mut assembly, &key, &all[8..], None), (None, all[8..].to_vec()));
        assert_eq!(assembly.next_height(SLOT, &key, 9), Some(7));
        assert_eq!(joined(&mut assembly, &key, &all[6..], None), (None, all.clone()));
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
        assert_eq!(joined(&mut assembly, &key, &all[6..], None), (None, all[6..].to_vec()));
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
        assert_eq!(joined(&mut assembly, &key, &all[6..], None), (None, all[1..].to_vec()));
    }
}
