//! Disasters: the majority of a slot is lost for ever, or believed to be, and operators recover what is left. They do not
//! know of each other, and may be wrong: a node that was given up comes back late, with its old disk, or was only cut off.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_keylog::Configuration;
use difuse_protocol::{
    Input, RequestId,
    request::{Reply, Request, RequestError},
};
use difuse_types::{Hash, NodeId, SlotId};

use crate::{
    Violation,
    node::Node,
    simulation::{Event, Phase, Simulation},
};

/// The most nodes that a ring with disasters ever has, those that are lost among them.
const NODES_MAX: usize = 12;
/// How often operators look, when nothing goes wrong any more.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The disasters of one seed. They draw from numbers of their own, so that seeds without any are what they were.
pub(crate) struct Disasters {
    rng: fastrand::Rng,
    /// How many are still to come.
    left: u32,
    /// The nodes that operators believe to be lost for ever.
    believed_lost: BTreeSet<NodeId>,
    operators: Vec<Operator>,
    /// What operators asked for.
    asked: BTreeMap<RequestId, Asked>,
}

struct Operator {
    /// Takes whoever does not answer for lost.
    is_careless: bool,
}

/// A request of an operator.
pub(crate) struct Asked {
    operator: usize,
    node: NodeId,
    /// It was to be done, not only shown.
    is_to_act: bool,
}

impl Disasters {
    pub(crate) fn new(seed: u64, count: u32) -> Self {
        let rng = fastrand::Rng::with_seed(seed ^ u64::from_le_bytes(*b"disaster"));
        Self { rng, left: count, believed_lost: BTreeSet::new(), operators: Vec::new(), asked: BTreeMap::new() }
    }

    /// What an answer is for.
    pub(crate) fn take(&mut self, id: RequestId) -> Option<Asked> {
        self.asked.remove(&id)
    }

    /// Operators wait for everything that can come back, and know what cannot.
    pub(crate) fn heal(&mut self, is_lost: impl Fn(&NodeId) -> bool) {
        self.believed_lost.retain(is_lost);
        self.operators.iter_mut().for_each(|operator| operator.is_careless = false);
    }

    fn some_time(&mut self, range_ms: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(range_ms))
    }
}

impl Simulation {
    /// The next disaster comes soon, if there is any left.
    pub(crate) fn schedule_disaster(&mut self) {
        if self.disasters.left > 0 {
            let pause = self.disasters.some_time(1000..12_000);
            self.queue.push(self.now + pause, Event::Disaster);
        }
    }

    /// The majority of a slot dies.
    pub(crate) fn strike(&mut self) -> Result<(), Violation> {
        if self.phase != Phase::Faults {
            return Ok(());
        }
        let victims = self.choose_victims();
        if !victims.is_empty() {
            self.disasters.left -= 1;
            self.figures.disasters += 1;
            self.trace.line(self.now, || format!("disaster {victims:?}"));
            for victim in victims {
                self.lose(victim)?;
            }
            if self.disasters.rng.u32(..3) == 0 {
                self.split_survivors();
            }
            self.call_operators();
        }
        self.schedule_disaster();
        Ok(())
    }

    /// So many members of some slot that the others can decide nothing; nobody if none would be left at all.
    fn choose_victims(&mut self) -> Vec<NodeId> {
        let slots: Vec<SlotId> = self.plan.settings.slots.iter().collect();
        let Some(newest) = self.disasters.rng.choice(slots).and_then(|slot| self.newest_configuration(slot)) else {
            return Vec::new();
        };
        let mut members = newest.all_members();
        self.disasters.rng.shuffle(&mut members);
        let mut left: BTreeSet<NodeId> = members.iter().copied().collect();
        let mut victims = Vec::new();
        for member in members {
            if !newest.is_quorum(&left) && self.disasters.rng.u32(..3) > 0 {
                break;
            }
            left.remove(&member);
            victims.push(member);
        }
        let stays = |node: &&Node| {
            let is_joined = node.process.as_ref().is_some_and(|process| process.is_joined);
            is_joined && !node.is_retired && !node.is_leaving && !victims.contains(&node.id)
        };
        if self.nodes.values().any(|node| stays(&node)) { victims } else { Vec::new() }
    }

