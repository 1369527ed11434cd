//! What a replica's register becomes when it accepts a proposal: the head follows from the chain alone, the base from
//! what is known to be committed.

use difuse_types::{Hash, Key, OperationId, SlotId, WallTime};

use super::{Proposal, chain::Beginning, damage::ReadError};
use crate::{
    Register, Transaction,
    keylog::Keylog,
    rule::Rule,
    store::{Head, RECENT_OPERATIONS_MAX, Store},
};

impl<S: Store> Keylog<S> {
    /// The register after `proposal`, whose chain is stored or in its transactions and begins at `beginning`.
    pub(super) fn register_after(
        &mut self,
        slot: SlotId,
        existing: Option<&Register>,
        proposal: &Proposal,
        beginning: Beginning,
    ) -> Result<Register, ReadError> {
        let Proposal { ballot, key, height, hash, transactions, committed_height, .. } = proposal;
        let (deleted, deadline) = self.times(slot, key, existing, (*height, *hash), transactions)?;
        let head = Head {
            height: *height,
            hash: *hash,
            checkpoint: self.newest_checkpoint(slot, key, existing, *height, transactions)?,
            deleted,
            deadline,
            recent: self.recent_operations(slot, key, existing, *height, transactions)?,
        };
        let lowest = match (beginning, existing) {
            (Beginning::At(height), _) => height,
            (Beginning::Held, Some(existing)) => existing.base,
            (Beginning::Held, None) => 1,
        };
        let may_forget = may_forget_below(head.checkpoint, (*committed_height).min(*height));
        let base =
            if may_forget || self.breaks(Rule::CommittedCheckpoint) { lowest.max(head.checkpoint) } else { lowest };
        Ok(Register { ballot: *ballot, head, base })
    }

    /// Of the last transaction of a new head: when it came in, if it deletes the key; when the key expires.
    fn times(
        &mut self,
        slot: SlotId,
        key: &Key,
        existing: Option<&Register>,
        (height, hash): (u64, Hash),
        transactions: &[Transaction],
    ) -> Result<(Option<WallTime>, Option<WallTime>), ReadError> {
        let times_of = |last: &Transaction| (last.deletes_at(), last.deadline());
        if let Some(last) = transactions.last() {
            return Ok(times_of(last));
        }
        match existing {
            Some(existing) if existing.head.hash == hash => Ok((existing.head.deleted, existing.head.deadline)),
            _ => Ok(self.stored(slot, key, height)?.as_ref().map_or((None, None), times_of)),
        }
    }

    /// The operation ids of a new head, newest first: those of the new transactions, then those below them.
    fn recent_operations(
        &mut self,
        slot: SlotId,
        key: &Key,
        existing: Option<&Register>,
        height: u64,
        transactions: &[Transaction],
    ) -> Result<Vec<OperationId>, ReadError> {
        let mut recent: Vec<_> =
            transactions.iter().rev().take(RECENT_OPERATIONS_MAX).map(|transaction| transaction.operation_id).collect();
        let mut below = transactions.first().map_or(height, |first| first.height - 1);
        match existing {
            Some(register) if register.head.height == below => recent.extend(&register.head.recent),
            _ => {
                while below > 0 && recent.len() < RECENT_OPERATIONS_MAX {
                    let Some(transaction) = self.stored(slot, key, below)? else { break };
                    recent.push(transaction.operation_id);
                    below -= 1;
                }
            }
        }
        recent.truncate(RECENT_OPERATIONS_MAX);
        Ok(recent)
    }

    /// Height of the newest checkpoint of a new head's chain: among the new transactions, else below them.
    fn newest_checkpoint(
        &mut self,
        slot: SlotId,
        key: &Key,
        existing: Option<&Register>,
        height: u64,
        transactions: &[Transaction],
    ) -> Result<u64, ReadError> {
        if let Some(newest) = transactions.iter().rev().find(|transaction| transaction.checkpoint.is_some()) {
            return Ok(newest.height);
        }
        let parent = transactions.first().map_or(height, |first| first.height - 1);
        let Some(existing) = existing else { return Ok(0) };
        if existing.head.checkpoint <= parent {
            return Ok(existing.head.checkpoint);
        }
        // The newest one is cut off: look for the one before. What is stored begins with one, or at the first.
        for height in (existing.base..=parent).rev() {
            let stored = self.stored(slot, key, height)?;
            if stored.is_some_and(|transaction| transaction.checkpoint.is_some()) {
                return Ok(height);
            }
        }
        Ok(0)
    }
}

/// The head after `transactions`, which follow the one that is `below`.
pub(super) fn head_after(below: &Head, transactions: &[Transaction]) -> Head {
    let Some(last) = transactions.last() else { return below.clone() };
    let newest = transactions.iter().rev().find(|transaction| transaction.checkpoint.is_some());
    let added = transactions.iter().rev().map(|transaction| transaction.operation_id);
    Head {
        height: last.height,
        hash: last.hash(),
        checkpoint: newest.map_or(below.checkpoint, |newest| newest.height),
        deleted: last.deletes_at(),
        deadline: last.deadline(),
        recent: added.chain(below.recent.iter().copied()).take(RECENT_OPERATIONS_MAX).collect(),
    }
}

/// Whether what lies below a checkpoint may be forgotten: the checkpoint must be committed, and so far below what is that
/// every head to come still finds the transactions of the operation ids that it remembers.
pub(super) fn may_forget_below(checkpoint: u64, committed_height: u64) -> bool {
    checkpoint > 0 && checkpoint.saturating_add(RECENT_OPERATIONS_MAX as u64) <= committed_height
}

/// Up to where a chain is committed that begins at `base` because somebody was right to forget what is below; 0 if nothing
/// says so.
pub(crate) fn committed_above(base: u64) -> u64 {
    if base > 1 { base.saturating_add(RECENT_OPERATIONS_MAX as u64) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::may_forget_below;
    use crate::store::RECENT_OPERATIONS_MAX;

    #[test]
    fn only_what_every_later_head_does_without_is_forgotten() {
        let recent = RECENT_OPERATIONS_MAX as u64;
        assert!(may_forget_below(10, 10 + recent));
        assert!(!may_forget_below(10, 9 + recent));
        assert!(!may_forget_below(10, 0), "nothing is known to be committed");
        assert!(!may_forget_below(0, 1000), "there is no checkpoint");
    }
}
