//! A ring behind an HTTP gateway.

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Body, Client, Error, Response, StatusCode,
    header::{ETAG, IF_MATCH, IF_NONE_MATCH},
};

use super::{histogram::Outcome, payload::random_parts, target::Target};
use crate::command::{exit::Failure, session::Session};

const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// One gateway.
pub struct HttpTarget {
    client: Client,
    base: String,
    query: String,
}

impl HttpTarget {
    /// The gateway at `endpoint` (`host:port`); connects when first used.
    pub fn new(endpoint: &str, session: &Session) -> Result<Self, Failure> {
        let builder = Client::builder().connect_timeout(session.deadline()).read_timeout(session.deadline());
        let client = builder.tcp_nodelay(true).build();
        let client = client.map_err(|error| Failure::Other(format!("the HTTP client does not start: {error}")))?;
        let query = format!("?consistency={}", session.level());
        Ok(Self { client, base: format!("http://{endpoint}/v1"), query })
    }

    fn key_url(&self, key: &str) -> String {
        format!("{}/keys/{}{}", self.base, utf8_percent_encode(key, IN_PATH), self.query)
    }

    fn file_url(&self, path: &str) -> String {
        let path = path.trim_start_matches('/');
        format!("{}/files/{}{}", self.base, utf8_percent_encode(path, IN_PATH), self.query)
    }
}

#[async_trait]
impl Target for HttpTarget {
    async fn set(&self, key: &str, value: Bytes) -> Outcome {
        let length = value.len() as u64;
        judge_write(self.client.put(self.key_url(key)).body(value).send().await, length).await.0
    }

    async fn get(&self, key: &str) -> Outcome {
        read_to_end(self.client.get(self.key_url(key)).send().await).await
    }

    async fn compare_and_set(&self, key: &str, value: Bytes, expected: Option<String>) -> (Outcome, Option<String>) {
        let length = value.len() as u64;
        let request = self.client.put(self.key_url(key)).body(value);
        let request = match expected {
            Some(head) => request.header(IF_MATCH, format!("\"{head}\"")),
            None => request.header(IF_NONE_MATCH, "*"),
        };
        judge_write(request.send().await, length).await
    }

    async fn put_file(&self, path: &str, seed: u64, length: u64) -> Outcome {
        let parts = random_parts(seed, length).map(Ok::<_, std::io::Error>);
        let body = Body::wrap_stream(stream::iter(parts));
        judge_write(self.client.put(self.file_url(path)).body(body).send().await, length).await.0
    }

    async fn get_file(&self, path: &str) -> Outcome {
        read_to_end(self.client.get(self.file_url(path)).send().await).await
    }
}

/// How a write went, and the head that the answer names.
async fn judge_write(answer: Result<Response, Error>, length: u64) -> (Outcome, Option<String>) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return (Outcome::Failed(error.to_string()), None),
    };
    let head = answer.headers().get(ETAG).and_then(|head| head.to_str().ok());
    let head = head.map(|head| head.trim_matches('"').to_string());
    let status = answer.status();
    // The body is read so that the connection can be used again.
    let text = answer.text().await.unwrap_or_default();
    let outcome = match status {
        StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => Outcome::Conflict,
        status if status.is_success() => Outcome::Done(length),
        status => Outcome::Failed(format!("{status}: {text}")),
    };
    (outcome, head)
}

async fn read_to_end(answer: Result<Response, Error>) -> Outcome {
    let mut answer = match answer {
        Ok(answer) if answer.status().is_success() => answer,
        Ok(answer) if answer.status() == StatusCode::NOT_FOUND => return Outcome::Missing,
        Ok(answer) => return Outcome::Failed(answer.status().to_string()),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    let mut length = 0;
    loop {
        match answer.chunk().await {
            Ok(Some(part)) => length += part.len() as u64,
            Ok(None) => return Outcome::Done(length),
            Err(error) => return Outcome::Failed(error.to_string()),
        }
    }
}
