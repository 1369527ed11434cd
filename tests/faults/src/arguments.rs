//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

const AFTER_HELP: &str = "\
Root, or a kernel that lets users make namespaces, lets it cut cables (packages: iproute2 nftables util-linux) and set
clocks (faketime). Without, it says what is missing and runs on loopback with the faults that need none of it.

Examples:
  A minute, as the tests run it:
    cargo run -p difuse-faults -- run --seconds 60
  An hour:
    cargo run --release -p difuse-faults -- run --minutes 60
  Figures, on a quiet machine:
    cargo run --release -p difuse-faults -- outage
  The same faults again, as far as processes allow:
    cargo run --release -p difuse-faults -- run --minutes 60 --seed 4711

Exit codes:
  0 no anomaly
  1 an anomaly, or it could not run; the report says which";

/// Runs a ring of difused processes, does every kind of harm to it, and checks that it kept its promises.
#[derive(Debug, Parser)]
#[command(name = "difuse-faults", version, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(subcommand)]
    pub work: Work,
    /// The difused to run [default: cargo builds this workspace's].
    #[arg(long = "difused", global = true, value_name = "FILE", overrides_with = "program")]
    pub program: Option<PathBuf>,
    /// Run on loopback even where namespaces could be made.
    #[arg(long, global = true)]
    pub loopback: bool,
    /// This process runs in namespaces of its own.
    #[arg(long, global = true, hide = true)]
    pub inside: bool,
    /// Only tries whether a network can be made.
    #[arg(long, global = true, hide = true)]
    pub probe: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Work {
    /// Clients and faults, then healing, then every check; a report and a picture are left in target/faults/SEED.
    Run(RunOptions),
    /// Figures: how long nothing is acknowledged after a fault, what joins and leaves cost, how long healing takes.
    Outage(OutageOptions),
}

/// What is measured, and how often.
#[derive(Debug, Args)]
pub struct OutageOptions {
    /// How many times a node is killed; slower faults are repeated a fifth as often.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub times: u32,
    /// How much is put into the ring before a join and the replacement of a host.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(4..), value_name = "MIB")]
    pub mib: u64,
    /// With how many nodes (4 to 6).
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(4..=6), value_name = "N")]
    pub nodes: u8,
    /// Into how many slots the ring is divided: difused's own default.
    #[arg(long, default_value_t = 1024, value_name = "N")]
    pub slots: u32,
    /// After how long a silent node is replaced: longer than any fault here but the loss of a host.
    #[arg(long, default_value = "15s", value_parser = humantime::parse_duration, value_name = "DURATION")]
    pub gone_after: Duration,
    /// Only some of the measurements: gaps, membership, moving; comma-separated [default: all].
    #[arg(long, value_delimiter = ',', value_parser = ["gaps", "membership", "moving"], value_name = "NAMES")]
    only: Vec<String>,
    /// Where figures.txt and the nodes' logs go [default: target/faults/outage].
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}

impl OutageOptions {
    /// Whether the measurement `name` is not asked for.
    pub fn skips(&self, name: &str) -> bool {
        !self.only.is_empty() && !self.only.iter().any(|asked| asked == name)
    }
}

/// How long, and which.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// For how many minutes faults go on.
    #[arg(long, conflicts_with = "seconds", value_name = "N")]
    minutes: Option<u64>,
    /// For how many seconds faults go on [default: 60].
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Decides clients and faults [default: drawn at random, and printed].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// With how many nodes the ring begins (4 to 7).
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(4..=7), value_name = "N")]
    pub nodes: u8,
    /// How many times as many clients as usual (the usual number is 30).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16), value_name = "N")]
    pub clients_times: u8,
    /// Where report.txt, availability.svg and the nodes' logs go [default: target/faults/SEED].
    #[arg(long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
}

impl RunOptions {
    /// For how long faults go on.
    pub fn duration(&self) -> Duration {
        let seconds = self.minutes.map(|minutes| minutes * 60).or(self.seconds).unwrap_or(60);
        Duration::from_secs(seconds.max(10))
    }
}
