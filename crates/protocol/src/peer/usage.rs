//! What the keys of each namespace come to: every host counts the slots that it leads, and whoever is asked adds up.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_keylog::{Store, StoreError};
use difuse_types::{Instant, NodeId, SlotId};

use super::{
    Peer, RequestId, is_present,
    keys::{AttemptOf, Attempted},
    overview::Overview,
};
use crate::{
    message::{Message, Outcome},
    request::{NamespaceUsage, PAGE_MAX, Reply, Request, RequestError, Usage, UsagePage},
};

/// How long after a round in which a slot was counted by nobody, or twice, the next one begins.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A page of all namespaces that this node adds up.
pub(crate) struct UsageSum {
    from: String,
    limit: u32,
    deadline: Instant,
    /// Hosts that have not answered in this round.
    waiting: BTreeSet<NodeId>,
    slots: BTreeSet<SlotId>,
    /// Whether two hosts counted the same slot: it changes its leader.
    is_twice: bool,
    sums: BTreeMap<String, Usage>,
    /// Before this one every host has told all; `None`: to the end.
    bound: Option<String>,
    started_at: Instant,
    /// When the next round is due, if this one has failed.
    retry_at: Option<Instant>,
}

impl UsageSum {
    fn begin_round(&mut self, hosts: BTreeSet<NodeId>, now: Instant) {
        self.waiting = hosts;
        self.slots.clear();
        self.is_twice = false;
        self.sums.clear();
        self.bound = None;
        self.started_at = now;
        self.retry_at = None;
    }

    fn add(&mut self, page: UsagePage, slots: Vec<SlotId>) {
        for slot in slots {
            self.is_twice |= !self.slots.insert(slot);
        }
        for NamespaceUsage { namespace, usage } in page.namespaces {
            let sum = self.sums.entry(namespace).or_default();
            sum.keys = sum.keys.saturating_add(usage.keys);
            sum.bytes = sum.bytes.saturating_add(usage.bytes);
        }
        self.bound = match (self.bound.take(), page.next) {
            (Some(left), Some(right)) => Some(left.min(right)),
            (left, right) => left.or(right),
        };
    }

    fn page(&mut self) -> UsagePage {
        let mut sums = std::mem::take(&mut self.sums);
        if let Some(bound) = &self.bound {
            sums.retain(|namespace, _| namespace < bound);
        }
        page_of(sums, self.bound.take(), self.limit)
    }
}

/// At most `limit` of `sums`, which are complete before `bound`.
fn page_of(sums: BTreeMap<String, Usage>, bound: Option<String>, limit: u32) -> UsagePage {
    let limit = limit.clamp(1, PAGE_MAX) as usize;
    let mut sums = sums.into_iter();
    let first = sums.by_ref().take(limit);
    let namespaces = first.map(|(namespace, usage)| NamespaceUsage { namespace, usage }).collect();
    UsagePage { namespaces, next: sums.next().map(|(namespace, _)| namespace).or(bound) }
}

impl<S: Store> Peer<S> {
    /// Asks every host for what it leads.
    pub(super) fn start_usage(&mut self, id: RequestId, from: String, limit: u32) -> Result<(), StoreError> {
        let sum = UsageSum {
            from,
            limit,
            deadline: self.now + self.options.request_timeout,
            waiting: BTreeSet::new(),
            slots: BTreeSet::new(),
            is_twice: false,
            sums: BTreeMap::new(),
            bound: None,
            started_at: self.now,
            retry_at: None,
        };
        self.overviews.insert(id, Overview::Usage(sum));
        self.start_usage_round(id)
    }

    fn start_usage_round(&mut self, id: RequestId) -> Result<(), StoreError> {
        let (now, me) = (self.now, self.me);
        let present = self.ring.hosts().filter(|entry| is_present(entry.state));
        let hosts = present.map(|entry| entry.host.node).filter(|node| !self.ring.is_suspect(node));
        let hosts: BTreeSet<NodeId> = hosts.chain([me]).collect();
        let Some(sum) = self.usage_sum(id) else { return Ok(()) };
        sum.begin_round(hosts.clone(), now);
        let (first, limit) = (sum.from.clone(), sum.limit);
        for node in hosts.into_iter().filter(|node| *node != me) {
            let attempt = self.next_id();
            self.attempts.insert(attempt, Attempted { node, of: AttemptOf::Usage(id) });
            let request = Request::UsageLed { from: first.clone(), limit };
            self.send(node, Message::Request { id: attempt, direct: true, request });
        }
        let own = self.usage_led(&first, limit)?;
        self.handle_usage_led(id, me, Outcome::Reply(own));
        Ok(())
    }

