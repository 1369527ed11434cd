//! Comparing all registers of a slot with those of its members, page by page, and proposing again what differs: this is
//! how a new leader learns what is committed, how a member that was away catches up, and how newcomers get the keys of
//! a slot that moves. All of it is ordinary proposals, so it is as safe as they are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use difuse_types::{Instant, Key, NodeId, SlotId};

use super::{Leadership, Phase, Reads, Stage};
use crate::{
    Configuration, KeylogMessage, RegisterSummary, SlotDigest, Term,
    keylog::{Held, Keylog, SlotState},
    replica::summary_of,
    store::{Store, StoreError},
};

/// How many keys of a slot are repaired at the same time.
const REPAIRS_MAX: usize = 64;
/// How soon a comparison that found differences is repeated.
const REPEAT_AFTER: Duration = Duration::from_millis(50);
/// A member that was in sync a moment ago differs only because proposals are on their way.
const QUIET_AFTER: Duration = Duration::from_secs(1);
/// How many slots a node compares as leader at the same time: were it all of a large ring's, after a start, nobody would
/// have time to answer anything else.
const COMPARISONS_MAX: usize = 16;
/// How often the pause before a page is asked for again doubles; from then on the comparison is not counted among those
/// under way, so that one member that does not answer holds up nobody else.
const DOUBLINGS_MAX: u32 = 4;

/// A comparison under way.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Sync {
    /// The page being compared begins after this key.
    after: Option<Key>,
    /// The members that take part.
    asked: BTreeSet<NodeId>,
    pages: BTreeMap<NodeId, (Vec<(Key, RegisterSummary)>, bool)>,
    /// Keys that differ and are still to be repaired.
    waiting: VecDeque<(Key, Reads)>,
    /// Keys being repaired.
    repairing: BTreeSet<Key>,
    /// Whether the page being repaired is the last one.
    is_last: bool,
    /// Whether nothing differed so far.
    is_clean: bool,
    /// The proposal whose generation is sealed if nothing differs.
    seals: Option<u64>,
    /// The last of the proposals on which members may differ: they agree once it is committed.
    differs_through: u64,
    sent_at: Instant,
    /// How often the current page was asked for again.
    repeats: u32,
}

/// The slots that this node compares as their leader, and those that wait for their turn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Comparisons {
    running: BTreeSet<SlotId>,
    /// In their order: slots that are not synced first, then those that have been due for longest.
    waiting: BTreeSet<(bool, Instant, SlotId)>,
}

impl Sync {
    /// Notes that nothing is under way for a key any more; says whether it was being repaired.
    pub(crate) fn finish_key(&mut self, key: &Key) -> bool {
        self.repairing.remove(key)
    }

    fn is_page_complete(&self) -> bool {
        self.asked.iter().all(|node| self.pages.contains_key(node))
    }

    fn is_repaired(&self) -> bool {
        self.waiting.is_empty() && self.repairing.is_empty()
    }
}

impl<S: Store> Keylog<S> {
    /// Begins a comparison if one is due.
    pub(crate) fn start_sync_if_due(&mut self, slot: SlotId) {
        let now = self.now;
        let Some(state) = self.slots.get(&slot) else { return };
        let Phase::Leading(leadership) = &state.phase else { return };
        let is_due = leadership.sync_at.is_some_and(|at| at <= now) && leadership.sync.is_none();
        if !is_due {
            return;
        }
        // A member that is full would accept nothing of what a comparison proposes again; but a new leader needs its word, and
        // so does a collection.
        let is_sealing = leadership.sealing.as_ref().is_some_and(|sealing| sealing.is_pending(now));
        let is_passed_over = |node: &NodeId| leadership.is_synced && !is_sealing && self.is_full(node);
        let configuration = &state.record.configuration;
        let asked: BTreeSet<_> = (configuration.all_members().into_iter())
            .filter(|node| *node == self.me || !(self.suspects.contains(node) || is_passed_over(node)))
            .collect();
        if !configuration.is_quorum(&asked) {
            return;
        }
        let turn = (leadership.is_synced, leadership.sync_at.unwrap_or(now), slot);
        if !self.may_compare() {
            self.comparisons.waiting.insert(turn);
            return;
        }
        self.comparisons.running.insert(slot);
        let seals = self.sealed_by(slot, &asked);
        let Some(leadership) = self.leadership(slot) else { return };
        leadership.sync_at = None;
        leadership.sync = Some(Sync {
            after: None,
            asked,
            pages: BTreeMap::new(),
            waiting: VecDeque::new(),
            repairing: BTreeSet::new(),
            is_last: false,
            is_clean: true,
            seals,
            differs_through: 0,
            sent_at: now,
            repeats: 0,
        });
        self.ask_for_pages(slot);
    }

