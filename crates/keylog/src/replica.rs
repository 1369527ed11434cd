//! The acceptor of every slot that this node is a member of: what it may promise and accept, and what it answers.
//!
//! Each `handle_*` changes the store in one batch and then answers; answers that promise something leave only when the
//! batch is durable ([`Keylog::send_durably`]).

use difuse_types::{Hash, Key, NodeId, SlotId};

use crate::{
    Ballot, Configuration, KeylogMessage, Proposal, Register, RegisterSummary, SCAN_PAGE_MAX, SlotDigest, StepsKnown,
    Term, Transaction,
    keylog::Keylog,
    rule::Rule,
    store::{Proposed, SlotRecord, Store, StoreError, Write},
    verify_chain,
};

mod accepted;
mod assembly;
mod chain;
mod committed;
mod configure;
pub(crate) mod damage;
mod drop;

pub(crate) use accepted::committed_above;
pub(crate) use assembly::{Assembly, Staged};
use chain::Beginning;
pub(crate) use committed::Committed;
use damage::ReadError;

/// About how many bytes of keys or transactions travel in one message at most.
pub(crate) const MESSAGE_BYTES_MAX: usize = 512 * 1024;
/// About how many bytes a register takes in a message besides its key.
const REGISTER_BYTES: usize = 160;

/// How a message's term stands to what this replica has promised.
enum Standing {
    /// It may be served.
    Current,
    /// It was answered with the reason why not, or cannot be answered.
    Dealt,
}

impl<S: Store> Keylog<S> {
    /// Whether this node is a member of a slot that is in an epoch here. Answers the sender if its epoch is over, and asks
    /// it for the newer configuration if this replica is behind.
    fn check_epoch(&mut self, from: NodeId, slot: SlotId, epoch: u64) -> bool {
        let Some(state) = self.slots.get(&slot) else {
            // What introduced the slot was lost. The sender has a later configuration than none, and answers with it.
            if slot.0 < self.options.slots.count() {
                self.send(from, KeylogMessage::Holdings { slots: vec![(slot, 0, SlotDigest::default())] });
            }
            return false;
        };
        let configuration = &state.record.configuration;
        let own = configuration.epoch;
        if epoch < own && !self.breaks(Rule::OneEpoch) {
            let configuration = configuration.clone();
            self.send(from, KeylogMessage::Outdated { configuration });
            return false;
        }
        if epoch > own {
            // A receiver in a later epoch answers with its configuration.
            let digest = self.store.digest(slot).unwrap_or_default();
            self.send(from, KeylogMessage::Holdings { slots: vec![(slot, own, digest)] });
            return false;
        }
        configuration.contains(&self.me)
    }

    /// Enters a higher term of the leader `from` on any of its messages: the term was promised by a majority already.
    /// Refuses a lower one.
    fn check_term(&mut self, from: NodeId, slot: SlotId, term: Term) -> Result<Standing, StoreError> {
        if term.node != from || !self.check_epoch(from, slot, term.epoch) {
            return Ok(Standing::Dealt);
        }
        let Some(SlotRecord { configuration, promised, .. }) = self.slots.get(&slot).map(|state| &state.record) else {
            return Ok(Standing::Dealt);
        };
        if term.epoch == configuration.epoch && !configuration.contains(&from) {
            // It leads in another recovery that shares the epoch.
            let configuration = configuration.clone();
            self.send(from, KeylogMessage::Outdated { configuration });
            return Ok(Standing::Dealt);
        }
        let promised = *promised;
        let is_of_another_epoch = term.epoch < promised.epoch && self.breaks(Rule::OneEpoch);
        if term < promised && !is_of_another_epoch {
            self.send(from, KeylogMessage::Refuse { slot, term, promised });
            return Ok(Standing::Dealt);
        }
        if term > promised {
            self.promise(slot, term)?;
        }
        if let Some(state) = self.slots.get_mut(&slot) {
            state.refused_since = None;
        }
        Ok(Standing::Current)
    }

    /// Promises a term, durably before anything that follows is answered.
    fn promise(&mut self, slot: SlotId, term: Term) -> Result<(), StoreError> {
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        state.record.promised = term;
        let record = state.record.clone();
        self.write(vec![Write::Slot(Box::new(record))])?;
        if term.node != self.me {
            self.step_down(slot);
        }
        Ok(())
    }

