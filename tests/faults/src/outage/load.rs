//! Closed-loop clients of one kind of request each, and how long they waited.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use difuse_tests::{Http, POLL};
use reqwest::Method;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// How many keys each client writes or reads in turn: they lie in many slots.
const KEYS: u64 = 64;
const VALUE_BYTES: usize = 100;
/// How long a client waits for one answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long all clients may take to have an answer again.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(20);

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Whether it was a write.
    pub is_write: bool,
    /// When it was sent.
    pub start: Instant,
    /// When it was answered, or given up.
    pub end: Instant,
    /// Whether it was done: not after a refusal, and not after a second attempt.
    pub is_done: bool,
}

/// Clients at work: one half writes, the other reads.
pub struct Load {
    is_over: Arc<AtomicBool>,
    /// When each client last sent a request that was answered well, in nanoseconds since `origin`.
    answered: Arc<Vec<AtomicU64>>,
    origin: Instant,
    clients: Vec<JoinHandle<Vec<Sample>>>,
}

impl Load {
    /// Starts `count` clients, spread over `gateways`.
    pub fn start(count: usize, gateways: &[Http]) -> Self {
        let (is_over, origin) = (Arc::new(AtomicBool::new(false)), Instant::now());
        let answered: Arc<Vec<_>> = Arc::new((0..count).map(|_| AtomicU64::new(0)).collect());
        let client = |number: usize| {
            // Each pair of a writer and a reader stays with one gateway.
            let http = gateways[number / 2 % gateways.len()].clone().with_timeout(ANSWER_PATIENCE);
            let (is_over, answered) = (is_over.clone(), answered.clone());
            tokio::spawn(async move { work(number, http, origin, &is_over, &answered).await })
        };
        let clients = (0..count).map(client).collect();
        Self { is_over, answered, origin, clients }
    }

    /// Waits until every client has sent a request after `since` that was answered well.
    pub async fn recovered(&self, since: Instant) -> Result<(), String> {
        let since_ns = (since - self.origin).as_nanos() as u64;
        let start = Instant::now();
        while self.answered.iter().any(|answered| answered.load(Ordering::Relaxed) <= since_ns) {
            if start.elapsed() > RECOVERY_PATIENCE {
                return Err(format!("some client has had no answer for {RECOVERY_PATIENCE:?}"));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Stops all clients; returns all requests in the order of their ends.
    pub async fn stop(self) -> Vec<Sample> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut samples = Vec::new();
        for client in self.clients {
            // A client that broke has no samples, and is missed in the figures.
            samples.extend(client.await.unwrap_or_default());
        }
        samples.sort_by_key(|sample| sample.end);
        samples
    }
}

async fn work(number: usize, http: Http, origin: Instant, is_over: &AtomicBool, answered: &[AtomicU64]) -> Vec<Sample> {
    let (is_write, mut samples, mut turn) = (number.is_multiple_of(2), Vec::new(), 0u64);
    let method = if is_write { Method::PUT } else { Method::GET };
    let body = bytes::Bytes::from(vec![b'x'; if is_write { VALUE_BYTES } else { 0 }]);
    while !is_over.load(Ordering::Relaxed) {
        turn += 1;
        let path = format!("/v1/keys/probe-{}-{}", number / 2, turn % KEYS);
        let start = Instant::now();
        let answer = http.send(method.clone(), &path, &[], body.clone()).await;
        // A key that was never written is an answer, too.
        let is_done = answer.is_ok_and(|answer| answer.status < 300 || (!is_write && answer.status == 404));
        samples.push(Sample { is_write, start, end: Instant::now(), is_done });
        if is_done {
            answered[number].store((start - origin).as_nanos() as u64, Ordering::Relaxed);
        } else {
            sleep(Duration::from_millis(5)).await;
        }
    }
    samples
}

/// The longest time without any well-answered write (or read) that ends after `since`.
pub fn gap(samples: &[Sample], is_write: bool, since: Instant) -> Duration {
    let ends: Vec<_> = samples
        .iter()
        .filter(|sample| sample.is_done && sample.is_write == is_write)
        .map(|sample| sample.end)
        .collect();
    ends.windows(2).filter(|pair| pair[1] > since).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// The longest that one request took that ends after `since`.
pub fn slowest(samples: &[Sample], since: Instant) -> Duration {
    samples.iter().filter(|sample| sample.end > since).map(|sample| sample.end - sample.start).max().unwrap_or_default()
}

/// Below how long 99 of 100 of these requests took.
pub fn p99<'a>(samples: impl Iterator<Item = &'a Sample>) -> Duration {
    let mut times: Vec<_> = samples.map(|sample| sample.end - sample.start).collect();
    times.sort();
    times.get((times.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or_default()
}
