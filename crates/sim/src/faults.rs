//! What goes wrong, and how it is mended.

use std::{collections::BTreeSet, time::Duration};

use difuse_keylog::{Configuration, Store, StoreError};
use difuse_protocol::{
    Input,
    request::{Reply, RequestError},
};
use difuse_ring::HostState;
use difuse_types::{Hash, NodeId, SlotId};

use crate::{
    Violation,
    plan::Fault,
    simulation::{Event, Phase, Simulation},
};

/// What an injected failure of a disk says.
pub(crate) const INJECTED: &str = "injected";
/// The most nodes that one ring ever has.
const NODES_MAX: usize = 9;

impl Simulation {
    /// Faults begin, and clients with them.
    pub(crate) fn begin_faults(&mut self) {
        self.phase = Phase::Faults;
        self.phase_ends_at = self.now + self.plan.faults_for;
        self.trace.line(self.now, || "faults begin".into());
        for client in 0..self.clients.count() {
            self.queue.push(self.now, Event::Client { client });
        }
        self.schedule_fault();
        self.schedule_burst();
        self.schedule_pairs();
        self.schedule_sequences();
        self.schedule_commands();
        self.schedule_disaster();
    }

    fn schedule_fault(&mut self) {
        let pause = Duration::from_micros(self.rng.u64(1000..=self.plan.fault_every_max.as_micros() as u64));
        self.queue.push(self.now + pause, Event::Fault);
    }

    /// From now on nothing goes wrong any more, and all that went wrong is mended.
    pub(crate) fn heal(&mut self) -> Result<(), Violation> {
        self.trace.line(self.now, || "all is healed".into());
        self.phase = Phase::Healing;
        let mut patience = Duration::from_secs(90) + self.plan.gone_after.min(Duration::from_secs(20)) * 2;
        if self.is_leaver_awaited() {
            patience += self.plan.gone_after;
        }
        self.phase_ends_at = self.now + patience;
        self.network.heal();
        // What the ring has said of itself is of before all that went wrong.
        self.is_view_settled = false;
        self.disasters.heal(|id| self.nodes.get(id).is_none_or(|node| node.is_retired));
        for id in self.node_ids.clone() {
            if let Some(node) = self.nodes.get_mut(&id) {
                node.flush_max = self.plan.flush_max;
            }
            self.make_room(id)?;
            if self.is_anybody_gone() && self.nodes.get(&id).is_some_and(|node| !node.has_joined) {
                // Those that it was to join through may be lost, or have left.
                self.crash(id);
            }
            self.start(id)?;
        }
        Ok(())
    }

    fn is_anybody_gone(&self) -> bool {
        self.nodes.values().any(|node| node.is_retired)
    }

    /// Those that have not joined, and remember only nodes that are lost or have left, reach one that they are told to join
    /// through: a daemon goes on asking for those. Again and again, as messages are lost.
    pub(crate) fn introduce_newcomers(&mut self) {
        if !self.is_anybody_gone() {
            return;
        }
        let Some(member) = self.ready_nodes().first().copied() else { return };
        let is_new = |id: &NodeId| self.nodes.get(id).is_some_and(|node| !node.has_joined && node.process.is_some());
        for newcomer in self.node_ids.iter().filter(|id| is_new(id)).copied().collect::<Vec<_>>() {
            match self.network.is_connected(newcomer, member) {
                true => self.give(newcomer, Input::Connected(member)),
                false => self.connect(newcomer, member),
            }
        }
    }

    /// Whether some node takes one that has left for one that leaves: word of it was lost on all ways, and it is to be given up.
    fn is_leaver_awaited(&self) -> bool {
        let has_left = |id: &NodeId| self.nodes.get(id).is_some_and(|node| node.has_left);
        let peers = self.nodes.values().filter_map(|node| Some(&node.process.as_ref()?.peer));
        let mut hosts = peers.flat_map(|peer| peer.ring().hosts());
        hosts.any(|entry| entry.state == HostState::Leaving && has_left(&entry.host.node))
    }

