//! The index behind a log: records are held in memory until a thread has moved them to sled, together with the
//! position in the log up to which sled has seen it.
//!
//! No update relies on sled applying several changes together: while one is under way, the checkpoint says so, and a
//! restart replays what it covers and recomputes the slots' totals that it touches.

mod core;
mod recovery;
mod values;

use bytes::Bytes;
use difuse_keylog::StoreError;
use difuse_types::SlotId;

pub(crate) use self::{
    core::{Core, CoreParts, Layers},
    recovery::recover,
    values::{checkpoint, decode, failed, put_checkpoint, put_location, take_location, undecodable, value},
};
use crate::log::{Checkpoint, Location, Position, SegmentFiles};

/// What a run of records changed: the last state of everything that they touched.
pub(crate) trait Pending: Send + Sync + 'static {
    /// Nothing, at this end of the log.
    fn new(end: Checkpoint) -> Self;
    /// The log's end after the last record.
    fn end(&self) -> Checkpoint;
    /// About what it takes in memory; 0 only if there is no record.
    fn bytes(&self) -> usize;
    /// The slots whose totals changed.
    fn touched_slots(&self) -> Vec<SlotId>;
}

/// A record that is replayed.
pub(crate) struct Replayed {
    /// Where the payload lies.
    pub at: Position,
    /// The log's end after it.
    pub end: Checkpoint,
    pub payload: Bytes,
}

/// An index in a sled tree, whose key of one zero byte is the checkpoint.
pub(crate) trait Index: Send + Sync + 'static {
    /// What is not in it yet.
    type Pending: Pending;

    fn tree(&self) -> &sled::Tree;

    /// Makes up for what was not kept when the directory was last open. Called before anything is replayed.
    fn prepare(&self, _files: &SegmentFiles) -> Result<(), StoreError> {
        Ok(())
    }

    /// Takes over what is durable in the log. Returns what lies in the log and is of no use any more.
    fn apply(&self, pending: &Self::Pending) -> Result<Vec<Location>, StoreError>;

    /// Recomputes the totals of a slot from what it holds.
    fn recompute_totals(&self, slot: SlotId) -> Result<(), StoreError>;

    /// Adds a record to `pending`; `Ok(false)` if it cannot be decoded. `is_ahead`: the index may hold some of what is
    /// replayed now and later.
    fn replay(
        &self,
        files: &SegmentFiles,
        pending: &mut Self::Pending,
        record: Replayed,
        is_ahead: bool,
    ) -> Result<bool, StoreError>;
}
