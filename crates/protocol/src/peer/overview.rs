//! The ring as a whole: its view, its routes, and leaving it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use difuse_keylog::{Store, StoreError};
use difuse_ring::HostState;
use difuse_types::{Host, Instant, NodeId};

use super::{
    Peer, RequestId, is_present,
    keys::{AttemptOf, Attempted},
    list::ListAll,
};
use crate::{
    message::{Message, Outcome},
    request::{Moving, NodeStatus, Reply, Request, RequestError, RingView, Routes},
};

/// How often nodes are asked whether they know of this node's leave.
const ASK_LEAVE_EVERY: Duration = Duration::from_millis(200);
/// How long after everybody knows of it a node that holds nothing has left.
const LEAVE_AFTER: Duration = Duration::from_millis(500);

/// For how long a node that has left goes on telling it to those who have not heard.
const TELL_LEFT_FOR: Duration = Duration::from_secs(10);

/// A planned leave under way.
pub(crate) struct Leave {
    /// What the others are to know: that this node leaves, and in the end that it has left.
    state: HostState,
    /// Who has told that it knows.
    known_by: BTreeSet<NodeId>,
    /// Since when everybody in reach knows.
    known_since: Option<Instant>,
    asked_at: Option<Instant>,
    /// Since when this state is told.
    began_at: Instant,
}

impl Leave {
    fn new(state: HostState, began_at: Instant) -> Self {
        Self { state, known_by: BTreeSet::new(), known_since: None, asked_at: None, began_at }
    }
}

/// A request that every host is asked about.
pub(crate) enum Overview {
    /// A listing of all slots.
    List(ListAll),
    /// The ring's view: what each host told of its slots; `None` until it does.
    Ring { statuses: BTreeMap<NodeId, Option<NodeStatus>>, deadline: Instant },
    /// What the keys of namespaces come to.
    Usage(super::usage::UsageSum),
    /// Slots that lost their majority.
    Recovery(Box<super::recover::Recovering>),
}

impl<S: Store> Peer<S> {
    pub(super) fn start_overview(&mut self, id: RequestId) {
        let hosts: Vec<NodeId> = self
            .ring
            .hosts()
            .filter(|entry| is_present(entry.state) && entry.host.node != self.me)
            .map(|entry| entry.host.node)
            .collect();
        let statuses = hosts.iter().map(|node| (*node, None)).collect();
        let deadline = self.now + self.options.attempt_timeout;
        self.overviews.insert(id, Overview::Ring { statuses, deadline });
        for node in hosts {
            if self.ring.is_suspect(&node) {
                continue;
            }
            let attempt = self.next_id();
            self.attempts.insert(attempt, Attempted { node, of: AttemptOf::Status(id) });
            self.send(node, Message::Request { id: attempt, direct: true, request: Request::Status });
        }
        self.finish_overview(id, false);
    }

    pub(super) fn handle_node_status(&mut self, id: RequestId, from: NodeId, outcome: Outcome) {
        if let Some(Overview::Ring { statuses, .. }) = self.overviews.get_mut(&id)
            && let Outcome::Reply(Reply::Status(status)) = outcome
        {
            statuses.insert(from, Some(status));
        }
        self.finish_overview(id, false);
    }

    pub(super) fn lose_status(&mut self, id: RequestId) {
        self.finish_overview(id, false);
    }

    /// Answers when every host that is not suspect has told, or when it is time.
    fn finish_overview(&mut self, id: RequestId, is_overdue: bool) {
        let Some(Overview::Ring { statuses, .. }) = self.overviews.get(&id) else { return };
        let is_waiting = statuses.iter().any(|(node, status)| status.is_none() && !self.ring.is_suspect(node));
        if is_waiting && !is_overdue {
            return;
        }
        let Some(Overview::Ring { statuses, .. }) = self.overviews.remove(&id) else { return };
        let result = self.status().map(|own| Reply::Ring(Box::new(self.view(own, statuses))));
        self.reply(id, result.map_err(|error| RequestError::Storage(error.to_string())));
    }

