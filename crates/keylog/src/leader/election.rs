//! Taking a term, and losing it.

use std::time::Duration;

use difuse_types::{NodeId, SlotId};

use super::{Candidate, Leadership, Phase, can_decide, change::Change, steps::Steps};
use crate::{
    Failure, KeylogMessage, Proposed, SlotDigest, StepsKnown, Term,
    keylog::{Keylog, ParkedJob},
    rule::Rule,
    store::{Store, StoreError, Write},
};

/// The least and the most that a refused candidate waits.
const RETRY_MS: std::ops::Range<u64> = 5..30;

impl<S: Store> Keylog<S> {
    /// Campaigns if this node is the one that should lead and does not; else tells those who wait who should.
    pub(crate) fn consider_campaign(&mut self, slot: SlotId) {
        let Some(state) = self.slots.get(&slot) else { return };
        let configuration = &state.record.configuration;
        let should_lead = configuration.contains(&self.me)
            && self.preferred_leader(configuration) == Some(self.me)
            && can_decide(configuration, self.me, &self.suspects);
        let is_follower = matches!(state.phase, Phase::Follower);
        if !should_lead {
            if is_follower {
                self.bounce_parked(slot);
            }
            return;
        }
        if is_follower && state.retry_at.is_none_or(|at| at <= self.now) {
            self.campaign(slot);
        }
    }

    fn campaign(&mut self, slot: SlotId) {
        let (me, now) = (self.me, self.now);
        let reuses = self.breaks(Rule::FreshBallots);
        let Some(state) = self.slots.get_mut(&slot) else { return };
        let record = &state.record;
        let number = if reuses && record.promised.node == me { 0 } else { 1 } + record.promised.number;
        let term = Term { epoch: record.configuration.epoch, number, node: me };
        let configuration = record.configuration.clone();
        state.retry_at = None;
        state.phase = Phase::Candidate(Box::new(Candidate {
            term,
            promises: Default::default(),
            proposed: None,
            steps: StepsKnown::default(),
            sent_at: now,
        }));
        for member in configuration.all_members() {
            self.send(member, KeylogMessage::Prepare { configuration: configuration.clone(), term });
        }
    }

