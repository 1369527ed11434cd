//! Generations: how a collection of blocks keeps clear of uploads.
//!
//! Each slot keeps the number of the last collection that it takes part in, under a key of its own, agreed on like any
//! other. A value that names blocks says in which generation they were stored; the leader refuses it when the slot is two
//! generations further. Before a collection looks at what the values of a slot name, the slot is *sealed*: nothing that
//! was decided under an earlier generation can be committed from then on.
//!
//! Why sealing holds. Whatever can be committed later was accepted by some member, or is on its way to one. What an earlier
//! leader sent is refused by a member that has promised this leader's term; what members had accepted before is found,
//! and proposed again, by a comparison of all registers of all members, who promise the term before they answer; what
//! this leader itself decided before is known to it. So: the generation is committed in this term, everything that this
//! term proposed before it is, and a comparison of all members that began afterwards found nothing that differs.
//!
//! A recovery may have lost the last raise, and puts of uploads that are under way. So a recovered slot is in a generation
//! above all earlier ones, by its configuration's count of recoveries: what began before is refused, and the next collection
//! takes a number above that in every slot.

use std::{collections::BTreeSet, time::Duration};

use difuse_types::{Instant, Key, NodeId, SlotId};

use super::Stage;
use crate::{
    Configuration, Operation, Transaction, Value,
    keylog::Keylog,
    replica::damage::{ReadError, outcome},
    store::{Store, StoreError},
};

/// How far a slot is from being sealed.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Sealing {
    /// The proposal that raised the generation.
    sequence: u64,
    /// A comparison found nothing that differs but for proposals up to this one.
    compared_through: Option<u64>,
    /// When somebody last asked.
    asked_at: Instant,
}

/// For how long a slot is being sealed after somebody asked.
const PENDING_FOR: Duration = Duration::from_secs(5);

impl Sealing {
    /// Whether somebody waits for a comparison of all members.
    pub(crate) fn is_pending(&self, now: Instant) -> bool {
        self.compared_through.is_none() && now.since(self.asked_at) < PENDING_FOR
    }
}

/// Whether a slot is sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Nothing that was decided under an earlier generation can be committed any more.
    Yes,
    /// The leader has not raised the generation in its term.
    NotRaised,
    /// Not yet; these members do not answer.
    Waiting(Vec<NodeId>),
    /// This node does not lead the slot.
    NotLeading,
}

/// Generations below so many bits count collections; the bits above them are the slot's recoveries. Both fit into the 32
/// bits that a block's version has for its generation.
const COLLECTION_BITS: u32 = 24;
const _: () = assert!(Configuration::RECOVERIES_MAX << COLLECTION_BITS < 1 << 32);

/// Whether what was stored in a generation may have been collected while the slot is in another.
pub(crate) fn is_too_old(stored_in: u64, generation: u64) -> bool {
    stored_in.saturating_add(1) < generation
}

/// What a slot in `generation` writes under [`Key::of_generation`].
pub fn generation_operation(generation: u64) -> Operation {
    Operation::Set(Value::inline(generation.to_le_bytes().to_vec()))
}

fn generation_in(operation: &Operation) -> u64 {
    let Operation::Set(value) = operation else { return 0 };
    value.bytes[..].try_into().map_or(0, u64::from_le_bytes)
}

impl<S: Store> Keylog<S> {
    /// The generation of a slot that this node leads, as far as it was ever proposed; `None` while that is being found
    /// out.
    pub(crate) fn slot_generation(&mut self, slot: SlotId) -> Result<Option<u64>, ReadError> {
        let key = Key::of_generation();
        if !self.is_settled(slot, &key)? {
            if let Some(leadership) = self.leadership(slot) {
                leadership.keys.entry(key.clone()).or_default();
            }
            self.advance(slot, &key)?;
            if !self.is_settled(slot, &key)? {
                return Ok(None);
            }
        }
        let accepted = self.accepted_generation(slot)?.map_or(0, |(_, generation)| generation);
        // A proposal counts from the moment that it is made: what is decided next is checked against it.
        let stage = self.leadership(slot).and_then(|leadership| leadership.keys.get(&key)).map(|state| &state.stage);
        let proposed = match stage {
            Some(Stage::Proposing(proposing)) => {
                proposing.proposal.transactions.last().map(|last| generation_in(&last.operation))
            }
            _ => None,
        };
        let recoveries = self.configuration(slot).map_or(0, Configuration::recoveries);
        Ok(Some(accepted.max(proposed.unwrap_or(0)).max(recoveries << COLLECTION_BITS)))
    }

