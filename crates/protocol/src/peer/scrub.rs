//! Scrubbing: what this node has on its disk is read and checked again, slot by slot, whether anybody asks for it or not.
//! What is found damaged is repaired as if it had been met by a request. In the background this goes on at a bounded
//! rate, from where it was before a restart; when it is asked for, it begins anew and goes as fast as the disk does.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use difuse_keylog::{Store, StoreError, Write};
use difuse_types::{Hash, Instant, Key, SlotId};

use super::{BlockResult, Output, Peer, RequestId};
use crate::request::{Reply, ScrubReport, ScrubTotals};

mod reading;
mod repairs;

use repairs::{Damaged, Waiting};

/// The least time from the beginning of one pass in the background to that of the next.
const PASS_EVERY: Duration = Duration::from_secs(3600);
/// How long after its start a node begins to scrub in the background.
const BEGIN_AFTER: Duration = Duration::from_secs(60);
/// How often the place is remembered for a restart, at most.
const REMEMBER_EVERY: Duration = Duration::from_secs(10);
/// The name under which the store remembers the place.
const PLACE: &str = "scrub";

/// What this node knows of its scrubbing.
#[derive(Default)]
pub(crate) struct Scrub {
    pass: Option<Pass>,
    /// Of the pass under way, or else of the last one.
    report: ScrubReport,
    totals: ScrubTotals,
    next_pass_at: Instant,
    /// Where the next pass in the background begins.
    place: SlotId,
    remembered_at: Instant,
}

/// A pass under way.
struct Pass {
    slot: SlotId,
    /// Slots to go, with this one.
    slots_left: u32,
    step: Step,
    /// Commands to the disk that have not ended.
    reading: usize,
    /// How many bytes may be read before waiting; negative when more were.
    budget: i64,
    refilled_at: Instant,
    /// What was found damaged and is not repaired yet.
    damaged: BTreeMap<Damaged, Waiting>,
    looked_at: Instant,
    /// When something was last found repaired.
    repaired_at: Instant,
}

/// What is being read of the slot.
enum Step {
    Keys {
        /// The keys of a page that are still to be read.
        page: VecDeque<Key>,
        /// Where the next page begins.
        after: Option<Key>,
        is_last: bool,
        /// The next height of the first key.
        height: u64,
    },
    Blocks {
        page: VecDeque<(Hash, u32)>,
        after: Option<Hash>,
        is_last: bool,
        is_listing: bool,
    },
    /// All slots are read: waiting for repairs.
    Repairs,
}

impl Step {
    /// The beginning of a slot.
    fn first() -> Self {
        Self::Keys { page: VecDeque::new(), after: None, is_last: false, height: 0 }
    }
}

/// What a command to the disk is for.
#[derive(Clone, Copy)]
pub(crate) enum ScrubPurpose {
    List,
    Verify(Hash),
    /// Whether a lost block has its content again.
    Look(Hash),
}

impl<S: Store> Peer<S> {
    /// Finds the place where this node was before it restarted.
    pub(super) fn load_scrub(&mut self) -> Result<(), StoreError> {
        let place = self.keylog.store().meta(PLACE)?.and_then(|bytes| Some(u32::from_le_bytes(bytes.try_into().ok()?)));
        self.scrub.place = SlotId(place.unwrap_or(0) % self.settings.slots.count());
        self.scrub.next_pass_at = self.now + BEGIN_AFTER;
        Ok(())
    }

    /// Begins a pass if `start`, unless one that was asked for is under way; tells how it stands.
    pub(super) fn answer_scrub(&mut self, id: RequestId, start: bool) {
        if start && !(self.scrub.pass.is_some() && self.scrub.report.is_asked_for) {
            self.begin_scrub(SlotId(0), true);
        }
        let report = Box::new(self.scrub.report.clone());
        self.reply(id, Ok(Reply::Scrub(report)));
    }

