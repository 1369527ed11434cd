//! A small ring under a script instead of a drawn plan: the test asks nodes, cuts links, ends processes, and says what it
//! expects. The promises of safety are checked after every step here too.

use std::{collections::BTreeSet, time::Duration};

use difuse_keylog::{Configuration, Register, Store};
use difuse_protocol::{
    Input, RequestId,
    request::{Reply, Request, RequestError},
};
use difuse_types::{Hash, Instant, Key, NodeId, RingId, RingSettings, SlotId};

use crate::{
    Tracing,
    plan::Plan,
    simulation::{Phase, Simulation},
};

/// How long a ring may take to settle, and a request to be answered, in virtual time.
const PATIENCE: Duration = Duration::from_secs(60);

/// A ring of nodes that nothing happens to but what the script says. Panics where a promise is broken.
pub struct Scenario {
    simulation: Simulation,
}

impl Scenario {
    /// A settled ring of `nodes` nodes, one slot, and three replicas. `seed` decides the delays.
    pub fn new(nodes: usize, seed: u64) -> Self {
        Self::with(nodes, 1, seed, |_| {})
    }

    /// The same with so many slots, and a plan that the caller changes.
    pub fn with(nodes: usize, slots: u32, seed: u64, change: impl FnOnce(&mut Plan)) -> Self {
        let id = RingId(Hash::of(&seed.to_le_bytes()));
        let settings = RingSettings::new(id, 3, slots, 2).unwrap_or_else(|error| panic!("{error}"));
        let simulation = Simulation::new(seed, Tracing::Off, |plan| {
            plan.settings = settings;
            plan.nodes = nodes;
            plan.gone_after = Duration::from_secs(300);
            plan.request_timeout = Duration::from_secs(3);
            plan.keep_calm();
            plan.delay_max = Duration::from_millis(1);
            plan.service_max = Duration::from_micros(50);
            plan.flush_max = Duration::from_millis(1);
            plan.do_disks_lie = false;
            plan.drift_ppm_max = 0;
            change(plan);
        });
        let mut scenario = Self { simulation };
        scenario.simulation.begin().unwrap_or_else(|violation| panic!("{violation}"));
        scenario.run_until("the ring settles", |scenario| scenario.simulation.phase != Phase::Forming);
        scenario
    }

