//! One simulated machine: its disks, and the process on it while it runs.

use std::{collections::BTreeSet, time::Duration};

use difuse_keylog::{Store, StoreError, WriteSequence, store::MemoryStore};
use difuse_protocol::{Input, Output, Peer, PeerOptions, Start};
use difuse_ring::HostEntry;
use difuse_types::{Hash, Host, Incarnation, Instant, NodeId, SlotId, WallTime};

use crate::{Plan, block_disk::BlockDisk};

/// The wall-clock time at which every simulation begins.
const WALL_TIME_START_MS: u64 = 1_700_000_000_000;

/// One machine.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    /// Counts its processes from 1.
    pub(crate) life: u64,
    pub(crate) process: Option<Process>,
    /// What is on the disk while no process runs.
    store: Option<MemoryStore>,
    pub(crate) blocks: BlockDisk,
    /// The host table as it was last made durable.
    pub(crate) known_hosts: Vec<HostEntry>,
    pub(crate) flush_max: Duration,
    /// There is no room on its disk.
    is_full: bool,
    /// How far its clock on the wall is ahead.
    wall_skew_ms: i64,
    /// By how many millionths its monotonic clock is fast.
    drift_ppm: i64,
    /// It was a member once: others may be told to join through it.
    pub(crate) has_joined: bool,
    /// A person wants it to leave.
    pub(crate) is_leaving: bool,
    /// It was told that it has left: nobody starts it again.
    pub(crate) has_left: bool,
    /// It left, or lost its disk: it does not come back.
    pub(crate) is_retired: bool,
}

/// A running process.
pub(crate) struct Process {
    pub(crate) peer: Peer<MemoryStore>,
    pub(crate) inbox: Vec<Input>,
    /// When it is to run next.
    pub(crate) next_run: Instant,
    pub(crate) paused_until: Instant,
    pub(crate) dialed: BTreeSet<NodeId>,
    pub(crate) is_joined: bool,
    pub(crate) is_flushing: bool,
    /// The last batch that the disk said to be durable.
    pub(crate) flushed: WriteSequence,
    pub(crate) are_blocks_flushing: bool,
    /// Block writes that wait for a flush: number of the write, ticket, result.
    pub(crate) block_writes: Vec<(u64, u64, difuse_protocol::BlockResult)>,
    pub(crate) hosts_changed: bool,
    /// The simulation's time when its clock said `clock_start`.
    born_at: Instant,
    clock_start: Instant,
    /// How many nanoseconds its clock counts in a millisecond.
    clock_rate: u64,
}

/// Nanoseconds in a millisecond.
const TRUE_RATE: u64 = 1_000_000;

impl Process {
    fn local(&self, now: Instant) -> Instant {
        self.clock_start + scale(now.since(self.born_at), self.clock_rate, TRUE_RATE)
    }

    /// When the peer wants to be called next, in the simulation's time.
    pub(crate) fn wakeup(&self) -> Instant {
        self.born_at + scale(self.peer.next_wakeup().since(self.clock_start), TRUE_RATE, self.clock_rate)
    }
}

