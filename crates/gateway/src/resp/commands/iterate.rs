//! Commands that walk through a database, in the order of its keys.

use bytes::Bytes;
use difuse_api::{
    keylog::Value,
    keys,
    namespaces::{self, DropError},
    request::{ListEntry, PAGE_MAX},
    structures::{
        CommandError,
        Flag::{ReadOnly, Write},
        Reply,
    },
};
use difuse_types::{Key, KeyPrefix};
use futures::{FutureExt, future::BoxFuture};

use super::{is_word, scatter::REPLY_BYTES_MAX, text};
use crate::resp::{
    answer::Answer,
    call::{Call, Kind, kind_of, with_value},
    catalogue::{Entry, Run},
    failure::{Failure, Outcome},
    glob,
    request::parse_integer,
    session::namespace_of,
};

/// How many keys a call of `SCAN` looks at unless it says otherwise.
const SCAN_COUNT: i64 = 10;
/// Among how many neighbours `RANDOMKEY` chooses.
const NEIGHBOURS: u32 = 32;

/// The commands of this group.
pub(super) fn commands() -> Vec<Entry> {
    let entry = |name, arity, flags, group, since, summary, task| {
        Entry::new(name, arity, flags, group, since, summary, Run::Alone(task))
            .costing("O(N) where N is the number of keys looked at")
    };
    vec![
        entry("keys", 2, &[ReadOnly], "generic", "1.0.0", "Lists the keys that match a pattern", list),
        entry("scan", -2, &[ReadOnly], "generic", "2.8.0", "Lists keys, some at a time", scan),
        entry("dbsize", 1, &[ReadOnly], "server", "1.0.0", "Counts the keys of the database", size)
            .costing("O(N) where N is the number of nodes"),
        entry("randomkey", 1, &[ReadOnly], "generic", "1.0.0", "Returns some key", random),
        entry("flushdb", -1, &[Write], "server", "1.0.0", "Deletes the keys of the database one by one", flush),
        entry("flushall", -1, &[Write], "server", "1.0.0", "Deletes the keys of all databases one by one", flush_all),
    ]
}

/// The keys of a database whose names begin with something, page by page.
struct Pages {
    prefix: KeyPrefix,
    after: Option<Key>,
    is_at_end: bool,
}

impl Pages {
    fn new(namespace: &str, beginning: &[u8]) -> Result<Self, Failure> {
        Ok(Self { prefix: Key::prefix(namespace, beginning)?, after: None, is_at_end: false })
    }

    /// The next page, with what has not expired; `None` after the last one.
    async fn next(&mut self, call: &Call, limit: u32) -> Result<Option<Vec<(Key, Value)>>, Failure> {
        if self.is_at_end {
            return Ok(None);
        }
        let page = keys::list(call.datastore(), self.prefix.clone(), self.after.take(), limit, None).await?;
        self.is_at_end = page.next.is_none();
        self.after = page.next;
        Ok(Some(page.entries.into_iter().filter_map(live).collect()))
    }
}

fn live(listed: ListEntry) -> Option<(Key, Value)> {
    let ListEntry { key, entry } = listed;
    with_value(entry).map(|(_, value)| (key, value))
}

fn name_of(key: &Key) -> Bytes {
    key.encoded().slice_ref(key.name())
}

fn list(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        let pattern = &call.arguments[1];
        let mut pages = Pages::new(&call.namespace, &glob::literal_prefix(pattern))?;
        let (mut names, mut length) = (Vec::new(), 0);
        while let Some(page) = pages.next(&call, PAGE_MAX).await? {
            for name in page.iter().map(|(key, _)| name_of(key)).filter(|name| glob::matches(pattern, name)) {
                length += name.len() + std::mem::size_of::<Reply>();
                // A slice would keep the whole page.
                names.push(Reply::Bulk(Bytes::copy_from_slice(&name)));
            }
            if length > REPLY_BYTES_MAX {
                return Err(Failure::new("too many keys match for one reply: use SCAN"));
            }
        }
        Ok(Reply::Array(names).into())
    };
    task.boxed()
}

/// What a call of `SCAN` asks for.
struct Scan {
    pattern: Option<Bytes>,
    limit: u32,
    kind: Option<String>,
}

impl Scan {
    fn parse(mut options: &[Bytes]) -> Result<Self, Failure> {
        let mut scan = Self { pattern: None, limit: u32::try_from(SCAN_COUNT).unwrap_or(PAGE_MAX), kind: None };
        while let [word, value, rest @ ..] = options {
            match &*word.to_ascii_lowercase() {
                b"match" => scan.pattern = Some(value.clone()),
                b"type" => scan.kind = Some(text(value).to_ascii_lowercase()),
                b"count" => {
                    let count = parse_integer(value).ok_or(CommandError::NotInteger)?;
                    let count = Some(count).filter(|count| *count > 0).ok_or(CommandError::Syntax)?;
                    scan.limit = u32::try_from(count).unwrap_or(PAGE_MAX).min(PAGE_MAX);
                }
                _ => return Err(CommandError::Syntax.into()),
            }
            options = rest;
        }
        if options.is_empty() { Ok(scan) } else { Err(CommandError::Syntax.into()) }
    }

