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

/// What a repeated write says of the attempts before it: since when they were sent, and whether one may have been carried
/// out.
#[derive(Debug, Default)]
pub struct Since {
    told: Option<String>,
    is_uncertain: bool,
}

impl Since {
    /// Of a client that lets no node send its write anew: from the first attempt on, it says that others may be under way.
    pub fn unknown() -> Self {
        Self { told: Some("unknown".into()), is_uncertain: false }
    }

    /// An attempt's answer was lost.
    pub fn note_lost(&mut self) {
        self.note_open("unknown");
    }

    /// An attempt was answered with an error after which it is to be repeated.
    pub fn note_error(&mut self, answer: &Answer) {
        let told = answer.header("difuse-operation-since");
        match answer.json()["code"].as_str() {
            // None of those sent until now was carried out, nor will be.
            Some("lapsed_attempt" | "forgotten_outcome") => {
                *self = Self { told: Some(told.to_string()), is_uncertain: false };
            }
            Some("unknown_outcome") => self.note_open(told),
            // 503 says by its code whether something may have been done; no other 5xx is expected to.
            _ if answer.status != 503 => self.note_open("unknown"),
            _ => {}
        }
    }

    fn note_open(&mut self, told: &str) {
        self.is_uncertain = true;
        self.told.get_or_insert_with(|| told.to_string());
    }

    /// Whether an attempt without an answer may have been carried out.
    pub fn is_uncertain(&self) -> bool {
        self.is_uncertain
    }

    /// The headers of the next attempt. Without an operation id there is nothing to say.
    pub fn beside<'a>(&'a self, headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let is_named = headers.iter().any(|(name, _)| *name == "difuse-operation-id");
        let since = self.told.as_deref().filter(|_| is_named).map(|since| ("difuse-operation-since", since));
        headers.iter().copied().chain(since).collect()
    }
}

impl Answer {
    /// Whether nobody can tell any more what became of a repeated write.
    pub fn is_forgotten(&self) -> bool {
        self.status == 409 && self.json()["code"] == "forgotten_outcome"
    }

    /// Whether no attempt until now was carried out, nor will be, and the write is to be sent with what this says.
    pub fn has_lapsed(&self) -> bool {
        self.status == 503 && self.json()["code"] == "lapsed_attempt"
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
        let mut pause = PAUSE.0;
        let mut since = Since::default();
        loop {
            let mut reason = String::new();
            for node in &self.nodes {
                let headers = since.beside(attempt.headers);
                let sent = node.send(attempt.method.clone(), attempt.path, &headers, attempt.body.clone()).await;
                match sent {
                    // While nothing is under way it is new for certain.
                    Ok(answer) if answer.status == 503 || (answer.is_forgotten() && !since.is_uncertain()) => {
                        since.note_error(&answer);
                        reason = answer.text();
                    }
                    Ok(answer) => return Outcome::Answered(answer, since.is_uncertain()),
                    Err(error) => {
                        if !error.is_connect() {
                            since.note_lost();
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Answer, Since};

    const NAMED: [(&str, &str); 1] = [("difuse-operation-id", "07")];

    fn error(status: u16, code: &str, since: &'static str) -> Answer {
        let headers = [("difuse-operation-since".parse().unwrap(), since.parse().unwrap())];
        let body = Bytes::from(format!(r#"{{"code":"{code}"}}"#));
        Answer { status, headers: headers.into_iter().collect(), body }
    }

    /// What the next attempt says of those before.
    fn said(since: &Since) -> (Option<&str>, bool) {
        (since.beside(&NAMED).get(1).map(|(_, value)| *value), since.is_uncertain())
    }

    #[test]
    fn a_repeated_write_keeps_the_first_that_it_was_told_until_nothing_of_it_is_under_way() {
        let mut since = Since::default();
        assert_eq!(said(&since), (None, false));
        since.note_error(&error(503, "unavailable", ""));
        assert_eq!(said(&since), (None, false));
        since.note_lost();
        since.note_error(&error(503, "unknown_outcome", "1.1.1"));
        assert_eq!(said(&since), (Some("unknown"), true));
        since.note_error(&error(503, "lapsed_attempt", "1.1.2"));
        assert_eq!(said(&since), (Some("1.1.2"), false));
        since.note_lost();
        assert_eq!(said(&since), (Some("1.1.2"), true));
        since.note_error(&error(502, "", ""));
        assert_eq!(said(&since), (Some("1.1.2"), true));
        assert_eq!(since.beside(&[]), []);
    }
}
