//! A datastore in memory, for the tests of whatever is built on [`Datastore`]: real transactions with real hashes and
//! all conditions, but one node, no replicas and no disk.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use difuse_blocks::{BlockRecord, Inode, version_in_generation};
use difuse_keylog::{Checkpoint, Operation, Transaction, ValueKind, store::weigh};
use difuse_protocol::request::{
    BlockHolding, BlockLocated, CollectionReply, CollectionStep, Condition, DumpCursor, DumpItem, Entry, Holding,
    ListEntry, Located, Moving, NamespaceUsage, OperationOutcome, OperationState, PAGE_MAX, Reading, Recovery, Reply,
    Request, RequestError, RingView, Routes, ScrubReport, Usage, UsagePage,
};
use difuse_ring::HostState;
use difuse_structures::Registry;
use difuse_types::{
    Hash, Host, Incarnation, Key, Level, NodeId, OperationId, RingId, RingSettings, SlotId, Space, WallTime,
};

use crate::Datastore;

mod commands;

/// Every transaction whose height is a multiple of this is a checkpoint.
const CHECKPOINT_EVERY: u64 = 100;
/// The longest block, in bytes.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// The datastore in memory. Reads at levels lazy and leader say that they are not linearizable; writes at level lazy wait
/// for [`FakeDatastore::apply_queued`].
pub struct FakeDatastore {
    state: Mutex<State>,
    in_flight: AtomicUsize,
    in_flight_max: AtomicUsize,
}

struct State {
    logs: BTreeMap<Key, Vec<Transaction>>,
    blocks: BTreeMap<Hash, StoredBlock>,
    failures: VecDeque<RequestError>,
    settings_failures: VecDeque<RequestError>,
    listing_failure: Option<(Key, RequestError)>,
    queued: VecDeque<Request>,
    outcomes: BTreeMap<OperationId, OperationOutcome>,
    scrub_report: ScrubReport,
    /// Of all slots.
    generation: u64,
    calls: usize,
    clock_ms: u64,
    registry: Registry,
    replies: BTreeMap<OperationId, Reply>,
}

impl State {
    fn new(registry: Registry) -> Self {
        Self {
            logs: BTreeMap::new(),
            blocks: BTreeMap::new(),
            failures: VecDeque::new(),
            settings_failures: VecDeque::new(),
            listing_failure: None,
            queued: VecDeque::new(),
            outcomes: BTreeMap::new(),
            scrub_report: ScrubReport::default(),
            generation: 0,
            calls: 0,
            clock_ms: 0,
            registry,
            replies: BTreeMap::new(),
        }
    }
}

struct StoredBlock {
    bytes: Bytes,
    referenced: bool,
    version: u64,
}

impl Default for FakeDatastore {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeDatastore {
    /// The node that answers.
    pub const NODE: NodeId = NodeId([1; 32]);

    /// An empty one.
    pub fn new() -> Self {
        Self::with_registry(Registry::builtin())
    }

    /// An empty one that evaluates the commands of `registry`.
    pub fn with_registry(registry: Registry) -> Self {
        Self {
            state: Mutex::new(State::new(registry)),
            in_flight: AtomicUsize::new(0),
            in_flight_max: AtomicUsize::new(0),
        }
    }

    /// Empties it: it is as [`FakeDatastore::with_registry`] made it.
    pub fn clear(&self) {
        let mut state = self.state();
        let registry = std::mem::replace(&mut state.registry, Registry::empty());
        *state = State::new(registry);
        self.in_flight_max.store(0, Ordering::Relaxed);
    }

    /// What the ring was founded with.
    ///
    /// # Panics
    /// Never: the settings are constant and valid.
    pub fn settings() -> RingSettings {
        RingSettings::new(RingId(Hash::of(b"fake")), 1, 1024, 8).expect("constant settings are valid")
    }

    /// The next call fails with `error`; several are used up in order. Reads of the settings of namespaces, which come
    /// before others that name no level, neither fail so nor count as calls.
    pub fn fail_next(&self, error: RequestError) {
        self.state().failures.push_back(error);
    }

    /// The next read of the settings of a namespace fails with `error`.
    pub fn fail_settings(&self, error: RequestError) {
        self.state().settings_failures.push_back(error);
    }

    /// The page of a listing that begins after `key` fails with `error`.
    pub fn fail_listing_after(&self, key: Key, error: RequestError) {
        self.state().listing_failure = Some((key, error));
    }

