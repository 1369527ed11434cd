//! `COMMAND`: what there is, made from the catalogue.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use difuse_api::structures::{
    Command,
    Flag::{self, Loading},
    KeyPositions, Reply,
};

use super::{expect_words, help, is_word, subcommand, text, unknown_subcommand};
use crate::resp::{
    Shared,
    catalogue::{Entry, Run, keys_of},
    failure::{Failure, Outcome},
    glob,
    session::Session,
};

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let summary = "Tells of all commands; Lua is not among them";
    let entry = Entry::new("command", -1, &[Loading], "server", "2.8.13", summary, Run::AtOnce(command));
    vec![entry.costing("O(N) where N is the number of commands")]
}

fn command(_: &mut Session, shared: &Arc<Shared>, arguments: &[Bytes]) -> Outcome {
    if arguments.len() == 1 {
        return Ok(Reply::Array(all(shared).values().map(|command| describe(shared, command)).collect()).into());
    }
    let named = &arguments[2..];
    match &*subcommand(arguments) {
        "COUNT" => {
            expect_words(arguments, |count| count == 2)?;
            Ok(Reply::count(all(shared).len()).into())
        }
        "INFO" if named.is_empty() => {
            Ok(Reply::Array(all(shared).values().map(|command| describe(shared, command)).collect()).into())
        }
        "INFO" => {
            let all = all(shared);
            let info = |name| find(shared, &all, name).map_or(Reply::Null, |found| describe(shared, &found));
            Ok(Reply::Array(named.iter().map(info).collect()).into())
        }
        "DOCS" => Ok(docs(shared, named).into()),
        "LIST" => list(shared, named),
        "GETKEYS" => {
            expect_words(arguments, |count| count >= 4)?;
            get_keys(shared, named)
        }
        "HELP" => help(
            "COMMAND",
            &[
                "(no subcommand)",
                "    Return details about all commands.",
                "COUNT",
                "    Return the total number of commands.",
                "LIST",
                "    Return a list of all commands.",
                "INFO [<command-name> ...]",
                "    Return details about multiple commands, or about all.",
                "DOCS [<command-name> ...]",
                "    Return documentation details about multiple commands, or about all.",
                "GETKEYS <full-command>",
                "    Return the keys from a full command.",
            ],
        ),
        _ => Err(unknown_subcommand(arguments)),
    }
}

/// All commands by name; instead of subcommands those that contain them, such as `OBJECT`.
fn all(shared: &Shared) -> BTreeMap<&'static str, Command> {
    let mut all = BTreeMap::new();
    for command in shared.catalogue.commands() {
        match command.name.split_once('|') {
            None => drop(all.insert(command.name, *command)),
            Some((name, _)) => {
                let summary = "Has subcommands";
                all.entry(name).or_insert(Command {
                    name,
                    arity: -2,
                    flags: &[],
                    keys: KeyPositions::NONE,
                    summary,
                    ..*command
                });
            }
        }
    }
    all
}

/// A command, or a subcommand after the name of its container and a stroke.
fn find(shared: &Shared, all: &BTreeMap<&'static str, Command>, name: &Bytes) -> Option<Command> {
    let lower = text(name).to_ascii_lowercase();
    all.get(&*lower).copied().or_else(|| shared.catalogue.find(name).map(|(_, entry)| entry.command))
}

/// The ten things that Redis 7 tells of a command.
fn describe(shared: &Shared, command: &Command) -> Reply {
    let is_within = |other: &&Command| other.name.strip_prefix(command.name).is_some_and(|rest| rest.starts_with('|'));
    let within = shared.catalogue.commands().filter(is_within).map(|within| describe(shared, within));
    let status = |text: &str| Reply::Status(text.into());
    let flags = command.flags.iter().map(|flag| status(flag.as_str()));
    let categories = categories(command).into_iter().map(|name| Reply::Status(format!("@{name}")));
    let number = |position: i16| Reply::Integer(position.into());
    Reply::Array(vec![
        Reply::bulk(command.name),
        number(command.arity),
        Reply::Set(flags.collect()),
        number(command.keys.first),
        number(command.keys.last),
        number(command.keys.step),
        Reply::Set(categories.collect()),
        Reply::Array(Vec::new()),
        Reply::Array(key_specification(command).into_iter().collect()),
        Reply::Array(within.collect()),
    ])
}

