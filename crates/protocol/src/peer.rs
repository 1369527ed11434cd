//! The peer: what comes in, what goes out, and who deals with it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use difuse_blocks::{BlockRecord, PutDecision};
use difuse_keylog::{
    Configuration, Keylog, KeylogOptions, Output as KeylogOutput, Store, StoreError, TRANSACTIONS_MAX, Ticket, Write,
    WriteSequence,
};
use difuse_ring::{HostEntry, HostState, Ring, RingConfig, RingOutput};
use difuse_types::{BoundedMap, Hash, Host, Instant, NodeId, RingSettings, SlotId, WallTime};

use crate::{
    anchors::Anchors,
    message::Message,
    request::{Reply, Request, RequestError},
};

mod blocks;
mod collection;
mod dump;
mod keys;
mod list;
mod locate;
mod member;
mod overview;
mod queue;
mod quotas;
mod recover;
mod route;
mod scrub;
mod serve;
mod transfer;
mod usage;

pub use quotas::QuotasReached;

/// How many configurations of other nodes' slots, and leaders, a peer remembers.
const REMEMBERED_MAX: usize = 65_536;

/// Room for how many outputs of a batch is made in advance at most.
const OUTPUTS_EXPECTED_MAX: usize = 1024;

/// Names a request that this node coordinates; the runtime chooses it.
pub type RequestId = u64;

/// How a peer is run.
#[derive(Debug, Clone)]
pub struct PeerOptions {
    /// After how long without an answer a node is routed around.
    pub suspect_after: Duration,
    /// After how long a suspect node is replaced.
    pub gone_after: Duration,
    /// For how long a request is tried before it is answered with an error.
    pub request_timeout: Duration,
    /// For how long one node is waited for before another is tried.
    pub attempt_timeout: Duration,
    /// How many requests are coordinated at the same time.
    pub requests_max: usize,
    /// How often a slot's blocks are compared with those of another member, one slot after the other.
    pub compare_every: Duration,
    /// How many slots' blocks are fetched or compared at the same time.
    pub transfers_max: usize,
    /// How many blocks are fetched at the same time.
    pub fetches_max: usize,
    /// How many bytes per second are read and checked again in the background; `None`: only when it is asked for.
    pub scrub_rate: Option<u64>,
    /// See [`KeylogOptions::checkpoint_every`].
    pub checkpoint_every: u64,
    /// See [`KeylogOptions::tombstones_kept`].
    pub tombstones_kept: Option<Duration>,
    /// See [`KeylogOptions::part_transactions_max`].
    pub part_transactions_max: usize,
    /// See [`KeylogOptions::waiting_bytes_max`].
    pub waiting_bytes_max: usize,
    /// A rule that is broken on purpose.
    #[cfg(feature = "controls")]
    pub broken: Option<BrokenRule>,
}

/// A rule that safety rests on, broken on purpose.
#[cfg(feature = "controls")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenRule {
    /// One of the key logs.
    Keylog(difuse_keylog::Rule),
    /// That a successor on the ring is adopted only when it was seen alive.
    CheckedSuccessor,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            suspect_after: Duration::from_secs(1),
            gone_after: Duration::from_secs(300),
            request_timeout: Duration::from_secs(10),
            attempt_timeout: Duration::from_millis(1500),
            requests_max: 16_384,
            compare_every: Duration::from_millis(50),
            transfers_max: 32,
            fetches_max: 32,
            scrub_rate: None,
            checkpoint_every: 1024,
            tombstones_kept: Some(Duration::from_secs(24 * 3600)),
            part_transactions_max: TRANSACTIONS_MAX,
            waiting_bytes_max: 4 << 20,
            #[cfg(feature = "controls")]
            broken: None,
        }
    }
}

