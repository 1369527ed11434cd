use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use difuse_types::{Host, Instant, NodeId, RingPosition, SlotId};

use crate::{
    HOSTS_MAX, HostEntry, HostState, RingConfig, RingMessage, RingOutput, VirtualNodeId,
    circle::{Circle, VirtualNode},
    detection::Detector,
    gossip::Gossip,
    invariants::VirtualNodeSnapshot,
    lookup::Lookup,
    placement::Placement,
    stabilize::Pointers,
    table::HostTable,
    virtual_node::LocalVirtualNode,
};

/// Most seeds kept.
const SEEDS_MAX: usize = 64;
/// How many messages virtual nodes of this node may send each other within one call: far more than ever needed, so
/// that a mistake ends in lost messages instead of in a node that hangs.
const LOCAL_MESSAGES_MAX: usize = 100_000;

/// One node's part of the ring: a state machine without I/O. Every `handle_*` takes the time and appends what is to
/// be done to `out`; call [`Ring::handle_tick`] at [`Ring::next_wakeup`], which is right away after construction.
#[derive(Debug)]
pub struct Ring {
    pub(crate) config: RingConfig,
    pub(crate) me: NodeId,
    /// The time of the call in progress.
    pub(crate) now: Instant,
    pub(crate) rng: fastrand::Rng,
    pub(crate) table: HostTable,
    pub(crate) placement: Placement,
    /// The virtual nodes of all hosts on the ring by the table, those that leave included.
    pub(crate) members: Circle,
    pub(crate) virtual_nodes: Vec<LocalVirtualNode>,
    pub(crate) detector: Detector,
    pub(crate) gossip: Gossip,
    pub(crate) lookups: BTreeMap<u64, Lookup>,
    pub(crate) seeds: Vec<Host>,
    /// Whether [`RingOutput::Joined`] was said.
    pub(crate) joined: bool,
    /// Set while restarting, until there is a ring again.
    pub(crate) resumed_at: Option<Instant>,
    /// While restarting: who last answered that it is a member, and when.
    pub(crate) member_seen: Option<(NodeId, Instant)>,
    /// Nodes that answered that they are no members.
    pub(crate) non_members: BTreeSet<NodeId>,
    /// Until then all our virtual nodes stabilize at the faster pace.
    pub(crate) restless_until: Instant,
    last_id: u64,
    pub(crate) placement_told: u64,
    to_ourselves: VecDeque<RingMessage>,
    pub(crate) outputs: Vec<RingOutput>,
}

impl Ring {
    /// The first node of a ring: up at once, its own successor.
    pub fn found(config: RingConfig, me: Host, now: Instant, rng_seed: u64) -> Self {
        let mut ring = Self::new(config, me.node, now, rng_seed);
        ring.accept(HostEntry { host: me, state: HostState::Up, version: 1 });
        ring.build_from_table();
        ring
    }

    /// A new node that knows some nodes of the ring, from a handshake; one is enough.
    pub fn join(config: RingConfig, me: Host, seeds: Vec<Host>, now: Instant, rng_seed: u64) -> Self {
        let mut ring = Self::new(config, me.node, now, rng_seed);
        ring.accept(HostEntry { host: me, state: HostState::Joining, version: 1 });
        ring.seeds = seeds.into_iter().filter(|seed| seed.node != ring.me).take(SEEDS_MAX).collect();
        for seed in ring.seeds.clone() {
            ring.emit(RingOutput::AddressKnown { node: seed.node, address: seed.address });
            ring.send_digest(seed.node);
        }
        // The table comes first, so that joining begins at the right place.
        ring.delay_virtual_nodes(ring.config.settle_every());
        ring
    }

    /// A node that restarts with its identity and what [`Ring::persistent_state`] gave; `me` has its incarnation
    /// counted up already. It keeps its place in placement, and joins the ring anew; when all nodes restart, they
    /// build the ring from the remembered table.
    pub fn resume(config: RingConfig, me: Host, known: Vec<HostEntry>, now: Instant, rng_seed: u64) -> Self {
        let mut ring = Self::new(config, me.node, now, rng_seed);
        let me_id = me.node;
        let before = known.iter().find(|entry| entry.host.node == me_id);
        let state = match before.map(|entry| entry.state.without_opinion()) {
            Some(state @ (HostState::Up | HostState::Leaving)) => state,
            Some(HostState::Gone) => HostState::Up,
            _ => HostState::Joining,
        };
        let version = before.map_or(1, |entry| entry.version.saturating_add(1));
        ring.resumed_at = state.is_on_the_ring().then_some(now);
        ring.accept(HostEntry { host: me, state, version });
        for entry in known.into_iter().filter(|entry| entry.host.node != me_id) {
            ring.accept(entry);
        }
        for node in ring.live_others() {
            ring.ping(node);
        }
        ring.delay_virtual_nodes(ring.config.settle_every());
        ring.rebuild_when_nobody_is_member();
        ring
    }

