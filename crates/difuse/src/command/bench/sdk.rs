//! A ring behind the SDK.

use async_trait::async_trait;
use bytes::Bytes;
use difuse_api::{
    files::{FileEntry, Files, PutOptions},
    keys,
    request::{Condition, RequestError},
    values,
};
use difuse_client::Client;
use difuse_types::{Key, Level};
use futures::{StreamExt, TryStreamExt, stream};

use super::{histogram::Outcome, payload::random_parts, target::Target};
use crate::command::{exit::Failure, kv};

/// One connection to the ring.
pub struct SdkTarget {
    client: Client,
    files: Files<Client>,
    level: Level,
}

impl SdkTarget {
    /// Measures through `client`.
    pub fn new(client: Client, level: Level) -> Self {
        Self { files: Files::new(client.clone()).with_level(level), client, level }
    }

    async fn try_get(&self, key: &str) -> Result<Outcome, Failure> {
        let entry = keys::read(&self.client, Key::new(key.as_bytes())?, self.level).await?;
        let value = entry.and_then(|entry| entry.value);
        Ok(value.map_or(Outcome::Missing, |value| Outcome::Done(kv::value_size(&value))))
    }

    async fn try_write(&self, key: &str, value: Bytes, condition: Condition) -> Result<keys::Written, WriteError> {
        let key = Key::new(key.as_bytes()).map_err(|error| WriteError::Other(error.to_string()))?;
        let written = keys::compare_and_set(&self.client, key, value, condition, self.level).await;
        written.map_err(|error| match error {
            RequestError::Conflict { current } => WriteError::Conflict(current.map(|(_, hash, _)| hash.to_string())),
            other => WriteError::Other(other.to_string()),
        })
    }

    async fn try_put_file(&self, path: &str, seed: u64, length: u64) -> Result<Outcome, Failure> {
        let content = stream::iter(random_parts(seed, length).map(Ok));
        let put = self.files.put(path, content.boxed(), PutOptions::default()).await?;
        Ok(Outcome::Done(put.upload.size))
    }

    async fn try_get_file(&self, path: &str) -> Result<Outcome, Failure> {
        let found: FileEntry = self.files.stat(path).await?;
        let Some(value) = found.entry.and_then(|entry| entry.value) else { return Ok(Outcome::Missing) };
        let mut parts = values::stream(self.client.clone(), &value, None, self.level)?;
        let mut length = 0;
        while let Some(part) = parts.try_next().await? {
            length += part.len() as u64;
        }
        Ok(Outcome::Done(length))
    }
}

enum WriteError {
    /// The head is another one.
    Conflict(Option<String>),
    Other(String),
}

#[async_trait]
impl Target for SdkTarget {
    async fn set(&self, key: &str, value: Bytes) -> Outcome {
        let length = value.len() as u64;
        match self.try_write(key, value, Condition::None).await {
            Ok(_) => Outcome::Done(length),
            Err(WriteError::Conflict(_)) => Outcome::Conflict,
            Err(WriteError::Other(reason)) => Outcome::Failed(reason),
        }
    }

    async fn get(&self, key: &str) -> Outcome {
        self.try_get(key).await.unwrap_or_else(failed)
    }

    async fn compare_and_set(&self, key: &str, value: Bytes, expected: Option<String>) -> (Outcome, Option<String>) {
        let length = value.len() as u64;
        let head = expected.and_then(|head| head.parse().ok());
        match self.try_write(key, value, head.map_or(Condition::Absent, Condition::Head)).await {
            Ok(written) => (Outcome::Done(length), Some(written.hash.to_string())),
            Err(WriteError::Conflict(current)) => (Outcome::Conflict, current),
            Err(WriteError::Other(reason)) => (Outcome::Failed(reason), None),
        }
    }

    async fn put_file(&self, path: &str, seed: u64, length: u64) -> Outcome {
        self.try_put_file(path, seed, length).await.unwrap_or_else(failed)
    }

    async fn get_file(&self, path: &str) -> Outcome {
        self.try_get_file(path).await.unwrap_or_else(failed)
    }
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed(failure.to_string())
}
