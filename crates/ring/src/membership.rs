//! Changes of the host table, our own row included, and what follows from them.

use difuse_types::{Incarnation, Instant, NodeId};

use crate::{HostEntry, HostState, RefuseReason, Ring, RingMessage, RingOutput, table::Offered};

/// A host cannot be declared gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeclareGoneError {
    /// No such host is known.
    #[error("no host of that id is known")]
    Unknown,
    /// It is this node itself.
    #[error("a node cannot give itself up; let it leave instead")]
    Myself,
    /// It was given up or left before.
    #[error("that host is gone already")]
    AlreadyAway,
}

impl Ring {
    /// Begins a planned leave: out of placement, still serving. No effect unless joining or up.
    pub fn leave(&mut self, now: Instant, out: &mut Vec<RingOutput>) {
        self.now = now;
        if matches!(self.own_state(), HostState::Joining | HostState::Up) {
            self.set_own_state(HostState::Leaving);
        }
        self.finish(out);
    }

    /// Takes a planned leave back. No effect unless leaving.
    pub fn stay(&mut self, now: Instant, out: &mut Vec<RingOutput>) {
        self.now = now;
        if self.own_state() == HostState::Leaving {
            self.set_own_state(HostState::Up);
        }
        self.finish(out);
    }

    /// Ends a planned leave: tells everybody that we left, and once more at every further call, for what is told may be lost and
    /// nobody else knows of it yet. From then on our virtual nodes are no members.
    pub fn left(&mut self, now: Instant, out: &mut Vec<RingOutput>) {
        self.now = now;
        if self.own_state() == HostState::Left {
            self.note_news(self.me);
        } else {
            self.set_own_state(HostState::Left);
            for node in &mut self.virtual_nodes {
                node.withdraw();
            }
        }
        self.finish(out);
    }

    /// An operator's word that `node` will not come back: placement changes at once.
    pub fn declare_gone(
        &mut self,
        now: Instant,
        node: NodeId,
        out: &mut Vec<RingOutput>,
    ) -> Result<(), DeclareGoneError> {
        if node == self.me {
            return Err(DeclareGoneError::Myself);
        }
        let entry = self.table.entry(&node).ok_or(DeclareGoneError::Unknown)?;
        if entry.state.is_away() {
            return Err(DeclareGoneError::AlreadyAway);
        }
        self.now = now;
        self.give_up(node);
        self.finish(out);
        Ok(())
    }

    /// What the table says of us; joining before it says anything.
    pub(crate) fn own_state(&self) -> HostState {
        self.table.entry(&self.me).map_or(HostState::Joining, |entry| entry.state)
    }

    pub(crate) fn set_own_state(&mut self, state: HostState) {
        if let Some(own) = self.table.entry(&self.me) {
            let entry = HostEntry { host: own.host.clone(), state, version: own.version + 1 };
            self.accept(entry);
        }
    }

    pub(crate) fn give_up(&mut self, node: NodeId) {
        if let Some(entry) = self.table.entry(&node) {
            let entry = HostEntry { state: HostState::Gone, ..entry.clone() };
            self.accept(entry);
        }
    }

    /// Takes in a row that another node told us.
    pub(crate) fn merge(&mut self, sender: NodeId, entry: HostEntry) {
        // After leaving the table stands still: it must keep our own row, which a full one might drop.
        if !entry.is_acceptable() || self.own_state() == HostState::Left {
            return;
        }
        if entry.host.node == self.me {
            return self.hear_of_ourselves(entry);
        }
        if self.accept(entry) == Offered::Full {
            self.send(sender, RingMessage::Refuse { reason: RefuseReason::TableFull });
        }
    }

    /// Others may remember more of us than we do, or have given us up: we come back with a row that overrides theirs.
    fn hear_of_ourselves(&mut self, theirs: HostEntry) {
        let Some(own) = self.table.entry(&self.me) else { return };
        if own.state == HostState::Left || theirs.precedence(own).is_le() {
            return;
        }
        let mut entry = own.without_opinion();
        entry.version = own.version.max(theirs.version) + 1;
        if theirs.state.is_away() || theirs.host.incarnation > own.host.incarnation {
            entry.host.incarnation = Incarnation(theirs.host.incarnation.0 + 1);
        }
        self.accept(entry);
    }

    /// Puts a row in the table and does all that follows.
    pub(crate) fn accept(&mut self, entry: HostEntry) -> Offered {
        let offered = self.table.offer(entry.clone());
        if let Offered::New { previous, evicted } = &offered {
            if let Some(evicted) = evicted {
                self.emit(RingOutput::Forget { node: *evicted });
            }
            self.follow_change(previous.as_deref(), &entry);
        }
        offered
    }

    fn follow_change(&mut self, before: Option<&HostEntry>, after: &HostEntry) {
        let (node, virtual_nodes) = (after.host.node, self.config.settings.virtual_nodes);
        self.placement.update(before, Some(after), virtual_nodes);
        let on_ring_before = before.is_some_and(|entry| entry.state.is_on_the_ring());
        match (on_ring_before, after.state.is_on_the_ring()) {
            (false, true) => self.members.insert(node, virtual_nodes),
            (true, false) => self.members.remove(node, virtual_nodes),
            _ => {}
        }
        self.emit(RingOutput::HostChanged { entry: after.without_opinion() });
        self.note_news(node);
        if node != self.me {
            self.follow_change_of_other(before, after);
        }
    }

    fn follow_change_of_other(&mut self, before: Option<&HostEntry>, after: &HostEntry) {
        let node = after.host.node;
        if before.map(|entry| &entry.host.address) != Some(&after.host.address) && after.state != HostState::Left {
            self.emit(RingOutput::AddressKnown { node, address: after.host.address.clone() });
        }
        let was_away = before.is_some_and(|entry| entry.state.is_away());
        if after.state.is_away() {
            self.detector.forget(&node);
            self.hurry(node, true);
            if after.state == HostState::Left {
                self.emit(RingOutput::Forget { node });
            }
        } else {
            if was_away {
                self.emit(RingOutput::SuspicionChanged { node, suspect: false });
            }
            if self.detector.is_suspect(&node) {
                self.table.set_suspect(&node, true);
                self.ping(node);
            }
            self.hurry(node, false);
        }
    }
}
