use std::{
    collections::VecDeque,
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, IoSlice},
    os::unix::fs::{FileExt, MetadataExt},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use difuse_keylog::StoreError;

use super::{
    Checkpoint, FRAME_HEADER_BYTES, Position, SegmentFiles,
    files::read_header,
    frame::{FrameHeader, PAYLOAD_BYTES_MAX, SEGMENT_HEADER_BYTES, checksum},
    space::FreeSpace,
};

/// How often an idle log looks whether its files are still there.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long to wait before a full disk is tried again.
const FULL_RETRY_AFTER: Duration = Duration::from_millis(100);
/// With so many bytes queued, the log does not wait for what is about to follow.
const EARLY_BYTES_MAX: usize = 64 << 10;
/// What one write call takes at most, as Linux does.
const SLICES_MAX: usize = 1024;
/// After a group that is no longer than this, room is made for those that follow.
const SMALL_GROUP_BYTES: usize = 32 << 10;
/// What is written where they will lie.
static ROOM: [u8; 128 << 10] = [0; 128 << 10];

/// Called on the log's thread with the last sequence that is durable, or with why no more will be for now
/// ([`StoreError::Full`]) or ever.
pub(crate) type OnDurable = Box<dyn Fn(Result<u64, StoreError>) + Send>;

/// What a log has done since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Flushes to the disk.
    pub flushes: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Records written.
    pub records_written: u64,
}

/// Which records a log takes while there is little room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// None while the disk is full, or has less free space than is to be kept.
    WithRoom,
    /// All that can be queued: they are small, and others depend on them.
    Always,
}

/// Bounds of a log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogOptions {
    pub segment_bytes: u32,
    pub queued_bytes_max: usize,
    pub reserve_bytes: u64,
    /// Whether files grow by more than was written, where records are small: flushing them takes less then.
    pub makes_room: bool,
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Of the payload.
    pub at: Position,
    /// The log's end after the record.
    pub end: Checkpoint,
}

/// A log that is being written. Records get their place when they are queued; a thread writes and flushes whatever
/// has queued up. After a failed write or flush nothing is written any more; when the disk is full, what is queued
/// waits for room and new records are refused.
#[derive(Debug)]
pub(crate) struct Log {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    files: Arc<SegmentFiles>,
    options: LogOptions,
    state: Mutex<State>,
    /// Something was queued, or the log is to stop.
    queued: Condvar,
    /// Something became durable, or failed.
    progress: Condvar,
    flushes: AtomicU64,
    bytes_written: AtomicU64,
    records_written: AtomicU64,
}

#[derive(Debug)]
struct State {
    end: Checkpoint,
    queue: VecDeque<Record>,
    /// Of the queue and of the group that is being written.
    queued_bytes: usize,
    durable: u64,
    failure: Option<StoreError>,
    full: Option<StoreError>,
    stop: Option<Stop>,
    /// The thread is gone.
    ended: bool,
    /// The thread waits for records, and is to be woken.
    is_idle: bool,
    space: FreeSpace,
    #[cfg(test)]
    fault: Option<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// When the queue is empty.
    Drained,
    /// As if the process were killed.
    Now,
}

/// A record on its way to the disk.
#[derive(Debug)]
struct Record {
    /// Where its frame begins.
    at: Position,
    sequence: u64,
    /// Room for the frame's header, then the beginning of the payload.
    head: Vec<u8>,
    /// The rest of the payload.
    body: Bytes,
}

impl Record {
    fn length(&self) -> usize {
        self.head.len() + self.body.len()
    }
}