    fn begin_scrub(&mut self, slot: SlotId, is_asked_for: bool) {
        let now = self.now;
        let is_own = |slot: &SlotId| self.is_member_of(*slot);
        let slots_total = self.settings.slots.iter().filter(is_own).count() as u32;
        self.scrub.report = ScrubReport {
            pass: self.scrub.report.pass + 1,
            is_running: true,
            is_asked_for,
            slots_total,
            ..ScrubReport::default()
        };
        self.scrub.next_pass_at = now + PASS_EVERY;
        self.scrub.pass = Some(Pass {
            slot,
            slots_left: self.settings.slots.count(),
            step: Step::first(),
            reading: 0,
            budget: 0,
            refilled_at: now,
            damaged: BTreeMap::new(),
            looked_at: now,
            repaired_at: now,
        });
    }

    fn is_member_of(&self, slot: SlotId) -> bool {
        self.keylog.configuration(slot).is_some_and(|configuration| configuration.contains(&self.me))
    }

    pub(super) fn sweep_scrub(&mut self) -> Result<(), StoreError> {
        let is_due = self.scrub.next_pass_at <= self.now && self.is_joined;
        if self.scrub.pass.is_none() && is_due && self.options.scrub_rate.is_some() {
            self.begin_scrub(self.scrub.place, false);
        }
        self.refill();
        self.look_after_damaged()?;
        self.advance_scrub()
    }

    /// Lets time pay for what may be read.
    fn refill(&mut self) {
        let (now, is_asked_for) = (self.now, self.scrub.report.is_asked_for);
        let rate = self.options.scrub_rate.unwrap_or(0);
        let Some(pass) = &mut self.scrub.pass else { return };
        let elapsed = now.since(std::mem::replace(&mut pass.refilled_at, now));
        let earned = u128::from(rate).saturating_mul(elapsed.as_micros()) / 1_000_000;
        let most = if is_asked_for { i64::MAX } else { i64::try_from(rate).unwrap_or(i64::MAX) };
        let earned = if is_asked_for { i64::MAX } else { i64::try_from(earned).unwrap_or(i64::MAX) };
        pass.budget = pass.budget.saturating_add(earned).min(most);
    }

    /// The slot is read: goes on to the next one.
    fn next_slot_to_scrub(&mut self) -> Result<(), StoreError> {
        let (now, count) = (self.now, self.settings.slots.count());
        let Some(slot) = self.scrub.pass.as_ref().map(|pass| pass.slot) else { return Ok(()) };
        let is_own = self.is_member_of(slot);
        let Some(pass) = &mut self.scrub.pass else { return Ok(()) };
        self.scrub.report.slots_done += u32::from(is_own);
        pass.slots_left = pass.slots_left.saturating_sub(1);
        pass.slot = SlotId((slot.0 + 1) % count);
        pass.step = if pass.slots_left == 0 { Step::Repairs } else { Step::first() };
        self.scrub.place = pass.slot;
        if is_own && now.since(self.scrub.remembered_at) >= REMEMBER_EVERY {
            self.scrub.remembered_at = now;
            let place = self.scrub.place.0.to_le_bytes().to_vec();
            self.keylog.remember(vec![Write::Meta(PLACE.to_string(), Some(place))])?;
        }
        Ok(())
    }

    /// Everything is read, and what was damaged is repaired or given up.
    fn finish_scrub(&mut self) {
        self.scrub.pass = None;
        self.scrub.report.is_running = false;
        let report = &self.scrub.report;
        let damaged = report.damaged_keys + report.damaged_blocks;
        if damaged > 0 {
            let (repaired, given_up) = (report.repaired, report.unrepaired);
            let text = format!("scrub: {damaged} keys and blocks were damaged, {repaired} repaired, {given_up} not");
            self.outputs.push(Output::Warn(text));
        }
    }

    /// What was read, found and repaired since this node started.
    pub fn scrub_totals(&self) -> ScrubTotals {
        self.scrub.totals
    }

    pub(super) fn handle_scrub_command(
        &mut self,
        number: u64,
        slot: SlotId,
        purpose: ScrubPurpose,
        result: BlockResult,
    ) -> Result<(), StoreError> {
        if self.scrub.report.pass != number || self.scrub.pass.is_none() {
            return Ok(());
        }
        match purpose {
            ScrubPurpose::List => self.handle_scrub_list(slot, result),
            ScrubPurpose::Verify(hash) => self.handle_verified(slot, hash, result),
            ScrubPurpose::Look(hash) => self.handle_looked(slot, hash, &result),
        }
        self.advance_scrub()
    }
}

#[cfg(test)]
mod tests;
