//! Giving back the space of bodies that nobody needs any more: a file of the log in which nothing is live is deleted, and
//! when too little of all files is, what is live in the emptiest one is copied to the log's end first.
//!
//! A copy is a record of the log as any other, which says what it copies: replayed, it moves a body in the index only if the
//! index still has it where it was. The old file goes when the index, durably, knows of no body in it. So a crash between
//! any two steps leaves each body in at least one place that the index knows, or will after the replay.

use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use difuse_keylog::StoreError;

use super::index::KeyIndex;
use crate::{
    cleaner::{Cleaner, Stop},
    codec::{Copied, LoggedBody, put_copies, take_bodies},
    index::{Core, Layers, Pending},
    log::{Admission, ClosedSegment, FRAME_HEADER_BYTES, Location, Position},
};

/// So many files' worth of bytes are never worth cleaning.
const SPARE_SEGMENTS: u64 = 4;
/// About how many bytes of bodies travel in one record.
const COPY_BYTES: usize = 256 << 10;
/// After so many bytes read, the cleaner pauses for as long as it took.
const SLICE_BYTES: usize = 1 << 20;

/// When to clean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// The least share of all closed files that is live, in percent; 0: nothing is ever copied.
    pub live_percent_min: u32,
    /// The size of a file.
    pub segment_bytes: u32,
    /// How often to look.
    pub every: Duration,
}

/// The work of the thread.
pub(super) struct Cleaning {
    core: Arc<Core<KeyIndex>>,
    policy: Policy,
    stop: Arc<Stop>,
    /// Files that cannot be read: they stay.
    damaged: BTreeSet<u32>,
}

/// A file to be cleaned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Victim {
    pub segment: u32,
    /// There is so much to clean that there is no time to pause.
    is_urgent: bool,
}

impl Cleaning {
    pub fn new(core: Arc<Core<KeyIndex>>, policy: Policy) -> Self {
        Self { core, policy, stop: Arc::default(), damaged: BTreeSet::new() }
    }

    /// Starts the thread that does it.
    pub fn start(mut self) -> io::Result<Cleaner> {
        let (stop, every) = (self.stop.clone(), self.policy.every);
        Cleaner::start(stop, every, move || self.clean_next())
    }

    /// Cleans one file, if one is due; whether another one may be.
    pub fn clean_next(&mut self) -> bool {
        let victim = match self.victim() {
            Ok(Some(victim)) => victim,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(%error, "cannot tell what there is to clean");
                return false;
            }
        };
        match self.clean(victim) {
            Ok(is_done) => is_done,
            // There may be room later.
            Err(StoreError::Full(_)) => false,
            Err(error) => {
                tracing::warn!(%error, segment = victim.segment, "a file of the log cannot be cleaned");
                self.damaged.insert(victim.segment);
                self.core.log.check().is_ok()
            }
        }
    }

    /// A file in which nothing is live, or, if too little is in all of them together, the one with the least.
    pub fn victim(&self) -> Result<Option<Victim>, StoreError> {
        let indexed = self.core.indexed().end.segment;
        let io = |error| StoreError::Failed(format!("{}: {error}", self.core.files.directory().display()));
        let (mut emptiest, mut all_bytes, mut all_live) = (None, 0, 0);
        for segment in self.core.files.numbers().map_err(io)? {
            if segment >= indexed || self.damaged.contains(&segment) {
                continue;
            }
            let (bytes, live) = (self.core.files.bytes(segment).map_err(io)?, self.core.index.live_bytes(segment)?);
            if live == 0 {
                return Ok(Some(Victim { segment, is_urgent: true }));
            }
            all_bytes += bytes;
            all_live += live;
            let share = live.saturating_mul(1000) / bytes.max(1);
            if emptiest.is_none_or(|(least, _)| share < least) {
                emptiest = Some((share, segment));
            }
        }
        let percent = u64::from(self.policy.live_percent_min);
        let Some(wanted) = all_live.saturating_mul(100).checked_div(percent) else { return Ok(None) };
        let bound = wanted + SPARE_SEGMENTS * u64::from(self.policy.segment_bytes);
        let is_due = all_bytes > bound;
        Ok(emptiest.filter(|_| is_due).map(|(_, segment)| Victim { segment, is_urgent: all_bytes > 2 * bound }))
    }

    /// Copies what is live in a file and deletes it; whether it did not have to stop before.
    fn clean(&self, victim: Victim) -> Result<bool, StoreError> {
        let Some(last_copy) = self.copy_live(victim)? else { return Ok(false) };
        if !self.core.wait_indexed(last_copy, || self.stop.wait(Duration::ZERO))? {
            return Ok(false);
        }
        self.core.files.remove(victim.segment).map_err(|error| {
            StoreError::Failed(format!("{}: {error}", self.core.files.path(victim.segment).display()))
        })?;
        self.core.index.forget_segment(victim.segment)?;
        Ok(true)
    }

    /// Copies what is live in a file; gives the last record that does, or 0, or `None` if the cleaner is to stop.
    pub fn copy_live(&self, victim: Victim) -> Result<Option<u64>, StoreError> {
        let mut segment = ClosedSegment::open(&self.core.files, victim.segment)?;
        let (mut copies, mut copied_bytes, mut last_copy) = (Vec::new(), 0, 0);
        let (mut slice_began, mut slice_bytes) = (Instant::now(), 0);
        while let Some((at, payload)) = segment.next_record()? {
            slice_bytes += payload.len();
            for body in take_bodies(payload.clone()).map_err(|_| undecodable(at))? {
                if let Some(copy) = self.live(at, &payload, body)? {
                    copied_bytes += copy.body.len();
                    copies.push(copy);
                }
            }
            if copied_bytes >= COPY_BYTES {
                last_copy = self.write(std::mem::take(&mut copies))?;
                copied_bytes = 0;
            }
            if slice_bytes >= SLICE_BYTES {
                let pause = if victim.is_urgent { Duration::ZERO } else { slice_began.elapsed() };
                if self.stop.wait(pause) {
                    return Ok(None);
                }
                (slice_began, slice_bytes) = (Instant::now(), 0);
            }
        }
        if !copies.is_empty() {
            last_copy = self.write(copies)?;
        }
        Ok(Some(last_copy))
    }

    /// A body as it is to be copied, if the index has it here.
    fn live(&self, at: Position, payload: &Bytes, body: LoggedBody) -> Result<Option<Copied>, StoreError> {
        let LoggedBody { slot, key, height, range } = body;
        let position = Position { offset: at.offset + range.start, ..at };
        let old = Location { at: position, length: range.length, crc: range.crc };
        if self.core.index.location(slot, &key, height)? != Some(old) {
            return Ok(None);
        }
        let bytes = payload.slice(range.start as usize..(range.start + range.length) as usize);
        Ok(Some(Copied { slot, key, height, old, body: bytes }))
    }

    fn write(&self, copies: Vec<Copied>) -> Result<u64, StoreError> {
        let mut head = vec![0; FRAME_HEADER_BYTES];
        let ranges = put_copies(&mut head, &copies);
        let mut layers = self.core.lock_with_room(Admission::Always)?;
        let appended = self.core.log.append(head, Bytes::new(), Admission::Always)?;
        let Layers { active, .. } = &mut *layers;
        let before = active.bytes();
        active.apply_copies(copies, &ranges, appended.at, appended.end);
        self.core.added(layers, before);
        Ok(appended.end.sequence)
    }
}

fn undecodable(at: Position) -> StoreError {
    StoreError::Corrupt(format!("segment {} at offset {}: the record cannot be decoded", at.segment, at.offset))
}
