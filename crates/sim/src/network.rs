//! Which messages arrive, and when; which nodes are connected.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_types::NodeId;

use crate::Plan;

/// The longest delay of a message that is late.
const STRAGGLER_DELAY_MAX_US: u64 = 3_000_000;

/// Names a cut.
pub(crate) type CutId = u64;

/// The links between all nodes.
pub(crate) struct Network {
    loss_per_mille: u32,
    duplicates_per_mille: u32,
    stragglers_per_mille: u32,
    delay_max_us: u64,
    link_bytes_max: usize,
    /// How many bytes are on their way, by direction.
    under_way: BTreeMap<(NodeId, NodeId), usize>,
    /// Directions in which nothing passes.
    cuts: BTreeMap<CutId, BTreeSet<(NodeId, NodeId)>>,
    last_cut: CutId,
    /// Pairs with a connection, the smaller one first.
    connected: BTreeSet<(NodeId, NodeId)>,
}

impl Network {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            loss_per_mille: plan.loss_per_mille,
            duplicates_per_mille: plan.duplicates_per_mille,
            stragglers_per_mille: plan.stragglers_per_mille,
            delay_max_us: plan.delay_max.as_micros() as u64,
            link_bytes_max: plan.link_bytes_max,
            under_way: BTreeMap::new(),
            cuts: BTreeMap::new(),
            last_cut: 0,
            connected: BTreeSet::new(),
        }
    }

    /// Puts a message of so many bytes on its way, if there is room beside what is on it already.
    pub(crate) fn enqueue(&mut self, from: NodeId, to: NodeId, bytes: usize) -> bool {
        let under_way = self.under_way.entry((from, to)).or_default();
        let has_room = *under_way == 0 || *under_way + bytes <= self.link_bytes_max;
        if has_room {
            *under_way += bytes;
        }
        has_room
    }

    /// A message of so many bytes is on its way no more.
    pub(crate) fn dequeue(&mut self, from: NodeId, to: NodeId, bytes: usize) {
        if let Some(under_way) = self.under_way.get_mut(&(from, to)) {
            *under_way = under_way.saturating_sub(bytes);
        }
    }

    /// When a request arrives that must not be done twice, if it does: a connection does not double anything.
    pub(crate) fn delay_once(&self, rng: &mut fastrand::Rng) -> Vec<Duration> {
        let is_lost = rng.u32(..1000) < self.loss_per_mille;
        let delay = Duration::from_nanos(rng.u64(100_000..=self.delay_max_us * 1000));
        if is_lost { Vec::new() } else { vec![delay] }
    }

    /// When copies of a message arrive, from now on: none, one or two.
    pub(crate) fn delays(&self, rng: &mut fastrand::Rng) -> Vec<Duration> {
        if rng.u32(..1000) < self.loss_per_mille {
            return Vec::new();
        }
        let copies = if rng.u32(..1000) < self.duplicates_per_mille { 2 } else { 1 };
        (0..copies).map(|_| self.delay(rng)).collect()
    }

    fn delay(&self, rng: &mut fastrand::Rng) -> Duration {
        let is_straggler = rng.u32(..1000) < self.stragglers_per_mille;
        let max = if is_straggler { STRAGGLER_DELAY_MAX_US } else { self.delay_max_us };
        Duration::from_nanos(rng.u64(100_000..=max * 1000))
    }

    /// Nothing passes from the first to the second of each pair until the cut is mended.
    pub(crate) fn cut(&mut self, directions: BTreeSet<(NodeId, NodeId)>) -> CutId {
        self.last_cut += 1;
        self.cuts.insert(self.last_cut, directions);
        self.last_cut
    }

    pub(crate) fn mend(&mut self, cut: CutId) {
        self.cuts.remove(&cut);
    }

    /// From now on nothing is cut, lost, late or doubled.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
        (self.loss_per_mille, self.duplicates_per_mille, self.stragglers_per_mille) = (0, 0, 0);
    }

    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.values().any(|directions| directions.contains(&(from, to)))
    }

    pub(crate) fn is_connected(&self, one: NodeId, other: NodeId) -> bool {
        self.connected.contains(&(one.min(other), one.max(other)))
    }

    pub(crate) fn connect(&mut self, one: NodeId, other: NodeId) {
        self.connected.insert((one.min(other), one.max(other)));
    }

    /// Whether there was a connection.
    pub(crate) fn disconnect(&mut self, one: NodeId, other: NodeId) -> bool {
        self.connected.remove(&(one.min(other), one.max(other)))
    }

    /// All nodes that one is connected to.
    pub(crate) fn connected_to(&self, node: NodeId) -> Vec<NodeId> {
        let other = |(one, two): &(NodeId, NodeId)| match (*one == node, *two == node) {
            (true, _) => Some(*two),
            (_, true) => Some(*one),
            _ => None,
        };
        self.connected.iter().filter_map(other).collect()
    }

    /// All pairs with a connection on a link that is cut in some direction.
    pub(crate) fn connected_over_cuts(&self) -> Vec<(NodeId, NodeId)> {
        let is_broken = |(one, two): &&(NodeId, NodeId)| self.is_cut(*one, *two) || self.is_cut(*two, *one);
        self.connected.iter().filter(is_broken).copied().collect()
    }
}
