//! One seed: the loop over virtual time, and what each event does.

use std::{collections::BTreeMap, time::Duration};

use difuse_keylog::{Keylog, WriteSequence, store::MemoryStore};
use difuse_protocol::{
    BlockCommand, Input, Output, RequestId,
    message::Message,
    request::{Reply, RequestError},
};
use difuse_ring::invariants::{VirtualNodeSnapshot, is_ideal};
use difuse_types::{Instant, NodeId};
use difuse_wire::approximate_bytes;

use crate::{
    Figures, Plan, Violation,
    bursts::Bursts,
    clients::Clients,
    commands::Commands,
    disasters::Disasters,
    errands::Errands,
    invariants::{Ballots, Blocks, Chains, Configurations, Recoveries, check_ring},
    network::{CutId, Network},
    node::Node,
    pairs::Pairs,
    queue::Queue,
    sequences::Sequences,
    trace::{Trace, Tracing},
};

/// How often nodes try to connect to those that they want a connection to.
const REDIAL_EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether a phase is over.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// Every so many events the ring's invariants are checked.
const EVENTS_PER_RING_CHECK: u64 = 16;
/// How long a ring may take to form,
const FORMING_MAX: Duration = Duration::from_secs(60);
/// and how much longer for each message in a thousand that is lost: who is settled must hear from all others that they
/// are, and where many answers are lost that takes luck.
const FORMING_MAX_PER_LOSS: Duration = Duration::from_secs(2);
/// A node that runs so often at one time spins.
const RUNS_AT_ONE_TIME_MAX: u32 = 1000;

/// Something that will happen.
pub(crate) enum Event {
    /// A process deals with what came in, or with its timers.
    Run {
        node: NodeId,
        life: u64,
    },
    Deliver {
        from: NodeId,
        to: NodeId,
        message: Box<Message>,
    },
    /// A process learns that a connection is gone.
    Disconnected {
        node: NodeId,
        life: u64,
        peer: NodeId,
    },
    Flushed {
        node: NodeId,
        life: u64,
        sequence: WriteSequence,
    },
    BlocksFlushed {
        node: NodeId,
        life: u64,
        sequence: u64,
    },
    /// A disk does what it was asked: in no certain order, as threads do.
    BlockCommand {
        node: NodeId,
        life: u64,
        ticket: u64,
        command: BlockCommand,
    },
    Client {
        client: usize,
    },
    Fault,
    /// Many writes of one key.
    Burst,
    /// Something is done with a pair of keys.
    Pair,
    /// Something is added to a list or a stream, or they are read.
    Sequence,
    /// Commands of all kinds are asked for.
    Command,
    /// A request is repeated.
    Errand {
        waiting: u64,
    },
    /// The majority of a slot is lost.
    Disaster,
    /// An operator looks for slots that lost their majority.
    Operator {
        operator: usize,
    },
    Restart {
        node: NodeId,
    },
    Mend {
        cut: CutId,
    },
    /// Connections over cut links are given up.
    GiveUpConnections,
    NormalDisk {
        node: NodeId,
    },
    /// There is room on a disk again.
    RoomOnDisk {
        node: NodeId,
    },
    /// A node that left stops.
    Stop {
        node: NodeId,
    },
    Redial,
    Probe,
}

/// Which part of a seed is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    Forming,
    Faults,
    Healing,
    LastReads,
    Over,
}

/// One seed's ring.
pub(crate) struct Simulation {
    pub(crate) seed: u64,
    pub(crate) plan: Plan,
    pub(crate) rng: fastrand::Rng,
    pub(crate) now: Instant,
    pub(crate) queue: Queue<Event>,
    pub(crate) network: Network,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    /// In the order of their numbers.
    pub(crate) node_ids: Vec<NodeId>,
    pub(crate) clients: Clients,
    pub(crate) bursts: Bursts,
    pub(crate) pairs: Pairs,
    pub(crate) sequences: Sequences,
    pub(crate) commands: Commands,
    pub(crate) errands: Errands,
    pub(crate) disasters: Disasters,
    pub(crate) phase: Phase,
    pub(crate) phase_ends_at: Instant,
    pub(crate) trace: Trace,
    pub(crate) figures: Figures,
    pub(crate) chains: Chains,
    pub(crate) blocks: Blocks,
    /// The request about the ring that is under way, and the last answer.
    pub(crate) asked_for_view: Option<(RequestId, NodeId)>,
    pub(crate) is_view_settled: bool,
    /// Requests of a [`crate::scenario::Scenario`], and their answers.
    pub(crate) asked_by_script: BTreeMap<RequestId, Option<Result<Reply, RequestError>>>,
    pub(crate) permanent_losses: usize,
    pub(crate) ballots: Ballots,
    pub(crate) configurations: Configurations,
    pub(crate) recoveries: Recoveries,
    /// The last batch that the store of each process had been given when it was looked into.
    pub(crate) written: BTreeMap<NodeId, WriteSequence>,
    /// Whether the ring's invariants are to be expected.
    is_base_sound: bool,
    /// What the ring's invariants were last checked of.
    checked: Vec<VirtualNodeSnapshot>,
    events: u64,
    pub(crate) runs: (Instant, NodeId, u32),
}

