//! Level all: waiting for every member. An append is committed by a majority as any other, and answered when the last
//! member has accepted it; a read compares the committed head with what every member holds.

use std::collections::{BTreeMap, BTreeSet};

use difuse_types::{Hash, Instant, Key, NodeId, SlotId};

use super::{Decided, Leadership, Phase, Proposing, Stage};
use crate::{
    Answer, Ballot, CommittedHead, Failure, KeylogMessage, Proposal, RegisterSummary, Ticket,
    keylog::Keylog,
    replica::damage::outcome,
    store::{Store, StoreError},
};

/// A committed append that some members have not accepted yet.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Awaited {
    key: Key,
    /// Whoever accepts this proposal of the key, or a later one of this term, has the append.
    ballot: Ballot,
    missing: BTreeSet<NodeId>,
    ticket: Ticket,
    answer: Answer,
    since: Instant,
    sent_at: Instant,
}

impl Awaited {
    fn failure(&self) -> Failure {
        let applied = match &self.answer {
            Answer::Appended { height, hash, .. } => Some((*height, *hash)),
            Answer::Evaluated { appended, .. } => *appended,
            _ => None,
        };
        Failure::NotAll { silent: self.missing.iter().copied().collect(), differing: Vec::new(), applied }
    }
}

/// A comparison of a key's committed head with that of every member.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Comparing {
    own: Option<(u64, Hash)>,
    told: BTreeMap<NodeId, Option<(u64, Hash)>>,
    pub(crate) tickets: Vec<Ticket>,
    since: Instant,
    pub(crate) sent_at: Instant,
}

impl Leadership {
    /// A member has accepted a proposal: gives the appends that every member has now.
    pub(crate) fn note_accepted(&mut self, from: NodeId, ballot: Ballot, key: &Key) -> Vec<(Ticket, Answer)> {
        if self.awaited.is_empty() || ballot.term != self.term {
            return Vec::new();
        }
        let is_complete = |awaited: &mut Awaited| {
            if awaited.key == *key && awaited.ballot <= ballot {
                awaited.missing.remove(&from);
            }
            awaited.missing.is_empty()
        };
        self.awaited.extract_if(.., is_complete).map(|awaited| (awaited.ticket, awaited.answer)).collect()
    }

    /// Whether an append that was proposed up to this sequence is still awaited.
    pub(crate) fn awaits_through(&self, sequence: u64) -> bool {
        self.awaited.iter().any(|awaited| awaited.ballot.sequence <= sequence)
    }

    /// The appends that are still awaited, as failures, for a leader that can wait no longer.
    pub(crate) fn fail_awaited(&mut self, is_lost: impl Fn(&Awaited) -> bool) -> Vec<(Ticket, Failure)> {
        let lost = self.awaited.extract_if(.., |awaited| is_lost(awaited));
        lost.map(|awaited| (awaited.ticket, awaited.failure())).collect()
    }
}

impl<S: Store> Keylog<S> {
    /// The members of a slot that are suspect.
    fn suspect_members(&self, slot: SlotId) -> Vec<NodeId> {
        let members = self.configuration(slot).map(crate::Configuration::all_members).unwrap_or_default();
        members.into_iter().filter(|node| *node != self.me && self.suspects.contains(node)).collect()
    }

    /// Refuses an append at level all that cannot be accepted by every member now; says whether it did.
    pub(crate) fn refuse_without_all(&mut self, slot: SlotId, ticket: Ticket) -> bool {
        let silent = self.suspect_members(slot);
        if silent.is_empty() {
            return false;
        }
        self.done(ticket, Err(Failure::NotAll { silent, differing: Vec::new(), applied: None }));
        true
    }

    /// A majority has accepted an append whose level is all.
    pub(crate) fn await_every_member(&mut self, slot: SlotId, key: &Key, proposing: &Proposing, decided: Decided) {
        let now = self.now;
        let members = self.configuration(slot).map(crate::Configuration::all_members).unwrap_or_default();
        let awaited = Awaited {
            key: key.clone(),
            ballot: proposing.proposal.ballot,
            missing: members.into_iter().filter(|node| !proposing.voters.contains(node)).collect(),
            ticket: decided.ticket,
            answer: decided.answer,
            since: now,
            sent_at: now,
        };
        if awaited.missing.is_empty() {
            return self.done(awaited.ticket, Ok(awaited.answer));
        }
        if awaited.missing.iter().any(|node| self.suspects.contains(node)) {
            return self.done(awaited.ticket, Err(awaited.failure()));
        }
        if let Some(leadership) = self.leadership(slot) {
            leadership.awaited.push(awaited);
        }
    }

    /// Asks again those who have not accepted yet, and gives up on those who take too long.
    pub(crate) fn tick_awaited(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let (now, patience, resend_after) = (self.now, self.options.all_patience, self.options.resend_after);
        let Some(leadership) = self.leadership(slot).filter(|leadership| !leadership.awaited.is_empty()) else {
            return Ok(());
        };
        let failed = leadership.fail_awaited(|awaited| now.since(awaited.since) >= patience);
        let mut late: BTreeMap<Key, BTreeSet<NodeId>> = BTreeMap::new();
        for awaited in leadership.awaited.iter_mut().filter(|awaited| now.since(awaited.sent_at) >= resend_after) {
            awaited.sent_at = now;
            late.entry(awaited.key.clone()).or_default().extend(&awaited.missing);
        }
        let (term, committed_through) = (leadership.term, leadership.committed_through());
        let without_steps = leadership.begins_without_steps();
        for (ticket, failure) in failed {
            self.done(ticket, Err(failure));
        }
        for (key, missing) in late {
            let Some(register) = self.store.register(slot, &key)?.filter(|own| own.ballot.term == term) else {
                continue;
            };
            let proposal = Proposal::again(key, &register, committed_through, without_steps);
            for member in missing {
                self.send(member, KeylogMessage::Accept { slot, proposal: proposal.clone() });
            }
        }
        Ok(())
    }

