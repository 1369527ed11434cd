//! What the gateway counts. Each counter is looked up once, so that a command costs a few atomic additions.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::catalogue::Catalogue;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CommandLabels {
    command: String,
    outcome: &'static str,
}

/// The gateway's figures.
pub(super) struct Metrics {
    registry: Registry,
    /// Answers and errors of each command, in the order of the catalogue.
    commands: Vec<[Counter; 2]>,
    /// Names that are no command.
    unknown: Counter,
    latency: Histogram,
    connections: Gauge<i64, AtomicI64>,
    /// Since the start, or since `CONFIG RESETSTAT`.
    since_reset: SinceReset,
    pub(super) refused: Counter,
    pub(super) protocol_errors: Counter,
    pub(super) slow_subscribers: Counter,
}

/// What `INFO` tells of.
#[derive(Default)]
pub(super) struct SinceReset {
    pub(super) connections: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
}

impl Metrics {
    /// All zero.
    pub(super) fn new(catalogue: &Catalogue) -> Self {
        let mut registry = Registry::with_prefix("difuse_resp");
        let commands = Family::<CommandLabels, Counter>::default();
        registry.register("commands", "Commands answered", commands.clone());
        let latency = Histogram::new(exponential_buckets(0.000_05, 2.0, 20));
        registry.register_with_unit(
            "command_duration",
            "Time from a command on keys to its answer",
            Unit::Seconds,
            latency.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let mut counter = |name: &'static str, help: &'static str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let refused = counter("connections_refused", "Connections refused because there were too many");
        let protocol_errors = counter("protocol_errors", "Connections ended because of what they sent");
        let slow_subscribers = counter("slow_subscribers", "Subscribers ended because they did not read");
        let of = |command: &str, outcome| {
            commands.get_or_create(&CommandLabels { command: command.into(), outcome }).clone()
        };
        let counters = catalogue.names().map(|name| [of(name, "ok"), of(name, "error")]).collect();
        let unknown = of("unknown", "error");
        let since_reset = SinceReset::default();
        Self {
            registry,
            commands: counters,
            unknown,
            latency,
            connections,
            since_reset,
            refused,
            protocol_errors,
            slow_subscribers,
        }
    }

    /// A connection begins.
    pub(super) fn connected(&self) {
        self.connections.inc();
        self.since_reset.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection has ended.
    pub(super) fn disconnected(&self) {
        self.connections.dec();
    }

    /// Counts an answer to the command with this place in the catalogue; `None`: there is no such command.
    pub(super) fn count(&self, command: Option<usize>, is_error: bool) {
        let counter = command.and_then(|index| self.commands.get(index)).map(|pair| &pair[usize::from(is_error)]);
        counter.unwrap_or(&self.unknown).inc();
        self.since_reset.commands.fetch_add(1, Ordering::Relaxed);
        self.since_reset.errors.fetch_add(u64::from(is_error), Ordering::Relaxed);
    }

    /// A command on keys took so long.
    pub(super) fn observe(&self, took: Duration) {
        self.latency.observe(took.as_secs_f64());
    }

    /// What `INFO` tells of.
    pub(super) fn since_reset(&self) -> &SinceReset {
        &self.since_reset
    }

    /// All figures as OpenMetrics text without an end mark.
    pub(super) fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text.trim_end().trim_end_matches("# EOF").to_string()
    }
}

impl SinceReset {
    /// Begins anew.
    pub(super) fn reset(&self) {
        let counters = [&self.connections, &self.commands, &self.errors, &self.bytes_in, &self.bytes_out];
        counters.into_iter().for_each(|counter| counter.store(0, Ordering::Relaxed));
    }
}
