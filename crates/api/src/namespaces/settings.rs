//! What a namespace is set to: a small value of its own, under a key that only the name decides ([`Key::of_namespace`]), so
//! that it is agreed on, moved and repaired as any other value.

use std::collections::BTreeMap;

use difuse_keylog::{MAX_INLINE_BYTES, Operation, Value, ValueKind};
use difuse_protocol::request::{Condition, Entry, PAGE_MAX, Quota, RequestError, Usage};
use difuse_types::{Hash, Key, KeyError, Level, Slots};
use serde::{Deserialize, Serialize};

use crate::{
    Datastore,
    keys::{self, new_operation_id},
};

/// What a namespace is set to; what is `None` is left to whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Who stands behind reads that name no level.
    pub read_level: Option<Level>,
    /// Who stands behind writes that name no level.
    pub write_level: Option<Level>,
    /// How many keys with values it may have.
    pub keys_max: Option<u64>,
    /// How many bytes the names and values of its keys may take.
    pub bytes_max: Option<u64>,
}

/// Settings as they were read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// What they say.
    pub settings: Settings,
    /// The hash of the transaction that put them there; `None`: there are none.
    pub hash: Option<Hash>,
}

/// Why settings were not read, or not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// There can be no such namespace.
    #[error(transparent)]
    Name(#[from] KeyError),
    /// The datastore refused a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// What is stored are no settings, or those of a later version.
    #[error("the settings of namespace {namespace:?} cannot be read: {reason}; set them anew")]
    Malformed {
        /// The namespace.
        namespace: String,
        /// What is wrong with them.
        reason: String,
    },
}

impl Settings {
    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of the quotas is reached by what the keys come to.
    pub fn quota_reached(&self, usage: &Usage) -> Option<Quota> {
        let bytes = self.bytes_max.filter(|most| usage.bytes >= *most).map(Quota::Bytes);
        bytes.or_else(|| self.keys_max.filter(|most| usage.keys >= *most).map(Quota::Keys))
    }

    fn has_quota(&self) -> bool {
        self.keys_max.is_some() || self.bytes_max.is_some()
    }

    /// The value that keeps them: JSON, in which members that nobody knows count for nothing.
    fn to_value(self) -> Value {
        // There is nothing in it that cannot be written.
        Value::inline(serde_json::to_vec(&self).unwrap_or_default())
    }

    fn of_value(value: &Value) -> Result<Self, String> {
        if value.kind != ValueKind::Inline || value.bytes.len() > MAX_INLINE_BYTES {
            return Err("they are no plain value".into());
        }
        serde_json::from_slice(&value.bytes).map_err(|error| error.to_string())
    }
}

/// What `namespace` is set to, as `level` knows it.
pub async fn settings<D: Datastore + ?Sized>(
    datastore: &D,
    namespace: &str,
    level: Level,
) -> Result<Found, SettingsError> {
    let entry = keys::read(datastore, Key::of_namespace(namespace)?, level).await?;
    entry.map_or(Ok(Found::default()), |entry| found(namespace, &entry))
}

fn found(namespace: &str, entry: &Entry) -> Result<Found, SettingsError> {
    let Some(value) = &entry.value else { return Ok(Found::default()) };
    let settings =
        Settings::of_value(value).map_err(|reason| SettingsError::Malformed { namespace: namespace.into(), reason })?;
    Ok(Found { settings, hash: Some(entry.hash) })
}

