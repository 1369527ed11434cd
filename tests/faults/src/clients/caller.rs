//! A client's way to the ring: any node, and another one when that does not serve.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use difuse_tests::{Answer, Since};
use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::Shared;
use crate::journal::{Class, Kind, Outcome};

/// How long an operation is tried. After that nobody knows its outcome.
const PATIENCE: Duration = Duration::from_secs(8);
/// The first and the longest pause after all nodes were tried.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));

/// Sends the requests of one client, one at a time.
pub struct Caller {
    shared: Arc<Shared>,
    class: Class,
    /// Which gateway is tried first: the one that served last.
    turn: usize,
}

/// A request.
pub struct Call<'a> {
    /// Whether it changes something.
    pub kind: Kind,
    /// GET, PUT, DELETE.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// Names and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Bytes,
}

/// How a request ended.
pub struct Ended {
    /// When it was first sent, since the beginning of the run.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
    /// The answer; none if the client gave up.
    pub answer: Option<Answer>,
    /// Whether an attempt without an answer may have been carried out.
    pub is_uncertain: bool,
}

impl Caller {
    /// A client that begins with the gateway numbered `turn`.
    pub fn new(shared: Arc<Shared>, class: Class, turn: usize) -> Self {
        Self { shared, class, turn }
    }

    /// Sends until an answer other than 503 comes or the patience is over, always under the same operation id if the
    /// headers name one. No node may send it anew by itself: another may have been asked by then.
    pub async fn send(&mut self, call: Call<'_>) -> Ended {
        let (start, begun) = (self.shared.journal.now(), Instant::now());
        let (mut pause, mut failures) = (PAUSE.0, 0);
        let (mut since, mut has_lapsed) = (Since::unknown(), false);
        loop {
            let gateways = self.shared.gateways.all();
            let Some((_, http)) = gateways.get(self.turn % gateways.len().max(1)) else {
                return self.ended(start, None, since.is_uncertain());
            };
            let headers = since.beside(call.headers);
            let sent = http.send(call.method.clone(), call.path, &headers, call.body.clone()).await;
            match sent {
                // While nothing is under way it is new for certain.
                Ok(answer) if answer.is_forgotten() && !since.is_uncertain() => {
                    since.note_error(&answer);
                    continue;
                }
                // What the present is, which is to be said from now on.
                Ok(answer) if answer.has_lapsed() && !has_lapsed => {
                    has_lapsed = true;
                    since.note_error(&answer);
                    continue;
                }
                Ok(answer) if answer.is_forgotten() => {
                    self.shared.journal.event(self.class, call.kind, Outcome::Failed);
                    return self.ended(start, None, true);
                }
                Ok(answer) if answer.status < 500 => {
                    let outcome =
                        if is_done(call.kind, answer.status) { Outcome::Acknowledged } else { Outcome::Refused };
                    self.shared.journal.event(self.class, call.kind, outcome);
                    return self.ended(start, Some(answer), since.is_uncertain());
                }
                Ok(answer) => since.note_error(&answer),
                Err(error) if !error.is_connect() => since.note_lost(),
                Err(_) => {}
            }
            self.shared.journal.event(self.class, call.kind, Outcome::Failed);
            if begun.elapsed() > PATIENCE || self.shared.is_over() {
                return self.ended(start, None, since.is_uncertain());
            }
            self.turn = self.turn.wrapping_add(1);
            failures += 1;
            if failures % gateways.len() == 0 {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }

    fn ended(&self, start: Duration, answer: Option<Answer>, is_uncertain: bool) -> Ended {
        Ended { start, end: self.shared.journal.now(), answer, is_uncertain }
    }
}

fn is_done(kind: Kind, status: u16) -> bool {
    status < 300 || (kind == Kind::Read && status == 404)
}
