//! A gateway that listens on a port of its own, and a client for it.

use std::sync::{Arc, Mutex};

use difuse_api::testing::FakeDatastore;
use difuse_gateway::http::{Gateway, Health, serve};
use reqwest::{Client, Method, RequestBuilder, Response, header::HeaderMap};
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// What the gateway is told of its node's health.
#[derive(Default)]
pub struct FakeHealth(pub Mutex<Vec<String>>);

impl Health for FakeHealth {
    fn ready(&self) -> Result<(), Vec<String>> {
        let reasons = self.0.lock().unwrap().clone();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    fn metrics(&self) -> String {
        "# TYPE difuse_fake gauge\ndifuse_fake 7\n".into()
    }
}

/// A gateway under test.
pub struct Server {
    pub address: String,
    pub datastore: Arc<FakeDatastore>,
    pub health: Arc<FakeHealth>,
    client: Client,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// An answer, read to its end.
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (datastore, health) = (Arc::new(FakeDatastore::new()), Arc::new(FakeHealth::default()));
        let gateway = Gateway::new(datastore.clone(), FakeDatastore::NODE, health.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            serve(listener, gateway, async { drop(stopped.await) }).await.unwrap();
        });
        let client = Client::builder().no_proxy().build().unwrap();
        Self { address, datastore, health, client, stop: Some(stop), task }
    }

    /// A request that is still to be sent.
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// A request without headers and body.
    pub async fn call(&self, method: &str, path: &str) -> Answer {
        Answer::of(self.request(method, path)).await
    }

    /// A PUT of `body`.
    pub async fn put(&self, path: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer::of(self.request("PUT", path).body(body.into())).await
    }

    /// A request without a body, with headers.
    pub async fn call_with(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.request(method, path);
        Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    /// Tells the server to stop and waits until it has.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        // Idle connections of the client must not hold it up.
        drop(self.client);
        self.task.await.unwrap();
    }
}

impl Answer {
    /// Sends `request` and reads the answer; every answer names its node.
    pub async fn of(request: RequestBuilder) -> Self {
        let response: Response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let answer = Self { status, headers, body: response.bytes().await.unwrap().to_vec() };
        assert_eq!(answer.header("difuse-node"), FakeDatastore::NODE.to_string());
        answer
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Checks the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Checks that this is a problem with this status and code, and that its text contains `text`.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str, text: &str) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["code"], code, "{problem}");
        assert!(!problem["title"].as_str().unwrap().is_empty());
        assert!(problem["detail"].as_str().unwrap().contains(text), "{problem}");
        self
    }
}
