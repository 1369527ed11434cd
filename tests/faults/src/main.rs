//! `difuse-faults`: a ring of real `difused` processes under every fault at once, and what came of it.
//!
//! - [`sandbox`] re-executes the program in namespaces of its own, where [`network`] makes one network namespace per
//!   node behind a bridge. All of it ends with the process, whatever becomes of it. Without the rights to do so the same
//!   runs on loopback, with the faults that need no network.
//! - [`ring`] is the nodes; [`nemesis`] does harm to them, round by round, decided by one seed.
//! - [`clients`] race on registers, counters and directories, and write down what they were told in the [`journal`].
//! - [`checks`] judges that with a checker that is none of ours, recomputes every chain, and counts every block.
//! - [`report`] and [`picture`] tell it; [`outage`] measures how long nothing is acknowledged after a fault.
//!
//! *Invariant:* nothing here knows how difuse works: it sees HTTP, processes and cables.

mod arguments;
mod checks;
mod clients;
mod fault;
mod gateways;
mod journal;
mod nemesis;
mod network;
mod outage;
mod picture;
mod report;
mod ring;
mod run;
mod sandbox;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

use crate::{
    arguments::{Arguments, Work},
    network::Network,
};

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.probe {
        return sandbox::answer_probe();
    }
    if arguments.inside {
        sandbox::end_with_parent();
        return match Network::in_namespaces() {
            Ok(network) => start(arguments, network),
            Err(error) => {
                eprintln!("difuse-faults: {error}");
                ExitCode::FAILURE
            }
        };
    }
    arguments.program.get_or_insert_with(|| difuse_tests::difused().to_path_buf());
    if arguments.loopback {
        return start(arguments, Network::on_loopback("as asked with --loopback"));
    }
    match sandbox::find() {
        Ok(sandbox) => sandbox.enter(&arguments),
        Err(missing) => start(arguments, Network::on_loopback(&missing)),
    }
}

fn start(arguments: Arguments, network: Network) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("difuse-faults: {error}");
            return ExitCode::FAILURE;
        }
    };
    let program: PathBuf = arguments.program.clone().unwrap_or_default();
    runtime.block_on(async {
        tokio::select! {
            // What was started is dropped, and ends.
            _ = tokio::signal::ctrl_c() => ExitCode::from(130),
            code = async {
                match arguments.work {
                    Work::Run(options) => run::run(options, network, program).await,
                    Work::Outage(options) => outage::run(options, network, program).await,
                }
            } => code,
        }
    })
}
