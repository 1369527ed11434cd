//! What is asked of a key, until it can be answered or proposed.

use difuse_types::{Key, Level, SlotId, Space};

use super::{Append, Appending, KeyRead, Leadership, Phase, RangeRead, Stage, WaitingRead, Wanted, can_decide};
use crate::{
    Anchor, Ballot, Failure, Invocation, Job, Submission, Ticket,
    keylog::{Keylog, ParkedJob, Work},
    replica::damage::outcome,
    store::{Store, StoreError},
};

/// The most appends that wait for one key.
pub(super) const KEY_QUEUE_MAX: usize = 1024;

impl<S: Store> Keylog<S> {
    /// Starts a job if this node leads the slot and is not about to move it; parks it while that is being settled; else
    /// redirects it.
    pub(crate) fn start_or_park(&mut self, slot: SlotId, job: ParkedJob) -> Result<(), StoreError> {
        if let Work::Key(key, Job::Read { level: Level::Lazy | Level::Leader, seen }) = &job.work {
            if self.has_been_succeeded(slot, *seen) {
                self.done(job.ticket, Err(Failure::Redirect { leader: None, was_proposed: false }));
                return Ok(());
            }
            if let Work::Key(_, Job::Read { level: Level::Leader, .. }) = &job.work {
                self.note_leader_read(slot);
            }
            if self.knows_committed_head(slot, key)? && !self.may_have_shown_more(slot, key, *seen) {
                let answer = outcome(self.read_key(slot, key, &KeyRead::OwnHead { seen: *seen }))?;
                self.done(job.ticket, answer);
                return Ok(());
            }
        }
        let Some(state) = self.slots.get_mut(&slot) else {
            self.done(job.ticket, Err(Failure::Redirect { leader: None, was_proposed: false }));
            return Ok(());
        };
        if !can_decide(&state.record.configuration, self.me, &self.suspects) {
            self.done(job.ticket, Err(Failure::NoQuorum));
            return Ok(());
        }
        match &mut state.phase {
            Phase::Leading(leadership) if leadership.change.is_none() => self.start(slot, job.ticket, job.work),
            Phase::Leading(_) | Phase::Candidate(_) => {
                state.parked.push_back(job);
                Ok(())
            }
            Phase::Follower => {
                // Parked first: if this node should lead it campaigns now, if not it sends everyone on.
                state.parked.push_back(job);
                self.consider_campaign(slot);
                Ok(())
            }
        }
    }

