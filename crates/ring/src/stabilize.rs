//! Zave's StabilizeFromSuccessor, StabilizeFromPredecessor and Rectify. Each virtual node does one operation at a time.

use std::collections::VecDeque;

use difuse_types::NodeId;

use crate::{
    Ring, RingMessage, SUCCESSORS_MAX, VirtualNodeId,
    circle::VirtualNode,
    successor_list::{between, successor_list},
    virtual_node::{Operation, OperationKind},
};

/// How many nearer predecessors one stabilization follows; the next one goes on from there.
const STEPS_MAX: u32 = 8;
/// How often one that should be alive is asked before it counts as dead.
const TRIES_MAX: u32 = 4;
/// Up to this size any change concerns every virtual node.
const SMALL_RING_VIRTUAL_NODES: usize = 2 * SUCCESSORS_MAX;

/// What a member tells of its pointers.
pub(crate) struct Pointers {
    pub(crate) member: bool,
    pub(crate) predecessor: Option<VirtualNodeId>,
    pub(crate) successors: Vec<VirtualNodeId>,
}

impl Ring {
    /// Begins StabilizeFromSuccessor. Asked in turn: a virtual node that the host table shows nearer than the first
    /// successor (this is how a healed partition merges), the successors that are not known dead, and at last one after
    /// the other by the table, until somebody is a member, at worst the virtual node itself.
    pub(crate) fn begin_stabilize(&mut self, index: usize) {
        let node = &self.virtual_nodes[index];
        let (place, head) = (node.place, node.head());
        let by_table = self.next_live_by_table(&place, &place);
        let mut candidates = VecDeque::new();
        if between(place.position, &by_table, head.position) {
            candidates.push_back(by_table);
        }
        candidates.extend(node.successors.iter().filter(|successor| self.is_usable(&successor.node())));
        candidates.push_back(by_table);
        self.ask_next_candidate(index, candidates, None);
    }

    /// The first virtual node after `last`, on the way round to `place`, whose host the table shows alive; `place` when
    /// there is none. Nobody needs to have told us of it.
    fn next_live_by_table(&self, place: &VirtualNode, last: &VirtualNode) -> VirtualNode {
        let live = |next: &VirtualNode| match self.own_index(&next.id) {
            Some(own) => self.virtual_nodes[own].member,
            None => self.is_usable(&next.node()),
        };
        let following = self.members.clockwise_from(last.position).skip_while(|next| next == last);
        following.take_while(|next| between(last.position, next, place.position)).find(live).unwrap_or(*place)
    }

    /// Asks the next candidate; the first live one becomes first successor. `joining` is the predecessor of a virtual
    /// node that is yet to become a member.
    pub(crate) fn ask_next_candidate(
        &mut self,
        index: usize,
        mut others: VecDeque<VirtualNode>,
        joining: Option<VirtualNode>,
    ) {
        match others.pop_front() {
            Some(asked) => self.ask(index, asked, OperationKind::FromSuccessor { asked, others, joining }),
            None => self.retry_later(index),
        }
    }

    fn ask(&mut self, index: usize, asked: VirtualNode, kind: OperationKind) {
        let operation = self.fresh_id();
        let from = self.virtual_nodes[index].place.id;
        let question = RingMessage::StabilizeQuery { operation, from, to: asked.id };
        self.begin_operation(index, operation, asked.node(), question, kind);
    }

    /// Asks the question and notes the operation that waits for its answer.
    pub(crate) fn begin_operation(
        &mut self,
        index: usize,
        id: u64,
        asked: NodeId,
        question: RingMessage,
        kind: OperationKind,
    ) {
        self.send(asked, question.clone());
        let deadline = self.now + self.config.operation_timeout;
        self.virtual_nodes[index].operation = Some(Operation { id, asked, deadline, question, tries: 1, kind });
    }

    /// No answer came in time. A lost message must not make us skip a live successor: it is asked again, until it is
    /// suspect or was asked for about as long as makes a host suspect.
    pub(crate) fn handle_silence(&mut self, index: usize, mut operation: Operation) {
        if operation.tries >= TRIES_MAX || !self.is_usable(&operation.asked) {
            return self.give_up_asked(index, operation.kind);
        }
        operation.tries += 1;
        operation.deadline = self.now + self.config.operation_timeout;
        self.send(operation.asked, operation.question.clone());
        self.virtual_nodes[index].operation = Some(operation);
    }