    pub(crate) fn handle_prepare(
        &mut self,
        from: NodeId,
        configuration: Configuration,
        term: Term,
    ) -> Result<(), StoreError> {
        let slot = configuration.slot;
        let valid = configuration.is_well_formed()
            && term.epoch == configuration.epoch
            && term.node == from
            && configuration.contains(&from);
        if !valid {
            return Ok(());
        }
        self.enter_if_newer(configuration.clone())?;
        if !self.check_epoch(from, slot, term.epoch) {
            return Ok(());
        }
        let Some(record) = self.slots.get(&slot).map(|state| state.record.clone()) else { return Ok(()) };
        if record.configuration != configuration {
            // Of two recoveries that share an epoch this node knows the one that stands.
            self.send(from, KeylogMessage::Outdated { configuration: record.configuration });
            return Ok(());
        }
        let is_refused = term < record.promised
            || self.is_leased_to_another(slot, from)
            || self.prefers_present_leader(&record, from);
        if is_refused {
            self.send(from, KeylogMessage::Refuse { slot, term, promised: record.promised });
            return Ok(());
        }
        if term > record.promised {
            self.promise(slot, term)?;
        }
        let digest = self.store.digest(slot)?;
        let held = self.store.register(slot, &Key::of_steps(slot))?.map(|register| register.ballot.term);
        let steps = Box::new(StepsKnown { held, begun_without: record.without_steps });
        let proposed = record.proposed;
        self.send_durably(from, KeylogMessage::Promise { slot, term, digest, proposed, steps });
        Ok(())
    }

    /// Whether the leader promised to is alive as far as this node knows, and preferred to the candidate: then a
    /// candidate that merely cannot reach the leader itself does not depose it (A–B and B–C but not A–C). A candidate
    /// that insists for [`crate::KeylogOptions::insist_after`] is let through, for the case that the leader only seems alive.
    fn prefers_present_leader(&mut self, record: &SlotRecord, candidate: NodeId) -> bool {
        let leader = record.promised.node;
        let rank = |node: NodeId| record.configuration.all_members().iter().position(|member| *member == node);
        let stands = record.promised.number > 0
            && leader != candidate
            && rank(leader).is_some()
            && rank(leader) < rank(candidate)
            && (leader == self.me || !self.suspects.contains(&leader));
        let (now, insist_after) = (self.now, self.options.insist_after);
        let Some(state) = self.slots.get_mut(&record.configuration.slot) else { return false };
        if !stands {
            state.refused_since = None;
            return false;
        }
        let since = *state.refused_since.get_or_insert(now);
        now.since(since) < insist_after
    }

    pub(crate) fn handle_read_register(
        &mut self,
        from: NodeId,
        slot: SlotId,
        term: Term,
        key: Key,
    ) -> Result<(), StoreError> {
        if let Standing::Dealt = self.check_term(from, slot, term)? {
            return Ok(());
        }
        let register = self.store.register(slot, &key)?.map(|register| summary_of(&register));
        self.send_durably(from, KeylogMessage::RegisterRead { slot, term, key, register });
        Ok(())
    }

    pub(crate) fn handle_scan(
        &mut self,
        from: NodeId,
        slot: SlotId,
        term: Term,
        after: Option<Key>,
    ) -> Result<(), StoreError> {
        if let Standing::Dealt = self.check_term(from, slot, term)? {
            return Ok(());
        }
        let page = self.store.scan(slot, &bytes::Bytes::new(), after.as_ref(), SCAN_PAGE_MAX)?;
        let mut bytes = 0;
        let fits = |(key, _): &&(Key, Register)| {
            bytes += REGISTER_BYTES + key.encoded().len();
            bytes <= MESSAGE_BYTES_MAX
        };
        let count = page.iter().take_while(fits).count();
        let is_last = page.len() < SCAN_PAGE_MAX && count == page.len();
        let registers = page.into_iter().take(count).map(|(key, register)| (key, summary_of(&register))).collect();
        self.send_durably(from, KeylogMessage::Scanned { slot, term, after, registers, is_last });
        Ok(())
    }

    /// Stages what waits in memory for the rest of a key's chain, if it is a lot. Whether there is room for it.
    pub(crate) fn stage_waiting(&mut self, from: NodeId, slot: SlotId, key: &Key) -> Result<bool, StoreError> {
        let (own, stored) = (self.store.register(slot, key)?, self.store.staged(slot, key)?);
        let bytes_max = self.options.waiting_bytes_max;
        let Some((first_height, transactions)) = self.assembly.stage(slot, key, own.as_ref(), stored, bytes_max) else {
            return Ok(true);
        };
        if self.why_full_for(key, transactions.iter().map(|transaction| &transaction.operation))?.is_some() {
            self.assembly.forget(slot, key);
            self.send(from, KeylogMessage::NoRoom { is_full: true });
            return Ok(false);
        }
        self.write(vec![Write::Stage { slot, key: key.clone(), first_height, transactions }])?;
        Ok(true)
    }

