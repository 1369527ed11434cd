//! `INFO`: a report for people and for tools.

use std::{fmt::Write, sync::atomic::Ordering};

use difuse_api::structures::{Flag::Loading, Reply};
use futures::{FutureExt, future::BoxFuture};

use super::{connection::REDIS_VERSION, iterate, text};
use crate::resp::{
    Shared,
    call::Call,
    catalogue::{Entry, Run},
    failure::Outcome,
};

/// The sections that are there, in order; the keys are counted only when somebody asks for that.
const SECTIONS: [&str; 5] = ["server", "clients", "memory", "stats", "replication"];
/// What stands for all of them.
const ALL: [&str; 3] = ["default", "all", "everything"];

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let summary = "Reports on the node";
    let entry = Entry::new("info", -1, &[Loading], "server", "1.0.0", summary, Run::Alone(info));
    vec![entry]
}

fn info(call: Call) -> BoxFuture<'static, Outcome> {
    report(call).boxed()
}

async fn report(call: Call) -> Outcome {
    let asked: Vec<_> = call.arguments[1..].iter().map(|word| text(word).to_ascii_lowercase()).collect();
    let is_all = asked.is_empty() || asked.iter().any(|word| ALL.contains(&&**word));
    let mut report = String::new();
    for section in SECTIONS.iter().filter(|section| is_all || asked.iter().any(|word| word == *section)) {
        let body = match *section {
            "server" => server(&call.shared),
            "clients" => clients(&call.shared),
            "memory" => memory(),
            "stats" => stats(&call.shared),
            _ => "role:master\r\nconnected_slaves:0\r\n".into(),
        };
        add(&mut report, section, &body);
    }
    if asked.iter().any(|word| word == "keyspace") {
        let count = iterate::count(&call).await?;
        let line = format!("db{}:keys={count},expires=0,avg_ttl=0\r\n", call.database);
        add(&mut report, "keyspace", if count > 0 { &line } else { "" });
    }
    Ok(Reply::Verbatim("txt".into(), report).into())
}

fn add(report: &mut String, section: &str, body: &str) {
    let (first, rest) = section.split_at(1);
    let gap = if report.is_empty() { "" } else { "\r\n" };
    // Writing to a string cannot fail.
    let _ = write!(report, "{gap}# {}{rest}\r\n{body}", first.to_uppercase());
}

fn server(shared: &Shared) -> String {
    let uptime = shared.started.elapsed().as_secs();
    [
        ("redis_version", REDIS_VERSION.to_string()),
        ("redis_mode", "standalone".into()),
        ("difuse_version", env!("CARGO_PKG_VERSION").into()),
        ("difuse_node", shared.node.to_string()),
        ("os", std::env::consts::OS.into()),
        ("arch_bits", usize::BITS.to_string()),
        ("process_id", std::process::id().to_string()),
        ("run_id", shared.node.to_string()),
        ("uptime_in_seconds", uptime.to_string()),
        ("uptime_in_days", (uptime / 86_400).to_string()),
    ]
    .map(|(name, value)| format!("{name}:{value}\r\n"))
    .concat()
}

fn clients(shared: &Shared) -> String {
    let connected = shared.clients.count();
    let most = shared.settings.clients_max;
    let waiting = shared.waiting.clients();
    format!("connected_clients:{connected}\r\nmaxclients:{most}\r\nblocked_clients:{waiting}\r\n")
}

/// The memory of the whole node, where the operating system tells.
fn memory() -> String {
    const PAGE_BYTES: u64 = 4096;
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok()).unwrap_or_default();
    let bytes = pages * PAGE_BYTES;
    format!("used_memory:{bytes}\r\nused_memory_rss:{bytes}\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n")
}

fn stats(shared: &Shared) -> String {
    let counters = shared.metrics.since_reset();
    [
        ("total_connections_received", counters.connections.load(Ordering::Relaxed)),
        ("total_commands_processed", counters.commands.load(Ordering::Relaxed)),
        ("total_net_input_bytes", counters.bytes_in.load(Ordering::Relaxed)),
        ("total_net_output_bytes", counters.bytes_out.load(Ordering::Relaxed)),
        ("rejected_connections", shared.metrics.refused.get()),
        ("total_error_replies", counters.errors.load(Ordering::Relaxed)),
        ("pubsub_channels", shared.hub.channel_count() as u64),
        ("pubsub_patterns", shared.hub.pattern_count() as u64),
    ]
    .map(|(name, value)| format!("{name}:{value}\r\n"))
    .concat()
}
