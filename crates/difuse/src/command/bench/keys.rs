//! `difuse bench keys`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use difuse_keylog::MAX_INLINE_BYTES;
use fastrand::Rng;
use futures::{StreamExt, future::try_join_all, stream};

use super::{
    Common,
    histogram::{Counts, Outcome},
    parse_seconds, parse_size,
    payload::{fresh_seed, random_bytes},
    report,
    target::{Target, targets},
};
use crate::command::{exit::Failure, progress, session::Session};

/// Arguments of `bench keys`.
#[derive(Debug, Args)]
pub struct KeysArguments {
    #[command(flatten)]
    common: Common,
    /// What each client does, one operation after the other.
    #[arg(long, value_enum, default_value_t = Operation::Put)]
    op: Operation,
    /// Share of reads of `--op mix`, in percent.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u8).range(0..=100))]
    read_percent: u8,
    /// How many clients work at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    clients: u32,
    /// Bytes per value, up to 4 KiB.
    #[arg(long, default_value = "100", value_parser = parse_size)]
    size: u64,
    /// How many keys the clients spread over.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// For how long.
    #[arg(long, default_value = "5", value_parser = parse_seconds)]
    seconds: Duration,
    /// How the keys' names begin; they stay in the ring.
    #[arg(long, default_value = "bench:")]
    prefix: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operation {
    /// Writes.
    Put,
    /// Linearizable reads of keys written before.
    Get,
    /// Compare and set.
    Cas,
    /// Reads and writes.
    Mix,
}

/// Measures operations on keys.
pub async fn run(session: &Session, arguments: KeysArguments) -> Result<(), Failure> {
    if arguments.size > MAX_INLINE_BYTES as u64 {
        return Err(Failure::Usage(format!(
            "--size: values have at most {MAX_INLINE_BYTES} bytes here: see bench files"
        )));
    }
    let arguments = Arc::new(arguments);
    let targets = targets(session, &arguments.common, arguments.clients as usize).await?;
    if matches!(arguments.op, Operation::Get | Operation::Mix) {
        fill(&arguments, &targets).await?;
    }
    let spinner = progress::spinner(format!("measuring for {:?}", arguments.seconds));
    let (started, heads) = (Instant::now(), Arc::new(Heads::default()));
    let clients = (0..arguments.clients).map(|number| {
        let target = Arc::clone(&targets[number as usize % targets.len()]);
        tokio::spawn(
            ClientLoop::new(Arc::clone(&arguments), target, Arc::clone(&heads)).run(started + arguments.seconds),
        )
    });
    let results = try_join_all(clients).await.map_err(|error| Failure::Other(error.to_string()))?;
    let elapsed = started.elapsed();
    spinner.finish_and_clear();
    let mut all = Counts::new();
    results.into_iter().for_each(|counts| all.merge(counts));
    let label = format!("{:?} of {} B, {} clients", arguments.op, arguments.size, arguments.clients).to_lowercase();
    report::print(session, &label, &all, elapsed)
}

/// Writes every key once, so that reads find something.
async fn fill(arguments: &KeysArguments, targets: &[Arc<dyn Target>]) -> Result<(), Failure> {
    let spinner = progress::spinner(format!("writing {} keys to read", arguments.keys));
    let seed = fresh_seed();
    let write = |number: u32| async move {
        let mut random = Rng::with_seed(seed ^ u64::from(number));
        let value = random_bytes(&mut random, arguments.size as usize);
        targets[number as usize % targets.len()].set(&name(arguments, number), value).await
    };
    let mut writes = stream::iter((0..arguments.keys).map(write)).buffer_unordered(arguments.clients as usize);
    while let Some(outcome) = writes.next().await {
        if let Outcome::Failed(reason) = outcome {
            return Err(Failure::Unavailable(format!("the keys to read could not be written: {reason}")));
        }
    }
    spinner.finish_and_clear();
    Ok(())
}

fn name(arguments: &KeysArguments, number: u32) -> String {
    format!("{}{number:08}", arguments.prefix)
}

/// The heads that compare-and-set expects, as far as any client knows them: so that conflicts come from racing alone.
type Heads = Mutex<HashMap<u32, Option<String>>>;

fn lock(heads: &Heads) -> MutexGuard<'_, HashMap<u32, Option<String>>> {
    heads.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One client: one operation after the other.
struct ClientLoop {
    arguments: Arc<KeysArguments>,
    target: Arc<dyn Target>,
    random: Rng,
    heads: Arc<Heads>,
}

impl ClientLoop {
    fn new(arguments: Arc<KeysArguments>, target: Arc<dyn Target>, heads: Arc<Heads>) -> Self {
        Self { arguments, target, random: Rng::with_seed(fresh_seed()), heads }
    }

    async fn run(mut self, end: Instant) -> Counts {
        let mut counts = Counts::new();
        while Instant::now() < end {
            let started = Instant::now();
            let outcome = self.step().await;
            counts.add(outcome, started.elapsed());
        }
        counts
    }

    async fn step(&mut self) -> Outcome {
        let number = self.random.u32(0..self.arguments.keys);
        let key = name(&self.arguments, number);
        let reads = match self.arguments.op {
            Operation::Get => true,
            Operation::Mix => self.random.u8(0..100) < self.arguments.read_percent,
            Operation::Put | Operation::Cas => false,
        };
        if reads {
            return self.target.get(&key).await;
        }
        let value = random_bytes(&mut self.random, self.arguments.size as usize);
        if self.arguments.op != Operation::Cas {
            return self.target.set(&key, value).await;
        }
        let expected = lock(&self.heads).get(&number).cloned().flatten();
        let (outcome, head) = self.target.compare_and_set(&key, value, expected).await;
        lock(&self.heads).insert(number, head);
        outcome
    }
}
