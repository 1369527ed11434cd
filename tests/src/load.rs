use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use reqwest::Method;
use tokio::{task::JoinHandle, time::Instant};

use crate::{Attempt, Http, Outcome, Retrying, until};

/// How long a client goes on trying before it says that its request failed for good.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many keys each writer writes again and again: more than there are slots.
const KEYS: usize = 47;
/// Every how many writes one is a file.
const FILE_EVERY: usize = 8;
/// How many files each writer writes again and again.
const FILES: usize = 6;
/// The longest file, in bytes: several blocks.
const FILE_BYTES_MAX: usize = 600_000;
/// How many reads check at once.
const CHECKS: usize = 16;

/// Writers of keys and files in the background, each with names of its own and one request at a time.
pub struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Written>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    acknowledged: Vec<AtomicUsize>,
    samples: Mutex<Vec<Sample>>,
}

/// One acknowledged write.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Which writer's.
    pub writer: usize,
    /// When it was first sent.
    pub start: Instant,
    /// When it was acknowledged.
    pub end: Instant,
}

/// What writers wrote, by path.
#[derive(Debug, Default)]
pub struct Written {
    /// What may be read at each path that has an acknowledged write: the last one acknowledged, and what was sent after
    /// it and is unknown.
    pub values: BTreeMap<String, BTreeSet<Bytes>>,
    /// Requests that failed for good, with the reason.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts one writer per client; `name` keeps the names of two loads apart.
    pub fn start(name: &str, clients: Vec<Retrying>) -> Self {
        let acknowledged = clients.iter().map(|_| AtomicUsize::new(0)).collect();
        let shared = Arc::new(Shared { acknowledged, ..Shared::default() });
        let spawn = |(number, client)| {
            let writer = Writer { name: name.to_string(), number, client, shared: shared.clone() };
            tokio::spawn(writer.run())
        };
        let writers = clients.into_iter().enumerate().map(spawn).collect();
        Self { shared, writers }
    }

    /// Waits until each of these writers has had `count` further writes acknowledged.
    pub async fn progress(&self, writers: &[usize], count: usize) {
        let now = |writer: &usize| self.shared.acknowledged[*writer].load(Ordering::Relaxed);
        let goals: Vec<_> = writers.iter().map(|writer| now(writer) + count).collect();
        until("acknowledged writes", PATIENCE * 2, async || {
            let behind = writers.iter().zip(&goals).find(|(writer, goal)| now(writer) < **goal);
            behind.map_or(Ok(()), |(writer, goal)| Err(format!("writer {writer} has {} of {goal}", now(writer))))
        })
        .await;
    }

    /// A full turn of a writer over all its keys and files.
    pub const TURN: usize = KEYS * FILE_EVERY / (FILE_EVERY - 1) + FILES;

    /// Lets every writer end its request and returns what they wrote.
    pub async fn stop(self) -> (Written, Vec<Sample>) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        for writer in self.writers {
            let written = writer.await.expect("a writer does not panic");
            all.values.extend(written.values);
            all.failures.extend(written.failures);
        }
        let samples = std::mem::take(&mut *self.shared.samples.lock().unwrap_or_else(PoisonError::into_inner));
        (all, samples)
    }
}

struct Writer {
    name: String,
    number: usize,
    client: Retrying,
    shared: Arc<Shared>,
}

impl Writer {
    async fn run(self) -> Written {
        let (mut written, mut count) = (Written::default(), 0);
        // What was sent and not acknowledged at paths without any acknowledged write.
        let mut uncertain: BTreeMap<String, BTreeSet<Bytes>> = BTreeMap::new();
        while !self.shared.is_over.load(Ordering::Relaxed) {
            count += 1;
            let (path, content) = self.next(count);
            let start = Instant::now();
            match self.write(&path, &content).await {
                Ok(()) => {
                    uncertain.remove(&path);
                    written.values.insert(path, BTreeSet::from([content]));
                    self.note(start);
                }
                Err(failure) => {
                    match written.values.get_mut(&path) {
                        Some(values) => drop(values.insert(content)),
                        None => drop(uncertain.entry(path.clone()).or_default().insert(content)),
                    }
                    written.failures.extend(failure);
                }
            }
        }
        written
    }

    fn next(&self, count: usize) -> (String, Bytes) {
        let (name, number) = (&self.name, self.number);
        if count.is_multiple_of(FILE_EVERY) {
            let mut random = fastrand::Rng::with_seed((number * 1_000_003 + count) as u64);
            let mut content = vec![0; random.usize(1..FILE_BYTES_MAX)];
            random.fill(&mut content);
            return (format!("/v1/files/{name}/{number}/f{}", count / FILE_EVERY % FILES), content.into());
        }
        (format!("/v1/keys/{name}-{number}-k{}", count % KEYS), format!("{name} {number} {count}").into())
    }

    /// `Err(None)`: the load was stopped meanwhile.
    async fn write(&self, path: &str, content: &Bytes) -> Result<(), Option<String>> {
        let is_over = || self.shared.is_over.load(Ordering::Relaxed);
        let sent = loop {
            let operation_id = format!("{:032x}", fastrand::u128(..));
            let headers = [("difuse-operation-id", operation_id.as_str())];
            let attempt = Attempt { method: Method::PUT, path, headers: &headers, body: content };
            match self.client.send(&attempt, PATIENCE, is_over).await {
                // Nobody else writes here: the same value again, as a new write, does no harm.
                Outcome::Answered(answer, _) if answer.is_forgotten() => {}
                outcome => break outcome,
            }
        };
        match sent {
            Outcome::Answered(answer, _) if matches!(answer.status, 200 | 201) => Ok(()),
            Outcome::Answered(answer, _) => Err(Some(format!("PUT {path}: {} {}", answer.status, answer.text()))),
            Outcome::GaveUp(_) if is_over() => Err(None),
            Outcome::GaveUp(reason) => Err(Some(format!("PUT {path}: {reason}"))),
        }
    }

    fn note(&self, start: Instant) {
        let sample = Sample { writer: self.number, start, end: Instant::now() };
        self.shared.samples.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
        self.shared.acknowledged[self.number].fetch_add(1, Ordering::Relaxed);
    }
}

impl Written {
    /// Takes over what a later load wrote.
    pub fn extend(&mut self, later: Self) {
        self.values.extend(later.values);
        self.failures.extend(later.failures);
    }

    /// Reads everything through `http` and insists that nothing acknowledged is lost or old.
    pub async fn assert_all_at(&self, http: &Http) {
        assert!(!self.values.is_empty(), "nothing was written");
        let check = |(path, values): (&String, &BTreeSet<Bytes>)| {
            let (path, values) = (path.clone(), values.clone());
            async move {
                let answer = http.get(&path).await;
                let is_right = answer.status == 200 && values.contains(&answer.body);
                (!is_right).then(|| describe(&path, &answer.text(), answer.status, &values))
            }
        };
        let wrong: Vec<_> = stream::iter(self.values.iter().map(check))
            .buffer_unordered(CHECKS)
            .filter_map(async |x| x)
            .collect()
            .await;
        assert!(wrong.is_empty(), "{} of {} are lost or old: {:#?}", wrong.len(), self.values.len(), &wrong);
    }
}

fn describe(path: &str, found: &str, status: u16, values: &BTreeSet<Bytes>) -> String {
    let short = |text: &str| text.chars().take(200).collect::<String>();
    let expected: Vec<_> = values.iter().map(|value| short(&String::from_utf8_lossy(value))).collect();
    format!("{path}: {status} {:?}, expected one of {expected:?}", short(found))
}