    fn takes(&self, call: &Call, key: &Key, value: &Value) -> bool {
        let matches = self.pattern.as_ref().is_none_or(|pattern| glob::matches(pattern, key.name()));
        matches && self.kind.as_ref().is_none_or(|kind| *kind == type_of(call, value))
    }
}

fn scan(call: Call) -> BoxFuture<'static, Outcome> {
    scan_page(call).boxed()
}

/// A cursor is a number that stands for a key at this node: after it the next page begins.
async fn scan_page(call: Call) -> Outcome {
    let cursor: u64 = text(&call.arguments[1]).parse().map_err(|_| Failure::new("invalid cursor"))?;
    let scan = Scan::parse(&call.arguments[2..])?;
    let beginning = scan.pattern.as_ref().map(|pattern| glob::literal_prefix(pattern)).unwrap_or_default();
    let mut pages = Pages::new(&call.namespace, &beginning)?;
    if cursor != 0 {
        let after = call.shared.cursors.find(cursor).filter(|key| key.namespace() == &*call.namespace);
        let forgotten = "invalid cursor: this node did not give it out, or has forgotten it; begin again with 0";
        pages.after = Some(after.ok_or_else(|| Failure::new(forgotten))?);
    }
    let page = pages.next(&call, scan.limit).await?.unwrap_or_default();
    let found = page.iter().filter(|(key, value)| scan.takes(&call, key, value));
    let names = found.map(|(key, _)| Reply::Bulk(name_of(key))).collect();
    let next = pages.after.map_or(0, |key| call.shared.cursors.add(key));
    Ok(Reply::Array(vec![Reply::bulk(next.to_string()), Reply::Array(names)]).into())
}

/// What `TYPE` says of a value.
pub(super) fn type_of(call: &Call, value: &Value) -> &'static str {
    match kind_of(value) {
        Kind::Text(_) | Kind::Blocks => "string",
        Kind::Structure(id) => call.shared.registry.name_of(id).unwrap_or("unknown"),
    }
}

fn size(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move { Ok(Reply::Integer(count(&call).await?).into()) };
    task.boxed()
}

/// How many keys the database has, as the nodes keep count.
pub(super) async fn count(call: &Call) -> Result<i64, Failure> {
    let usage = namespaces::usage(call.datastore(), &call.namespace).await?;
    Ok(i64::try_from(usage.keys).unwrap_or(i64::MAX))
}

fn random(call: Call) -> BoxFuture<'static, Outcome> {
    random_key(call).boxed()
}

/// A place at random, and one of the keys after it: not every key is as likely as every other.
async fn random_key(call: Call) -> Outcome {
    let [first, second, choice, ..] = keys::new_operation_id().0;
    let mut pages = Pages::new(&call.namespace, b"")?;
    pages.after = Some(call.key(&[first, second])?);
    let mut page = pages.next(&call, NEIGHBOURS).await?.unwrap_or_default();
    if page.is_empty() {
        let mut from_start = Pages::new(&call.namespace, b"")?;
        page = from_start.next(&call, NEIGHBOURS).await?.unwrap_or_default();
    }
    let chosen = page.get(usize::from(choice) % page.len().max(1));
    Ok(Reply::bulk_or_null(chosen.map(|(key, _)| name_of(key))).into())
}

fn flush(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        check_mode(&call)?;
        delete_all(&call, &call.namespace).await?;
        Ok(Answer::ok())
    };
    task.boxed()
}

fn flush_all(call: Call) -> BoxFuture<'static, Outcome> {
    let task = async move {
        check_mode(&call)?;
        for database in 0..call.shared.settings.databases {
            delete_all(&call, &namespace_of(database)).await?;
        }
        Ok(Answer::ok())
    };
    task.boxed()
}

fn check_mode(call: &Call) -> Result<(), Failure> {
    match &call.arguments[1..] {
        [] => Ok(()),
        [mode] if is_word(mode, "sync") || is_word(mode, "async") => Ok(()),
        _ => Err(Failure::syntax()),
    }
}

/// Not atomic: what is written meanwhile may stay.
async fn delete_all(call: &Call, namespace: &str) -> Result<(), Failure> {
    let cleared = namespaces::clear(call.datastore(), namespace, call.levels.write, |_| {}).await;
    cleared.map(drop).map_err(|error| match error {
        DropError::Name(error) => error.into(),
        DropError::Request(error) => error.into(),
    })
}