impl Log {
    /// A log that goes on at `end`.
    pub fn start(
        files: Arc<SegmentFiles>,
        options: LogOptions,
        end: Checkpoint,
        on_durable: OnDurable,
    ) -> io::Result<Self> {
        let space = FreeSpace::new(files.directory(), options.reserve_bytes);
        let state = State {
            end,
            queue: VecDeque::new(),
            queued_bytes: 0,
            durable: end.sequence,
            failure: None,
            full: None,
            stop: None,
            ended: false,
            is_idle: false,
            space,
            #[cfg(test)]
            fault: None,
        };
        let shared = Arc::new(Shared {
            files,
            options,
            state: Mutex::new(state),
            queued: Condvar::new(),
            progress: Condvar::new(),
            flushes: AtomicU64::new(0),
            bytes_written: AtomicU64::new(0),
            records_written: AtomicU64::new(0),
        });
        let writer = Writer { shared: shared.clone(), current: None, on_durable };
        let thread = thread::Builder::new().name("difuse-log".to_string()).spawn(move || writer.run())?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Queues a record. `head` begins with [`FRAME_HEADER_BYTES`] of room. Fails when there is no room for what is
    /// admitted so, after a failure, and when the record is too long.
    pub fn append(&self, head: Vec<u8>, body: Bytes, admission: Admission) -> Result<Appended, StoreError> {
        let appended = self.append_early(head, body, admission)?;
        self.flush();
        Ok(appended)
    }

    /// As [`Log::append`], but more is about to follow that shares the record's flush: it begins with [`Log::flush`], or a
    /// little earlier if much is queued.
    pub fn append_early(&self, head: Vec<u8>, body: Bytes, admission: Admission) -> Result<Appended, StoreError> {
        let length = head.len() + body.len();
        if length > PAYLOAD_BYTES_MAX + FRAME_HEADER_BYTES {
            return Err(StoreError::Failed(format!("a record of {length} bytes is too long")));
        }
        let mut state = self.shared.lock();
        state.check(admission, &self.shared.options)?;
        if admission == Admission::WithRoom {
            state.space.check()?;
        }
        Ok(self.shared.enqueue(state, head, body))
    }

    /// Begins to write what is queued, if that has not begun.
    pub fn flush(&self) {
        self.shared.wake(self.shared.lock());
    }

    /// Waits while too much is queued. Fails as [`Log::append`] would.
    pub fn wait_for_room(&self, admission: Admission) -> Result<(), StoreError> {
        let mut state = self.shared.lock();
        while state.queued_bytes > self.shared.options.queued_bytes_max && state.is_well() {
            if std::mem::take(&mut state.is_idle) {
                self.shared.queued.notify_one();
            }
            state = self.shared.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.check(admission, &self.shared.options)
    }

    /// Whether a record that needs room would be taken: fails as [`Log::append`] would.
    pub fn check_room(&self) -> Result<(), StoreError> {
        let mut state = self.shared.lock();
        state.check(Admission::WithRoom, &self.shared.options)?;
        state.space.check()
    }

    /// Whether the disk has so many bytes free, as far as it tells.
    pub fn has_free(&self, bytes: u64) -> bool {
        self.shared.lock().space.free_bytes().map_or(true, |free| free >= bytes)
    }

    /// Whether the disk is full, or will be soon.
    pub fn is_short_of_room(&self) -> bool {
        let mut state = self.shared.lock();
        state.full.is_some() || state.space.is_short()
    }

    /// Waits until the record `sequence` is durable. Fails when the disk is full (it may become durable later), or
    /// after a failure.
    pub fn wait_durable(&self, sequence: u64) -> Result<(), StoreError> {
        self.wait(sequence, false)
    }

    /// As [`Log::wait_durable`], but waits while the disk is full as well.
    pub fn wait_durable_through_full(&self, sequence: u64) -> Result<(), StoreError> {
        self.wait(sequence, true)
    }

    fn wait(&self, sequence: u64, through_full: bool) -> Result<(), StoreError> {
        self.flush();
        let mut state = self.shared.lock();
        while state.durable < sequence {
            match &state.failure {
                Some(failure) => return Err(failure.clone()),
                None if state.ended => return Err(stopped()),
                None => {}
            }
            if let Some(full) = state.full.as_ref().filter(|_| !through_full) {
                return Err(full.clone());
            }
            state = self.shared.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Whether records are being written: fails when the disk is full and after a failure.
    pub fn check(&self) -> Result<(), StoreError> {
        self.shared.lock().check(Admission::WithRoom, &self.shared.options)
    }

    /// The log's end after the last record.
    pub fn end(&self) -> Checkpoint {
        self.shared.lock().end
    }

    /// No record is written any more; `error` says why.
    pub fn poison(&self, error: StoreError) {
        self.shared.fail(error);
    }

    /// What was done so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            flushes: self.shared.flushes.load(Ordering::Relaxed),
            bytes_written: self.shared.bytes_written.load(Ordering::Relaxed),
            records_written: self.shared.records_written.load(Ordering::Relaxed),
        }
    }

    /// Ends the log's thread: after everything queued was written, or, if `now`, at once.
    pub fn stop(&self, now: bool) {
        let stop = if now { Stop::Now } else { Stop::Drained };
        self.shared.lock().stop.get_or_insert(stop);
        self.shared.queued.notify_all();
        self.shared.progress.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log's thread panicked");
        }
    }

    /// The next write to the disk fails with this error number.
    #[cfg(test)]
    pub fn inject(&self, error: i32) {
        self.shared.lock().fault = Some(error);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.stop(false);
    }
}

fn stopped() -> StoreError {
    StoreError::Failed("the store is closed".to_string())
}

impl State {
    fn is_well(&self) -> bool {
        self.failure.is_none() && self.full.is_none() && self.stop.is_none()
    }