fn categories(command: &Command) -> Vec<&'static str> {
    let of_flag = command.flags.iter().filter_map(|flag| match flag {
        Flag::Write => Some("write"),
        Flag::ReadOnly => Some("read"),
        Flag::Fast => Some("fast"),
        Flag::Admin => Some("admin"),
        Flag::Blocking => Some("blocking"),
        Flag::PubSub => Some("pubsub"),
        _ => None,
    });
    let of_group = match command.group {
        "generic" => "keyspace",
        "sorted-set" => "sortedset",
        "transactions" => "transaction",
        "server" => "admin",
        group => group,
    };
    let mut all: Vec<_> = of_flag.chain([of_group]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Where the keys are, as clients of clusters ask.
fn key_specification(command: &Command) -> Option<Reply> {
    let keys = command.keys;
    if keys.first == 0 {
        return None;
    }
    let pair = |name: &'static str, value: Reply| (Reply::bulk(name), value);
    let number = |number: i16| Reply::Integer(number.into());
    let access = if command.is_write() { "RW" } else { "RO" };
    let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
    let begin = Reply::Map(vec![
        pair("type", Reply::bulk("index")),
        pair("spec", Reply::Map(vec![pair("index", number(keys.first))])),
    ]);
    let range = vec![pair("lastkey", number(last)), pair("keystep", number(keys.step)), pair("limit", number(0))];
    let find = Reply::Map(vec![pair("type", Reply::bulk("range")), pair("spec", Reply::Map(range))]);
    Some(Reply::Map(vec![
        pair("flags", Reply::Set(vec![Reply::Status(access.into())])),
        pair("begin_search", begin),
        pair("find_keys", find),
    ]))
}

fn docs(shared: &Shared, named: &[Bytes]) -> Reply {
    let document = |command: &Command| {
        let pair = |name: &'static str, value: &'static str| (Reply::bulk(name), Reply::bulk(value));
        let document = Reply::Map(vec![
            pair("summary", command.summary),
            pair("since", command.since),
            pair("group", command.group),
            pair("complexity", command.complexity),
        ]);
        (Reply::bulk(command.name), document)
    };
    let all = all(shared);
    Reply::Map(match named {
        [] => all.values().map(document).collect(),
        named => named.iter().filter_map(|name| find(shared, &all, name)).map(|found| document(&found)).collect(),
    })
}

fn list(shared: &Shared, filter: &[Bytes]) -> Outcome {
    let is_wanted: Box<dyn Fn(&Command) -> bool> = match filter {
        [] => Box::new(|_| true),
        [by, kind, pattern] if is_word(by, "filterby") && is_word(kind, "pattern") => {
            let pattern = pattern.to_ascii_lowercase();
            Box::new(move |command| glob::matches(&pattern, command.name.as_bytes()))
        }
        [by, kind, category] if is_word(by, "filterby") && is_word(kind, "aclcat") => {
            let category = text(category).to_ascii_lowercase();
            Box::new(move |command| categories(command).contains(&&*category))
        }
        [by, kind, _] if is_word(by, "filterby") && is_word(kind, "module") => Box::new(|_| false),
        _ => return Err(Failure::syntax()),
    };
    let all = all(shared);
    let wanted = all.values().filter(|command| is_wanted(command));
    Ok(Reply::Array(wanted.map(|command| Reply::bulk(command.name)).collect()).into())
}

fn get_keys(shared: &Shared, arguments: &[Bytes]) -> Outcome {
    let (_, entry) =
        shared.catalogue.find_command(arguments).ok_or_else(|| Failure::new("Invalid command specified"))?;
    if entry.command.keys.first == 0 && !entry.command.flags.contains(&Flag::MovableKeys) {
        return Err(Failure::new("The command has no key arguments"));
    }
    if !entry.command.takes(arguments.len()) {
        return Err(Failure::new("Invalid number of arguments specified for command"));
    }
    let keys = keys_of(&shared.registry, &entry.command, arguments);
    if keys.is_empty() {
        return Err(Failure::new("Invalid arguments specified for command"));
    }
    Ok(Reply::Array(keys.into_iter().cloned().map(Reply::Bulk).collect()).into())
}
