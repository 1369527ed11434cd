use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_types::{Hash, Host, Incarnation, Instant, NodeId, RingId, RingSettings, SlotId};

use crate::{
    HostEntry, HostState, Ring, RingConfig, RingMessage, RingOutput,
    invariants::{self, VirtualNodeSnapshot},
};

/// Many rings' parts and the network between them.
pub(super) struct Network {
    pub(super) now: Instant,
    pub(super) rings: BTreeMap<NodeId, Ring>,
    /// What each node put out besides messages.
    pub(super) outputs: BTreeMap<NodeId, Vec<RingOutput>>,
    /// Share of messages lost.
    pub(super) loss: f64,
    /// Nodes in different groups do not reach each other; group 0 when not named.
    pub(super) groups: BTreeMap<NodeId, u8>,
    /// Check the invariants after every step, with principals on at least this many hosts.
    pub(super) principal_hosts_required: Option<usize>,
    pub(super) gone_after: Duration,
    pub(super) replicas: u8,
    /// The virtual nodes of each node when they were last checked.
    pointers: BTreeMap<NodeId, Vec<VirtualNodeSnapshot>>,
    /// How many rows of its host table each node has sent.
    pub(super) rows_sent: BTreeMap<NodeId, usize>,
    messages: BTreeMap<(Instant, u64), (NodeId, NodeId, RingMessage)>,
    sent: u64,
    rng: fastrand::Rng,
}

pub(super) const MILLISECOND: Duration = Duration::from_millis(1);
pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn node(number: u16) -> NodeId {
    NodeId(Hash::of(&number.to_le_bytes()).0)
}

pub(super) fn host(number: u16) -> Host {
    Host {
        node: node(number),
        incarnation: Incarnation(1),
        address: format!("127.0.0.1:{number}"),
        http: String::new(),
        zone: String::new(),
        label: number.to_string(),
    }
}

impl Network {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Instant(1_000_000_000),
            rings: BTreeMap::new(),
            outputs: BTreeMap::new(),
            loss: 0.0,
            groups: BTreeMap::new(),
            principal_hosts_required: None,
            gone_after: Duration::from_secs(300),
            replicas: 3,
            pointers: BTreeMap::new(),
            rows_sent: BTreeMap::new(),
            messages: BTreeMap::new(),
            sent: 0,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// A ring of nodes 0 to `hosts`, exclusive, joined one after the other and settled.
    pub(super) fn settled(seed: u64, hosts: u16) -> Self {
        Self::of_replicas(3, seed, hosts)
    }

    /// The same with so many replicas.
    pub(super) fn of_replicas(replicas: u8, seed: u64, hosts: u16) -> Self {
        let mut network = Self::new(seed);
        network.replicas = replicas;
        network.found(0);
        for number in 1..hosts {
            network.join(number, 0);
        }
        network.run_until_settled(60 * SECOND);
        network
    }

    pub(super) fn config(&self) -> RingConfig {
        let settings = RingSettings::new(RingId(Hash::of(b"ring")), self.replicas, 64, 8).unwrap();
        RingConfig::new(settings, SECOND, self.gone_after)
    }

    pub(super) fn found(&mut self, number: u16) {
        let ring = Ring::found(self.config(), host(number), self.now, self.rng.u64(..));
        self.rings.insert(node(number), ring);
    }

    pub(super) fn join(&mut self, number: u16, seed: u16) {
        self.join_as(host(number), seed);
    }

    pub(super) fn join_as(&mut self, me: Host, seed: u16) {
        let node = me.node;
        let ring = Ring::join(self.config(), me, vec![host(seed)], self.now, self.rng.u64(..));
        self.rings.insert(node, ring);
    }

    /// Ends a node without a word; returns what it would have remembered.
    pub(super) fn kill(&mut self, number: u16) -> Vec<HostEntry> {
        let ring = self.rings.remove(&node(number)).unwrap();
        ring.persistent_state()
    }

    pub(super) fn resume(&mut self, number: u16, known: Vec<HostEntry>) {
        let own = known.iter().find(|entry| entry.host.node == node(number)).unwrap();
        let mut me = own.host.clone();
        me.incarnation.0 += 1;
        let ring = Ring::resume(self.config(), me, known, self.now, self.rng.u64(..));
        self.rings.insert(node(number), ring);
    }

