//! What a member knows to be committed of what it has accepted: enough to show a committed head without asking anybody.
//!
//! A member accepts a proposal before anyone knows whether a majority does. It learns what is committed
//!
//! - from each proposal: the leader tells the height that the key had for certain, and up to which sequence all
//!   proposals of its term are committed;
//! - from the leader, when nothing is under way in the slot any more: the digest of its registers. Whoever holds the same
//!   holds everything that is committed, and nothing else.
//!
//! It is kept in memory only: after a restart a member cannot tell, until it hears from the leader.

use std::collections::{BTreeMap, BTreeSet};

use difuse_types::{Key, NodeId, SlotId};

use super::{Standing, damage::outcome};
use crate::{
    Ballot, CommittedHead, KeylogMessage, Register, SlotDigest,
    keylog::{Keylog, SlotState},
    leader::Phase,
    store::{Store, StoreError},
};

/// How many registers that are not known to be committed are remembered per slot; beyond, the member waits for the
/// leader to tell again.
const PENDING_MAX: usize = 4096;
/// How many proposals that came before an earlier one are remembered per slot.
const AHEAD_MAX: usize = 256;

/// What a member knows of one slot.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Committed {
    /// All registers held here are committed as they are, but for those in `pending`.
    is_base_known: bool,
    /// All proposals of this term up to this sequence are committed.
    watermark: Option<Ballot>,
    /// Keys whose register is not known to be committed.
    pending: BTreeMap<Key, Pending>,
    by_ballot: BTreeMap<Ballot, Key>,
    /// Everything that was ever committed at this ballot or below is held here, or what came after it.
    complete: Option<Ballot>,
    /// Sequences accepted beyond a gap after `complete`.
    ahead: BTreeSet<u64>,
}

#[derive(Clone, Debug, Hash)]
struct Pending {
    ballot: Ballot,
    /// The first ballot at which anything was accepted that came after the height that is committed for certain: a later
    /// one may only have proposed the same again.
    first: Ballot,
    /// The key's height that is committed for certain; 0: absent.
    committed_height: Option<u64>,
}

impl Committed {
    /// Whether everything held is known to be committed.
    pub(crate) fn is_known(&self) -> bool {
        self.is_base_known
    }

    /// All proposals of this term up to this sequence are committed.
    pub(crate) fn watermark(&self) -> Option<Ballot> {
        self.watermark
    }

    fn is_committed(&self, key: &Key, register: Option<&Register>) -> bool {
        let is_below = |register: &Register| {
            self.watermark.is_some_and(|mark| register.ballot.term == mark.term && register.ballot <= mark)
        };
        register.is_some_and(is_below) || (self.is_base_known && !self.pending.contains_key(key))
    }

    /// A proposal was accepted. `before` is what was held of the key, `committed_height` what the leader told; `is_anew`: it
    /// does not build on what was held, but brings its own chain, perhaps of another life of the key.
    pub(crate) fn note_accepted(
        &mut self,
        key: &Key,
        ballot: Ballot,
        before: Option<&Register>,
        committed_height: u64,
        is_anew: bool,
    ) {
        let (known, first) = match self.pending.get(key) {
            _ if is_anew => (None, ballot),
            Some(pending) => (pending.committed_height, pending.first),
            None => (self.is_committed(key, before).then(|| before.map_or(0, |before| before.head.height)), ballot),
        };
        self.remove(key);
        if self.pending.len() >= PENDING_MAX {
            self.pending.clear();
            self.by_ballot.clear();
            self.is_base_known = false;
        }
        // The leader tells what it knows at least; 0: nothing.
        let told = (committed_height > 0).then_some(committed_height);
        // What is told is all that was proposed before this.
        let first = if told > known { ballot } else { first };
        self.pending.insert(key.clone(), Pending { ballot, first, committed_height: known.max(told) });
        self.by_ballot.insert(ballot, key.clone());
        self.note_sequence(ballot);
    }

