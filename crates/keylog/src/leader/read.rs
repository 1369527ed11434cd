//! Linearizable reads: one round asks a majority whether this node still leads, for all reads that wait; then they are
//! answered from the committed heads. (The read-index idea of Raft, Ongaro's thesis section 6.4, on slot-wide terms.)

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_types::{Hash, Instant, Key, NodeId, SlotId};

use super::{Asks, KeyRead, Phase, RangeRead, Round, RoundSlot, Stage, WaitingRead, Wanted};
use crate::{
    Answer, Ballot, Checkpoint, CommittedHead, Configuration, Failure, KeylogMessage, SCAN_PAGE_MAX, Term, Ticket,
    Transaction,
    keylog::Keylog,
    replica::{
        MESSAGE_BYTES_MAX,
        damage::{ReadError, outcome},
    },
    store::{Store, StoreError},
};

/// For how long reads wait for the round before theirs to end: under load few rounds then serve many reads each. And for
/// how long a round waits for the members that are enough before it asks the others as well.
const ROUND_PATIENCE: Duration = Duration::from_millis(5);

/// What a leader knows to be committed of a key's log.
struct CommittedEnd {
    /// Up to here; 0: the key was never written.
    height: u64,
    /// Of what is there, if it is known without reading it.
    hash: Option<Hash>,
    /// Up to where whoever sees it has seen its slot.
    mark: Option<Ballot>,
}

impl<S: Store> Keylog<S> {
    /// Begins a round for the reads that wait, unless the one before is still on its way.
    pub(crate) fn start_round(&mut self) -> Result<(), StoreError> {
        if !self.lease_due.is_empty() {
            self.start_lease_round();
        }
        self.widen_rounds();
        if self.next_reads_at().is_none_or(|at| at > self.now) {
            return Ok(());
        }
        let mut slots: BTreeMap<SlotId, RoundSlot> = BTreeMap::new();
        for read in std::mem::take(&mut self.waiting_reads) {
            let Some(term) = self.leadership(read.slot).map(|leadership| leadership.term) else {
                self.done(read.ticket, Err(Failure::Redirect { leader: None, was_proposed: false }));
                continue;
            };
            let entry = slots.entry(read.slot);
            let slot = entry.or_insert_with(|| RoundSlot { term, voters: Default::default(), reads: Vec::new() });
            slot.reads.push(read);
        }
        self.last_round += 1;
        let round = Round { slots, began_at: self.now, sent_at: self.now, asks: Asks::Enough };
        self.ask_round(self.last_round, &round);
        self.rounds.insert(self.last_round, round);
        Ok(())
    }

    /// When the reads that wait are asked for at the latest, or a round asks further members; `None` if there is neither.
    pub(crate) fn next_round_at(&self) -> Option<Instant> {
        let narrow = self.rounds.values().filter(|round| round.asks == Asks::Enough);
        let widened_at = narrow.map(|round| round.sent_at + ROUND_PATIENCE).min();
        self.next_reads_at().into_iter().chain(widened_at).min()
    }

    fn next_reads_at(&self) -> Option<Instant> {
        let last = self.rounds.get(&self.last_round).filter(|round| round.asks != Asks::ForLeases);
        let at = last.map_or(self.now, |round| round.sent_at + ROUND_PATIENCE);
        (!self.waiting_reads.is_empty()).then_some(at)
    }

    /// Who was asked has not answered in time: everybody is asked.
    fn widen_rounds(&mut self) {
        let now = self.now;
        self.ask_again(|round| round.asks == Asks::Enough && now.since(round.sent_at) >= ROUND_PATIENCE);
    }

    /// Asks everybody again about the rounds that are late.
    fn ask_again(&mut self, is_late: impl Fn(&Round) -> bool) {
        let late = self.rounds.iter().filter(|(_, round)| is_late(round));
        let late: Vec<u64> = late.map(|(number, _)| *number).collect();
        for number in late {
            let Some(mut round) = self.rounds.remove(&number) else { continue };
            (round.sent_at, round.asks) = (self.now, Asks::Everybody);
            self.ask_round(number, &round);
            self.rounds.insert(number, round);
        }
    }

    /// Asks the members that have not answered, each once for all its slots.
    pub(crate) fn ask_round(&mut self, number: u64, round: &Round) {
        let mut leaderships: BTreeMap<NodeId, Vec<(SlotId, Term)>> = BTreeMap::new();
        for (slot, asked) in &round.slots {
            let Some(configuration) = self.configuration(*slot) else { continue };
            let members = match round.asks {
                Asks::Enough => self.enough_members(configuration),
                Asks::Everybody | Asks::ForLeases => configuration.all_members(),
            };
            for member in members {
                if !asked.voters.contains(&member) {
                    leaderships.entry(member).or_default().push((*slot, asked.term));
                }
            }
        }
        for (member, leaderships) in leaderships {
            let is_lease = round.asks == Asks::ForLeases;
            self.send(member, KeylogMessage::Confirm { round: number, leaderships, is_lease });
        }
    }