    /// Calls one node outside of time.
    pub(super) fn call<T>(
        &mut self,
        number: u16,
        act: impl FnOnce(&mut Ring, Instant, &mut Vec<RingOutput>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let result = act(self.rings.get_mut(&node(number)).unwrap(), self.now, &mut out);
        self.perform(node(number), out);
        result
    }

    /// Does the next thing that happens; checks the invariants when it changed any virtual node.
    pub(super) fn step(&mut self) {
        let Some(required) = self.principal_hosts_required else {
            self.advance();
            return;
        };
        let known = self.pointers.len();
        self.pointers.retain(|node, _| self.rings.contains_key(node));
        for (node, ring) in &self.rings {
            self.pointers.entry(*node).or_insert_with(|| ring.virtual_nodes().collect());
        }
        let acted = self.advance();
        let now: Option<Vec<_>> = self.rings.get(&acted).map(|ring| ring.virtual_nodes().collect());
        let changed = now.is_some_and(|now| self.pointers.insert(acted, now.clone()) != Some(now));
        if changed || known != self.pointers.len() {
            let all: Vec<_> = self.pointers.values().flatten().cloned().collect();
            assert_eq!(invariants::check(&all, required), [], "at {:?}", self.now);
        }
    }

    /// Does the next thing that happens; returns who acted.
    fn advance(&mut self) -> NodeId {
        let wakeup = self.rings.iter().map(|(node, ring)| (ring.next_wakeup(), *node)).min();
        let message_at = self.messages.first_key_value().map(|((at, _), _)| *at);
        let (wake_at, waking) = wakeup.unwrap();
        let mut out = Vec::new();
        if message_at.is_some_and(|at| at <= wake_at) {
            let ((at, _), (from, to, message)) = self.messages.pop_first().unwrap();
            self.now = self.now.max(at);
            let connected = self.group(&from) == self.group(&to);
            if let Some(ring) = self.rings.get_mut(&to).filter(|_| connected) {
                ring.handle_message(self.now, from, message, &mut out);
            }
            self.perform(to, out);
            to
        } else {
            self.now = self.now.max(wake_at);
            let ring = self.rings.get_mut(&waking).unwrap();
            ring.handle_tick(self.now, &mut out);
            assert!(ring.next_wakeup() > self.now, "a tick leaves something due: the node would spin");
            self.perform(waking, out);
            waking
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// Runs until `reached` holds; fails when it does not within `limit` of virtual time.
    pub(super) fn run_until(&mut self, what: &str, limit: Duration, reached: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        let mut steps = 0;
        while steps % 20 != 0 || !reached(self) {
            self.step();
            steps += 1;
            assert!(self.now < end, "{what}: not within {limit:?}");
        }
    }

    /// Until the ring is ideal, everybody is up, and all tables are equal.
    pub(super) fn run_until_settled(&mut self, limit: Duration) {
        self.run_until("settled", limit, Self::is_settled);
    }

    pub(super) fn is_settled(&self) -> bool {
        let tables: BTreeSet<Vec<(NodeId, HostState)>> = self
            .rings
            .values()
            .map(|ring| ring.hosts().map(|entry| (entry.host.node, entry.state.without_opinion())).collect())
            .collect();
        tables.len() == 1
            && self.rings.values().all(|ring| ring.is_member() && ring.own_state() != HostState::Joining)
            && invariants::is_ideal(&self.snapshots())
    }

    pub(super) fn snapshots(&self) -> Vec<VirtualNodeSnapshot> {
        self.rings.values().flat_map(Ring::virtual_nodes).collect()
    }

    /// What `of` makes of `about`.
    pub(super) fn state(&self, of: u16, about: u16) -> Option<HostState> {
        self.rings[&node(of)].host(&node(about)).map(|entry| entry.state)
    }

    pub(super) fn successors_of_all_slots(&self, of: u16) -> Vec<Vec<NodeId>> {
        (0..64).map(|slot| self.rings[&node(of)].successors(SlotId(slot))).collect()
    }

    fn group(&self, node: &NodeId) -> u8 {
        self.groups.get(node).copied().unwrap_or(0)
    }

    fn perform(&mut self, from: NodeId, outputs: Vec<RingOutput>) {
        for output in outputs {
            match output {
                RingOutput::Send { to, message } => self.transmit(from, to, message),
                other => self.outputs.entry(from).or_default().push(other),
            }
        }
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, message: RingMessage) {
        assert_ne!(from, to, "what a node says to itself stays inside");
        if let RingMessage::GossipRows { entries, .. } = &message {
            *self.rows_sent.entry(from).or_default() += entries.len();
        }
        if self.rng.f64() >= self.loss {
            let delay = Duration::from_micros(self.rng.u64(100..3000));
            self.sent += 1;
            self.messages.insert((self.now + delay, self.sent), (from, to, message));
        }
    }
}
