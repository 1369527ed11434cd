//! How a replica accepts its slot's next configuration, and enters one that is decided.

use difuse_types::{NodeId, SlotId};

use super::{Standing, accepts_proposal, follows};
use crate::{
    Configuration, KeylogMessage, Term,
    keylog::{Keylog, Output, SlotState},
    store::{Proposed, SlotRecord, Store, StoreError, Write},
};

impl<S: Store> Keylog<S> {
    pub(crate) fn handle_propose(
        &mut self,
        from: NodeId,
        term: Term,
        configuration: Configuration,
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
        let proposed = Proposed { term, configuration };
        if state.record.proposed.as_ref() != Some(&proposed) {
            state.record.proposed = Some(proposed);
            let record = state.record.clone();
            self.write(vec![Write::Slot(record)])?;
        }
        self.send_durably(from, KeylogMessage::ProposalAccepted { slot, term, epoch });
        Ok(())
    }

    /// A decided configuration came in, with whatever message.
    pub(crate) fn enter_if_newer(&mut self, configuration: Configuration) -> Result<(), StoreError> {
        if !configuration.is_well_formed() || configuration.slot.0 >= self.options.slots.count() {
            return Ok(());
        }
        let slot = configuration.slot;
        let is_newer = match self.slots.get(&slot) {
            Some(state) => configuration.epoch > state.record.configuration.epoch,
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
        let record = SlotRecord { promised: Term::start_of(configuration.epoch), configuration, proposed: None };
        let state = self.slots.entry(slot).or_insert_with(|| SlotState::new(record.clone()));
        state.record = record.clone();
        state.refused_since = None;
        state.retry_at = None;
        // Promises die with their epoch; the leader who decided its end has given up its lease before anyone else knew.
        state.lease = None;
        self.write(vec![Write::Slot(record.clone())])?;
        if !is_member {
            self.bounce_parked(slot);
        }
        self.outputs.push(Output::Entered { configuration: record.configuration });
        self.consider_campaign(slot);
        Ok(())
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
