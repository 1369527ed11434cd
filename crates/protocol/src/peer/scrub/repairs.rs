//! What a pass found damaged, until it is repaired or given up.

use std::time::Duration;

use difuse_blocks::BlockRecord;
use difuse_keylog::{Store, StoreError};
use difuse_types::{Hash, Instant, Key, SlotId};

use super::ScrubPurpose;
use crate::{
    peer::{BlockCommand, BlockResult, Peer, member::CommandPurpose},
    request::{ScrubbedItem, UNREPAIRED_LISTED_MAX, Unrepaired},
};

/// The most things that wait for their repair: then a pass reads no further.
pub(super) const WAITING_MAX: usize = 512;
/// How often it is looked whether something is repaired.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// After how many comparisons of its slot a block that is still lost is given up.
const LOOKS_MAX: u32 = 3;
/// For how long a repair is waited for while nothing else is repaired either.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something that a pass found damaged.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Damaged {
    /// A key with transactions that cannot be read.
    Key(Key),
    /// A block whose content cannot be read, or is another.
    Block(Hash),
}

/// Something damaged that waits for its repair.
pub(super) struct Waiting {
    slot: SlotId,
    /// Of a key: the lowest transaction that cannot be read.
    height: u64,
    found_at: Instant,
    /// How often it was found still lost after its slot was compared.
    looks: u32,
}

impl<S: Store> Peer<S> {
    pub(super) fn note_damaged(&mut self, slot: SlotId, item: Damaged, height: u64) {
        let now = self.now;
        let Some(pass) = &mut self.scrub.pass else { return };
        if pass.damaged.contains_key(&item) {
            return;
        }
        match item {
            Damaged::Key(_) => self.scrub.report.damaged_keys += 1,
            Damaged::Block(_) => self.scrub.report.damaged_blocks += 1,
        }
        self.scrub.totals.damaged += 1;
        pass.damaged.insert(item, Waiting { slot, height, found_at: now, looks: 0 });
    }

    /// Looks what is repaired by now, and what cannot be.
    pub(super) fn look_after_damaged(&mut self) -> Result<(), StoreError> {
        let now = self.now;
        let Some(pass) = &mut self.scrub.pass else { return Ok(()) };
        if now.since(pass.looked_at) < LOOK_EVERY || pass.damaged.is_empty() {
            return Ok(());
        }
        pass.looked_at = now;
        let repaired_at = pass.repaired_at;
        let waiting = pass.damaged.iter();
        let waiting: Vec<_> = waiting
            .map(|(item, it)| (item.clone(), it.slot, it.height, now.since(it.found_at.max(repaired_at))))
            .collect();
        for (item, slot, height, waited) in waiting {
            match &item {
                Damaged::Key(key) if !self.is_needed(slot, key, height)? => self.note_repaired(&item),
                Damaged::Key(key) if self.keylog.verify_stored(slot, key, height)?.is_some() => {
                    self.note_repaired(&item);
                }
                Damaged::Block(hash) if !self.is_fetching_blocks(slot) => {
                    let of = ScrubPurpose::Look(*hash);
                    let purpose = CommandPurpose::Scrub { pass: self.scrub.report.pass, slot, of };
                    self.command(BlockCommand::Stat { hash: *hash }, purpose);
                }
                _ if waited >= PATIENCE || self.others_in(slot) == Others::None => {
                    self.give_up_repair(item, slot, "no other member of its slot has sent it");
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a key's transaction at a height is still to be kept here.
    fn is_needed(&self, slot: SlotId, key: &Key, height: u64) -> Result<bool, StoreError> {
        let register = self.keylog.store().register(slot, key)?;
        Ok(register.is_some_and(|register| (register.base..=register.head.height).contains(&height)))
    }

    /// Whether what this node lacks of a slot is still being looked for.
    fn is_fetching_blocks(&self, slot: SlotId) -> bool {
        self.repair.behind.contains(&slot) || self.transfers.contains_key(&slot)
    }

    pub(super) fn handle_looked(&mut self, slot: SlotId, hash: Hash, result: &BlockResult) {
        let item = Damaged::Block(hash);
        match result {
            BlockResult::Record(Some(BlockRecord { present: true, lost: true, .. })) => {
                let Some(waiting) = self.scrub.pass.as_mut().and_then(|pass| pass.damaged.get_mut(&item)) else {
                    return;
                };
                waiting.looks += 1;
                if waiting.looks >= LOOKS_MAX {
                    self.give_up_repair(item, slot, "no other member of its slot has its content");
                } else {
                    // The comparison that has ended may have begun before the loss was found.
                    self.note_loss(slot);
                }
            }
            BlockResult::Record(_) => self.note_repaired(&item),
            _ => {}
        }
    }

    fn note_repaired(&mut self, item: &Damaged) {
        let now = self.now;
        let Some(pass) = &mut self.scrub.pass else { return };
        if pass.damaged.remove(item).is_some() {
            pass.repaired_at = now;
            self.scrub.report.repaired += 1;
            self.scrub.totals.repaired += 1;
        }
    }

    fn give_up_repair(&mut self, item: Damaged, slot: SlotId, reason: &str) {
        let reason = match self.others_in(slot) {
            Others::None => "this node is the only member of its slot",
            Others::OutOfReach => "no other member of its slot can be reached",
            Others::InReach if self.keylog.store().check_room().is_err() => "the disk is full",
            Others::InReach => reason,
        };
        let Some(pass) = &mut self.scrub.pass else { return };
        if pass.damaged.remove(&item).is_none() {
            return;
        }
        self.scrub.report.unrepaired += 1;
        self.scrub.totals.unrepaired += 1;
        let listed = &mut self.scrub.report.unrepaired_items;
        if listed.len() < UNREPAIRED_LISTED_MAX {
            let item = match item {
                Damaged::Key(key) => ScrubbedItem::Key(key),
                Damaged::Block(hash) => ScrubbedItem::Block(hash),
            };
            listed.push(Unrepaired { slot, item, reason: reason.to_string() });
        }
    }

    fn others_in(&self, slot: SlotId) -> Others {
        let members = self.keylog.configuration(slot).map(|known| known.all_members()).unwrap_or_default();
        let others: Vec<_> = members.into_iter().filter(|node| *node != self.me).collect();
        match others.is_empty() {
            true => Others::None,
            false if self.alive(others).is_empty() => Others::OutOfReach,
            false => Others::InReach,
        }
    }
}

/// The other members of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    None,
    OutOfReach,
    InReach,
}