    /// Whether another comparison may begin now.
    fn may_compare(&mut self) -> bool {
        let slots = &self.slots;
        let is_under_way = |slot: &SlotId| match slots.get(slot).map(|state| &state.phase) {
            Some(Phase::Leading(leadership)) => {
                leadership.sync.as_ref().is_some_and(|sync| sync.repeats < DOUBLINGS_MAX)
            }
            _ => false,
        };
        self.comparisons.running.retain(is_under_way);
        self.comparisons.running.len() < COMPARISONS_MAX
    }

    /// Begins the comparisons whose turn it is.
    pub(crate) fn start_waiting_syncs(&mut self) {
        while !self.comparisons.waiting.is_empty() && self.may_compare() {
            if let Some((.., slot)) = self.comparisons.waiting.pop_first() {
                self.start_sync_if_due(slot);
            }
        }
    }

    /// Asks for the current page whoever has not sent it.
    pub(crate) fn ask_for_pages(&mut self, slot: SlotId) {
        let now = self.now;
        let Some(leadership) = self.leadership(slot) else { return };
        let term = leadership.term;
        let Some(sync) = &mut leadership.sync else { return };
        sync.sent_at = now;
        let after = sync.after.clone();
        let missing: Vec<_> = sync.asked.iter().filter(|node| !sync.pages.contains_key(node)).copied().collect();
        for member in missing {
            self.send(member, KeylogMessage::Scan { slot, term, after: after.clone() });
        }
    }

    pub(crate) fn resend_sync(&mut self, slot: SlotId) {
        let (now, resend_after) = (self.now, self.options.resend_after);
        let Some(leadership) = self.leadership(slot) else { return };
        let Some(sync) = &mut leadership.sync else { return };
        let patience = resend_after * (1 << sync.repeats.min(DOUBLINGS_MAX));
        if !sync.is_page_complete() && now.since(sync.sent_at) >= patience {
            sync.repeats = sync.repeats.saturating_add(1);
            self.ask_for_pages(slot);
        }
    }

