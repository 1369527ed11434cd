//! The ring alone, at scale: how many hops fingers need, how often the host table names the right host at once while
//! hosts come and go, and what it costs to keep both.
//!
//! Ten thousand host tables of ten thousand hosts do not fit in memory. So hosts are of two kinds: some with the whole
//! table, as production has it, and the others with the rows of their neighbours alone, which is all that stabilization
//! and fingers need. The latter pass on news, but do not compare tables. The ring begins as it is after a long calm
//! ([`Ring::converged`]); joining hosts join by messages, as in production.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use difuse_ring::{
    HostEntry, HostState, LookupOutcome, Ring, RingConfig, RingMessage, RingOutput, VirtualNode, VirtualNodeId,
};
use difuse_types::{Hash, Host, Incarnation, Instant, NodeId, RingId, RingPosition, RingSettings};

use super::traffic::Traffic;
use crate::queue::Queue;

/// More hops than any lookup may need.
const HOPS_MAX: u32 = 200;
/// How long a message is on its way, in microseconds.
const DELAY_US: std::ops::Range<u64> = 200..5_000;
/// How long a leaving host takes to hand over what it holds.
const LEAVE_TAKES: Duration = Duration::from_secs(3);
/// How often the tables are asked.
const PROBE_EVERY: Duration = Duration::from_millis(50);

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Hosts at the start.
    pub hosts: usize,
    /// Virtual nodes of each.
    pub virtual_nodes: u16,
    /// How many of them have the whole host table.
    pub whole_tables: usize,
    /// How long the ring runs, in virtual time.
    pub run_for: Duration,
    /// How long a host stays on average: as many join as go; half of those that go leave, half fail. Zero: no churn.
    pub session: Duration,
    /// After how long without an answer a host is suspect; all other intervals follow from it.
    pub suspect_after: Duration,
    /// Lookups by fingers.
    pub lookups: u32,
    /// Decides everything.
    pub seed: u64,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was simulated.
    pub plan: Plan,
    /// Hosts that joined, left and failed.
    pub churn: [u64; 3],
    /// Hops of lookups by fingers alone: other nodes that were asked. Before the churn and after it.
    pub hops: [Hops; 2],
    /// Lookups by table, and how many named the right host at once; one that is gone; one that is not the first any more.
    pub first_try: FirstTry,
    /// What a host with the whole table sends: messages and bytes a second.
    pub sent: (f64, f64),
    /// Kind of message, share of the messages, share of the bytes.
    pub shares: Vec<(&'static str, f64, f64)>,
}

/// How many hops lookups needed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hops {
    /// On average.
    pub mean: f64,
    /// 99 of 100 needed at most so many.
    pub p99: u32,
    /// The worst.
    pub worst: u32,
    /// Share of lookups that came upon a node that is gone, or ended at the wrong one.
    pub failed: f64,
}

/// How lookups by the host table went.
#[derive(Debug, Clone, Copy, Default)]
pub struct FirstTry {
    /// All.
    pub lookups: u64,
    /// They named the host that is the first on the ring.
    pub right: u64,
    /// They named a host that is gone.
    pub gone: u64,
    /// They named one that another has come before.
    pub passed: u64,
}

impl FirstTry {
    /// The share of lookups whose first host was right.
    pub fn rate(&self) -> f64 {
        self.right as f64 / self.lookups.max(1) as f64
    }
}

