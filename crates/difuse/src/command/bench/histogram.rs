//! What one measurement counted.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Counts of one client, or of all of them together.
pub struct Counts {
    /// Latencies of operations that succeeded, in microseconds.
    latencies_us: Histogram<u64>,
    /// Bytes of content moved by them.
    pub bytes: u64,
    /// Operations that failed.
    pub errors: u64,
    /// Compare-and-sets that another client forestalled: answers, not errors.
    pub conflicts: u64,
    /// Reads of keys that are not there.
    pub misses: u64,
    /// The first error, for people.
    pub first_error: Option<String>,
}

/// How one operation went.
pub enum Outcome {
    /// It moved so many bytes of content.
    Done(u64),
    /// The condition did not hold.
    Conflict,
    /// It is not there.
    Missing,
    /// It failed.
    Failed(String),
}

impl Counts {
    /// Nothing counted.
    pub fn new() -> Self {
        // Three digits, growing as needed: cannot fail for a valid number of digits.
        let latencies_us = Histogram::new(3).unwrap_or_else(|_| unreachable!("3 digits are valid"));
        Self { latencies_us, bytes: 0, errors: 0, conflicts: 0, misses: 0, first_error: None }
    }

    /// Counts one operation.
    pub fn add(&mut self, outcome: Outcome, latency: Duration) {
        match outcome {
            Outcome::Done(bytes) => {
                self.bytes += bytes;
                self.record(latency);
            }
            Outcome::Conflict => {
                self.conflicts += 1;
                self.record(latency);
            }
            Outcome::Missing => {
                self.misses += 1;
                self.record(latency);
            }
            Outcome::Failed(reason) => {
                self.errors += 1;
                self.first_error.get_or_insert(reason);
            }
        }
    }

    fn record(&mut self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        // It grows as needed; only a latency beyond all memory would be refused.
        let _ = self.latencies_us.record(microseconds);
    }

    /// Adds another client's counts.
    pub fn merge(&mut self, other: Self) {
        // Both grow as needed, so nothing is out of range.
        let _ = self.latencies_us.add(&other.latencies_us);
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.conflicts += other.conflicts;
        self.misses += other.misses;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// Operations answered.
    pub fn operations(&self) -> u64 {
        self.latencies_us.len()
    }

    /// The latency that a share of the operations (0 to 1) stays within, in milliseconds.
    pub fn latency_ms(&self, share: f64) -> f64 {
        self.latencies_us.value_at_quantile(share) as f64 / 1000.0
    }

    /// The longest latency, in milliseconds.
    pub fn latency_max_ms(&self) -> f64 {
        self.latencies_us.max() as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Counts, Outcome};

    #[test]
    fn counts_of_all_clients_add_up() {
        let mut all = Counts::new();
        for client in 1..=2 {
            let mut counts = Counts::new();
            for operation in 1..=50 {
                counts.add(Outcome::Done(10), Duration::from_millis(client * operation));
            }
            counts.add(Outcome::Failed(format!("client {client}")), Duration::from_secs(99));
            counts.add(Outcome::Conflict, Duration::from_millis(1));
            all.merge(counts);
        }
        assert_eq!((all.operations(), all.bytes, all.errors, all.conflicts), (102, 1000, 2, 2));
        assert_eq!(all.first_error.as_deref(), Some("client 1"));
        assert!((99.0..101.0).contains(&all.latency_max_ms()), "{}", all.latency_max_ms());
        assert!(all.latency_ms(0.5) < all.latency_ms(0.99));
    }
}