    pub(crate) fn handle_accept(&mut self, from: NodeId, slot: SlotId, proposal: Proposal) -> Result<(), StoreError> {
        if let Standing::Dealt = self.check_term(from, slot, proposal.ballot.term)? {
            return Ok(());
        }
        if self.is_ended_by_proposal(slot, proposal.ballot.term)? {
            return Ok(());
        }
        let (ballot, key, committed_height) = (proposal.ballot, proposal.key.clone(), proposal.committed_height);
        let committed_through = proposal.committed_through;
        let existing = self.store.register(slot, &key)?;
        if let Some(state) = self.slots.get_mut(&slot) {
            state.committed.note_watermark(Ballot { term: ballot.term, sequence: committed_through });
        }
        match &existing {
            None if self.may_be_of_a_dropped_key(slot, ballot) => return Ok(()),
            Some(register) if register.ballot > ballot => return Ok(()),
            Some(register) if register.ballot == ballot => {
                self.send_durably(from, KeylogMessage::Accepted { slot, ballot, key });
                return Ok(());
            }
            _ => {}
        }
        match self.connect(slot, existing.as_ref(), proposal)? {
            chain::Connection::Broken => {}
            chain::Connection::Lacking { from_height } => {
                let (now, patience) = (self.now, self.options.resend_after);
                if self.assembly.ask(slot, &key, ballot, from_height, now, patience) {
                    self.send(from, KeylogMessage::Lacking { slot, ballot, key, from_height });
                }
            }
            chain::Connection::Connected { proposal, staged, beginning } => {
                // What this node itself proposes was let in before.
                let operations = proposal.transactions.iter().map(|transaction| &transaction.operation);
                if from != self.me && self.why_full_for(&key, operations)?.is_some() {
                    self.send(from, KeylogMessage::NoRoom { is_full: true });
                    return Ok(());
                }
                // What is staged counts as if it had been accepted.
                let base = existing.as_ref().map_or(1, |register| register.base);
                let staged = staged.map(|staged| Register { ballot, head: staged.head, base });
                let below = staged.as_ref().or(existing.as_ref());
                let register = match self.register_after(slot, below, &proposal, beginning) {
                    Ok(register) => register,
                    // The proposal comes again; by then it may be repaired.
                    Err(ReadError::Damaged) => return Ok(()),
                    Err(ReadError::Store(error)) => return Err(error),
                };
                let mut writes = Vec::from_iter(self.note_term_without_steps(slot, &proposal));
                let transactions = proposal.transactions;
                writes.push(Write::Accept { slot, key: key.clone(), register, transactions });
                self.write(writes)?;
                if let Some(state) = self.slots.get_mut(&slot) {
                    let is_anew = existing.is_some() && !matches!(beginning, Beginning::Held);
                    state.committed.note_accepted(&key, ballot, existing.as_ref(), committed_height, is_anew);
                }
                self.send_durably(from, KeylogMessage::Accepted { slot, ballot, key });
            }
        }
        Ok(())
    }

    /// With the first proposal of a term that began without steps, that is written down.
    fn note_term_without_steps(&mut self, slot: SlotId, proposal: &Proposal) -> Option<Write> {
        let record = &mut self.slots.get_mut(&slot)?.record;
        let term = Some(proposal.ballot.term);
        if !proposal.without_steps || record.without_steps >= term {
            return None;
        }
        record.without_steps = term;
        Some(Write::Slot(Box::new(record.clone())))
    }

    /// A proposed configuration ends the epoch for keys: see [`SlotRecord::proposed`]. Only a leader of a later term
    /// that proposes keys all the same shows that it was not decided: it would have found it at a majority.
    fn is_ended_by_proposal(&mut self, slot: SlotId, term: Term) -> Result<bool, StoreError> {
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(true) };
        match &state.record.proposed {
            None => Ok(false),
            Some(proposed) if proposed.term >= term => Ok(true),
            Some(_) => {
                state.record.proposed = None;
                let record = state.record.clone();
                self.write(vec![Write::Slot(Box::new(record))])?;
                Ok(false)
            }
        }
    }

    pub(crate) fn handle_confirm(
        &mut self,
        from: NodeId,
        round: u64,
        leaderships: Vec<(SlotId, Term)>,
        is_lease: bool,
    ) -> Result<(), StoreError> {
        let mut slots = Vec::new();
        for (slot, term) in leaderships {
            if let Standing::Current = self.check_term(from, slot, term)? {
                if is_lease {
                    self.grant_lease(slot, from);
                }
                slots.push(slot);
            }
        }
        if !slots.is_empty() {
            self.send(from, KeylogMessage::Confirmed { round, slots });
        }
        Ok(())
    }
}

/// A register as it is shown to a leader.
pub(crate) fn summary_of(register: &Register) -> RegisterSummary {
    RegisterSummary { ballot: register.ballot, height: register.head.height, hash: register.head.hash }
}

fn follows(record: &SlotRecord, next: &Configuration) -> bool {
    next.is_well_formed()
        && next.slot == record.configuration.slot
        && next.epoch == record.configuration.epoch + 1
        && next.previous == record.configuration.hash()
}

fn chain_holds(key: &Key, transactions: &[Transaction], head: (u64, Hash)) -> bool {
    let Some(first) = transactions.first() else { return false };
    let Some(parent_height) = first.height.checked_sub(1) else { return false };
    let end = verify_chain(key, (parent_height, first.previous), transactions);
    end == Ok(head.1) && transactions.last().is_some_and(|last| last.height == head.0)
}

fn accepts_proposal(record: &SlotRecord, term: Term) -> bool {
    record.proposed.as_ref().is_none_or(|Proposed { term: accepted, .. }| *accepted <= term)
}