    fn view(&self, own: NodeStatus, statuses: BTreeMap<NodeId, Option<NodeStatus>>) -> RingView {
        let all_told = statuses.values().all(Option::is_some);
        let mut sum = own;
        let told = statuses.iter().filter_map(|(node, status)| Some((*node, status.as_ref()?)));
        let short_of_room = std::iter::once((self.me, &own)).chain(told);
        let short_of_room: Vec<NodeId> =
            short_of_room.filter(|(_, status)| status.is_short_of_room).map(|(node, _)| node).collect();
        for status in statuses.into_values().flatten() {
            sum = NodeStatus {
                slots_led: sum.slots_led + status.slots_led,
                slots_settled: sum.slots_settled + status.slots_settled,
                slots_short: sum.slots_short + status.slots_short,
                slots_behind: sum.slots_behind + status.slots_behind,
                slots_left_over: sum.slots_left_over + status.slots_left_over,
                keys_damaged: sum.keys_damaged + status.keys_damaged,
                is_short_of_room: sum.is_short_of_room || status.is_short_of_room,
                tombstones: sum.tombstones + status.tombstones,
                moving: Moving {
                    slots: sum.moving.slots + status.moving.slots,
                    bytes_done: sum.moving.bytes_done + status.moving.bytes_done,
                    bytes_total: sum.moving.bytes_total + status.moving.bytes_total,
                },
            };
        }
        let count = u64::from(self.settings.slots.count());
        let hosts = self.host_states();
        let is_calm = hosts.iter().all(|(_, state)| !matches!(state, HostState::Joining | HostState::Suspect));
        RingView {
            node: self.me,
            settings: self.settings,
            settled: all_told
                && is_calm
                && sum.slots_led == count
                && sum.slots_settled == count
                && sum.slots_behind == 0
                && sum.slots_left_over == 0,
            slots_short: sum.slots_short,
            keys_damaged: sum.keys_damaged,
            moving: sum.moving,
            short_of_room,
            tombstones: sum.tombstones,
            hosts,
        }
    }

    fn host_states(&self) -> Vec<(Host, HostState)> {
        let state = |entry: &difuse_ring::HostEntry| {
            let is_suspect = entry.state == HostState::Up && self.ring.is_suspect(&entry.host.node);
            if is_suspect { HostState::Suspect } else { entry.state }
        };
        self.ring.hosts().map(|entry| (entry.host.clone(), state(entry))).collect()
    }

    /// How this node's own slots stand.
    pub(super) fn status(&self) -> Result<NodeStatus, StoreError> {
        let mut status = NodeStatus {
            slots_behind: self.repair.behind.len() as u64,
            keys_damaged: self.keylog.damaged_keys() as u64,
            is_short_of_room: self.keylog.word_of_room().is_some(),
            ..NodeStatus::default()
        };
        for summary in self.keylog.summaries() {
            if summary.is_led {
                status.slots_led += 1;
                status.slots_settled += u64::from(summary.is_settled);
                status.slots_short += u64::from(summary.members < usize::from(self.settings.replicas));
                status.moving.slots += u64::from(summary.is_moving);
                status.tombstones += self.keylog.size(summary.slot)?.tombstones;
            }
            if !summary.is_member && self.keylog.size(summary.slot)?.keys > 0 {
                status.slots_left_over += 1;
            }
        }
        (status.moving.bytes_done, status.moving.bytes_total) = self.transfer_bytes();
        Ok(status)
    }

    /// Who leads each slot, as far as this node knows.
    pub(super) fn routes(&self) -> Routes {
        let hosts = self.host_states();
        let index: BTreeMap<NodeId, u32> = hosts.iter().zip(0..).map(|((host, _), index)| (host.node, index)).collect();
        let leader = |slot| {
            let known = self.keylog.configuration(slot).filter(|known| known.contains(&self.me));
            let leader = match known {
                Some(_) => self.keylog.leader(slot),
                None => self.known_leaders.get(&slot).copied().or_else(|| self.ring.successors(slot).first().copied()),
            };
            leader.and_then(|leader| index.get(&leader).copied()).unwrap_or(u32::MAX)
        };
        Routes { settings: self.settings, leaders: self.settings.slots.iter().map(leader).collect(), hosts }
    }