    fn start(&mut self, slot: SlotId, ticket: u64, work: Work) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        match work {
            Work::Range { prefix, after, limit } => {
                let range = RangeRead { prefix, after, limit };
                if leadership.is_synced && leadership.steps.is_visible() {
                    self.waiting_reads.push(WaitingRead { ticket, slot, wanted: Wanted::Range(range) });
                } else {
                    leadership.ranges.push((ticket, range));
                }
                Ok(())
            }
            Work::Key(key, Job::Read { level: Level::Lazy | Level::Leader, seen }) => {
                self.start_read(slot, ticket, key, KeyRead::OwnHead { seen })
            }
            Work::Key(key, Job::Read { level: Level::Quorum, .. }) => self.start_read(slot, ticket, key, KeyRead::Head),
            Work::Key(key, Job::Read { level: Level::All, .. }) => {
                leadership.keys.entry(key.clone()).or_default().comparisons.push(ticket);
                self.advance(slot, &key)
            }
            Work::Key(key, Job::Log { from_height, limit }) => {
                self.start_read(slot, ticket, key, KeyRead::Log { from_height, limit })
            }
            Work::Key(_, Job::Append(Submission { since, .. }) | Job::Evaluate(Invocation { since, .. }))
                if self.is_of_a_later_term(slot, since) =>
            {
                self.done(ticket, Err(Failure::Redirect { leader: None, was_proposed: false }));
                Ok(())
            }
            Work::Key(key, job @ (Job::Append(_) | Job::Evaluate(_))) => {
                let appending = match job {
                    Job::Evaluate(invocation) if key.space() == Space::Ring => {
                        match self.appending_of_step(slot, &key, invocation) {
                            Ok(appending) => appending,
                            Err(failure) => {
                                self.done(ticket, Err(failure));
                                return Ok(());
                            }
                        }
                    }
                    Job::Evaluate(invocation) => {
                        let is_write = self.options.structures.is_write(&invocation.arguments);
                        Appending::Command { invocation, is_write }
                    }
                    Job::Append(submission) => Appending::Write(submission),
                    Job::Read { .. } | Job::Log { .. } => return Ok(()),
                };
                // At once: behind an append that waits for room it would only wait as well.
                if let Some(reason) = self.why_no_room(&key, &appending)? {
                    self.done(ticket, Err(Failure::Full(reason)));
                    return Ok(());
                }
                let Some(leadership) = self.leadership(slot) else { return Ok(()) };
                let state = leadership.keys.entry(key.clone()).or_default();
                if state.appends.len() >= KEY_QUEUE_MAX {
                    self.done(ticket, Err(Failure::Busy));
                    return Ok(());
                }
                state.appends.push_back(Append { ticket, appending, is_judged: false });
                self.advance(slot, &key)
            }
        }
    }

    fn start_read(&mut self, slot: SlotId, ticket: u64, key: Key, read: KeyRead) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        leadership.keys.entry(key.clone()).or_default().reads.push((ticket, read));
        self.advance(slot, &key)
    }

    /// The leadership of a slot that this node leads.
    pub(crate) fn leadership(&mut self, slot: SlotId) -> Option<&mut Leadership> {
        match &mut self.slots.get_mut(&slot)?.phase {
            Phase::Leading(leadership) => Some(leadership),
            _ => None,
        }
    }

    /// Does the next thing that can be done for a key.
    pub(crate) fn advance(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let Some(state) = leadership.keys.get(key) else { return Ok(()) };
        match &state.stage {
            Stage::Touching { .. } | Stage::Fetching(_) | Stage::Comparing(_) => return Ok(()),
            Stage::Proposing(proposing) => {
                let is_readable = proposing.committed_height.is_some() && !leadership.steps.withholds(key);
                return if is_readable { self.release_reads(slot, key) } else { Ok(()) };
            }
            Stage::Idle => {}
        }
        let is_of_steps = key.steps_of().is_some();
        if !leadership.steps.is_known() && !is_of_steps {
            return Ok(());
        }
        if !self.is_settled(slot, key)? {
            return self.touch(slot, key);
        }
        if self.apply_step_to(slot, key)? {
            return Ok(());
        }
        self.release_reads(slot, key)?;
        let is_held = self.leadership(slot).is_some_and(|leadership| leadership.steps.holds(key));
        if is_of_steps || is_held {
            self.advance_steps(slot)?;
            return if is_held { Ok(()) } else { self.forget_if_idle(slot, key) };
        }
        if self.start_comparison(slot, key)? {
            return Ok(());
        }
        self.propose_appends(slot, key)?;
        if *key == Key::of_generation() {
            self.release_for_generation(slot)?;
        }
        self.forget_if_idle(slot, key)
    }

    /// Whether what this node holds of the key is committed: it proposed it itself in this term, or a majority was
    /// found to hold it at one ballot, for this key or for the whole slot; or it is the key of steps, and a majority had none.
    pub(crate) fn is_settled(&mut self, slot: SlotId, key: &Key) -> Result<bool, StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(false) };
        let has_no_steps = leadership.begins_without_steps() && key.steps_of().is_some();
        if leadership.is_synced || has_no_steps || leadership.touched.get(key).is_some() {
            return Ok(true);
        }
        let term = leadership.term;
        Ok(self.store.register(slot, key)?.is_some_and(|register| register.ballot.term == term))
    }

    /// Whether somebody has seen a later term than the one that this node leads in.
    pub(crate) fn has_been_succeeded(&mut self, slot: SlotId, seen: Option<Ballot>) -> bool {
        let term = self.leadership(slot).map(|leadership| leadership.term);
        term.is_some_and(|term| seen.is_some_and(|seen| seen.term > term))
    }

    /// Whether what this leader has proposed for a key, and does not know to be committed, may have been shown to somebody who has
    /// seen the slot up to `seen`: as an append of their own that was answered early, or by a successor that found it committed.
    pub(crate) fn may_have_shown_more(&mut self, slot: SlotId, key: &Key, seen: Option<Ballot>) -> bool {
        let state = self.leadership(slot).and_then(|leadership| leadership.keys.get(key));
        state.is_some_and(|state| state.may_have_been_shown(seen))
    }

    /// Whether an append was first sent when a later leader than this node had spoken: that one may have refused it, and what
    /// this node proposes could still be found when the key has no head there that seals the refusal. Of two recoveries that
    /// share an epoch the one that was given up may have had later terms.
    fn is_of_a_later_term(&mut self, slot: SlotId, since: Option<Anchor>) -> bool {
        let is_certain = self.configuration(slot).is_some_and(|configuration| configuration.recoveries() == 0);
        let told = since.filter(|since| is_certain && *since != Anchor::LATEST);
        self.has_been_succeeded(slot, told.map(|told| told.ballot))
    }

    /// Whether this node leads the slot and can tell the committed head of a key as it knows it.
    pub(crate) fn knows_committed_head(&mut self, slot: SlotId, key: &Key) -> Result<bool, StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(false) };
        if leadership.steps.withholds(key) {
            return Ok(false);
        }
        match leadership.keys.get(key).map(|state| &state.stage) {
            Some(Stage::Proposing(proposing)) => Ok(proposing.committed_height.is_some()),
            Some(Stage::Touching { .. } | Stage::Fetching(_)) => Ok(false),
            Some(Stage::Idle | Stage::Comparing(_)) | None => self.is_settled(slot, key),
        }
    }

    /// The reads of a key whose committed head is known join the next round, or are answered without one.
    fn release_reads(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let Some(state) = leadership.keys.get_mut(key) else { return Ok(()) };
        let reads = std::mem::take(&mut state.reads);
        // Who may have seen what is being proposed waits until that is decided.
        let waits = |(_, read): &(Ticket, KeyRead)| matches!(read, KeyRead::OwnHead { seen } if state.may_have_been_shown(*seen));
        let (waiting, released) = reads.into_iter().partition(waits);
        state.reads = waiting;
        for (ticket, read) in released {
            if let KeyRead::OwnHead { .. } = read {
                let answer = outcome(self.read_key(slot, key, &read))?;
                self.done(ticket, answer);
            } else {
                self.waiting_reads.push(WaitingRead { ticket, slot, wanted: Wanted::Key(key.clone(), read) });
            }
        }
        Ok(())
    }

    /// Drops the state of a key for which nothing is under way, and lets a repair of the slot go on with the next one.
    pub(crate) fn forget_if_idle(&mut self, slot: SlotId, key: &Key) -> Result<(), StoreError> {
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let is_idle = !leadership.steps.holds(key)
            && leadership.keys.get(key).is_none_or(|state| {
                matches!(state.stage, Stage::Idle)
                    && state.appends.is_empty()
                    && state.reads.is_empty()
                    && state.comparisons.is_empty()
            });
        if !is_idle {
            return Ok(());
        }
        leadership.keys.remove(key);
        let was_repair = leadership.sync.as_mut().is_some_and(|sync| sync.finish_key(key));
        if was_repair { self.continue_sync(slot) } else { Ok(()) }
    }

    /// Fails what waits and was not proposed, when too few members are reachable to decide anything.
    pub(crate) fn fail_without_quorum(&mut self, slot: SlotId) {
        let Some(state) = self.slots.get_mut(&slot) else { return };
        if can_decide(&state.record.configuration, self.me, &self.suspects) {
            return;
        }
        let mut failed: Vec<u64> = std::mem::take(&mut state.parked).into_iter().map(|job| job.ticket).collect();
        if let Phase::Leading(leadership) = &mut state.phase {
            for key in leadership.keys.values_mut() {
                failed.extend(std::mem::take(&mut key.appends).into_iter().map(|append| append.ticket));
                failed.extend(std::mem::take(&mut key.reads).into_iter().map(|(ticket, _)| ticket));
                failed.append(&mut key.comparisons);
            }
            failed.extend(std::mem::take(&mut leadership.ranges).into_iter().map(|(ticket, _)| ticket));
            leadership.steps.let_go();
        }
        failed.extend(self.take_reads(slot));
        for ticket in failed {
            self.done(ticket, Err(Failure::NoQuorum));
        }
    }
}
