use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use reqwest::{Client, Method, header::HeaderMap};
use serde_json::Value;

/// How long one request may take. Requests that wait for something are given longer by who sends them.
const TIMEOUT: Duration = Duration::from_secs(15);

/// One node's HTTP gateway. Cheap to clone.
#[derive(Clone)]
pub struct Http {
    client: Client,
    base: String,
    timeout: Duration,
}

/// What a gateway answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Http {
    /// The gateway at `address`. Connections live no longer than this value and its clones, because a runtime of tests
    /// does not outlive its test.
    pub fn new(address: SocketAddr) -> Self {
        let client = Client::builder().no_proxy().pool_max_idle_per_host(64).build();
        Self { client: client.expect("an HTTP client"), base: format!("http://{address}"), timeout: TIMEOUT }
    }

    /// Sends a request; an error is that no complete answer came.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, reqwest::Error> {
        let mut request =
            self.client.request(method, format!("{}{path}", self.base)).timeout(self.timeout).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, body: response.bytes().await? })
    }

    /// The same, where an answer must come.
    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let answer = self.send(method.clone(), path, headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {}{path}: {error:?}", self.base))
    }

    /// The same gateway, asked with less patience.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], Bytes::new()).await
    }

    /// PUT.
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.call(Method::PUT, path, &[], body).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.call(Method::POST, path, &[], body).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], Bytes::new()).await
    }
}

impl Answer {
    /// Insists on a status.
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Insists on a problem (RFC 9457) with this status and code whose detail contains `detail`.
    pub fn expect_problem(self, status: u16, code: &str, detail: &str) {
        let text = self.text();
        assert_eq!((self.status, self.header("content-type")), (status, "application/problem+json"), "{text}");
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["code"]), (&status.into(), &code.into()), "{text}");
        assert!(problem["detail"].as_str().is_some_and(|found| found.contains(detail)), "{detail:?} is not in {text}");
        assert!(!self.header("difuse-node").is_empty(), "the answer must name its node: {:?}", self.headers);
    }

    /// A header, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}
