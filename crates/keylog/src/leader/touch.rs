//! The first use of a key in a term: read it from a majority, adopt what has the highest ballot, propose it again.

use std::collections::{BTreeMap, BTreeSet};

use difuse_types::{Key, NodeId, SlotId};

use super::{Fetching, Phase, Proposing, Reads, Stage, holders_of};
use crate::{
    Ballot, KeylogMessage, Proposal, Register, RegisterSummary, Term, Transaction,
    keylog::Keylog,
    replica::{Staged, committed_above, damage::ReadError, summary_of},
    rule::Rule,
    store::{Store, StoreError, Write},
    verify_chain,
};

impl<S: Store> Keylog<S> {
    pub(crate) fn touch(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        self.touch_beside(slot, key, BTreeSet::new())
    }

    /// The same, with a quorum beside the members that are known not to be able to read what they hold.
    pub(crate) fn touch_beside(
        &mut self,
        slot: SlotId,
        key: &Key,
        unreadable: BTreeSet<NodeId>,
    ) -> Result<(), StoreError> {
        let now = self.now;
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let term = leadership.term;
        let Some(state) = leadership.keys.get_mut(key) else { return Ok(()) };
        state.stage = Stage::Touching { reads: BTreeMap::new(), unreadable, sent_at: now };
        self.ask_for_register(slot, term, key, &BTreeMap::new());
        Ok(())
    }

    /// Asks the members that have not answered.
    pub(crate) fn ask_for_register(&mut self, slot: SlotId, term: Term, key: &Key, answered: &Reads) {
        let Some(configuration) = self.configuration(slot) else { return };
        let members = configuration.all_members();
        for member in members.into_iter().filter(|member| !answered.contains_key(member)) {
            self.send(member, KeylogMessage::ReadRegister { slot, term, key: key.clone() });
        }
    }

    pub(crate) fn handle_register_read(
        &mut self,
        from: NodeId,
        slot: SlotId,
        term: Term,
        key: Key,
        register: Option<RegisterSummary>,
    ) -> Result<(), StoreError> {
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        let configuration = &state.record.configuration;
        let Phase::Leading(leadership) = &mut state.phase else { return Ok(()) };
        if leadership.term != term || !configuration.contains(&from) {
            return Ok(());
        }
        let Some(key_state) = leadership.keys.get_mut(&key) else { return Ok(()) };
        if let Stage::Comparing(_) = key_state.stage {
            return self.handle_compared(from, slot, &key, register);
        }
        let Stage::Touching { reads, unreadable, .. } = &mut key_state.stage else { return Ok(()) };
        reads.insert(from, register);
        // With its own answer: what this node holds is compared with what the others do.
        let counted = reads.keys().filter(|node| !unreadable.contains(node)).copied().collect();
        let is_enough = reads.contains_key(&self.me) && configuration.is_quorum(&counted);
        if !is_enough {
            return Ok(());
        }
        let is_absent = !unreadable.is_empty() && counted.iter().all(|node| reads.get(node) == Some(&None));
        let reads = std::mem::take(reads);
        key_state.stage = Stage::Idle;
        if is_absent { self.do_without(slot, &key, &reads) } else { self.decide_touch(slot, &key, reads) }
    }

    /// A majority has answered in this term.
    fn decide_touch(&mut self, slot: SlotId, key: &Key, reads: Reads) -> Result<(), StoreError> {
        let reads = self.without_void_steps(slot, key, reads);
        let best = reads.values().flatten().max_by_key(|summary| summary.ballot).cloned();
        let mixes_ballots = self.breaks(Rule::OneBallot);
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        let configuration = &state.record.configuration;
        let is_agreed = match &best {
            None => true,
            // Equal heads at different ballots are not agreed: a third ballot may stand between them.
            Some(best) => {
                let mut holders = holders_of(&reads, best);
                if mixes_ballots {
                    let is_equal = |read: &RegisterSummary| (read.height, read.hash) == (best.height, best.hash);
                    let equal = reads.iter().filter(|(_, read)| read.as_ref().is_some_and(is_equal));
                    holders.extend(equal.map(|(node, _)| *node));
                }
                holders.contains(&self.me) && configuration.is_quorum(&holders)
            }
        };
        match best {
            Some(best) if !is_agreed => self.adopt(slot, key, best, &reads),
            _ => {
                if let Phase::Leading(leadership) = &mut state.phase {
                    leadership.touched.insert(key.clone(), ());
                }
                self.advance(slot, key)
            }
        }
    }

