//! What comes in, to whom it goes.

use difuse_types::{Instant, Key, KeyPrefix, NodeId, SlotId};

use super::{Failure, Job, Keylog, ParkedJob, Ticket, Work};
use crate::{
    KeylogMessage, WriteSequence,
    store::{Store, StoreError},
};

impl<S: Store> Keylog<S> {
    /// A message came in. Whatever a peer sends is checked: what makes no sense is dropped.
    pub fn handle_message(&mut self, from: NodeId, message: KeylogMessage) -> Result<(), StoreError> {
        self.dispatch(from, message)?;
        self.deliver_to_self()
    }

    /// All batches up to `sequence` are durable.
    pub fn handle_durable(&mut self, sequence: WriteSequence) -> Result<(), StoreError> {
        self.durable = self.durable.max(sequence);
        while self.gated.front().is_some_and(|(gate, ..)| *gate <= self.durable) {
            if let Some((_, to, message)) = self.gated.pop_front() {
                self.send(to, message);
            }
        }
        self.deliver_to_self()
    }

    /// This node has left the ring, as a member of nothing, and is about to stop. A slot that somebody was moving to it before
    /// must not count on it: it takes part in no configuration any more.
    pub fn handle_left(&mut self) {
        self.has_left = true;
    }

    /// A connection to a node stands. No slot is moved to one to which none stood since this node began: that nobody suspects
    /// it says nothing then.
    pub fn handle_connected(&mut self, node: NodeId) {
        self.met.insert(node);
    }

    /// Whether a node is suspect now, and so to be done without; says whether that is news.
    pub fn handle_suspicion(&mut self, node: NodeId, is_suspect: bool) -> Result<bool, StoreError> {
        let changed = if is_suspect { self.suspects.insert(node) } else { self.suspects.remove(&node) };
        if changed {
            let concerned: Vec<SlotId> = self
                .slots
                .iter()
                .filter(|(_, state)| state.record.configuration.contains(&node))
                .map(|(slot, _)| *slot)
                .collect();
            for slot in concerned {
                self.handle_member_suspicion(slot, node, is_suspect)?;
            }
            if !is_suspect {
                self.tell_of_recoveries(node)?;
                // Tell it soon what is held here, and hear from it: it may be behind.
                self.next_holdings = self.now;
            }
        }
        self.deliver_to_self()?;
        Ok(changed)
    }

    /// The ring's successors of a slot: who should hold it. Called for every slot when the placement changes.
    pub fn handle_placement(&mut self, slot: SlotId, successors: Vec<NodeId>) {
        let now = self.now;
        let Some(state) = self.slots.get_mut(&slot) else { return };
        if state.desired.as_ref().is_none_or(|(desired, _)| *desired != successors) {
            state.desired = Some((successors, now));
            self.next_tick = self.next_tick.min(now + self.options.damping);
        }
    }

    /// Asks for something to be done with a key of a slot. The answer comes as [`super::Output::Done`].
    pub fn submit(&mut self, ticket: Ticket, slot: SlotId, key: Key, job: Job) -> Result<(), StoreError> {
        self.submit_work(ticket, slot, Work::Key(key, job))
    }

    /// Asks for the heads of a range of a slot's keys: those that begin with `prefix` and are greater than `after`.
    pub fn submit_range(
        &mut self,
        ticket: Ticket,
        slot: SlotId,
        prefix: KeyPrefix,
        after: Option<Key>,
        limit: usize,
    ) -> Result<(), StoreError> {
        self.submit_work(ticket, slot, Work::Range { prefix, after, limit })
    }

    fn submit_work(&mut self, ticket: Ticket, slot: SlotId, work: Work) -> Result<(), StoreError> {
        self.jobs += 1;
        if self.jobs > self.options.jobs_max {
            self.done(ticket, Err(Failure::Busy));
            return Ok(());
        }
        let job = ParkedJob { ticket, work, since: self.now };
        self.start_or_park(slot, job)?;
        self.deliver_to_self()
    }

    /// Ends a batch of calls: starts what serves all of them at once.
    pub fn finish_batch(&mut self) -> Result<(), StoreError> {
        self.continue_folds()?;
        self.start_round()?;
        self.deliver_to_self()
    }

