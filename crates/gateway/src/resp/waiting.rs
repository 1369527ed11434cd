//! Clients that wait for items of keys: here, and at other nodes.
//!
//! A client whose command finds nothing waits in a line for each of its keys. Whoever stands first in a line, and all who take
//! nothing away, try again when something was added to the key, and with growing pauses all the same: a push at another node is told by
//! that node only if it knows that somebody waits here, and what nodes tell each other may be lost.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use difuse_types::{Key, NodeId};
use tokio::sync::Notify;

/// How long a node is believed that somebody waits there; it says so again before.
const BELIEVED: Duration = Duration::from_secs(5);
/// How often a node says that somebody waits here.
const SAID_EVERY: Duration = Duration::from_secs(2);
/// The most keys of which it is known who waits for them at other nodes.
const KEYS_MAX: usize = 16_384;
/// The most nodes of one key.
const NODES_MAX: usize = 64;

/// Who waits.
#[derive(Default)]
pub(super) struct Waiting {
    table: Mutex<Table>,
    /// Whether anybody may wait anywhere: else a push has nobody to tell.
    is_any: AtomicBool,
    /// How many clients wait here.
    clients: AtomicUsize,
}

#[derive(Default)]
struct Table {
    last_place: u64,
    here: BTreeMap<Key, Line>,
    elsewhere: BTreeMap<Key, BTreeMap<NodeId, Instant>>,
    swept_at: Option<Instant>,
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To take something: whoever came first is served first.
    Take,
    /// To read something: all are served.
    Read,
}

/// Those who wait here for one key, the first to be served in front.
#[derive(Default)]
struct Line {
    takers: VecDeque<(u64, Arc<Notify>)>,
    readers: Vec<(u64, Arc<Notify>)>,
    said_at: Option<Instant>,
}

impl Line {
    fn wake(&self) {
        let served = self.takers.front().into_iter().chain(&self.readers);
        served.for_each(|(_, woken)| woken.notify_one());
    }

    fn is_empty(&self) -> bool {
        self.takers.is_empty() && self.readers.is_empty()
    }
}

/// A place in the lines of some keys; it is given up when this is dropped.
pub(super) struct Place<'a> {
    waiting: &'a Waiting,
    id: u64,
    keys: Vec<Key>,
    purpose: Purpose,
    woken: Arc<Notify>,
}

impl Waiting {
    /// Whether somebody waits here to take something from one of these keys.
    pub(super) fn is_waited_for(&self, keys: &[Key]) -> bool {
        let table = self.table();
        keys.iter().any(|key| table.here.get(key).is_some_and(|line| !line.takers.is_empty()))
    }

