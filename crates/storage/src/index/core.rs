use std::{
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use difuse_keylog::StoreError;

use super::{Index, Pending, checkpoint, put_checkpoint, recover};
use crate::{
    Database, OpenError, Options,
    log::{Admission, Checkpoint, Location, Log, LogOptions, OnDurable, SegmentFiles},
};

/// What an update of the index takes on the disk at most, besides twice what it moves there.
const INDEX_ROOM_BYTES: u64 = 4 << 20;
/// How often a write that waits for the index looks whether the log failed.
const CHECK_EVERY: Duration = Duration::from_millis(50);

/// A log, its index and what is between them, with the thread that moves records to the index. It must be stopped.
#[derive(Debug)]
pub(crate) struct Core<I: Index> {
    pub log: Log,
    pub files: Arc<SegmentFiles>,
    pub index: I,
    layers: Mutex<Layers<I::Pending>>,
    /// The thread has something to do.
    wake: Condvar,
    /// The thread is done with something.
    drained: Condvar,
    options: Options,
    thread: Mutex<Option<JoinHandle<()>>>,
    database: Arc<Database>,
    /// How many bytes of the log were given up.
    freed: AtomicU64,
}

/// What is not in the index yet.
#[derive(Debug)]
pub(crate) struct Layers<P> {
    /// What grows.
    pub active: P,
    /// What is being moved to the index; older than `active`.
    pub frozen: Option<Arc<P>>,
    /// Up to where the index knows the log, durably.
    indexed: Checkpoint,
    /// The thread ends when there is nothing left.
    stop: bool,
    /// The thread ends at once.
    crash: bool,
}

/// What a core is opened with.
pub(crate) struct CoreParts<I> {
    pub directory: PathBuf,
    pub index: I,
    pub segment_bytes: u32,
    /// See [`LogOptions::makes_room`].
    pub makes_room: bool,
    pub database: Arc<Database>,
    pub on_durable: OnDurable,
}

impl<P: Pending> Layers<P> {
    /// The newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &P> + Clone {
        [Some(&self.active), self.frozen.as_deref()].into_iter().flatten()
    }

    fn bytes(&self) -> usize {
        self.newest_first().map(P::bytes).sum()
    }
}

