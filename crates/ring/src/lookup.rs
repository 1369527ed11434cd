//! Routing: by the host table in one hop, and by Chord's fingers where the table is incomplete.

use difuse_types::{Host, Instant, NodeId, RingPosition};

use crate::{
    LookupId, LookupOutcome, Ring, RingMessage, RingOutput, VirtualNodeId, circle::VirtualNode, successor_list::between,
};

/// Most lookups in progress; more fail at once.
const LOOKUPS_MAX: usize = 1024;
/// Most nodes that one lookup asks.
const HOPS_MAX: u32 = 64;

/// A lookup in progress.
#[derive(Debug)]
pub(crate) struct Lookup {
    position: RingPosition,
    asked: NodeId,
    hops: u32,
    pub(crate) deadline: Instant,
    purpose: Purpose,
}

#[derive(Debug, Clone, Copy)]
enum Purpose {
    Caller,
    Finger { index: usize, exponent: u8 },
}

impl LookupOutcome {
    /// The virtual node that it names: the owner, or whom to ask next.
    fn virtual_node(&self) -> Option<VirtualNodeId> {
        match self {
            Self::Found { owner: node } | Self::Next { next: node } => Some(*node),
            Self::NotMember => None,
        }
    }
}

impl Ring {
    /// The owner of `position`, the first live virtual node at or after it, by the host table: one hop. While the
    /// table shows no other host: what the fingers say.
    pub fn route(&self, position: RingPosition) -> LookupOutcome {
        let owner = self.members.clockwise_from(position).find(|place| self.is_usable(&place.node()));
        match owner {
            Some(owner) if self.table.len() > 1 => LookupOutcome::Found { owner: owner.id },
            _ => self.route_by_fingers(position),
        }
    }

    /// One step of Chord's lookup, by the pointers of our own virtual nodes alone: the owner, or a virtual node nearer
    /// before it whose node is to be asked next.
    pub fn route_by_fingers(&self, position: RingPosition) -> LookupOutcome {
        if let Some(owner) = self.virtual_nodes.iter().find(|node| node.member && node.place.position == position) {
            return LookupOutcome::Found { owner: owner.place.id };
        }
        let Some(index) = self.own_member_before(position) else { return LookupOutcome::NotMember };
        let before = &self.virtual_nodes[index];
        let head = before.successors.iter().find(|next| self.is_usable(&next.node())).copied().unwrap_or(before.place);
        let start = before.place.position;
        if position == head.position || position.is_between(start, head.position) {
            return LookupOutcome::Found { owner: head.id };
        }
        let nearest = self
            .virtual_nodes
            .iter()
            .filter(|node| node.member)
            .flat_map(|node| node.pointers())
            .filter(|place| between(start, place, position) && self.is_usable(&place.node()))
            .max_by_key(|place| start.distance_to(place.position));
        LookupOutcome::Next { next: nearest.map_or(head.id, |place| place.id) }
    }

    /// Looks up the owner of `position` by fingers, asking one node after another; ends with
    /// [`RingOutput::LookupDone`]. A node that is no member itself begins at one that should be, by the table or among
    /// its seeds: another one each time.
    pub fn lookup(&mut self, now: Instant, position: RingPosition, out: &mut Vec<RingOutput>) -> LookupId {
        self.now = now;
        let id = self.fresh_id();
        let first = match self.route_by_fingers(position) {
            LookupOutcome::NotMember => self.somebody_on_the_ring(),
            step => step,
        };
        self.step_lookup(id, position, 0, Purpose::Caller, first);
        self.finish(out);
        LookupId(id)
    }

    fn somebody_on_the_ring(&mut self) -> LookupOutcome {
        let on_the_ring =
            self.table.entries().filter(|entry| entry.state.is_on_the_ring()).map(|entry| entry.host.node);
        let others = on_the_ring.filter(|node| *node != self.me && self.is_usable(node));
        let seeds = self.seeds.iter().map(|host| host.node).filter(|node| self.table.entry(node).is_none());
        let candidates: Vec<NodeId> = others.chain(seeds).collect();
        let node = self.rng.choice(candidates);
        node.map_or(LookupOutcome::NotMember, |node| LookupOutcome::Next { next: VirtualNodeId { node, index: 0 } })
    }