    fn check(&self, admission: Admission, options: &LogOptions) -> Result<(), StoreError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let can_wait = admission == Admission::Always && self.queued_bytes <= options.queued_bytes_max;
        if let Some(full) = self.full.as_ref().filter(|_| !can_wait) {
            return Err(full.clone());
        }
        if self.stop.is_some() { Err(stopped()) } else { Ok(()) }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enqueue(&self, mut state: MutexGuard<'_, State>, head: Vec<u8>, body: Bytes) -> Appended {
        let length = (head.len() + body.len()) as u32;
        let end = &mut state.end;
        let used = end.end.offset > SEGMENT_HEADER_BYTES;
        if used && end.end.offset.saturating_add(length) > self.options.segment_bytes {
            end.end = Position { segment: end.end.segment + 1, offset: SEGMENT_HEADER_BYTES };
        }
        let at = end.end;
        end.end.offset += length;
        end.sequence += 1;
        let end = *end;
        state.queue.push_back(Record { at, sequence: end.sequence, head, body });
        state.queued_bytes += length as usize;
        if state.queued_bytes >= EARLY_BYTES_MAX {
            self.wake(state);
        }
        Appended { at: Position { offset: at.offset + FRAME_HEADER_BYTES as u32, ..at }, end }
    }

    /// Wakes the thread if it waits and something is queued. (To tell a condition costs a call of the system, whether
    /// anybody waits for it or not.)
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        if !state.queue.is_empty() && std::mem::take(&mut state.is_idle) {
            drop(state);
            self.queued.notify_one();
        }
    }

    fn fail(&self, error: StoreError) {
        self.lock().failure.get_or_insert(error);
        self.queued.notify_all();
        self.progress.notify_all();
    }
}

/// The log's thread.
struct Writer {
    shared: Arc<Shared>,
    current: Option<Current>,
    on_durable: OnDurable,
}

/// The segment that is being written.
struct Current {
    number: u32,
    salt: u32,
    file: File,
    /// Where the last record ends.
    end: u64,
    /// Where the file does, or a little earlier.
    length: u64,
}