impl<I: Index> Core<I> {
    /// Recovers the index and starts the threads.
    pub fn open(parts: CoreParts<I>, options: &Options) -> Result<Arc<Self>, OpenError> {
        let CoreParts { directory, index, segment_bytes, makes_room, database, on_durable } = parts;
        let files = Arc::new(SegmentFiles::new(directory.clone()));
        index.prepare(&files).map_err(|error| OpenError::index(&directory, &error))?;
        let active = recover(&files, &index, options.index_after_bytes)?;
        let indexed = checkpoint(index.tree()).map_err(|error| OpenError::index(&directory, &error))?;
        let indexed = indexed.map_or(Checkpoint::START, |(end, _)| end);
        let (queued_bytes_max, reserve_bytes) = (options.queued_bytes_max, options.reserve_bytes);
        let log_options = LogOptions { segment_bytes, queued_bytes_max, reserve_bytes, makes_room };
        let io_error = |error| OpenError::io(&directory, error);
        let log = Log::start(files.clone(), log_options, active.end(), on_durable).map_err(io_error)?;
        let core = Arc::new(Self {
            log,
            files,
            index,
            layers: Mutex::new(Layers { active, frozen: None, indexed, stop: false, crash: false }),
            wake: Condvar::new(),
            drained: Condvar::new(),
            options: options.clone(),
            thread: Mutex::new(None),
            database,
            freed: AtomicU64::new(0),
        });
        let for_thread = core.clone();
        let thread = thread::Builder::new().name("difuse-index".to_string()).spawn(move || for_thread.run());
        *core.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread.map_err(io_error)?);
        Ok(core)
    }

    pub fn lock(&self) -> MutexGuard<'_, Layers<I::Pending>> {
        self.layers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The layers, once there is room in memory and in the log's queue.
    pub fn lock_with_room(&self, admission: Admission) -> Result<MutexGuard<'_, Layers<I::Pending>>, StoreError> {
        self.log.wait_for_room(admission)?;
        let mut layers = self.lock();
        while layers.bytes() > self.options.unindexed_bytes_max {
            self.log.check()?;
            self.wake.notify_one();
            let waited = self.drained.wait_timeout(layers, CHECK_EVERY);
            layers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(layers)
    }

    /// After something was added to the active layer, which had `before` bytes.
    pub fn added(&self, layers: MutexGuard<'_, Layers<I::Pending>>, before: usize) {
        let is_enough = layers.active.bytes() >= self.options.index_after_bytes;
        drop(layers);
        if before == 0 || is_enough {
            self.wake.notify_one();
        }
    }

    /// Up to where the index knows the log, durably.
    pub fn indexed(&self) -> Checkpoint {
        self.lock().indexed
    }

    /// Waits until the index knows the record `sequence`, durably; `false` if that is given up because `is_over` says so.
    pub fn wait_indexed(&self, sequence: u64, is_over: impl Fn() -> bool) -> Result<bool, StoreError> {
        let mut layers = self.lock();
        while layers.indexed.sequence < sequence {
            self.log.check()?;
            if is_over() {
                return Ok(false);
            }
            self.wake.notify_one();
            let waited = self.drained.wait_timeout(layers, CHECK_EVERY);
            layers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(true)
    }

    /// How many bytes of the log were given up since the store was opened, less those that
    /// [`Core::forget_freed`] was told of.
    pub fn freed_bytes(&self) -> u64 {
        self.freed.load(Ordering::Relaxed)
    }

    /// The files from which so many bytes were given up are clean.
    pub fn forget_freed(&self, bytes: u64) {
        let less = |freed: u64| Some(freed.saturating_sub(bytes));
        let _ = self.freed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Writes, flushes and indexes everything, and ends the threads; if `crash`, ends them at once.
    pub fn stop(&self, crash: bool) {
        self.log.stop(crash);
        {
            let mut layers = self.lock();
            layers.stop = true;
            layers.crash |= crash;
        }
        self.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the indexer panicked");
        }
    }

    fn run(&self) {
        let _guard = PoisonWhenPanicking(&self.log);
        let mut indexed = self.indexed();
        while let Some(frozen) = self.freeze() {
            if !self.wait_for_index_room(frozen.bytes()) {
                // What is not indexed is replayed from the log at the next start.
                return;
            }
            if let Err(error) = self.move_to_index(&frozen, indexed) {
                // What is frozen stays: reads go on.
                tracing::error!(%error, "the index cannot go on");
                return self.log.poison(error);
            }
            indexed = frozen.end();
            {
                let mut layers = self.lock();
                (layers.frozen, layers.indexed) = (None, indexed);
            }
            self.drained.notify_all();
        }
    }

    /// Waits until there is enough to do, or something since a while, and takes it; `None` when the store closes.
    fn freeze(&self) -> Option<Arc<I::Pending>> {
        let mut layers = self.lock();
        while layers.active.bytes() == 0 && !layers.stop {
            layers = self.wake.wait(layers).unwrap_or_else(PoisonError::into_inner);
        }
        let is_waiting =
            |layers: &mut Layers<I::Pending>| layers.active.bytes() < self.options.index_after_bytes && !layers.stop;
        let waited = self.wake.wait_timeout_while(layers, self.options.index_after, is_waiting);
        let (mut layers, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if layers.crash || layers.active.bytes() == 0 {
            return None;
        }
        let empty = I::Pending::new(layers.active.end());
        let frozen = Arc::new(std::mem::replace(&mut layers.active, empty));
        layers.frozen = Some(frozen.clone());
        Some(frozen)
    }

    /// Waits until the disk has room for an update of the index, which does not survive a lack of it; false if the store
    /// closes before there is.
    fn wait_for_index_room(&self, bytes: usize) -> bool {
        let needed = INDEX_ROOM_BYTES + 2 * bytes as u64;
        while !self.log.has_free(needed) {
            let layers = self.lock();
            if layers.stop {
                return false;
            }
            drop(self.wake.wait_timeout(layers, CHECK_EVERY));
        }
        true
    }

    /// Indexes what is durable in the log, never more: else a crash could leave the index ahead of the log's end.
    fn move_to_index(&self, frozen: &I::Pending, indexed: Checkpoint) -> Result<(), StoreError> {
        self.log.wait_durable_through_full(frozen.end().sequence)?;
        put_checkpoint(self.index.tree(), indexed, true)?;
        let unused = self.index.apply(frozen)?;
        put_checkpoint(self.index.tree(), frozen.end(), false)?;
        self.database.flush()?;
        for location in unused {
            if self.lock().stop {
                // Thousands of holes take a disk a minute. What is left of them the cleaner finds at the next start.
                break;
            }
            self.free(location);
        }
        Ok(())
    }

    /// Frees what lies before the checkpoint, so that no restart reads it any more.
    fn free(&self, location: Location) {
        self.freed.fetch_add(location.length.into(), Ordering::Relaxed);
        if let Err(error) = self.files.punch_hole(location) {
            tracing::warn!(%error, "cannot free space in a segment");
        }
    }
}

/// sled panics on some failures of the disk. Without its index the store must not go on.
struct PoisonWhenPanicking<'a>(&'a Log);

impl Drop for PoisonWhenPanicking<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.poison(StoreError::Failed("the indexer panicked".to_string()));
        }
    }
}
