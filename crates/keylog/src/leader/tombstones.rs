//! Dropping tombstones: giving up the registers of keys that were deleted long ago (DESIGN section 5, *Deleting and
//! compacting*; the problem is that of section 3.1 of the CASPaxos paper).
//!
//! A member without a register cannot tell a key that was dropped from one that was never written. So no member, and no
//! message, may be left that knows of a value:
//!
//! 1. The leader of a slot that is synced and not moving proposes the tombstone again, at a new ballot, and waits until
//!    *every* member has accepted it, durably. From then on each member holds the tombstone or what came after it.
//! 2. If nothing came after it, and everything that was proposed up to that ballot is committed, the leader drops its own
//!    register and tells the others to drop theirs, up to that ballot. In the same batch each promises to accept nothing up
//!    to that ballot for keys without a register ([`SlotRecord::dropped`](crate::SlotRecord::dropped)), so that a proposal
//!    of the key's earlier life that comes late brings nothing back. Proposals of earlier terms are refused anyway.
//!
//! A member that was not told keeps its tombstone. A leader that finds it, in a comparison, tells it again, or proposes it
//! again in a new term: no value and no register mean the same to readers and writers. A node that becomes a member again
//! begins empty: what it held before counts in no majority.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_types::{Instant, Key, KeyPrefix, NodeId, SlotId, WallTime};

use super::{Leadership, Phase, Stage};
use crate::{
    Ballot, DROPS_MAX, KeylogMessage, Proposal, Register, SCAN_PAGE_MAX,
    keylog::{Keylog, SlotState},
    rule::Rule,
    store::{Store, StoreError},
};

/// How many tombstones of a slot are being dropped at the same time.
const WAITING_MAX: usize = 64;
const _: () = assert!(WAITING_MAX <= DROPS_MAX);
/// For how long every member is waited for; then the search finds the tombstone again.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon and how late a slot is searched again.
const SEARCH_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// The tombstones of a slot, to its leader.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Tombstones {
    /// Proposed again, and not accepted by every member yet.
    waiting: BTreeMap<Key, Waiting>,
    /// The search goes on after this key.
    after: Option<Key>,
    search_at: Instant,
}

#[derive(Clone, Debug, Hash)]
struct Waiting {
    ballot: Ballot,
    missing: BTreeSet<NodeId>,
    since: Instant,
    sent_at: Instant,
}

impl Tombstones {
    fn is_due(&self, now: Instant) -> bool {
        !self.waiting.is_empty() || self.search_at <= now
    }

    /// A member has accepted a proposal.
    pub(crate) fn note_accepted(&mut self, from: NodeId, ballot: Ballot, key: &Key) {
        if let Some(waiting) = self.waiting.get_mut(key).filter(|waiting| waiting.ballot == ballot) {
            waiting.missing.remove(&from);
        }
    }
}

impl Leadership {
    /// Whether nothing that was proposed up to this sequence is still on its way: if its key had no register, a member that
    /// drops others up to there would not accept it any more.
    fn is_done_through(&self, sequence: u64) -> bool {
        sequence <= self.committed_through() && !self.awaits_through(sequence)
    }
}

impl<S: Store> Keylog<S> {
    /// Drops tombstones that every member holds, and looks for more: each time through a part of one slot.
    pub(crate) fn tick_tombstones(&mut self) -> Result<(), StoreError> {
        let Some(kept) = self.options.tombstones_kept else { return Ok(()) };
        let now = self.now;
        let is_due = |state: &SlotState| match &state.phase {
            Phase::Leading(leadership) => leadership.tombstones.is_due(now),
            _ => false,
        };
        let due: Vec<SlotId> = self.slots.iter().filter(|(_, state)| is_due(state)).map(|(slot, _)| *slot).collect();
        let mut may_search = true;
        for slot in due {
            self.tick_tombstones_of(slot, kept, &mut may_search)?;
        }
        Ok(())
    }