    /// This node and as few others as make a quorum. The next ones in the order of identities, so that a round asks the
    /// same few for all its slots, and two leaders ask different ones.
    fn enough_members(&self, configuration: &Configuration) -> Vec<NodeId> {
        let mut members = configuration.all_members();
        members.sort_by_key(|member| (self.suspects.contains(member), *member < self.me, *member));
        let mut enough = BTreeSet::new();
        for member in [self.me].into_iter().chain(members) {
            enough.insert(member);
            if configuration.is_quorum(&enough) {
                break;
            }
        }
        enough.into_iter().collect()
    }

    pub(crate) fn resend_rounds(&mut self) {
        self.forget_late_leases();
        let (now, resend_after) = (self.now, self.options.resend_after);
        self.ask_again(|round| round.asks != Asks::ForLeases && now.since(round.sent_at) >= resend_after);
    }

    pub(crate) fn handle_confirmed(&mut self, from: NodeId, number: u64, slots: Vec<SlotId>) -> Result<(), StoreError> {
        let mut confirmed = Vec::new();
        let Some(round) = self.rounds.get_mut(&number) else { return Ok(()) };
        for slot in slots {
            let Some(asked) = round.slots.get_mut(&slot) else { continue };
            let Some(configuration) = self.slots.get(&slot).map(|state| &state.record.configuration) else { continue };
            if configuration.contains(&from) && configuration.epoch == asked.term.epoch {
                asked.voters.insert(from);
            }
            if configuration.is_quorum(&asked.voters) {
                confirmed.extend(round.slots.remove_entry(&slot));
            }
        }
        let (is_lease, began_at) = (round.asks == Asks::ForLeases, round.began_at);
        if round.slots.is_empty() {
            self.rounds.remove(&number);
        }
        for (slot, confirmed) in confirmed {
            if is_lease {
                self.take_lease(slot, confirmed.term, began_at);
            }
            self.answer_reads(confirmed)?;
        }
        Ok(())
    }

    fn answer_reads(&mut self, confirmed: RoundSlot) -> Result<(), StoreError> {
        for WaitingRead { ticket, slot, wanted } in confirmed.reads {
            let still_leads = self.leadership(slot).is_some_and(|leadership| leadership.term == confirmed.term);
            if !still_leads {
                let leader = self.leader(slot);
                self.done(ticket, Err(Failure::Redirect { leader, was_proposed: false }));
                continue;
            }
            let answer = match wanted {
                Wanted::Found(answer) => Ok(answer),
                Wanted::Lapse { now } => Err(Failure::Lapsed { now }),
                Wanted::Key(key, read) => outcome(self.read_key(slot, &key, &read))?,
                Wanted::Range(range) => outcome(self.read_range(slot, &range))?,
            };
            self.done(ticket, answer);
        }
        Ok(())
    }

    /// What is committed of the key's log here.
    fn committed_end(&mut self, slot: SlotId, key: &Key) -> Result<CommittedEnd, StoreError> {
        let stage = self.leadership(slot).and_then(|leadership| leadership.keys.get(key)).map(|state| &state.stage);
        let proposed = match stage {
            Some(Stage::Proposing(proposing)) => Some((proposing.proposal.ballot, proposing.committed_height)),
            _ => None,
        };
        // The committed head was accepted at a ballot below the proposal's.
        let below = |ballot: Ballot| Ballot { sequence: ballot.sequence.saturating_sub(1), ..ballot };
        if let Some((ballot, Some(height))) = proposed {
            return Ok(CommittedEnd { height, hash: None, mark: Some(below(ballot)) });
        }
        let register = self.store.register(slot, key)?;
        let mark = proposed.map(|(ballot, _)| below(ballot)).or(register.as_ref().map(|register| register.ballot));
        let head = register.map(|register| register.head);
        let height = head.as_ref().map_or(0, |head| head.height);
        Ok(CommittedEnd { height, hash: head.map(|head| head.hash), mark })
    }

    /// The committed head of a key as this leader knows it.
    pub(crate) fn own_head(&mut self, slot: SlotId, key: &Key) -> Result<CommittedHead, ReadError> {
        let end = self.committed_end(slot, key)?;
        let head = self.head_at(slot, key, &end)?;
        Ok(CommittedHead { head, is_linearizable: false, mark: end.mark })
    }

    fn committed_head(&mut self, slot: SlotId, key: &Key) -> Result<Option<(Hash, Transaction)>, ReadError> {
        let end = self.committed_end(slot, key)?;
        self.head_at(slot, key, &end)
    }