/// How a peer begins.
#[derive(Debug, Clone)]
pub enum Start {
    /// Founds a ring.
    Found,
    /// Joins a ring whose members these are.
    Join(Vec<Host>),
    /// Comes back to its ring with what it remembers.
    Resume(Vec<HostEntry>),
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// A peer's message.
    Message {
        /// The sender.
        from: NodeId,
        /// The message.
        message: Message,
    },
    /// A connection to a peer is up.
    Connected(NodeId),
    /// The last connection to a peer is gone.
    Disconnected(NodeId),
    /// All batches up to this one are durable.
    Durable(WriteSequence),
    /// A client of this node asks; the answer is [`Output::Reply`].
    Request {
        /// Names it.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// A block command is done.
    BlockDone {
        /// The command's.
        ticket: u64,
        /// How it went.
        result: BlockResult,
    },
    /// The namespaces that hold as much as they may, instead of those told before: nothing is added to them.
    QuotasReached(QuotasReached),
    /// Nothing but time has passed.
    Tick,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message, best effort.
    Send {
        /// The receiver.
        to: NodeId,
        /// The message.
        message: Message,
    },
    /// Answer a client of this node.
    Reply {
        /// The request's.
        id: RequestId,
        /// The answer.
        result: Result<Reply, RequestError>,
    },
    /// Do something with the blocks on this node's disk, and report it as [`Input::BlockDone`].
    Block {
        /// Names the command.
        ticket: u64,
        /// What to do.
        command: BlockCommand,
    },
    /// Keep a connection to a node.
    Dial {
        /// The node.
        node: NodeId,
        /// Where it is reached.
        address: String,
    },
    /// No connection to this node is needed any more.
    Forget(NodeId),
    /// The host table changed: remember [`Peer::hosts`] over a restart.
    HostsChanged,
    /// This node is a member of the ring now.
    Joined,
    /// Something that a person should know.
    Warn(String),
}

/// What is to be done with the blocks on this node's disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockCommand {
    /// Store a block durably unless a newer record stands against it.
    Put {
        /// Its slot.
        slot: SlotId,
        /// Its hash; the runtime checks it.
        hash: Hash,
        /// Its content.
        bytes: Bytes,
        /// Its record's version.
        version: u64,
        /// Whether a file refers to it.
        referenced: bool,
    },
    /// Read a block and check it against its hash.
    Read {
        /// Its hash.
        hash: Hash,
    },
    /// Read a block from the disk, past everything kept in memory, and check it against its hash.
    Verify {
        /// Its hash.
        hash: Hash,
    },
    /// Read a block's record.
    Stat {
        /// Its hash.
        hash: Hash,
    },
    /// Mark a block as deleted, durably.
    Delete {
        /// Its slot.
        slot: SlotId,
        /// Its hash.
        hash: Hash,
        /// The tombstone's version.
        version: u64,
    },
    /// List a slot's records in the order of hashes.
    List {
        /// The slot.
        slot: SlotId,
        /// The page begins after this hash.
        after: Option<Hash>,
    },
    /// Record a block whose content no member has any more, unless more is known of it here.
    NoteLost {
        /// Its slot.
        slot: SlotId,
        /// Its hash.
        hash: Hash,
        /// What is recorded of it: a lost block.
        record: BlockRecord,
    },
    /// The digest of a slot's records.
    Digest {
        /// The slot.
        slot: SlotId,
    },
    /// Forget all blocks of a slot.
    Clear {
        /// The slot.
        slot: SlotId,
    },
}

/// How a block command went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockResult {
    /// To [`BlockCommand::Put`].
    Put(PutDecision),
    /// To [`BlockCommand::Read`].
    Content {
        /// What is recorded of it.
        record: Option<BlockRecord>,
        /// The content; `None` if it is not there, or was lost.
        bytes: Option<Bytes>,
    },
    /// To [`BlockCommand::Stat`], and to [`BlockCommand::Verify`]: the block is lost if it was found damaged.
    Record(Option<BlockRecord>),
    /// To [`BlockCommand::Delete`], [`BlockCommand::NoteLost`] and [`BlockCommand::Clear`].
    Done,
    /// To [`BlockCommand::Delete`]: a record of this version stands against it.
    Superseded {
        /// The version recorded.
        version: u64,
    },
    /// To [`BlockCommand::List`].
    Page {
        /// Hash and record, in the order of hashes.
        records: Vec<(Hash, BlockRecord)>,
        /// Whether nothing follows.
        is_last: bool,
    },
    /// To [`BlockCommand::Digest`].
    Digest(u128),
    /// The disk is full, and nothing was changed.
    Full(String),
    /// The disk cannot do it.
    Failed(String),
}