    /// Answers a query: reading pointers is possible during any operation.
    pub(crate) fn handle_stabilize_query(
        &mut self,
        sender: NodeId,
        operation: u64,
        from: VirtualNodeId,
        to: VirtualNodeId,
    ) {
        if from.node != sender {
            return;
        }
        let asked = self.own_index(&to).map(|index| &self.virtual_nodes[index]).filter(|node| node.member);
        let message = RingMessage::StabilizeReply {
            operation,
            from: to,
            to: from,
            member: asked.is_some(),
            predecessor: asked.and_then(|node| node.predecessor).map(|place| place.id),
            successors: asked.map(|node| node.successors.iter().map(|s| s.id).collect()).unwrap_or_default(),
        };
        self.send(sender, message);
    }

    /// Goes on with the operation that asked.
    pub(crate) fn handle_stabilize_reply(
        &mut self,
        sender: NodeId,
        operation: u64,
        to: VirtualNodeId,
        pointers: Pointers,
    ) {
        let Some(index) = self.own_index(&to) else { return };
        let Some(operation) = self.take_operation(index, sender, operation) else { return };
        if !pointers.member {
            return self.give_up_asked(index, operation.kind);
        }
        match operation.kind {
            OperationKind::FromSuccessor { asked, joining, .. } => {
                self.adopt_successor(index, asked, &pointers, joining);
                self.improve_or_conclude(index, asked, pointers.predecessor, 0);
            }
            OperationKind::FromPredecessor { asked, steps } => {
                self.adopt_successor(index, asked, &pointers, None);
                self.improve_or_conclude(index, asked, pointers.predecessor, steps);
            }
            OperationKind::Rectify { .. } => self.end_operation(index),
            // Answered by a join reply only: not what was asked.
            OperationKind::FindPlace { .. } => self.retry_later(index),
        }
    }

    /// Ends the wait, if it is for this answer of this node.
    pub(crate) fn take_operation(&mut self, index: usize, sender: NodeId, id: u64) -> Option<Operation> {
        self.virtual_nodes[index].operation.take_if(|operation| operation.id == id && operation.asked == sender)
    }

    /// The asked one is dead or no member: it timed out, became suspect, or says so itself.
    pub(crate) fn give_up_asked(&mut self, index: usize, kind: OperationKind) {
        match kind {
            OperationKind::FindPlace { .. } => {
                self.virtual_nodes[index].join_attempts += 1;
                self.retry_later(index);
            }
            OperationKind::FromSuccessor { asked, mut others, joining } => {
                let place = self.virtual_nodes[index].place;
                if others.is_empty() && joining.is_none() && asked != place {
                    // Nobody that it knows is a member any more: all restarted, say. Somewhere behind them the ring goes on.
                    others.push_back(self.next_live_by_table(&place, &asked));
                }
                self.ask_next_candidate(index, others, joining);
            }
            OperationKind::FromPredecessor { .. } => self.conclude_stabilize(index),
            OperationKind::Rectify { candidate } => {
                self.adopt_predecessor(index, candidate);
                self.end_operation(index);
            }
        }
    }

    /// The heart of both stabilizations: a successor just seen alive, followed by its own list.
    fn adopt_successor(
        &mut self,
        index: usize,
        successor: VirtualNode,
        pointers: &Pointers,
        joining: Option<VirtualNode>,
    ) {
        let hosts_wanted = self.config.successor_hosts();
        let its_list: Vec<VirtualNode> =
            pointers.successors.iter().take(SUCCESSORS_MAX).filter_map(|id| self.checked(*id)).collect();
        let node = &mut self.virtual_nodes[index];
        let list = successor_list(&node.place, std::iter::once(successor).chain(its_list), hosts_wanted);
        node.changed |= node.successors != list;
        node.successors = list;
        if let Some(predecessor) = joining {
            node.member = true;
            node.predecessor = Some(predecessor);
            node.join_attempts = 0;
        }
    }

    fn improve_or_conclude(&mut self, index: usize, successor: VirtualNode, nearer: Option<VirtualNodeId>, steps: u32) {
        let place = self.virtual_nodes[index].place;
        let nearer = nearer.and_then(|id| self.checked(id));
        let nearer = nearer.filter(|nearer| between(place.position, nearer, successor.position));
        #[cfg(feature = "controls")]
        if let Some(nearer) = nearer.filter(|_| self.config.adopts_unchecked) {
            self.adopt_unchecked(index, nearer);
        }
        match nearer.filter(|nearer| steps < STEPS_MAX && self.is_usable(&nearer.node())) {
            Some(asked) => self.ask(index, asked, OperationKind::FromPredecessor { asked, steps: steps + 1 }),
            None => self.conclude_stabilize(index),
        }
    }

