//! What happened when: operations, faults, anomalies.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What a client works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Keys, written with and without conditions, read and deleted.
    Registers,
    /// Keys, read and incremented by compare-and-set.
    Counters,
    /// Files of a directory, put, read, listed and deleted.
    Files,
    /// Counters, sets and lists of clients of Redis.
    Structures,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Registers, Self::Counters, Self::Files, Self::Structures];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Counters => "counters",
            Self::Files => "files",
            Self::Structures => "structures",
        }
    }
}

/// Whether an operation changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No.
    Read,
    /// Yes.
    Write,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done, or read.
    Acknowledged,
    /// Answered with a refusal, such as of a condition that does not hold.
    Refused,
    /// No answer, or 503: the client goes on with another node.
    Failed,
}

/// One attempt of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// What the client works on.
    pub class: Class,
    /// Whether it changes something.
    pub kind: Kind,
    /// When it ended, since the beginning of the run.
    pub at: Duration,
    /// How.
    pub outcome: Outcome,
}

/// A fault that was made to happen.
#[derive(Debug, Clone)]
pub struct Span {
    /// What it is, in a word or two.
    pub kind: &'static str,
    /// To whom.
    pub detail: String,
    /// Since when, since the beginning of the run.
    pub begin: Duration,
    /// Until when; `None` while it lasts.
    pub end: Option<Duration>,
}

/// Written by everybody, read at the end.
pub struct Journal {
    origin: Instant,
    records: Mutex<Records>,
}

/// All of it.
#[derive(Debug, Default, Clone)]
pub struct Records {
    /// Every attempt.
    pub events: Vec<Event>,
    /// Every fault.
    pub spans: Vec<Span>,
    /// How long the ring took to be settled after each round of faults, and after the last one.
    pub settling: Vec<Duration>,
    /// Every promise that was broken.
    pub anomalies: Vec<String>,
}

impl Journal {
    /// An empty one, whose time begins now.
    pub fn new() -> Self {
        Self { origin: Instant::now(), records: Mutex::default() }
    }

    /// Time since the beginning of the run.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Writes down an attempt that has just ended.
    pub fn event(&self, class: Class, kind: Kind, outcome: Outcome) {
        let event = Event { class, kind, at: self.now(), outcome };
        self.lock().events.push(event);
    }

    /// Writes down a fault that begins now; returns its number for [`Self::end`].
    pub fn begin(&self, kind: &'static str, detail: String) -> usize {
        let begin = self.now();
        self.say(&format!("{kind} {detail}"));
        let mut records = self.lock();
        records.spans.push(Span { kind, detail, begin, end: None });
        records.spans.len() - 1
    }

    /// A fault ends now.
    pub fn end(&self, number: usize) {
        let now = self.now();
        let mut records = self.lock();
        let Some(span) = records.spans.get_mut(number) else { return };
        span.end = Some(now);
        let text = format!("  end of: {} {}", span.kind, span.detail);
        drop(records);
        self.say(&text);
    }

    /// The ring is settled again after so long.
    pub fn settled(&self, after: Duration) {
        self.say(&format!("settled {:.1} s after the faults", after.as_secs_f64()));
        self.lock().settling.push(after);
    }

    /// A promise was broken.
    pub fn anomaly(&self, what: String) {
        self.say(&format!("ANOMALY: {what}"));
        self.lock().anomalies.push(what);
    }

    /// Shows progress.
    pub fn say(&self, what: &str) {
        eprintln!("[{:7.1} s] {what}", self.now().as_secs_f64());
    }

    /// What was written down so far.
    pub fn records(&self) -> Records {
        self.lock().clone()
    }

    /// How many attempts were acknowledged or refused, and how many failed.
    pub fn counts(&self) -> (usize, usize) {
        let records = self.lock();
        let failed = records.events.iter().filter(|event| event.outcome == Outcome::Failed).count();
        (records.events.len() - failed, failed)
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
