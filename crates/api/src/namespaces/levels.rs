//! Who stands behind requests about keys that name no level.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use difuse_protocol::request::RequestError;
use difuse_types::Level;

use super::{
    Settings,
    settings::{SettingsError, settings},
};
use crate::{Consistency, Datastore};

/// For how long the settings of a namespace are taken for what they were when they were read.
pub const SETTINGS_KEPT: Duration = Duration::from_secs(5);
/// For how long they are if they cannot be read: whoever tries waits for it.
const KEPT_UNREAD: Duration = Duration::from_secs(60);
/// Of how many namespaces they are kept at most.
const NAMESPACES_MAX: usize = 1024;

/// The levels that a request has named, else those of its namespace.
#[derive(Debug, Clone)]
pub enum Levels {
    /// These, whatever the namespace.
    Named(Consistency),
    /// Those of the namespace, else those of the process.
    Default(Arc<DefaultLevels>),
}

impl Levels {
    /// Those of a request about keys of `namespace`.
    ///
    /// # Errors
    /// If they are the namespace's, and its settings are neither known nor to be read now.
    pub async fn of<D: Datastore + ?Sized>(&self, datastore: &D, namespace: &str) -> Result<Consistency, RequestError> {
        match self {
            Self::Named(levels) => Ok(*levels),
            Self::Default(default) => default.of(datastore, namespace).await,
        }
    }
}

impl From<Consistency> for Levels {
    fn from(named: Consistency) -> Self {
        Self::Named(named)
    }
}

/// The levels of requests that name none: the namespace's, and where it has none, those that the process was started with.
///
/// What is known of a namespace is kept for [`SETTINGS_KEPT`]. While it is read anew, and for a minute when that fails, what was
/// known holds on: a process that is cut off serves as it did.
#[derive(Debug, Default)]
pub struct DefaultLevels {
    otherwise: Consistency,
    known: Mutex<BTreeMap<String, Known>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    settings: Settings,
    /// When it is to be read anew.
    until: Instant,
}

impl Known {
    fn is_fresh(&self) -> bool {
        Instant::now() < self.until
    }
}

impl DefaultLevels {
    /// With the levels that hold where a namespace has none.
    pub fn new(otherwise: Consistency) -> Self {
        Self { otherwise, known: Mutex::default() }
    }

    /// The levels where no namespace is concerned.
    pub fn otherwise(&self) -> &Consistency {
        &self.otherwise
    }

    /// The levels of `namespace`, if they need not be read for it.
    pub fn known(&self, namespace: &str) -> Option<Consistency> {
        let known = *self.lock().get(namespace)?;
        known.is_fresh().then(|| self.with(&known.settings))
    }

    /// The levels of `namespace` by what is known of it, however old that is.
    pub fn last_known(&self, namespace: &str) -> Consistency {
        self.lock().get(namespace).map_or(self.otherwise, |known| self.with(&known.settings))
    }

    /// The levels of `namespace`.
    ///
    /// # Errors
    /// If its settings are neither known nor to be read now: what a user relies on may not be weaker because of that.
    pub async fn of<D: Datastore + ?Sized>(&self, datastore: &D, namespace: &str) -> Result<Consistency, RequestError> {
        let before = match self.begin(namespace) {
            Ok(settings) => return Ok(self.with(&settings)),
            Err(before) => before,
        };
        // Any replica will do: settings may be some seconds old in any case, and are to be had wherever keys are.
        match settings(datastore, namespace, Level::Lazy).await {
            Ok(found) => {
                self.note(namespace, found.settings);
                Ok(self.with(&found.settings))
            }
            Err(error) => match (before, error) {
                (Some(before), _) => {
                    self.keep(namespace, before, KEPT_UNREAD);
                    Ok(self.with(&before))
                }
                (None, SettingsError::Request(error)) => Err(error),
                // There is no such namespace, as whatever is done in it says.
                (None, SettingsError::Name(_)) => Ok(self.otherwise),
                (None, error) => Err(RequestError::Invalid(error.to_string())),
            },
        }
    }