    pub(crate) fn inject_fault(&mut self) -> Result<(), Violation> {
        if self.phase != Phase::Faults {
            return Ok(());
        }
        self.schedule_fault();
        let running: Vec<NodeId> = self.node_ids.iter().filter(|id| self.is_running(**id)).copied().collect();
        let Some(fault) = self.rng.choice(self.plan.faults.clone()) else { return Ok(()) };
        let Some(victim) = self.rng.choice(running.clone()) else { return Ok(()) };
        self.trace.line(self.now, || format!("fault {fault:?}, {victim:?}"));
        self.figures.faults += 1;
        match fault {
            Fault::Crash => self.crash_for(victim, 100..8000),
            Fault::CrashAll => running.into_iter().for_each(|node| self.crash_for(node, 100..4000)),
            Fault::Blink => self.crash_for(victim, 1..50),
            Fault::CutOneWay => self.cut_links(|_, from, to, other| from == victim && to == other),
            Fault::CutLink => {
                self.cut_links(|_, from, to, other| [from, to] == [victim, other] || [to, from] == [victim, other])
            }
            Fault::Isolate => self.cut_links(|_, from, to, _| from == victim || to == victim),
            Fault::Split => self.cut_links(|side, from, to, _| side.contains(&from) != side.contains(&to)),
            Fault::Bridge => self.cut_links(|side, from, to, _| {
                from != victim && to != victim && side.contains(&from) != side.contains(&to)
            }),
            Fault::Reset => {
                if let Some(other) = self.rng.choice(self.network.connected_to(victim)) {
                    self.disconnect(victim, other, Duration::from_micros(100));
                }
            }
            Fault::Pause => {
                let until = self.now + self.some_time(10..5000);
                self.change_process(victim, |process| process.paused_until = until);
            }
            Fault::SlowDisk => {
                let until = self.now + self.some_time(100..5000);
                let flush_max = self.some_time(20..500);
                if let Some(node) = self.nodes.get_mut(&victim) {
                    node.flush_max = flush_max;
                }
                self.queue.push(until, Event::NormalDisk { node: victim });
            }
            Fault::DiskError => self.change_process(victim, |process| {
                process.peer.store_mut().fail_next_write(StoreError::Failed(INJECTED.into()));
            }),
            Fault::DiskFull => {
                let until = self.now + self.some_time(100..8000);
                if let Some(node) = self.nodes.get_mut(&victim) {
                    node.set_full(true);
                }
                self.queue.push(until, Event::RoomOnDisk { node: victim });
            }
            Fault::ClockJump => {
                let by_ms = self.rng.i64(-86_400_000..=86_400_000);
                if let Some(node) = self.nodes.get_mut(&victim) {
                    node.jump_clock(by_ms);
                }
            }
            Fault::Join if self.node_ids.len() < NODES_MAX => self.add_node()?,
            Fault::Leave => self.begin_leave(victim),
            Fault::Amnesia if self.can_be_lost(victim) => self.lose_disk(victim)?,
            Fault::Rot => self.rot(victim),
            Fault::Join | Fault::Amnesia => {}
        }
        Ok(())
    }

    /// There is room on a disk: a process that could not start for lack of it starts.
    pub(crate) fn make_room(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        node.set_full(false);
        if node.process.is_none() {
            let at = self.now + self.some_time(1..1000);
            self.queue.push(at, Event::Restart { node: id });
        }
        Ok(())
    }

