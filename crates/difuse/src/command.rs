//! `difuse`: reads and writes a ring from a shell. One file per subcommand.

mod arguments;
mod bench;
mod block;
mod dump;
mod exit;
mod export;
mod gc;
mod get;
mod import;
mod input;
mod kv;
mod leave;
mod local;
mod locate;
mod ls;
mod namespace;
mod output;
mod pin;
mod progress;
mod put;
mod records;
mod recover;
mod ring;
mod rm;
mod scrub;
mod session;
mod stat;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use arguments::{Arguments, Command};
use exit::Failure;
use session::Session;

use crate::terminal;

/// Runs `difuse` with the arguments of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match execute(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough.
        Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("difuse: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

fn execute(arguments: Arguments) -> Result<(), Failure> {
    if let Command::Completions { shell } = arguments.command {
        return output::print(&terminal::completions(shell, &mut Arguments::command(), "difuse"));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::Other(format!("the asynchronous runtime does not start: {error}")))?;
    let result = runtime.block_on(dispatch(arguments));
    // A read of standard input that nobody waits for any more must not keep the process.
    runtime.shutdown_background();
    result
}

async fn dispatch(arguments: Arguments) -> Result<(), Failure> {
    let session = Session::new(&arguments.connection)?;
    match arguments.command {
        Command::Put(arguments) => put::run(&session, arguments).await,
        Command::Get(arguments) => get::run(&session, arguments).await,
        Command::Ls(arguments) => ls::run(&session, arguments).await,
        Command::Stat(arguments) => stat::run(&session, arguments).await,
        Command::Rm(arguments) => rm::run(&session, arguments).await,
        Command::Import(arguments) => import::run(&session, arguments).await,
        Command::Export(arguments) => export::run(&session, arguments).await,
        Command::Kv { command } => kv::run(&session, command).await,
        Command::Namespace { command } => namespace::run(&session, command).await,
        Command::Block { command } => block::run(&session, command).await,
        Command::Pin { command } => pin::run(&session, command).await,
        Command::Ring => ring::run(&session).await,
        Command::Locate(arguments) => locate::run(&session, arguments).await,
        Command::Leave(arguments) => leave::run(&session, arguments).await,
        Command::Gc(arguments) => gc::run(&session, arguments).await,
        Command::Scrub(arguments) => scrub::run(&session, arguments).await,
        Command::Recover(arguments) => recover::run(&session, arguments).await,
        Command::Dump => dump::run(&session).await,
        Command::Bench { command } => bench::run(&session, command).await,
        Command::Completions { .. } => Ok(()),
    }
}
