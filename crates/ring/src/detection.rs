//! Who answers. *Suspect* is our own opinion, formed in about a second: route around it. *Gone* is told to everybody,
//! after minutes, and changes placement.

use std::collections::{BTreeMap, BTreeSet};

use difuse_types::{Instant, NodeId};

use crate::{HostState, Ring, RingMessage, RingOutput};

/// Up to this many hosts everybody pings everybody.
const WATCH_ALL_HOSTS: usize = 32;
/// On larger rings neighbours are pinged in every round, and besides them so many of all hosts and so many fingers, drawn
/// anew each time. Pinging all fingers all the time would be most of a large ring's traffic.
const WATCH_RANDOM_HOSTS: usize = 4;
/// Every so many rounds one host that was given up is asked whether it is back.
const ROUNDS_BETWEEN_PROBES: u64 = 4;

/// What we know of the hosts that we watch.
#[derive(Debug, Default)]
pub(crate) struct Detector {
    peers: BTreeMap<NodeId, Peer>,
    rounds: u64,
    last_round: Instant,
    pub(crate) next_round: Instant,
}

#[derive(Debug)]
struct Peer {
    /// When the latest ping that was answered was sent; when we began to watch, before the first answer.
    answered: Instant,
    /// When the latest ping was sent, until it is answered: so long it is watched, lest it be forgotten before it is judged.
    awaited: Option<Instant>,
    suspect_since: Option<Instant>,
}

impl Detector {
    pub(crate) fn is_suspect(&self, node: &NodeId) -> bool {
        self.peers.get(node).is_some_and(|peer| peer.suspect_since.is_some())
    }

    /// As if the last round had been at `now`.
    pub(crate) fn begin_rounds_at(&mut self, now: Instant, next_round: Instant) {
        (self.last_round, self.next_round) = (now, next_round);
    }

    /// Begins anew with a host: what was known is of its life before.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.peers.remove(node);
    }

    fn watch(&mut self, node: NodeId, now: Instant) -> &mut Peer {
        self.peers.entry(node).or_insert(Peer { answered: now, awaited: None, suspect_since: None })
    }

    /// A process that was paused has missed answers by its own fault: all waiting begins anew.
    fn excuse_a_pause(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            peer.answered = now;
            peer.awaited = None;
            peer.suspect_since = peer.suspect_since.map(|_| now);
        }
    }
}

impl Ring {
    /// A transport connection to `node` stands: it is asked at once whether it answers.
    pub fn handle_connected(&mut self, now: Instant, node: NodeId, out: &mut Vec<RingOutput>) {
        self.now = now;
        self.meet(node);
        if self.detector.is_suspect(&node) {
            self.ping(node);
        }
        self.finish(out);
    }

    /// The last transport connection to `node` broke: it is suspect at once, and asked again.
    pub fn handle_disconnected(&mut self, now: Instant, node: NodeId, out: &mut Vec<RingOutput>) {
        self.now = now;
        let known = self.table.entry(&node).is_some_and(|entry| !entry.state.is_away());
        if known && node != self.me {
            self.detector.watch(node, now);
            self.suspect(node);
            self.ping(node);
        }
        self.finish(out);
    }

    /// One round: judges by the answers so far, then asks again.
    pub(crate) fn run_detection_round(&mut self) {
        let since_last = self.now.since(self.detector.last_round);
        if since_last > self.config.ping_every + self.config.suspect_after / 2 {
            self.detector.excuse_a_pause(self.now);
        }
        self.detector.last_round = self.now;
        self.detector.next_round = self.now + self.config.ping_every;
        self.detector.rounds += 1;
        let watched = self.watched_hosts();
        self.detector.peers.retain(|node, _| watched.contains(node));
        for node in &watched {
            self.judge(*node);
        }
        self.give_up_long_suspects();
        for node in watched {
            self.ping(node);
        }
        self.probe_one_given_up();
    }

    fn judge(&mut self, node: NodeId) {
        let now = self.now;
        let peer = self.detector.watch(node, now);
        if peer.suspect_since.is_none() && now.since(peer.answered) >= self.config.suspect_after {
            self.suspect(node);
        }
    }

    fn suspect(&mut self, node: NodeId) {
        let now = self.now;
        let Some(peer) = self.detector.peers.get_mut(&node) else { return };
        if peer.suspect_since.is_some() {
            return;
        }
        peer.suspect_since = Some(now);
        self.table.set_suspect(&node, true);
        self.emit(RingOutput::SuspicionChanged { node, suspect: true });
        self.hurry(node, true);
    }

    pub(crate) fn ping(&mut self, to: NodeId) {
        if let Some(peer) = self.detector.peers.get_mut(&to) {
            peer.awaited = Some(self.now);
        }
        self.send(to, RingMessage::Ping { sent_ns: self.now.0 });
    }

