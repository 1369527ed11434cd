//! Commands of Redis that are not there, with the reason: a client's error then says what to do.

use std::sync::Arc;

use bytes::Bytes;
use difuse_api::structures::Flag::Admin;

use crate::resp::{
    Shared,
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
    session::Session,
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let scripts = ["eval", "eval_ro", "evalsha", "evalsha_ro", "script", "fcall", "fcall_ro", "function"].map(|name| {
        Entry::new(name, -1, &[], "scripting", "2.6.0", "Lua scripts are not supported", Run::AtOnce(no_scripts))
    });
    let refused = [
        "bgrewriteaof",
        "bgsave",
        "debug",
        "failover",
        "latency",
        "migrate",
        "monitor",
        "psync",
        "replicaof",
        "save",
        "shutdown",
        "slaveof",
        "swapdb",
        "sync",
    ]
    .map(|name| Entry::new(name, -1, &[Admin], "server", "1.0.0", "Is refused", Run::AtOnce(refuse)));
    scripts.into_iter().chain(refused).collect()
}

fn name_of(arguments: &[Bytes]) -> String {
    arguments.first().map(|name| String::from_utf8_lossy(name).to_ascii_uppercase()).unwrap_or_default()
}

fn no_scripts(_: &mut Session, _: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    let name = name_of(arguments).to_ascii_lowercase();
    Err(Failure::new(format_args!("unknown command '{name}': Lua scripts and functions are not supported by difuse")))
}

fn refuse(_: &mut Session, _: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    let name = name_of(arguments);
    let reason = match &*name {
        "SHUTDOWN" => "stop a node with SIGTERM, or let it leave the ring with difuse leave",
        "SAVE" | "BGSAVE" | "BGREWRITEAOF" => "every write is on disk at a majority when it is answered",
        "REPLICAOF" | "SLAVEOF" | "SYNC" | "PSYNC" | "FAILOVER" => {
            "every node of a ring is equal, and replication is its own affair"
        }
        "MONITOR" => "it would show the keys and values of all clients",
        _ => "difuse has no such thing",
    };
    Err(Failure::new(format_args!("{name} is refused: {reason}")))
}