    /// All nodes, in the order in which they were started.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.simulation.node_ids.clone()
    }

    /// The members of the only slot, the leader first.
    ///
    /// # Panics
    /// If nobody leads it.
    pub fn members(&self) -> Vec<NodeId> {
        let leads = |node: &NodeId| self.simulation.keylog(*node).is_some_and(|keylog| keylog.is_leading(SlotId(0)));
        let leader = self.nodes().into_iter().find(leads).unwrap_or_else(|| panic!("nobody leads"));
        let keylog = self.simulation.keylog(leader);
        let members = keylog.and_then(|keylog| keylog.configuration(SlotId(0))).map(|known| known.all_members());
        let others = members.unwrap_or_default().into_iter().filter(|member| *member != leader);
        [leader].into_iter().chain(others).collect()
    }

    /// The newest configuration of a slot that a running node knows.
    pub fn configuration(&self, node: NodeId, slot: SlotId) -> Option<Configuration> {
        self.simulation.keylog(node)?.configuration(slot).cloned()
    }

    /// Whether a node takes itself for the leader.
    pub fn is_leading(&self, node: NodeId) -> bool {
        self.simulation.keylog(node).is_some_and(|keylog| keylog.is_leading(SlotId(0)))
    }

    /// What a node has accepted for a key, committed or not.
    pub fn accepted(&self, node: NodeId, key: &Key) -> Option<Register> {
        self.simulation.keylog(node)?.store().register(SlotId(0), key).ok().flatten()
    }

    /// Whether a node has the content of a block on its disk.
    pub fn has_block(&self, node: NodeId, hash: &Hash) -> bool {
        self.simulation.nodes.get(&node).is_some_and(|node| node.blocks.has(hash))
    }

    /// The content of a block on a node's disk is damaged, which the node does not know.
    pub fn damage_block(&mut self, node: NodeId, hash: &Hash) {
        self.simulation.nodes.get_mut(&node).into_iter().for_each(|node| node.blocks.damage(hash));
    }

    /// A transaction on a node's disk is damaged, which the node does not know.
    pub fn damage_transaction(&mut self, node: NodeId, key: &Key, height: u64) {
        let process = self.simulation.nodes.get_mut(&node).and_then(|node| node.process.as_mut());
        process.into_iter().for_each(|process| process.peer.store_mut().damage(SlotId(0), key, height));
    }

    /// Hands a request to a node; the answer is for [`Scenario::answer`].
    pub fn submit(&mut self, node: NodeId, request: Request) -> RequestId {
        let id = self.simulation.clients.next_request_id();
        self.simulation.asked_by_script.insert(id, None);
        self.simulation.give(node, Input::Request { id, request });
        id
    }

    /// The answer to a request, once it is there.
    pub fn answer(&self, id: RequestId) -> Option<Result<Reply, RequestError>> {
        self.simulation.asked_by_script.get(&id).cloned().flatten()
    }

    /// Asks a node and waits for the answer.
    pub fn ask(&mut self, node: NodeId, request: Request) -> Result<Reply, RequestError> {
        let id = self.submit(node, request);
        self.run_until("the request is answered", |scenario| scenario.answer(id).is_some());
        self.answer(id).unwrap_or_else(|| unreachable!("it was waited for"))
    }

    /// Cuts both directions of all links of some nodes with all others, but not among themselves.
    pub fn cut_off(&mut self, nodes: &[NodeId]) {
        let all = self.nodes();
        let pairs = all.iter().flat_map(|from| all.iter().map(move |to| (*from, *to)));
        let directions = pairs.filter(|(from, to)| nodes.contains(from) != nodes.contains(to)).collect();
        self.cut(directions);
    }

    /// Cuts directions of links: nothing passes from the first to the second of each pair.
    pub fn cut(&mut self, directions: BTreeSet<(NodeId, NodeId)>) {
        self.simulation.network.cut(directions);
    }

    /// Breaks the connection of two nodes, which both learn of soon.
    pub fn disconnect(&mut self, one: NodeId, other: NodeId) {
        self.simulation.disconnect(one, other, Duration::from_micros(100));
    }

    /// Nothing is cut any more.
    pub fn mend(&mut self) {
        self.simulation.network.heal();
    }

    /// Ends a process; what it has not flushed is lost.
    pub fn kill(&mut self, node: NodeId) {
        self.simulation.crash(node);
    }

    /// Starts the process of a node again.
    pub fn restart(&mut self, node: NodeId) {
        self.simulation.start(node).unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// A process does nothing for a while; what comes in meanwhile waits.
    pub fn pause(&mut self, node: NodeId, time: Duration) {
        let until = self.now() + time;
        self.simulation.change_process(node, |process| process.paused_until = until);
    }

    /// Whether the process of a node runs.
    pub fn is_running(&self, node: NodeId) -> bool {
        self.simulation.nodes.get(&node).is_some_and(|node| node.process.is_some())
    }

    /// Nothing goes wrong any more, and what did is mended.
    pub fn heal(&mut self) {
        self.simulation.plan.faults.clear();
        self.simulation.network.heal();
        for node in self.nodes() {
            self.simulation.start(node).unwrap_or_else(|violation| panic!("{violation}"));
        }
    }

    /// Virtual time passes.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now() + time;
        self.simulation.run_until(end).unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// Virtual time passes until something is so.
    ///
    /// # Panics
    /// If it is not so within a minute of virtual time.
    pub fn run_until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = self.now() + PATIENCE;
        while !is_so(self) {
            assert!(self.now() < end, "waited in vain until {what}");
            self.run_for(Duration::from_micros(100));
        }
    }

    /// Virtual time passes until a node takes another for suspect, or does no more.
    pub fn run_until_suspect(&mut self, node: NodeId, other: NodeId, is_suspect: bool) {
        let suspects = |scenario: &Self| {
            let process = scenario.simulation.nodes.get(&node).and_then(|node| node.process.as_ref());
            process.is_some_and(|process| process.peer.ring().is_suspect(&other) == is_suspect)
        };
        self.run_until("a node is suspect, or is not", suspects);
    }

    /// Virtual time now.
    pub fn now(&self) -> Instant {
        self.simulation.now
    }
}
