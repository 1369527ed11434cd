//! Zave's Join, the first ring of a founder, and the return of nodes that were all down.

use std::collections::BTreeSet;

use difuse_types::{NodeId, RingId};

use crate::{
    HostState, JoinOutcome, RefuseReason, Ring, RingMessage, RingOutput, SUCCESSORS_MAX, VirtualNodeId,
    circle::VirtualNode,
    successor_list::{between, successor_list},
    virtual_node::OperationKind,
};

/// How many redirections one attempt to join follows.
const REDIRECTS_MAX: u32 = 64;
/// One of so many attempts goes to a host that has not joined yet itself, if one was seen to be a member.
const IN_PART_EVERY: usize = 4;

impl Ring {
    /// Begins to join: asks the node whose virtual node lies before ours by the table; after failures one farther
    /// back, because those before may be joining themselves, and now and then a host that has joined with a part of its
    /// virtual nodes; a seed while the table is empty.
    pub(crate) fn begin_join(&mut self, index: usize) {
        let node = &self.virtual_nodes[index];
        let is_its_turn = node.join_attempts % IN_PART_EVERY == IN_PART_EVERY - 1;
        let in_part = if is_its_turn { self.member_in_part() } else { None };
        let contact = in_part.or_else(|| self.join_contact(&node.place, node.join_attempts));
        let contact = contact.or_else(|| self.random_seed());
        match contact {
            Some(contact) => self.ask_for_place(index, contact, 0),
            None => self.retry_later(index),
        }
    }

    fn join_contact(&self, place: &VirtualNode, attempts: usize) -> Option<NodeId> {
        let could_answer = |before: &VirtualNode| match self.own_index(&before.id) {
            Some(own) => self.virtual_nodes[own].member,
            None => self.is_usable(&before.node()),
        };
        let mut asked = BTreeSet::new();
        let nodes: Vec<NodeId> = self
            .members
            .backwards_from(place.position)
            .filter(could_answer)
            .filter_map(|before| asked.insert(before.node()).then_some(before.node()))
            .take(attempts % 16 + 1)
            .collect();
        (!nodes.is_empty()).then(|| nodes[attempts % 16 % nodes.len()])
    }

    /// A host that was seen to be a member while it joins: it may be the only one, where all others have restarted.
    fn member_in_part(&self) -> Option<NodeId> {
        let (node, _) = self.member_seen?;
        let is_joining = self.table.entry(&node).is_some_and(|entry| entry.state == HostState::Joining);
        (is_joining && self.is_usable(&node)).then_some(node)
    }

    fn random_seed(&mut self) -> Option<NodeId> {
        let pick = self.rng.usize(..self.seeds.len().max(1));
        self.seeds.get(pick).map(|host| host.node)
    }

    fn ask_for_place(&mut self, index: usize, contact: NodeId, redirects: u32) {
        let operation = self.fresh_id();
        let (ring, joiner) = (self.config.settings.id, self.virtual_nodes[index].place.id);
        let question = RingMessage::JoinRequest { ring, operation, joiner };
        self.begin_operation(index, operation, contact, question, OperationKind::FindPlace { redirects });
    }

    /// Answers with the place before the joiner's, or where to look for it.
    pub(crate) fn handle_join_request(&mut self, sender: NodeId, ring: RingId, operation: u64, joiner: VirtualNodeId) {
        if ring != self.config.settings.id {
            let reason = RefuseReason::OtherRing { ring: self.config.settings.id };
            return self.send(sender, RingMessage::Refuse { reason });
        }
        let Some(place) = self.checked(joiner).filter(|place| place.node() == sender) else { return };
        let outcome = self.place_of(&place);
        self.send(sender, RingMessage::JoinReply { operation, joiner, outcome });
    }

    fn place_of(&mut self, joiner: &VirtualNode) -> JoinOutcome {
        let Some(index) = self.own_member_before(joiner.position) else { return JoinOutcome::NotMember };
        let node = &self.virtual_nodes[index];
        if between(node.place.position, joiner, node.head().position) {
            if node.operation.is_some() {
                return JoinOutcome::Busy;
            }
            let successors = node.successors.iter().map(|successor| successor.id).collect();
            return JoinOutcome::Place { predecessor: node.place.id, successors };
        }
        let nearer = self.nearest_successor_before(index, joiner);
        match nearer.and_then(|next| Some((next.id, self.table.entry(&next.node())?.host.clone()))) {
            Some((next, host)) => JoinOutcome::Redirect { next, host },
            None => {
                // Our list holds the joiner itself, from its life before, or only dead ones: stabilize first.
                let soon = self.now + self.config.settle_every() / 4;
                let node = &mut self.virtual_nodes[index];
                node.due = node.due.min(soon);
                JoinOutcome::Busy
            }
        }
    }

