use std::{cmp::Ordering, collections::BTreeMap};

use difuse_types::{Hash, NodeId};

use crate::{DIGEST_BUCKETS, HostEntry, HostState};

/// Longest text (address, label, zone) accepted in a row, in bytes.
const TEXT_BYTES_MAX: usize = 256;
/// Counters at or above this are refused, so that no peer can push one to where it cannot be counted up any more.
const COUNTER_MAX: u64 = 1 << 62;

impl HostState {
    /// The word for it, in HTTP and in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Leaving => "leaving",
            Self::Gone => "gone",
            Self::Left => "left",
        }
    }

    /// What is gossiped: suspicion is a local opinion about a host that is up.
    pub fn without_opinion(self) -> Self {
        if self == Self::Suspect { Self::Up } else { self }
    }

    /// Whether replicas are placed on hosts in this state.
    pub fn takes_part_in_placement(self) -> bool {
        matches!(self, Self::Up | Self::Suspect)
    }

    /// Whether the host's virtual nodes are on the ring, as far as the table tells.
    pub fn is_on_the_ring(self) -> bool {
        matches!(self, Self::Up | Self::Suspect | Self::Leaving)
    }

    /// Whether the host is away for the rest of its incarnation.
    pub fn is_away(self) -> bool {
        matches!(self, Self::Gone | Self::Left)
    }
}

impl HostEntry {
    /// Which of two rows about one node is to be believed: the higher incarnation; within one incarnation, gone or
    /// left over anything else; then the higher version; ties that only a faulty host can make are broken by content.
    /// A total order (suspicion aside), so that merging is commutative, associative and idempotent.
    pub fn precedence(&self, other: &Self) -> Ordering {
        let rank = |entry: &Self| {
            (entry.host.incarnation, entry.state.is_away(), entry.version, entry.state.without_opinion())
        };
        let texts = |entry: &Self| {
            let host = &entry.host;
            [host.address.clone(), host.http.clone(), host.zone.clone(), host.label.clone()]
        };
        rank(self).cmp(&rank(other)).then_with(|| texts(self).cmp(&texts(other)))
    }

    /// The row as it is gossiped.
    pub(crate) fn without_opinion(&self) -> Self {
        Self { state: self.state.without_opinion(), ..self.clone() }
    }

    /// Whether a row from elsewhere keeps the bounds.
    pub(crate) fn is_acceptable(&self) -> bool {
        let host = &self.host;
        let texts_fit = [&host.address, &host.http, &host.zone, &host.label].iter().all(|t| t.len() <= TEXT_BYTES_MAX);
        texts_fit && host.incarnation.0 < COUNTER_MAX && self.version < COUNTER_MAX
    }

