use std::time::Duration;

use reqwest::Method;
use tokio::time::{Instant, sleep};

use crate::{Answer, Http};

/// The first and the longest pause after all nodes were tried.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// A client as a careful user writes one: on 503 and on a broken connection it tries another node, with the same
/// operation id, and says so once an attempt may have been carried out.
#[derive(Clone)]
pub struct Retrying {
    nodes: Vec<Http>,
}

/// A request to be sent, perhaps several times.
#[derive(Debug, Clone)]
pub struct Attempt<'a> {
    /// PUT, GET, …
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: &'a bytes::Bytes,
}

/// How a request ended.
#[derive(Debug)]
pub enum Outcome {
    /// An answer other than 503. The flag: whether an earlier attempt may have been carried out.
    Answered(Answer, bool),
    /// None until the end; whether anything was done is unknown. The reason is the last one.
    GaveUp(String),
}

/// What a repeated write says of its first attempt: the first thing that was told of it.
#[derive(Debug, Default)]
pub struct Since(Option<String>);

impl Since {
    /// An attempt may have been carried out; the answer, if there was one, told since when.
    pub fn told(&mut self, since: &str) {
        self.0.get_or_insert_with(|| since.to_string());
    }

    /// The headers of the next attempt. Without an operation id there is nothing to say.
    pub fn beside<'a>(&'a self, headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let is_named = headers.iter().any(|(name, _)| *name == "difuse-operation-id");
        let since = self.0.as_deref().filter(|_| is_named).map(|since| ("difuse-operation-since", since));
        headers.iter().copied().chain(since).collect()
    }
}

impl Answer {
    /// Whether nobody can tell any more what became of a repeated write.
    pub fn is_forgotten(&self) -> bool {
        self.status == 409 && self.json()["code"] == "forgotten_outcome"
    }
}

impl Retrying {
    /// A client that tries `nodes` in this order.
    pub fn new(nodes: Vec<Http>) -> Self {
        Self { nodes }
    }

    /// The same client, which waits no longer than this for one answer.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { nodes: self.nodes.into_iter().map(|node| node.with_timeout(timeout)).collect() }
    }

    /// Sends until an answer other than 503 comes, or `patience` is over, or `is_over` says so after a failure.
    pub async fn send(&self, attempt: &Attempt<'_>, patience: Duration, is_over: impl Fn() -> bool) -> Outcome {
        let start = Instant::now();
        let (mut is_uncertain, mut pause) = (false, PAUSE.0);
        let mut since = Since::default();
        loop {
            let mut reason = String::new();
            for node in &self.nodes {
                let headers = since.beside(attempt.headers);
                let sent = node.send(attempt.method.clone(), attempt.path, &headers, attempt.body.clone()).await;
                match sent {
                    // Nothing is under way: it is new for certain.
                    Ok(answer) if answer.is_forgotten() && !is_uncertain => {
                        since = Since::default();
                        since.told(answer.header("difuse-operation-since"));
                        reason = answer.text();
                    }
                    Ok(answer) if answer.status != 503 => return Outcome::Answered(answer, is_uncertain),
                    Ok(answer) => {
                        if answer.json()["code"] == "unknown_outcome" {
                            is_uncertain = true;
                            since.told(answer.header("difuse-operation-since"));
                        }
                        reason = answer.text();
                    }
                    Err(error) => {
                        if !error.is_connect() {
                            is_uncertain = true;
                            since.told("unknown");
                        }
                        reason = format!("{error:?}");
                    }
                }
                if is_over() {
                    return Outcome::GaveUp(reason);
                }
            }
            if start.elapsed() > patience {
                return Outcome::GaveUp(reason);
            }
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}