    /// A key's register was dropped: the key is known to have no value.
    pub(crate) fn note_dropped(&mut self, key: &Key) {
        self.remove(key);
    }

    fn remove(&mut self, key: &Key) {
        if let Some(pending) = self.pending.remove(key) {
            self.by_ballot.remove(&pending.ballot);
        }
    }

    /// Proposals of one term that follow each other without a gap keep complete what was.
    fn note_sequence(&mut self, ballot: Ballot) {
        let Some(complete) = &mut self.complete else { return };
        if complete.term != ballot.term || ballot <= *complete {
            return;
        }
        if self.ahead.len() < AHEAD_MAX {
            self.ahead.insert(ballot.sequence);
        }
        while self.ahead.remove(&(complete.sequence + 1)) {
            complete.sequence += 1;
        }
    }

    /// All proposals of `through.term` up to `through.sequence` are committed.
    pub(crate) fn note_watermark(&mut self, through: Ballot) {
        if self.watermark.is_some_and(|known| known >= through) {
            return;
        }
        self.watermark = Some(through);
        let first = Ballot { term: through.term, sequence: 0 };
        let committed: Vec<Key> = self.by_ballot.range(first..=through).map(|(_, key)| key.clone()).collect();
        for key in committed {
            self.remove(&key);
        }
    }

    /// What is held here is exactly what was committed when the leader had made this proposal.
    fn note_agreement(&mut self, through: Ballot) {
        self.note_watermark(through);
        self.is_base_known = true;
        self.pending.clear();
        self.by_ballot.clear();
        if self.complete.is_none_or(|complete| complete < through) {
            self.complete = Some(through);
            self.ahead.clear();
        }
    }

    /// Whether a head shown of this key is not older than what somebody has seen who has seen the slot up to `seen`.
    fn has_seen(&self, key: &Key, seen: Ballot) -> bool {
        let is_held = self.complete.is_some_and(|complete| complete >= seen);
        is_held && self.pending.get(key).is_none_or(|pending| pending.first > seen)
    }
}

impl<S: Store> Keylog<S> {
    /// The committed head of a key as this node knows it, without asking anybody: as the leader, or as a member that was
    /// told. `None` if it cannot tell, or has not seen the slot up to `seen`.
    pub fn read_lazily(
        &mut self,
        slot: SlotId,
        key: &Key,
        seen: Option<Ballot>,
    ) -> Result<Option<CommittedHead>, StoreError> {
        if self.knows_committed_head(slot, key)? {
            let is_behind = self.has_been_succeeded(slot, seen) || self.may_have_shown_more(slot, key, seen);
            // What cannot be read here, another member has.
            return if is_behind { Ok(None) } else { Ok(outcome(self.own_head(slot, key))?.ok()) };
        }
        let Some(state) = self.slots.get(&slot).filter(|state| state.record.configuration.contains(&self.me)) else {
            return Ok(None);
        };
        let committed = &state.committed;
        if seen.is_some_and(|seen| !committed.has_seen(key, seen)) {
            return Ok(None);
        }
        let register = self.store.register(slot, key)?;
        let (height, hash, mark) = match committed.pending.get(key) {
            // The committed head was accepted at a ballot below those of what is pending.
            Some(Pending { first, committed_height: Some(height), .. }) => {
                (*height, None, Some(Ballot { sequence: first.sequence.saturating_sub(1), ..*first }))
            }
            Some(Pending { committed_height: None, .. }) => return Ok(None),
            None if committed.is_committed(key, register.as_ref()) => match register {
                Some(register) => (register.head.height, Some(register.head.hash), Some(register.ballot)),
                None => (0, None, None),
            },
            None => return Ok(None),
        };
        if height == 0 {
            return Ok(Some(CommittedHead { head: None, is_linearizable: false, mark }));
        }
        let stored = outcome(self.stored(slot, key, height))?.ok().flatten();
        let head = stored.map(|transaction| (hash.unwrap_or_else(|| transaction.hash()), transaction));
        Ok(head.map(|head| CommittedHead { head: Some(head), is_linearizable: false, mark }))
    }