    /// Redirections follow successor lists alone: they lead to members, which the table does not promise.
    fn nearest_successor_before(&self, index: usize, joiner: &VirtualNode) -> Option<VirtualNode> {
        let from = self.virtual_nodes[index].place.position;
        self.virtual_nodes
            .iter()
            .filter(|node| node.member)
            .flat_map(|node| &node.successors)
            .filter(|next| between(from, next, joiner.position))
            .filter(|next| next.node() != self.me && self.is_usable(&next.node()))
            .max_by_key(|next| from.distance_to(next.position))
            .copied()
    }

    /// Goes on with the join that asked.
    pub(crate) fn handle_join_reply(
        &mut self,
        sender: NodeId,
        operation: u64,
        joiner: VirtualNodeId,
        outcome: JoinOutcome,
    ) {
        let Some(index) = self.own_index(&joiner) else { return };
        let Some(operation) = self.take_operation(index, sender, operation) else { return };
        let OperationKind::FindPlace { redirects } = operation.kind else { return self.retry_later(index) };
        match outcome {
            JoinOutcome::Place { predecessor, successors } => self.take_place(index, predecessor, &successors),
            JoinOutcome::Redirect { next, host } if redirects < REDIRECTS_MAX && host.node == next.node => {
                if host.node != self.me && self.table.entry(&host.node).is_none() {
                    self.emit(RingOutput::AddressKnown { node: host.node, address: host.address });
                }
                self.ask_for_place(index, next.node, redirects + 1);
            }
            JoinOutcome::Redirect { .. } | JoinOutcome::Busy => self.retry_later(index),
            JoinOutcome::NotMember => {
                self.non_members.insert(sender);
                self.give_up_asked(index, operation.kind);
            }
        }
    }

    /// Second step: the copied list counts only once a successor on it was seen alive.
    fn take_place(&mut self, index: usize, predecessor: VirtualNodeId, successors: &[VirtualNodeId]) {
        let place = self.virtual_nodes[index].place;
        let followers: Vec<VirtualNode> =
            successors.iter().take(SUCCESSORS_MAX).filter_map(|id| self.checked(*id)).collect();
        let predecessor = self.checked(predecessor);
        let fits = |before: &VirtualNode| {
            followers.first().is_some_and(|head| between(before.position, &place, head.position))
        };
        match predecessor.filter(fits) {
            Some(predecessor) => self.ask_next_candidate(index, followers.into(), Some(predecessor)),
            None => self.retry_later(index),
        }
    }

    /// Announces us as up once all our virtual nodes are members.
    pub(crate) fn announce_when_joined(&mut self) {
        if self.joined || self.own_state() == HostState::Left || !self.virtual_nodes.iter().all(|node| node.member) {
            return;
        }
        self.joined = true;
        if self.own_state() == HostState::Joining {
            self.set_own_state(HostState::Up);
        }
        self.emit(RingOutput::Joined);
    }

    /// After a restart: when the other nodes are all restarting too, there is no member to join. Once a majority of
    /// the hosts in placement say so, or nobody says otherwise for twice the time that makes a host suspect, the ring
    /// is built from the remembered table. Two groups that do so apart are merged like a healed partition.
    pub(crate) fn rebuild_when_nobody_is_member(&mut self) {
        let Some(resumed_at) = self.resumed_at else { return };
        if self.virtual_nodes.iter().any(|node| node.member) {
            self.resumed_at = None;
            return;
        }
        let waiting_since = self.member_seen.map_or(resumed_at, |(_, seen_at)| seen_at.max(resumed_at));
        let waited = self.now.since(waiting_since) >= self.config.suspect_after * 2;
        let in_placement =
            |node: &&NodeId| self.table.entry(node).is_some_and(|entry| entry.state.takes_part_in_placement());
        let down = self.non_members.iter().filter(|node| **node != self.me).filter(in_placement).count();
        if waited || (down + 1) * 2 > self.placement.hosts() {
            self.resumed_at = None;
            self.build_from_table();
        }
    }

    /// Makes all our virtual nodes members at once, with lists taken from those hosts of the table that answered us
    /// in this life.
    pub(crate) fn build_from_table(&mut self) {
        let hosts_wanted = self.config.successor_hosts();
        let alive = |place: &VirtualNode| place.node() == self.me || self.non_members.contains(&place.node());
        let lists: Vec<Vec<VirtualNode>> = self
            .virtual_nodes
            .iter()
            .map(|node| {
                let start = node.place.position.plus_power_of_two(0);
                successor_list(&node.place, self.members.clockwise_from(start).filter(alive), hosts_wanted)
            })
            .collect();
        for (node, list) in self.virtual_nodes.iter_mut().zip(lists) {
            node.successors = if list.is_empty() { vec![node.place] } else { list };
            node.member = true;
            node.operation = None;
            node.due = self.now;
        }
        self.announce_when_joined();
    }
}
