//! What a pass reads next.

use std::collections::VecDeque;

use bytes::Bytes;
use difuse_blocks::BlockRecord;
use difuse_keylog::{Store, StoreError};
use difuse_types::{Hash, Key, SlotId};

use super::{
    ScrubPurpose, Step,
    repairs::{Damaged, WAITING_MAX},
};
use crate::peer::{BlockCommand, BlockResult, Peer, member::CommandPurpose};

/// What reading a transaction costs at least. It is a page of the disk, and as much again several times to find it: at the
/// usual rate this leaves a node's processor to those who wait for it.
const TRANSACTION_COST_MIN: u64 = 16 << 10;
/// How many transactions are read at a time, so that requests need not wait.
const TRANSACTIONS_AT_ONCE: usize = 256;
/// How many blocks are read side by side.
const BLOCKS_AT_ONCE: usize = 8;
/// How many keys are looked up at a time.
const KEYS_AT_ONCE: usize = 64;

impl<S: Store> Peer<S> {
    /// Reads on as far as the budget and the bound on damaged things allow.
    pub(super) fn advance_scrub(&mut self) -> Result<(), StoreError> {
        let mut transactions_left = TRANSACTIONS_AT_ONCE;
        loop {
            let Some(pass) = &self.scrub.pass else { return Ok(()) };
            if matches!(pass.step, Step::Repairs) {
                if pass.damaged.is_empty() && pass.reading == 0 {
                    self.finish_scrub();
                }
                return Ok(());
            }
            if pass.budget <= 0 || pass.damaged.len() >= WAITING_MAX {
                return Ok(());
            }
            let slot = pass.slot;
            if !self.is_member_of(slot) {
                if pass.reading > 0 {
                    return Ok(());
                }
                self.next_slot_to_scrub()?;
                continue;
            }
            let goes_on = match pass.step {
                Step::Keys { .. } => self.scrub_keys(slot, &mut transactions_left)?,
                Step::Blocks { .. } => self.scrub_blocks(slot)?,
                Step::Repairs => false,
            };
            if !goes_on {
                return Ok(());
            }
        }
    }

    /// Reads the next transaction of the slot; whether to go on.
    fn scrub_keys(&mut self, slot: SlotId, transactions_left: &mut usize) -> Result<bool, StoreError> {
        let Some(pass) = &mut self.scrub.pass else { return Ok(false) };
        let Step::Keys { page, after, is_last, height } = &mut pass.step else { return Ok(true) };
        let Some(key) = page.front().cloned() else {
            if *is_last {
                pass.step = Step::Blocks { page: VecDeque::new(), after: None, is_last: false, is_listing: false };
                return Ok(true);
            }
            let found = self.keylog.store().scan(slot, &Bytes::new(), after.as_ref(), KEYS_AT_ONCE)?;
            *is_last = found.len() < KEYS_AT_ONCE;
            page.extend(found.into_iter().map(|(key, _)| key));
            *after = page.back().cloned().or(after.take());
            *height = 0;
            return Ok(true);
        };
        // Asked for anew each time: the chain may have grown, or been cut, since the page was made.
        let register = self.keylog.store().register(slot, &key)?;
        let next = register.as_ref().map(|register| (*height).max(register.base));
        let Some(next) = next.filter(|next| register.is_some_and(|register| *next <= register.head.height)) else {
            page.pop_front();
            *height = 0;
            return Ok(true);
        };
        if *transactions_left == 0 {
            return Ok(false);
        }
        *transactions_left -= 1;
        *height = next + 1;
        self.verify_transaction(slot, key, next)?;
        Ok(true)
    }

    fn verify_transaction(&mut self, slot: SlotId, key: Key, height: u64) -> Result<(), StoreError> {
        let bytes = self.keylog.verify_stored(slot, &key, height)?;
        let scrub = &mut self.scrub;
        for count in [&mut scrub.report.transactions, &mut scrub.totals.transactions] {
            *count += 1;
        }
        self.pay_for(bytes.unwrap_or(0), TRANSACTION_COST_MIN);
        if bytes.is_none() {
            self.note_damaged(slot, Damaged::Key(key), height);
        }
        Ok(())
    }

    fn pay_for(&mut self, bytes: u64, cost_min: u64) {
        let scrub = &mut self.scrub;
        for count in [&mut scrub.report.bytes, &mut scrub.totals.bytes] {
            *count += bytes;
        }
        if let Some(pass) = &mut scrub.pass {
            pass.budget = pass.budget.saturating_sub(i64::try_from(bytes.max(cost_min)).unwrap_or(i64::MAX));
        }
    }

    /// Reads the next block of the slot; whether to go on.
    fn scrub_blocks(&mut self, slot: SlotId) -> Result<bool, StoreError> {
        let number = self.scrub.report.pass;
        let Some(pass) = &mut self.scrub.pass else { return Ok(false) };
        let Step::Blocks { page, after, is_last, is_listing } = &mut pass.step else { return Ok(true) };
        if *is_listing || pass.reading >= BLOCKS_AT_ONCE {
            return Ok(false);
        }
        let (command, of, length) = match page.pop_front() {
            Some((hash, length)) => (BlockCommand::Verify { hash }, ScrubPurpose::Verify(hash), length),
            None if *is_last && pass.reading > 0 => return Ok(false),
            None if *is_last => {
                self.next_slot_to_scrub()?;
                return Ok(true);
            }
            None => {
                *is_listing = true;
                (BlockCommand::List { slot, after: *after }, ScrubPurpose::List, 0)
            }
        };
        pass.reading += 1;
        self.command(command, CommandPurpose::Scrub { pass: number, slot, of });
        self.pay_for(u64::from(length), 0);
        Ok(true)
    }

    pub(super) fn handle_scrub_list(&mut self, slot: SlotId, result: BlockResult) {
        let Some(pass) = &mut self.scrub.pass else { return };
        pass.reading = pass.reading.saturating_sub(1);
        let Step::Blocks { page, after, is_last, is_listing } = &mut pass.step else { return };
        if pass.slot != slot {
            return;
        }
        *is_listing = false;
        match result {
            BlockResult::Page { records, is_last: is_end } => {
                *is_last = is_end || records.is_empty();
                *after = records.last().map(|(hash, _)| *hash).or(*after);
                let present = records.into_iter().filter(|(_, record)| record.present);
                page.extend(present.map(|(hash, record)| (hash, record.length)));
            }
            // The disk cannot list it: nothing more is to be found out about this slot.
            _ => *is_last = true,
        }
    }

    pub(super) fn handle_verified(&mut self, slot: SlotId, hash: Hash, result: BlockResult) {
        let Some(pass) = &mut self.scrub.pass else { return };
        pass.reading = pass.reading.saturating_sub(1);
        let BlockResult::Record(Some(BlockRecord { present: true, lost, .. })) = result else { return };
        let scrub = &mut self.scrub;
        for count in [&mut scrub.report.blocks, &mut scrub.totals.blocks] {
            *count += 1;
        }
        if lost {
            self.note_loss(slot);
            self.note_damaged(slot, Damaged::Block(hash), 0);
        }
    }
}
