//! Listing keys of all slots in order: every host lists the slots that it leads, and the parts are merged.

use std::collections::{BTreeMap, BTreeSet};

use difuse_keylog::{Answer, Failure, Store, StoreError};
use difuse_types::{Instant, Key, KeyPrefix, NodeId, SlotId};

use super::{
    Peer, RequestId,
    keys::{AttemptOf, Attempted},
    serve::{Purpose, entries_of},
};
use crate::{
    message::{Message, Outcome},
    request::{ListEntry, Reply, Request, RequestError},
};

/// A listing of the slots that this node leads, for another node; or, at `local`, for a listing that it coordinates.
pub(crate) struct ListLed {
    recipient: Recipient,
    limit: usize,
    waiting: BTreeSet<SlotId>,
    slots: Vec<SlotId>,
    merge: Merge,
}

enum Recipient {
    Remote { from: NodeId, id: u64 },
    Local(RequestId),
}

/// A listing that this node coordinates.
pub(crate) struct ListAll {
    prefix: KeyPrefix,
    after: Option<Key>,
    limit: u32,
    deadline: Instant,
    /// Hosts that have not answered in this round.
    waiting: BTreeSet<NodeId>,
    slots: BTreeSet<SlotId>,
    merge: Merge,
    /// When the next round is due, if this one has failed.
    retry_at: Option<Instant>,
    started_at: Instant,
}

/// Parts of a listing in order of keys: complete up to the smallest bound.
#[derive(Default)]
struct Merge {
    entries: BTreeMap<Key, ListEntry>,
    bound: Option<Key>,
}

/// About how many bytes of entries travel in one message at most.
const PAGE_BYTES_MAX: usize = 1024 * 1024;

fn entry_bytes(entry: &ListEntry) -> usize {
    200 + entry.key.encoded().len() + entry.entry.value.as_ref().map_or(0, |value| value.bytes.len())
}

impl Merge {
    fn add(&mut self, entries: Vec<ListEntry>, next: Option<Key>) {
        self.entries.extend(entries.into_iter().map(|entry| (entry.key.clone(), entry)));
        self.bound = match (self.bound.take(), next) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        };
    }

    /// At most `limit` entries, and where the next page begins.
    fn finish(self, limit: usize) -> (Vec<ListEntry>, Option<Key>) {
        let Self { entries, mut bound } = self;
        let complete = entries.into_values().filter(|entry| bound.as_ref().is_none_or(|bound| entry.key <= *bound));
        let mut entries: Vec<_> = complete.collect();
        let mut bytes = 0;
        let fits = |entry: &&ListEntry| {
            bytes += entry_bytes(entry);
            bytes <= PAGE_BYTES_MAX
        };
        let count = entries.iter().take_while(fits).count().clamp(1, limit.max(1));
        if entries.len() > count {
            entries.truncate(count);
            bound = entries.last().map(|last| last.key.clone());
        }
        (entries, bound)
    }
}

impl<S: Store> Peer<S> {
    /// Asks every host for the slots that it leads.
    pub(super) fn start_list(
        &mut self,
        id: RequestId,
        prefix: KeyPrefix,
        after: Option<Key>,
        limit: u32,
    ) -> Result<(), StoreError> {
        let list = ListAll {
            prefix,
            after,
            limit,
            deadline: self.now + self.options.request_timeout,
            waiting: BTreeSet::new(),
            slots: BTreeSet::new(),
            merge: Merge::default(),
            retry_at: None,
            started_at: self.now,
        };
        self.overviews.insert(id, super::overview::Overview::List(list));
        self.start_list_round(id)
    }

    fn start_list_round(&mut self, id: RequestId) -> Result<(), StoreError> {
        let now = self.now;
        let hosts: BTreeSet<NodeId> = self
            .ring
            .hosts()
            .filter(|entry| super::is_present(entry.state) && !self.ring.is_suspect(&entry.host.node))
            .map(|entry| entry.host.node)
            .chain([self.me])
            .collect();
        let Some(list) = self.list_all(id) else { return Ok(()) };
        list.waiting = hosts.clone();
        list.slots.clear();
        list.merge = Merge::default();
        list.retry_at = None;
        list.started_at = now;
        let (prefix, after, limit) = (list.prefix.clone(), list.after.clone(), list.limit);
        let me = self.me;
        for host in hosts.into_iter().filter(|host| *host != me) {
            let attempt = self.next_id();
            self.attempts.insert(attempt, Attempted { node: host, of: AttemptOf::ListPart(id) });
            let request = Request::ListLed { prefix: prefix.clone(), after: after.clone(), limit };
            self.send(host, Message::Request { id: attempt, direct: true, request });
        }
        self.list_slots(Recipient::Local(id), prefix, after, limit)
    }

