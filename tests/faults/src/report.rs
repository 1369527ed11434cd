//! The report of a run, as text.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use crate::{
    journal::{Class, Event, Kind, Outcome},
    run::Finished,
};

/// All that people need to know of a run.
pub fn text(finished: &Finished) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_report(&mut text, finished);
    text
}

fn write_report(text: &mut String, finished: &Finished) -> std::fmt::Result {
    let Finished { seed, command, records, checked, clients, .. } = finished;
    writeln!(text, "difuse-faults, seed {seed}")?;
    writeln!(text, "replay: cargo run --release -p difuse-faults -- {command}")?;
    if let Some(shortcoming) = &finished.shortcoming {
        writeln!(text, "on loopback, without cut cables and clock jumps: {shortcoming}")?;
    }
    writeln!(text)?;
    let count = |outcome| records.events.iter().filter(|event| event.outcome == outcome).count();
    let seconds = finished.work_ended.as_secs_f64();
    writeln!(text, "operations of {clients} clients in {seconds:.0} s")?;
    for class in Class::ALL {
        let of = |kind, outcome| {
            let is_it = |event: &&Event| (event.class, event.kind, event.outcome) == (class, kind, outcome);
            records.events.iter().filter(is_it).count()
        };
        writeln!(
            text,
            "  {:10} {:7} reads, {:7} writes, {:6} refused, {:6} failed attempts",
            class.name(),
            of(Kind::Read, Outcome::Acknowledged),
            of(Kind::Write, Outcome::Acknowledged),
            of(Kind::Write, Outcome::Refused) + of(Kind::Read, Outcome::Refused),
            of(Kind::Write, Outcome::Failed) + of(Kind::Read, Outcome::Failed),
        )?;
    }
    writeln!(text, "  of all attempts, {} failed and were retried elsewhere", count(Outcome::Failed))?;
    writeln!(text)?;
    write_faults(text, finished)?;
    write_gaps(text, finished)?;
    let [registers, counters, directories, structures] = checked.histories;
    writeln!(text, "checked")?;
    writeln!(
        text,
        "  {registers} registers, {counters} counters, {directories} directories, {structures} structures: {} operations, \
         {} of unknown outcome",
        checked.operations, checked.unknown
    )?;
    writeln!(text, "  {} chains, {} transactions, recomputed", checked.chains, checked.transactions)?;
    writeln!(text, "  {} files read byte for byte", checked.files)?;
    let counted = checked.counted;
    writeln!(
        text,
        "  {} keys, {} blocks, {:.1} MB, each on exactly three hosts",
        counted.keys,
        counted.blocks,
        counted.bytes as f64 / 1e6
    )?;
    writeln!(text)?;
    writeln!(
        text,
        "anomalies: {}",
        if records.anomalies.is_empty() { "none".into() } else { records.anomalies.len().to_string() }
    )?;
    records.anomalies.iter().try_for_each(|anomaly| writeln!(text, "- {anomaly}"))
}

fn write_faults(text: &mut String, finished: &Finished) -> std::fmt::Result {
    let mut kinds: BTreeMap<&str, (usize, Duration)> = BTreeMap::new();
    for span in &finished.records.spans {
        let (count, time) = kinds.entry(span.kind).or_default();
        *count += 1;
        *time += span.end.unwrap_or(finished.work_ended).saturating_sub(span.begin);
    }
    writeln!(text, "faults: {}", finished.records.spans.len())?;
    for (kind, (count, time)) in kinds {
        writeln!(text, "  {kind:14} {count:4}  {:7.1} s in all", time.as_secs_f64())?;
    }
    if finished.has_clocks {
        writeln!(text, "  clocks in transactions were off by {} s at most", finished.checked.clock_error_ms / 1000)?;
    }
    let settling = &finished.records.settling;
    if let Some(longest) = settling.iter().max() {
        let mean = settling.iter().sum::<Duration>().as_secs_f64() / settling.len() as f64;
        writeln!(
            text,
            "  settled {mean:.1} s after the end of a round on average, {:.1} s at most",
            longest.as_secs_f64()
        )?;
    }
    writeln!(text)
}

fn write_gaps(text: &mut String, finished: &Finished) -> std::fmt::Result {
    writeln!(text, "longest time without an acknowledged")?;
    writeln!(text, "               read      write")?;
    let rows = Class::ALL.map(Some).into_iter().chain([None]);
    for class in rows {
        let gap = |kind| {
            let (length, since) = longest_gap(finished, class, kind);
            format!("{:.2} s (at {:.0} s)", length.as_secs_f64(), since.as_secs_f64())
        };
        writeln!(text, "  {:10}  {}   {}", class.map_or("any", Class::name), gap(Kind::Read), gap(Kind::Write))?;
    }
    writeln!(text)
}

/// The longest time without an acknowledged operation of this kind while clients worked, and when it began.
pub fn longest_gap(finished: &Finished, class: Option<Class>, kind: Kind) -> (Duration, Duration) {
    let is_it = |event: &&Event| {
        event.kind == kind && event.outcome == Outcome::Acknowledged && class.is_none_or(|class| event.class == class)
    };
    let mut times: Vec<_> = finished.records.events.iter().filter(is_it).map(|event| event.at).collect();
    times.push(finished.work_ended);
    times.sort();
    let gaps = times.windows(2).map(|pair| (pair[1] - pair[0], pair[0]));
    gaps.max().unwrap_or_default()
}