    /// A place at the end of the line of each key.
    pub(super) fn enter(&self, keys: &[Key], purpose: Purpose) -> Place<'_> {
        let mut table = self.table();
        table.last_place += 1;
        let (id, woken) = (table.last_place, Arc::<Notify>::default());
        let mut keys = keys.to_vec();
        keys.sort();
        keys.dedup();
        for key in &keys {
            let line = table.here.entry(key.clone()).or_default();
            match purpose {
                Purpose::Take => line.takers.push_back((id, woken.clone())),
                Purpose::Read => line.readers.push((id, woken.clone())),
            }
        }
        self.is_any.store(true, Ordering::Relaxed);
        self.clients.fetch_add(1, Ordering::Relaxed);
        Place { waiting: self, id, keys, purpose, woken }
    }

    /// How many clients wait here.
    pub(super) fn clients(&self) -> usize {
        self.clients.load(Ordering::Relaxed)
    }

    /// How many keys somebody waits for here.
    pub(super) fn lines(&self) -> usize {
        self.table().here.len()
    }

    /// Whether anybody may wait, here or elsewhere.
    pub(super) fn is_any(&self) -> bool {
        self.is_any.load(Ordering::Relaxed)
    }

    /// Wakes who is first in the line of a key that something was added to, and all who read it.
    pub(super) fn wake(&self, key: &Key) {
        if let Some(line) = self.table().here.get(key) {
            line.wake();
        }
    }

    /// The nodes at which somebody waits for a key.
    pub(super) fn nodes_waiting(&self, key: &Key) -> Vec<NodeId> {
        let mut table = self.table();
        self.sweep(&mut table);
        table.elsewhere.get(key).map(|nodes| nodes.keys().copied().collect()).unwrap_or_default()
    }

    /// Another node says that somebody waits there.
    pub(super) fn note_waiting(&self, node: NodeId, key: Key) {
        let mut table = self.table();
        self.sweep(&mut table);
        let is_known = table.elsewhere.contains_key(&key);
        if !is_known && table.elsewhere.len() >= KEYS_MAX {
            return;
        }
        let nodes = table.elsewhere.entry(key).or_default();
        if nodes.contains_key(&node) || nodes.len() < NODES_MAX {
            nodes.insert(node, Instant::now());
        }
        self.is_any.store(true, Ordering::Relaxed);
    }

    /// Forgets, from time to time, what was said too long ago.
    fn sweep(&self, table: &mut Table) {
        let now = Instant::now();
        if table.swept_at.is_some_and(|at| now.duration_since(at) < SAID_EVERY / 2) {
            return;
        }
        table.swept_at = Some(now);
        table.elsewhere.retain(|_, nodes| {
            nodes.retain(|_, said_at| now.duration_since(*said_at) < BELIEVED);
            !nodes.is_empty()
        });
        self.is_any.store(!(table.here.is_empty() && table.elsewhere.is_empty()), Ordering::Relaxed);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place<'_> {
    /// Whether it is the first one in a line, or takes nothing.
    pub(super) fn is_served_next(&self) -> bool {
        if self.purpose == Purpose::Read {
            return true;
        }
        let table = self.waiting.table();
        let is_first = |key| {
            let front = table.here.get(key).and_then(|line| line.takers.front());
            front.is_some_and(|(id, _)| *id == self.id)
        };
        self.keys.iter().any(is_first)
    }

    /// The keys of which other nodes are to hear, again, that somebody waits here.
    pub(super) fn to_be_said(&self) -> Vec<Key> {
        let mut table = self.waiting.table();
        let now = Instant::now();
        let mut is_due = |key: &&Key| {
            let Some(line) = table.here.get_mut(*key) else { return false };
            let is_due = line.said_at.is_none_or(|at| now.duration_since(at) >= SAID_EVERY);
            if is_due {
                line.said_at = Some(now);
            }
            is_due
        };
        self.keys.iter().filter(|key| is_due(key)).cloned().collect()
    }

    /// Resolves when something was added to a key, or it has become the first one of a line.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut table = self.waiting.table();
        for key in &self.keys {
            let Some(line) = table.here.get_mut(key) else { continue };
            line.takers.retain(|(id, _)| *id != self.id);
            line.readers.retain(|(id, _)| *id != self.id);
            if line.is_empty() {
                table.here.remove(key);
            } else if self.purpose == Purpose::Take {
                // There may be more than this one has taken.
                line.wake();
            }
        }
        self.waiting.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::{Key, NodeId};
    use futures::FutureExt;

    use super::{Purpose, Waiting};

    fn key(name: &str) -> Key {
        Key::new(name.as_bytes()).unwrap()
    }

    #[test]
    fn the_first_one_in_line_is_woken_and_the_next_one_when_it_goes() {
        let waiting = Waiting::default();
        assert!(!waiting.is_any());
        let first = waiting.enter(&[key("a"), key("b"), key("a")], Purpose::Take);
        let second = waiting.enter(&[key("a")], Purpose::Take);
        assert!(first.is_served_next() && !second.is_served_next() && waiting.is_waited_for(&[key("x"), key("b")]));
        waiting.wake(&key("a"));
        assert!(first.woken().now_or_never().is_some() && second.woken().now_or_never().is_none());
        drop(first);
        assert!(second.is_served_next() && second.woken().now_or_never().is_some());
        assert!(!waiting.is_waited_for(&[key("b")]));
        assert_eq!(waiting.clients(), 1);
    }

    #[test]
    fn other_nodes_hear_of_a_key_once_in_a_while() {
        let waiting = Waiting::default();
        let (first, second) =
            (waiting.enter(&[key("a")], Purpose::Take), waiting.enter(&[key("a"), key("b")], Purpose::Read));
        assert_eq!(first.to_be_said(), [key("a")]);
        assert_eq!(second.to_be_said(), [key("b")]);
        assert_eq!(first.to_be_said(), []);
        waiting.note_waiting(NodeId([1; 32]), key("c"));
        assert_eq!(waiting.nodes_waiting(&key("c")), [NodeId([1; 32])]);
        assert!(waiting.nodes_waiting(&key("a")).is_empty());
    }

    #[test]
    fn all_who_read_are_woken_and_hold_nobody_up() {
        let waiting = Waiting::default();
        let readers = [0; 3].map(|_| waiting.enter(&[key("a")], Purpose::Read));
        assert!(!waiting.is_waited_for(&[key("a")]) && readers.iter().all(|reader| reader.is_served_next()));
        let taker = waiting.enter(&[key("a")], Purpose::Take);
        assert!(taker.is_served_next() && waiting.is_waited_for(&[key("a")]));
        waiting.wake(&key("a"));
        assert!(readers.iter().all(|reader| reader.woken().now_or_never().is_some()));
        assert!(taker.woken().now_or_never().is_some());
        drop(readers);
        assert_eq!((waiting.clients(), waiting.lines()), (1, 1));
    }
}