    /// Takes note of what a namespace is set to from now on.
    pub fn note(&self, namespace: &str, settings: Settings) {
        self.keep(namespace, settings, SETTINGS_KEPT);
    }

    fn keep(&self, namespace: &str, settings: Settings, time: Duration) {
        let mut known = self.lock();
        if known.len() >= NAMESPACES_MAX && !known.contains_key(namespace) {
            known.retain(|_, known| known.is_fresh());
            if known.len() >= NAMESPACES_MAX {
                known.pop_first();
            }
        }
        known.insert(namespace.to_owned(), Known { settings, until: Instant::now() + time });
    }

    /// What is known of a namespace; else the caller has to read it, and gets what was known, by which others go meanwhile.
    fn begin(&self, namespace: &str) -> Result<Settings, Option<Settings>> {
        let mut known = self.lock();
        let Some(known) = known.get_mut(namespace) else { return Err(None) };
        if known.is_fresh() {
            return Ok(known.settings);
        }
        known.until = Instant::now() + SETTINGS_KEPT;
        Err(Some(known.settings))
    }

    fn with(&self, settings: &Settings) -> Consistency {
        self.otherwise.with(settings.read_level, settings.write_level)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use difuse_protocol::request::{Condition, RequestError};
    use difuse_types::Level;
    use futures::executor::block_on;

    use super::{DefaultLevels, Instant, Levels, NAMESPACES_MAX};
    use crate::{
        Consistency,
        namespaces::{Settings, set},
        testing::FakeDatastore,
    };

    #[test]
    fn a_namespace_decides_what_a_request_does_not() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let settings = Settings { read_level: Some(Level::Leader), ..Settings::default() };
            set(&datastore, "fast", settings, Condition::None).await.unwrap();
            let default = Arc::new(DefaultLevels::new(Consistency::of(Level::Quorum, Level::All)));
            let levels = Levels::Default(default.clone());
            let expected = Consistency::of(Level::Leader, Level::All);
            assert_eq!(levels.of(&datastore, "fast").await, Ok(expected));
            assert_eq!(levels.of(&datastore, "").await, Ok(*default.otherwise()));
            let named = Levels::from(Consistency::uniform(Level::Lazy));
            assert_eq!(named.of(&datastore, "fast").await, Ok(Consistency::uniform(Level::Lazy)));
            assert_eq!(default.known("fast"), Some(expected));
            default.note("fast", Settings::default());
            assert_eq!(levels.of(&datastore, "fast").await, Ok(*default.otherwise()));
        });
    }

    #[test]
    fn what_cannot_be_read_is_no_weaker_than_it_was() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let default = DefaultLevels::new(Consistency::uniform(Level::Lazy));
            datastore.fail_settings(RequestError::Busy);
            assert_eq!(default.of(&datastore, "n").await, Err(RequestError::Busy));
            assert_eq!(default.of(&datastore, "n").await, Ok(Consistency::uniform(Level::Lazy)));
            let strict = Settings { read_level: Some(Level::All), ..Settings::default() };
            default.note("n", strict);
            default.lock().values_mut().for_each(|known| known.until = Instant::now());
            assert_eq!(default.known("n"), None);
            datastore.fail_settings(RequestError::Busy);
            let known = default.of(&datastore, "n").await;
            assert_eq!(known, Ok(Consistency::of(Level::All, Level::Lazy)), "as it was when it could be read");
            assert_eq!(default.known("n"), known.ok(), "nobody waits for it again at once");
        });
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let default = DefaultLevels::default();
        for number in 0..2 * NAMESPACES_MAX {
            default.note(&number.to_string(), Settings::default());
        }
        assert_eq!(default.lock().len(), NAMESPACES_MAX);
    }
}
