//! The address book: nodes that we stay connected to.

use std::{collections::HashMap, sync::Arc, time::Duration};

use difuse_types::NodeId;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    connect::connect,
    shared::{Shared, lock},
};

const DELAY_MIN: Duration = Duration::from_millis(50);
const DELAY_MAX: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(crate) struct Book {
    entries: HashMap<NodeId, Entry>,
}

struct Entry {
    address: String,
    /// Tells the entry's task to look again.
    wake: Arc<Notify>,
    end: CancellationToken,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

impl Book {
    /// The last link to the node has ended.
    pub(crate) fn wake(&self, node: NodeId) {
        if let Some(entry) = self.entries.get(&node) {
            entry.wake.notify_one();
        }
    }

    /// Stops dialling the node.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.entries.remove(&node);
    }
}

/// Dials the node at `address` whenever there is no link to it. Refuses (and says so in the log) more entries than
/// peers are allowed.
pub(crate) fn remember(shared: &Arc<Shared>, node: NodeId, address: &str) {
    let mut book = lock(&shared.book);
    let known = book.entries.get(&node);
    if node == shared.config.identity.node_id() || known.is_some_and(|entry| entry.address == address) {
        return;
    }
    if known.is_none() && book.entries.len() >= shared.config.peers_max {
        tracing::warn!(%node, address, "the address book is full");
        return;
    }
    let entry = Entry { address: address.to_string(), wake: Arc::default(), end: shared.stop.child_token() };
    let keep = keep_connected(shared.clone(), node, entry.address.clone(), entry.wake.clone());
    let end = entry.end.clone();
    shared.tasks.spawn(async move { end.run_until_cancelled(keep).await });
    book.entries.insert(node, entry);
}

async fn keep_connected(shared: Arc<Shared>, node: NodeId, address: String, wake: Arc<Notify>) {
    let mut backoff = Backoff::new();
    loop {
        if lock(&shared.peers).is_connected(node) {
            let since = Instant::now();
            wake.notified().await;
            backoff.handle_loss(since.elapsed());
        } else if let Err(error) = connect(&shared, &address, Some(node)).await {
            tracing::debug!(%node, address, %error, "cannot connect");
            backoff.handle_failure();
        } else {
            continue;
        }
        tokio::time::sleep(jittered(backoff.delay)).await;
    }
}

/// How long to wait before dialling again.
struct Backoff {
    delay: Duration,
}

impl Backoff {
    fn new() -> Self {
        Self { delay: DELAY_MIN / 2 }
    }

    fn handle_failure(&mut self) {
        self.delay = (self.delay * 2).min(DELAY_MAX);
    }

    /// A link that held for a while was a good one; one that broke at once is a failure like any other.
    fn handle_loss(&mut self, held: Duration) {
        if held >= DELAY_MAX {
            *self = Self::new();
        }
        self.handle_failure();
    }
}

/// From half of the delay to all of it, so that two nodes that lost each other do not dial at the same moment.
fn jittered(delay: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(u32::MAX);
    delay / 2 + (delay / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, DELAY_MAX, DELAY_MIN, jittered};

    #[test]
    fn delays_grow_to_a_bound_and_shrink_after_a_good_link() {
        let mut backoff = Backoff::new();
        let mut delays = Vec::new();
        for _ in 0..7 {
            backoff.handle_failure();
            delays.push(backoff.delay.as_millis());
        }
        assert_eq!(delays, [50, 100, 200, 400, 800, 1000, 1000]);
        backoff.handle_loss(Duration::from_millis(10));
        assert_eq!(backoff.delay, DELAY_MAX);
        backoff.handle_loss(DELAY_MAX);
        assert_eq!(backoff.delay, DELAY_MIN);
        for _ in 0..100 {
            assert!((DELAY_MAX / 2..=DELAY_MAX).contains(&jittered(DELAY_MAX)));
        }
    }
}
