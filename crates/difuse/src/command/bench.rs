//! `difuse bench`: drives a ring and measures what comes back.

mod files;
mod histogram;
mod http;
mod keys;
mod payload;
mod report;
mod sdk;
mod target;

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::{exit::Failure, session::Session};

const EXAMPLES: &str = "\
Examples:
  difuse bench keys --clients 64 --size 100 --seconds 5
  difuse bench keys --op mix --read-percent 90 --over http --endpoints 127.0.0.1:9090,127.0.0.1:9091
  difuse bench files --size 100MiB --clients 1 --op put

Every payload is incompressible and unique, so that nothing is gained by compression or de-duplication.
Figures are of answers that succeeded; errors are counted apart.";

/// What to measure.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum BenchCommand {
    /// Small values.
    Keys(keys::KeysArguments),
    /// Files.
    Files(files::FilesArguments),
}

/// What every measurement takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Over which interface.
    #[arg(long, value_enum, default_value_t = Over::Sdk)]
    over: Over,
    /// HTTP gateways, comma-separated; clients are dealt round-robin over them.
    #[arg(long, value_delimiter = ',', default_value = "127.0.0.1:9090", value_name = "ADDRESSES")]
    endpoints: Vec<String>,
}

/// Over which interface a ring is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Over {
    /// The node protocol: straight to the leader.
    Sdk,
    /// The HTTP gateways.
    Http,
}

/// Runs one of them.
pub async fn run(session: &Session, command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Keys(arguments) => keys::run(session, arguments).await,
        BenchCommand::Files(arguments) => files::run(session, arguments).await,
    }
}

/// A number of bytes such as `100`, `64KiB`, `100MiB`, `1GB`.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.len() - text.trim_start_matches(|letter: char| letter.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        "TiB" | "T" => 1 << 40,
        _ => return Err("expected a size such as 100, 64KiB, 100MiB or 1GB".into()),
    };
    let number: u64 = number.parse().map_err(|_| "expected a size such as 100, 64KiB, 100MiB or 1GB".to_string())?;
    number.checked_mul(factor).ok_or_else(|| "the size is too large".into())
}

/// The duration given in seconds, fractions allowed.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_string())?;
    let is_sensible = seconds > 0.0 && seconds <= 86_400.0;
    is_sensible.then(|| Duration::from_secs_f64(seconds)).ok_or_else(|| "expected between 0 and 86400 seconds".into())
}

#[cfg(test)]
mod tests {
    use super::{parse_seconds, parse_size};

    #[test]
    fn sizes_have_units() {
        for (text, expected) in
            [("100", 100), ("64KiB", 65_536), ("1GB", 1_000_000_000), ("2M", 2 << 20), ("7 B", 7), ("1TiB", 1 << 40)]
        {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "MiB", "1.5MiB", "1PiB", "-1", "99999999999999999999", "99999999999GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seconds_are_positive_and_bounded() {
        assert!(parse_seconds("0.5").is_ok());
        for text in ["0", "-1", "NaN", "inf", "x", "1e9"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }
}
