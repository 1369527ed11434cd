//! `CONFIG`: what clients ask for. A node's settings are given when it starts, so that nothing is changed here.

use std::sync::Arc;

use bytes::Bytes;
use difuse_api::structures::{
    Flag::{Admin, Loading},
    Reply,
};

use super::{expect_words, help, subcommand, unknown_subcommand};
use crate::resp::{
    Shared,
    answer::Answer,
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
    glob,
    request::BULK_BYTES_MAX,
    server::KEEPALIVE,
    session::Session,
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let summary = "Tells settings in Redis's terms";
    vec![Entry::new("config", -2, &[Admin, Loading], "server", "2.0.0", summary, Run::AtOnce(config))]
}

fn config(_: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    match &*subcommand(arguments) {
        "GET" => {
            expect_words(arguments, |count| count >= 3)?;
            Ok(Reply::Map(matching(shared, &arguments[2..])).into())
        }
        "RESETSTAT" => {
            shared.metrics.since_reset().reset();
            Ok(Answer::ok())
        }
        word @ ("SET" | "REWRITE") => Err(Failure::new(format_args!(
            "CONFIG {word} is refused: the settings of a node are given when it starts, see difused --help"
        ))),
        "HELP" => help(
            "CONFIG",
            &[
                "GET <pattern>",
                "    Return parameters matching the glob-like <pattern> and their values.",
                "RESETSTAT",
                "    Reset statistics reported by the INFO command.",
            ],
        ),
        _ => Err(unknown_subcommand(arguments)),
    }
}

fn matching(shared: &Shared, patterns: &[Bytes]) -> Vec<(Reply, Reply)> {
    let lower: Vec<_> = patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect();
    let is_wanted = |name: &str| lower.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let wanted = settings(shared).into_iter().filter(|(name, _)| is_wanted(name));
    wanted.map(|(name, value)| (Reply::bulk(name), Reply::bulk(value))).collect()
}

/// In Redis's terms: every write is on disk when it is answered, nothing is evicted.
fn settings(shared: &Shared) -> Vec<(&'static str, String)> {
    let fixed = [
        ("appendfsync", "always"),
        ("appendonly", "yes"),
        ("cluster-enabled", "no"),
        ("lua-time-limit", "0"),
        ("maxmemory", "0"),
        ("maxmemory-policy", "noeviction"),
        ("notify-keyspace-events", ""),
        ("save", ""),
        ("timeout", "0"),
    ];
    let mut all: Vec<_> = fixed.map(|(name, value)| (name, value.to_string())).to_vec();
    all.extend([
        ("databases", shared.settings.databases.to_string()),
        ("maxclients", shared.settings.clients_max.to_string()),
        ("proto-max-bulk-len", BULK_BYTES_MAX.to_string()),
        ("tcp-keepalive", KEEPALIVE.as_secs().to_string()),
    ]);
    all.sort_unstable();
    all
}
