//! Which node to ask. Pure: time and connections are passed in.

use std::{collections::BTreeMap, time::Duration};

use difuse_api::request::{Request, Routes};
use difuse_ring::HostState;
use difuse_types::{Host, NodeId, SlotId};
use tokio::time::Instant;

/// How long a node that did not answer is passed over when there is another.
const DOUBT: Duration = Duration::from_secs(2);

/// What the client knows of the ring.
#[derive(Default)]
pub(crate) struct Router {
    routes: Option<Box<Routes>>,
    doubtful: BTreeMap<NodeId, Instant>,
    next: usize,
}

impl Router {
    /// Takes over newly fetched routes.
    pub(crate) fn update(&mut self, routes: Box<Routes>) {
        self.doubtful.retain(|node, _| routes.hosts.iter().any(|(host, _)| host.node == *node));
        self.routes = Some(routes);
    }

    /// Whether it is known how the ring is sliced.
    pub(crate) fn has_routes(&self) -> bool {
        self.routes.is_some()
    }

    /// The slot that a request belongs to, if it belongs to one and the routes are known.
    pub(crate) fn slot_of(&self, request: &Request) -> Option<SlotId> {
        let slots = self.routes.as_ref()?.settings.slots;
        match request {
            Request::Read { key, .. }
            | Request::Write { key, .. }
            | Request::Command { key, .. }
            | Request::Log { key, .. }
            | Request::Generation { key }
            | Request::Locate { key } => Some(slots.of_key(key)),
            Request::PutBlock { hash, .. }
            | Request::ReadBlock { hash, .. }
            | Request::StatBlock { hash }
            | Request::DeleteBlock { hash, .. }
            | Request::LocateBlock { hash } => Some(slots.of_block(hash)),
            Request::List { slot, .. } => *slot,
            Request::Collection { slot, .. } => Some(*slot),
            // About a node, or about all slots.
            Request::ListLed { .. }
            | Request::Usage { .. }
            | Request::UsageLed { .. }
            | Request::Operation { .. }
            | Request::Ring
            | Request::Status
            | Request::Routes
            | Request::Leave
            | Request::Recover { .. }
            | Request::Survey { .. }
            | Request::BeginEpochs { .. }
            | Request::Dump { .. }
            | Request::Scrub { .. } => None,
        }
    }

    /// The node to ask next: the leader of the slot if it can be, else any other in turn; never one of `tried`.
    pub(crate) fn choose(
        &mut self,
        slot: Option<SlotId>,
        tried: &[NodeId],
        now: Instant,
        is_connected: impl Fn(&NodeId) -> bool,
        connected: impl FnOnce() -> Vec<NodeId>,
    ) -> Option<NodeId> {
        let leader = slot.and_then(|slot| self.leader_of(slot));
        if let Some(leader) = leader
            && !tried.contains(&leader)
            && !self.is_doubtful(&leader, now)
            && is_connected(&leader)
        {
            return Some(leader);
        }
        let candidates: Vec<_> = connected().into_iter().filter(|node| !tried.contains(node)).collect();
        let trusted: Vec<_> = candidates.iter().copied().filter(|node| !self.is_doubtful(node, now)).collect();
        let pool = if trusted.is_empty() { candidates } else { trusted };
        self.next = self.next.wrapping_add(1);
        (!pool.is_empty()).then(|| pool[self.next % pool.len()])
    }

    /// Takes note that a node did not answer.
    pub(crate) fn doubt(&mut self, node: NodeId, now: Instant) {
        self.doubtful.insert(node, now + DOUBT);
    }

    /// Takes note that a node answered.
    pub(crate) fn trust(&mut self, node: &NodeId) {
        if !self.doubtful.is_empty() {
            self.doubtful.remove(node);
        }
    }

    /// The hosts that requests may go to.
    pub(crate) fn usable_hosts(&self) -> Vec<Host> {
        let hosts = self.routes.iter().flat_map(|routes| &routes.hosts);
        hosts.filter(|(_, state)| is_usable(*state)).map(|(host, _)| host.clone()).collect()
    }

    fn leader_of(&self, slot: SlotId) -> Option<NodeId> {
        let routes = self.routes.as_ref()?;
        let index = *routes.leaders.get(slot.0 as usize)?;
        let (host, state) = routes.hosts.get(index as usize)?;
        is_usable(*state).then_some(host.node)
    }

