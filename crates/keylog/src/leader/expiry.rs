//! Keys that have expired: readers do not see them any more, by their nodes' clocks; the leader deletes them, so that
//! they take no room and their histories say what became of them (DESIGN section 5, *Expiry*).
//!
//! The clock on the wall only says when the leader tries: the delete is an ordinary append on the condition that the head
//! is still the one that has expired, so that a key that was written anew meanwhile stays.

use difuse_types::{Instant, Key, KeyPrefix, SlotId, WallTime};

use super::{Append, Appending, Phase};
use crate::{
    Anchor, Condition, Operation, Register, SCAN_PAGE_MAX, Submission,
    keylog::Keylog,
    store::{Store, StoreError},
};

/// For how long a slot is left alone after it was searched to its end.
const SEARCH_EVERY: std::time::Duration = std::time::Duration::from_secs(1);
/// How many keys of a slot are deleted in one go.
const DELETES_MAX: usize = 256;

/// The search for expired keys of a slot, to its leader.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Expiry {
    /// The search goes on after this key.
    after: Option<Key>,
    search_at: Instant,
    /// The earliest deadline that this search has met, and that of the whole search before: nothing expires sooner, but
    /// for what was proposed since.
    met: Option<WallTime>,
    earliest: Option<WallTime>,
}

impl Expiry {
    /// A proposal gives a key this deadline.
    pub(crate) fn note_deadline(&mut self, deadline: Option<WallTime>) {
        if let Some(deadline) = deadline {
            for known in [&mut self.met, &mut self.earliest] {
                *known = Some(known.map_or(deadline, |known| known.min(deadline)));
            }
        }
    }

    fn is_due(&self, now: Instant, wall: WallTime) -> bool {
        self.search_at <= now && (self.after.is_some() || self.earliest.is_none_or(|earliest| earliest <= wall))
    }
}

impl<S: Store> Keylog<S> {
    /// Looks for expired keys: through a part of one slot each time.
    pub(crate) fn tick_expiry(&mut self) -> Result<(), StoreError> {
        let (now, wall) = (self.now, self.wall);
        let due = self.slots.iter().find(|(_, state)| match &state.phase {
            Phase::Leading(leadership) => {
                let is_ready = leadership.is_synced && leadership.change.is_none();
                is_ready && leadership.expiry.is_due(now, wall)
            }
            _ => false,
        });
        match due.map(|(slot, _)| *slot) {
            Some(slot) => self.search_expired(slot),
            None => Ok(()),
        }
    }

    fn search_expired(&mut self, slot: SlotId) -> Result<(), StoreError> {
        let (now, wall) = (self.now, self.wall);
        let expiring = self.store.size(slot)?.expiring;
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let after = leadership.expiry.after.take();
        if expiring == 0 {
            // Whoever gives a key a deadline from now on notes it.
            leadership.expiry = Expiry { earliest: Some(NEVER), ..Expiry::default() };
            return Ok(());
        }
        let page = self.store.scan(slot, &KeyPrefix::new(), after.as_ref(), SCAN_PAGE_MAX)?;
        let mut is_last = page.len() < SCAN_PAGE_MAX;
        let mut last = None;
        let mut deletes = 0;
        for (key, register) in page {
            match register.head.deadline {
                Some(deadline) if deadline <= wall && deletes < DELETES_MAX => {
                    deletes += 1;
                    self.delete_expired(slot, &key, &register)?;
                }
                Some(deadline) if deadline <= wall => {
                    is_last = false;
                    break;
                }
                Some(deadline) => self.note_deadline_met(slot, deadline),
                None => {}
            }
            last = Some(key);
        }
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let expiry = &mut leadership.expiry;
        if is_last {
            expiry.earliest = Some(expiry.met.take().unwrap_or(NEVER));
            expiry.search_at = now + SEARCH_EVERY;
        } else {
            expiry.after = last.or(after);
        }
        Ok(())
    }

    fn note_deadline_met(&mut self, slot: SlotId, deadline: WallTime) {
        if let Some(leadership) = self.leadership(slot) {
            let met = &mut leadership.expiry.met;
            *met = Some(met.map_or(deadline, |met| met.min(deadline)));
        }
    }

    /// Appends a delete, if the key is still as it was found.
    fn delete_expired(&mut self, slot: SlotId, key: &Key, register: &Register) -> Result<(), StoreError> {
        let operation_id = self.draw_operation_id();
        let submission = Submission {
            operation: Operation::Delete,
            condition: Condition::Head(register.head.hash),
            operation_id,
            author: self.me,
            time: self.wall,
            level: difuse_types::Level::Quorum,
            generation: None,
            // Its id was drawn for this.
            since: Some(Anchor::LATEST),
        };
        let Some(leadership) = self.leadership(slot) else { return Ok(()) };
        let state = leadership.keys.entry(key.clone()).or_default();
        // Whatever else is asked of the key comes first: then it is found again if it is still there.
        if state.appends.is_empty() {
            let appending = Appending::Write(submission);
            state.appends.push_back(Append { ticket: NOBODY, appending, is_judged: false });
        }
        self.advance(slot, key)
    }
}

/// Nothing expires so late.
const NEVER: WallTime = WallTime(u64::MAX);
/// The ticket of what nobody waits for.
pub(crate) const NOBODY: crate::Ticket = u64::MAX;