impl Report {
    /// The bound on the average of hops: half the logarithm of the number of virtual nodes.
    pub fn bound(&self) -> f64 {
        (self.plan.hosts as f64 * f64::from(self.plan.virtual_nodes)).log2() / 2.0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = &self.plan;
        writeln!(
            f,
            "{} hosts x {} virtual nodes, {} of them with the whole host table; {} s of virtual time, suspect after {} s",
            plan.hosts,
            plan.virtual_nodes,
            plan.whole_tables,
            plan.run_for.as_secs(),
            plan.suspect_after.as_secs_f64()
        )?;
        let [joined, left, failed] = self.churn;
        writeln!(f, "churn: {joined} joined, {left} left, {failed} failed; mean session {} s", plan.session.as_secs())?;
        for (when, hops) in ["at the start", "at the end"].iter().zip(&self.hops) {
            writeln!(
                f,
                "hops by fingers alone {when}: mean {:.2} (half the logarithm: {:.2}), p99 {}, worst {}; {:.2} % failed",
                hops.mean,
                self.bound(),
                hops.p99,
                hops.worst,
                hops.failed * 100.0
            )?;
        }
        let FirstTry { lookups, gone, passed, .. } = self.first_try;
        writeln!(
            f,
            "one hop by the host table: {:.3} % of {lookups} lookups named the right host at once ({gone} a host that is \
             gone, {passed} one that another has come before)",
            self.first_try.rate() * 100.0
        )?;
        let (messages, bytes) = self.sent;
        writeln!(f, "sent by each host: {messages:.0} messages/s, {:.1} KiB/s", bytes / 1024.0)?;
        for (kind, messages, bytes) in &self.shares {
            writeln!(f, "  {kind}: {:.1} % of the messages, {:.1} % of the bytes", messages * 100.0, bytes * 100.0)?;
        }
        Ok(())
    }
}

/// Simulates a ring; `progress` is told the share of the virtual time that has passed.
pub fn run(plan: Plan, mut progress: impl FnMut(f64)) -> Report {
    let mut network = Network::new(plan);
    let before = network.measure_hops();
    let end = network.now + network.plan.run_for;
    let start = network.now;
    let mut next_probe = start;
    let mut next_churn = network.now + network.until_churn();
    while network.now < end {
        if network.now >= next_probe {
            network.probe_tables();
            next_probe = network.now + PROBE_EVERY;
            progress(network.now.since(start).as_secs_f64() / network.plan.run_for.as_secs_f64());
        }
        if network.now >= next_churn {
            network.churn();
            next_churn = network.now + network.until_churn();
        }
        network.step();
    }
    let after = network.measure_hops();
    network.report([before, after])
}

enum Event {
    Wake { host: usize },
    Deliver { to: usize, from: NodeId, message: Box<RingMessage> },
    Left { host: usize },
}

/// A host of the simulation.
struct Member {
    ring: Ring,
    has_whole_table: bool,
    wakes_at: Instant,
}

struct Network {
    plan: Plan,
    rng: fastrand::Rng,
    now: Instant,
    /// By number; those that are gone are empty.
    hosts: Vec<Option<Member>>,
    numbers: BTreeMap<NodeId, usize>,
    queue: Queue<Event>,
    /// The virtual nodes that are on the ring, as an all-seeing eye sees them.
    truth: BTreeMap<RingPosition, VirtualNodeId>,
    churn: [u64; 3],
    first_try: FirstTry,
    /// Of hosts with the whole table: the others ask those whom they do not know for what they may not be told.
    traffic: Traffic,
    /// How long those were there, in all.
    host_seconds: f64,
    counted_until: Instant,
}

fn node(number: usize) -> NodeId {
    NodeId(Hash::of(&(number as u64).to_le_bytes()).0)
}

fn host(number: usize) -> Host {
    let octet = |shift: usize| number >> shift & 255;
    Host {
        node: node(number),
        incarnation: Incarnation(1),
        address: format!("10.{}.{}.{}:4624", octet(16), octet(8), octet(0)),
        http: format!("10.{}.{}.{}:9090", octet(16), octet(8), octet(0)),
        zone: String::new(),
        label: format!("host-{number}"),
    }
}

fn entry(number: usize) -> HostEntry {
    HostEntry { host: host(number), state: HostState::Up, version: 1 }
}

