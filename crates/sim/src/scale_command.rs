//! `difuse-sim scale-ring` and `difuse-sim scale-data`.

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use difuse_sim::scale::{data, ring};
use indicatif::{ProgressBar, ProgressStyle};

#[derive(Subcommand)]
pub enum Command {
    /// Measures the ring alone with many hosts: hops by fingers, lookups by the host table under churn, and traffic.
    ScaleRing(ScaleRing),
    /// Measures the bytes that a ring with data moves when a host joins, leaves or fails.
    ScaleData(ScaleData),
}

#[derive(Args)]
pub struct ScaleRing {
    /// Hosts at the start.
    #[arg(long, default_value_t = 1000)]
    hosts: usize,
    /// Virtual nodes of each.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=64))]
    vnodes: u16,
    /// How many hosts have the whole host table: each takes about 2 KiB of memory for every host. Those that join have it.
    #[arg(long, default_value_t = 16)]
    whole_tables: usize,
    /// For how long the ring runs, in seconds of virtual time.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How long a host stays on average, in seconds; 0: for ever.
    #[arg(long, default_value_t = 3600)]
    session: u64,
    /// After how many milliseconds without an answer a host is suspect.
    #[arg(long, default_value_t = 1000)]
    suspect_after: u64,
    /// Lookups by fingers, at the start and at the end.
    #[arg(long, default_value_t = 20_000)]
    lookups: u32,
    /// Decides everything.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

#[derive(Args)]
pub struct ScaleData {
    /// Hosts.
    #[arg(long, default_value_t = 100)]
    hosts: usize,
    /// Slots: a power of two.
    #[arg(long, default_value_t = 1024)]
    slots: u32,
    /// Keys.
    #[arg(long, default_value_t = 4000)]
    keys: u32,
    /// Bytes of a key's value, at most 4096.
    #[arg(long, default_value_t = 1000)]
    value_bytes: usize,
    /// Blocks.
    #[arg(long, default_value_t = 4000)]
    blocks: u32,
    /// Bytes of a block, at most 1 MiB.
    #[arg(long, default_value_t = 16_384)]
    block_bytes: usize,
    /// What a host can send of blocks, in bytes per second; 0: no bound.
    #[arg(long, default_value_t = 0)]
    bulk_rate: u64,
    /// Decides everything.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

/// Runs it and prints the figures.
pub fn run(command: Command) -> ExitCode {
    match command {
        Command::ScaleRing(arguments) => run_ring(arguments),
        Command::ScaleData(arguments) => run_data(arguments),
    }
}

fn run_ring(arguments: ScaleRing) -> ExitCode {
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{percent} % of the virtual time {wide_bar} {eta} left") {
        bar.set_style(style);
    }
    let plan = ring::Plan {
        hosts: arguments.hosts,
        virtual_nodes: arguments.vnodes,
        whole_tables: arguments.whole_tables.min(arguments.hosts),
        run_for: Duration::from_secs(arguments.seconds),
        session: Duration::from_secs(arguments.session),
        suspect_after: Duration::from_millis(arguments.suspect_after),
        lookups: arguments.lookups,
        seed: arguments.seed,
    };
    let report = ring::run(plan, |share| bar.set_position((share * 1000.0) as u64));
    bar.finish_and_clear();
    print!("{report}");
    ExitCode::SUCCESS
}

fn run_data(arguments: ScaleData) -> ExitCode {
    let plan = data::Plan {
        hosts: arguments.hosts,
        slots: arguments.slots,
        keys: arguments.keys,
        value_bytes: arguments.value_bytes,
        blocks: arguments.blocks,
        block_bytes: arguments.block_bytes,
        bulk_rate: arguments.bulk_rate,
        seed: arguments.seed,
    };
    match data::run(plan, |what| eprintln!("{what} ...")) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("the simulation came to no end: {error}");
            ExitCode::FAILURE
        }
    }
}
