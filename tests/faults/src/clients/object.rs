//! What clients race on, and what they were told of it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// One operation in an object's history.
#[derive(Debug, Clone)]
pub struct Entry<O> {
    /// What was done, and what it returned.
    pub operation: O,
    /// When it was sent.
    pub start: Duration,
    /// When the answer came; none if nobody knows whether it took effect: it may, at any time.
    pub end: Option<Duration>,
}

/// A write that was sent under an operation id.
#[derive(Debug, Clone)]
pub struct Sent {
    /// The operation id, in hexadecimal.
    pub operation_id: String,
    /// The number of its content; none for a delete.
    pub id: Option<u64>,
    /// What the client was told.
    pub told: Told,
}

/// What a client was told of its write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It is done: height, and hash where the answer gives one.
    Done(u64, Option<String>),
    /// It was not, and never will be.
    Refused,
    /// Nothing certain.
    Unknown,
}

/// A head that a client was shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// Its height.
    pub height: u64,
    /// Its hash.
    pub hash: String,
}

/// What clients were told of one key, to be compared with its chain.
#[derive(Debug, Default)]
pub struct Ledger {
    records: Mutex<(Vec<Sent>, Vec<Shown>)>,
}

impl Ledger {
    /// Writes down a write.
    pub fn sent(&self, sent: Sent) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).0.push(sent);
    }

    /// Writes down a head.
    pub fn shown(&self, shown: Shown) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).1.push(shown);
    }

    /// All of it.
    pub fn records(&self) -> (Vec<Sent>, Vec<Shown>) {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A history that several clients write.
#[derive(Debug)]
pub struct History<O> {
    entries: Mutex<Vec<Entry<O>>>,
}

impl<O> Default for History<O> {
    fn default() -> Self {
        Self { entries: Mutex::default() }
    }
}

impl<O: Clone> History<O> {
    /// Adds an operation.
    pub fn add(&self, operation: O, start: Duration, end: Option<Duration>) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(Entry { operation, start, end });
    }

    /// All of it.
    pub fn entries(&self) -> Vec<Entry<O>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many operations there are, and how many of them nobody knows the outcome of.
    pub fn lengths(&self) -> (usize, usize) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        (entries.len(), entries.iter().filter(|entry| entry.end.is_none()).count())
    }
}

/// Clients that race on one object after the other: each has a short history, which can be checked.
pub struct Group<T> {
    current: Mutex<Arc<T>>,
    next: Box<dyn Fn() -> Arc<T> + Send + Sync>,
}

impl<T> Group<T> {
    /// A group that begins with what `next` makes, and goes on with what it makes next.
    pub fn new(next: impl Fn() -> Arc<T> + Send + Sync + 'static) -> Self {
        Self { current: Mutex::new(next()), next: Box::new(next) }
    }

    /// The object of the next operation.
    pub fn object(&self, is_full: impl Fn(&T) -> bool) -> Arc<T> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if is_full(&current) {
            *current = (self.next)();
        }
        current.clone()
    }
}