    pub(crate) fn new(config: RingConfig, me: NodeId, now: Instant, rng_seed: u64) -> Self {
        let virtual_nodes =
            (0..config.settings.virtual_nodes).map(|index| LocalVirtualNode::new(me, index, now)).collect();
        let mut ring = Self {
            config,
            me,
            now,
            rng: fastrand::Rng::with_seed(rng_seed),
            table: HostTable::new(HOSTS_MAX),
            placement: Placement::default(),
            members: Circle::default(),
            virtual_nodes,
            detector: Detector::default(),
            gossip: Gossip::default(),
            lookups: BTreeMap::new(),
            seeds: Vec::new(),
            joined: false,
            resumed_at: None,
            member_seen: None,
            non_members: BTreeSet::new(),
            restless_until: now,
            last_id: 0,
            placement_told: 0,
            to_ourselves: VecDeque::new(),
            outputs: Vec::new(),
        };
        ring.last_id = ring.rng.u64(..) >> 1;
        ring
    }

    fn delay_virtual_nodes(&mut self, pause: Duration) {
        for index in 0..self.virtual_nodes.len() {
            self.virtual_nodes[index].due = self.now + self.spread(pause);
        }
    }

    /// A message from another node of the ring, authenticated as such by the transport.
    pub fn handle_message(&mut self, now: Instant, from: NodeId, message: RingMessage, out: &mut Vec<RingOutput>) {
        self.now = now;
        // Messages of our own virtual nodes to each other never leave us: one from outside is forged.
        if from != self.me {
            // Not on gossip itself: two nodes that cannot take in each other's rows would never come to an end.
            let is_protocol = matches!(
                message,
                RingMessage::Ping { .. }
                    | RingMessage::JoinRequest { .. }
                    | RingMessage::StabilizeQuery { .. }
                    | RingMessage::Notify { .. }
            );
            if is_protocol {
                self.meet(from);
            }
            self.dispatch(from, message);
        }
        self.finish(out);
    }

    /// A node that the table does not know: compare tables, or two that never hear of each other's rows stay apart.
    pub(crate) fn meet(&mut self, node: NodeId) {
        if node != self.me && self.table.entry(&node).is_none() {
            self.send_digest(node);
        }
    }

    fn dispatch(&mut self, sender: NodeId, message: RingMessage) {
        match message {
            RingMessage::Ping { sent_ns } => self.handle_ping(sender, sent_ns),
            RingMessage::Pong { sent_ns, member } => self.handle_pong(sender, sent_ns, member),
            RingMessage::GossipDigest { ring, buckets } => self.handle_digest(sender, ring, &buckets),
            RingMessage::GossipRows { ring, entries, wanted } => self.handle_rows(sender, ring, entries, wanted),
            RingMessage::JoinRequest { ring, operation, joiner } => {
                self.handle_join_request(sender, ring, operation, joiner);
            }
            RingMessage::JoinReply { operation, joiner, outcome } => {
                self.handle_join_reply(sender, operation, joiner, outcome);
            }
            RingMessage::StabilizeQuery { operation, from, to } => {
                self.handle_stabilize_query(sender, operation, from, to);
            }
            RingMessage::StabilizeReply { operation, from: _, to, member, predecessor, successors } => {
                self.handle_stabilize_reply(sender, operation, to, Pointers { member, predecessor, successors });
            }
            RingMessage::Notify { from, to } => self.handle_notify(sender, from, to),
            RingMessage::LookupRequest { lookup, position } => self.handle_lookup_request(sender, lookup, position),
            RingMessage::LookupReply { lookup, outcome, host } => {
                self.handle_lookup_reply(sender, lookup, outcome, host);
            }
            RingMessage::Refuse { reason } => self.emit(RingOutput::Refused { by: sender, reason }),
        }
    }

    /// Does what is due; to be called at [`Ring::next_wakeup`], and harmless at any other time.
    pub fn handle_tick(&mut self, now: Instant, out: &mut Vec<RingOutput>) {
        self.now = now;
        if self.own_state() != HostState::Left {
            self.rebuild_when_nobody_is_member();
            self.run_virtual_nodes();
            if self.gossip.next_comparison <= now {
                self.compare_with_random_host();
            }
            if self.detector.next_round <= now {
                self.run_detection_round();
            }
        }
        self.expire_lookups();
        self.finish(out);
    }

    fn run_virtual_nodes(&mut self) {
        for index in 0..self.virtual_nodes.len() {
            if self.virtual_nodes[index].wakeup() > self.now {
                continue;
            }
            if let Some(operation) = self.virtual_nodes[index].operation.take() {
                self.handle_silence(index, operation);
            } else if self.virtual_nodes[index].member {
                self.begin_stabilize(index);
                self.refresh_finger(index);
            } else {
                self.begin_join(index);
            }
        }
    }

    /// When [`Ring::handle_tick`] is to be called next.
    pub fn next_wakeup(&self) -> Instant {
        if !self.outputs.is_empty() {
            return self.now;
        }
        let lookups = self.lookups.values().map(|lookup| lookup.deadline);
        let shared = lookups.chain(self.gossip.next_news);
        if self.own_state() == HostState::Left {
            return shared.min().unwrap_or(Instant(u64::MAX));
        }
        let rounds = [self.gossip.next_comparison, self.detector.next_round];
        let virtual_nodes = self.virtual_nodes.iter().map(LocalVirtualNode::wakeup);
        shared.chain(rounds).chain(virtual_nodes).min().unwrap_or(self.now)
    }