    /// Proposes the head found at the highest ballot again, after fetching its chain if it is not here.
    pub(crate) fn adopt(
        &mut self,
        slot: SlotId,
        key: &Key,
        target: RegisterSummary,
        reads: &Reads,
    ) -> Result<(), StoreError> {
        let own = self.store.register(slot, key)?;
        let holders: Vec<NodeId> = holders_of(reads, &target).into_iter().filter(|holder| *holder != self.me).collect();
        let is_lacked = reads.values().any(Option::is_none);
        let mut unreadable = BTreeSet::new();
        if self.holds(slot, key, own.as_ref(), (target.height, target.hash))? {
            let is_lost = is_lacked && holders.is_empty() && !self.can_read_chain(slot, key)?;
            if !is_lost {
                return self.propose(slot, key, (target.height, target.hash), Vec::new(), None, Vec::new());
            }
            unreadable.insert(self.me);
        }
        let held = own.map_or(0, |register| register.head.height);
        let from_height = if held < target.height { held + 1 } else { target.height };
        let fetching = Fetching {
            target,
            holders,
            staged: None,
            collected: Vec::new(),
            begins_at_base: false,
            from_height,
            sent_at: self.now,
            is_lacked,
            unreadable,
        };
        self.fetch(slot, key, fetching);
        Ok(())
    }

