use std::time::Duration;

use reqwest::Method;
use tokio::time::{Instant, sleep};

use crate::{Answer, Http};

/// The first and the longest pause after all nodes were tried.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// A client as a careful user writes one: on 503 and on a broken connection it tries another node, with the same
/// operation id.
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
        loop {
            let mut reason = String::new();
            for node in &self.nodes {
                let sent = node.send(attempt.method.clone(), attempt.path, attempt.headers, attempt.body.clone()).await;
                match sent {
                    Ok(answer) if answer.status != 503 => return Outcome::Answered(answer, is_uncertain),
                    Ok(answer) => {
                        is_uncertain |= answer.json()["code"] == "unknown_outcome";
                        reason = answer.text();
                    }
                    Err(error) => {
                        is_uncertain |= !error.is_connect();
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