    fn tick_tombstones_of(&mut self, slot: SlotId, kept: Duration, may_search: &mut bool) -> Result<(), StoreError> {
        if !self.may_drop(slot) {
            if let Some(leadership) = self.leadership(slot) {
                leadership.tombstones.waiting.clear();
            }
            return Ok(());
        }
        if self.drop_held(slot)? {
            // This node drops its own when the tick is over: a search would find them, and propose them again.
            return Ok(());
        }
        self.resend_tombstones(slot)?;
        self.search_tombstones(slot, kept, may_search)
    }

    /// Whether every member can be asked, and they are who counts.
    fn may_drop(&mut self, slot: SlotId) -> bool {
        let is_reachable = |node: &NodeId| *node == self.me || !self.suspects.contains(node);
        let is_whole = self.configuration(slot).is_some_and(|configuration| {
            let is_at_rest = !configuration.is_joint() && !configuration.is_recovery();
            is_at_rest && configuration.members.iter().all(is_reachable)
        });
        is_whole && self.leadership(slot).is_some_and(|leadership| leadership.is_synced && leadership.change.is_none())
    }

    /// Drops the tombstones that every member has accepted; whether there were any.
    fn drop_held(&mut self, slot: SlotId) -> Result<bool, StoreError> {
        let is_hasty = self.breaks(Rule::HeldTombstones);
        let Some(leadership) = self.leadership(slot) else { return Ok(false) };
        let is_held = |(key, waiting): &(&Key, &Waiting)| {
            let is_idle = !leadership.keys.contains_key(*key);
            let is_accepted = waiting.missing.is_empty() || is_hasty;
            is_accepted && is_idle && leadership.is_done_through(waiting.ballot.sequence)
        };
        let held: Vec<(Key, Ballot)> = leadership
            .tombstones
            .waiting
            .iter()
            .filter(is_held)
            .map(|(key, waiting)| (key.clone(), waiting.ballot))
            .collect();
        let mut dropped = Vec::new();
        for (key, ballot) in held {
            if let Some(leadership) = self.leadership(slot) {
                leadership.tombstones.waiting.remove(&key);
            }
            let is_still = |own: &Register| own.ballot == ballot && own.head.deleted.is_some();
            if self.store.register(slot, &key)?.as_ref().is_some_and(is_still) {
                dropped.push((key, ballot));
            }
        }
        let is_dropping = !dropped.is_empty();
        self.tell_dropped(slot, dropped);
        Ok(is_dropping)
    }

    /// Tells every member, this one first, to drop registers.
    fn tell_dropped(&mut self, slot: SlotId, keys: Vec<(Key, Ballot)>) {
        let now = self.now;
        let Some(through) = keys.iter().map(|(_, ballot)| *ballot).max() else { return };
        if let Some(leadership) = self.leadership(slot) {
            // The others differ for a moment.
            leadership.last_append = now;
        }
        for member in self.configuration(slot).map(crate::Configuration::all_members).unwrap_or_default() {
            self.send(member, KeylogMessage::Drop { slot, through, keys: keys.clone() });
        }
    }

    /// A key is settled as absent, and members hold registers of it all the same: tombstones that they were not told to
    /// drop, or proposals that can never be committed.
    pub(crate) fn drop_strays(&mut self, slot: SlotId, key: &Key, strays: Vec<(NodeId, Ballot)>) {
        let Some(leadership) = self.leadership(slot) else { return };
        let term = leadership.term;
        let Some(last) = strays.iter().map(|(_, ballot)| *ballot).max() else { return };
        let through = last.max(Ballot { term, sequence: 0 });
        if through.term > term || !leadership.is_done_through(through.sequence) {
            // Found again at the next comparison.
            return;
        }
        for (member, ballot) in strays {
            self.send(member, KeylogMessage::Drop { slot, through, keys: vec![(key.clone(), ballot)] });
        }
    }