    /// Asks a holder for the next part of the chain.
    pub(crate) fn fetch(&mut self, slot: SlotId, key: &Key, mut fetching: Fetching) {
        fetching.sent_at = self.now;
        let step = 1.min(fetching.holders.len());
        fetching.holders.rotate_left(step);
        let next = fetching.next_height();
        if let Some(holder) = fetching.holders.last().copied() {
            let to_height = fetching.target.height;
            let message = KeylogMessage::FetchTransactions { slot, key: key.clone(), from_height: next, to_height };
            self.send(holder, message);
        }
        if let Some(state) = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key)) {
            state.stage = Stage::Fetching(fetching);
        }
    }

    /// A part of a chain: for the head that this leader adopts, or, on a replica, for the proposal that will follow.
    pub(crate) fn handle_transactions(
        &mut self,
        from: NodeId,
        slot: SlotId,
        key: Key,
        transactions: Vec<Transaction>,
    ) -> Result<(), StoreError> {
        self.repair_damage(slot, &key, &transactions)?;
        let Some(slot_state) = self.slots.get(&slot) else { return Ok(()) };
        let is_from_leader = slot_state.record.promised.node == from;
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(&key));
        match state {
            Some(state) if matches!(state.stage, Stage::Fetching(_)) => {
                let Stage::Fetching(fetching) = std::mem::take(&mut state.stage) else { return Ok(()) };
                if transactions.is_empty() {
                    self.note_unreadable(from, slot, &key, fetching);
                    return Ok(());
                }
                self.collect(slot, &key, fetching, transactions)
            }
            _ => {
                if is_from_leader
                    && let Some((ballot, from_height)) = self.assembly.add(slot, &key, transactions, self.now)
                    && self.stage_waiting(from, slot, &key)?
                {
                    self.send(from, KeylogMessage::Lacking { slot, ballot, key, from_height });
                }
                Ok(())
            }
        }
    }

    fn collect(
        &mut self,
        slot: SlotId,
        key: &Key,
        mut fetching: Fetching,
        part: Vec<Transaction>,
    ) -> Result<(), StoreError> {
        let expected = fetching.next_height();
        let is_wanted = part.first().is_some_and(|first| first.height == expected);
        let begins_at_base = fetching.staged.is_none()
            && fetching.collected.is_empty()
            && part.first().is_some_and(|first| first.height > expected && first.checkpoint.is_some());
        if begins_at_base {
            fetching.begins_at_base = true;
        }
        if is_wanted || begins_at_base {
            fetching.collected.extend(part);
        }
        let is_complete = fetching.collected.last().is_some_and(|last| last.height >= fetching.target.height);
        if !is_complete {
            self.stage_fetched(slot, key, &mut fetching)?;
            self.fetch(slot, key, fetching);
            return Ok(());
        }
        self.finish_fetch(slot, key, fetching)
    }

    /// Stages what has come of the chain, if it is a lot and belongs above what is held.
    fn stage_fetched(&mut self, slot: SlotId, key: &Key, fetching: &mut Fetching) -> Result<(), StoreError> {
        let bytes: usize = fetching.collected.iter().map(Transaction::approximate_bytes).sum();
        let Some(first) = fetching.collected.first().filter(|_| bytes > self.options.waiting_bytes_max) else {
            return Ok(());
        };
        let (own, stored) = (self.store.register(slot, key)?, self.store.staged(slot, key)?);
        let extended = Staged::extended(fetching.staged.as_ref(), own.as_ref(), stored, &fetching.collected);
        if let Ok(None) = extended {
            return Ok(());
        }
        let is_chain = verify_chain(key, (first.height - 1, first.previous), &fetching.collected).is_ok();
        let Some(staged) = extended.ok().flatten().filter(|_| is_chain) else {
            fetching.clear();
            return Ok(());
        };
        let first_height = staged.first.0;
        // What it had staged as a member goes.
        self.assembly.forget(slot, key);
        fetching.staged = Some(staged);
        let transactions = std::mem::take(&mut fetching.collected);
        self.write(vec![Write::Stage { slot, key: key.clone(), first_height, transactions }])
    }

    /// The chain is here: check that it ends at the head and connects to what is stored.
    fn finish_fetch(&mut self, slot: SlotId, key: &Key, mut fetching: Fetching) -> Result<(), StoreError> {
        let target = (fetching.target.height, fetching.target.hash);
        let lowest = &fetching.collected[0];
        let below = (lowest.height - 1, lowest.previous);
        let is_chain = verify_chain(key, below, &fetching.collected) == Ok(target.1)
            && fetching.staged.as_ref().is_none_or(|staged| staged.is_below(lowest));
        let (first_height, previous) = fetching
            .staged
            .as_ref()
            .map_or((lowest.height, lowest.previous), |staged| (staged.first.0, staged.first.1));
        let parent = (first_height - 1, previous);
        let own = self.store.register(slot, key)?;
        let connects = parent.0 == 0 || fetching.begins_at_base || self.holds(slot, key, own.as_ref(), parent)?;
        if is_chain && connects {
            let handed_height = if fetching.begins_at_base { committed_above(first_height) } else { 0 };
            if let Some(staged) = fetching.staged {
                self.assembly.hand(slot, key, fetching.target.ballot, staged, self.now);
            }
            if let Some(state) = self.leadership(slot).and_then(|leadership| leadership.keys.get_mut(key)) {
                state.handed_height = handed_height;
            }
            return self.propose(slot, key, target, fetching.collected, None, Vec::new());
        }
        // Another chain is stored below: fetch from further down, in the end from the start.
        let span = 2 * (target.0 + 1 - fetching.from_height).max(4);
        fetching.from_height = if is_chain { (target.0 + 1).saturating_sub(span).max(1) } else { fetching.from_height };
        fetching.clear();
        self.fetch(slot, key, fetching);
        Ok(())
    }

    /// A member lacks the chain below a proposal, or has part of it: send the next part, the last one with the head that is
    /// proposed by now. One part for each question: what is sent at once has to fit into the queues between nodes.
    pub(crate) fn handle_lacking(
        &mut self,
        from: NodeId,
        slot: SlotId,
        ballot: Ballot,
        key: Key,
        from_height: u64,
    ) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot).filter(|leadership| leadership.term == ballot.term) else {
            return Ok(());
        };
        let (committed_through, without_steps) = (leadership.committed_through(), leadership.begins_without_steps());
        let stands = |own: &Register| own.ballot >= ballot && own.ballot.term == ballot.term;
        let Some(own) = self.store.register(slot, &key)?.filter(stands) else { return Ok(()) };
        let target = summary_of(&own);
        let committed_height = self.told_height(slot, &key, &own);
        // What this node has forgotten is committed: the member begins at the base as well.
        let transactions = match self.read_part(slot, &key, from_height.max(own.base), target.height) {
            Ok(transactions) => transactions,
            // It asks again at the next proposal.
            Err(ReadError::Damaged) => return Ok(()),
            Err(ReadError::Store(error)) => return Err(error),
        };
        let Some(last) = transactions.last().map(|last| last.height) else { return Ok(()) };
        if last < target.height {
            self.send(from, KeylogMessage::Transactions { slot, key, transactions });
            return Ok(());
        }
        let (height, hash) = (target.height, target.hash);
        let ballot = own.ballot;
        let proposal =
            Proposal { ballot, key, height, hash, transactions, committed_height, committed_through, without_steps };
        self.send(from, KeylogMessage::Accept { slot, proposal });
        Ok(())
    }

    /// Up to where a member may rely on the chain of a head that it lacks.
    fn told_height(&mut self, slot: SlotId, key: &Key, own: &Register) -> u64 {
        let base = committed_above(own.base);
        let stage = self.leadership(slot).and_then(|leadership| leadership.keys.get(key)).map(|state| &state.stage);
        match stage {
            Some(Stage::Proposing(proposing)) if proposing.proposal.ballot == own.ballot => {
                proposing.proposal.committed_height.max(base)
            }
            _ => base,
        }
    }

    /// Proposes a head to every member.
    pub(crate) fn propose(
        &mut self,
        slot: SlotId,
        key: &Key,
        (height, hash): (u64, difuse_types::Hash),
        transactions: Vec<Transaction>,
        committed_height: Option<u64>,
        results: Vec<super::Decided>,
    ) -> Result<(), StoreError> {
        let (me, now) = (self.me, self.now);
        let Some(configuration) = self.configuration(slot) else { return Ok(()) };
        let members = configuration.all_members();
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let ballot = leadership.next_ballot();
        let (committed_through, without_steps) = (leadership.committed_through(), leadership.begins_without_steps());
        leadership.last_append = now;
        leadership.expiry.note_deadline(transactions.last().and_then(Transaction::deadline));
        let state = leadership.keys.entry(key.clone()).or_default();
        let proposal = Proposal {
            ballot,
            key: key.clone(),
            height,
            hash,
            transactions,
            committed_height: committed_height.unwrap_or(0).max(std::mem::take(&mut state.handed_height)),
            committed_through,
            without_steps,
        };
        let voters = Default::default();
        let proposing = Proposing { proposal, voters, committed_height, results, sent_at: now };
        let proposals: Vec<_> = members.iter().map(|member| proposing.proposal_to(*member == me)).collect();
        state.stage = Stage::Proposing(proposing);
        for (member, proposal) in members.into_iter().zip(proposals) {
            self.send(member, KeylogMessage::Accept { slot, proposal });
        }
        Ok(())
    }
}
