//! What will happen, in the order of virtual time.

use std::collections::BTreeMap;

use difuse_types::Instant;

/// Events by time; those of one time in the order in which they were pushed, so that runs repeat exactly.
pub(crate) struct Queue<E> {
    events: BTreeMap<(Instant, u64), E>,
    pushed: u64,
}

impl<E> Queue<E> {
    pub(crate) fn new() -> Self {
        Self { events: BTreeMap::new(), pushed: 0 }
    }

    pub(crate) fn push(&mut self, at: Instant, event: E) {
        self.pushed += 1;
        self.events.insert((at, self.pushed), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(Instant, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }

    /// The next event if it happens by `end`.
    pub(crate) fn pop_until(&mut self, end: Instant) -> Option<(Instant, E)> {
        if self.events.first_key_value().is_none_or(|((at, _), _)| *at > end) {
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
        let order: String = std::iter::from_fn(|| queue.pop()).map(|(_, name)| name).collect();
        assert_eq!(order, "abcd");
    }
}