/// `time` times `numerator` over `denominator`, rounded up.
fn scale(time: Duration, numerator: u64, denominator: u64) -> Duration {
    let scaled = (time.as_nanos() * u128::from(numerator)).div_ceil(u128::from(denominator));
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

/// The identity of the node of this number in the ring of a seed.
pub(crate) fn node_id(seed: u64, number: usize) -> NodeId {
    NodeId(Hash::of(format!("node {number} of seed {seed}").as_bytes()).0)
}

/// What other nodes know of a node.
pub(crate) fn host(id: NodeId, incarnation: u64) -> Host {
    Host {
        node: id,
        incarnation: Incarnation(incarnation),
        address: format!("{}:1", id.short()),
        http: String::new(),
        zone: String::new(),
        label: id.short(),
    }
}

impl Node {
    pub(crate) fn new(id: NodeId, plan: &Plan, rng: &mut fastrand::Rng) -> Self {
        Self {
            id,
            life: 0,
            process: None,
            store: Some(MemoryStore::new()),
            blocks: BlockDisk::default(),
            known_hosts: Vec::new(),
            flush_max: plan.flush_max,
            is_full: false,
            wall_skew_ms: if plan.tombstones_kept.is_some() { 0 } else { rng.i64(..10_000_000) },
            drift_ppm: rng.i64(-i64::from(plan.drift_ppm_max)..=i64::from(plan.drift_ppm_max)),
            has_joined: false,
            is_leaving: false,
            has_left: false,
            is_retired: false,
        }
    }

    /// Starts a process on what the disk holds. `seeds` are used by a node that remembers no ring.
    pub(crate) fn start(
        &mut self,
        plan: &Plan,
        is_founder: bool,
        seeds: Vec<Host>,
        now: Instant,
        rng: &mut fastrand::Rng,
    ) -> Result<(), StoreError> {
        let Some(store) = self.store.take() else { return Ok(()) };
        self.life += 1;
        let options = PeerOptions {
            gone_after: plan.gone_after,
            request_timeout: plan.request_timeout,
            #[cfg(feature = "controls")]
            broken: plan.broken.map(crate::Control::rule),
            checkpoint_every: plan.checkpoint_every,
            tombstones_kept: plan.tombstones_kept,
            part_transactions_max: plan.part_transactions_max,
            waiting_bytes_max: plan.waiting_bytes_max,
            ..PeerOptions::default()
        };
        // Who remembers nobody but itself joins anew.
        let is_known = self.known_hosts.iter().any(|entry| is_founder || entry.host.node != self.id);
        let start = match is_known {
            true => Start::Resume(self.known_hosts.clone()),
            false if is_founder => Start::Found,
            false => Start::Join(seeds),
        };
        // Every process has a clock of its own.
        let clock_start = Instant(rng.u64(1_000_000_000..1_000_000_000_000));
        let mut peer =
            Peer::new(host(self.id, self.life), plan.settings, options, start, store, clock_start, rng.u64(..))?;
        if is_founder && !is_known {
            // A ring that nobody remembers was not founded.
            peer.store_mut().flush_all();
            self.known_hosts = peer.hosts();
        }
        let sequence = peer.store_mut().durable();
        self.process = Some(Process {
            peer,
            inbox: vec![Input::Durable(sequence)],
            next_run: Instant(u64::MAX),
            paused_until: now,
            dialed: BTreeSet::new(),
            is_joined: false,
            is_flushing: false,
            flushed: sequence,
            are_blocks_flushing: false,
            block_writes: Vec::new(),
            hosts_changed: false,
            born_at: now,
            clock_start,
            clock_rate: TRUE_RATE.saturating_add_signed(self.drift_ppm),
        });
        Ok(())
    }

    /// Lets the process deal with what came in.
    pub(crate) fn run(&mut self, now: Instant) -> Result<Vec<Output>, StoreError> {
        let wall = WallTime((WALL_TIME_START_MS + now.0 / 1_000_000).saturating_add_signed(self.wall_skew_ms));
        let Some(process) = &mut self.process else { return Ok(Vec::new()) };
        process.next_run = Instant(u64::MAX);
        let local = process.local(now);
        process.peer.handle(local, wall, process.inbox.drain(..))
    }

    /// Ends the process without a word. Of what was not flushed, the first writes may have reached the disk.
    pub(crate) fn crash(&mut self, rng: &mut fastrand::Rng) {
        let Some(process) = self.process.take() else { return };
        let mut store = process.peer.into_store();
        let unflushed = (store.written().0 - store.durable().0) as usize;
        store.crash_torn(if rng.bool() { 0 } else { rng.usize(..=unflushed) });
        self.store = Some(store);
        self.blocks.crash(if rng.bool() { 0 } else { rng.usize(..=8) });
    }

    /// From now on there is no room on its disks, or there is again.
    pub(crate) fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
        self.blocks.set_full(is_full);
        if let Some(process) = &mut self.process {
            process.peer.store_mut().set_full(is_full);
        }
    }

    /// Whether a process could start: without room it cannot even count up its incarnation.
    pub(crate) fn can_start(&self) -> bool {
        self.process.is_none() && !self.has_left && !self.is_retired && !self.is_full
    }

    pub(crate) fn jump_clock(&mut self, by_ms: i64) {
        self.wall_skew_ms += by_ms;
    }

    /// What is on the disk, whether or not a process runs.
    pub(crate) fn disk(&self) -> Option<&MemoryStore> {
        self.process.as_ref().map(|process| process.peer.keylog().store()).or(self.store.as_ref())
    }

    /// The configurations on the disk.
    pub(crate) fn configurations(&self) -> Vec<difuse_keylog::SlotRecord> {
        self.disk().and_then(|store| store.slots().ok()).unwrap_or_default()
    }

    /// What is on the disk of a slot's configuration.
    pub(crate) fn record(&self, slot: SlotId) -> Option<difuse_keylog::SlotRecord> {
        self.disk().and_then(|store| store.slot(slot).ok().flatten())
    }

    /// Whether it holds any key or block of a slot.
    pub(crate) fn holds(&self, slot: SlotId) -> bool {
        let size = self.disk().and_then(|store| store.size(slot).ok()).unwrap_or_default();
        size.keys > 0 || self.blocks.count(slot) > 0
    }

    /// How long its next flush takes.
    pub(crate) fn flush_delay(&self, rng: &mut fastrand::Rng) -> Duration {
        Duration::from_nanos(rng.u64(50_000..=self.flush_max.as_nanos() as u64))
    }

    /// The last batch that its store was given.
    pub(crate) fn written(&mut self) -> WriteSequence {
        self.process.as_mut().map_or(WriteSequence(0), |process| process.peer.store_mut().written())
    }
}