/// The namespaces that have settings, with those that can be read; `slots` are the ring's. All lie in one slot.
pub(super) async fn all<D: Datastore + ?Sized>(
    datastore: &D,
    slots: Slots,
) -> Result<Vec<(String, Option<Settings>)>, RequestError> {
    let slot = Key::of_namespace("").ok().map(|key| slots.of_key(&key));
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = keys::list(datastore, Key::prefix_of_namespaces(), after, PAGE_MAX, slot).await?;
        for listed in &page.entries {
            let settings = listed.entry.value.as_ref().and_then(|value| Settings::of_value(value).ok());
            all.extend(listed.key.settings_of().map(|namespace| (namespace.to_owned(), settings)));
        }
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// The quotas of namespaces, by their names.
pub(super) async fn with_quotas<D: Datastore + ?Sized>(
    datastore: &D,
    slots: Slots,
) -> Result<BTreeMap<String, Settings>, RequestError> {
    let all = all(datastore, slots).await?.into_iter();
    Ok(all.filter_map(|(name, settings)| Some((name, settings.filter(Settings::has_quota)?))).collect())
}

/// Sets `namespace` to `settings` if `condition` holds of those that it has; ones that say nothing are none. Gives the hash
/// that names them from now on.
pub async fn set<D: Datastore + ?Sized>(
    datastore: &D,
    namespace: &str,
    settings: Settings,
    condition: Condition,
) -> Result<Option<Hash>, SettingsError> {
    let key = Key::of_namespace(namespace)?;
    let (operation, demanded) = match (settings.is_empty(), condition) {
        // A tombstone on nothing would be a transaction for nothing.
        (true, Condition::None) => (Operation::Delete, Condition::Present),
        (true, Condition::Absent) => (Operation::Delete, Condition::Absent),
        (true, condition) => (Operation::Delete, condition),
        (false, condition) => (Operation::Set(settings.to_value()), condition),
    };
    let is_delete = operation == Operation::Delete;
    match keys::write(datastore, key, operation, demanded, new_operation_id(), Level::Quorum).await {
        Err(RequestError::Conflict { .. }) if is_delete && condition == Condition::None => Ok(None),
        written => Ok(Some(written?.hash).filter(|_| !is_delete)),
    }
}

/// Lets `edit` change what `namespace` is set to, again if somebody else changes it meanwhile. Gives what it is set to then.
pub async fn edit<D: Datastore + ?Sized>(
    datastore: &D,
    namespace: &str,
    edit: impl Fn(&mut Settings),
) -> Result<Settings, SettingsError> {
    loop {
        let found = settings(datastore, namespace, Level::Quorum).await?;
        let mut edited = found.settings;
        edit(&mut edited);
        if edited == found.settings {
            return Ok(edited);
        }
        let condition = found.hash.map_or(Condition::Absent, Condition::Head);
        match set(datastore, namespace, edited, condition).await {
            // It was changed by somebody, so that each round takes one of theirs.
            Err(SettingsError::Request(RequestError::Conflict { .. })) => {}
            written => return written.map(|_| edited),
        }
    }
}

#[cfg(test)]
mod tests {
    use difuse_keylog::{Operation, Value, ValueKind};
    use difuse_protocol::request::{Condition, RequestError};
    use difuse_types::{Key, Level};
    use futures::executor::block_on;

    use super::{Found, Settings, SettingsError, edit, set, settings};
    use crate::{keys, testing::FakeDatastore};

    const STRICT: Settings =
        Settings { read_level: Some(Level::All), write_level: None, keys_max: None, bytes_max: None };

    #[test]
    fn settings_are_kept_per_namespace_until_they_say_nothing() {
        block_on(async {
            let datastore = FakeDatastore::new();
            for namespace in ["", "orders"] {
                let at = |level| settings(&datastore, namespace, level);
                assert_eq!(at(Level::Quorum).await, Ok(Found::default()));
                let hash = set(&datastore, namespace, STRICT, Condition::None).await.unwrap();
                assert_eq!(at(Level::Quorum).await, Ok(Found { settings: STRICT, hash }));
                assert_eq!(settings(&datastore, "other", Level::Lazy).await, Ok(Found::default()));
                for _ in 0..2 {
                    assert_eq!(set(&datastore, namespace, Settings::default(), Condition::None).await, Ok(None));
                    assert_eq!(at(Level::Quorum).await, Ok(Found::default()));
                }
            }
            let refused = settings(&datastore, &"n".repeat(65), Level::Quorum).await;
            assert!(matches!(refused, Err(SettingsError::Name(_))), "{refused:?}");
        });
    }

    #[test]
    fn settings_are_replaced_only_if_they_are_the_expected_ones() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let first = set(&datastore, "n", STRICT, Condition::Absent).await.unwrap().unwrap();
            let conflict = |outcome| {
                assert!(matches!(outcome, Err(SettingsError::Request(RequestError::Conflict { .. }))), "{outcome:?}");
            };
            conflict(set(&datastore, "n", Settings::default(), Condition::Absent).await);
            let edited = edit(&datastore, "n", |settings| settings.write_level = Some(Level::Leader)).await.unwrap();
            assert_eq!(edited, Settings { write_level: Some(Level::Leader), ..STRICT });
            conflict(set(&datastore, "n", STRICT, Condition::Head(first)).await);
            assert_eq!(settings(&datastore, "n", Level::Quorum).await.unwrap().settings, edited);
        });
    }

    #[test]
    fn settings_of_a_later_version_are_read_and_rubbish_is_an_error() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let put = async |value: Value| {
                let id = keys::new_operation_id();
                let key = Key::of_namespace("n").unwrap();
                let operation = Operation::Set(value);
                keys::write(&datastore, key, operation, Condition::None, id, Level::Quorum).await.unwrap();
                settings(&datastore, "n", Level::Quorum).await
            };
            let later = put(Value::inline(r#"{"read_level":"all","colour":"red"}"#)).await.unwrap();
            assert_eq!(later.settings, STRICT);
            for rubbish in ["", "{", "7", "\u{0}\u{1}", r#"{"read_level":"most"}"#, r#"{"read_level":7}"#] {
                let read = put(Value::inline(rubbish)).await;
                assert!(matches!(read, Err(SettingsError::Malformed { .. })), "{rubbish:?}: {read:?}");
            }
            let read = put(Value::new(ValueKind::Inode, "{}")).await;
            assert!(matches!(read, Err(SettingsError::Malformed { .. })), "{read:?}");
            set(&datastore, "n", STRICT, Condition::None).await.unwrap();
            assert_eq!(settings(&datastore, "n", Level::Quorum).await.unwrap().settings, STRICT);
        });
    }
}
