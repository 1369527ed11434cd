//! Giving back the space that holes cannot: a file in which no block is live any more is deleted, and one of which most of
//! what it takes on the disk is of no use, because pages are larger than blocks, is copied to the log's end first.
//!
//! What is live is what the index says, read from it whole; nothing is counted on the way that a crash could make wrong. So
//! it is looked at only when a good part of all that is stored was given up since the last time. Blocks move to the
//! log's end and never into an older file: what was not in a file stays out of it.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use difuse_keylog::StoreError;
use difuse_types::Hash;

use super::index::BlockIndex;
use crate::{
    cleaner::{Cleaner, Stop},
    index::Core,
    log::{FRAME_HEADER_BYTES, Location},
};

/// What a block takes in the log besides its content.
const RECORD_BYTES: u64 = FRAME_HEADER_BYTES as u64 + 55;
/// How many entries of the index are read at a time.
const PAGE_ENTRIES: usize = 4096;
/// So many blocks are copied in one go at most, but at least those of one file.
const COPIES_MAX: u64 = 1 << 16;
/// After so many bytes copied, they are waited for, and the cleaner pauses for as long as that took.
const SLICE_BYTES: u64 = 1 << 20;

/// The work of the thread.
pub(super) struct Cleaning {
    core: Arc<Core<BlockIndex>>,
    segment_bytes: u64,
    stop: Arc<Stop>,
    /// What was live at the last look; `None` before the first.
    live_bytes: Option<u64>,
}

/// What is live in one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Live {
    pub blocks: u64,
    /// With all that belongs to them.
    pub bytes: u64,
}

impl Cleaning {
    pub fn new(core: Arc<Core<BlockIndex>>, segment_bytes: u32) -> Self {
        Self { core, segment_bytes: segment_bytes.into(), stop: Arc::default(), live_bytes: None }
    }

    /// Starts the thread that does it.
    pub fn start(mut self, every: Duration) -> io::Result<Cleaner> {
        Cleaner::start(self.stop.clone(), every, move || self.clean_next())
    }

    /// Cleans some files, if enough was given up; whether more may be to clean.
    pub fn clean_next(&mut self) -> bool {
        let enough = self.live_bytes.map_or(0, |live| (self.segment_bytes / 4).max(live / 64));
        if self.live_bytes.is_some() && self.core.freed_bytes() < enough {
            return false;
        }
        self.clean().unwrap_or_else(|error| {
            tracing::warn!(%error, "the files of blocks cannot be cleaned");
            false
        })
    }

    fn clean(&mut self) -> Result<bool, StoreError> {
        let freed = self.core.freed_bytes();
        let Some(live) = self.survey()? else { return Ok(false) };
        self.live_bytes = Some(live.values().map(|live| live.bytes).sum());
        let (victims, is_all) = self.victims(&live)?;
        if victims.values().any(|live| live.blocks > 0) && !self.copy(&victims)? {
            return Ok(false);
        }
        for segment in victims.keys() {
            let failed = |error| StoreError::Failed(format!("{}: {error}", self.core.files.path(*segment).display()));
            self.core.files.remove(*segment).map_err(failed)?;
        }
        if is_all {
            // What was copied was given up where it lay; that is clean now.
            let copied = victims.values().map(|live| live.bytes).sum::<u64>();
            self.core.forget_freed(freed + copied);
        }
        Ok(!is_all)
    }

    /// What is live in each file that is written no more and that the index knows whole; `None` if the cleaner is to stop.
    pub fn survey(&self) -> Result<Option<BTreeMap<u32, Live>>, StoreError> {
        let indexed = self.core.indexed().end.segment;
        let io = |error| StoreError::Failed(format!("{}: {error}", self.core.files.directory().display()));
        let closed = self.core.files.numbers().map_err(io)?.into_iter().filter(|segment| *segment < indexed);
        let mut live: BTreeMap<u32, Live> = closed.map(|segment| (segment, Live::default())).collect();
        let is_whole = self.each_content(|_, location| {
            if let Some(live) = live.get_mut(&location.at.segment) {
                live.blocks += 1;
                live.bytes += RECORD_BYTES + u64::from(location.length);
            }
            Ok(())
        })?;
        Ok(is_whole.then_some(live))
    }

