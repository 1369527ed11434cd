//! `difused dev`: a local ring to try things with, one process per node, so that `kill -9` of one is a real
//! experiment.

mod child;
mod plan;
mod readiness;
mod report;

use std::{
    io::{Write, stdout},
    process::ExitStatus,
    time::Instant,
};

use futures::{StreamExt, stream::FuturesUnordered};

use super::{
    exit::Failure,
    settings::{DaemonConfig, Effective},
    signals::asked_to_stop,
};
use child::Child;
use plan::{Plan, make_plan};

/// Runs a ring of `count` nodes until asked to stop.
pub async fn run(count: usize, config: &DaemonConfig, settings: &[Effective]) -> Result<(), Failure> {
    let plan = make_plan(count, config, settings)?;
    let started = Instant::now();
    let mut children = Vec::new();
    let outcome = tokio::select! {
        outcome = start_and_watch(&plan, &mut children, started) => outcome,
        reason = asked_to_stop() => {
            eprintln!("\n{reason}: stopping {} nodes …", plan.nodes.len());
            Ok(())
        }
    };
    child::stop_all(children).await;
    outcome
}

async fn start_and_watch(plan: &Plan, children: &mut Vec<Child>, started: Instant) -> Result<(), Failure> {
    let threads = threads_per_node(plan.nodes.len());
    for node in &plan.nodes {
        children.push(Child::start(node, &plan.shared_arguments, threads)?);
    }
    tell(&report::started(plan, children));
    wait_until_ready(plan, children).await?;
    tell(&report::ready(plan, started.elapsed()));
    watch(plan, children).await
}

/// The nodes share the machine's cores: with a thread per core each, they would mostly wake each other's threads.
fn threads_per_node(nodes: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (cores / nodes.max(1)).max(1)
}

async fn wait_until_ready(plan: &Plan, children: &mut [Child]) -> Result<(), Failure> {
    let mut exits: FuturesUnordered<_> = children.iter_mut().map(Child::exited).collect();
    tokio::select! {
        () = readiness::until_ready(&plan.nodes) => Ok(()),
        Some((number, status)) = exits.next() => {
            eprintln!("{}", report::failed_to_start(&plan.nodes[number - 1], status));
            Err(failure_of(number, status))
        }
    }
}

/// Tells about nodes that end, until none is left.
async fn watch(plan: &Plan, children: &mut [Child]) -> Result<(), Failure> {
    let mut exits: FuturesUnordered<_> = children.iter_mut().map(Child::exited).collect();
    while let Some((number, status)) = exits.next().await {
        tell(&report::ended(&plan.nodes[number - 1], status, &plan.shared_arguments));
    }
    Err(Failure::Stopped("every node of the local ring has ended".into()))
}

/// Prints; that nobody reads it is no reason to stop the ring.
fn tell(text: &str) {
    let _ = writeln!(stdout(), "{}", text.trim_end());
}

/// The node's own exit code, so that `dev` ends with the same one.
fn failure_of(number: usize, status: Option<ExitStatus>) -> Failure {
    let text = format!("node {number} did not start");
    match status.and_then(|status| status.code()) {
        Some(4) => Failure::Directory(text),
        Some(5) => Failure::Stopped(text),
        Some(6) => Failure::Refused(text),
        _ => Failure::Other(text),
    }
}
