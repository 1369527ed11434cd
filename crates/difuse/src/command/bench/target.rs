//! What is measured: a ring behind one of its interfaces.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Common, Over, histogram::Outcome, http::HttpTarget, sdk::SdkTarget};
use crate::command::{exit::Failure, session::Session};

/// A ring behind one connection or endpoint.
#[async_trait]
pub trait Target: Send + Sync {
    /// Writes a key.
    async fn set(&self, key: &str, value: Bytes) -> Outcome;

    /// Reads a key.
    async fn get(&self, key: &str) -> Outcome;

    /// Writes a key if its head is `expected` (`None`: no value yet). Also gives the head to expect next time.
    async fn compare_and_set(&self, key: &str, value: Bytes, expected: Option<String>) -> (Outcome, Option<String>);

    /// Stores a file of `length` random bytes made from `seed`.
    async fn put_file(&self, path: &str, seed: u64, length: u64) -> Outcome;

    /// Reads a file to its end and drops it.
    async fn get_file(&self, path: &str) -> Outcome;
}

/// The targets that clients are dealt over, at least one.
pub async fn targets(session: &Session, common: &Common, clients: usize) -> Result<Vec<Arc<dyn Target>>, Failure> {
    match common.over {
        Over::Sdk => {
            let client = session.connect_for(clients).await?;
            Ok(vec![Arc::new(SdkTarget::new(client, session.level()))])
        }
        Over::Http => {
            let open = |endpoint: &String| Ok(Arc::new(HttpTarget::new(endpoint, session)?) as Arc<dyn Target>);
            common.endpoints.iter().map(open).collect()
        }
    }
}
