//! The same commands, evaluated here and by a redis-server: the replies are the same.
//!
//! `DIFUSE_REDIS_COMMANDS` says how many commands are made up for each seed and version of the protocol, and
//! `DIFUSE_REDIS_SEED` with which seed it begins.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is no core: it speaks with a server")]

mod folds;
mod generate;
mod keyspace;
mod resp;
mod server;
mod transcripts;

use bytes::Bytes;
use difuse_structures::Reply;

use generate::{Comparison, Generator};
use keyspace::Keyspace;
use resp::{Connection, Value};
use server::Server;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn made_up_commands_are_answered_as_by_redis() {
    let Some(server) = Server::start() else { return };
    let commands = setting("DIFUSE_REDIS_COMMANDS", 6000);
    let seed = setting("DIFUSE_REDIS_SEED", 1);
    for (version, seed) in [(2, seed), (3, seed + 1)] {
        let mut connection = Connection::open(server.port, version).expect("a connection");
        connection.ask(&["FLUSHALL".into()]).expect("an answer");
        let refused = compare(&mut connection, version, seed, commands);
        println!("version {version}, seed {seed}: {commands} commands compared, {refused} of them refused");
        assert!(refused < commands / 2, "most made-up commands should make sense");
    }
}

/// Returns how many commands were answered with an error.
fn compare(connection: &mut Connection, version: u8, seed: u64, commands: u64) -> u64 {
    let mut refused = 0;
    let mut generator = Generator::new(seed);
    let mut keyspace = Keyspace::new(seed);
    let mut history: Vec<Vec<Bytes>> = Vec::new();
    for _ in 0..commands.div_ceil(100) {
        let batch: Vec<_> = (0..100).map(|_| generator.command()).collect();
        let sent: Vec<_> = batch.iter().flat_map(|(arguments, _)| [readied(), arguments.clone()]).collect();
        connection.send(&sent).expect("sent");
        for (arguments, comparison) in batch {
            connection.read().expect("an answer");
            let theirs = connection.read().expect("an answer");
            refused += u64::from(matches!(theirs, Value::Error(_)));
            history.push(arguments.clone());
            let told = || told(&history, &format!("seed {seed}, version {version}"));
            match comparison {
                Comparison::Random => check_random(&mut keyspace, version, &arguments, &theirs, told),
                comparison => {
                    let ours = Value::of(&waited(&arguments, keyspace.execute(&arguments)), version);
                    assert!(
                        is_same(comparison, &ours, &theirs) || is_too_much_for_us(&ours),
                        "{}\nours   {ours:?}\nRedis's {theirs:?}",
                        told()
                    );
                }
            }
        }
        keyspace.check();
    }
    refused
}

/// Nothing is answered as `BLMOVE` answers it within a transaction; after waiting, it is no list.
fn waited(arguments: &[Bytes], reply: Reply) -> Reply {
    let is_moving = ["blmove", "brpoplpush"].iter().any(|name| arguments[0].eq_ignore_ascii_case(name.as_bytes()));
    if is_moving && reply == Reply::Null { Reply::NullArray } else { reply }
}

/// A command that readies Redis for the next one: its `SORT` takes an `errno` that an earlier command has left behind
/// for an error of its own, and reading a score clears it.
fn readied() -> Vec<Bytes> {
    ["zadd", "ready", "0", "a"].map(Bytes::from).to_vec()
}

/// What the key of the last command went through.
fn told(history: &[Vec<Bytes>], heading: &str) -> String {
    let last = history.last().cloned().unwrap_or_default();
    let related: Vec<String> = history
        .iter()
        .filter(|arguments| {
            arguments.iter().skip(1).take(2).any(|key| last.iter().skip(1).take(2).any(|own| own == key))
        })
        .map(|arguments| format!("{arguments:?}"))
        .collect();
    format!("{heading}, after {} commands:\n{}", history.len(), related[related.len().saturating_sub(40)..].join("\n"))
}

/// Whether a table for `LCS` is refused that Redis would still make.
fn is_too_much_for_us(ours: &Value) -> bool {
    matches!(ours, Value::Error(text) if text.contains("transient memory for LCS"))
}