    /// Whether appends of a key must wait until the slot's generation is known, since one of them names blocks. They are
    /// taken up again then.
    pub(crate) fn must_wait_for_generation(&mut self, slot: SlotId, key: &Key) -> Result<bool, ReadError> {
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get(key));
        let needs_it =
            state.is_some_and(|state| state.appends.iter().any(|append| append.appending.generation().is_some()));
        if !needs_it || self.slot_generation(slot)?.is_some() {
            return Ok(false);
        }
        if let Some(leadership) = self.leadership(slot) {
            leadership.waiting_for_generation.insert(key.clone());
        }
        Ok(true)
    }

    /// The slot's generation is known: goes on with what waited for it.
    pub(crate) fn release_for_generation(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        for key in std::mem::take(&mut leadership.waiting_for_generation) {
            self.advance(slot, &key)?;
        }
        Ok(())
    }

    /// The generation that this node has accepted for a slot, and at which proposal of the present term.
    fn accepted_generation(&mut self, slot: SlotId) -> Result<Option<(Option<u64>, u64)>, ReadError> {
        let key = Key::of_generation();
        let Some(register) = self.store.register(slot, &key)? else { return Ok(None) };
        let transaction = self.stored(slot, &key, register.head.height)?;
        let generation =
            transaction.as_ref().map_or(0, |transaction: &Transaction| generation_in(&transaction.operation));
        let term = self.leadership(slot).map(|leadership| leadership.term);
        let sequence = (Some(register.ballot.term) == term).then_some(register.ballot.sequence);
        Ok(Some((sequence, generation)))
    }

    /// A generation never goes back.
    pub(crate) fn would_lower_generation(&mut self, slot: SlotId, operation: &Operation) -> Result<bool, ReadError> {
        let current = self.slot_generation(slot)?.unwrap_or(u64::MAX);
        Ok(generation_in(operation) < current)
    }

    /// The generation of a slot that this node leads; `None` if it does not, or has yet to find out.
    pub fn generation(&mut self, slot: SlotId) -> Result<Option<u64>, StoreError> {
        if self.leadership(slot).is_none() {
            return Ok(None);
        }
        Ok(outcome(self.slot_generation(slot))?.unwrap_or(None))
    }

    /// Whether a slot is sealed for a generation; goes on with what that needs if it is not. Ask again.
    pub fn seal(&mut self, slot: SlotId, generation: u64) -> Result<Sealed, StoreError> {
        let now = self.now;
        let Some(configuration) = self.configuration(slot) else { return Ok(Sealed::NotLeading) };
        let (is_joint, members) = (configuration.is_joint(), configuration.all_members());
        // One that is full may lack something that it does not accept.
        let is_silent = |node: &NodeId| self.suspects.contains(node) || self.is_full(node);
        let silent: Vec<_> = members.into_iter().filter(is_silent).collect();
        let Some(leadership) = self.leadership(slot) else { return Ok(Sealed::NotLeading) };
        if is_joint || leadership.change.is_some() {
            return Ok(Sealed::Waiting(silent));
        }
        let accepted = outcome(self.accepted_generation(slot))?.unwrap_or(None);
        let Some((Some(sequence), _)) = accepted.filter(|(_, accepted)| *accepted >= generation) else {
            return Ok(Sealed::NotRaised);
        };
        let Some(leadership) = self.leadership(slot) else { return Ok(Sealed::NotLeading) };
        let known = leadership.sealing.as_ref().filter(|sealing| sealing.sequence == sequence);
        if let Some(through) = known.and_then(|sealing| sealing.compared_through) {
            let is_sealed = leadership.committed_through() >= through;
            return Ok(if is_sealed { Sealed::Yes } else { Sealed::Waiting(silent) });
        }
        leadership.sealing = Some(Sealing { sequence, compared_through: None, asked_at: now });
        if leadership.sync.is_none() {
            leadership.sync_at.get_or_insert(now);
            self.start_sync_if_due(slot);
        }
        Ok(Sealed::Waiting(silent))
    }

    /// Which proposal's generation a comparison of these members seals when it finds nothing that differs, if any: all
    /// members take part, and everything up to that proposal is committed.
    pub(crate) fn sealed_by(&mut self, slot: SlotId, asked: &BTreeSet<NodeId>) -> Option<u64> {
        let configuration = self.configuration(slot)?;
        let is_everybody =
            !configuration.is_joint() && configuration.all_members().iter().all(|member| asked.contains(member));
        let leadership = self.leadership(slot)?;
        let sequence = leadership.sealing.as_ref()?.sequence;
        (is_everybody && leadership.committed_through() >= sequence).then_some(sequence)
    }

    /// A comparison found nothing that differs but for proposals up to `differs_through`.
    pub(crate) fn note_sealed(&mut self, slot: SlotId, sequence: u64, differs_through: u64) {
        let sealing = self.leadership(slot).and_then(|leadership| leadership.sealing.as_mut());
        if let Some(sealing) = sealing.filter(|sealing| sealing.sequence == sequence) {
            sealing.compared_through = Some(differs_through);
        }
    }
}
