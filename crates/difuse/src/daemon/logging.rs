//! Log lines on standard error.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

use super::{
    exit::Failure,
    settings::{DaemonConfig, LogFormat},
};

/// Starts logging for this process.
pub fn start(config: &DaemonConfig) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.log).map_err(|error| Failure::Other(error.to_string()))?;
    let lines = fmt().with_env_filter(filter).with_writer(stderr);
    let started = match config.log_format {
        LogFormat::Text => lines.with_ansi(stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(|error| Failure::Other(format!("logging does not start: {error}")))
}