    /// Time has passed.
    pub fn handle_tick(&mut self) -> Result<(), StoreError> {
        if self.now < self.next_tick {
            return Ok(());
        }
        self.next_tick = self.now + self.options.resend_after / 4;
        self.tick_slots()?;
        self.tick_expiry()?;
        self.tick_tombstones()?;
        self.tick_damages()?;
        self.resend_rounds();
        self.tick_leases();
        self.tell_committed()?;
        if self.now >= self.next_holdings {
            self.next_holdings = self.now + self.options.holdings_every;
            self.tell_holdings()?;
            self.probe_leaderships();
        }
        self.deliver_to_self()
    }

    /// When [`Keylog::handle_tick`] or [`Keylog::finish_batch`] has something to do again.
    pub fn next_wakeup(&self) -> Instant {
        if !self.folds.is_empty() {
            return self.now;
        }
        self.next_round_at().map_or(self.next_tick, |at| at.min(self.next_tick))
    }

    /// Messages to this node itself are handled at once, one after the other.
    pub(crate) fn deliver_to_self(&mut self) -> Result<(), StoreError> {
        while let Some(message) = self.inbox.pop_front() {
            self.dispatch(self.me, message)?;
        }
        Ok(())
    }

    fn dispatch(&mut self, from: NodeId, message: KeylogMessage) -> Result<(), StoreError> {
        match message {
            KeylogMessage::Prepare { configuration, term } => self.handle_prepare(from, configuration, term),
            KeylogMessage::Promise { slot, term, digest, proposed, steps } => {
                self.handle_promise(from, slot, term, digest, proposed, *steps)
            }
            KeylogMessage::Refuse { slot, term, promised } => self.handle_refuse(slot, term, promised),
            KeylogMessage::Outdated { configuration } | KeylogMessage::Install { configuration } => {
                self.enter_if_newer(configuration)
            }
            KeylogMessage::ReadRegister { slot, term, key } => self.handle_read_register(from, slot, term, key),
            KeylogMessage::RegisterRead { slot, term, key, register } => {
                self.handle_register_read(from, slot, term, key, register)
            }
            KeylogMessage::Accept { slot, proposal } => self.handle_accept(from, slot, proposal),
            KeylogMessage::Accepted { slot, ballot, key } => self.handle_accepted(from, slot, ballot, key),
            KeylogMessage::Lacking { slot, ballot, key, from_height } => {
                self.handle_lacking(from, slot, ballot, key, from_height)
            }
            KeylogMessage::Confirm { round, leaderships, is_lease } => {
                self.handle_confirm(from, round, leaderships, is_lease)
            }
            KeylogMessage::Confirmed { round, slots } => self.handle_confirmed(from, round, slots),
            KeylogMessage::Scan { slot, term, after } => self.handle_scan(from, slot, term, after),
            KeylogMessage::Scanned { slot, term, after, registers, is_last } => {
                self.handle_scanned(from, slot, term, after, registers, is_last)
            }
            KeylogMessage::FetchTransactions { slot, key, from_height, to_height } => {
                self.handle_fetch_transactions(from, slot, key, from_height, to_height)
            }
            KeylogMessage::Transactions { slot, key, transactions } => {
                self.handle_transactions(from, slot, key, transactions)
            }
            KeylogMessage::Propose { term, configuration, dropped } => {
                self.handle_propose(from, term, configuration, dropped)
            }
            KeylogMessage::ProposalAccepted { slot, term, epoch } => {
                self.handle_proposal_accepted(from, slot, term, epoch)
            }
            KeylogMessage::BlocksReady { slot, epoch } => {
                self.handle_blocks_ready(from, slot, epoch);
                Ok(())
            }
            KeylogMessage::NoRoom { is_full } => {
                self.handle_no_room(from, is_full);
                Ok(())
            }
            KeylogMessage::Committed { slots } => self.handle_committed(from, slots),
            KeylogMessage::Drop { slot, through, keys } => self.handle_drop(from, slot, through, &keys),
            KeylogMessage::AskCommitted { slots } => {
                self.handle_ask_committed(from, &slots);
                Ok(())
            }
            KeylogMessage::Holdings { slots } => self.handle_holdings(from, slots),
        }
    }
}
