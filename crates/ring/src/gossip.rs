//! Keeping every node's host table equal: news at once to a few (on small rings to all), and comparison with a random
//! other node all the time. Epidemic: news reaches n nodes in O(log n) rounds.

use std::collections::BTreeMap;

use difuse_types::{Instant, NodeId, RingId};

use crate::{DIGEST_BUCKETS, ENTRIES_PER_PAGE_MAX, HostEntry, RefuseReason, Ring, RingMessage};

/// On rings up to this size news goes to everybody.
const SMALL_RING_HOSTS: usize = 16;
/// How many hosts hear news in one round on larger rings.
const NEWS_FANOUT: usize = 4;
/// The most rows of news in one message. More come from a comparison, and are not passed on as news: a node that joins
/// would tell everybody the whole table.
const NEWS_ROWS_MAX: usize = 32;
/// Most pages sent in answer to one message: what is left follows at the next comparison.
const PAGES_MAX: usize = 32;

/// What is yet to be told, and when.
#[derive(Debug, Default)]
pub(crate) struct Gossip {
    /// Rows to tell, each with the number of rounds left.
    news: BTreeMap<NodeId, u32>,
    /// Whether there is news that was not told at all yet.
    fresh: bool,
    pub(crate) next_news: Option<Instant>,
    pub(crate) next_comparison: Instant,
}

impl Ring {
    /// Notes that a row changed and is to be told.
    pub(crate) fn note_news(&mut self, node: NodeId) {
        let hosts = self.table.len();
        let rounds = if hosts <= SMALL_RING_HOSTS { 1 } else { hosts.ilog2() + 2 };
        self.gossip.news.insert(node, rounds);
        self.gossip.fresh = true;
    }

    /// Tells fresh news at once, older news when its next round is due.
    pub(crate) fn tell_news(&mut self) {
        let round_due = self.gossip.next_news.is_some_and(|due| due <= self.now);
        if !(self.gossip.fresh || round_due) {
            return;
        }
        self.gossip.fresh = false;
        let entries: Vec<HostEntry> =
            self.gossip.news.keys().filter_map(|node| self.table.entry(node)).map(HostEntry::without_opinion).collect();
        for to in self.news_receivers() {
            for part in entries.chunks(NEWS_ROWS_MAX) {
                self.send_rows(to, part.to_vec(), Vec::new());
            }
        }
        self.gossip.news.retain(|_, rounds| {
            *rounds = rounds.saturating_sub(1);
            *rounds > 0
        });
        let next = self.now + self.config.gossip_every / 8;
        self.gossip.next_news = (!self.gossip.news.is_empty()).then_some(next);
    }

    fn news_receivers(&mut self) -> Vec<NodeId> {
        let mut hosts = self.live_others();
        if hosts.len() > SMALL_RING_HOSTS {
            self.rng.shuffle(&mut hosts);
            hosts.truncate(NEWS_FANOUT);
        }
        hosts
    }

    /// All other hosts that should answer, in order.
    pub(crate) fn live_others(&self) -> Vec<NodeId> {
        let others = self.table.entries().map(|entry| entry.host.node);
        others.filter(|node| *node != self.me && self.is_usable(node)).collect()
    }

    /// Compares tables with a random host: one that should answer, or a seed that the table does not know yet. Seeds
    /// count as long as that: a table that grew without them may be another than theirs.
    pub(crate) fn compare_with_random_host(&mut self) {
        self.gossip.next_comparison = self.now + self.spread(self.config.gossip_every);
        let mut candidates = self.live_others();
        let seeds = self.seeds.iter().map(|host| host.node).filter(|node| *node != self.me);
        candidates.extend(seeds.filter(|node| self.table.entry(node).is_none()));
        if let Some(to) = self.rng.choice(candidates) {
            self.send_digest(to);
        }
    }

    pub(crate) fn send_digest(&mut self, to: NodeId) {
        let (ring, buckets) = (self.config.settings.id, self.table.buckets().to_vec());
        self.send(to, RingMessage::GossipDigest { ring, buckets });
    }

    /// Answers with our rows of all buckets that differ, and asks for the other's.
    pub(crate) fn handle_digest(&mut self, sender: NodeId, ring: RingId, buckets: &[u64]) {
        if !self.is_our_ring(sender, ring) || buckets.len() != DIGEST_BUCKETS {
            return;
        }
        let ours = self.table.buckets();
        let differing: Vec<u16> =
            (0u16..).zip(ours.iter().zip(buckets)).filter(|(_, (our, their))| our != their).map(|(i, _)| i).collect();
        if !differing.is_empty() {
            let entries = self.rows_of_buckets(&differing);
            self.send_rows(sender, entries, differing);
        }
    }

    /// Takes in rows, and answers with those that were asked for.
    pub(crate) fn handle_rows(&mut self, sender: NodeId, ring: RingId, entries: Vec<HostEntry>, mut wanted: Vec<u16>) {
        if !self.is_our_ring(sender, ring) {
            return;
        }
        let news_before = (entries.len() > NEWS_ROWS_MAX).then(|| self.gossip.news.clone());
        for entry in entries.into_iter().take(ENTRIES_PER_PAGE_MAX) {
            self.merge(sender, entry);
        }
        if let Some(before) = news_before {
            let me = self.me;
            self.gossip.news.retain(|node, _| *node == me || before.contains_key(node));
        }
        wanted.retain(|bucket| usize::from(*bucket) < DIGEST_BUCKETS);
        wanted.sort_unstable();
        wanted.dedup();
        if !wanted.is_empty() {
            let entries = self.rows_of_buckets(&wanted);
            self.send_rows(sender, entries, Vec::new());
        }
    }

    fn rows_of_buckets(&self, buckets: &[u16]) -> Vec<HostEntry> {
        let rows = buckets.iter().flat_map(|bucket| self.table.rows_of_bucket(usize::from(*bucket)));
        rows.take(PAGES_MAX * ENTRIES_PER_PAGE_MAX).collect()
    }

    /// Sends rows in pages; the first page carries what we want in return.
    fn send_rows(&mut self, to: NodeId, entries: Vec<HostEntry>, wanted: Vec<u16>) {
        let ring = self.config.settings.id;
        let mut pages: Vec<Vec<HostEntry>> = entries.chunks(ENTRIES_PER_PAGE_MAX).map(<[HostEntry]>::to_vec).collect();
        if pages.is_empty() && !wanted.is_empty() {
            pages.push(Vec::new());
        }
        let mut wanted = Some(wanted);
        for entries in pages.into_iter().take(PAGES_MAX) {
            let wanted = wanted.take().unwrap_or_default();
            self.send(to, RingMessage::GossipRows { ring, entries, wanted });
        }
    }

    /// Whether it is; if not, the sender is told.
    fn is_our_ring(&mut self, sender: NodeId, ring: RingId) -> bool {
        let ours = self.config.settings.id;
        if ring != ours {
            self.send(sender, RingMessage::Refuse { reason: RefuseReason::OtherRing { ring: ours } });
        }
        ring == ours
    }
}
