//! The gateways that clients know of.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use difuse_tests::Http;

use crate::network::Place;

/// How long a client waits for one answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// A list that everybody reads, and that changes with the ring.
#[derive(Default)]
pub struct Gateways {
    list: RwLock<Arc<Vec<(Place, Http)>>>,
}

impl Gateways {
    /// All of them, in the order of their places.
    pub fn all(&self) -> Arc<Vec<(Place, Http)>> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds the one at `place`, or replaces it.
    pub fn add(&self, place: Place, http: Http) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        let mut new: Vec<_> = list.iter().filter(|(known, _)| *known != place).cloned().collect();
        new.push((place, http.with_timeout(ANSWER_PATIENCE)));
        new.sort_by_key(|(place, _)| *place);
        *list = Arc::new(new);
    }

    /// Takes away the one at `place`.
    pub fn remove(&self, place: Place) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        *list = Arc::new(list.iter().filter(|(known, _)| *known != place).cloned().collect());
    }
}