fn is_same(comparison: Comparison, ours: &Value, theirs: &Value) -> bool {
    match comparison {
        Comparison::Unordered => ours.sorted() == theirs.sorted(),
        Comparison::Time => match (ours, theirs) {
            (Value::Integer(ours), Value::Integer(theirs)) if *ours > 0 => (ours - theirs).abs() < 60_000,
            _ => ours == theirs,
        },
        Comparison::Encoding => {
            let is_one = |names: &[&'static str], value: &Value| {
                names.iter().any(|name| *value == Value::Bulk(Bytes::from_static(name.as_bytes())))
            };
            let is_both = |names| is_one(names, ours) && is_one(names, theirs);
            ours == theirs || is_both(&["int", "embstr", "raw"]) || is_both(&["intset", "hashtable"])
        }
        Comparison::Described => described(ours) == described(theirs),
        Comparison::Exact | Comparison::Random => ours == theirs,
    }
}

/// What is told of a stream, but for the shape of Redis's tree and for times.
fn described(value: &Value) -> Value {
    let items: Vec<Value> = match value {
        Value::Map(pairs) => pairs.iter().flat_map(|(name, value)| [described(name), described(value)]).collect(),
        Value::Array(items) => items.iter().map(described).collect(),
        other => return other.clone(),
    };
    let is_left_out = |name: &Value| {
        let names = ["radix-tree-keys", "radix-tree-nodes", "seen-time", "idle"];
        matches!(name, Value::Bulk(name) if names.iter().any(|other| name == other.as_bytes()))
    };
    let is_pending = |items: &[Value]| match items {
        [Value::Bulk(_), Value::Bulk(_), Value::Integer(_), Value::Integer(_)] => Some(2),
        [Value::Bulk(_), Value::Integer(_), Value::Integer(_)] => Some(1),
        _ => None,
    };
    if let Some(time) = is_pending(&items) {
        let left = items.iter().enumerate().filter(|(index, _)| *index != time).map(|(_, item)| item.clone());
        return Value::Array(left.collect());
    }
    let mut left = Vec::new();
    let mut rest = items.iter();
    while let Some(item) = rest.next() {
        if is_left_out(item) {
            rest.next();
        } else {
            left.push(item.clone());
        }
    }
    Value::Array(left)
}

/// Chooses as many, in the same shape, all of them from what is there; and takes away what Redis has taken.
fn check_random(keyspace: &mut Keyspace, version: u8, arguments: &[Bytes], theirs: &Value, told: impl Fn() -> String) {
    let (_, outcome) = keyspace.evaluate(arguments);
    let ours = Value::of(&outcome.reply, version);
    let shape = |value: &Value| match value {
        Value::Error(_) | Value::Null | Value::Integer(_) => value.clone(),
        Value::Array(items) => Value::Array(items.iter().map(kind_of).collect()),
        Value::Set(items) => Value::Set(items.iter().map(kind_of).collect()),
        other => kind_of(other),
    };
    assert_eq!(shape(&ours), shape(theirs), "{}\nours   {ours:?}\nRedis's {theirs:?}", told());
    if arguments[0].eq_ignore_ascii_case(b"spop") && !matches!(theirs, Value::Error(_) | Value::Null) {
        let taken = theirs.items().into_iter().map(|item| match item {
            Value::Bulk(member) => member,
            other => panic!("{other:?} is no member"),
        });
        let remove: Vec<Bytes> = ["srem".into(), arguments[1].clone()].into_iter().chain(taken).collect();
        if remove.len() > 2 {
            let reply = keyspace.execute(&remove);
            assert_eq!(reply, Reply::count(remove.len() - 2), "{}\nRedis took what is not there: {theirs:?}", told());
        }
    }
}

fn kind_of(value: &Value) -> Value {
    match value {
        Value::Bulk(_) => Value::Status("bulk".into()),
        Value::Double(_) => Value::Status("double".into()),
        Value::Array(items) => Value::Array(items.iter().map(kind_of).collect()),
        other => other.clone(),
    }
}