fn config(plan: &Plan) -> RingConfig {
    let settings = RingSettings::new(RingId(Hash::of(b"scale")), 3, 1024, plan.virtual_nodes);
    let settings = settings.expect("the number of virtual nodes was checked");
    RingConfig::new(settings, plan.suspect_after, Duration::from_secs(300))
}

impl Network {
    fn new(plan: Plan) -> Self {
        let now = Instant(1_000_000_000);
        let places = |number| {
            let place = move |index| VirtualNode::new(VirtualNodeId { node: node(number), index });
            (0..plan.virtual_nodes).map(place)
        };
        let mut circle: Vec<VirtualNode> = (0..plan.hosts).flat_map(places).collect();
        circle.sort_by_key(|place| place.position);
        let numbers: BTreeMap<NodeId, usize> = (0..plan.hosts).map(|number| (node(number), number)).collect();
        let mut network = Self {
            rng: fastrand::Rng::with_seed(plan.seed),
            now,
            hosts: Vec::new(),
            queue: Queue::new(),
            truth: circle.iter().map(|place| (place.position, place.id)).collect(),
            churn: [0; 3],
            first_try: FirstTry::default(),
            traffic: Traffic::default(),
            host_seconds: 0.0,
            counted_until: now,
            numbers,
            plan,
        };
        for number in 0..network.plan.hosts {
            network.place(number, &circle);
        }
        network
    }

    /// A host of the converged ring.
    fn place(&mut self, number: usize, circle: &[VirtualNode]) {
        let has_whole_table = number < self.plan.whole_tables;
        let config = config(&self.plan);
        let known: Vec<HostEntry> = if has_whole_table {
            (0..self.plan.hosts).filter(|other| *other != number).map(entry).collect()
        } else {
            self.neighbours(number, circle, config.successor_hosts()).into_iter().map(entry).collect()
        };
        let ring = Ring::converged(config, host(number), known, circle, self.now, self.rng.u64(..));
        self.hosts.push(Some(Member { ring, has_whole_table, wakes_at: Instant(u64::MAX) }));
        self.schedule(number);
    }

    /// The hosts before and after each virtual node, as far as its successor list goes.
    fn neighbours(&self, number: usize, circle: &[VirtualNode], hosts_wanted: usize) -> BTreeSet<usize> {
        let mut neighbours = BTreeSet::new();
        for index in 0..self.plan.virtual_nodes {
            let own = VirtualNode::new(VirtualNodeId { node: node(number), index });
            let at = circle.partition_point(|place| place.position < own.position);
            let before = circle[(at + circle.len() - 1) % circle.len()];
            let after = circle.iter().cycle().skip(at + 1).take(2 * hosts_wanted);
            neighbours.extend(after.chain([&before]).filter_map(|place| self.numbers.get(&place.node())));
        }
        neighbours.remove(&number);
        neighbours
    }

    fn schedule(&mut self, number: usize) {
        let Some(member) = self.hosts.get_mut(number).and_then(Option::as_mut) else { return };
        let at = member.ring.next_wakeup().max(self.now);
        if at < member.wakes_at {
            member.wakes_at = at;
            self.queue.push(at, Event::Wake { host: number });
        }
    }

    fn step(&mut self) {
        let Some((at, event)) = self.queue.pop() else { return };
        self.now = self.now.max(at);
        let mut out = Vec::new();
        let number = match event {
            Event::Wake { host } => {
                let Some(member) = self.hosts[host].as_mut().filter(|member| member.wakes_at == at) else { return };
                member.wakes_at = Instant(u64::MAX);
                member.ring.handle_tick(self.now, &mut out);
                host
            }
            Event::Deliver { to, from, message } => {
                let is_whole = |number: usize| self.hosts[number].as_ref().is_some_and(|member| member.has_whole_table);
                // A table of neighbours is not compared with others: it would become a whole one.
                let is_comparison = matches!(*message, RingMessage::GossipDigest { .. });
                let from_whole = self.numbers.get(&from).is_some_and(|from| is_whole(*from));
                if is_comparison && !(is_whole(to) && from_whole) {
                    return;
                }
                let Some(member) = self.hosts[to].as_mut() else { return };
                member.ring.handle_message(self.now, from, *message, &mut out);
                to
            }
            Event::Left { host } => {
                self.end_leave(host);
                return;
            }
        };
        self.perform(number, out);
        self.schedule(number);
    }