    /// How many requests were served so far.
    pub fn calls(&self) -> usize {
        self.state().calls
    }

    /// How many blocks are stored.
    pub fn block_count(&self) -> usize {
        self.state().blocks.len()
    }

    /// The most requests that were ever served at the same time.
    pub fn in_flight_max(&self) -> usize {
        self.in_flight_max.load(Ordering::Relaxed)
    }

    /// Changes the transaction at `height` of the log of `key`, as a liar or a broken disk would; its hash changes.
    pub fn tamper_with(&self, key: &Key, height: u64) {
        let mut state = self.state();
        let log = state.logs.get_mut(key).into_iter().flatten();
        log.filter(|transaction| transaction.height == height).for_each(|transaction| transaction.time.0 += 1);
    }

    /// Forgets the log of `key` below `height`, a multiple of 100: those transactions are checkpoints.
    pub fn prune(&self, key: &Key, height: u64) {
        if let Some(log) = self.state().logs.get_mut(key) {
            log.retain(|transaction| transaction.height >= height);
        }
    }

    /// Forgets all blocks, as if every replica had lost them.
    pub fn lose_all_blocks(&self) {
        self.state().blocks.clear();
    }

    /// The ring is in this generation, as after so many collections.
    pub fn raise_to(&self, generation: u64) {
        self.state().generation = generation;
    }

