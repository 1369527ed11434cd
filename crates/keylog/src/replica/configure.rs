//! How a replica accepts its slot's next configuration, and enters one that is decided.

use difuse_types::{KeyPrefix, NodeId, SlotId};

use super::{Standing, accepts_proposal, follows};
use crate::{
    Ballot, Configuration, KeylogMessage, Term,
    keylog::{Keylog, Lease, Output, SlotState},
    leader::can_decide,
    rule::Rule,
    store::{Proposed, SlotRecord, Store, StoreError, Write},
};

/// What a node takes to be dropped that was no member: anything up to the epoch that it enters.
fn anything_before(epoch: u64) -> Ballot {
    Ballot { term: Term::start_of(epoch), sequence: 0 }
}

impl<S: Store> Keylog<S> {
    pub(crate) fn handle_propose(
        &mut self,
        from: NodeId,
        term: Term,
        configuration: Configuration,
        dropped: Option<Ballot>,
    ) -> Result<(), StoreError> {
        let slot = configuration.slot;
        if let Standing::Dealt = self.check_term(from, slot, term)? {
            return Ok(());
        }
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        if !follows(&state.record, &configuration) || !accepts_proposal(&state.record, term) {
            return Ok(());
        }
        let epoch = configuration.epoch;
        let mut record = state.record.clone();
        record.proposed = Some(Proposed { term, configuration });
        if record.dropped == Some(anything_before(record.configuration.epoch)) {
            // What was dropped before this node became a member: until now it could not tell.
            record.dropped = dropped.min(record.dropped);
        }
        if record != state.record {
            state.record = record.clone();
            self.write(vec![Write::Slot(Box::new(record))])?;
        }
        self.send_durably(from, KeylogMessage::ProposalAccepted { slot, term, epoch });
        Ok(())
    }

    /// A decided configuration came in, with whatever message.
    pub(crate) fn enter_if_newer(&mut self, configuration: Configuration) -> Result<(), StoreError> {
        if !configuration.is_well_formed() || configuration.slot.0 >= self.options.slots.count() {
            return Ok(());
        }
        if self.has_left && configuration.contains(&self.me) {
            return Ok(());
        }
        let slot = configuration.slot;
        let is_newer = match self.slots.get(&slot) {
            Some(state) => configuration.supersedes(&state.record.configuration),
            // A stranger's configuration is worth keeping only for a member.
            None => configuration.contains(&self.me),
        };
        if is_newer { self.enter(configuration) } else { Ok(()) }
    }

    /// Enters a decided configuration: all promises of the epoch before are void, and so is any leadership.
    pub(crate) fn enter(&mut self, configuration: Configuration) -> Result<(), StoreError> {
        let slot = configuration.slot;
        self.step_down(slot);
        let is_member = configuration.contains(&self.me);
        let known = self.configuration(slot);
        let is_emptied = configuration.is_recovery() && self.breaks(Rule::SurvivingCopies);
        let begins_anew =
            is_member && (is_emptied || known.is_some_and(|known| configuration.begins_anew_after(known)));
        let is_newcomer = configuration.newcomers().contains(&self.me);
        // Promises die with their epoch; the leader who decided its end has given up its lease before anyone else knew.
        // But whom a recovery gives up was not asked, and may have a lease.
        let lease = configuration.is_recovery().then(|| Lease { holder: None, until: self.now + self.options.lease });
        let has_been_member = known.is_some_and(|known| {
            let is_next = configuration.epoch <= known.epoch + 1 || configuration.is_recovery();
            is_next && known.contains(&self.me)
        });
        let before = (!has_been_member).then(|| anything_before(configuration.epoch));
        let dropped = self.slots.get(&slot).and_then(|state| state.record.dropped).max(before);
        let promised = Term::start_of(configuration.epoch);
        let without_steps = self.slots.get(&slot).and_then(|state| state.record.without_steps);
        let record = SlotRecord { promised, configuration, proposed: None, dropped, without_steps };
        let state = self.slots.entry(slot).or_insert_with(|| SlotState::new(record.clone()));
        state.record = record.clone();
        state.refused_since = None;
        // No campaign is won before.
        state.retry_at = lease.map(|lease| lease.until);
        state.lease = lease;
        self.next_tick = lease.map_or(self.next_tick, |lease| lease.until.min(self.next_tick));
        let mut writes = vec![Write::Slot(Box::new(record.clone()))];
        if begins_anew || is_newcomer {
            state.committed = Default::default();
            // What a newcomer has left of an earlier membership counts in no majority, and may be of keys dropped since.
            if begins_anew || !self.store.scan(slot, &KeyPrefix::new(), None, 1)?.is_empty() {
                writes.insert(0, Write::ClearSlot(slot));
            }
        }
        self.write(writes)?;
        if !is_member {
            self.bounce_parked(slot);
        }
        self.outputs.push(Output::Entered { configuration: record.configuration, begins_anew });
        self.consider_campaign(slot);
        Ok(())
    }

    /// Whether too few members of the slot are reachable from here to decide anything.
    pub fn has_lost_majority(&self, slot: SlotId) -> bool {
        let configuration = self.configuration(slot);
        configuration.is_some_and(|configuration| !can_decide(configuration, self.me, &self.suspects))
    }

    /// Enters the configuration of a recovery, made with [`Configuration::recovered`] of `lost`: an operator's word that
    /// the members that it leaves out are lost for ever. Refused, with `false`, by a node that it does not name, that
    /// knows of a later configuration than `lost`, or that reaches enough members to do without it. A slot without any
    /// survivor is begun empty, by a node that is no member and reaches none.
    pub fn recover(&mut self, lost: Configuration, recovered: Configuration) -> Result<bool, StoreError> {
        let slot = lost.slot;
        if !lost.is_well_formed() || !recovered.is_well_formed() || slot.0 >= self.options.slots.count() {
            return Ok(false);
        }
        let known = self.configuration(slot).filter(|known| !lost.supersedes(known)).unwrap_or(&lost);
        if *known == recovered {
            return Ok(true);
        }
        let is_next = recovered.is_recovery()
            && recovered.slot == slot
            && recovered.epoch > known.epoch
            && recovered.previous == known.hash();
        let is_left_out = |node: &NodeId| !recovered.members.contains(node);
        let reaches_anybody = || known.all_members().iter().any(|node| !self.suspects.contains(node));
        let is_sound = if known.contains(&self.me) {
            recovered.members.iter().all(|node| known.contains(node)) && !can_decide(known, self.me, &self.suspects)
        } else {
            known.all_members().iter().all(is_left_out) && !reaches_anybody()
        };
        if !is_next || !is_sound || !recovered.contains(&self.me) {
            return Ok(false);
        }
        if lost.contains(&self.me) {
            // Who was to be a newcomer and had not heard of it has nothing to go on with.
            self.enter_if_newer(lost)?;
        }
        self.enter(recovered)?;
        self.deliver_to_self()?;
        Ok(true)
    }

    /// Forgets the data of a slot that this node is no member of (any more): its members-to-be have confirmed that
    /// they hold it, or its final configuration could not have been decided.
    pub fn clear(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let is_member = self.slots.get(&slot).is_some_and(|state| state.record.configuration.contains(&self.me));
        if !is_member {
            if let Some(state) = self.slots.get_mut(&slot) {
                state.committed = Default::default();
            }
            self.write(vec![Write::ClearSlot(slot)])?;
        }
        Ok(())
    }
}
