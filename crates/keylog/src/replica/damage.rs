//! Transactions that should be here and cannot be read: the disk damaged them, or lost the file that they were in. They
//! are fetched again from another member, checked against what is above them, and written anew. Until then this node answers
//! nothing that would need them, and goes on with everything else.

use std::collections::BTreeMap;

use difuse_types::{Instant, Key, NodeId, SlotId};

use crate::{
    Failure, KeylogMessage, Register, Transaction,
    keylog::Keylog,
    store::{Store, StoreError, Write},
    verify_chain,
};

/// The most keys whose repair is remembered at the same time; what does not fit is noted again at its next use.
const DAMAGES_MAX: usize = 1024;
/// The most bytes of transactions, one above the other, that are repaired: two files of the log. They are written as one
/// record.
const REPAIRED_BYTES_MAX: usize = 128 << 20;

/// Why something stored was not given.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// A transaction is damaged; its repair is under way.
    Damaged,
    /// The store cannot go on.
    Store(StoreError),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a job is answered with; an error means that the store cannot go on.
pub(crate) fn outcome<T>(read: Result<T, ReadError>) -> Result<Result<T, Failure>, StoreError> {
    match read {
        Ok(answer) => Ok(Ok(answer)),
        Err(ReadError::Damaged) => Ok(Err(Failure::Damaged)),
        Err(ReadError::Store(error)) => Err(error),
    }
}

/// What is damaged, by slot and key.
pub(crate) type Damages = BTreeMap<(SlotId, Key), Damage>;

/// A key whose chain cannot be read from a height on.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Damage {
    from_height: u64,
    /// What another member sent, from there on, and how many bytes that is.
    collected: Vec<Transaction>,
    bytes: usize,
    /// Counts the members asked.
    asked: usize,
    sent_at: Option<Instant>,
}