    fn usage_sum(&mut self, id: RequestId) -> Option<&mut UsageSum> {
        match self.overviews.get_mut(&id) {
            Some(Overview::Usage(sum)) => Some(sum),
            _ => None,
        }
    }

    /// What the keys of at most `limit` namespaces from `first` on come to in the slots that this node leads.
    pub(super) fn usage_led(&self, first: &str, limit: u32) -> Result<Reply, StoreError> {
        let mut sums: BTreeMap<String, Usage> = BTreeMap::new();
        let mut slots = Vec::new();
        for summary in self.keylog.summaries().filter(|summary| summary.is_led) {
            slots.push(summary.slot);
            for (namespace, usage) in self.keylog.usage(summary.slot)? {
                if *namespace >= *first {
                    let sum = sums.entry(namespace).or_default();
                    (sum.keys, sum.bytes) = (sum.keys + usage.keys, sum.bytes.saturating_add(usage.bytes));
                }
            }
        }
        Ok(Reply::UsageLed { page: page_of(sums, None, limit), slots })
    }

    pub(super) fn handle_usage_led(&mut self, id: RequestId, from: NodeId, outcome: Outcome) {
        let count = self.settings.slots.count() as usize;
        let Some(sum) = self.usage_sum(id) else { return };
        if !sum.waiting.remove(&from) {
            return;
        }
        if let Outcome::Reply(Reply::UsageLed { page, slots }) = outcome {
            sum.add(page, slots);
        }
        if !sum.waiting.is_empty() {
            return;
        }
        if sum.is_twice || sum.slots.len() != count {
            self.retry_usage(id);
            return;
        }
        let page = sum.page();
        self.overviews.remove(&id);
        self.reply(id, Ok(Reply::Usage(page)));
    }

    /// Another round, a moment later.
    pub(super) fn retry_usage(&mut self, id: RequestId) {
        let at = self.now + RETRY_AFTER;
        if let Some(sum) = self.usage_sum(id) {
            sum.waiting.clear();
            sum.retry_at.get_or_insert(at);
        }
    }

    pub(super) fn sweep_usage(&mut self) -> Result<(), StoreError> {
        let (now, patience) = (self.now, self.options.attempt_timeout);
        let (mut due, mut overdue) = (Vec::new(), Vec::new());
        for (id, overview) in &self.overviews {
            let Overview::Usage(sum) = overview else { continue };
            let is_stuck = sum.retry_at.is_none() && now.since(sum.started_at) >= patience;
            if sum.deadline <= now {
                overdue.push(*id);
            } else if is_stuck || sum.retry_at.is_some_and(|at| at <= now) {
                due.push(*id);
            }
        }
        for id in overdue {
            let counted = self.usage_sum(id).map(|sum| std::mem::take(&mut sum.slots)).unwrap_or_default();
            let slot = self.settings.slots.iter().find(|slot| !counted.contains(slot)).unwrap_or_default();
            self.overviews.remove(&id);
            self.reply(id, Err(RequestError::Unavailable { slot, reason: "not every slot could be counted".into() }));
        }
        for id in due {
            self.start_usage_round(id)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Usage, page_of};

    #[test]
    fn pages_end_where_something_may_be_missing() {
        let sums = |names: &[&str]| -> BTreeMap<String, Usage> {
            names.iter().map(|name| (name.to_string(), Usage { keys: 1, bytes: 2 })).collect()
        };
        let check = |names: &[&str], bound: Option<&str>, limit, expected: &[&str], next: Option<&str>| {
            let page = page_of(sums(names), bound.map(Into::into), limit);
            let found: Vec<_> = page.namespaces.iter().map(|one| &one.namespace[..]).collect();
            assert_eq!((&found[..], page.next.as_deref()), (expected, next));
        };
        check(&["", "a", "b"], None, 3, &["", "a", "b"], None);
        check(&["", "a", "b"], None, 2, &["", "a"], Some("b"));
        check(&["", "a"], Some("c"), 2, &["", "a"], Some("c"));
        check(&["", "a"], None, 0, &[""], Some("a"));
        check(&[], Some("x"), 2, &[], Some("x"));
    }
}
