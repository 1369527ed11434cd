//! What a measurement says.

use std::time::Duration;

use serde_json::{Value, json};

use super::histogram::Counts;
use crate::{
    command::{exit::Failure, output, session::Session},
    terminal,
};

/// Prints the result; only errors, and none that succeeded, is a failure.
pub fn print(session: &Session, label: &str, counts: &Counts, elapsed: Duration) -> Result<(), Failure> {
    if session.json {
        output::print_json(&as_json(label, counts, elapsed))?;
    } else {
        output::print(&as_text(label, counts, elapsed))?;
    }
    match &counts.first_error {
        Some(reason) if counts.operations() == 0 => Err(Failure::Unavailable(format!("nothing succeeded: {reason}"))),
        _ => Ok(()),
    }
}

fn as_text(label: &str, counts: &Counts, elapsed: Duration) -> String {
    let milliseconds = |value: f64| format!("{value:.2} ms");
    let row = [
        format!("{:.0}", per_second(counts.operations(), elapsed)),
        format!("{:.1}", per_second(counts.bytes, elapsed) / 1e6),
        milliseconds(counts.latency_ms(0.5)),
        milliseconds(counts.latency_ms(0.99)),
        milliseconds(counts.latency_ms(0.999)),
        milliseconds(counts.latency_max_ms()),
        counts.errors.to_string(),
    ];
    let table = terminal::table(&["ops/s", "MB/s", "p50", "p99", "p99.9", "max", "errors"], [row]);
    let mut text = format!(
        "{label}: {} operations, {} in {:.2} s\n{table}",
        counts.operations(),
        terminal::bytes(counts.bytes),
        elapsed.as_secs_f64()
    );
    for (count, what) in [(counts.conflicts, "conflicts"), (counts.misses, "reads of what is not there")] {
        if count > 0 {
            text += &format!("\n{count} {what}");
        }
    }
    if let Some(reason) = &counts.first_error {
        text += &format!("\nfirst error: {reason}");
    }
    text
}

fn as_json(label: &str, counts: &Counts, elapsed: Duration) -> Value {
    json!({
        "label": label,
        "seconds": elapsed.as_secs_f64(),
        "operations": counts.operations(),
        "ops_per_second": per_second(counts.operations(), elapsed),
        "bytes": counts.bytes,
        "mb_per_second": per_second(counts.bytes, elapsed) / 1e6,
        "p50_ms": counts.latency_ms(0.5),
        "p99_ms": counts.latency_ms(0.99),
        "p999_ms": counts.latency_ms(0.999),
        "max_ms": counts.latency_max_ms(),
        "errors": counts.errors,
        "conflicts": counts.conflicts,
        "misses": counts.misses,
        "first_error": counts.first_error,
    })
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::histogram::{Counts, Outcome},
        as_json, as_text,
    };

    #[test]
    fn rates_follow_from_counts_and_time() {
        let mut counts = Counts::new();
        for _ in 0..1000 {
            counts.add(Outcome::Done(1000), Duration::from_millis(2));
        }
        let value = as_json("x", &counts, Duration::from_secs(2));
        assert_eq!((value["ops_per_second"].as_f64(), value["mb_per_second"].as_f64()), (Some(500.0), Some(0.5)));
        let text = as_text("x", &counts, Duration::from_secs(2));
        assert!(text.contains("500") && text.contains("2.00 ms"), "{text}");
    }
}