    pub(crate) fn handle_scanned(
        &mut self,
        from: NodeId,
        slot: SlotId,
        term: Term,
        after: Option<Key>,
        registers: Vec<(Key, RegisterSummary)>,
        is_last: bool,
    ) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot).filter(|leadership| leadership.term == term) else {
            return Ok(());
        };
        let Some(sync) = &mut leadership.sync else { return Ok(()) };
        let is_expected = sync.after == after && sync.asked.contains(&from) && !sync.is_page_complete();
        let is_ordered = registers.windows(2).all(|pair| pair[0].0 < pair[1].0)
            && registers.first().is_none_or(|(first, _)| after.as_ref().is_none_or(|after| first > after));
        // A page that is not the last must lead on.
        if !is_expected || !is_ordered || (registers.is_empty() && !is_last) {
            return Ok(());
        }
        sync.pages.insert(from, (registers, is_last));
        self.compare_pages(slot)
    }

    fn compare_pages(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let Some(sync) = &mut leadership.sync else { return Ok(()) };
        if !sync.is_page_complete() || !sync.is_repaired() {
            return Ok(());
        }
        let ends = sync.pages.values().filter(|(_, is_last)| !is_last).filter_map(|(page, _)| page.last());
        let bound = ends.map(|(key, _)| key.clone()).min();
        let mut reads: BTreeMap<Key, Reads> = BTreeMap::new();
        for (node, (page, _)) in &sync.pages {
            for (key, summary) in page.iter().filter(|(key, _)| bound.as_ref().is_none_or(|bound| key <= bound)) {
                reads.entry(key.clone()).or_default().insert(*node, Some(summary.clone()));
            }
        }
        for (key, mut found) in reads {
            for node in &sync.asked {
                found.entry(*node).or_insert(None);
            }
            let mut all = found.values();
            let first = all.next();
            if !all.all(|other| Some(other) == first) {
                sync.waiting.push_back((key, found));
            }
        }
        sync.is_last = bound.is_none();
        sync.after = bound;
        self.continue_sync(slot)
    }

    /// Repairs the next keys that differ; then goes on to the next page, or ends.
    pub(crate) fn continue_sync(&mut self, slot: SlotId) -> Result<(), StoreError> {
        loop {
            let Some(leadership) = self.leadership(slot) else { return Ok(()) };
            let Some(sync) = &mut leadership.sync else { return Ok(()) };
            if sync.repairing.len() >= REPAIRS_MAX {
                return Ok(());
            }
            let Some((key, reads)) = sync.waiting.pop_front() else { break };
            self.repair(slot, key, reads)?;
        }
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let Some(sync) = &mut leadership.sync else { return Ok(()) };
        if !sync.is_repaired() || !sync.is_page_complete() {
            return Ok(());
        }
        if sync.is_last {
            return self.finish_sync(slot);
        }
        sync.pages.clear();
        sync.repeats = 0;
        self.ask_for_pages(slot);
        Ok(())
    }

    /// Proposes a key again that not all members hold alike, unless it is being proposed anyway.
    fn repair(&mut self, slot: SlotId, key: Key, reads: Reads) -> Result<(), StoreError> {
        let own = self.store.register(slot, &key)?.map(|own| summary_of(&own));
        let me = self.me;
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        match leadership.keys.get(&key).map(|state| &state.stage) {
            None | Some(Stage::Idle) => {}
            // Proposed on top of what is committed: the members have it, or are about to.
            Some(Stage::Proposing(proposing)) if proposing.committed_height.is_some() => {
                let sequence = proposing.proposal.ballot.sequence;
                if let Some(sync) = &mut leadership.sync {
                    sync.differs_through = sync.differs_through.max(sequence);
                }
                return Ok(());
            }
            // Appends and repairs wait for a comparison that a client asked for.
            Some(Stage::Comparing(_)) => {
                if let Some(sync) = &mut leadership.sync {
                    sync.is_clean = false;
                }
                return Ok(());
            }
            // Still finding out what is committed: the slot is not synced before that is known.
            Some(_) => {
                if let Some(sync) = &mut leadership.sync {
                    sync.repairing.insert(key);
                }
                return Ok(());
            }
        }
        if reads.get(&me) != Some(&own) {
            // Proposed since the page was read.
            return Ok(());
        }
        if let Some(sync) = &mut leadership.sync {
            sync.is_clean = false;
            sync.repairing.insert(key.clone());
        }
        leadership.keys.entry(key.clone()).or_default();
        if self.is_settled(slot, &key)? {
            // Committed as it is here: whatever else was told is an older ballot, or is not committed.
            let Some(own) = own else {
                let strays = reads.iter().filter_map(|(node, read)| Some((*node, read.as_ref()?.ballot)));
                self.drop_strays(slot, &key, strays.collect());
                return self.forget_if_idle(slot, &key);
            };
            return self.propose_again(slot, &key, (own.height, own.hash));
        }
        let reads = self.without_void_steps(slot, &key, reads);
        match reads.values().flatten().max_by_key(|summary| summary.ballot).cloned() {
            Some(best) => self.adopt(slot, &key, best, &reads),
            None => self.touch(slot, &key),
        }
    }

    fn finish_sync(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let now = self.now;
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let Some(sync) = leadership.sync.take() else { return Ok(()) };
        leadership.is_synced = true;
        if sync.is_clean {
            leadership.accounted.extend(&sync.asked);
            leadership.in_sync.extend(sync.asked);
            if let Some(sequence) = sync.seals {
                self.note_sealed(slot, sequence, sync.differs_through);
            }
        } else {
            leadership.sync_at = Some(now + REPEAT_AFTER);
            self.next_tick = self.next_tick.min(now + REPEAT_AFTER);
        }
        self.start_waiting_syncs();
        self.release_ranges(slot);
        self.continue_change(slot)
    }

    /// A member that takes part in a comparison became suspect: begin anew without it.
    pub(crate) fn forget_sync_member(&mut self, slot: SlotId, node: NodeId) {
        let again_at = self.now + self.options.resend_after;
        let Some(leadership) = self.leadership(slot) else { return };
        if leadership.sync.as_ref().is_some_and(|sync| sync.asked.contains(&node)) {
            leadership.sync = None;
            leadership.sync_at = Some(again_at);
        }
    }

    /// Asks the members that have not told what they hold for its digest, unless a comparison is to come anyway: whoever
    /// comes back with the same as before is not compared page by page.
    pub(crate) fn ask_for_digests(&mut self, slot: SlotId) {
        let (now, resend_after) = (self.now, self.options.resend_after);
        let Some(state) = self.slots.get(&slot) else { return };
        let Phase::Leading(leadership) = &state.phase else { return };
        let is_due = now.since(leadership.digests_asked_at) >= resend_after
            && leadership.sync.is_none()
            && leadership.sync_at.is_none();
        if !is_due {
            return;
        }
        let term = leadership.term;
        // Whoever is full differs, and accepts nothing; it tells when that is over.
        let silent: Vec<NodeId> = self.unheard(state, leadership).filter(|node| !self.is_full(node)).collect();
        if silent.is_empty() {
            return;
        }
        let configuration = state.record.configuration.clone();
        if let Some(leadership) = self.leadership(slot) {
            leadership.digests_asked_at = now;
        }
        // A promise that is given again carries the digest.
        for member in silent {
            self.send(member, KeylogMessage::Prepare { configuration: configuration.clone(), term });
        }
    }

    /// The members in sight that are not known to hold the same as this node, the leader.
    pub(crate) fn unheard<'a>(
        &'a self,
        state: &'a SlotState,
        leadership: &'a Leadership,
    ) -> impl Iterator<Item = NodeId> + 'a {
        let Configuration { members, joint, .. } = &state.record.configuration;
        let members = members.iter().chain(joint.iter().filter(|node| !members.contains(node))).copied();
        members
            .filter(move |node| *node != self.me && !leadership.in_sync.contains(node) && !self.suspects.contains(node))
    }

    /// A member told the digest of what it holds; whether this node holds the same.
    pub(crate) fn note_digest(&mut self, slot: SlotId, node: NodeId, digest: SlotDigest) -> bool {
        let Ok(own) = self.store.digest(slot) else { return false };
        let now = self.now;
        let Some(leadership) = self.leadership(slot) else { return false };
        if own == digest {
            leadership.in_sync.insert(node);
            return true;
        }
        let is_on_its_way = leadership.in_sync.contains(&node)
            && (now.since(leadership.last_append) < QUIET_AFTER || !leadership.is_quiet());
        if !is_on_its_way {
            leadership.in_sync.remove(&node);
            leadership.sync_at.get_or_insert(now);
        }
        false
    }

    pub(crate) fn handle_holdings(&mut self, from: NodeId, slots: Vec<Held>) -> Result<(), StoreError> {
        for (slot, epoch, digest) in slots {
            let Some(state) = self.slots.get(&slot) else { continue };
            let configuration = &state.record.configuration;
            if epoch < configuration.epoch {
                let configuration = configuration.clone();
                self.send(from, KeylogMessage::Outdated { configuration });
            } else if epoch > configuration.epoch {
                let own = (slot, configuration.epoch, self.store.digest(slot)?);
                self.send_durably(from, KeylogMessage::Holdings { slots: vec![own] });
            } else if configuration.contains(&from) {
                self.note_digest(slot, from, digest);
                self.start_sync_if_due(slot);
            } else if configuration.recoveries() > 0 {
                // A member of another recovery that shares the epoch, perhaps.
                let configuration = configuration.clone();
                self.send(from, KeylogMessage::Outdated { configuration });
            }
        }
        Ok(())
    }
}
