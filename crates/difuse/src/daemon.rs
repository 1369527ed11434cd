//! `difused`: one node, or a local ring of several.

mod arguments;
mod collection;
mod config_command;
mod dev;
mod exit;
mod logging;
mod open_files;
mod quotas;
mod run;
mod settings;
mod signals;

use std::{
    io::{ErrorKind, Write, stdout},
    process::ExitCode,
};

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command, Flags};
use exit::Failure;
use settings::{DaemonConfig, Effective, Sources};

use crate::terminal;

/// Runs `difused` with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("difused: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn execute(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        None => {
            let config = DaemonConfig::from_settings(&settings_of(&arguments.flags)?)?;
            logging::start(&config)?;
            block_on(run::run(config, arguments.flags.stop_with_stdin))
        }
        Some(Command::Dev { nodes }) => {
            let settings = settings_of(&arguments.flags)?;
            let config = DaemonConfig::from_settings(&settings)?;
            logging::start(&config)?;
            block_on(dev::run(usize::from(*nodes), &config, &settings))
        }
        Some(Command::Config { json }) => {
            let sources = Sources::find(&arguments.flags);
            let file = sources.file.clone();
            let settings = sources.merged()?;
            print(&config_command::render(&settings, file.as_deref(), *json))?;
            DaemonConfig::from_settings(&settings).map(drop).map_err(Into::into)
        }
        Some(Command::Completions { shell }) => {
            print(&terminal::completions(*shell, &mut Arguments::command(), "difused"))
        }
    }
}

/// Prints to standard output; whoever stops reading has seen enough.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Other(error.to_string())),
        _ => Ok(()),
    }
}

fn settings_of(flags: &Flags) -> Result<Vec<Effective>, Failure> {
    Ok(Sources::find(flags).merged()?)
}

/// Runs what everything here waits for.
fn block_on(task: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Other(format!("the asynchronous runtime does not start: {error}")))?;
    let outcome = runtime.block_on(task);
    // A read of standard input that nobody waits for any more must not keep the process.
    runtime.shutdown_background();
    outcome
}
