//! Namespaces of keys: which there are, what each is set to, emptying and dropping one.

use std::collections::BTreeMap;

use difuse_keylog::Operation;
use difuse_types::{Key, KeyError, KeyPrefix, Level, Slots};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    Datastore, keys,
    request::{Condition, NamespaceUsage, PAGE_MAX, Quota, Reply, Request, RequestError, Usage, UsagePage},
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
    let slots = keys::routes(datastore).await?.settings.slots;
    let with_settings = settings::all(datastore, slots).await?.into_iter();
    let mut usages: BTreeMap<String, Usage> = with_settings.map(|(name, _)| (name, Usage::default())).collect();
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

/// The namespaces that have reached a quota, with which; `slots` are the ring's. What it takes grows with the namespaces that
/// have quotas, and with those between them: where none has, one slot is asked.
pub async fn quotas_reached<D: Datastore + ?Sized>(
    datastore: &D,
    slots: Slots,
) -> Result<BTreeMap<String, Quota>, RequestError> {
    let with_quotas = settings::with_quotas(datastore, slots).await?;
    let (mut reached, mut from) = (BTreeMap::new(), with_quotas.keys().next().cloned());
    // A quota of nothing is reached without any key.
    for (namespace, settings) in &with_quotas {
        reached.extend(settings.quota_reached(&Usage::default()).map(|quota| (namespace.clone(), quota)));
    }
    while let Some(first) = from {
        let page = usage_page(datastore, first.clone(), PAGE_MAX).await?;
        for NamespaceUsage { namespace, usage } in page.namespaces {
            let quota = with_quotas.get(&namespace).and_then(|settings| settings.quota_reached(&usage));
            reached.extend(quota.map(|quota| (namespace, quota)));
        }
        let next = page.next.filter(|next| *next > first);
        from = next.and_then(|next| with_quotas.range(next..).next().map(|(namespace, _)| namespace.clone()));
    }
    Ok(reached)
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

    use super::{DropError, Quota, Settings, Usage, clear, drop, list, quotas_reached, set, usage};
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
    fn quotas_are_reached_by_keys_and_by_bytes() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let slots = FakeDatastore::settings().slots;
            let reached = async || {
                let reached = quotas_reached(&datastore, slots).await.unwrap();
                reached.into_iter().map(|(name, quota)| (name, quota.to_string())).collect::<Vec<_>>()
            };
            let put = async |namespace: &str, name: &str| {
                let key = Key::in_namespace(namespace, name.as_bytes()).unwrap();
                keys::set(&datastore, key, "value".into(), Level::Quorum).await.unwrap();
            };
            assert_eq!(reached().await, []);
            for (namespace, keys_max, bytes_max) in
                [("", Some(2), None), ("both", Some(1), Some(6)), ("bytes", None, Some(7)), ("closed", Some(0), None)]
            {
                let settings = Settings { keys_max, bytes_max, ..Settings::default() };
                set(&datastore, namespace, settings, Condition::None).await.unwrap();
            }
            let expected = |all: &[(&str, &str)]| -> Vec<(String, String)> {
                all.iter().map(|(name, quota)| (name.to_string(), quota.to_string())).collect()
            };
            assert_eq!(reached().await, expected(&[("closed", "0 keys")]));
            for (namespace, name) in [("", "a"), ("both", "b"), ("bytes", "c"), ("free", "d"), ("free", "e")] {
                put(namespace, name).await;
            }
            assert_eq!(reached().await, expected(&[("both", "6 bytes"), ("closed", "0 keys")]));
            put("", "more").await;
            put("bytes", "more").await;
            let all = [("", "2 keys"), ("both", "6 bytes"), ("bytes", "7 bytes"), ("closed", "0 keys")];
            assert_eq!(reached().await, expected(&all));
            assert_eq!(Quota::Keys(2).to_string(), "2 keys");
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
            let settings = Settings { read_level: Some(Level::Leader), ..Settings::default() };
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