    fn is_doubtful(&self, node: &NodeId, now: Instant) -> bool {
        let is_suspect = || {
            let mut hosts = self.routes.iter().flat_map(|routes| &routes.hosts);
            hosts.any(|(host, state)| host.node == *node && !is_usable(*state))
        };
        self.doubtful.get(node).is_some_and(|until| now < *until) || is_suspect()
    }
}

/// Whether a host in this state answers requests, as far as the ring knows.
fn is_usable(state: HostState) -> bool {
    matches!(state, HostState::Up | HostState::Leaving)
}

#[cfg(test)]
mod tests {
    use difuse_api::request::{Request, Routes};
    use difuse_ring::HostState;
    use difuse_types::{Hash, Host, Incarnation, Key, Level, NodeId, RingId, RingSettings, SlotId};
    use tokio::time::Instant;

    use super::{DOUBT, Router};

    fn node(name: u8) -> NodeId {
        NodeId([name; 32])
    }

    fn host(name: u8) -> Host {
        Host {
            node: node(name),
            incarnation: Incarnation(1),
            address: format!("127.0.0.1:{name}"),
            http: String::new(),
            zone: String::new(),
            label: String::new(),
        }
    }

    /// Nodes 1, 2, 3; slot 0 is led by node 1, slot 1 by node 2, slot 2 by nobody known, slot 3 by nonsense.
    fn router(state_of_first: HostState) -> Router {
        let settings = RingSettings::new(RingId(Hash::ZERO), 3, 4, 8).unwrap();
        let hosts = vec![(host(1), state_of_first), (host(2), HostState::Up), (host(3), HostState::Up)];
        let mut router = Router::default();
        router.update(Box::new(Routes { settings, hosts, leaders: vec![0, 1, u32::MAX, 77] }));
        router
    }

    fn choose(router: &mut Router, slot: u32, tried: &[NodeId], now: Instant) -> Option<NodeId> {
        let all = || vec![node(1), node(2), node(3)];
        router.choose(Some(SlotId(slot)), tried, now, |_| true, all)
    }

    #[test]
    fn requests_go_straight_to_the_leader() {
        let mut router = router(HostState::Up);
        for _ in 0..4 {
            assert_eq!(choose(&mut router, 1, &[], Instant::now()), Some(node(2)));
        }
    }

    #[test]
    fn others_are_asked_in_turn_when_the_leader_is_unknown_tried_or_suspect() {
        let now = Instant::now();
        for (slot, tried, state) in [
            (2, vec![], HostState::Up),
            (3, vec![], HostState::Up),
            (0, vec![node(1)], HostState::Up),
            (0, vec![], HostState::Suspect),
        ] {
            let mut router = router(state);
            let chosen: std::collections::BTreeSet<_> =
                (0..6).filter_map(|_| choose(&mut router, slot, &tried, now)).collect();
            assert!(chosen.contains(&node(2)) && chosen.contains(&node(3)), "slot {slot}: {chosen:?}");
            assert!(tried.iter().all(|node| !chosen.contains(node)));
        }
    }

    #[test]
    fn a_doubtful_node_is_passed_over_for_a_while_unless_it_is_the_only_one() {
        let now = Instant::now();
        let mut router = router(HostState::Up);
        router.doubt(node(2), now);
        assert_ne!(choose(&mut router, 1, &[], now), Some(node(2)));
        assert_eq!(choose(&mut router, 1, &[node(1), node(3)], now), Some(node(2)));
        assert_eq!(choose(&mut router, 1, &[], now + DOUBT), Some(node(2)));
        router.doubt(node(2), now);
        router.trust(&node(2));
        assert_eq!(choose(&mut router, 1, &[], now), Some(node(2)));
    }

    #[test]
    fn nobody_is_chosen_when_all_were_tried() {
        let all = [node(1), node(2), node(3)];
        assert_eq!(choose(&mut router(HostState::Up), 1, &all, Instant::now()), None);
    }

    #[test]
    fn slots_follow_from_keys_and_hashes() {
        let router = router(HostState::Up);
        let slots = router.routes.as_ref().unwrap().settings.slots;
        let key = Key::new(b"k").unwrap();
        let read = Request::Read { key: key.clone(), level: Level::Quorum, seen: None };
        assert_eq!(router.slot_of(&read), Some(slots.of_key(&key)));
        let hash = Hash::of(b"x");
        assert_eq!(router.slot_of(&Request::StatBlock { hash }), Some(slots.of_block(&hash)));
        assert_eq!(router.slot_of(&Request::Ring), None);
        assert_eq!(Router::default().slot_of(&read), None);
    }
}
