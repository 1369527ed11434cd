//! `difuse bench files`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::{Args, ValueEnum};
use futures::future::try_join_all;

use super::{
    Common,
    histogram::{Counts, Outcome},
    parse_seconds, parse_size,
    payload::fresh_seed,
    report,
    target::{Target, targets},
};
use crate::{
    command::{exit::Failure, progress, session::Session},
    terminal,
};

/// Arguments of `bench files`.
#[derive(Debug, Args)]
pub struct FilesArguments {
    #[command(flatten)]
    common: Common,
    /// What each client does.
    #[arg(long, value_enum, default_value_t = Operation::Put)]
    op: Operation,
    /// How many clients work at once.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: u32,
    /// Bytes per file.
    #[arg(long, default_value = "100MiB", value_parser = parse_size)]
    size: u64,
    /// How many files each client moves, one after the other.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..), conflicts_with = "seconds")]
    count: u32,
    /// For how long instead of how many files; what was begun is completed.
    #[arg(long, value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// The directory of the files; they stay in the ring.
    #[arg(long, default_value = "/bench")]
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operation {
    /// Store new files.
    Put,
    /// Read files stored before (one per client, stored first if need be).
    Get,
}

/// Measures files.
pub async fn run(session: &Session, arguments: FilesArguments) -> Result<(), Failure> {
    let arguments = Arc::new(arguments);
    let targets = targets(session, &arguments.common, arguments.clients as usize).await?;
    if arguments.op == Operation::Get {
        let spinner = progress::spinner("storing the files to read".into());
        let stored = each_client(&arguments, &targets, store_once).await?;
        spinner.finish_and_clear();
        if let Some(reason) = stored.first_error {
            return Err(Failure::Unavailable(format!("the files to read could not be stored: {reason}")));
        }
    }
    let spinner = progress::spinner("measuring".into());
    let started = Instant::now();
    let counts = each_client(&arguments, &targets, measure).await?;
    let elapsed = started.elapsed();
    spinner.finish_and_clear();
    let size = terminal::bytes(arguments.size);
    let label = format!("{:?} of files of {size}, {} clients", arguments.op, arguments.clients);
    report::print(session, &label, &counts, elapsed)
}

async fn each_client<F: Future<Output = Counts> + Send + 'static>(
    arguments: &Arc<FilesArguments>,
    targets: &[Arc<dyn Target>],
    work: impl Fn(Arc<FilesArguments>, Arc<dyn Target>, u32) -> F,
) -> Result<Counts, Failure> {
    let clients = (0..arguments.clients).map(|number| {
        let target = Arc::clone(&targets[number as usize % targets.len()]);
        tokio::spawn(work(Arc::clone(arguments), target, number))
    });
    let results = try_join_all(clients).await.map_err(|error| Failure::Other(error.to_string()))?;
    let mut all = Counts::new();
    results.into_iter().for_each(|counts| all.merge(counts));
    Ok(all)
}

fn path(arguments: &FilesArguments, client: u32, file: u32) -> String {
    format!("{}/{}-{client:04}-{file:06}", arguments.path.trim_end_matches('/'), arguments.size)
}

async fn store_once(arguments: Arc<FilesArguments>, target: Arc<dyn Target>, client: u32) -> Counts {
    let mut counts = Counts::new();
    let started = Instant::now();
    let outcome = target.put_file(&path(&arguments, client, 0), fresh_seed(), arguments.size).await;
    counts.add(outcome, started.elapsed());
    counts
}

async fn measure(arguments: Arc<FilesArguments>, target: Arc<dyn Target>, client: u32) -> Counts {
    let mut counts = Counts::new();
    let end = arguments.seconds.map(|duration| Instant::now() + duration);
    let mut file = 0;
    while end.map_or(file < arguments.count, |end| Instant::now() < end) {
        let started = Instant::now();
        let outcome = one_file(&arguments, &*target, client, file).await;
        counts.add(outcome, started.elapsed());
        file += 1;
    }
    counts
}

async fn one_file(arguments: &FilesArguments, target: &dyn Target, client: u32, file: u32) -> Outcome {
    match arguments.op {
        Operation::Put => target.put_file(&path(arguments, client, file), fresh_seed(), arguments.size).await,
        Operation::Get => target.get_file(&path(arguments, client, 0)).await,
    }
}
