//! Namespaces of keys: which there are, what each is set to, emptying and dropping one.

use std::collections::{BTreeMap, BTreeSet};

use difuse_keylog::Operation;
use difuse_types::{Key, KeyError, KeyPrefix, Level};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    Datastore, keys,
    request::{Condition, NamespaceUsage, PAGE_MAX, Reply, Request, RequestError, Usage, UsagePage},
};

mod levels;
mod settings;

pub use levels::{DefaultLevels, Levels, SETTINGS_KEPT};
pub use settings::{Found, Settings, SettingsError, edit, set, settings};

/// How many keys are deleted at the same time.
const IN_FLIGHT: usize = 64;

/// Why a namespace was not dropped, or not wholly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DropError {
    /// There can be no such namespace.
    #[error(transparent)]
    Name(#[from] KeyError),
    /// A request failed. What was deleted stays deleted: dropping it again goes on.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// The namespaces that have keys or settings, in order, each with what its keys come to; the default one is `""`.
pub async fn list<D: Datastore + ?Sized>(datastore: &D) -> Result<Vec<NamespaceUsage>, RequestError> {
    let settled = with_settings(datastore).await?.into_iter().map(|namespace| (namespace, Usage::default()));
    let mut usages: BTreeMap<String, Usage> = settled.collect();
    let mut from = Some(String::new());
    while let Some(first) = from {
        let page = usage_page(datastore, first.clone(), PAGE_MAX).await?;
        usages.extend(page.namespaces.into_iter().map(|one| (one.namespace, one.usage)));
        // Always onwards, whatever the answer says.
        from = page.next.filter(|next| *next > first);
    }
    Ok(usages.into_iter().map(|(namespace, usage)| NamespaceUsage { namespace, usage }).collect())
}

/// What the keys of a namespace come to.
pub async fn usage<D: Datastore + ?Sized>(datastore: &D, namespace: &str) -> Result<Usage, RequestError> {
    let page = usage_page(datastore, namespace.to_owned(), 1).await?;
    let found = page.namespaces.into_iter().find(|one| one.namespace == namespace);
    Ok(found.map(|one| one.usage).unwrap_or_default())
}

async fn usage_page<D: Datastore + ?Sized>(datastore: &D, from: String, limit: u32) -> Result<UsagePage, RequestError> {
    match datastore.call(Request::Usage { from, limit }).await? {
        Reply::Usage(page) => Ok(page),
        _ => Err(keys::unexpected_reply()),
    }
}

/// The namespaces that have settings.
async fn with_settings<D: Datastore + ?Sized>(datastore: &D) -> Result<BTreeSet<String>, RequestError> {
    let (mut names, mut after) = (BTreeSet::new(), None);
    loop {
        let page = keys::list(datastore, Key::prefix_of_namespaces(), after, PAGE_MAX, None).await?;
        names.extend(page.entries.iter().filter_map(|entry| entry.key.settings_of()).map(str::to_owned));
        after = page.next;
        if after.is_none() {
            return Ok(names);
        }
    }
}

/// Empties a namespace as [`clear`] does, and then forgets what it was set to.
///
/// # Errors
/// At the first key that cannot be deleted.
pub async fn drop<D: Datastore + ?Sized>(
    datastore: &D,
    namespace: &str,
    level: Level,
    deleted: impl FnMut(u64),
) -> Result<u64, DropError> {
    let count = clear(datastore, namespace, level, deleted).await?;
    keys::delete(datastore, Key::of_namespace(namespace)?, Level::Quorum).await?;
    Ok(count)
}

/// Deletes every key of a namespace, page by page; `deleted` is told how many are gone so far. What is written meanwhile
/// may stay. Returns how many keys it deleted.
///
/// # Errors
/// At the first key that cannot be deleted.
pub async fn clear<D: Datastore + ?Sized>(
    datastore: &D,
    namespace: &str,
    level: Level,
    mut deleted: impl FnMut(u64),
) -> Result<u64, DropError> {
    let prefix: KeyPrefix = Key::prefix(namespace, b"")?;
    let (mut after, mut count) = (None, 0);
    loop {
        let page = keys::list(datastore, prefix.clone(), after, PAGE_MAX, None).await?;
        let delete = |key: Key| async move {
            let id = keys::new_operation_id();
            match keys::submit(datastore, key, Operation::Delete, Condition::Present, id, level).await {
                // Somebody else was faster.
                Err(RequestError::Conflict { .. }) => Ok(0),
                submitted => submitted.map(|_| 1),
            }
        };
        let keys = stream::iter(page.entries).map(|entry| delete(entry.key));
        let mut done = keys.buffer_unordered(IN_FLIGHT);
        while let Some(one) = done.try_next().await? {
            count += one;
            deleted(count);
        }
        after = page.next;
        if after.is_none() {
            return Ok(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use difuse_protocol::request::Condition;
    use difuse_types::{Key, Level};
    use futures::executor::block_on;

    use super::{DropError, Settings, Usage, clear, drop, list, set, usage};
    use crate::{keys, testing::FakeDatastore};

    async fn names(datastore: &FakeDatastore) -> Vec<String> {
        list(datastore).await.unwrap().into_iter().map(|one| one.namespace).collect()
    }

    #[test]
    fn what_the_keys_of_a_namespace_come_to() {
        block_on(async {
            let datastore = FakeDatastore::new();
            for (namespace, name, value) in [("", "k", "1"), ("n", "k", "12345"), ("n", "long", ""), ("nn", "k", "1")] {
                let key = Key::in_namespace(namespace, name.as_bytes()).unwrap();
                keys::set(&datastore, key, value.into(), Level::Quorum).await.unwrap();
            }
            assert_eq!(usage(&datastore, "n").await, Ok(Usage { keys: 2, bytes: 1 + 5 + 4 }));
            let key = Key::in_namespace("n", b"k").unwrap();
            keys::delete(&datastore, key, Level::Quorum).await.unwrap();
            assert_eq!(usage(&datastore, "n").await, Ok(Usage { keys: 1, bytes: 4 }));
            for none in ["m", "zz"] {
                assert_eq!(usage(&datastore, none).await, Ok(Usage::default()));
            }
            let listed = list(&datastore).await.unwrap();
            assert_eq!(listed.iter().map(|one| one.usage.bytes).collect::<Vec<_>>(), [2, 4, 2]);
        });
    }

    #[test]
    fn namespaces_are_listed_and_one_is_dropped_whole() {
        block_on(async {
            let datastore = FakeDatastore::new();
            assert_eq!(names(&datastore).await, Vec::<String>::new());
            for namespace in ["", "orders", "zz", "a-rather-long-one"] {
                for number in 0..1_100 {
                    let key = Key::in_namespace(namespace, format!("key {number}").as_bytes()).unwrap();
                    keys::set(&datastore, key, "value".into(), Level::Quorum).await.unwrap();
                }
            }
            let last = Key::in_namespace("orders", &[u8::MAX; difuse_types::MAX_KEY_BYTES]).unwrap();
            keys::set(&datastore, last, "value".into(), Level::Quorum).await.unwrap();
            assert_eq!(names(&datastore).await, ["", "a-rather-long-one", "orders", "zz"]);
            let mut told = 0;
            assert_eq!(drop(&datastore, "orders", Level::Quorum, |count| told = count).await, Ok(1_101));
            assert_eq!(told, 1_101);
            assert_eq!(names(&datastore).await, ["", "a-rather-long-one", "zz"]);
            assert_eq!(drop(&datastore, "orders", Level::Quorum, |_| {}).await, Ok(0));
            let long = "n".repeat(65);
            assert!(matches!(drop(&datastore, &long, Level::Quorum, |_| {}).await, Err(DropError::Name(_))));
        });
    }

    #[test]
    fn a_namespace_is_listed_for_its_settings_and_loses_them_when_it_is_dropped() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let key = Key::in_namespace("orders", b"k").unwrap();
            keys::set(&datastore, key, "value".into(), Level::Quorum).await.unwrap();
            let settings = Settings { read_level: Some(Level::Leader), write_level: None };
            for name in ["", "empty", "orders"] {
                set(&datastore, name, settings, Condition::None).await.unwrap();
            }
            assert_eq!(names(&datastore).await, ["", "empty", "orders"]);
            assert_eq!(clear(&datastore, "orders", Level::Quorum, |_| {}).await, Ok(1));
            assert_eq!(names(&datastore).await, ["", "empty", "orders"]);
            for name in ["orders", "empty"] {
                assert_eq!(drop(&datastore, name, Level::Quorum, |_| {}).await, Ok(0));
            }
            assert_eq!(names(&datastore).await, [""]);
        });
    }
}