    /// The leader tells of slots that are at rest.
    pub(crate) fn handle_committed(
        &mut self,
        from: NodeId,
        slots: Vec<(SlotId, Ballot, SlotDigest)>,
    ) -> Result<(), StoreError> {
        for (slot, through, digest) in slots {
            if let Standing::Dealt = self.check_term(from, slot, through.term)? {
                continue;
            }
            let own = self.store.digest(slot)?;
            let Some(state) = self.slots.get_mut(&slot) else { continue };
            state.committed.note_watermark(through);
            if digest == own {
                state.committed.note_agreement(through);
            }
        }
        Ok(())
    }

    /// Tells members of the slots that this node leads and that have come to rest. While something is under way, the
    /// proposals tell.
    pub(crate) fn tell_committed(&mut self) -> Result<(), StoreError> {
        let mut news: BTreeMap<NodeId, Vec<_>> = BTreeMap::new();
        let has_news = |state: &SlotState| match &state.phase {
            Phase::Leading(leadership) => leadership.told != Some(leadership.sequence),
            _ => false,
        };
        let with_news: Vec<SlotId> =
            self.slots.iter().filter(|(_, state)| has_news(state)).map(|(slot, _)| *slot).collect();
        for slot in with_news {
            let Some(leadership) = self.leadership(slot) else { continue };
            let (term, sequence) = (leadership.term, leadership.sequence);
            let is_at_rest = leadership.is_synced && leadership.in_flight.is_empty() && leadership.is_quiet();
            if !is_at_rest {
                continue;
            }
            leadership.told = Some(sequence);
            let item = (slot, Ballot { term, sequence }, self.store.digest(slot)?);
            for member in self.configuration(slot).map(crate::Configuration::all_members).unwrap_or_default() {
                news.entry(member).or_default().push(item);
            }
        }
        for (member, slots) in news {
            for part in slots.chunks(SLOTS_MAX) {
                self.send(member, KeylogMessage::Committed { slots: part.to_vec() });
            }
        }
        Ok(())
    }

    /// A member cannot tell what is committed: everybody is told again.
    pub(crate) fn handle_ask_committed(&mut self, from: NodeId, slots: &[SlotId]) {
        for slot in slots {
            if self.configuration(*slot).is_some_and(|configuration| configuration.contains(&from))
                && let Some(leadership) = self.leadership(*slot)
            {
                leadership.told = None;
            }
        }
    }
}

/// The most slots in one message.
const SLOTS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use difuse_types::Key;

    use super::Committed;
    use crate::{Ballot, Term};

    fn ballot(number: u64, sequence: u64) -> Ballot {
        Ballot { term: Term { number, ..Term::start_of(1) }, sequence }
    }

    /// A new leader proposes a head again that was committed under the last one: whoever has seen it committed must not be
    /// shown the one before.
    #[test]
    fn a_head_that_is_proposed_again_is_no_later_than_it_was() {
        let key = Key::new(b"k").unwrap();
        let mut committed = Committed::default();
        committed.note_agreement(ballot(1, 16));
        committed.note_accepted(&key, ballot(1, 17), None, 15, false);
        let seen = |committed: &Committed| [16, 17].map(|sequence| committed.has_seen(&key, ballot(1, sequence)));
        assert_eq!(seen(&committed), [true, false]);
        committed.note_accepted(&key, ballot(2, 1), None, 0, false);
        assert_eq!(seen(&committed), [true, false]);
        // The next one tells that it is committed.
        committed.note_accepted(&key, ballot(2, 2), None, 16, false);
        assert_eq!(seen(&committed), [true, true]);
    }
}