    /// The newest configuration of a slot on any disk.
    fn newest_configuration(&self, slot: SlotId) -> Option<Configuration> {
        let records = self.nodes.values().filter(|node| !node.is_retired).filter_map(|node| node.record(slot));
        records.map(|record| record.configuration).max_by_key(|known| known.epoch)
    }

    /// A node is lost for ever, or it is believed to be and comes back late.
    fn lose(&mut self, victim: NodeId) -> Result<(), Violation> {
        self.disasters.believed_lost.insert(victim);
        if self.disasters.rng.u32(..3) == 0 {
            self.crash(victim);
            let back_at = self.now + self.disasters.some_time(3000..30_000);
            self.queue.push(back_at, Event::Restart { node: victim });
            return Ok(());
        }
        self.permanent_losses += 1;
        self.crash(victim);
        if let Some(node) = self.nodes.get_mut(&victim) {
            node.is_retired = true;
        }
        self.judge_recoveries();
        if self.disasters.rng.bool() && self.node_ids.len() < NODES_MAX {
            self.add_node()?;
        }
        Ok(())
    }

    /// Those who are left do not all reach each other for a while.
    fn split_survivors(&mut self) {
        let rng = &mut self.disasters.rng;
        let side: BTreeSet<NodeId> = self.node_ids.iter().filter(|_| rng.bool()).copied().collect();
        let pairs = self.node_ids.iter().flat_map(|from| self.node_ids.iter().map(move |to| (*from, *to)));
        let directions = pairs.filter(|(from, to)| side.contains(from) != side.contains(to)).collect();
        let cut = self.network.cut(directions);
        self.trace.line(self.now, || format!("cut off {side:?}"));
        let mended_at = self.now + self.disasters.some_time(1000..15_000);
        self.queue.push(mended_at, Event::Mend { cut });
        self.queue.push(self.now + Duration::from_millis(500), Event::GiveUpConnections);
    }

    /// One operator or two come to recover what is left.
    fn call_operators(&mut self) {
        for _ in 0..self.disasters.rng.usize(1..=2) {
            let is_careless = self.disasters.rng.u32(..4) == 0;
            self.disasters.operators.push(Operator { is_careless });
            let comes_at = self.now + self.disasters.some_time(500..6000);
            self.queue.push(comes_at, Event::Operator { operator: self.disasters.operators.len() - 1 });
        }
    }

    /// An operator asks some node what is lost, again and again.
    pub(crate) fn look_for_losses(&mut self, operator: usize) {
        let pause = match self.phase {
            Phase::Faults => self.disasters.some_time(1000..5000),
            Phase::Healing => LOOK_EVERY,
            _ => return,
        };
        self.queue.push(self.now + pause, Event::Operator { operator });
        let is_ready = |node: &&Node| node.process.as_ref().is_some_and(|process| process.is_joined);
        let ready: Vec<NodeId> = self.nodes.values().filter(is_ready).map(|node| node.id).collect();
        if let Some(node) = self.disasters.rng.choice(ready) {
            self.ask_to_recover(operator, node, None);
        }
    }

    fn ask_to_recover(&mut self, operator: usize, node: NodeId, given_up: Option<BTreeSet<NodeId>>) {
        let id = self.clients.next_request_id();
        let is_to_act = given_up.is_some();
        self.disasters.asked.insert(id, Asked { operator, node, is_to_act });
        let request = Request::Recover { first: SlotId(0), given_up };
        self.trace.line(self.now, || format!("operator {operator} asks {node:?} (request {id}): {request:?}"));
        self.give(node, Input::Request { id, request });
    }

