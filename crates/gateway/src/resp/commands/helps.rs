//! `HELP` of commands of the registry that have second words, as Redis says it.

use std::sync::Arc;

use bytes::Bytes;

use super::help;
use crate::resp::{
    Shared,
    catalogue::{Entry, Run},
    failure::Outcome,
    session::Session,
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let entry = |name, group, since, run| {
        Entry::new(name, 2, &[], group, since, "Tells what second words there are", Run::AtOnce(run))
    };
    vec![
        entry("object|help", "generic", "6.2.0", of_object),
        entry("xgroup|help", "stream", "5.0.0", of_groups),
        entry("xinfo|help", "stream", "5.0.0", of_streams),
    ]
}

fn of_object(_: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    let lines = [
        "ENCODING <key>",
        "    Return the kind of internal representation used in order to store the value",
        "    associated with a <key>.",
        "FREQ <key>",
        "    Return the access frequency index of the <key>. The returned integer is",
        "    proportional to the logarithm of the recent access frequency of the key.",
        "IDLETIME <key>",
        "    Return the idle time of the <key>, that is the approximated number of",
        "    seconds elapsed since the last access to the key.",
        "REFCOUNT <key>",
        "    Return the number of references of the value associated with the specified",
        "    <key>.",
    ];
    help("OBJECT", &lines)
}

fn of_groups(_: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    let lines = [
        "CREATE <key> <groupname> <id|$> [option]",
        "    Create a new consumer group. Options are:",
        "    * MKSTREAM",
        "      Create the empty stream if it does not exist.",
        "    * ENTRIESREAD entries_read",
        "      Set the group's entries_read counter (internal use).",
        "CREATECONSUMER <key> <groupname> <consumer>",
        "    Create a new consumer in the specified group.",
        "DELCONSUMER <key> <groupname> <consumer>",
        "    Remove the specified consumer.",
        "DESTROY <key> <groupname>",
        "    Remove the specified group.",
        "SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
        "    Set the current group ID and entries_read counter.",
    ];
    help("XGROUP", &lines)
}

fn of_streams(_: &mut Session, _: &Arc<Shared>, _: &[Bytes]) -> Outcome {
    let lines = [
        "CONSUMERS <key> <groupname>",
        "    Show consumers of <groupname>.",
        "GROUPS <key>",
        "    Show the stream consumer groups.",
        "STREAM <key> [FULL [COUNT <count>]",
        "    Show information about the stream.",
    ];
    help("XINFO", &lines)
}
