//! What time brings: messages are sent again, campaigns and changes are begun.

use difuse_types::{Key, SlotId};

use super::{
    Phase, Stage,
    change::{PARKED_MAX, is_same_group},
};
use crate::{
    KeylogMessage, Proposal,
    keylog::{Keylog, SlotState},
    store::{Store, StoreError},
};

impl<S: Store> Keylog<S> {
    pub(crate) fn tick_slots(&mut self) -> Result<(), StoreError> {
        let restless = self.slots.iter().filter(|(_, state)| !self.is_at_rest(state));
        let slots: Vec<SlotId> = restless.map(|(slot, _)| *slot).collect();
        let mut moves = self.slots.values().filter(|state| is_moving(state)).count();
        for slot in slots {
            self.expire_parked(slot);
            match self.slots.get(&slot).map(|state| &state.phase) {
                Some(Phase::Follower) => self.consider_campaign(slot),
                Some(Phase::Candidate(_)) => self.tick_candidate(slot),
                Some(Phase::Leading(_)) => {
                    self.tick_leader(slot, moves < self.options.moves_max)?;
                    moves += usize::from(self.slots.get(&slot).is_some_and(is_draining));
                }
                None => {}
            }
            self.tell_blocks_ready(slot);
        }
        self.start_waiting_syncs();
        Ok(())
    }

    /// Whether time brings nothing to a slot: as a rule that is so of nearly all.
    fn is_at_rest(&self, state: &SlotState) -> bool {
        let configuration = &state.record.configuration;
        if configuration.is_joint() || configuration.is_recovery() || !state.parked.is_empty() {
            return false;
        }
        match &state.phase {
            Phase::Follower => self.preferred_leader(configuration) != Some(self.me),
            Phase::Candidate(_) => false,
            Phase::Leading(leadership) => {
                let is_placed = |(desired, _): &(Vec<_>, _)| is_same_group(desired, &configuration.members);
                leadership.is_idle()
                    && state.desired.as_ref().is_none_or(is_placed)
                    && self.unheard(state, leadership).next().is_none()
            }
        }
    }

    fn expire_parked(&mut self, slot: SlotId) {
        let now = self.now;
        let is_stuck = self
            .slots
            .get(&slot)
            .and_then(|state| state.parked.front())
            .is_some_and(|job| now.since(job.since) > PARKED_MAX);
        if is_stuck {
            self.bounce_parked(slot);
        }
    }

    /// A candidate asks again, unless another member should lead by now.
    fn tick_candidate(&mut self, slot: SlotId) {
        let (now, resend_after) = (self.now, self.options.resend_after);
        let Some(state) = self.slots.get_mut(&slot) else { return };
        let configuration = state.record.configuration.clone();
        let Phase::Candidate(candidate) = &mut state.phase else { return };
        if now.since(candidate.sent_at) < resend_after {
            return;
        }
        candidate.sent_at = now;
        let term = candidate.term;
        let missing: Vec<_> =
            configuration.all_members().into_iter().filter(|node| !candidate.promises.contains_key(node)).collect();
        if self.preferred_leader(&configuration) != Some(self.me) {
            self.step_down(slot);
            self.bounce_parked(slot);
            return;
        }
        for member in missing {
            self.send(member, KeylogMessage::Prepare { configuration: configuration.clone(), term });
        }
    }

    fn tick_leader(&mut self, slot: SlotId, may_move: bool) -> Result<(), StoreError> {
        self.find_out_steps(slot)?;
        self.resend_keys(slot)?;
        self.tick_awaited(slot)?;
        self.resend_sync(slot);
        self.resend_change(slot);
        self.start_sync_if_due(slot);
        self.ask_for_digests(slot);
        self.continue_change(slot)?;
        self.consider_change(slot, may_move)
    }

    /// Sends again what keys wait for.
    fn resend_keys(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let (now, resend_after) = (self.now, self.options.resend_after);
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let is_late = |sent_at| now.since(sent_at) >= resend_after;
        let late: Vec<Key> = leadership
            .keys
            .iter()
            .filter(|(_, state)| match &state.stage {
                Stage::Idle => false,
                Stage::Touching { sent_at, .. } => is_late(*sent_at),
                Stage::Fetching(fetching) => is_late(fetching.sent_at),
                Stage::Proposing(proposing) => is_late(proposing.sent_at),
                Stage::Comparing(comparing) => is_late(comparing.sent_at),
            })
            .map(|(key, _)| key.clone())
            .collect();
        for key in late {
            self.resend_key(slot, &key)?;
        }
        Ok(())
    }

    fn resend_key(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let (me, now) = (self.me, self.now);
        let Some(members) = self.configuration(slot).map(crate::Configuration::all_members) else { return Ok(()) };
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let (term, committed_through) = (leadership.term, leadership.committed_through());
        let Some(state) = leadership.keys.get_mut(key) else { return Ok(()) };
        match &mut state.stage {
            Stage::Idle => {}
            Stage::Comparing(_) => return self.tick_comparison(slot, key),
            // Who could not read what it holds may have been repaired since.
            Stage::Touching { unreadable, .. } if !unreadable.is_empty() => return self.touch(slot, key),
            Stage::Touching { reads, sent_at, .. } => {
                *sent_at = now;
                let answered = reads.clone();
                self.ask_for_register(slot, term, key, &answered);
            }
            Stage::Fetching(_) => {
                if let Stage::Fetching(fetching) = std::mem::take(&mut state.stage) {
                    // Somebody else may have it, or a quorum that answers may hold something else.
                    if fetching.holders.iter().all(|holder| self.suspects.contains(holder)) {
                        return self.touch_beside(slot, key, fetching.unreadable);
                    }
                    self.fetch(slot, key, fetching);
                }
            }
            Stage::Proposing(proposing) => {
                proposing.sent_at = now;
                let missing = members.into_iter().filter(|node| !proposing.voters.contains(node));
                let proposal_to = |member: &_| Proposal { committed_through, ..proposing.proposal_to(*member == me) };
                let messages: Vec<_> = missing.map(|member| (member, proposal_to(&member))).collect();
                for (member, proposal) in messages {
                    self.send(member, KeylogMessage::Accept { slot, proposal });
                }
            }
        }
        Ok(())
    }
}

fn is_moving(state: &SlotState) -> bool {
    matches!(state.phase, Phase::Leading(_)) && (state.record.configuration.is_joint() || is_draining(state))
}

fn is_draining(state: &SlotState) -> bool {
    matches!(&state.phase, Phase::Leading(leadership) if leadership.change.is_some())
}