    /// Asks those who have not accepted again, and gives up on tombstones for which that takes too long.
    fn resend_tombstones(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let (now, resend_after) = (self.now, self.options.resend_after);
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let (committed_through, without_steps) = (leadership.committed_through(), leadership.begins_without_steps());
        leadership.tombstones.waiting.retain(|_, waiting| now.since(waiting.since) < PATIENCE);
        let is_late = |waiting: &Waiting| !waiting.missing.is_empty() && now.since(waiting.sent_at) >= resend_after;
        let mut late = Vec::new();
        for (key, waiting) in leadership.tombstones.waiting.iter_mut().filter(|(_, waiting)| is_late(waiting)) {
            waiting.sent_at = now;
            late.push((key.clone(), waiting.clone()));
        }
        for (key, Waiting { ballot, missing, .. }) in late {
            let Some(own) = self.store.register(slot, &key)?.filter(|own| own.ballot == ballot) else { continue };
            let proposal = Proposal::again(key, &own, committed_through, without_steps);
            for member in missing {
                self.send(member, KeylogMessage::Accept { slot, proposal: proposal.clone() });
            }
        }
        Ok(())
    }

    /// Looks through a part of the slot for tombstones that are old enough, and proposes them again.
    fn search_tombstones(&mut self, slot: SlotId, kept: Duration, may_search: &mut bool) -> Result<(), StoreError> {
        let now = self.now;
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let tombstones = &mut leadership.tombstones;
        if !*may_search || now < tombstones.search_at || tombstones.waiting.len() >= WAITING_MAX {
            return Ok(());
        }
        let after = tombstones.after.take();
        let again_at = now + (kept / 8).clamp(*SEARCH_EVERY.start(), *SEARCH_EVERY.end());
        tombstones.search_at = again_at;
        if self.store.size(slot)?.tombstones == 0 {
            return Ok(());
        }
        *may_search = false;
        let page = self.store.scan(slot, &KeyPrefix::new(), after.as_ref(), SCAN_PAGE_MAX)?;
        let is_last = page.len() < SCAN_PAGE_MAX;
        let mut last = None;
        let mut is_whole = true;
        for (key, register) in page {
            if self.is_old_tombstone(&register, kept) && !self.is_needed_by_steps(slot, &key) {
                is_whole = self.propose_tombstone(slot, &key, &register)?;
                if !is_whole {
                    break;
                }
            }
            last = Some(key);
        }
        if let Some(leadership) = self.leadership(slot).filter(|_| !is_last || !is_whole) {
            leadership.tombstones.after = last.or(after);
            leadership.tombstones.search_at = now;
        }
        Ok(())
    }

    fn is_needed_by_steps(&mut self, slot: SlotId, key: &Key) -> bool {
        self.leadership(slot).is_some_and(|leadership| leadership.steps.needs_height_of(key))
    }

    fn is_old_tombstone(&self, register: &Register, kept: Duration) -> bool {
        let kept_ms = u64::try_from(kept.as_millis()).unwrap_or(u64::MAX);
        register.head.deleted.is_some_and(|WallTime(time)| time.saturating_add(kept_ms) <= self.wall.0)
    }

    /// Proposes a tombstone again, for every member to accept, unless something else is under way for the key; whether there
    /// was room for that.
    fn propose_tombstone(&mut self, slot: SlotId, key: &Key, register: &Register) -> Result<bool, StoreError> {
        let now = self.now;
        let members = self.configuration(slot).map(crate::Configuration::all_members).unwrap_or_default();
        let Some(leadership) = self.leadership(slot) else { return Ok(false) };
        if leadership.tombstones.waiting.len() >= WAITING_MAX {
            return Ok(false);
        }
        if leadership.keys.contains_key(key) || leadership.tombstones.waiting.contains_key(key) {
            return Ok(true);
        }
        let (height, hash) = (register.head.height, register.head.hash);
        self.propose(slot, key, (height, hash), Vec::new(), Some(height), Vec::new())?;
        let Some(leadership) = self.leadership(slot) else { return Ok(false) };
        if let Some(Stage::Proposing(proposing)) = leadership.keys.get(key).map(|state| &state.stage) {
            let ballot = proposing.proposal.ballot;
            let waiting = Waiting { ballot, missing: members.into_iter().collect(), since: now, sent_at: now };
            leadership.tombstones.waiting.insert(key.clone(), waiting);
        }
        Ok(true)
    }
}