    fn perform(&mut self, from: usize, outputs: Vec<RingOutput>) {
        let Some((from_node, is_whole)) =
            self.hosts[from].as_ref().map(|member| (member.ring.me().node, member.has_whole_table))
        else {
            return;
        };
        for output in outputs {
            match output {
                RingOutput::Send { to, message } => {
                    if is_whole {
                        self.traffic.note(&message);
                    }
                    let Some(to) = self.numbers.get(&to).copied() else { continue };
                    let at = self.now + Duration::from_micros(self.rng.u64(DELAY_US));
                    self.queue.push(at, Event::Deliver { to, from: from_node, message: Box::new(message) });
                }
                RingOutput::Joined => self.set_on_ring(from, true),
                _ => {}
            }
        }
    }

    fn set_on_ring(&mut self, number: usize, is_on_ring: bool) {
        for index in 0..self.plan.virtual_nodes {
            let place = VirtualNode::new(VirtualNodeId { node: node(number), index });
            if is_on_ring {
                self.truth.insert(place.position, place.id);
            } else {
                self.truth.remove(&place.position);
            }
        }
    }

    fn until_churn(&mut self) -> Duration {
        if self.plan.session.is_zero() {
            return self.plan.run_for * 2;
        }
        // As many join as go.
        let mean = self.plan.session.as_secs_f64() / self.plan.hosts as f64 / 2.0;
        Duration::from_secs_f64(-mean * (1.0 - self.rng.f64()).ln())
    }

    fn churn(&mut self) {
        self.count_host_seconds();
        match self.rng.u32(..4) {
            0 => self.begin_leave(),
            1 => self.fail(),
            _ => self.join(),
        }
    }

    fn random_member(&mut self) -> Option<usize> {
        let tries = (0..100).map(|_| self.rng.usize(..self.hosts.len())).collect::<Vec<_>>();
        tries.into_iter().find(|number| self.is_member(*number))
    }

    fn is_member(&self, number: usize) -> bool {
        let member = self.hosts[number].as_ref();
        member.is_some_and(|member| {
            let own = member.ring.host(&member.ring.me().node).map(|entry| entry.state);
            member.ring.is_member() && own == Some(HostState::Up)
        })
    }

    fn begin_leave(&mut self) {
        let Some(number) = self.random_member() else { return };
        let mut out = Vec::new();
        if let Some(member) = &mut self.hosts[number] {
            member.ring.leave(self.now, &mut out);
        }
        self.perform(number, out);
        self.schedule(number);
        let at = self.now + LEAVE_TAKES;
        self.queue.push(at, Event::Left { host: number });
    }

    fn end_leave(&mut self, number: usize) {
        let mut out = Vec::new();
        if let Some(member) = &mut self.hosts[number] {
            member.ring.left(self.now, &mut out);
        }
        self.perform(number, out);
        self.remove(number);
        self.churn[1] += 1;
    }

    fn fail(&mut self) {
        let Some(number) = self.random_member() else { return };
        self.remove(number);
        self.churn[2] += 1;
    }

    fn remove(&mut self, number: usize) {
        self.count_host_seconds();
        self.set_on_ring(number, false);
        self.hosts[number] = None;
    }