impl<S: Store> Keylog<S> {
    /// A stored transaction; `None` if there is none. If it is damaged, its repair begins.
    pub(crate) fn stored(&mut self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Transaction>, ReadError> {
        match self.store.transaction(slot, key, height) {
            Ok(transaction) => Ok(transaction),
            Err(StoreError::Corrupt(_)) => {
                self.note_damage(slot, key, height);
                Err(ReadError::Damaged)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a transaction that should be stored from the disk again and checks it: gives the bytes that it takes there, or
    /// `None` if it is damaged or missing; then its repair begins.
    pub fn verify_stored(&mut self, slot: SlotId, key: &Key, height: u64) -> Result<Option<u64>, StoreError> {
        match self.store.verify(slot, key, height) {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) | Err(StoreError::Corrupt(_)) => {
                self.note_damage(slot, key, height);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a key has transactions here that cannot be read, and are being fetched from other members.
    pub fn is_under_repair(&self, slot: SlotId, key: &Key) -> bool {
        self.damages.contains_key(&(slot, key.clone()))
    }

    /// Whether a key's chain is known to be damaged within a range of heights.
    pub(crate) fn is_damaged(&self, slot: SlotId, key: &Key, heights: std::ops::RangeInclusive<u64>) -> bool {
        // Seldom is any key damaged.
        !self.damages.is_empty()
            && self.damages.get(&(slot, key.clone())).is_some_and(|damage| heights.contains(&damage.from_height))
    }

    /// How many keys have transactions here that cannot be read.
    pub fn damaged_keys(&self) -> usize {
        self.damages.len()
    }

    /// A transaction that should be stored cannot be read.
    pub(crate) fn note_damage(&mut self, slot: SlotId, key: &Key, height: u64) {
        let name = (slot, key.clone());
        if let Some(damage) = self.damages.get_mut(&name) {
            if height < damage.from_height {
                (damage.from_height, damage.sent_at) = (height, None);
                damage.collected.clear();
                damage.bytes = 0;
            }
            return;
        }
        if self.damages.len() < DAMAGES_MAX {
            let damage = Damage { from_height: height, collected: Vec::new(), bytes: 0, asked: 0, sent_at: None };
            self.damages.insert(name, damage);
            self.next_tick = self.next_tick.min(self.now);
        }
    }

    /// Asks for what is still missing, another member each time.
    pub(crate) fn tick_damages(&mut self) -> Result<(), StoreError> {
        let (now, resend_after) = (self.now, self.options.resend_after);
        let is_due = |damage: &Damage| damage.sent_at.is_none_or(|at| now.since(at) >= resend_after);
        let due: Vec<_> =
            self.damages.iter().filter(|(_, damage)| is_due(damage)).map(|(name, _)| name.clone()).collect();
        for (slot, key) in due {
            match self.damaged_register(slot, &key)? {
                Some(register) => self.ask_for_damaged(slot, &key, register.head.height),
                None => drop(self.damages.remove(&(slot, key))),
            }
        }
        Ok(())
    }

    /// The register of a key that is still damaged; `None` if it was repaired, or what was damaged is not needed any
    /// more.
    fn damaged_register(&self, slot: SlotId, key: &Key) -> Result<Option<Register>, StoreError> {
        let Some(damage) = self.damages.get(&(slot, key.clone())) else { return Ok(None) };
        let is_needed = |register: &Register| register.head.height >= damage.from_height;
        let Some(register) = self.store.register(slot, key)?.filter(is_needed) else { return Ok(None) };
        let is_readable = matches!(self.store.verify(slot, key, damage.from_height), Ok(Some(_)));
        Ok((!is_readable).then_some(register))
    }

    fn ask_for_damaged(&mut self, slot: SlotId, key: &Key, to_height: u64) {
        let members = self.configuration(slot).map(|configuration| configuration.all_members()).unwrap_or_default();
        let others: Vec<NodeId> =
            members.into_iter().filter(|node| *node != self.me && !self.suspects.contains(node)).collect();
        let now = self.now;
        let Some(damage) = self.damages.get_mut(&(slot, key.clone())) else { return };
        damage.sent_at = Some(now);
        let from_height = damage.collected.last().map_or(damage.from_height, |last| last.height + 1);
        let Some(member) = others.get(damage.asked % others.len().max(1)).copied() else { return };
        damage.asked += 1;
        self.send(member, KeylogMessage::FetchTransactions { slot, key: key.clone(), from_height, to_height });
    }

    /// A part of a chain came in: it may be what a damaged key waits for. What is stored above tells by its hash whether it
    /// is what was there.
    pub(crate) fn repair_damage(&mut self, slot: SlotId, key: &Key, part: &[Transaction]) -> Result<(), StoreError> {
        let name = (slot, key.clone());
        let (Some(damage), Some(first)) = (self.damages.get_mut(&name), part.first()) else { return Ok(()) };
        let expected = damage.collected.last().map_or(damage.from_height, |last| last.height + 1);
        let bytes = damage.bytes + part.iter().map(Transaction::approximate_bytes).sum::<usize>();
        if first.height != expected || bytes > REPAIRED_BYTES_MAX {
            return Ok(());
        }
        let follows = damage.collected.last().is_none_or(|last| last.hash() == first.previous);
        let mut collected = std::mem::take(&mut damage.collected);
        damage.bytes = 0;
        let Some(register) = self.damaged_register(slot, key)? else {
            self.damages.remove(&name);
            return Ok(());
        };
        let is_chain = follows && verify_chain(key, (first.height.saturating_sub(1), first.previous), part).is_ok();
        let end = if is_chain { self.end_of_damage(slot, key, &register, part)? } else { Found::AnotherChain };
        let count = match end {
            // The next member may have the one that was accepted here.
            Found::AnotherChain => return Ok(()),
            Found::Nothing => {
                collected.extend_from_slice(part);
                if let Some(damage) = self.damages.get_mut(&name) {
                    (damage.collected, damage.bytes) = (collected, bytes);
                    // The same member goes on.
                    damage.asked = damage.asked.wrapping_sub(1);
                }
                self.ask_for_damaged(slot, key, register.head.height);
                return Ok(());
            }
            Found::End(count) => count,
        };
        if self.why_full()?.is_some() {
            // Tried again later.
            return Ok(());
        }
        collected.extend_from_slice(&part[..count]);
        self.write(vec![Write::Repair { slot, key: key.clone(), transactions: collected }])?;
        self.damages.remove(&name);
        Ok(())
    }

    /// How many of these transactions are below one that can be read, or the head.
    fn end_of_damage(
        &self,
        slot: SlotId,
        key: &Key,
        register: &Register,
        part: &[Transaction],
    ) -> Result<Found, StoreError> {
        for (transaction, count) in part.iter().zip(1..) {
            let above = match transaction.height.checked_add(1) {
                Some(next) if next <= register.head.height => match self.store.transaction(slot, key, next) {
                    Ok(Some(next)) => next.previous,
                    Ok(None) | Err(StoreError::Corrupt(_)) => continue,
                    Err(error) => return Err(error),
                },
                _ => register.head.hash,
            };
            return Ok(if above == transaction.hash() { Found::End(count) } else { Found::AnotherChain });
        }
        Ok(Found::Nothing)
    }
}

/// Where damage ends.
enum Found {
    /// Above so many transactions.
    End(usize),
    /// What comes above them cannot be read either.
    Nothing,
    /// They are not what was stored.
    AnotherChain,
}
