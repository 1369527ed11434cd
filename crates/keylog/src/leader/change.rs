//! Moving a slot to other members: joint configuration, copy, final configuration (DESIGN section 5, *Changing a
//! configuration*).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_types::{Instant, NodeId, SlotId};

use super::{Phase, can_decide};
use crate::{
    Configuration, KeylogMessage, Term,
    keylog::Keylog,
    rule::Rule,
    store::{Store, StoreError},
};

/// The most slots that one message tells of.
const HELD_MAX: usize = 1024;

/// A change under way.
#[derive(Clone, Debug, Hash)]
pub(crate) enum Change {
    /// Nothing new is begun, and what is under way is finished, before the configuration is proposed.
    Draining { configuration: Configuration },
    /// The configuration waits for its majority.
    Proposing { configuration: Configuration, voters: BTreeSet<NodeId>, sent_at: Instant },
}

impl Change {
    pub(crate) fn propose(configuration: Configuration, now: Instant) -> Self {
        Self::Proposing { configuration, voters: BTreeSet::new(), sent_at: now }
    }
}

impl<S: Store> Keylog<S> {
    /// Begins a change if the ring proposes another group for long enough, or if a joint configuration is complete.
    pub(crate) fn consider_change(&mut self, slot: SlotId, may_move: bool) -> Result<(), StoreError> {
        let (now, damping) = (self.now, self.options.damping);
        let Some(state) = self.slots.get(&slot) else { return Ok(()) };
        let Phase::Leading(leadership) = &state.phase else { return Ok(()) };
        if leadership.change.is_some() {
            return Ok(());
        }
        let configuration = &state.record.configuration;
        let next = if configuration.is_joint() {
            self.next_after_joint(slot)
        } else if configuration.is_recovery() {
            let is_one =
                leadership.is_synced && configuration.members.iter().all(|node| leadership.in_sync.contains(node));
            configuration.reunited().filter(|_| is_one)
        } else {
            let wanted = state.desired.as_ref().filter(|(members, since)| {
                let is_other = !is_same_group(members, &configuration.members);
                may_move && is_other && now.since(*since) >= damping && self.can_join(configuration, members)
            });
            wanted.map(|(members, _)| configuration.towards(members.clone()))
        };
        let Some(configuration) = next else { return Ok(()) };
        if let Some(leadership) = self.leadership(slot) {
            leadership.change = Some(Change::Draining { configuration });
        }
        self.continue_change(slot)
    }

    /// Newcomers must be alive, and have room, before the group depends on them.
    fn can_join(&self, configuration: &Configuration, members: &[NodeId]) -> bool {
        let is_alive = |node: &NodeId| {
            let is_reached = self.met.contains(node) && !self.suspects.contains(node);
            (*node == self.me || is_reached) && !self.is_short_of_room(node)
        };
        !members.is_empty()
            && members.len() <= Configuration::MEMBERS_MAX
            && members.iter().filter(|node| !configuration.members.contains(node)).all(is_alive)
    }

    /// The final configuration, once every newcomer holds everything, and every collector every block; or back to the old
    /// group if the ring no longer wants a newcomer that does not answer.
    fn next_after_joint(&self, slot: SlotId) -> Option<Configuration> {
        let state = self.slots.get(&slot)?;
        let Phase::Leading(leadership) = &state.phase else { return None };
        let configuration = &state.record.configuration;
        let newcomers = configuration.newcomers();
        let holds_keys = |node: &NodeId| leadership.in_sync.contains(node) || self.breaks(Rule::CopyFromMajority);
        let is_complete = leadership.is_synced
            && newcomers.iter().all(holds_keys)
            && configuration.collectors().iter().all(|node| leadership.ready.contains(node));
        if is_complete {
            return configuration.completed();
        }
        let desired = state.desired.as_ref().map(|(members, _)| members.as_slice()).unwrap_or_default();
        let is_given_up =
            newcomers.iter().any(|node| self.suspects.contains(node) && !desired.is_empty() && !desired.contains(node));
        (is_given_up && leadership.is_synced).then(|| {
            let mut back = configuration.clone();
            (back.epoch, back.previous, back.joint) = (configuration.epoch + 1, configuration.hash(), Vec::new());
            back
        })
    }