    pub(super) fn sweep_overviews(&mut self) {
        let now = self.now;
        let overdue: Vec<RequestId> = self
            .overviews
            .iter()
            .filter(|(_, overview)| matches!(overview, Overview::Ring { deadline, .. } if *deadline <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            self.finish_overview(id, true);
        }
    }

    /// Plans the leave of this node: it goes out of placement, its slots move away, and then it is gone.
    pub(super) fn start_leave(&mut self, id: RequestId) {
        let others = self
            .ring
            .hosts()
            .filter(|entry| entry.host.node != self.me && matches!(entry.state, HostState::Up | HostState::Suspect));
        let is_alone = others.count() == 0;
        self.leaves.push(id);
        if is_alone {
            return self.refuse_leaves();
        }
        let mut outputs = Vec::new();
        self.ring.leave(self.now, &mut outputs);
        self.take_ring_outputs(outputs);
        self.note_leave();
    }

    /// The only node of a ring stays, though it may have begun to leave before all others were given up.
    fn refuse_leaves(&mut self) {
        if self.leave.as_ref().is_some_and(|leave| leave.state == HostState::Leaving) {
            self.leave = None;
            let mut outputs = Vec::new();
            self.ring.stay(self.now, &mut outputs);
            self.take_ring_outputs(outputs);
        }
        for id in std::mem::take(&mut self.leaves) {
            let reason = "this is the only node of its ring: stop it instead of leaving".into();
            self.reply(id, Err(RequestError::Invalid(reason)));
        }
    }

    /// A leave is under way: just asked for, or begun before a restart.
    pub(super) fn note_leave(&mut self) {
        let began_at = self.now;
        self.leave.get_or_insert_with(|| Leave::new(HostState::Leaving, began_at));
    }

    /// Asks those who may still take this node for a member what they know, from time to time.
    pub(super) fn sweep_leave(&mut self) {
        let now = self.now;
        let unaware = self.unaware_of_leave();
        let Some(leave) = &mut self.leave else { return };
        if unaware.is_empty() {
            leave.known_since.get_or_insert(now);
        } else {
            leave.known_since = None;
        }
        if unaware.is_empty() || leave.asked_at.is_some_and(|at| now.since(at) < ASK_LEAVE_EVERY) {
            return self.continue_leave();
        }
        if leave.state == HostState::Left && leave.asked_at.is_some() {
            self.tell_left();
        }
        if let Some(leave) = &mut self.leave {
            leave.asked_at = Some(now);
        }
        for node in unaware {
            let attempt = self.next_id();
            self.attempts.insert(attempt, Attempted { node, of: AttemptOf::Leave });
            self.send(node, Message::Request { id: attempt, direct: true, request: Request::Routes });
        }
    }

    /// Nodes that have not told that they know of this node's leave. One that does not answer may be cut off, and lead a
    /// slot that it is moving to this node: it is waited for too, until it is back or given up.
    fn unaware_of_leave(&self) -> Vec<NodeId> {
        let Some(leave) = &self.leave else { return Vec::new() };
        // That it has left is told on by whoever hears it.
        let waits_for_all = leave.state == HostState::Leaving;
        let others = self.ring.hosts().filter(|entry| {
            let node = &entry.host.node;
            *node != self.me
                && is_present(entry.state)
                && (waits_for_all || !self.ring.is_suspect(node))
                && !leave.known_by.contains(node)
        });
        others.map(|entry| entry.host.node).collect()
    }

    pub(super) fn handle_leave_known(&mut self, from: NodeId, outcome: Outcome) {
        let Outcome::Reply(Reply::Routes(routes)) = outcome else { return };
        let Some(leave) = &mut self.leave else { return };
        let state = routes.hosts.iter().find(|(host, _)| host.node == self.me).map(|(_, state)| *state);
        if state == Some(leave.state) || state == Some(HostState::Left) {
            leave.known_by.insert(from);
        }
    }

    fn continue_leave(&mut self) {
        match self.leave.as_ref().map(|leave| leave.state) {
            Some(HostState::Left) => self.finish_leaves(),
            Some(_) => self.leave_if_not_needed(),
            None => {}
        }
    }

    /// Whether no slot needs this node any more: then it has left.
    fn leave_if_not_needed(&mut self) {
        // A queued write is on this node alone.
        let is_needed = !self.queue.is_empty() || self.keylog.summaries().any(|summary| summary.is_member);
        if is_needed {
            return;
        }
        // Everybody in reach must know of it, and have had the time to finish what was begun without knowing: else a slot
        // could still be moved here, to a node that is about to stop.
        let has_company = self.ring.hosts().any(|entry| {
            entry.host.node != self.me && entry.state == HostState::Up && !self.ring.is_suspect(&entry.host.node)
        });
        let known_since = self.leave.as_ref().and_then(|leave| leave.known_since);
        if !has_company || known_since.is_none_or(|since| self.now.since(since) < LEAVE_AFTER) {
            return;
        }
        self.keylog.handle_left();
        self.tell_left();
        self.leave = Some(Leave::new(HostState::Left, self.now));
    }

    fn tell_left(&mut self) {
        let mut outputs = Vec::new();
        self.ring.left(self.now, &mut outputs);
        self.take_ring_outputs(outputs);
    }

    /// Answers those who asked for the leave once everybody in reach knows that this node has left. If it stopped before
    /// somebody does, the others would take it for leaving until they give it up.
    fn finish_leaves(&mut self) {
        let Some(leave) = &self.leave else { return };
        let is_known = leave.known_since.is_some() && !leave.known_by.is_empty();
        if !is_known && self.now.since(leave.began_at) < TELL_LEFT_FOR {
            return;
        }
        self.leave = None;
        for id in std::mem::take(&mut self.leaves) {
            self.reply(id, Ok(Reply::Done));
        }
    }
}