    /// A member became suspect: whatever waits for it at level all does so in vain.
    pub(crate) fn fail_waiting_for(&mut self, slot: SlotId, node: NodeId) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let failed = leadership.fail_awaited(|awaited| awaited.missing.contains(&node));
        let is_comparing = |state: &super::KeyState| matches!(state.stage, Stage::Comparing(_));
        let comparing: Vec<Key> =
            leadership.keys.iter().filter(|(_, state)| is_comparing(state)).map(|(key, _)| key.clone()).collect();
        for (ticket, failure) in failed {
            self.done(ticket, Err(failure));
        }
        for key in comparing {
            self.finish_comparison(slot, &key)?;
        }
        Ok(())
    }

    /// Begins the comparison that reads at level all of a settled key wait for; says whether one is under way.
    pub(crate) fn start_comparison(&mut self, slot: SlotId, key: &Key) -> Result<bool, StoreError> {
        let now = self.now;
        let waits = |leadership: &mut Leadership| Some(!leadership.keys.get(key)?.comparisons.is_empty());
        if self.leadership(slot).and_then(waits) != Some(true) {
            return Ok(false);
        }
        let own = self.store.register(slot, key)?.map(|own| (own.head.height, own.head.hash));
        let silent = self.suspect_members(slot);
        let Some(leadership) = self.leadership(slot) else { return Ok(false) };
        let term = leadership.term;
        let Some(state) = leadership.keys.get_mut(key) else { return Ok(false) };
        let tickets = std::mem::take(&mut state.comparisons);
        if !silent.is_empty() {
            self.fail_not_all(tickets, silent, Vec::new());
            return Ok(false);
        }
        state.stage = Stage::Comparing(Comparing { own, told: BTreeMap::new(), tickets, since: now, sent_at: now });
        self.ask_for_register(slot, term, key, &BTreeMap::new());
        Ok(true)
    }

    fn fail_not_all(&mut self, tickets: Vec<Ticket>, silent: Vec<NodeId>, differing: Vec<NodeId>) {
        for ticket in tickets {
            let (silent, differing) = (silent.clone(), differing.clone());
            self.done(ticket, Err(Failure::NotAll { silent, differing, applied: None }));
        }
    }

    /// A member told what it holds of a key that is being compared.
    pub(crate) fn handle_compared(
        &mut self,
        from: NodeId,
        slot: SlotId,
        key: &Key,
        register: Option<RegisterSummary>,
    ) -> Result<(), StoreError> {
        let Some(members) = self.configuration(slot).map(crate::Configuration::all_members) else { return Ok(()) };
        let Some(state) = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key)) else {
            return Ok(());
        };
        let Stage::Comparing(comparing) = &mut state.stage else { return Ok(()) };
        comparing.told.insert(from, register.map(|register| (register.height, register.hash)));
        let is_heard_out = members.iter().all(|member| comparing.told.contains_key(member));
        if is_heard_out { self.finish_comparison(slot, key) } else { Ok(()) }
    }

    /// Asks those who have not told, or ends the comparison without them.
    pub(crate) fn tick_comparison(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let (now, patience) = (self.now, self.options.all_patience);
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let term = leadership.term;
        let Some(state) = leadership.keys.get_mut(key) else { return Ok(()) };
        let Stage::Comparing(comparing) = &mut state.stage else { return Ok(()) };
        if now.since(comparing.since) >= patience {
            return self.finish_comparison(slot, key);
        }
        comparing.sent_at = now;
        let told = comparing.told.keys().map(|node| (*node, None)).collect();
        self.ask_for_register(slot, term, key, &told);
        Ok(())
    }

    /// Every member has told, or some will not.
    fn finish_comparison(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let now = self.now;
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        let members = state.record.configuration.all_members();
        let Phase::Leading(leadership) = &mut state.phase else { return Ok(()) };
        let Some(key_state) = leadership.keys.get_mut(key) else { return Ok(()) };
        let Stage::Comparing(comparing) = std::mem::take(&mut key_state.stage) else { return Ok(()) };
        let silent: Vec<NodeId> =
            members.iter().filter(|member| !comparing.told.contains_key(member)).copied().collect();
        let differs = |(_, told): &(&NodeId, &Option<(u64, Hash)>)| **told != comparing.own;
        let differing: Vec<NodeId> = comparing.told.iter().filter(differs).map(|(node, _)| *node).collect();
        if !differing.is_empty() {
            // Whoever is behind is helped on; until then the answer names it.
            differing.iter().for_each(|node| _ = leadership.in_sync.remove(node));
            leadership.sync_at.get_or_insert(now);
        }
        if silent.is_empty() && differing.is_empty() {
            let head = outcome(self.own_head(slot, key))?;
            let answer = head.map(|head| Answer::Head(Box::new(CommittedHead { is_linearizable: true, ..head })));
            for ticket in comparing.tickets {
                self.done(ticket, answer.clone());
            }
        } else {
            self.fail_not_all(comparing.tickets, silent, differing);
        }
        // Appends have waited: they come before the next comparison.
        self.propose_appends(slot, key)?;
        self.advance(slot, key)?;
        self.continue_change(slot)
    }
}