    fn digest(&self) -> u64 {
        let host = &self.host;
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(host.node.as_bytes());
        bytes.extend_from_slice(&host.incarnation.0.to_le_bytes());
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.push(self.state.without_opinion() as u8);
        for text in [&host.address, &host.http, &host.zone, &host.label] {
            bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let hash = Hash::of(&bytes);
        let mut first = [0; 8];
        first.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

/// Every host we know, with a digest per bucket that two nodes compare to find where their tables differ.
#[derive(Debug)]
pub(crate) struct HostTable {
    rows: BTreeMap<NodeId, Row>,
    buckets: Vec<u64>,
    capacity: usize,
}

#[derive(Debug)]
struct Row {
    entry: HostEntry,
    digest: u64,
}

/// What became of a row that was offered to the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// We knew it, or better.
    Old,
    /// It is in the table now, in the place of `previous`; `evicted` had to go for it.
    New { previous: Option<Box<HostEntry>>, evicted: Option<NodeId> },
    /// There is no room.
    Full,
}

impl HostTable {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { rows: BTreeMap::new(), buckets: vec![0; DIGEST_BUCKETS], capacity }
    }

    pub(crate) fn entry(&self, node: &NodeId) -> Option<&HostEntry> {
        self.rows.get(node).map(|row| &row.entry)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &HostEntry> {
        self.rows.values().map(|row| &row.entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// The rows of one bucket, as gossiped.
    pub(crate) fn rows_of_bucket(&self, bucket: usize) -> impl Iterator<Item = HostEntry> {
        let first = u8::try_from(bucket % DIGEST_BUCKETS).unwrap_or(0);
        let (mut low, mut high) = ([0; 32], [255; 32]);
        low[0] = first;
        high[0] = first;
        self.rows.range(NodeId(low)..=NodeId(high)).map(|(_, row)| row.entry.without_opinion())
    }

    /// Takes the row in if it takes precedence over what is known of its node.
    pub(crate) fn offer(&mut self, entry: HostEntry) -> Offered {
        let entry = entry.without_opinion();
        let known = self.rows.get(&entry.host.node);
        if known.is_some_and(|row| entry.precedence(&row.entry) != Ordering::Greater) {
            return Offered::Old;
        }
        let mut evicted = None;
        if self.rows.len() >= self.capacity && !self.rows.contains_key(&entry.host.node) {
            match self.most_dispensable() {
                Some(node) => evicted = self.remove(&node).map(|entry| entry.host.node),
                None => return Offered::Full,
            }
        }
        let previous = self.remove(&entry.host.node).map(Box::new);
        self.insert(entry);
        Offered::New { previous, evicted }
    }

    /// Sets or clears our opinion of a host that is up; tells whether that changed anything.
    pub(crate) fn set_suspect(&mut self, node: &NodeId, suspect: bool) -> bool {
        let Some(row) = self.rows.get_mut(node) else { return false };
        let (from, to) =
            if suspect { (HostState::Up, HostState::Suspect) } else { (HostState::Suspect, HostState::Up) };
        let applies = row.entry.state == from;
        if applies {
            row.entry.state = to;
        }
        applies
    }

    fn insert(&mut self, entry: HostEntry) {
        let digest = entry.digest();
        self.buckets[bucket_of(&entry.host.node)] ^= digest;
        self.rows.insert(entry.host.node, Row { entry, digest });
    }

    fn remove(&mut self, node: &NodeId) -> Option<HostEntry> {
        let row = self.rows.remove(node)?;
        self.buckets[bucket_of(node)] ^= row.digest;
        Some(row.entry)
    }

    /// Those that left are needed least, then those that are gone.
    fn most_dispensable(&self) -> Option<NodeId> {
        let in_state = |state| self.entries().find(|entry| entry.state == state).map(|entry| entry.host.node);
        in_state(HostState::Left).or_else(|| in_state(HostState::Gone))
    }
}

fn bucket_of(node: &NodeId) -> usize {
    usize::from(node.as_bytes()[0])
}

#[cfg(test)]
mod tests {
    use difuse_types::{Host, Incarnation, NodeId};

    use super::{HostTable, Offered};
    use crate::{HostEntry, HostState};

    fn entry(node: u8, incarnation: u64, state: HostState, version: u64) -> HostEntry {
        let host = Host {
            node: NodeId([node; 32]),
            incarnation: Incarnation(incarnation),
            address: String::new(),
            http: String::new(),
            zone: String::new(),
            label: node.to_string(),
        };
        HostEntry { host, state, version }
    }

    fn merged(entries: &[HostEntry]) -> (Vec<HostEntry>, Vec<u64>) {
        let mut table = HostTable::new(100);
        for entry in entries {
            table.offer(entry.clone());
        }
        (table.entries().cloned().collect(), table.buckets().to_vec())
    }

    #[test]
    fn merging_ignores_order_and_repetition() {
        let states = [HostState::Joining, HostState::Up, HostState::Leaving, HostState::Gone, HostState::Left];
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let mut entries: Vec<_> =
                (0..6).map(|_| entry(rng.u8(0..2), rng.u64(0..3), states[rng.usize(0..5)], rng.u64(0..3))).collect();
            let expected = merged(&entries);
            entries.extend(entries.clone());
            rng.shuffle(&mut entries);
            assert_eq!(merged(&entries), expected);
        }
    }

    #[test]
    fn gone_yields_only_to_a_higher_incarnation() {
        let mut table = HostTable::new(10);
        table.offer(entry(1, 4, HostState::Gone, 1));
        assert_eq!(table.offer(entry(1, 4, HostState::Up, 99)), Offered::Old);
        assert!(matches!(table.offer(entry(1, 5, HostState::Up, 0)), Offered::New { .. }));
    }

    #[test]
    fn a_full_table_drops_those_that_left_and_otherwise_refuses() {
        let mut table = HostTable::new(2);
        table.offer(entry(1, 0, HostState::Up, 0));
        table.offer(entry(2, 0, HostState::Left, 0));
        let evicted = Some(NodeId([2; 32]));
        assert_eq!(table.offer(entry(3, 0, HostState::Up, 0)), Offered::New { previous: None, evicted });
        assert_eq!(table.offer(entry(4, 0, HostState::Up, 0)), Offered::Full);
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn suspicion_is_not_gossiped() {
        let mut table = HostTable::new(2);
        table.offer(entry(1, 0, HostState::Up, 0));
        let before = table.buckets().to_vec();
        assert!(table.set_suspect(&NodeId([1; 32]), true));
        assert_eq!(table.buckets(), before);
        assert_eq!(table.rows_of_bucket(1).next().map(|entry| entry.state), Some(HostState::Up));
    }
}