    fn list_all(&mut self, id: RequestId) -> Option<&mut ListAll> {
        match self.overviews.get_mut(&id) {
            Some(super::overview::Overview::List(list)) => Some(list),
            _ => None,
        }
    }

    pub(super) fn list_led(
        &mut self,
        from: NodeId,
        id: u64,
        prefix: KeyPrefix,
        after: Option<Key>,
        limit: u32,
    ) -> Result<(), StoreError> {
        self.list_slots(Recipient::Remote { from, id }, prefix, after, limit)
    }

    fn list_slots(
        &mut self,
        recipient: Recipient,
        prefix: KeyPrefix,
        after: Option<Key>,
        limit: u32,
    ) -> Result<(), StoreError> {
        let slots: Vec<SlotId> =
            self.keylog.summaries().filter(|summary| summary.is_led).map(|summary| summary.slot).collect();
        // Keys are spread evenly, so each slot is asked for little more than its share; a slot with more only makes
        // the page shorter.
        let share = limit as usize * 2 / self.settings.slots.count() as usize + 4;
        let list = self.next_id();
        let limit = limit as usize;
        let waiting = slots.iter().copied().collect();
        let state = ListLed { recipient, limit, waiting, slots: Vec::new(), merge: Merge::default() };
        self.lists.insert(list, state);
        for slot in slots {
            let ticket = self.next_id();
            self.jobs.insert(ticket, Purpose::ListPart { list, slot });
            self.keylog.submit_range(ticket, slot, prefix.clone(), after.clone(), share)?;
        }
        self.finish_list_led(list);
        Ok(())
    }

    pub(super) fn handle_led_slot(&mut self, list: u64, slot: SlotId, result: Result<Answer, Failure>) {
        let Some(state) = self.lists.get_mut(&list) else { return };
        state.waiting.remove(&slot);
        if let Ok(Answer::Range { heads, next }) = result {
            state.slots.push(slot);
            state.merge.add(entries_of(heads, self.wall), next);
        }
        self.finish_list_led(list);
    }

    fn finish_list_led(&mut self, list: u64) {
        if self.lists.get(&list).is_none_or(|state| !state.waiting.is_empty()) {
            return;
        }
        let Some(state) = self.lists.remove(&list) else { return };
        let (entries, next) = state.merge.finish(state.limit);
        let reply = Reply::ListLed { entries, next, slots: state.slots };
        match state.recipient {
            Recipient::Remote { from, id } => {
                self.send(from, Message::Response { id, outcome: Outcome::Reply(reply) });
            }
            Recipient::Local(request) => self.handle_list_part(request, self.me, Outcome::Reply(reply)),
        }
    }

    pub(super) fn handle_list_part(&mut self, id: RequestId, from: NodeId, outcome: Outcome) {
        let count = self.settings.slots.count() as usize;
        let Some(list) = self.list_all(id) else { return };
        if !list.waiting.remove(&from) {
            return;
        }
        if let Outcome::Reply(Reply::ListLed { entries, next, slots }) = outcome {
            list.slots.extend(slots);
            list.merge.add(entries, next);
        }
        if !list.waiting.is_empty() {
            return;
        }
        if list.slots.len() < count {
            self.retry_list(id);
            return;
        }
        let (merge, limit) = (std::mem::take(&mut list.merge), list.limit as usize);
        let (entries, next) = merge.finish(limit);
        self.overviews.remove(&id);
        self.reply(id, Ok(Reply::List { entries, next }));
    }

    /// Some slot was listed by nobody: another round, a moment later.
    pub(super) fn retry_list(&mut self, id: RequestId) {
        let at = self.now + std::time::Duration::from_millis(30);
        if let Some(list) = self.list_all(id) {
            list.waiting.clear();
            list.retry_at.get_or_insert(at);
        }
    }

    pub(super) fn sweep_lists(&mut self) -> Result<(), StoreError> {
        let now = self.now;
        let patience = self.options.attempt_timeout;
        let mut due = Vec::new();
        let mut overdue = Vec::new();
        for (id, overview) in &self.overviews {
            let super::overview::Overview::List(list) = overview else { continue };
            let is_stuck = list.retry_at.is_none() && now.since(list.started_at) >= patience;
            if list.deadline <= now {
                overdue.push(*id);
            } else if is_stuck || list.retry_at.is_some_and(|at| at <= now) {
                due.push(*id);
            }
        }
        for id in overdue {
            let missing = self.list_all(id).map(|list| list.slots.clone()).unwrap_or_default();
            let slot = self.settings.slots.iter().find(|slot| !missing.contains(slot)).unwrap_or_default();
            self.overviews.remove(&id);
            let reason = "not every slot could be listed".into();
            self.reply(id, Err(RequestError::Unavailable { slot, reason }));
        }
        for id in due {
            self.start_list_round(id)?;
        }
        Ok(())
    }
}