    /// The hosts that should hold `slot`: the first N distinct ones (by label, different zones first) clockwise from
    /// its position among those that take part in placement; fewer when there are fewer. The first is the natural
    /// leader. Depends on the host table alone.
    pub fn successors(&self, slot: SlotId) -> Vec<NodeId> {
        let settings = &self.config.settings;
        self.placement.successors(&self.table, settings.slots.position(slot), usize::from(settings.replicas))
    }

    /// Counted up with every change that [`Ring::successors`] could show.
    pub fn placement_version(&self) -> u64 {
        self.placement.version()
    }

    /// Whether to route around a node: it does not answer us, was given up, or left.
    pub fn is_suspect(&self, node: &NodeId) -> bool {
        self.detector.is_suspect(node) || self.table.entry(node).is_some_and(|entry| entry.state.is_away())
    }

    /// What is known of a node.
    pub fn host(&self, node: &NodeId) -> Option<&HostEntry> {
        self.table.entry(node)
    }

    /// All known hosts, in the order of their ids, ourselves and those that went included.
    pub fn hosts(&self) -> impl Iterator<Item = &HostEntry> {
        self.table.entries()
    }

    /// Ourselves, as others know us: the incarnation may be higher than at the start.
    ///
    /// # Panics
    ///
    /// Never: our own row is set at construction and never removed.
    pub fn me(&self) -> &Host {
        let own = self.table.entry(&self.me).expect("the table holds our own row from construction on");
        &own.host
    }

    /// What this node was told at its start.
    pub fn config(&self) -> &RingConfig {
        &self.config
    }

    /// Whether all our virtual nodes are members of the ring.
    pub fn is_member(&self) -> bool {
        self.virtual_nodes.iter().all(|node| node.member)
    }

    /// The state of our virtual nodes, for people and for the checks of [`crate::invariants`].
    pub fn virtual_nodes(&self) -> impl Iterator<Item = VirtualNodeSnapshot> {
        self.virtual_nodes.iter().map(|node| VirtualNodeSnapshot {
            place: node.place,
            member: node.member,
            predecessor: node.predecessor,
            successors: node.successors.clone(),
            fingers: node.fingers.len(),
        })
    }

    /// What to remember over a restart, for [`Ring::resume`].
    pub fn persistent_state(&self) -> Vec<HostEntry> {
        self.table.entries().map(HostEntry::without_opinion).collect()
    }

    pub(crate) fn emit(&mut self, output: RingOutput) {
        self.outputs.push(output);
    }

    /// Sends to another node, or to a virtual node of our own without leaving this one.
    pub(crate) fn send(&mut self, to: NodeId, message: RingMessage) {
        if to == self.me {
            self.to_ourselves.push_back(message);
        } else {
            self.emit(RingOutput::Send { to, message });
        }
    }

    /// Ends every call: delivers what our virtual nodes said to each other, tells news, hands out the outputs.
    pub(crate) fn finish(&mut self, out: &mut Vec<RingOutput>) {
        for _ in 0..LOCAL_MESSAGES_MAX {
            let Some(message) = self.to_ourselves.pop_front() else { break };
            self.dispatch(self.me, message);
        }
        self.to_ourselves.clear();
        self.tell_news();
        if self.placement_told != self.placement.version() {
            self.placement_told = self.placement.version();
            self.emit(RingOutput::PlacementChanged);
        }
        out.append(&mut self.outputs);
    }

    pub(crate) fn fresh_id(&mut self) -> u64 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// `pause`, shortened or lengthened by up to a quarter, so that nodes do not act in step.
    pub(crate) fn spread(&mut self, pause: Duration) -> Duration {
        pause.mul_f64(0.75 + self.rng.f64() / 2.0)
    }

    /// Whether a node should answer; one that the table does not know yet gets the benefit of the doubt.
    pub(crate) fn is_usable(&self, node: &NodeId) -> bool {
        *node == self.me || !self.is_suspect(node)
    }

    /// Which of our virtual nodes `id` names.
    pub(crate) fn own_index(&self, id: &VirtualNodeId) -> Option<usize> {
        let index = usize::from(id.index);
        (id.node == self.me && index < self.virtual_nodes.len()).then_some(index)
    }

    /// A virtual node that a peer named, unless its index is out of range.
    pub(crate) fn checked(&self, id: VirtualNodeId) -> Option<VirtualNode> {
        (id.index < self.config.settings.virtual_nodes).then(|| VirtualNode::new(id))
    }

    /// Our member nearest before `position`.
    pub(crate) fn own_member_before(&self, position: RingPosition) -> Option<usize> {
        let distance = |index: &usize| self.virtual_nodes[*index].place.position.distance_to(position);
        let members = (0..self.virtual_nodes.len()).filter(|index| self.virtual_nodes[*index].member);
        members.filter(|index| distance(index) != [0; 32]).min_by_key(distance)
    }
}