impl Current {
    /// Takes note of a group that has been written up to `end`. If the file has grown by it, and may grow on to
    /// `length_max`, it grows by a good deal at once, with zeros: to flush what changes a file's length takes half as much
    /// again of the processor.
    fn note_written(&mut self, end: u64, group_bytes: usize, length_max: u64) -> io::Result<()> {
        self.end = end;
        if end <= self.length {
            return Ok(());
        }
        self.length = end;
        let room = length_max.saturating_sub(end).min(ROOM.len() as u64) as usize;
        if group_bytes > SMALL_GROUP_BYTES || room == 0 {
            return Ok(());
        }
        match self.file.write_all_at(&ROOM[..room], end) {
            Ok(()) => {
                self.length = end + room as u64;
                Ok(())
            }
            // Whether there is room for the next record is seen when it comes.
            Err(error) if is_full(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lets the file end where its records do.
    fn cut(&mut self) -> io::Result<()> {
        self.length = self.end;
        self.file.set_len(self.end)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.ended = true;
        if thread::panicking() {
            state.failure.get_or_insert(StoreError::Failed("the log's thread panicked".to_string()));
        }
        drop(state);
        self.shared.progress.notify_all();
    }
}

impl Writer {
    fn run(mut self) {
        if let Err(error) = self.write_groups() {
            tracing::error!(%error, "the log cannot be written any more");
            self.shared.fail(error.clone());
            (self.on_durable)(Err(error));
        }
    }

    /// Writes until the log is to stop.
    fn write_groups(&mut self) -> Result<(), StoreError> {
        while let Some(group) = self.next_group()? {
            match self.write_until_there_is_room(group)? {
                Some(sequence) => (self.on_durable)(Ok(sequence)),
                None => break,
            }
        }
        let is_drained = self.shared.lock().stop == Some(Stop::Drained);
        if let Some(current) = self.current.as_mut().filter(|_| is_drained) {
            // Nothing depends on it: the next start does the same.
            let _ = current.cut();
        }
        // It may have been poisoned from elsewhere.
        self.shared.lock().failure.clone().map_or(Ok(()), Err)
    }

    /// All that is queued for one segment; `None` when the log is to stop.
    fn next_group(&self) -> Result<Option<Vec<Record>>, StoreError> {
        let mut state = self.shared.lock();
        loop {
            if state.failure.is_some() || state.stop == Some(Stop::Now) {
                return Ok(None);
            }
            if let Some(first) = state.queue.front() {
                let segment = first.at.segment;
                let count = state.queue.partition_point(|record| record.at.segment == segment);
                return Ok(Some(state.queue.drain(..count).collect()));
            }
            if state.stop.is_some() {
                return Ok(None);
            }
            state.is_idle = true;
            let waited = self.shared.queued.wait_timeout(state, WATCH_EVERY);
            let (mut locked, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            locked.is_idle = false;
            if timeout.timed_out() {
                self.check_directory()?;
            }
            state = locked;
        }
    }

    /// Whether what is written can be found again: files can be deleted while they are open, and still be written to.
    fn check_directory(&self) -> Result<(), StoreError> {
        let is_there = match &self.current {
            Some(current) => current.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0),
            None => self.shared.files.directory().exists(),
        };
        if is_there {
            return Ok(());
        }
        let directory = self.shared.files.directory().display();
        Err(StoreError::Failed(format!("{directory}: its files were deleted while the node was using them")))
    }

    /// Writes and flushes a group; waits while the disk is full. Returns its last sequence, or `None` if the log
    /// stopped before.
    fn write_until_there_is_room(&mut self, mut group: Vec<Record>) -> Result<Option<u64>, StoreError> {
        let bytes: usize = group.iter().map(Record::length).sum();
        loop {
            match self.write_group(&mut group) {
                Ok(()) => {
                    self.check_directory()?;
                    break;
                }
                Err(error) if is_full(&error) => {
                    self.roll_back(&group)?;
                    if !self.wait_for_room(&error) {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(self.failed(&error)),
            }
        }
        let sequence = group.last().map_or(0, |record| record.sequence);
        self.shared.records_written.fetch_add(group.len() as u64, Ordering::Relaxed);
        self.shared.bytes_written.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut state = self.shared.lock();
        state.durable = sequence;
        state.queued_bytes -= bytes;
        state.full = None;
        drop(state);
        self.shared.progress.notify_all();
        Ok(Some(sequence))
    }

    fn write_group(&mut self, group: &mut [Record]) -> io::Result<()> {
        let Some(start) = group.first().map(|record| record.at) else { return Ok(()) };
        self.check_fault()?;
        let LogOptions { segment_bytes, makes_room, .. } = self.shared.options;
        let length_max = if makes_room { u64::from(segment_bytes) } else { 0 };
        let current = self.open(start.segment)?;
        for record in group.iter_mut() {
            seal(record, start.offset, current.salt);
        }
        write_all(&current.file, group, u64::from(start.offset))?;
        let bytes = group.iter().map(Record::length).sum();
        current.note_written(u64::from(start.offset) + bytes as u64, bytes, length_max)?;
        current.file.sync_data()?;
        self.shared.flushes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn open(&mut self, number: u32) -> io::Result<&mut Current> {
        if self.current.as_ref().is_none_or(|current| current.number != number) {
            if let Some(mut closed) = self.current.take() {
                closed.cut()?;
            }
            let current = open_or_create(&self.shared.files, number)?;
            return Ok(self.current.insert(current));
        }
        self.current.as_mut().ok_or_else(|| io::Error::other("no segment is open"))
    }

    /// Takes back what a write that did not fit has left.
    fn roll_back(&mut self, group: &[Record]) -> Result<(), StoreError> {
        let (Some(current), Some(first)) = (&mut self.current, group.first()) else { return Ok(()) };
        current.end = u64::from(first.at.offset);
        let cut = current.cut().and_then(|()| current.file.sync_data());
        cut.map_err(|error| self.failed(&error))
    }

    /// Reports that the disk is full and waits; whether to try again.
    fn wait_for_room(&self, error: &io::Error) -> bool {
        let full = StoreError::Full(format!("{}: {error}", self.shared.files.directory().display()));
        let mut state = self.shared.lock();
        if state.full.replace(full.clone()).is_none() {
            drop(state);
            tracing::warn!(%error, "the disk is full");
            self.shared.progress.notify_all();
            (self.on_durable)(Err(full));
            state = self.shared.lock();
        }
        if state.stop.is_some() || state.failure.is_some() {
            return false;
        }
        let waited = self.shared.queued.wait_timeout(state, FULL_RETRY_AFTER);
        drop(waited);
        true
    }

    fn failed(&self, error: &io::Error) -> StoreError {
        StoreError::Failed(format!("{}: {error}", self.shared.files.directory().display()))
    }

    #[cfg(test)]
    fn check_fault(&self) -> io::Result<()> {
        let fault = self.shared.lock().fault.take();
        fault.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }

    #[cfg(not(test))]
    fn check_fault(&self) -> io::Result<()> {
        Ok(())
    }
}

fn open_or_create(files: &SegmentFiles, number: u32) -> io::Result<Current> {
    match files.open_for_writing(number) {
        Ok(file) => match read_header(&file)? {
            Ok(header) => {
                let length = file.metadata()?.len();
                Ok(Current { number, salt: header.salt, file, end: length, length })
            }
            Err(_) => create(files, number),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(files, number),
        Err(error) => Err(error),
    }
}

fn create(files: &SegmentFiles, number: u32) -> io::Result<Current> {
    let salt = RandomState::new().hash_one(number) as u32;
    let length = u64::from(SEGMENT_HEADER_BYTES);
    Ok(Current { number, salt, file: files.create(number, salt)?, end: length, length })
}

/// Fills in the header of a record's frame.
fn seal(record: &mut Record, group_start: u32, salt: u32) {
    let (header, payload) = record.head.split_at_mut(FRAME_HEADER_BYTES);
    let sealed = FrameHeader {
        length: (payload.len() + record.body.len()) as u32,
        sequence: record.sequence,
        group_start,
        payload_crc: checksum(salt, &[payload, &record.body]),
    };
    header.copy_from_slice(&sealed.encode(salt));
}

/// Writes the records one after the other from `offset` on, with as few calls as possible and without copying.
fn write_all(file: &File, group: &[Record], mut offset: u64) -> io::Result<()> {
    let parts = group.iter().flat_map(|record| [&record.head[..], &record.body[..]]);
    let mut slices: Vec<_> = parts.filter(|part| !part.is_empty()).map(IoSlice::new).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let batch = &rest[..rest.len().min(SLICES_MAX)];
        let written = rustix::io::retry_on_intr(|| rustix::io::pwritev(file, batch, offset))?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        offset += written as u64;
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