    /// Whether the ring still proposes the group that is about to be proposed here: a newcomer may have begun to leave.
    fn is_still_wanted(&self, slot: SlotId) -> bool {
        let Some(state) = self.slots.get(&slot) else { return false };
        let Phase::Leading(leadership) = &state.phase else { return false };
        let Some(Change::Draining { configuration }) = &leadership.change else { return true };
        let desired = state.desired.as_ref().map(|(members, _)| members.as_slice()).unwrap_or_default();
        !configuration.is_joint() || is_same_group(desired, &configuration.joint)
    }

    /// Proposes the configuration when nothing else is under way.
    pub(crate) fn continue_change(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let now = self.now;
        if self.leadership(slot).is_none_or(|leadership| leadership.change.is_none()) {
            return Ok(());
        }
        let is_wanted = self.is_still_wanted(slot);
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let is_quiet = leadership.is_quiet();
        match &leadership.change {
            Some(Change::Draining { .. }) if !is_wanted => {
                leadership.change = None;
                self.unpark(slot)
            }
            Some(Change::Draining { configuration }) if is_quiet => {
                let configuration = configuration.clone();
                leadership.change = Some(Change::propose(configuration.clone(), now));
                self.send_proposal(slot, configuration);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Proposes a configuration to the members of the epoch before.
    pub(crate) fn send_proposal(&mut self, slot: SlotId, configuration: Configuration) {
        let Some(members) = self.configuration(slot).map(Configuration::all_members) else { return };
        let Some(term) = self.leadership(slot).map(|leadership| leadership.term) else { return };
        let dropped = self.slots.get(&slot).and_then(|state| state.record.dropped);
        for member in members {
            self.send(member, KeylogMessage::Propose { term, configuration: configuration.clone(), dropped });
        }
    }

    pub(crate) fn handle_proposal_accepted(
        &mut self,
        from: NodeId,
        slot: SlotId,
        term: Term,
        epoch: u64,
    ) -> Result<(), StoreError> {
        let Some(state) = self.slots.get_mut(&slot) else { return Ok(()) };
        let current = &state.record.configuration;
        let Phase::Leading(leadership) = &mut state.phase else { return Ok(()) };
        let Some(Change::Proposing { configuration, voters, .. }) = &mut leadership.change else { return Ok(()) };
        if leadership.term != term || configuration.epoch != epoch || !current.contains(&from) {
            return Ok(());
        }
        voters.insert(from);
        if !current.is_quorum(voters) {
            return Ok(());
        }
        let decided = configuration.clone();
        let concerned: BTreeSet<NodeId> = current.all_members().into_iter().chain(decided.all_members()).collect();
        self.enter(decided.clone())?;
        let me = self.me;
        for member in concerned.into_iter().filter(|member| *member != me) {
            self.send(member, KeylogMessage::Install { configuration: decided.clone() });
        }
        Ok(())
    }

    pub(crate) fn resend_change(&mut self, slot: SlotId) {
        let (now, resend_after) = (self.now, self.options.resend_after);
        let Some(leadership) = self.leadership(slot) else { return };
        let Some(Change::Proposing { configuration, sent_at, .. }) = &mut leadership.change else { return };
        if now.since(*sent_at) >= resend_after {
            *sent_at = now;
            let configuration = configuration.clone();
            self.send_proposal(slot, configuration);
        }
    }

    /// This node, a collector of the slot's blocks, has them all.
    pub fn handle_blocks_fetched(&mut self, slot: SlotId, epoch: u64) -> Result<(), StoreError> {
        if let Some(state) = self.slots.get_mut(&slot) {
            state.blocks_fetched = Some(epoch);
        }
        self.tell_blocks_ready(slot);
        self.deliver_to_self()
    }

    /// Tells the leader, again and again until the group has moved on: the leader may be a new one.
    pub(crate) fn tell_blocks_ready(&mut self, slot: SlotId) {
        let Some(state) = self.slots.get(&slot) else { return };
        let epoch = state.record.configuration.epoch;
        if state.blocks_fetched == Some(epoch)
            && state.record.configuration.collectors().contains(&self.me)
            && let Some(leader) = self.leader(slot)
        {
            self.send(leader, KeylogMessage::BlocksReady { slot, epoch });
        }
    }

    pub(crate) fn handle_blocks_ready(&mut self, from: NodeId, slot: SlotId, epoch: u64) {
        let Some(state) = self.slots.get_mut(&slot) else { return };
        let is_current = state.record.configuration.epoch == epoch;
        if let Phase::Leading(leadership) = &mut state.phase
            && is_current
        {
            leadership.ready.insert(from);
        }
    }

    /// Slots whose blocks this node is to collect and has not: what it took up may have been cut short by a restart.
    pub fn waiting_for_blocks(&self) -> Vec<Configuration> {
        let waits = |state: &&crate::keylog::SlotState| {
            let configuration = &state.record.configuration;
            configuration.is_joint()
                && state.blocks_fetched != Some(configuration.epoch)
                && configuration.collectors().contains(&self.me)
        };
        self.slots.values().filter(waits).map(|state| state.record.configuration.clone()).collect()
    }

    /// Asks the members of the slots that this node leads whether it still does, though nobody waits for the answer: a
    /// leader that was cut off and has nothing to do would not learn that another one leads.
    pub(crate) fn probe_leaderships(&mut self) {
        /// The most slots in one message.
        const SLOTS_MAX: usize = 1024;
        let mut leaderships: BTreeMap<NodeId, Vec<(SlotId, Term)>> = BTreeMap::new();
        for (slot, state) in &self.slots {
            let Phase::Leading(leadership) = &state.phase else { continue };
            for member in state.record.configuration.all_members().into_iter().filter(|member| *member != self.me) {
                leaderships.entry(member).or_default().push((*slot, leadership.term));
            }
        }
        for (member, leaderships) in leaderships {
            for part in leaderships.chunks(SLOTS_MAX) {
                // Round 0 is nobody's.
                let (round, leaderships) = (0, part.to_vec());
                self.send(member, KeylogMessage::Confirm { round, leaderships, is_lease: false });
            }
        }
    }

    /// A node that was out of reach is here again: if it belongs to a group that a recovery has done without, or to one
    /// that did without this group, they learn of each other.
    pub(crate) fn tell_of_recoveries(&mut self, node: NodeId) -> Result<(), StoreError> {
        let is_concerned = |state: &&crate::keylog::SlotState| {
            let configuration = &state.record.configuration;
            configuration.recoveries() > 0 && configuration.contains(&self.me)
        };
        let concerned = self.slots.values().filter(is_concerned).map(|state| &state.record.configuration);
        let mut held = Vec::new();
        for configuration in concerned {
            held.push((configuration.slot, configuration.epoch, self.store.digest(configuration.slot)?));
        }
        for slots in held.chunks(HELD_MAX) {
            self.send(node, KeylogMessage::Holdings { slots: slots.to_vec() });
        }
        Ok(())
    }

    /// Tells every leader what this node holds of its slots.
    pub(crate) fn tell_holdings(&mut self) -> Result<(), StoreError> {
        let mut holdings: BTreeMap<NodeId, Vec<_>> = BTreeMap::new();
        let mut unsure: BTreeMap<NodeId, Vec<SlotId>> = BTreeMap::new();
        for (slot, state) in &self.slots {
            let configuration = &state.record.configuration;
            if !configuration.contains(&self.me) {
                continue;
            }
            let mut receivers: BTreeSet<NodeId> = self.leader(*slot).into_iter().collect();
            if !state.committed.is_known() {
                receivers.iter().for_each(|leader| unsure.entry(*leader).or_default().push(*slot));
            }
            // The group may have moved on without this node, to members that it has never heard of. After a recovery there
            // may be another group, which knows nothing of this one.
            if configuration.recoveries() > 0 || !can_decide(configuration, self.me, &self.suspects) {
                receivers.extend(state.desired.iter().flat_map(|(members, _)| members));
            }
            receivers.remove(&self.me);
            for receiver in receivers {
                let held = (*slot, configuration.epoch, self.store.digest(*slot)?);
                holdings.entry(receiver).or_default().push(held);
            }
        }
        for (leader, slots) in holdings {
            for part in slots.chunks(HELD_MAX) {
                // What it holds, on disk: a leader lets old members go when the new ones hold everything.
                self.send_durably(leader, KeylogMessage::Holdings { slots: part.to_vec() });
            }
        }
        for (leader, slots) in unsure {
            for part in slots.chunks(HELD_MAX) {
                self.send(leader, KeylogMessage::AskCommitted { slots: part.to_vec() });
            }
        }
        Ok(())
    }
}

/// Whether two lists name the same nodes, in whatever order.
pub(crate) fn is_same_group(left: &[NodeId], right: &[NodeId]) -> bool {
    left.len() == right.len() && left.iter().all(|node| right.contains(node))
}

/// For how long jobs wait for a slot that nobody manages to lead before they are sent back.
pub(crate) const PARKED_MAX: Duration = Duration::from_secs(2);