    /// Applies or refuses the writes that wait, as if the group were back.
    pub fn apply_queued(&self) {
        let mut state = self.state();
        while let Some(request) = state.queued.pop_front() {
            state.apply(request);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `length` bytes that do not repeat, the same for the same `seed`.
pub fn content(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        // xorshift64: enough for content that must not repeat itself.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(length).collect()
}

#[async_trait]
impl Datastore for FakeDatastore {
    async fn call(&self, request: Request) -> Result<Reply, RequestError> {
        let now = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.in_flight_max.fetch_max(now, Ordering::Relaxed);
        yield_once().await;
        let outcome = self.state().serve(request);
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        outcome
    }
}

/// Lets other futures of the same task run, so that requests really overlap.
async fn yield_once() {
    let mut yielded = false;
    futures::future::poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

impl State {
    fn serve(&mut self, request: Request) -> Result<Reply, RequestError> {
        if let Request::Read { key, level, .. } = &request
            && key.settings_of().is_some()
        {
            return self.settings_failures.pop_front().map_or_else(|| self.read(key, *level), Err);
        }
        self.calls += 1;
        if let Some(error) = self.failures.pop_front() {
            return Err(error);
        }
        let queued = request.clone();
        match request {
            Request::Read { key, level, .. } => self.read(&key, level),
            Request::Write { key, operation_id, level: Level::Lazy, .. } => {
                self.outcomes.insert(operation_id, OperationOutcome { key, state: OperationState::Queued });
                self.queued.push_back(queued);
                Ok(Reply::Queued { operation_id })
            }
            Request::Write { key, operation, condition, operation_id, .. } => {
                self.write(key, operation, condition, operation_id)
            }
            Request::Command { key, arguments, operation_id, .. } => self.command(key, &arguments, operation_id),
            Request::Operation { operation_id } => Ok(Reply::Operation(self.outcomes.get(&operation_id).cloned())),
            Request::Log { key, from_height, limit } => self.log(&key, from_height, limit),
            Request::List { after: Some(after), .. }
                if self.listing_failure.as_ref().is_some_and(|(key, _)| *key == after) =>
            {
                self.listing_failure.take().map_or(Ok(Reply::Done), |(_, error)| Err(error))
            }
            Request::List { prefix, after, limit, slot } => Ok(self.list(&prefix, after.as_ref(), limit, slot)),
            Request::Usage { from, limit } => Ok(Reply::Usage(self.usage(&from, limit))),
            Request::Locate { key } => Ok(self.locate(&key)),
            Request::PutBlock { hash, bytes, referenced, generation, .. } => {
                self.put_block(hash, bytes, referenced, generation)
            }
            Request::Generation { .. } => Ok(Reply::Collection(CollectionReply::Generation(self.generation))),
            Request::Collection { slot, step } => Ok(Reply::Collection(self.collection_step(slot, step))),
            Request::ReadBlock { hash, .. } => {
                Ok(Reply::Block(self.blocks.get(&hash).map(|block| block.bytes.clone())))
            }
            Request::StatBlock { hash } => Ok(Reply::BlockStat(self.record(&hash))),
            Request::DeleteBlock { hash, .. } => self.delete_block(hash),
            Request::LocateBlock { hash } => Ok(Reply::BlockLocated(BlockLocated {
                slot: FakeDatastore::settings().slots.of_block(&hash),
                epoch: 1,
                holdings: vec![BlockHolding { node: FakeDatastore::NODE, record: self.record(&hash), answered: true }],
            })),
            Request::Ring => Ok(Reply::Ring(Box::new(ring_view()))),
            Request::Routes => Ok(Reply::Routes(Box::new(routes()))),
            Request::Leave => Ok(Reply::Done),
            Request::Recover { .. } => {
                Ok(Reply::Recovery(Box::new(Recovery { slots: Vec::new(), unreached: [].into(), next: None })))
            }
            Request::Dump { after, limit } => Ok(self.dump(after.as_ref(), limit)),
            Request::Scrub { start } => {
                let report = &mut self.scrub_report;
                // A pass is over the second time that somebody looks.
                *report = match start {
                    true => {
                        ScrubReport { pass: report.pass + 1, is_running: true, is_asked_for: true, ..report.clone() }
                    }
                    false => ScrubReport { is_running: false, ..report.clone() },
                };
                Ok(Reply::Scrub(Box::new(report.clone())))
            }
            // What only nodes ask of each other.
            _ => Err(RequestError::Invalid("the datastore in memory does not serve this request".into())),
        }
    }

    fn apply(&mut self, request: Request) {
        let Request::Write { key, operation, condition, operation_id, .. } = request else { return };
        let state = match self.write(key.clone(), operation, condition, operation_id) {
            Ok(Reply::Written { height, hash, .. }) => OperationState::Applied { height, hash },
            Err(error @ RequestError::Conflict { current }) => {
                OperationState::Refused { reason: error.to_string(), current }
            }
            other => OperationState::Refused { reason: format!("{other:?}"), current: None },
        };
        self.outcomes.insert(operation_id, OperationOutcome { key, state });
    }

    fn usage(&self, from: &str, limit: u32) -> UsagePage {
        let mut sums: BTreeMap<&str, Usage> = BTreeMap::new();
        for (key, log) in self.logs.iter().filter(|(key, _)| key.space() == Space::Keys && key.namespace() >= from) {
            let weight = log.iter().fold(None, |before, transaction| {
                weigh(transaction, before, |inode| Inode::decode(inode).ok().map(|inode| inode.size))
            });
            let is_there = log.last().is_some_and(|last| last.value().is_some());
            if is_there {
                sums.entry(key.namespace()).or_default().replace(key, None, weight.or(Some(0)));
            }
        }
        let mut all = sums.into_iter().map(|(namespace, usage)| NamespaceUsage { namespace: namespace.into(), usage });
        let namespaces = all.by_ref().take(limit as usize).collect();
        UsagePage { namespaces, next: all.next().map(|one| one.namespace) }
    }

    fn read(&self, key: &Key, level: Level) -> Result<Reply, RequestError> {
        let is_linearizable = matches!(level, Level::Quorum | Level::All);
        Ok(Reply::Entry(Reading { entry: self.head(key).map(entry), is_linearizable, mark: None }))
    }

    fn write(
        &mut self,
        key: Key,
        operation: Operation,
        condition: Condition,
        operation_id: OperationId,
    ) -> Result<Reply, RequestError> {
        if !key.is_written_by_users() {
            return Err(RequestError::Invalid("what the ring keeps about itself is not written from outside".into()));
        }
        if !operation.is_well_formed() {
            return Err(RequestError::Invalid("the value is too long".into()));
        }
        if let Some(index) = self.find_operation(&key, operation_id) {
            return Ok(self.written(&key, index));
        }
        if let Operation::Set(value) = &operation
            && let Ok(inode) = Inode::decode(&value.bytes)
            && value.kind == ValueKind::Inode
            && inode.has_blocks()
            && inode.generation + 1 < self.generation
        {
            return Err(RequestError::UploadTooOld { generation: self.generation });
        }
        let current = self.head(&key).map(|head| (head.height, head.hash(), head.value().is_some()));
        if !holds(condition, current) {
            return Err(RequestError::Conflict { current });
        }
        let (height, previous) = current.map_or((1, Hash::ZERO), |(height, hash, _)| (height + 1, hash));
        self.clock_ms += 1;
        let time = WallTime(1_700_000_000_000 + self.clock_ms);
        let author = FakeDatastore::NODE;
        let checkpoint = if height.is_multiple_of(CHECKPOINT_EVERY) { operation.state_hash() } else { None };
        let transaction =
            Transaction { key: key.clone(), height, previous, operation, author, time, operation_id, checkpoint };
        let log = self.logs.entry(key.clone()).or_default();
        log.push(transaction);
        let index = log.len() - 1;
        Ok(self.written(&key, index))
    }

    fn find_operation(&self, key: &Key, operation_id: OperationId) -> Option<usize> {
        self.logs.get(key)?.iter().position(|transaction| transaction.operation_id == operation_id)
    }

    fn written(&self, key: &Key, index: usize) -> Reply {
        let log = &self.logs[key];
        let created = index == 0 || log[index - 1].value().is_none();
        Reply::Written { height: log[index].height, hash: log[index].hash(), created, mark: None }
    }

    fn head(&self, key: &Key) -> Option<&Transaction> {
        self.logs.get(key)?.last()
    }

    fn log(&self, key: &Key, from_height: u64, limit: u32) -> Result<Reply, RequestError> {
        let first = self.logs.get(key).and_then(|log| log.first()).filter(|first| first.height > from_height.max(1));
        if let Some((first, state)) = first.and_then(|first| Some((first, first.checkpoint?))) {
            return Err(RequestError::Pruned(Checkpoint { height: first.height, hash: first.hash(), state }));
        }
        let log = self.logs.get(key).into_iter().flatten();
        let wanted = log.filter(|one| one.height >= from_height).take(page_length(limit));
        Ok(Reply::Log {
            transactions: wanted.cloned().collect(),
            head_height: self.head(key).map_or(0, |head| head.height),
        })
    }

    fn list(&self, prefix: &[u8], after: Option<&Key>, limit: u32, slot: Option<SlotId>) -> Reply {
        let slots = FakeDatastore::settings().slots;
        let mut matching = self.logs.iter().filter(|(key, log)| {
            key.encoded().starts_with(prefix)
                && after.is_none_or(|after| *key > after)
                && slot.is_none_or(|slot| slots.of_key(key) == slot)
                && log.last().is_some_and(|head| head.value().is_some())
        });
        let entries: Vec<_> = matching
            .by_ref()
            .take(page_length(limit))
            .filter_map(|(key, log)| Some(ListEntry { key: key.clone(), entry: entry(log.last()?) }))
            .collect();
        let more = matching.next().is_some();
        let next = entries.last().filter(|_| more).map(|last| last.key.clone());
        Reply::List { entries, next }
    }

    fn locate(&self, key: &Key) -> Reply {
        let node = FakeDatastore::NODE;
        let head = self.head(key).map(|head| (head.height, head.hash()));
        Reply::Located(Located {
            slot: FakeDatastore::settings().slots.of_key(key),
            epoch: 1,
            leader: node,
            members: vec![node],
            joint: Vec::new(),
            holdings: vec![Holding { node, head, answered: true }],
        })
    }

    fn put_block(
        &mut self,
        hash: Hash,
        bytes: Bytes,
        referenced: bool,
        generation: u64,
    ) -> Result<Reply, RequestError> {
        let actual = Hash::of(&bytes);
        if actual != hash {
            return Err(RequestError::WrongHash { expected: hash, actual });
        }
        if bytes.len() > BLOCK_BYTES_MAX {
            return Err(RequestError::Invalid(format!("the block is {} bytes long", bytes.len())));
        }
        let created = !self.blocks.contains_key(&hash);
        let version = version_in_generation(generation);
        let block = self.blocks.entry(hash).or_insert(StoredBlock { bytes, referenced, version });
        block.referenced |= referenced;
        block.version = block.version.max(version);
        Ok(Reply::BlockPut { created })
    }

    fn record(&self, hash: &Hash) -> Option<BlockRecord> {
        let block = self.blocks.get(hash)?;
        let length = u32::try_from(block.bytes.len()).unwrap_or(u32::MAX);
        Some(BlockRecord { version: block.version, present: true, referenced: block.referenced, lost: false, length })
    }

    fn delete_block(&mut self, hash: Hash) -> Result<Reply, RequestError> {
        if self.blocks.get(&hash).is_some_and(|block| block.referenced) {
            return Err(RequestError::BlockReferenced { hash });
        }
        Ok(Reply::BlockDeleted { existed: self.blocks.remove(&hash).is_some() })
    }

    fn collection_step(&mut self, slot: SlotId, step: CollectionStep) -> CollectionReply {
        let slots = FakeDatastore::settings().slots;
        match step {
            CollectionStep::Look => CollectionReply::Generation(self.generation),
            CollectionStep::Raise { generation } => {
                self.generation = self.generation.max(generation);
                CollectionReply::Generation(self.generation)
            }
            // Nothing is ever under way here.
            CollectionStep::Seal { .. } => CollectionReply::Sealed { is_sealed: true, silent: Vec::new() },
            CollectionStep::List { after } => {
                let of_slot = self.blocks.keys().filter(|hash| slots.of_block(hash) == slot && Some(**hash) > after);
                let records = of_slot.filter_map(|hash| Some((*hash, self.record(hash)?))).collect();
                CollectionReply::Blocks { records, is_last: true }
            }
            CollectionStep::Delete { blocks } => {
                for (hash, version) in blocks {
                    if self.blocks.get(&hash).is_some_and(|block| block.version <= version) {
                        self.blocks.remove(&hash);
                    }
                }
                CollectionReply::Done
            }
        }
    }

    fn dump(&self, after: Option<&DumpCursor>, limit: u32) -> Reply {
        let slots = FakeDatastore::settings().slots;
        let keys = self.logs.iter().filter_map(|(key, log)| {
            let head = log.last()?;
            Some(DumpItem::Key { slot: slots.of_key(key), key: key.clone(), height: head.height, hash: head.hash() })
        });
        let blocks = self.blocks.keys().filter_map(|hash| {
            Some(DumpItem::Block { slot: slots.of_block(hash), hash: *hash, record: self.record(hash)? })
        });
        let mut items: Vec<_> = keys.chain(blocks).collect();
        items.sort_by_key(dump_order);
        items.retain(|item| after.is_none_or(|after| dump_order(item) > cursor_order(after)));
        let more = items.len() > page_length(limit);
        items.truncate(page_length(limit));
        let next = items.last().filter(|_| more).map(|item| match item {
            DumpItem::Key { slot, key, .. } => DumpCursor::Key(*slot, key.clone()),
            DumpItem::Block { slot, hash, .. } => DumpCursor::Block(*slot, Some(*hash)),
        });
        Reply::Dump { items, next }
    }
}

/// By slot; within it registers, then blocks.
fn dump_order(item: &DumpItem) -> (SlotId, u8, Bytes) {
    match item {
        DumpItem::Key { slot, key, .. } => (*slot, 0, key.encoded().clone()),
        DumpItem::Block { slot, hash, .. } => (*slot, 1, Bytes::copy_from_slice(hash.as_bytes())),
    }
}

fn cursor_order(cursor: &DumpCursor) -> (SlotId, u8, Bytes) {
    match cursor {
        DumpCursor::Key(slot, key) => (*slot, 0, key.encoded().clone()),
        DumpCursor::Block(slot, hash) => {
            (*slot, 1, hash.map(|hash| Bytes::copy_from_slice(hash.as_bytes())).unwrap_or_default())
        }
    }
}

fn page_length(limit: u32) -> usize {
    limit.min(PAGE_MAX) as usize
}

fn holds(condition: Condition, current: Option<(u64, Hash, bool)>) -> bool {
    let has_value = current.is_some_and(|(_, _, has_value)| has_value);
    match condition {
        Condition::None => true,
        Condition::Absent => !has_value,
        Condition::Present => has_value,
        Condition::Head(expected) => current.is_some_and(|(_, hash, _)| hash == expected),
    }
}

fn entry(head: &Transaction) -> Entry {
    Entry { height: head.height, hash: head.hash(), time: head.time, author: head.author, value: head.value().cloned() }
}

fn host() -> Host {
    Host {
        node: FakeDatastore::NODE,
        incarnation: Incarnation(1),
        address: "127.0.0.1:4624".into(),
        http: "127.0.0.1:9090".into(),
        zone: "zone".into(),
        label: FakeDatastore::NODE.to_string(),
    }
}

fn ring_view() -> RingView {
    RingView {
        node: FakeDatastore::NODE,
        settings: FakeDatastore::settings(),
        settled: true,
        slots_short: 0,
        moving: Moving::default(),
        keys_damaged: 0,
        short_of_room: Vec::new(),
        tombstones: 0,
        hosts: vec![(host(), HostState::Up)],
    }
}

fn routes() -> Routes {
    let settings = FakeDatastore::settings();
    let leaders = settings.slots.iter().map(|_| 0).collect();
    Routes { settings, hosts: vec![(host(), HostState::Up)], leaders }
}
