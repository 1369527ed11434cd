//! What will happen, in the order of virtual time.

use std::{cmp::Reverse, collections::BinaryHeap};

use difuse_types::Instant;

/// Events by time; those of one time in the order in which they were pushed, so that runs repeat exactly.
pub(crate) struct Queue<E> {
    /// The time of each event, the number of its push, and where it lies: small, for a heap moves what it holds.
    order: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    pushed: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { order: BinaryHeap::new(), events: Vec::new(), free: Vec::new(), pushed: 0 }
    }

    pub(crate) fn push(&mut self, at: Instant, event: E) {
        let place = self.free.pop().unwrap_or(self.events.len());
        if place == self.events.len() {
            self.events.push(None);
        }
        self.events[place] = Some(event);
        self.pushed += 1;
        self.order.push(Reverse((at, self.pushed, place)));
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, E)> {
        let Reverse((at, _, place)) = self.order.pop()?;
        self.free.push(place);
        Some((at, self.events[place].take()?))
    }

    /// The next event if it happens by `end`.
    pub(crate) fn pop_until(&mut self, end: Instant) -> Option<(Instant, E)> {
        if self.order.peek().is_none_or(|Reverse((at, ..))| *at > end) {
            return None;
        }
        self.pop()
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::Instant;

    use super::Queue;

    #[test]
    fn events_of_one_time_keep_their_order() {
        let mut queue = Queue::new();
        for (at, name) in [(2, 'c'), (1, 'a'), (2, 'd'), (1, 'b')] {
            queue.push(Instant(at), name);
        }
        assert_eq!(queue.pop_until(Instant(1)), Some((Instant(1), 'a')));
        queue.push(Instant(2), 'e');
        assert_eq!(queue.pop(), Some((Instant(1), 'b')));
        assert_eq!(queue.pop_until(Instant(1)), None);
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, name)| name).collect();
        assert_eq!(order, "cde");
    }
}