    pub(crate) fn handle_lookup_request(&mut self, sender: NodeId, lookup: u64, position: RingPosition) {
        let outcome = self.route_by_fingers(position);
        let host = outcome.virtual_node().and_then(|found| self.table.entry(&found.node)).map(|row| row.host.clone());
        self.send(sender, RingMessage::LookupReply { lookup, outcome, host });
    }

    pub(crate) fn handle_lookup_reply(&mut self, sender: NodeId, id: u64, outcome: LookupOutcome, host: Option<Host>) {
        if self.lookups.get(&id).is_none_or(|lookup| lookup.asked != sender) {
            return;
        }
        let found = outcome.virtual_node().map(|found| found.node);
        if let Some(host) = host.filter(|host| Some(host.node) == found && host.node != self.me)
            && self.table.entry(&host.node).is_none()
        {
            self.emit(RingOutput::AddressKnown { node: host.node, address: host.address });
        }
        if let Some(Lookup { position, hops, purpose, .. }) = self.lookups.remove(&id) {
            self.step_lookup(id, position, hops, purpose, outcome);
        }
    }

    fn step_lookup(&mut self, id: u64, position: RingPosition, hops: u32, purpose: Purpose, outcome: LookupOutcome) {
        let index_is_valid = |index: u16| index < self.config.settings.virtual_nodes;
        match outcome {
            LookupOutcome::Found { owner } if index_is_valid(owner.index) => {
                self.end_lookup(id, hops, purpose, Some(VirtualNode::new(owner)));
            }
            LookupOutcome::Next { next }
                if next.node != self.me && hops < HOPS_MAX && self.lookups.len() < LOOKUPS_MAX =>
            {
                self.ask_for_owner(id, position, next.node, hops + 1, purpose);
            }
            _ => self.end_lookup(id, hops, purpose, None),
        }
    }

    fn ask_for_owner(&mut self, id: u64, position: RingPosition, asked: NodeId, hops: u32, purpose: Purpose) {
        let deadline = self.now + self.config.operation_timeout;
        self.lookups.insert(id, Lookup { position, asked, hops, deadline, purpose });
        self.send(asked, RingMessage::LookupRequest { lookup: id, position });
    }

    fn end_lookup(&mut self, id: u64, hops: u32, purpose: Purpose, owner: Option<VirtualNode>) {
        match purpose {
            Purpose::Caller => {
                let owner = owner.map(|place| place.id);
                self.emit(RingOutput::LookupDone { lookup: LookupId(id), owner, hops });
            }
            Purpose::Finger { index, exponent } => {
                let fingers = &mut self.virtual_nodes[index].fingers;
                match owner {
                    Some(owner) => fingers.insert(exponent, owner),
                    None => fingers.remove(&exponent),
                };
            }
        }
    }

    /// Ends lookups whose answer did not come in time.
    pub(crate) fn expire_lookups(&mut self) {
        let late: Vec<u64> =
            self.lookups.iter().filter(|(_, lookup)| lookup.deadline <= self.now).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(lookup) = self.lookups.remove(&id) {
                self.end_lookup(id, lookup.hops, lookup.purpose, None);
            }
        }
    }

    /// Refreshes one finger of a virtual node by a lookup that starts at the node before the target by the table (one
    /// hop, as a rule). Fingers that the successor list covers are not kept.
    pub(crate) fn refresh_finger(&mut self, index: usize) {
        let node = &mut self.virtual_nodes[index];
        let exponent = node.next_finger;
        let target = node.place.position.plus_power_of_two(exponent);
        let covered = node.successors.last().is_none_or(|last| {
            *last == node.place || target == last.position || target.is_between(node.place.position, last.position)
        });
        if covered {
            // All lesser exponents are covered, too.
            node.fingers.retain(|kept, _| *kept > exponent);
            node.next_finger = u8::MAX;
            return;
        }
        node.next_finger = exponent.checked_sub(1).unwrap_or(u8::MAX);
        let purpose = Purpose::Finger { index, exponent };
        let id = self.fresh_id();
        let before = self.members.backwards_from(target).find(|place| self.is_usable(&place.node()));
        let first = match before {
            Some(before) if before.node() != self.me => LookupOutcome::Next { next: before.id },
            _ => self.route_by_fingers(target),
        };
        self.step_lookup(id, target, 0, purpose, first);
    }
}