    pub(crate) fn handle_ping(&mut self, sender: NodeId, sent_ns: u64) {
        let member = self.virtual_nodes.iter().any(|node| node.member);
        self.send(sender, RingMessage::Pong { sent_ns, member });
    }

    /// An answer counts from when its question was sent: a late one proves nothing about now.
    pub(crate) fn handle_pong(&mut self, sender: NodeId, sent_ns: u64, member: bool) {
        let sent = Instant(sent_ns.min(self.now.0));
        self.note_membership(sender, member);
        let Some(state) = self.table.entry(&sender).map(|entry| entry.state) else { return };
        if state == HostState::Gone {
            // It lives: let it hear that it was given up, so that it comes back with a new incarnation.
            return self.send_digest(sender);
        }
        let suspect_after = self.config.suspect_after;
        let Some(peer) = self.detector.peers.get_mut(&sender) else { return };
        peer.answered = peer.answered.max(sent);
        peer.awaited = peer.awaited.filter(|asked| sent < *asked);
        let fresh = self.now.since(sent) < suspect_after;
        if fresh && peer.suspect_since.is_some_and(|since| sent >= since) {
            peer.suspect_since = None;
            self.table.set_suspect(&sender, false);
            self.emit(RingOutput::SuspicionChanged { node: sender, suspect: false });
            self.hurry(sender, false);
            // We may have missed each other's news.
            self.send_digest(sender);
        }
    }

    /// While restarting: learns whether there is a ring to join.
    fn note_membership(&mut self, sender: NodeId, member: bool) {
        if self.resumed_at.is_none() || self.table.entry(&sender).is_none() {
            return;
        }
        if member {
            self.member_seen = Some((sender, self.now));
            self.non_members.remove(&sender);
        } else {
            self.non_members.insert(sender);
            self.rebuild_when_nobody_is_member();
        }
    }

    /// All on small rings; else neighbours, suspects, a random few, and those that have yet to answer.
    fn watched_hosts(&mut self) -> BTreeSet<NodeId> {
        let watchable =
            |node: &NodeId| *node != self.me && self.table.entry(node).is_some_and(|entry| !entry.state.is_away());
        let all: Vec<NodeId> = self.table.entries().map(|entry| entry.host.node).filter(watchable).collect();
        if all.len() <= WATCH_ALL_HOSTS {
            return all.into_iter().collect();
        }
        let neighbours = self.virtual_nodes.iter().flat_map(|node| node.neighbours()).map(|place| place.node());
        let unsettled = |peer: &Peer| peer.suspect_since.is_some() || peer.awaited.is_some();
        let unsettled = self.detector.peers.iter().filter(|(_, peer)| unsettled(peer)).map(|(node, _)| *node);
        let mut watched: BTreeSet<NodeId> = neighbours.chain(unsettled).filter(watchable).collect();
        let fingers = self.virtual_nodes.iter().flat_map(|node| node.fingers.values()).map(|place| place.node());
        let fingers: Vec<NodeId> = fingers.filter(watchable).collect();
        for _ in 0..WATCH_RANDOM_HOSTS {
            watched.extend(self.rng.choice(&all).copied());
            watched.extend(self.rng.choice(&fingers).copied());
        }
        watched
    }

    /// Only a host that reaches a majority of the hosts in placement may give others up: a cut-off minority must not.
    fn give_up_long_suspects(&mut self) {
        let (now, gone_after) = (self.now, self.config.gone_after);
        let is_late = |peer: &Peer| peer.suspect_since.is_some_and(|since| now.since(since) >= gone_after);
        let late: Vec<NodeId> = self.detector.peers.iter().filter(|(_, peer)| is_late(peer)).map(|(n, _)| *n).collect();
        if late.is_empty() || self.own_state() != HostState::Up || !self.reaches_a_majority() {
            return;
        }
        for node in late {
            self.give_up(node);
        }
    }

    /// Whether most of the watched hosts in placement, and ourselves, answer.
    pub fn reaches_a_majority(&self) -> bool {
        let in_placement =
            |node: &NodeId| self.table.entry(node).is_some_and(|entry| entry.state.takes_part_in_placement());
        let watched = self.detector.peers.iter().filter(|(node, _)| in_placement(node));
        let (mut reached, mut all) = (1, 1);
        for (_, peer) in watched {
            all += 1;
            reached += usize::from(peer.suspect_since.is_none());
        }
        reached * 2 > all
    }

    fn probe_one_given_up(&mut self) {
        if !self.detector.rounds.is_multiple_of(ROUNDS_BETWEEN_PROBES) {
            return;
        }
        let gone = self.table.entries().filter(|entry| entry.state == HostState::Gone).map(|entry| entry.host.node);
        let gone: Vec<NodeId> = gone.collect();
        if let Some(node) = self.rng.choice(gone) {
            self.ping(node);
        }
    }
}
