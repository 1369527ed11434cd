//! An append-only log in segment files, with group commit: whoever waits while the disk is busy shares the next
//! write and the next flush.

mod files;
mod frame;
pub(crate) mod fuzzing;
mod replay;
mod space;
mod writer;

pub(crate) use files::SegmentFiles;
pub(crate) use frame::FRAME_HEADER_BYTES;
pub(crate) use replay::{Checkpoint, ClosedSegment, replay};
pub use writer::Statistics;
pub(crate) use writer::{Admission, Log, LogOptions, OnDurable};

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub segment: u32,
    pub offset: u32,
}

/// Where bytes lie in the log, and their checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Location {
    pub at: Position,
    pub length: u32,
    pub crc: u32,
}