    fn head_at(
        &mut self,
        slot: SlotId,
        key: &Key,
        end: &CommittedEnd,
    ) -> Result<Option<(Hash, Transaction)>, ReadError> {
        let CommittedEnd { height, hash, .. } = *end;
        if height == 0 {
            return Ok(None);
        }
        match self.stored(slot, key, height)? {
            Some(transaction) => Ok(Some((hash.unwrap_or_else(|| transaction.hash()), transaction))),
            None => {
                self.note_damage(slot, key, height);
                Err(ReadError::Damaged)
            }
        }
    }

    pub(crate) fn read_key(&mut self, slot: SlotId, key: &Key, read: &KeyRead) -> Result<Answer, ReadError> {
        match read {
            KeyRead::Head | KeyRead::OwnHead { .. } => {
                let is_linearizable = matches!(read, KeyRead::Head) || self.has_lease(slot);
                let read = CommittedHead { is_linearizable, ..self.own_head(slot, key)? };
                Ok(Answer::Head(Box::new(read)))
            }
            KeyRead::Log { from_height, limit } => {
                let head_height = self.committed_end(slot, key)?.height;
                if let Some(checkpoint) = self.base_above(slot, key, *from_height)? {
                    return Ok(Answer::Pruned(checkpoint));
                }
                let last = from_height.saturating_add(u64::from(*limit)).saturating_sub(1).min(head_height);
                let transactions = self.read_chain(slot, key, *from_height, last)?;
                if self.is_damaged(slot, key, *from_height..=last) {
                    return Err(ReadError::Damaged);
                }
                Ok(Answer::Log { transactions, head_height })
            }
        }
    }

    /// The checkpoint with which what is kept of a log begins, if that is above a height.
    fn base_above(&mut self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Checkpoint>, ReadError> {
        let base = self.store.register(slot, key)?.map_or(1, |register| register.base);
        if base <= height.max(1) {
            return Ok(None);
        }
        let first = self.stored(slot, key, base)?;
        let checkpoint = first.as_ref().and_then(|first| first.checkpoint.map(|state| (first.hash(), state)));
        let Some((hash, state)) = checkpoint else {
            self.note_damage(slot, key, base);
            return Err(ReadError::Damaged);
        };
        Ok(Some(Checkpoint { height: base, hash, state }))
    }

    fn read_range(&mut self, slot: SlotId, range: &RangeRead) -> Result<Answer, ReadError> {
        let mut heads = Vec::new();
        let mut after = range.after.clone();
        let mut bytes = 0;
        loop {
            let page = self.store.scan(slot, &range.prefix, after.as_ref(), SCAN_PAGE_MAX.min(range.limit + 1))?;
            let Some((last, _)) = page.last() else { return Ok(Answer::Range { heads, next: None }) };
            let last = last.clone();
            for (key, _) in page {
                if heads.len() >= range.limit || bytes > MESSAGE_BYTES_MAX {
                    return Ok(Answer::Range { heads, next: after });
                }
                let head = self.committed_head(slot, &key)?.filter(|(_, head)| head.value().is_some());
                bytes += head.as_ref().map_or(0, |(_, head)| head.approximate_bytes());
                heads.extend(head);
                after = Some(key);
            }
            after = Some(last);
        }
    }

    /// Gives up the reads of a slot that this node leads no more.
    pub(crate) fn fail_reads(&mut self, slot: SlotId, leader: Option<NodeId>) {
        for ticket in self.take_reads(slot) {
            self.done(ticket, Err(Failure::Redirect { leader, was_proposed: false }));
        }
    }

    /// The tickets of all reads of a slot that wait for a round, taken out.
    pub(crate) fn take_reads(&mut self, slot: SlotId) -> Vec<Ticket> {
        let (taken, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting_reads).into_iter().partition(|read| read.slot == slot);
        self.waiting_reads = kept;
        let mut tickets: Vec<Ticket> = taken.into_iter().map(|read| read.ticket).collect();
        for round in self.rounds.values_mut() {
            let reads = round.slots.remove(&slot).map(|asked| asked.reads).unwrap_or_default();
            tickets.extend(reads.into_iter().map(|read| read.ticket));
        }
        self.rounds.retain(|_, round| !round.slots.is_empty());
        tickets
    }

    /// Range reads that waited until the slot was synced, and its last steps done, join the next round.
    pub(crate) fn release_ranges(&mut self, slot: SlotId) {
        let Some(state) = self.slots.get_mut(&slot) else { return };
        let Phase::Leading(leadership) = &mut state.phase else { return };
        if !leadership.is_synced || !leadership.steps.is_visible() {
            return;
        }
        let ranges = std::mem::take(&mut leadership.ranges);
        let waiting =
            ranges.into_iter().map(|(ticket, range)| WaitingRead { ticket, slot, wanted: Wanted::Range(range) });
        self.waiting_reads.extend(waiting);
    }
}