    pub(crate) fn handle_promise(
        &mut self,
        from: NodeId,
        slot: SlotId,
        term: Term,
        digest: SlotDigest,
        proposed: Option<Proposed>,
        steps: StepsKnown,
    ) -> Result<(), StoreError> {
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        let configuration = &state.record.configuration;
        match &mut state.phase {
            Phase::Candidate(candidate) if candidate.term == term && configuration.contains(&from) => {
                candidate.promises.insert(from, digest);
                let known = &mut candidate.steps;
                known.held = known.held.max(steps.held);
                known.begun_without = known.begun_without.max(steps.begun_without);
                let found = proposed.filter(|found| found.configuration.is_well_formed());
                if found.as_ref().map(|found| found.term) > candidate.proposed.as_ref().map(|known| known.term) {
                    candidate.proposed = found;
                }
                let promised_by = candidate.promises.keys().copied().collect();
                // Its own promise too: what this node holds is the base that it compares with.
                let is_won = candidate.promises.contains_key(&self.me) && configuration.is_quorum(&promised_by);
                if is_won { self.lead(slot) } else { Ok(()) }
            }
            Phase::Leading(leadership) if leadership.term == term => {
                let is_same = self.note_digest(slot, from, digest);
                if let Some(leadership) = self.leadership(slot).filter(|_| is_same) {
                    leadership.accounted.insert(from);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The term is won.
    fn lead(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let now = self.now;
        let skips_steps = self.breaks(Rule::FinishedSteps);
        let skips_copy = self.breaks(Rule::CopyFromMajority);
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        let Phase::Candidate(candidate) = std::mem::replace(&mut state.phase, Phase::Follower) else { return Ok(()) };
        let mut leadership = Leadership::new(candidate.term, now);
        leadership.steps = if candidate.steps.are_none() {
            Steps::beginning(candidate.term)
        } else if skips_steps {
            Steps::none()
        } else {
            Steps::after(candidate.steps.begun_without)
        };
        let own = candidate.promises.get(&self.me).copied();
        leadership.in_sync =
            candidate.promises.iter().filter(|(_, digest)| Some(**digest) == own).map(|(node, _)| *node).collect();
        leadership.accounted = leadership.in_sync.clone();
        // Equal digests mean equal registers at equal ballots: a majority of those is committed as it is.
        leadership.is_synced = state.record.configuration.is_quorum(&leadership.in_sync) || skips_copy;
        if !leadership.is_synced || leadership.in_sync.len() < candidate.promises.len() {
            // Give the promises that are still on their way time to arrive before comparing in detail.
            let patience = if leadership.is_synced { self.options.resend_after } else { Duration::ZERO };
            leadership.sync_at = Some(now + patience);
        }
        let unfinished = candidate.proposed.map(|proposed| proposed.configuration);
        leadership.change = unfinished.clone().map(|configuration| Change::propose(configuration, now));
        state.phase = Phase::Leading(Box::new(leadership));
        match unfinished {
            Some(configuration) => self.send_proposal(slot, configuration),
            None => self.start_sync_if_due(slot),
        }
        self.drop_void_steps(slot)?;
        self.find_out_steps(slot)?;
        self.unpark(slot)
    }

    pub(crate) fn handle_refuse(&mut self, slot: SlotId, term: Term, promised: Term) -> Result<(), StoreError> {
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        let own = match &state.phase {
            Phase::Follower => return Ok(()),
            Phase::Candidate(candidate) => candidate.term,
            Phase::Leading(leadership) => leadership.term,
        };
        if own != term || promised.epoch != term.epoch {
            return Ok(());
        }
        if promised > state.record.promised {
            // What a member has promised is worth promising too: the next campaign must be above it.
            state.record.promised = promised;
            let record = state.record.clone();
            self.write(vec![Write::Slot(Box::new(record))])?;
        } else if promised > term {
            return Ok(());
        }
        self.step_down(slot);
        self.plan_retry(slot, promised.node);
        Ok(())
    }

    /// After a refusal: soon again if the leader named is one that this node is preferred to, later if not.
    fn plan_retry(&mut self, slot: SlotId, leader: NodeId) {
        let pause = Duration::from_millis(self.rng.u64(RETRY_MS));
        let Some(state) = self.slots.get_mut(&slot) else { return };
        let members = state.record.configuration.all_members();
        let rank = |node: NodeId| members.iter().position(|member| *member == node).unwrap_or(usize::MAX);
        let is_preferred = rank(self.me) < rank(leader) || self.suspects.contains(&leader);
        let pause = if is_preferred { pause } else { self.options.resend_after + pause };
        state.retry_at = Some(self.now + pause);
        self.next_tick = self.next_tick.min(self.now + pause);
        if !is_preferred {
            self.bounce_parked_to(slot, Some(leader));
        }
    }

    /// Gives up a campaign or a term: everything that this node was about to do as leader is void.
    pub(crate) fn step_down(&mut self, slot: SlotId) {
        let Some(state) = self.slots.get_mut(&slot) else { return };
        let Phase::Leading(leadership) = std::mem::replace(&mut state.phase, Phase::Follower) else { return };
        self.fail_leadership(slot, *leadership);
    }

    fn fail_leadership(&mut self, slot: SlotId, mut leadership: Leadership) {
        let leader = self.leader(slot).filter(|leader| *leader != self.me);
        for (ticket, failure) in leadership.fail_awaited(|_| true) {
            self.done(ticket, Err(failure));
        }
        for key in leadership.keys.into_values() {
            let mut waiting = key.comparisons;
            match key.stage {
                super::Stage::Proposing(proposing) => {
                    for decided in proposing.results {
                        self.done(decided.ticket, Err(Failure::Redirect { leader, was_proposed: true }));
                    }
                }
                super::Stage::Comparing(mut comparing) => waiting.append(&mut comparing.tickets),
                _ => {}
            }
            waiting.extend(key.appends.into_iter().map(|append| append.ticket));
            for ticket in waiting.into_iter().chain(key.reads.into_iter().map(|(ticket, _)| ticket)) {
                self.done(ticket, Err(Failure::Redirect { leader, was_proposed: false }));
            }
        }
        for (ticket, _) in leadership.ranges {
            self.done(ticket, Err(Failure::Redirect { leader, was_proposed: false }));
        }
        self.fail_reads(slot, leader);
    }

    /// Sends those who wait for this node to lead to the one that does.
    pub(crate) fn bounce_parked(&mut self, slot: SlotId) {
        let leader = self.leader(slot).filter(|leader| *leader != self.me);
        self.bounce_parked_to(slot, leader);
    }

    fn bounce_parked_to(&mut self, slot: SlotId, leader: Option<NodeId>) {
        let Some(state) = self.slots.get_mut(&slot) else { return };
        let can_decide = can_decide(&state.record.configuration, self.me, &self.suspects);
        for ParkedJob { ticket, .. } in std::mem::take(&mut state.parked) {
            let failure =
                if can_decide { Failure::Redirect { leader, was_proposed: false } } else { Failure::NoQuorum };
            self.done(ticket, Err(failure));
        }
    }

    pub(crate) fn unpark(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        for job in std::mem::take(&mut state.parked) {
            self.start_or_park(slot, job)?;
        }
        Ok(())
    }

    /// A member of the slot became suspect, or is none any more.
    pub(crate) fn handle_member_suspicion(
        &mut self,
        slot: SlotId,
        node: NodeId,
        is_suspect: bool,
    ) -> Result<(), StoreError> {
        if is_suspect {
            if let Some(state) = self.slots.get_mut(&slot) {
                if let Phase::Leading(leadership) = &mut state.phase {
                    leadership.in_sync.remove(&node);
                }
                state.retry_at = None;
            }
            self.forget_sync_member(slot, node);
            self.fail_waiting_for(slot, node)?;
            self.fail_without_quorum(slot);
        } else if let Some(leadership) = self.leadership(slot) {
            // It may be behind, which its digest will tell, and may not even know who leads.
            leadership.told = None;
        }
        self.consider_campaign(slot);
        Ok(())
    }
}
