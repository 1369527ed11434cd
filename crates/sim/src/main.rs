//! `difuse-sim`: simulates many seeds, or one with its trace.

mod scale_command;

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use clap::Parser;
use difuse_sim::{Figures, Outcome, Plan, Tracing, run_seed_with};
use indicatif::{ProgressBar, ProgressStyle};

/// Simulates whole difuse rings under faults and checks what they promise.
#[derive(Parser)]
#[command(name = "difuse-sim", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<scale_command::Command>,
    /// How many seeds to simulate.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    start: u64,
    /// Simulates this one seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// Prints everything that happens.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Goes on after a seed that fails.
    #[arg(long)]
    keep_going: bool,
    /// How many threads; by default one per core.
    #[arg(long)]
    threads: Option<usize>,
    /// Breaks this rule on all nodes: a control, which must be caught.
    #[cfg(feature = "controls")]
    #[arg(long = "break", value_name = "RULE")]
    broken: Option<difuse_sim::Control>,
}

impl Arguments {
    /// Changes what a seed draws.
    fn change(&self, plan: &mut Plan) {
        let _ = plan;
        #[cfg(feature = "controls")]
        {
            plan.broken = self.broken;
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(command) = arguments.command {
        return scale_command::run(command);
    }
    let tracing = if arguments.trace { Tracing::Print } else { Tracing::Off };
    let outcomes = match arguments.seed {
        Some(seed) => vec![run_seed_with(seed, tracing, |plan| arguments.change(plan))],
        None => run_many(&arguments),
    };
    let mut figures = Figures::default();
    let mut failures = 0;
    for outcome in &outcomes {
        figures += outcome.figures;
        failures += u64::from(outcome.violation.is_some());
    }
    if arguments.seed.is_some() {
        outcomes.iter().for_each(report);
    }
    println!("{}", summary(&figures, failures));
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_many(arguments: &Arguments) -> Vec<Outcome> {
    let bar = ProgressBar::new(arguments.seeds);
    if let Ok(style) = ProgressStyle::with_template("{pos}/{len} seeds {wide_bar} {per_sec}, {eta} left, {msg}") {
        bar.set_style(style);
    }
    let end = arguments.start.saturating_add(arguments.seeds);
    let (next, outcomes) = (AtomicU64::new(arguments.start), Mutex::new(Vec::new()));
    let threads = arguments.threads.or_else(|| thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run_seed_with(seed, Tracing::Off, |plan| arguments.change(plan));
                    bar.inc(1);
                    if outcome.violation.is_some() {
                        bar.suspend(|| report(&outcome));
                        if !arguments.keep_going {
                            next.store(end, Ordering::Relaxed);
                        }
                    }
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    outcomes.into_inner().unwrap_or_default()
}

fn report(outcome: &Outcome) {
    let seed = outcome.seed;
    if let Some(violation) = &outcome.violation {
        println!("seed {seed} failed after {:.3} s of virtual time: {violation}", outcome.ended_at.0 as f64 / 1e9);
        println!("  replay: cargo run --release -p difuse-sim -- --seed {seed} --trace");
    }
}

fn summary(figures: &Figures, failures: u64) -> String {
    let Figures { seeds, virtual_time, messages, operations, retries, errors, unknown, histories, forgetful, .. } =
        figures;
    let Figures { faults, disasters, recoveries, crashes, leaves, inputs, forgotten, .. } = figures;
    let hours = virtual_time.as_secs_f64() / 3600.0;
    format!(
        "{seeds} seeds, {hours:.1} virtual hours: {messages} messages, {inputs} inputs, {operations} operations \
         ({retries} retries, {errors} transient errors, {unknown} of unknown outcome, {forgotten} of forgotten outcome), {histories} histories checked; \
         {faults} faults, {disasters} disasters, {recoveries} recoveries, {crashes} crashes, {leaves} leaves; {forgetful} members forgot the beginning of a history; {failures} seeds failed"
    )
}
