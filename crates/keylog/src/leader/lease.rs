//! Leases: reads at level leader that are linearizable without asking anybody.
//!
//! While a slot is read at level leader, its leader asks the members from time to time to promise it to nobody else for
//! [`crate::KeylogOptions::lease`]. Once a majority has promised, nobody else can lead, and so nothing can be committed
//! that the leader does not know of, until that time has passed since the leader asked: by its own monotonic clock, and
//! less what clocks may run apart ([`LEASE_DRIFT_BOUND`]). A member promises from when the question comes, which is later
//! than when it was asked. A member that restarts keeps what it may have promised.

use std::{collections::BTreeMap, time::Duration};

use difuse_types::{NodeId, SlotId};

use super::{Asks, Round, RoundSlot};
use crate::{
    Term,
    keylog::{Keylog, LEASE_DRIFT_BOUND, Lease},
    rule::Rule,
    store::Store,
};

/// How long after the last read at level leader a lease is given up.
const IDLE_AFTER: Duration = Duration::from_secs(1);

impl<S: Store> Keylog<S> {
    /// Whether nobody else leads the slot now, for certain.
    pub(crate) fn has_lease(&mut self, slot: SlotId) -> bool {
        let now = self.now;
        let is_bold = self.breaks(Rule::Lease);
        self.leadership(slot).is_some_and(|leadership| now < leadership.lease_until || is_bold)
    }

    /// A head is read at level leader: it is worth a lease.
    pub(crate) fn note_leader_read(&mut self, slot: SlotId) {
        let (now, lease) = (self.now, self.options.lease);
        let Some(leadership) = self.leadership(slot) else { return };
        leadership.lease_read_at = now;
        let is_short = leadership.lease_until.since(now) < lease / 2;
        let is_asked = leadership.lease_asked_at.is_some_and(|at| now.since(at) < lease / 3);
        self.leased.insert(slot);
        if is_short && !is_asked {
            self.lease_due.insert(slot);
        }
    }

    /// The leases of slots that are still read are asked for again.
    pub(crate) fn tick_leases(&mut self) {
        let now = self.now;
        for slot in self.leased.clone() {
            let read_at = self.leadership(slot).map(|leadership| leadership.lease_read_at);
            if read_at.is_some_and(|at| now.since(at) < IDLE_AFTER) {
                self.lease_due.insert(slot);
            } else {
                self.leased.remove(&slot);
            }
        }
    }

    /// Begins a round for the leases that are due. A leader whom another member is preferred to lets its lease run out.
    pub(crate) fn start_lease_round(&mut self) {
        let now = self.now;
        let mut slots: BTreeMap<SlotId, RoundSlot> = BTreeMap::new();
        for slot in std::mem::take(&mut self.lease_due) {
            let preferred = self.configuration(slot).and_then(|configuration| self.preferred_leader(configuration));
            if preferred != Some(self.me) {
                continue;
            }
            let Some(leadership) = self.leadership(slot) else { continue };
            leadership.lease_asked_at = Some(now);
            let term = leadership.term;
            slots.insert(slot, RoundSlot { term, voters: Default::default(), reads: Vec::new() });
        }
        if slots.is_empty() {
            return;
        }
        self.last_round += 1;
        let round = Round { slots, began_at: now, sent_at: now, asks: Asks::ForLeases };
        self.ask_round(self.last_round, &round);
        self.rounds.insert(self.last_round, round);
    }

    /// A majority has promised the slot to nobody else.
    pub(crate) fn take_lease(&mut self, slot: SlotId, term: Term, began_at: difuse_types::Instant) {
        let lease = self.options.lease;
        if let Some(leadership) = self.leadership(slot).filter(|leadership| leadership.term == term) {
            let until = began_at + (lease - lease / LEASE_DRIFT_BOUND);
            leadership.lease_until = leadership.lease_until.max(until);
        }
    }

    /// Whether this member has promised the slot to another node than the candidate, and that promise still stands.
    pub(crate) fn is_leased_to_another(&mut self, slot: SlotId, candidate: NodeId) -> bool {
        let now = self.now;
        let lease = self.slots.get(&slot).and_then(|state| state.lease);
        let is_kept = !self.breaks(Rule::GrantedLease);
        is_kept && lease.is_some_and(|lease| lease.holder != Some(candidate) && now < lease.until)
    }

    /// The leader asks for a lease.
    pub(crate) fn grant_lease(&mut self, slot: SlotId, leader: NodeId) {
        let until = self.now + self.options.lease;
        if let Some(state) = self.slots.get_mut(&slot) {
            state.lease = Some(Lease { holder: Some(leader), until });
        }
    }

    /// Rounds for leases are not repeated: the next one comes soon.
    pub(crate) fn forget_late_leases(&mut self) {
        let (now, lease) = (self.now, self.options.lease);
        self.rounds.retain(|_, round| round.asks != Asks::ForLeases || now.since(round.began_at) < lease);
    }
}
