//! Where a key's log may begin anew.
//!
//! A transaction that holds all that its key holds becomes a checkpoint when one is due. A structure too large for one
//! transaction is written down in parts, one transaction each, which are added to the command that made it due and proposed
//! with it: so the first part is committed only together with the last one, and is the checkpoint. That is done the more
//! seldom the larger the structure is: for every byte of a checkpoint, about one of commands has been written before.

use difuse_types::{NodeId, OperationId, SlotId, WallTime};

use super::append::{BATCH_MAX, Draft, transaction_after};
use crate::{
    MAX_OPERATION_BYTES, Operation, Value,
    keylog::Keylog,
    step::operation_id_in,
    store::{RECENT_OPERATIONS_MAX, Store},
};

/// A checkpoint is relied on when something so far above it is committed that no head forgets an operation id by it; two
/// proposals later at the latest a proposal says so.
const CHECKPOINTS_APART_MIN: u64 = (RECENT_OPERATIONS_MAX + 2 * BATCH_MAX) as u64;
/// About how many bytes a command adds to a log.
const COMMAND_BYTES: u64 = 256;
/// Structures that take more memory get no checkpoint: nobody else would be served while it is written. Their logs are
/// kept whole.
const STATE_MEMORY_MAX: usize = 64 << 20;

impl<S: Store> Keylog<S> {
    /// Whether the transaction at a height becomes a checkpoint. They are so far apart that there is a proposal on top of
    /// each that is old enough to be relied on, before the next one is made: [`CHECKPOINTS_APART_MIN`].
    pub(super) fn is_checkpoint_due(&self, last: u64, height: u64) -> bool {
        let every = self.options.checkpoint_every;
        every > 0 && height >= last + every.max(CHECKPOINTS_APART_MIN)
    }

    /// Adds the state that a command has left to a draft, in parts, if it is too large for one transaction and was not
    /// written down for long enough.
    pub(super) fn append_large_checkpoint(
        &mut self,
        slot: SlotId,
        draft: &mut Draft,
        (operation_id, author, time): (OperationId, NodeId, WallTime),
    ) {
        let Some(state) = &draft.content.state else { return };
        let memory = state.memory();
        let is_due = self.is_checkpoint_due(draft.checkpoint, draft.height)
            && draft.height >= draft.checkpoint + memory as u64 / COMMAND_BYTES;
        if !is_due || !(MAX_OPERATION_BYTES..STATE_MEMORY_MAX).contains(&memory) {
            return;
        }
        let deadline = draft.content.value.as_ref().and_then(|value| value.deadline);
        let encoded = state.encode();
        let Some(parts) = Value::parts_of(state.id(), &encoded) else { return };
        let parts: Vec<Value> = parts.map(|part| part.until(deadline)).collect();
        for (index, part) in (0..).zip(parts) {
            draft.content.value = Some(part.clone());
            let id = operation_id_in(operation_id, index);
            let transaction = transaction_after(draft, Operation::Set(part), id, author, time);
            self.append_to(slot, draft, transaction, false);
        }
    }
}