    /// What must never be done: see [`crate::RingConfig::adopts_unchecked`].
    #[cfg(feature = "controls")]
    fn adopt_unchecked(&mut self, index: usize, successor: VirtualNode) {
        let hosts_wanted = self.config.successor_hosts();
        let node = &mut self.virtual_nodes[index];
        let followers = node.successors.clone();
        node.successors = successor_list(&node.place, std::iter::once(successor).chain(followers), hosts_wanted);
    }

    /// A notification always follows a stabilization.
    fn conclude_stabilize(&mut self, index: usize) {
        let node = &self.virtual_nodes[index];
        let (from, to) = (node.place.id, node.head().id);
        self.send(to.node, RingMessage::Notify { from, to });
        self.end_operation(index);
    }

    /// Rectify, now or after the operation in progress. Of several waiting the nearest counts.
    pub(crate) fn handle_notify(&mut self, sender: NodeId, from: VirtualNodeId, to: VirtualNodeId) {
        let (Some(candidate), Some(index)) = (self.checked(from), self.own_index(&to)) else { return };
        let node = &mut self.virtual_nodes[index];
        if from.node != sender || !node.member {
            return;
        }
        if node.operation.is_none() {
            return self.begin_rectify(index, candidate);
        }
        let position = node.place.position;
        let nearest = node.pending_notify.is_none_or(|waiting| between(waiting.position, &candidate, position));
        if nearest {
            node.pending_notify = Some(candidate);
        }
    }

    fn begin_rectify(&mut self, index: usize, candidate: VirtualNode) {
        let node = &self.virtual_nodes[index];
        match node.predecessor {
            Some(old) if old == candidate => {}
            Some(old) if !between(old.position, &candidate, node.place.position) && self.is_usable(&old.node()) => {
                self.ask(index, old, OperationKind::Rectify { candidate });
            }
            _ => self.adopt_predecessor(index, candidate),
        }
    }

    fn adopt_predecessor(&mut self, index: usize, candidate: VirtualNode) {
        let node = &mut self.virtual_nodes[index];
        node.changed |= node.predecessor != Some(candidate);
        node.predecessor = Some(candidate);
    }

    /// Sets the time of the next operation: soon while pointers still change here, for what one virtual node learns its
    /// predecessor learns only by asking. Then does what waited.
    fn end_operation(&mut self, index: usize) {
        let changed = std::mem::take(&mut self.virtual_nodes[index].changed);
        if changed {
            self.restless_until = self.now + self.config.stabilize_every * 2;
        }
        let restless = self.now < self.restless_until;
        let pause = if restless { self.config.settle_every() } else { self.config.stabilize_every };
        let due = self.now + self.spread(pause);
        let node = &mut self.virtual_nodes[index];
        node.operation = None;
        node.due = due;
        let waiting = node.pending_notify.take();
        if let Some(candidate) = waiting {
            self.begin_rectify(index, candidate);
        }
        self.announce_when_joined();
    }

    /// Ends an operation that came to nothing.
    pub(crate) fn retry_later(&mut self, index: usize) {
        let due = self.now + self.spread(self.config.settle_every());
        let node = &mut self.virtual_nodes[index];
        node.operation = None;
        node.due = due;
    }

    /// Because `node` came, or went: virtual nodes that it may concern look at their neighbours soon, and those in an
    /// operation with one that `went` wait no longer. On small rings it concerns all.
    pub(crate) fn hurry(&mut self, node: NodeId, went: bool) {
        let small = self.members.len() <= SMALL_RING_VIRTUAL_NODES;
        for index in 0..self.virtual_nodes.len() {
            let soon = self.now + self.spread(self.config.settle_every()) / 4;
            let own = &mut self.virtual_nodes[index];
            if small || own.pointers().any(|place| place.node() == node) {
                own.due = own.due.min(soon);
            }
            if let Some(operation) = own.operation.take_if(|operation| went && operation.asked == node) {
                self.give_up_asked(index, operation.kind);
            }
        }
    }
}