    fn some_time(&mut self, range_ms: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range_ms))
    }

    fn crash_for(&mut self, id: NodeId, range_ms: std::ops::Range<u64>) {
        self.crash(id);
        let at = self.now + self.some_time(range_ms);
        self.queue.push(at, Event::Restart { node: id });
    }

    /// Cuts the directions that are chosen, knowing one side of a split and one other node.
    fn cut_links(&mut self, is_chosen: impl Fn(&BTreeSet<NodeId>, NodeId, NodeId, NodeId) -> bool) {
        let mut nodes = self.node_ids.clone();
        self.rng.shuffle(&mut nodes);
        let side: BTreeSet<NodeId> = nodes.iter().take(self.rng.usize(1..=nodes.len())).copied().collect();
        let Some(other) = self.rng.choice(nodes.clone()) else { return };
        let pairs = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
        let directions = pairs.filter(|(from, to)| from != to && is_chosen(&side, *from, *to, other)).collect();
        self.trace.line(self.now, || format!("cut {directions:?}"));
        let cut = self.network.cut(directions);
        let mended_at = self.now + self.some_time(100..10_000);
        self.queue.push(mended_at, Event::Mend { cut });
        // A transport gives up a connection over which nothing comes, sooner or later.
        let given_up_at = self.now + self.some_time(self.plan.given_up_after_ms.clone());
        self.queue.push(given_up_at, Event::GiveUpConnections);
    }

    fn begin_leave(&mut self, id: NodeId) {
        let staying = self.nodes.values().filter(|node| !node.is_retired && !node.is_leaving && node.process.is_some());
        let is_joined = |node: &&crate::node::Node| node.process.as_ref().is_some_and(|process| process.is_joined);
        let is_able = self.nodes.get(&id).filter(is_joined).is_some_and(|node| !node.is_leaving);
        if !is_able
            || staying.filter(is_joined).count() <= 3
            || (self.permanent_losses > 0 && self.has_unreplaced_loss())
        {
            return;
        }
        if let Some(node) = self.nodes.get_mut(&id) {
            node.is_leaving = true;
        }
        self.ask_to_leave(id);
    }

    /// Whether a group still counts on a node that lost its disk for ever. Then nobody is asked to leave: its leader, out of
    /// reach of all others until they give it up, may be moving the slot to whoever leaves, which makes two losses.
    fn has_unreplaced_loss(&self) -> bool {
        let lost: Vec<NodeId> =
            self.nodes.values().filter(|node| node.is_retired && !node.has_left).map(|node| node.id).collect();
        let mut records = self.nodes.values().filter(|node| !node.is_retired).flat_map(|node| node.configurations());
        records.any(|record| lost.iter().any(|node| record.configuration.contains(node)))
    }

    /// A node says that it has left: it must not be needed, and stops a little later.
    pub(crate) fn handle_leave_reply(
        &mut self,
        id: NodeId,
        result: Result<Reply, RequestError>,
    ) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.is_leaving) else { return Ok(()) };
        if self.plan.disasters > 0 && matches!(result, Err(RequestError::Invalid(_))) {
            // All others are given up.
            node.is_leaving = false;
            return Ok(());
        }
        if result != Ok(Reply::Done) {
            return Err(Violation::WrongAnswer(format!("node {id:?} was to leave, and answers {result:?}")));
        }
        let records = node.configurations();
        if let Some(record) = records.iter().find(|record| record.configuration.contains(&id)) {
            return Err(Violation::WrongAnswer(format!("node {id:?} has left as a member of {record:?}")));
        }
        node.has_left = true;
        self.queue.push(self.now + Duration::from_millis(1500), Event::Stop { node: id });
        Ok(())
    }

    pub(crate) fn stop_leaver(&mut self, id: NodeId) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let slots = self.plan.settings.slots.iter();
        let mut held = slots.filter(|slot| node.holds(*slot)).collect::<Vec<_>>();
        if node.process.is_none() {
            // A crash came first: what it had just removed may be there again, and nobody minds.
            held.clear();
        }
        node.is_retired = true;
        self.figures.leaves += 1;
        self.crash(id);
        if held.is_empty() {
            return Ok(());
        }
        Err(Violation::Stuck(format!("node {id:?} has left and still holds keys or blocks of slots {held:?}")))
    }

    /// Whether every group keeps a majority, with what it acknowledged, without this node for ever.
    fn can_be_lost(&self, id: NodeId) -> bool {
        let is_safe = |group: &[NodeId]| group.len() >= 3 || !group.contains(&id);
        let is_safe = |configuration: &Configuration| is_safe(&configuration.members) && is_safe(&configuration.joint);
        let records = self.nodes.values().filter(|node| !node.is_retired).flat_map(|node| node.configurations());
        let configurations =
            records.flat_map(|record| [Some(record.configuration), record.proposed.map(|next| next.configuration)]);
        // One is enough for rings of this size: a second loss could meet a group that has not replaced the first.
        let has_rotten = self.plan.faults.contains(&Fault::Rot);
        self.permanent_losses == 0
            && !has_rotten
            && self.plan.gone_after.as_secs() < 60
            && configurations.flatten().all(|known| is_safe(&known))
    }

    /// What is lost has two other copies at least, so that one more fault does not take the last.
    fn rot(&mut self, victim: NodeId) {
        let hashes: Vec<_> = self.blocks.acknowledged().iter().copied().collect();
        let hash = self.rng.choice(hashes);
        let has_other_copies = |hash: &Hash| {
            let slot = self.plan.settings.slots.of_block(hash);
            self.copies_beside(victim, slot, |node| node.blocks.has_durably(hash)) >= 2
        };
        if let (Some(hash), Some(node)) = (hash.filter(has_other_copies), self.nodes.get_mut(&victim)) {
            node.blocks.lose(&hash);
        }
        let keys: Vec<_> = self.clients.histories.iter().map(|history| history.key.clone()).collect();
        let Some(key) = self.rng.choice(keys) else { return };
        let slot = self.plan.settings.slots.of_key(&key);
        let register =
            |node: &crate::node::Node| node.process.as_ref()?.peer.keylog().store().register(slot, &key).ok()?;
        let head = |node: &crate::node::Node| register(node).map(|register| (register.head.height, register.head.hash));
        let Some(held) = self.nodes.get(&victim).and_then(register) else { return };
        let own = (held.head.height, held.head.hash);
        let height = self.rng.u64(1..=own.0);
        let can_read = |node: &crate::node::Node| {
            let store = node.process.as_ref().map(|process| process.peer.keylog().store());
            store.is_some_and(|store| matches!(store.transaction(slot, &key, height), Ok(Some(_))))
        };
        if self.copies_beside(victim, slot, |node| head(node) == Some(own) && can_read(node)) < 2 {
            return;
        }
        self.change_process(victim, |process| process.peer.store_mut().damage(slot, &key, height));
    }

    /// How many members of a slot that stays with them have a copy. What others have left over is about to be removed.
    fn copies_beside(&self, victim: NodeId, slot: SlotId, has: impl Fn(&crate::node::Node) -> bool) -> usize {
        let known = self.nodes.values().flat_map(|node| node.configurations()).map(|record| record.configuration);
        let newest = known.filter(|known| known.slot == slot).max_by_key(|known| known.epoch);
        let Some(newest) = newest.filter(|newest| !newest.is_joint()) else { return 0 };
        let others = self.nodes.values().filter(|node| node.id != victim && !node.is_retired && !node.is_leaving);
        others.filter(|node| newest.contains(&node.id) && has(node)).count()
    }

    fn lose_disk(&mut self, id: NodeId) -> Result<(), Violation> {
        self.permanent_losses += 1;
        self.crash(id);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.is_retired = true;
        }
        self.add_node()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::simulation::{Phase, Simulation};

    /// Seed 222769: a node had heard of three others and joined through none of them when all three were lost for ever.
    #[test]
    fn a_newcomer_that_remembers_only_lost_nodes_joins_through_another() {
        let mut simulation = Simulation::calm(0, |plan| {
            plan.nodes = 4;
            plan.gone_after = Duration::from_secs(10);
        });
        let lost = simulation.node_ids[3];
        simulation.add_node().unwrap();
        let newcomer = simulation.node_ids[4];
        let known =
            simulation.nodes[&lost].known_hosts.iter().filter(|entry| entry.host.node == lost).cloned().collect();
        for id in [lost, newcomer] {
            simulation.crash(id);
        }
        simulation.nodes.get_mut(&lost).unwrap().is_retired = true;
        simulation.nodes.get_mut(&newcomer).unwrap().known_hosts = known;
        simulation.heal().unwrap();
        while simulation.phase == Phase::Healing {
            simulation.run_until(simulation.now + Duration::from_secs(1)).unwrap();
        }
        assert!(simulation.nodes[&newcomer].has_joined);
    }
}
