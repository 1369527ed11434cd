//! A ring of whole peers with data, without faults of the network: how many bytes move when a host joins, leaves or
//! fails, against the least that the new placement needs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use bytes::Bytes;
use difuse_keylog::{Condition, KeylogMessage, Operation, Transaction, Value, store::MemoryStore};
use difuse_protocol::{
    Input, Output, Peer, PeerOptions, RequestId, Start,
    message::{BlockAnswer, BlockMessage, BlockQuestion, Message},
    request::{Reply, Request, RequestError, Since},
};
use difuse_types::{
    Hash, Host, Incarnation, Instant, Key, Level, NodeId, OperationId, RingId, RingSettings, SlotId, WallTime,
};
use difuse_wire::approximate_bytes;

use crate::{block_disk::BlockDisk, queue::Queue};

/// How long a message is on its way, in microseconds.
const DELAY_US: std::ops::Range<u64> = 200..2_000;
/// A process deals with what has come in so long after the first of it.
const SERVICE: Duration = Duration::from_micros(500);
/// How long anything may take, in virtual time.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often it is looked whether the ring has settled.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Hosts.
    pub hosts: usize,
    /// Slots.
    pub slots: u32,
    /// Keys, of [`Plan::value_bytes`] each.
    pub keys: u32,
    /// Bytes of a key's value.
    pub value_bytes: usize,
    /// Blocks, of [`Plan::block_bytes`] each.
    pub blocks: u32,
    /// Bytes of a block.
    pub block_bytes: usize,
    /// What a host can send of blocks once all are stored, in bytes per second; 0: no bound. (All else has connections of
    /// its own, and is small.)
    pub bulk_rate: u64,
    /// Decides everything.
    pub seed: u64,
}

/// What one change of the membership moved.
#[derive(Debug, Clone)]
pub struct Change {
    /// What happened.
    pub what: &'static str,
    /// Slots whose members changed.
    pub slots: usize,
    /// The least that had to be moved: for every member that a slot gained, what the slot holds.
    pub least: u64,
    /// Bytes of values and blocks that were sent from host to host.
    pub moved: u64,
    /// All bytes that were sent, the ring's own talk and all else included.
    pub sent: u64,
    /// Until the ring was settled again, in virtual time; for a failure, from when the host was given up.
    pub took: Duration,
}

impl Change {
    /// How much more was moved than had to be: 1 is perfect.
    pub fn ratio(&self) -> f64 {
        self.moved as f64 / self.least.max(1) as f64
    }
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was simulated.
    pub plan: Plan,
    /// A join, a leave and a failure, one after the other.
    pub changes: Vec<Change>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { hosts, slots, keys, value_bytes, blocks, block_bytes, .. } = self.plan;
        writeln!(
            f,
            "{hosts} hosts, {slots} slots, three replicas: {keys} keys of {value_bytes} B and {blocks} blocks of \
             {block_bytes} B"
        )?;
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        for change in &self.changes {
            writeln!(
                f,
                "{}: {} slots changed members; least possible {:.2} MiB, moved {:.2} MiB ({:.3} x), {:.2} MiB sent in all; \
                 settled after {:.1} s",
                change.what,
                change.slots,
                mib(change.least),
                mib(change.moved),
                change.ratio(),
                mib(change.sent),
                change.took.as_secs_f64()
            )?;
        }
        Ok(())
    }
}

/// Simulates a ring through a join, a leave and a failure; `progress` is told what it does.
///
/// # Errors
/// Says what did not happen within ten minutes of virtual time.
pub fn run(plan: Plan, mut progress: impl FnMut(&str)) -> Result<Report, String> {
    let mut network = Network::new(plan.clone());
    progress("forming the ring");
    network.form()?;
    progress("writing keys and blocks");
    network.fill()?;
    network.bulk_rate = network.plan.bulk_rate;
    let mut changes = Vec::new();
    progress("a host joins");
    changes.push(network.change("join", Network::join_one)?);
    progress("a host leaves");
    changes.push(network.change("leave", Network::leave_one)?);
    progress("a host fails");
    changes.push(network.change("failure", Network::fail_one)?);
    Ok(Report { plan, changes })
}

enum Event {
    Run { host: usize },
    Deliver { to: usize, input: Box<Input> },
}

struct Process {
    peer: Peer<MemoryStore>,
    blocks: BlockDisk,
    inbox: Vec<Input>,
    runs_at: Instant,
    /// When the last of the blocks that it sends has left it.
    bulk_until: Instant,
}