/// One peer. See the crate's page.
pub struct Peer<S> {
    pub(crate) me: NodeId,
    pub(crate) options: PeerOptions,
    pub(crate) settings: RingSettings,
    pub(crate) now: Instant,
    pub(crate) wall: WallTime,
    pub(crate) rng: fastrand::Rng,
    pub(crate) ring: Ring,
    pub(crate) keylog: Keylog<S>,
    pub(crate) outputs: Vec<Output>,
    ring_outputs: Vec<RingOutput>,
    /// Empty between calls: what the key logs want is taken out here, in memory that is kept.
    keylog_outputs: Vec<KeylogOutput>,
    /// Messages to this node itself.
    inbox: Vec<Message>,
    is_joined: bool,
    placement_stale: bool,
    /// Names attempts, questions, tickets and commands; never reused. Begins at random, so that no answer to an earlier
    /// life of this node is taken for one to this life.
    last_id: u64,
    /// Requests about keys that this node coordinates.
    pub(crate) keys: BTreeMap<keys::Asker, keys::Pending>,
    /// Which request an attempt at another node belongs to.
    pub(crate) attempts: BTreeMap<u64, keys::Attempted>,
    /// What a job of the key logs, or a command to the disk, is for.
    pub(crate) jobs: BTreeMap<Ticket, serve::Purpose>,
    pub(crate) commands: BTreeMap<u64, member::CommandPurpose>,
    pub(crate) lists: BTreeMap<u64, list::ListLed>,
    pub(crate) block_requests: BTreeMap<RequestId, blocks::BlockRequest>,
    /// Which block request, transfer or comparison a question belongs to.
    pub(crate) questions: BTreeMap<u64, blocks::Asked>,
    pub(crate) overviews: BTreeMap<RequestId, overview::Overview>,
    pub(crate) quotas_reached: QuotasReached,
    /// Writes at level lazy, and what became of them.
    pub(crate) queue: queue::Queue,
    pub(crate) searches: BTreeMap<RequestId, queue::Search>,
    pub(crate) leaves: Vec<RequestId>,
    pub(crate) leave: Option<overview::Leave>,
    pub(crate) transfers: BTreeMap<SlotId, transfer::Transfer>,
    pub(crate) repair: transfer::Repair,
    pub(crate) scrub: scrub::Scrub,
    /// Steps of collections that delete blocks, and how many are left to be.
    pub(crate) deleting: BTreeMap<Ticket, usize>,
    /// Leaders and configurations of slots that this node is no member of, as others told.
    pub(crate) known_leaders: BoundedMap<SlotId, NodeId>,
    pub(crate) lookups: route::Lookups,
    /// What this node, as a sender of writes, was told.
    pub(crate) anchors: Anchors,
    pub(crate) known_configurations: BoundedMap<SlotId, Configuration>,
    next_sweep: Instant,
    next_word_of_room: Instant,
}