    /// The files to clean now, and whether that is all of them.
    pub fn victims(&self, live: &BTreeMap<u32, Live>) -> Result<(BTreeMap<u32, Live>, bool), StoreError> {
        let (mut victims, mut copies) = (BTreeMap::new(), 0);
        for (segment, live) in live {
            let io = |error| StoreError::Failed(format!("{}: {error}", self.core.files.path(*segment).display()));
            let on_disk = self.core.files.bytes_on_disk(*segment).map_err(io)?;
            // As much as it takes to pay for the copying, and a third of what is there.
            let is_wasteful = on_disk >= self.segment_bytes / 64 && live.bytes * 3 < on_disk * 2;
            if live.blocks > 0 && !is_wasteful {
                continue;
            }
            copies += live.blocks;
            if copies > COPIES_MAX && copies > live.blocks {
                return Ok((victims, false));
            }
            victims.insert(*segment, *live);
        }
        Ok((victims, true))
    }

    /// Copies what is live in these files to the log's end, and waits until the index knows; false if the cleaner is to
    /// stop.
    pub fn copy(&self, victims: &BTreeMap<u32, Live>) -> Result<bool, StoreError> {
        let mut contents = Vec::new();
        let is_whole = self.each_content(|hash, location| {
            if victims.contains_key(&location.at.segment) {
                contents.push((hash, location));
            }
            Ok(())
        })?;
        if !is_whole {
            return Ok(false);
        }
        // In the order in which they lie on the disk.
        contents.sort_by_key(|(_, location)| location.at);
        let (mut copied, mut bytes, mut began) = (Vec::new(), 0, Instant::now());
        for (hash, location) in contents {
            let sequence = self.core.move_content(&hash, location)?;
            copied.extend(sequence.map(|sequence| (hash, sequence)));
            bytes += u64::from(location.length);
            if bytes >= SLICE_BYTES {
                self.settle(std::mem::take(&mut copied))?;
                if self.stop.wait(began.elapsed()) {
                    return Ok(false);
                }
                (bytes, began) = (0, Instant::now());
            }
        }
        self.settle(copied)?;
        // Of a block that was deleted meanwhile, or found damaged, the index must know as well.
        let last = self.core.log.end().sequence;
        self.core.wait_indexed(last, || self.stop.wait(Duration::ZERO))
    }

    /// Waits until copies are on the disk; they need not be kept in memory any more.
    fn settle(&self, copied: Vec<(Hash, u64)>) -> Result<(), StoreError> {
        let Some((_, last)) = copied.last() else { return Ok(()) };
        self.core.log.wait_durable_through_full(*last)?;
        copied.iter().for_each(|(hash, sequence)| self.core.forget_content(hash, *sequence));
        Ok(())
    }

    /// Calls `visit` with all content that the index knows; takes half of the time at most. False if it was broken off
    /// because the cleaner is to stop.
    fn each_content(
        &self,
        mut visit: impl FnMut(Hash, Location) -> Result<(), StoreError>,
    ) -> Result<bool, StoreError> {
        let mut after = None;
        loop {
            let began = Instant::now();
            let page = self.core.index.contents(after, PAGE_ENTRIES)?;
            for (hash, location) in &page {
                if let Some(location) = location {
                    visit(*hash, *location)?;
                }
            }
            let Some((last, _)) = page.last() else { return Ok(true) };
            after = Some(*last);
            if self.stop.wait(began.elapsed()) {
                return Ok(false);
            }
        }
    }
}

#[cfg(test)]
mod tests;