struct Network {
    plan: Plan,
    rng: fastrand::Rng,
    now: Instant,
    queue: Queue<Event>,
    hosts: Vec<Option<Process>>,
    numbers: BTreeMap<NodeId, usize>,
    replies: BTreeMap<RequestId, Result<Reply, RequestError>>,
    last_request: RequestId,
    /// Bytes of values and blocks, and of all messages, that were sent.
    moved: u64,
    sent: u64,
    /// What a host can send of blocks now, in bytes per second; 0: no bound.
    bulk_rate: u64,
    /// What each slot holds once.
    bytes_of_slots: BTreeMap<SlotId, u64>,
}

fn node(number: usize) -> NodeId {
    NodeId(Hash::of(&(number as u64).to_le_bytes()).0)
}

fn host(number: usize) -> Host {
    Host {
        node: node(number),
        incarnation: Incarnation(1),
        address: format!("10.0.{}.{}:4624", number >> 8 & 255, number & 255),
        http: String::new(),
        zone: String::new(),
        label: format!("host-{number}"),
    }
}

/// Members of every slot.
type Groups = BTreeMap<SlotId, BTreeSet<NodeId>>;

impl Network {
    fn new(plan: Plan) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(plan.seed),
            now: Instant(1_000_000_000),
            queue: Queue::new(),
            hosts: Vec::new(),
            numbers: BTreeMap::new(),
            replies: BTreeMap::new(),
            last_request: 0,
            moved: 0,
            sent: 0,
            bulk_rate: 0,
            bytes_of_slots: BTreeMap::new(),
            plan,
        }
    }

    fn settings(&self) -> RingSettings {
        RingSettings::new(RingId(Hash::of(b"scale")), 3, self.plan.slots, 8).expect("the slots are a power of two")
    }

    fn start(&mut self, start: Start) {
        let number = self.hosts.len();
        let options = PeerOptions { gone_after: Duration::from_secs(10), ..PeerOptions::default() };
        let (settings, store, seed) = (self.settings(), MemoryStore::new(), self.rng.u64(..));
        let peer = Peer::new(host(number), settings, options, start, store, self.now, seed);
        let peer = peer.expect("a store in memory does not fail");
        self.numbers.insert(node(number), number);
        let (blocks, inbox, runs_at) = (BlockDisk::default(), Vec::new(), Instant(u64::MAX));
        let process = Process { peer, blocks, inbox, runs_at, bulk_until: self.now };
        self.hosts.push(Some(process));
        for other in 0..number {
            self.give(other, Input::Connected(node(number)));
            self.give(number, Input::Connected(node(other)));
        }
        self.schedule(number, self.now);
    }

    fn schedule(&mut self, number: usize, at: Instant) {
        let Some(process) = self.hosts[number].as_mut() else { return };
        let at = at.max(self.now);
        if at < process.runs_at {
            process.runs_at = at;
            self.queue.push(at, Event::Run { host: number });
        }
    }

    fn give(&mut self, number: usize, input: Input) {
        if let Some(process) = self.hosts[number].as_mut() {
            process.inbox.push(input);
            self.schedule(number, self.now + SERVICE);
        }
    }

    fn step(&mut self) {
        let Some((at, event)) = self.queue.pop() else { return };
        self.now = self.now.max(at);
        match event {
            Event::Deliver { to, input } => self.give(to, *input),
            Event::Run { host } => self.run_host(host, at),
        }
    }

    fn run_host(&mut self, number: usize, at: Instant) {
        let Some(process) = self.hosts[number].as_mut().filter(|process| process.runs_at == at) else { return };
        process.runs_at = Instant(u64::MAX);
        let inputs = std::mem::take(&mut process.inbox);
        let wall = WallTime(self.now.0 / 1_000_000);
        let outputs = process.peer.handle(self.now, wall, inputs).expect("a store in memory does not fail");
        process.peer.store_mut().flush_all();
        process.inbox.push(Input::Durable(process.peer.store_mut().durable()));
        let wakes_at = process.peer.next_wakeup();
        let is_busy = !outputs.is_empty();
        for output in outputs {
            self.perform(number, output);
        }
        // What was just written is durable at once.
        let next = if is_busy { wakes_at.min(self.now + SERVICE) } else { wakes_at };
        self.schedule(number, next.max(self.now + Duration::from_micros(1)));
    }

    fn perform(&mut self, from: usize, output: Output) {
        match output {
            Output::Send { to, message } => {
                self.sent += approximate_bytes(&message) as u64;
                self.moved += content_bytes(&message);
                let Some(to) = self.numbers.get(&to).copied() else { return };
                let delay = Duration::from_micros(self.rng.u64(DELAY_US));
                let at = self.sent_at(from, block_bytes(&message)) + delay;
                let input = Box::new(Input::Message { from: node(from), message });
                self.queue.push(at, Event::Deliver { to, input });
            }
            Output::Reply { id, result } => drop(self.replies.insert(id, result)),
            Output::Block { ticket, command } => {
                let Some(process) = self.hosts[from].as_mut() else { return };
                let result = process.blocks.perform(command);
                process.blocks.flush_through(process.blocks.written());
                let input = Box::new(Input::BlockDone { ticket, result });
                self.queue.push(self.now + SERVICE, Event::Deliver { to: from, input });
            }
            _ => {}
        }
    }

    /// When the last byte of a message has left its sender, behind all blocks that leave it before.
    fn sent_at(&mut self, from: usize, block_bytes: u64) -> Instant {
        let process = self.hosts[from].as_mut().filter(|_| block_bytes > 0 && self.bulk_rate > 0);
        let Some(process) = process else { return self.now };
        let takes = Duration::from_secs_f64(block_bytes as f64 / self.bulk_rate as f64);
        process.bulk_until = process.bulk_until.max(self.now) + takes;
        process.bulk_until
    }

    fn begin_request(&mut self, number: usize, request: Request) -> RequestId {
        self.last_request += 1;
        self.give(number, Input::Request { id: self.last_request, request });
        self.last_request
    }

    fn request(&mut self, number: usize, request: Request) -> Result<Reply, String> {
        let what = format!("{request:?}").chars().take(60).collect::<String>();
        let id = self.begin_request(number, request);
        let end = self.now + PATIENCE;
        while self.now < end {
            if let Some(result) = self.replies.remove(&id) {
                return result.map_err(|error| format!("{what}: {error}"));
            }
            self.step();
        }
        Err(format!("no answer to {what}"))
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    fn running(&self) -> impl Iterator<Item = (usize, &Process)> {
        self.hosts.iter().enumerate().filter_map(|(number, process)| Some((number, process.as_ref()?)))
    }

    /// Whether the members of every slot are who the ring proposes, as host `number` sees it, and all hosts say so.
    fn settle(&mut self, hosts: usize) -> Result<(), String> {
        let end = self.now + PATIENCE;
        while self.now < end {
            self.run_for(LOOK_EVERY);
            let Some(asked) = self.running().map(|(number, _)| number).next() else { break };
            let Reply::Ring(view) = self.request(asked, Request::Ring)? else { continue };
            let states = view.hosts.iter().filter(|(_, state)| state.takes_part_in_placement()).count();
            if view.settled && states == hosts {
                return Ok(());
            }
        }
        Err("the ring does not settle".into())
    }

    fn form(&mut self) -> Result<(), String> {
        self.start(Start::Found);
        for _ in 1..self.plan.hosts {
            self.start(Start::Join(vec![host(0)]));
        }
        self.settle(self.plan.hosts)
    }

    fn fill(&mut self) -> Result<(), String> {
        let settings = self.settings();
        let mut waiting = Vec::new();
        for number in 0..self.plan.keys {
            let key = Key::new(format!("key-{number}").as_bytes()).map_err(|error| error.to_string())?;
            let bytes: Bytes = self.content(self.plan.value_bytes);
            *self.bytes_of_slots.entry(settings.slots.of_key(&key)).or_default() += bytes.len() as u64;
            waiting.push(Request::Write {
                key,
                operation: Operation::Set(Value::inline(bytes)),
                condition: Condition::None,
                operation_id: OperationId(self.rng.u128(..).to_le_bytes()),
                level: Level::Quorum,
                since: Since::Now,
            });
        }
        for _ in 0..self.plan.blocks {
            let bytes = self.content(self.plan.block_bytes);
            let hash = Hash::of(&bytes);
            *self.bytes_of_slots.entry(settings.slots.of_block(&hash)).or_default() += bytes.len() as u64;
            waiting.push(Request::PutBlock { hash, bytes, referenced: false, generation: 0, level: Level::Quorum });
        }
        for requests in waiting.chunks(64) {
            let via = self.rng.usize(..self.hosts.len());
            let ids: Vec<RequestId> = requests.iter().map(|request| self.begin_request(via, request.clone())).collect();
            let end = self.now + PATIENCE;
            while !ids.iter().all(|id| self.replies.contains_key(id)) {
                self.step();
                if self.now > end {
                    return Err("a write was not answered".into());
                }
            }
            for id in ids {
                if let Some(Err(error)) = self.replies.remove(&id) {
                    return Err(format!("a write failed: {error}"));
                }
            }
        }
        self.settle(self.plan.hosts)
    }

    fn content(&mut self, length: usize) -> Bytes {
        let mut bytes = vec![0; length];
        self.rng.fill(&mut bytes);
        bytes.into()
    }

    /// The members of every slot, as the newest configuration says.
    fn groups(&self) -> Groups {
        let group = |slot: SlotId| {
            let known = self.running().filter_map(|(_, process)| process.peer.keylog().configuration(slot));
            let newest = known.max_by_key(|configuration| configuration.epoch);
            newest.map(|configuration| (slot, configuration.members.iter().copied().collect()))
        };
        self.settings().slots.iter().filter_map(group).collect()
    }

    fn change(
        &mut self,
        what: &'static str,
        act: impl FnOnce(&mut Self) -> Result<Instant, String>,
    ) -> Result<Change, String> {
        let before = self.groups();
        (self.moved, self.sent) = (0, 0);
        let began_at = act(self).map_err(|error| format!("{what}: {error}"))?;
        let after = self.groups();
        let gained = |(slot, members): (&SlotId, &BTreeSet<NodeId>)| {
            let old = before.get(slot).cloned().unwrap_or_default();
            let bytes = self.bytes_of_slots.get(slot).copied().unwrap_or_default();
            members.difference(&old).count() as u64 * bytes
        };
        let least = after.iter().map(gained).sum();
        let slots = after.iter().filter(|(slot, members)| before.get(slot) != Some(members)).count();
        let took = self.now.since(began_at);
        Ok(Change { what, slots, least, moved: self.moved, sent: self.sent, took })
    }

    fn join_one(&mut self) -> Result<Instant, String> {
        let began_at = self.now;
        self.start(Start::Join(vec![host(0)]));
        self.settle(self.plan.hosts + 1)?;
        Ok(began_at)
    }

    fn leave_one(&mut self) -> Result<Instant, String> {
        let began_at = self.now;
        let number = self.plan.hosts / 2;
        self.request(number, Request::Leave)?;
        self.run_for(Duration::from_secs(1));
        self.hosts[number] = None;
        self.settle(self.plan.hosts)?;
        Ok(began_at)
    }

    fn fail_one(&mut self) -> Result<Instant, String> {
        let number = self.plan.hosts / 3;
        self.hosts[number] = None;
        let failed = node(number);
        let end = self.now + PATIENCE;
        let is_given_up = |network: &Self| {
            let states = network.running().filter_map(|(_, process)| process.peer.ring().host(&failed));
            states.into_iter().all(|entry| entry.state.is_away())
        };
        while !is_given_up(self) {
            self.run_for(LOOK_EVERY);
            if self.now > end {
                return Err("the host that failed is not given up".into());
            }
        }
        let began_at = self.now;
        self.settle(self.plan.hosts - 1)?;
        Ok(began_at)
    }
}

/// Bytes of values and of blocks that a message carries.
fn content_bytes(message: &Message) -> u64 {
    let of_transactions = |transactions: &[Transaction]| {
        transactions.iter().filter_map(Transaction::value).map(|value| value.bytes.len() as u64).sum()
    };
    match message {
        Message::Keylog(KeylogMessage::Accept { proposal, .. }) => of_transactions(&proposal.transactions),
        Message::Keylog(KeylogMessage::Transactions { transactions, .. }) => of_transactions(transactions),
        message => block_bytes(message),
    }
}

/// Bytes of a block that a message carries.
fn block_bytes(message: &Message) -> u64 {
    match message {
        Message::Block(BlockMessage::Ask { question: BlockQuestion::Put { bytes, .. }, .. })
        | Message::Block(BlockMessage::Answer { answer: BlockAnswer::Content { bytes: Some(bytes), .. }, .. }) => {
            bytes.len() as u64
        }
        _ => 0,
    }
}