impl<S: Store> Peer<S> {
    /// Starts a peer on what `store` holds. `seed` decides every random choice.
    pub fn new(
        host: Host,
        settings: RingSettings,
        options: PeerOptions,
        start: Start,
        store: S,
        now: Instant,
        seed: u64,
    ) -> Result<Self, StoreError> {
        let mut rng = fastrand::Rng::with_seed(seed);
        let me = host.node;
        let config = ring_config(settings, &options);
        let is_founder = matches!(start, Start::Found);
        let ring = match start {
            Start::Found => Ring::found(config, host, now, rng.u64(..)),
            Start::Join(seeds) => Ring::join(config, host, seeds, now, rng.u64(..)),
            Start::Resume(known) => Ring::resume(config, host, known, now, rng.u64(..)),
        };
        let mut keylog = Keylog::new(me, keylog_options(settings, &options), store, now, rng.u64(..))?;
        if is_founder {
            keylog.found()?;
        }
        let first_id = rng.u64(..u64::MAX / 2);
        let mut peer = Self {
            me,
            options,
            settings,
            now,
            wall: WallTime(0),
            rng,
            ring,
            keylog,
            outputs: Vec::new(),
            ring_outputs: Vec::new(),
            keylog_outputs: Vec::new(),
            inbox: Vec::new(),
            is_joined: is_founder,
            placement_stale: true,
            last_id: first_id,
            keys: BTreeMap::new(),
            attempts: BTreeMap::new(),
            jobs: BTreeMap::new(),
            commands: BTreeMap::new(),
            lists: BTreeMap::new(),
            block_requests: BTreeMap::new(),
            questions: BTreeMap::new(),
            overviews: BTreeMap::new(),
            quotas_reached: QuotasReached::new(),
            queue: queue::Queue::default(),
            searches: BTreeMap::new(),
            leaves: Vec::new(),
            leave: None,
            transfers: BTreeMap::new(),
            repair: transfer::Repair::default(),
            scrub: scrub::Scrub::default(),
            deleting: BTreeMap::new(),
            known_leaders: BoundedMap::new(REMEMBERED_MAX),
            lookups: route::Lookups::default(),
            anchors: Anchors::default(),
            known_configurations: BoundedMap::new(REMEMBERED_MAX),
            next_sweep: now,
            next_word_of_room: now,
        };
        peer.load_queue()?;
        peer.load_scrub()?;
        peer.begin()?;
        Ok(peer)
    }

    /// What a restart finds: nodes to dial, blocks to compare, slots left behind to clear.
    fn begin(&mut self) -> Result<(), StoreError> {
        let others: Vec<_> =
            self.ring.hosts().map(|entry| entry.host.clone()).filter(|host| host.node != self.me).collect();
        for host in others {
            self.note_suspicion(host.node)?;
            self.outputs.push(Output::Dial { node: host.node, address: host.address });
        }
        if self.ring.host(&self.me).is_some_and(|own| own.state == HostState::Leaving) {
            self.note_leave();
        }
        let summaries: Vec<_> = self.keylog.summaries().collect();
        for summary in summaries {
            if summary.is_member {
                self.repair.behind.insert(summary.slot);
            } else {
                self.clear_slot(summary.slot)?;
            }
        }
        if self.is_joined {
            self.outputs.push(Output::Joined);
            // A founder has nobody to compare with.
            self.repair.behind.clear();
        }
        self.settle()
    }

    /// Deals with a batch of inputs at one time, in their order; an error means that the store cannot go on.
    pub fn handle(
        &mut self,
        now: Instant,
        wall: WallTime,
        inputs: impl IntoIterator<Item = Input>,
    ) -> Result<Vec<Output>, StoreError> {
        self.now = self.now.max(now);
        self.wall = wall;
        self.keylog.set_time(self.now);
        self.keylog.set_wall_time(wall);
        for input in inputs {
            self.handle_input(input)?;
            self.settle()?;
        }
        self.tick()?;
        self.keylog.finish_batch()?;
        self.settle()?;
        self.keylog.store_mut().flush();
        // As a rule the next batch comes to about as much.
        let next = Vec::with_capacity(self.outputs.len().min(OUTPUTS_EXPECTED_MAX));
        Ok(std::mem::replace(&mut self.outputs, next))
    }

