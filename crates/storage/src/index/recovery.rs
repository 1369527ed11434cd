use std::collections::BTreeSet;

use difuse_keylog::StoreError;
use difuse_types::SlotId;

use super::{Index, Pending, Replayed, checkpoint, put_checkpoint};
use crate::{
    OpenError,
    log::{Checkpoint, SegmentFiles, replay},
};

/// Brings a store back to where its log ends: replays what the index has not seen. What need not go to the index at
/// once is returned.
pub(crate) fn recover<I: Index>(
    files: &SegmentFiles,
    index: &I,
    index_after_bytes: usize,
) -> Result<I::Pending, OpenError> {
    let failed = |error: StoreError| OpenError::index(files.directory(), &error);
    let (start, is_ahead) = checkpoint(index.tree()).map_err(failed)?.unwrap_or((Checkpoint::START, false));
    let mut recovery =
        Recovery { files, index, is_ahead, start, pending: I::Pending::new(start), touched: BTreeSet::new() };
    let end = replay(files, start, |at, end, payload| {
        if !recovery.take(Replayed { at, end, payload }).map_err(failed)? {
            return Err(OpenError::corrupt(files.path(at.segment), at.offset, "the record cannot be decoded"));
        }
        if recovery.pending.bytes() > index_after_bytes {
            recovery.move_to_index().map_err(failed)?;
        }
        Ok(())
    })?;
    recovery.finish(end).map_err(failed)
}

struct Recovery<'a, I: Index> {
    files: &'a SegmentFiles,
    index: &'a I,
    /// A crash interrupted an update: the index holds some of what is replayed now.
    is_ahead: bool,
    start: Checkpoint,
    pending: I::Pending,
    /// Slots whose totals have to be recomputed.
    touched: BTreeSet<SlotId>,
}

impl<I: Index> Recovery<'_, I> {
    fn take(&mut self, record: Replayed) -> Result<bool, StoreError> {
        self.index.replay(self.files, &mut self.pending, record, self.is_ahead)
    }

    /// The checkpoint stays where it is while the index is ahead: only from there is it known which slots are
    /// touched. Nothing in the log is given up, because what follows may still need it.
    fn move_to_index(&mut self) -> Result<(), StoreError> {
        let end = self.pending.end();
        put_checkpoint(self.index.tree(), self.start, true)?;
        self.index.apply(&self.pending)?;
        if self.is_ahead {
            self.touched.extend(self.pending.touched_slots());
        } else {
            put_checkpoint(self.index.tree(), end, false)?;
            self.start = end;
        }
        self.pending = I::Pending::new(end);
        Ok(())
    }

    fn finish(mut self, end: Checkpoint) -> Result<I::Pending, StoreError> {
        if self.is_ahead {
            self.move_to_index()?;
            for slot in &self.touched {
                self.index.recompute_totals(*slot)?;
            }
            put_checkpoint(self.index.tree(), end, false)?;
        }
        // A new segment may have begun after the last record.
        Ok(if self.pending.bytes() == 0 { I::Pending::new(end) } else { self.pending })
    }
}
