//! Machines and the processes on them: how they start, die, and find each other.

use std::time::Duration;

use difuse_keylog::StoreError;
use difuse_protocol::{Input, request::Request};
use difuse_types::{Host, NodeId};

use crate::{
    Violation,
    node::{Node, host, node_id},
    simulation::{Event, Simulation},
};

impl Simulation {
    /// A new machine; the first one founds the ring, the others join it.
    pub(crate) fn add_node(&mut self) -> Result<(), Violation> {
        let id = node_id(self.seed, self.node_ids.len());
        self.nodes.insert(id, Node::new(id, &self.plan, &mut self.rng));
        self.node_ids.push(id);
        self.start(id)
    }

    /// Starts a process on a machine where none runs.
    pub(crate) fn start(&mut self, id: NodeId) -> Result<(), Violation> {
        let seeds = self.seeds(id);
        let is_founder = self.node_ids.first() == Some(&id);
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.can_start()) else { return Ok(()) };
        let started = node.start(&self.plan, is_founder, seeds, self.now, &mut self.rng);
        started.map_err(|error| Violation::Store { node: id, error })?;
        node.has_joined |= is_founder;
        let life = node.life;
        self.trace.line(self.now, || format!("start {id:?} life {life}"));
        self.schedule_run(id, self.now);
        if self.nodes.get(&id).is_some_and(|node| node.is_leaving) {
            self.ask_to_leave(id);
        }
        Ok(())
    }

    /// The nodes that clients may ask: members that run, and are there to stay.
    pub(crate) fn ready_nodes(&self) -> Vec<NodeId> {
        let is_ready =
            |node: &&Node| node.process.as_ref().is_some_and(|process| process.is_joined) && !node.is_retired;
        self.nodes.values().filter(is_ready).map(|node| node.id).collect()
    }

    /// Some nodes that a joining node is told of.
    fn seeds(&mut self, id: NodeId) -> Vec<Host> {
        let has_joined =
            |other: &&NodeId| self.nodes.get(*other).is_some_and(|node| node.has_joined && !node.is_retired);
        let mut seeds: Vec<NodeId> =
            self.node_ids.iter().filter(has_joined).filter(|other| **other != id).copied().collect();
        let count = self.rng.usize(1..=2);
        self.rng.shuffle(&mut seeds);
        seeds.truncate(count);
        // A handshake tells a joining node the incarnation that it reached.
        seeds.into_iter().map(|seed| host(seed, self.nodes.get(&seed).map_or(1, |node| node.life))).collect()
    }

    pub(crate) fn ask_to_leave(&mut self, id: NodeId) {
        let request = self.clients.next_request_id();
        self.give(id, Input::Request { id: request, request: Request::Leave });
    }

    /// A store refused to go on: expected when a fault was injected, and then the process stops.
    pub(crate) fn stop_failed(&mut self, id: NodeId, error: StoreError) -> Result<(), Violation> {
        let (StoreError::Failed(reason) | StoreError::Full(reason) | StoreError::Corrupt(reason)) = &error;
        if reason != crate::faults::INJECTED {
            return Err(Violation::Store { node: id, error });
        }
        self.crash(id);
        let at = self.now + Duration::from_millis(self.rng.u64(50..3000));
        self.queue.push(at, Event::Restart { node: id });
        Ok(())
    }

    /// Ends a process; those connected to it notice at once.
    pub(crate) fn crash(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.process.is_some()) else { return };
        node.crash(&mut self.rng);
        self.figures.crashes += 1;
        self.written.remove(&id);
        self.trace.line(self.now, || format!("crash {id:?}"));
        // What was not durable is undone.
        self.recoveries.crash(id);
        self.judge_recoveries();
        for peer in self.network.connected_to(id) {
            let delay = Duration::from_micros(self.rng.u64(100..5000));
            self.disconnect(id, peer, delay);
        }
        let lost = self.clients.lose_node(id);
        if self.asked_for_view.is_some_and(|(_, node)| node == id) {
            self.asked_for_view = None;
        }
        for client in lost {
            self.lose_answer(client);
        }
        self.lose_errands(id);
    }

    /// A connection breaks; both sides learn of it after `delay`.
    pub(crate) fn disconnect(&mut self, one: NodeId, other: NodeId, delay: Duration) {
        if self.network.disconnect(one, other) {
            for (node, peer) in [(one, other), (other, one)] {
                let life = self.nodes.get(&node).map_or(0, |node| node.life);
                self.queue.push(self.now + delay, Event::Disconnected { node, life, peer });
            }
        }
    }

    pub(crate) fn redial(&mut self) {
        let mut wanted = Vec::new();
        for (id, node) in &self.nodes {
            for peer in node.process.iter().flat_map(|process| &process.dialed) {
                let is_possible = self.is_running(*peer) && !self.network.is_connected(*id, *peer);
                if is_possible && !self.network.is_cut(*id, *peer) && !self.network.is_cut(*peer, *id) {
                    wanted.push((*id, *peer));
                }
            }
        }
        for (one, other) in wanted {
            self.connect(one, other);
        }
    }

    pub(crate) fn connect(&mut self, one: NodeId, other: NodeId) {
        if one != other && !self.network.is_connected(one, other) {
            self.network.connect(one, other);
            self.give(one, Input::Connected(other));
            self.give(other, Input::Connected(one));
        }
    }
}