    /// What an operator was shown is recovered from the same node, as the command does.
    pub(crate) fn handle_recovery(
        &mut self,
        asked: Asked,
        result: Result<Reply, RequestError>,
    ) -> Result<(), Violation> {
        let Asked { operator, node, is_to_act } = asked;
        let recovery = match result {
            Ok(Reply::Recovery(recovery)) => recovery,
            Err(error) if error.is_transient() => return Ok(()),
            other => return Err(Violation::WrongAnswer(format!("operator {operator} was answered with {other:?}"))),
        };
        if is_to_act {
            return Ok(());
        }
        let is_careless = self.disasters.operators[operator].is_careless;
        // Who has left does not come back, which not every node that is asked knows.
        let has_left = |node: &NodeId| self.nodes.get(node).is_some_and(|node| node.has_left);
        let is_given_up = |node: &NodeId| is_careless || self.disasters.believed_lost.contains(node) || has_left(node);
        let given_up: BTreeSet<NodeId> = recovery.missing().into_iter().filter(is_given_up).collect();
        if !given_up.is_empty() {
            self.ask_to_recover(operator, node, Some(given_up));
        }
        Ok(())
    }

    /// Looks which recoveries stand, when a disk has changed. What one of them may have lost is expected of nobody.
    pub(crate) fn judge_recoveries(&mut self) {
        for slot in self.recoveries.slots() {
            let Some(newest) = self.newest_configuration(slot) else { continue };
            let present = self.nodes.values().filter(|node| !node.is_retired);
            let of_members = present.filter_map(|node| {
                let configuration = node.record(slot)?.configuration;
                configuration.contains(&node.id).then_some(configuration.recovery)
            });
            let recoveries: BTreeSet<Hash> = of_members.collect();
            let is_another = self.recoveries.update(slot, &newest, &recoveries, self.clients.now());
            if is_another {
                let slots = self.plan.settings.slots;
                self.trace.line(self.now, || format!("slot {slot} goes on with {newest:?}"));
                self.figures.recoveries += 1;
                self.blocks.forget(|hash| slots.of_block(hash) == slot);
                self.clients.forget_refused(slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use difuse_types::{NodeId, SlotId, Slots};

    use crate::simulation::{Phase, Simulation};

    /// Seed 104374: the only node that was not lost knew of a configuration with a node that had left since. The operators,
    /// who were asked whether that one is lost too, never said so, and the slot stayed without members.
    #[test]
    fn operators_give_up_who_has_left() {
        let mut simulation = Simulation::calm(2, |plan| {
            plan.settings.slots = Slots::with_count(8).unwrap();
            plan.nodes = 5;
            plan.gone_after = Duration::from_secs(10);
        });
        // The first node was the only member of every slot once.
        let first = simulation.node_ids[0];
        let configuration = |simulation: &Simulation, node: NodeId, slot: SlotId| {
            simulation.keylog(node).unwrap().configuration(slot).cloned()
        };
        let mut slots = simulation.plan.settings.slots.iter();
        let slot = slots.find(|slot| !configuration(&simulation, first, *slot).unwrap().contains(&first)).unwrap();
        let leaver = configuration(&simulation, first, slot).unwrap().members[0];
        simulation.nodes.get_mut(&leaver).unwrap().is_leaving = true;
        simulation.ask_to_leave(leaver);
        while !simulation.nodes[&leaver].is_retired {
            simulation.run_until(simulation.now + Duration::from_secs(1)).unwrap();
        }
        assert!(configuration(&simulation, first, slot).unwrap().contains(&leaver));
        for lost in simulation.node_ids.clone().into_iter().filter(|node| ![first, leaver].contains(node)) {
            simulation.disasters.believed_lost.insert(lost);
            simulation.crash(lost);
            simulation.nodes.get_mut(&lost).unwrap().is_retired = true;
        }
        simulation.call_operators();
        simulation.heal().unwrap();
        while simulation.phase == Phase::Healing {
            simulation.run_until(simulation.now + Duration::from_secs(1)).unwrap();
        }
        assert_eq!(configuration(&simulation, first, slot).unwrap().members, [first]);
    }
}