    fn handle_input(&mut self, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Message { from, message } => self.handle_message(from, message),
            Input::Connected(node) => {
                self.ring.handle_connected(self.now, node, &mut self.ring_outputs);
                self.keylog.handle_connected(node);
                Ok(())
            }
            Input::Disconnected(node) => {
                self.ring.handle_disconnected(self.now, node, &mut self.ring_outputs);
                self.retry_attempts_at(node)
            }
            Input::Durable(sequence) => {
                self.keylog.handle_durable(sequence)?;
                self.acknowledge_queued();
                Ok(())
            }
            Input::Request { id, request } => self.handle_request(id, request),
            Input::BlockDone { ticket, result } => self.handle_block_done(ticket, result),
            Input::QuotasReached(reached) => {
                self.quotas_reached = reached;
                Ok(())
            }
            Input::Tick => Ok(()),
        }
    }

    fn handle_message(&mut self, from: NodeId, message: Message) -> Result<(), StoreError> {
        match message {
            Message::Introduce { .. } => {
                let hosts = self.ring.hosts().filter(|entry| is_present(entry.state)).map(|entry| entry.host.clone());
                let hosts = hosts.take(difuse_ring::ENTRIES_PER_PAGE_MAX).collect();
                self.send(from, Message::Welcome { settings: self.settings, hosts });
                Ok(())
            }
            Message::Welcome { .. } => Ok(()),
            Message::Ring(message) => {
                self.ring.handle_message(self.now, from, message, &mut self.ring_outputs);
                Ok(())
            }
            Message::Keylog(message) => self.keylog.handle_message(from, message),
            Message::Request { id, request, .. } => self.serve(from, id, request),
            Message::Response { id, outcome } => self.handle_response(from, id, outcome),
            Message::Block(message) => self.handle_block_message(from, message),
            // It is for the gateway beside this peer.
            Message::Notice(_) => Ok(()),
        }
    }

    /// Works off what the parts have for each other until none has anything left.
    fn settle(&mut self) -> Result<(), StoreError> {
        loop {
            let is_idle = self.ring_outputs.is_empty() && !self.keylog.has_outputs() && self.inbox.is_empty();
            if is_idle && !self.placement_stale {
                return Ok(());
            }
            let (ring_outputs, inbox) = (std::mem::take(&mut self.ring_outputs), std::mem::take(&mut self.inbox));
            let mut keylog_outputs = std::mem::take(&mut self.keylog_outputs);
            self.keylog.swap_outputs(&mut keylog_outputs);
            for output in ring_outputs {
                self.handle_ring_output(output)?;
            }
            for output in keylog_outputs.drain(..) {
                self.handle_keylog_output(output)?;
            }
            self.keylog_outputs = keylog_outputs;
            for message in inbox {
                self.handle_message(self.me, message)?;
            }
            if std::mem::take(&mut self.placement_stale) {
                for slot in self.settings.slots.iter() {
                    self.keylog.handle_placement(slot, self.ring.successors(slot));
                }
            }
        }
    }

    /// Outputs of a call on the ring that were collected apart.
    pub(crate) fn take_ring_outputs(&mut self, outputs: Vec<RingOutput>) {
        self.ring_outputs.extend(outputs);
    }

    fn handle_ring_output(&mut self, output: RingOutput) -> Result<(), StoreError> {
        match output {
            RingOutput::Send { to, message } => self.send(to, Message::Ring(message)),
            RingOutput::HostChanged { entry } => {
                self.outputs.push(Output::HostsChanged);
                // Whoever is new, or hears of this node, must know soon.
                self.next_word_of_room = self.next_word_of_room.min(self.now + Duration::from_millis(20));
                self.note_suspicion(entry.host.node)?;
            }
            RingOutput::Joined => {
                self.is_joined = true;
                self.outputs.push(Output::Joined);
            }
            RingOutput::PlacementChanged => self.placement_stale = true,
            RingOutput::SuspicionChanged { node, .. } => self.note_suspicion(node)?,
            RingOutput::AddressKnown { node, address } => self.outputs.push(Output::Dial { node, address }),
            RingOutput::Forget { node } => self.outputs.push(Output::Forget(node)),
            RingOutput::Refused { by, reason } => {
                self.outputs.push(Output::Warn(format!("node {by} refuses this node: {reason}")));
            }
            RingOutput::LookupDone { lookup, owner, .. } => self.handle_lookup_done(lookup, owner)?,
        }
        Ok(())
    }

    /// Tells the parts whether a node can be counted on: one that is gone or has left cannot, like one that is suspect.
    fn note_suspicion(&mut self, node: NodeId) -> Result<(), StoreError> {
        let is_suspect = node != self.me && self.ring.is_suspect(&node);
        if !self.keylog.handle_suspicion(node, is_suspect)? {
            return Ok(());
        }
        if is_suspect {
            return self.retry_attempts_at(node);
        }
        self.compare_with(node);
        Ok(())
    }

    fn handle_keylog_output(&mut self, output: KeylogOutput) -> Result<(), StoreError> {
        match output {
            KeylogOutput::Send { to, message } => {
                self.send(to, Message::Keylog(message));
                Ok(())
            }
            KeylogOutput::Done { ticket, result } => self.handle_job_done(ticket, result),
            KeylogOutput::Entered { configuration, begins_anew } => self.handle_entered(configuration, begins_anew),
        }
    }

    /// A slot of this node has another configuration.
    fn handle_entered(&mut self, configuration: Configuration, begins_anew: bool) -> Result<(), StoreError> {
        let slot = configuration.slot;
        if begins_anew {
            self.command(BlockCommand::Clear { slot }, member::CommandPurpose::Clear);
        }
        self.transfers.remove(&slot);
        self.repair.behind.remove(&slot);
        self.keylog.handle_placement(slot, self.ring.successors(slot));
        if configuration.collectors().contains(&self.me) {
            self.start_transfer(&configuration);
        } else if !configuration.contains(&self.me) {
            self.clear_slot(slot)?;
        }
        Ok(())
    }

    pub(crate) fn clear_slot(&mut self, slot: SlotId) -> Result<(), StoreError> {
        self.keylog.clear(slot)?;
        self.command(BlockCommand::Clear { slot }, member::CommandPurpose::Clear);
        Ok(())
    }

    /// What time brings.
    fn tick(&mut self) -> Result<(), StoreError> {
        if self.ring.next_wakeup() <= self.now {
            self.ring.handle_tick(self.now, &mut self.ring_outputs);
        }
        self.keylog.handle_tick()?;
        if self.next_sweep <= self.now {
            self.next_sweep = self.now + Duration::from_millis(10);
            self.sweep_keys()?;
            self.sweep_queue()?;
            self.sweep_searches();
            self.sweep_blocks();
            self.sweep_overviews();
            self.sweep_recoveries()?;
            self.sweep_usage()?;
            self.sweep_transfers();
            self.sweep_scrub()?;
            self.sweep_leave();
            self.tell_room();
        }
        self.settle()
    }

    /// Everybody must know which nodes can take over nothing: any of them may be about to give a slot away.
    fn tell_room(&mut self) {
        const TELL_EVERY: Duration = Duration::from_secs(3);
        if self.now < self.next_word_of_room {
            return;
        }
        self.next_word_of_room = self.now + TELL_EVERY;
        let Some(word) = self.keylog.word_of_room() else { return };
        let hosts: Vec<_> = self.ring.hosts().map(|entry| entry.host.node).collect();
        for host in hosts {
            if host != self.me && !self.ring.is_suspect(&host) {
                self.send(host, Message::Keylog(word.clone()));
            }
        }
    }

    /// When [`Peer::handle`] must be called at the latest, even with nothing.
    pub fn next_wakeup(&self) -> Instant {
        self.ring.next_wakeup().min(self.keylog.next_wakeup()).min(self.next_sweep)
    }

    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        if to == self.me {
            self.inbox.push(message);
        } else {
            self.outputs.push(Output::Send { to, message });
        }
    }

    pub(crate) fn reply(&mut self, id: RequestId, result: Result<Reply, RequestError>) {
        self.outputs.push(Output::Reply { id, result });
    }

    pub(crate) fn is_joined(&self) -> bool {
        self.is_joined
    }

    pub(crate) fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn handle_request(&mut self, id: RequestId, request: Request) -> Result<(), StoreError> {
        if self.keys.len() + self.block_requests.len() >= self.options.requests_max {
            self.reply(id, Err(RequestError::Busy));
            return Ok(());
        }
        match request {
            Request::Read { .. }
            | Request::Write { .. }
            | Request::Command { .. }
            | Request::Log { .. }
            | Request::List { .. }
            | Request::Generation { .. }
            | Request::Collection { .. } => self.coordinate(id, request),
            Request::PutBlock { .. }
            | Request::ReadBlock { .. }
            | Request::StatBlock { .. }
            | Request::DeleteBlock { .. }
            | Request::LocateBlock { .. }
            | Request::Locate { .. } => {
                self.coordinate_block(id, request);
                Ok(())
            }
            Request::Operation { operation_id } => {
                self.find_outcome(id, operation_id);
                Ok(())
            }
            Request::Ring => {
                self.start_overview(id);
                Ok(())
            }
            Request::Leave => {
                self.start_leave(id);
                Ok(())
            }
            Request::Dump { after, limit } => self.dump(id, after, limit),
            Request::Scrub { start } => {
                self.answer_scrub(id, start);
                Ok(())
            }
            Request::Routes => {
                let routes = self.routes();
                self.reply(id, Ok(Reply::Routes(Box::new(routes))));
                Ok(())
            }
            Request::Status => {
                let status = self.status()?;
                self.reply(id, Ok(Reply::Status(status)));
                Ok(())
            }
            Request::Recover { first, given_up } => self.start_recovery(id, first, given_up),
            Request::Usage { from, limit } => self.start_usage(id, from, limit),
            Request::ListLed { .. }
            | Request::UsageLed { .. }
            | Request::Survey { .. }
            | Request::BeginEpochs { .. } => {
                self.reply(id, Err(RequestError::Invalid("only nodes ask this of each other".into())));
                Ok(())
            }
        }
    }

    /// This node's identity.
    pub fn id(&self) -> NodeId {
        self.me
    }

    /// What the ring was founded with.
    pub fn settings(&self) -> RingSettings {
        self.settings
    }

    /// The host table, to be remembered over a restart.
    pub fn hosts(&self) -> Vec<HostEntry> {
        self.ring.persistent_state()
    }

    /// The ring, for display and for the simulator's invariants.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The key logs, for display and for the simulator's invariants.
    pub fn keylog(&self) -> &Keylog<S> {
        &self.keylog
    }

    /// Why this node does not serve yet; empty if it does.
    pub fn reasons_not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if !self.is_joined {
            reasons.push("still joining the ring".to_string());
        }
        reasons
    }

    /// Remembers a small named value.
    pub fn remember(&mut self, name: &str, value: Vec<u8>) -> Result<(), StoreError> {
        self.keylog.remember(vec![Write::Meta(name.to_string(), Some(value))])?;
        self.keylog.store_mut().flush();
        Ok(())
    }

    /// Gives the store back, as for a restart.
    pub fn into_store(self) -> S {
        self.keylog.into_store()
    }

    /// The store, for the simulator's disk.
    pub fn store_mut(&mut self) -> &mut S {
        self.keylog.store_mut()
    }
}