    /// A new host, with a table of its own that it is given by one with a whole one.
    fn join(&mut self) {
        let whole: Vec<usize> = (0..self.hosts.len())
            .filter(|number| self.hosts[*number].as_ref().is_some_and(|member| member.has_whole_table))
            .filter(|number| self.is_member(*number))
            .collect();
        let Some(seed) = self.rng.choice(whole) else { return };
        let number = self.hosts.len();
        let ring = Ring::join(config(&self.plan), host(number), vec![host(seed)], self.now, self.rng.u64(..));
        self.numbers.insert(node(number), number);
        self.hosts.push(Some(Member { ring, has_whole_table: true, wakes_at: Instant(u64::MAX) }));
        self.schedule(number);
        self.churn[0] += 1;
    }

    fn count_host_seconds(&mut self) {
        let time = self.now.since(self.counted_until).as_secs_f64();
        self.counted_until = self.now;
        let whole = self.hosts.iter().flatten().filter(|member| member.has_whole_table).count();
        self.host_seconds += time * whole as f64;
    }

    /// Who is the first on the ring from a position on.
    fn owner(&self, position: RingPosition) -> Option<VirtualNodeId> {
        self.truth.range(position..).chain(&self.truth).next().map(|(_, id)| *id)
    }

    fn random_position(&mut self) -> RingPosition {
        RingPosition(Hash::of(&self.rng.u64(..).to_le_bytes()).0)
    }

    /// One lookup by the table of a random host that has the whole one.
    fn probe_tables(&mut self) {
        let position = self.random_position();
        let whole: Vec<usize> = (0..self.hosts.len())
            .filter(|number| self.hosts[*number].as_ref().is_some_and(|member| member.has_whole_table))
            .filter(|number| self.is_member(*number))
            .collect();
        for _ in 0..20 {
            let Some(number) = self.rng.choice(&whole).copied() else { return };
            let Some(member) = &self.hosts[number] else { continue };
            let LookupOutcome::Found { owner } = member.ring.route(position) else { continue };
            let is_there = self.numbers.get(&owner.node).is_some_and(|number| self.hosts[*number].is_some());
            self.first_try.lookups += 1;
            match self.owner(position) {
                Some(truth) if truth == owner => self.first_try.right += 1,
                _ if !is_there => self.first_try.gone += 1,
                _ => self.first_try.passed += 1,
            }
        }
    }

    fn measure_hops(&mut self) -> Hops {
        let mut hops = Vec::new();
        let mut failed = 0;
        for _ in 0..self.plan.lookups {
            let position = self.random_position();
            let Some(from) = self.random_member() else { break };
            match self.follow_fingers(from, position) {
                Some((owner, count)) if Some(owner) == self.owner(position) => hops.push(count),
                _ => failed += 1,
            }
        }
        hops.sort_unstable();
        let sum: u64 = hops.iter().map(|count| u64::from(*count)).sum();
        Hops {
            mean: sum as f64 / hops.len().max(1) as f64,
            p99: hops.get(hops.len() * 99 / 100).copied().unwrap_or_default(),
            worst: hops.last().copied().unwrap_or_default(),
            failed: f64::from(failed) / f64::from(self.plan.lookups.max(1)),
        }
    }

    /// The owner found, and how many other nodes were asked; `None` where the way leads to somebody who is gone.
    fn follow_fingers(&self, from: usize, position: RingPosition) -> Option<(VirtualNodeId, u32)> {
        let mut at = from;
        for hops in 0..HOPS_MAX {
            match self.hosts[at].as_ref()?.ring.route_by_fingers(position) {
                LookupOutcome::Found { owner } => return Some((owner, hops)),
                LookupOutcome::Next { next } => at = *self.numbers.get(&next.node)?,
                LookupOutcome::NotMember => return None,
            }
        }
        None
    }

    fn report(mut self, hops: [Hops; 2]) -> Report {
        self.count_host_seconds();
        let seconds = self.host_seconds.max(f64::MIN_POSITIVE);
        Report {
            churn: self.churn,
            hops,
            first_try: self.first_try,
            sent: (self.traffic.messages() as f64 / seconds, self.traffic.bytes() / seconds),
            shares: self.traffic.shares(),
            plan: self.plan,
        }
    }
}