impl Simulation {
    pub(crate) fn new(seed: u64, tracing: Tracing, change: impl FnOnce(&mut Plan)) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut plan = Plan::draw(seed, &mut rng);
        change(&mut plan);
        Self {
            seed,
            network: Network::new(&plan),
            clients: Clients::new(&plan),
            bursts: Bursts::new(seed, plan.bursts),
            pairs: Pairs::new(seed, plan.pairs),
            sequences: Sequences::new(seed, plan.sequences),
            commands: Commands::new(seed, plan.commands),
            errands: Errands::new(seed),
            disasters: Disasters::new(seed, plan.disasters),
            rng,
            now: Instant(0),
            queue: Queue::new(),
            nodes: BTreeMap::new(),
            node_ids: Vec::new(),
            phase: Phase::Forming,
            phase_ends_at: Instant(0) + FORMING_MAX + FORMING_MAX_PER_LOSS * plan.loss_per_mille,
            trace: Trace::new(tracing),
            figures: Figures::default(),
            chains: Chains::default(),
            blocks: Blocks::default(),
            asked_for_view: None,
            is_view_settled: false,
            asked_by_script: BTreeMap::new(),
            permanent_losses: 0,
            ballots: Ballots::default(),
            configurations: Configurations::default(),
            recoveries: Recoveries::default(),
            written: BTreeMap::new(),
            is_base_sound: false,
            checked: Vec::new(),
            events: 0,
            runs: (Instant(0), NodeId([0; 32]), 0),
            plan,
        }
    }

    /// A settled ring of which nothing is asked, and to which nothing happens.
    #[cfg(test)]
    pub(crate) fn calm(seed: u64, change: impl FnOnce(&mut Plan)) -> Self {
        let mut simulation = Self::new(seed, Tracing::Off, |plan| {
            plan.keep_calm();
            change(plan);
        });
        simulation.begin().unwrap();
        while simulation.phase == Phase::Forming {
            simulation.run_until(simulation.now + Duration::from_secs(1)).unwrap();
        }
        simulation
    }

    /// Runs the seed to its end. What clients saw is checked even if the ring does not come to rest.
    pub(crate) fn play(&mut self) -> Result<(), Violation> {
        let played = self.play_phases();
        self.figures.virtual_time = self.now.since(Instant(0));
        self.figures.forgetful = self.forgetful_members();
        match played {
            Ok(()) => self.check_last_heads().and_then(|()| self.check_histories()),
            Err(stuck @ Violation::Stuck(_)) => self.check_histories().and(Err(stuck)),
            Err(violation) => Err(violation),
        }
    }

    fn play_phases(&mut self) -> Result<(), Violation> {
        self.begin()?;
        while self.phase != Phase::Over
            && let Some((at, event)) = self.queue.pop()
        {
            self.now = at;
            self.events += 1;
            self.handle_event(event)?;
            if self.events.is_multiple_of(EVENTS_PER_RING_CHECK) && self.plan.is_fail_stop() {
                self.check_ring()?;
            }
        }
        Ok(())
    }

    /// Starts all nodes.
    pub(crate) fn begin(&mut self) -> Result<(), Violation> {
        self.trace.line(Instant(0), || format!("plan {:?}", self.plan));
        for _ in 0..self.plan.nodes {
            self.add_node()?;
        }
        self.queue.push(self.now, Event::Redial);
        self.queue.push(self.now, Event::Probe);
        if !self.plan.is_calm_start {
            self.begin_faults();
        }
        Ok(())
    }

    /// Lets happen whatever happens until then.
    pub(crate) fn run_until(&mut self, end: Instant) -> Result<(), Violation> {
        while let Some((at, event)) = self.queue.pop_until(end) {
            self.now = at;
            self.handle_event(event)?;
        }
        self.now = end;
        Ok(())
    }

    /// The key logs of a running node.
    pub(crate) fn keylog(&self, node: NodeId) -> Option<&Keylog<MemoryStore>> {
        Some(self.nodes.get(&node)?.process.as_ref()?.peer.keylog())
    }

    /// Zave's invariants presuppose a base of principals that does not fail: here, that no more than one node at a time
    /// is dead or not wholly back. Where that did not hold, the ring must become ideal again before it is checked.
    fn check_ring(&mut self) -> Result<(), Violation> {
        let rings = || self.nodes.values().filter_map(|node| node.process.as_ref()).map(|process| process.peer.ring());
        let snapshots: Vec<_> = rings().flat_map(|ring| ring.virtual_nodes()).collect();
        let away = self.node_ids.len() - rings().filter(|ring| ring.is_member()).count();
        let retired = self.nodes.values().filter(|node| node.is_retired).count();
        if away - retired > 1 {
            self.is_base_sound = false;
        } else if !self.is_base_sound {
            self.is_base_sound = is_ideal(&snapshots) && away == retired;
        }
        // Most events leave the ring as it was.
        if !self.is_base_sound || snapshots == self.checked {
            return Ok(());
        }
        check_ring(&snapshots)?;
        self.checked = snapshots;
        Ok(())
    }

    fn handle_event(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Run { node, life } => self.run(node, life),
            Event::Deliver { from, to, message } => {
                self.network.dequeue(from, to, approximate_bytes(&message));
                if !self.network.is_cut(from, to) && self.is_running(to) {
                    self.trace.line(self.now, || format!("{from:?} -> {to:?} {message:?}"));
                    self.give(to, Input::Message { from, message: *message });
                }
                Ok(())
            }
            Event::Disconnected { node, life, peer } => {
                if self.is_alive(node, life) && !self.network.is_connected(node, peer) {
                    self.give(node, Input::Disconnected(peer));
                }
                Ok(())
            }
            Event::Flushed { node, life, sequence } => self.finish_flush(node, life, sequence),
            Event::BlocksFlushed { node, life, sequence } => {
                self.finish_block_flush(node, life, sequence);
                Ok(())
            }
            Event::BlockCommand { node, life, ticket, command } => {
                if self.is_alive(node, life) {
                    self.perform_block_command(node, ticket, command);
                }
                Ok(())
            }
            Event::Client { client } => self.step_client(client),
            Event::Fault => self.inject_fault(),
            Event::Burst => {
                self.burst();
                Ok(())
            }
            Event::Pair => {
                self.use_pair();
                Ok(())
            }
            Event::Sequence => {
                self.use_sequence();
                Ok(())
            }
            Event::Command => {
                self.use_commands();
                Ok(())
            }
            Event::Errand { waiting } => {
                self.repeat_errand(waiting);
                Ok(())
            }
            Event::Disaster => self.strike(),
            Event::Operator { operator } => {
                self.look_for_losses(operator);
                Ok(())
            }
            Event::Restart { node } => self.start(node),
            Event::Mend { cut } => {
                self.trace.line(self.now, || format!("mend cut {cut}"));
                self.network.mend(cut);
                Ok(())
            }
            Event::GiveUpConnections => {
                for (one, other) in self.network.connected_over_cuts() {
                    self.disconnect(one, other, Duration::ZERO);
                }
                Ok(())
            }
            Event::NormalDisk { node } => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.flush_max = self.plan.flush_max;
                }
                Ok(())
            }
            Event::RoomOnDisk { node } => self.make_room(node),
            Event::Stop { node } => self.stop_leaver(node),
            Event::Redial => {
                self.redial();
                self.queue.push(self.now + REDIAL_EVERY, Event::Redial);
                Ok(())
            }
            Event::Probe => {
                self.queue.push(self.now + PROBE_EVERY, Event::Probe);
                self.probe()
            }
        }
    }

    pub(crate) fn is_running(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.process.is_some())
    }

    fn is_alive(&self, node: NodeId, life: u64) -> bool {
        self.nodes.get(&node).is_some_and(|node| node.process.is_some() && node.life == life)
    }

    /// Hands an input to a process, which deals with it soon.
    pub(crate) fn give(&mut self, node: NodeId, input: Input) {
        let wait = Duration::from_nanos(self.rng.u64(..self.plan.service_max.as_nanos() as u64));
        let at = self.now + wait;
        if let Some(process) = self.nodes.get_mut(&node).and_then(|node| node.process.as_mut()) {
            process.inbox.push(input);
            self.schedule_run(node, at);
        }
    }

    pub(crate) fn schedule_run(&mut self, id: NodeId, at: Instant) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let life = node.life;
        let Some(process) = &mut node.process else { return };
        let at = at.max(process.paused_until).max(self.now);
        if at < process.next_run {
            process.next_run = at;
            self.queue.push(at, Event::Run { node: id, life });
        }
    }

    fn run(&mut self, id: NodeId, life: u64) -> Result<(), Violation> {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.life == life) else { return Ok(()) };
        let Some(process) = &mut node.process else { return Ok(()) };
        if process.next_run != self.now {
            return Ok(());
        }
        if process.paused_until > self.now {
            let until = process.paused_until;
            process.next_run = Instant(u64::MAX);
            self.schedule_run(id, until);
            return Ok(());
        }
        self.figures.inputs += process.inbox.len() as u64;
        let outputs = match node.run(self.now) {
            Ok(outputs) => outputs,
            Err(error) => return self.stop_failed(id, error),
        };
        self.check_spin(id)?;
        self.look_into_store(id)?;
        for output in outputs {
            self.perform(id, output)?;
        }
        self.begin_flush(id);
        let wakeup = self.nodes.get(&id).and_then(|node| node.process.as_ref()).map(|process| process.wakeup());
        if let Some(wakeup) = wakeup {
            self.schedule_run(id, wakeup);
        }
        Ok(())
    }

    fn check_spin(&mut self, id: NodeId) -> Result<(), Violation> {
        let count = if (self.runs.0, self.runs.1) == (self.now, id) { self.runs.2 + 1 } else { 0 };
        self.runs = (self.now, id, count);
        if count < RUNS_AT_ONE_TIME_MAX {
            return Ok(());
        }
        Err(Violation::Stuck(format!("node {id:?} always wants to be called at once")))
    }

    fn perform(&mut self, id: NodeId, output: Output) -> Result<(), Violation> {
        match output {
            Output::Send { to, message } => self.send(id, to, message),
            Output::Reply { id: request, result } => self.handle_reply(id, request, result),
            Output::Block { ticket, command } => {
                let life = self.nodes.get(&id).map_or(0, |node| node.life);
                let delay = Duration::from_micros(self.rng.u64(1..2000));
                self.queue.push(self.now + delay, Event::BlockCommand { node: id, life, ticket, command });
                Ok(())
            }
            Output::Dial { node, .. } => {
                self.change_process(id, |process| _ = process.dialed.insert(node));
                let is_possible = self.is_running(node) && !self.network.is_cut(id, node);
                if is_possible && !self.network.is_cut(node, id) {
                    self.connect(id, node);
                }
                Ok(())
            }
            Output::Forget(node) => {
                self.change_process(id, |process| _ = process.dialed.remove(&node));
                Ok(())
            }
            Output::HostsChanged => {
                self.change_process(id, |process| process.hosts_changed = true);
                Ok(())
            }
            Output::Joined => {
                self.trace.line(self.now, || format!("{id:?} has joined"));
                self.change_process(id, |process| process.is_joined = true);
                if let Some(node) = self.nodes.get_mut(&id) {
                    node.has_joined = true;
                }
                Ok(())
            }
            Output::Warn(text) => {
                self.trace.line(self.now, || format!("{id:?} warns: {text}"));
                Ok(())
            }
        }
    }

    pub(crate) fn change_process(&mut self, id: NodeId, change: impl FnOnce(&mut crate::node::Process)) {
        if let Some(process) = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut()) {
            change(process);
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) -> Result<(), Violation> {
        self.figures.messages += 1;
        if let Message::Keylog(message) = &message {
            self.observe_message(message)?;
        }
        if !self.network.is_connected(from, to) || self.network.is_cut(from, to) {
            self.trace.line(self.now, || format!("{from:?} -x {to:?} {message:?}"));
            return Ok(());
        }
        let message = if self.plan.is_through_wire { through_wire(message)? } else { message };
        let mut delays = match message {
            Message::Request { .. } => self.network.delay_once(&mut self.rng),
            _ => self.network.delays(&mut self.rng),
        };
        let bytes = approximate_bytes(&message);
        delays.retain(|_| self.network.enqueue(from, to, bytes));
        let last = delays.pop();
        let message = Box::new(message);
        for delay in delays {
            self.queue.push(self.now + delay, Event::Deliver { from, to, message: message.clone() });
        }
        if let Some(delay) = last {
            self.queue.push(self.now + delay, Event::Deliver { from, to, message });
        }
        Ok(())
    }
}

fn through_wire(message: Message) -> Result<Message, Violation> {
    let frame = difuse_wire::encode(std::slice::from_ref(&message));
    let decoded = difuse_wire::decode(&frame).map_err(|error| Violation::Wire(format!("{error}: {message:?}")))?;
    match <[Message; 1]>::try_from(decoded) {
        Ok([decoded]) if decoded == message => Ok(decoded),
        other => Err(Violation::Wire(format!("{message:?} became {other:?}"))),
    }
}