fn ring_config(settings: RingSettings, options: &PeerOptions) -> RingConfig {
    let config = RingConfig::new(settings, options.suspect_after, options.gone_after);
    #[cfg(feature = "controls")]
    let config = RingConfig { adopts_unchecked: options.broken == Some(BrokenRule::CheckedSuccessor), ..config };
    config
}

fn keylog_options(settings: RingSettings, options: &PeerOptions) -> KeylogOptions {
    let PeerOptions { checkpoint_every, tombstones_kept, part_transactions_max, waiting_bytes_max, .. } = *options;
    let keylog = KeylogOptions {
        checkpoint_every,
        tombstones_kept,
        part_transactions_max,
        waiting_bytes_max,
        ..KeylogOptions::new(settings.slots)
    };
    #[cfg(feature = "controls")]
    let keylog = match options.broken {
        Some(BrokenRule::Keylog(rule)) => KeylogOptions { broken: Some(rule), ..keylog },
        _ => keylog,
    };
    keylog
}

/// Whether a host can be talked to as far as the table says.
pub(crate) fn is_present(state: HostState) -> bool {
    matches!(state, HostState::Joining | HostState::Up | HostState::Suspect | HostState::Leaving)
}

/// The longest pause before a request is tried again.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How long to pause after `tries` failed: doubled each time, and multiplied by a random `jitter` in thousandths.
fn retry_pause(tries: u32, jitter: u32) -> Duration {
    Duration::from_millis(2 << tries.min(6)).min(PAUSE_MAX) * jitter / 1000
}
