//! One node's process.

use std::{
    fs::File,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use futures::future::join_all;
use tokio::{process, time::timeout};

use super::plan::PlannedNode;
use crate::daemon::exit::Failure;

/// How long nodes get to stop by themselves.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// With this variable tokio is told how many threads to run tasks on.
const THREADS: &str = "TOKIO_WORKER_THREADS";

/// A node's process. It stops when its standard input ends, so it never outlives this process.
pub struct Child {
    number: usize,
    process: process::Child,
    /// Held apart from the process, because waiting for it would close it.
    input: Option<process::ChildStdin>,
    /// As it was when the process started; it stays known after its end.
    pub pid: Option<u32>,
}

impl Child {
    /// Starts a node that runs its tasks on `threads` threads, unless the environment says on how many.
    pub fn start(node: &PlannedNode, shared_arguments: &[String], threads: usize) -> Result<Self, Failure> {
        let refuse = |error: std::io::Error| Failure::Other(format!("node {} does not start: {error}", node.number));
        let log = File::options().create(true).append(true).open(&node.log).map_err(refuse)?;
        let mut command = process::Command::new(std::env::current_exe().map_err(refuse)?);
        command.arg("--stop-with-stdin").args(node.arguments()).args(shared_arguments);
        if std::env::var_os(THREADS).is_none() {
            command.env(THREADS, threads.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        // Ctrl-C is for this process, which then stops its nodes in order.
        #[cfg(unix)]
        command.process_group(0);
        let mut process = command.spawn().map_err(refuse)?;
        Ok(Self { number: node.number, pid: process.id(), input: process.stdin.take(), process })
    }

    /// Resolves with its number and status when the process has ended.
    pub async fn exited(&mut self) -> (usize, Option<ExitStatus>) {
        (self.number, self.process.wait().await.ok())
    }

    async fn stop(mut self) {
        drop(self.input.take());
        if timeout(STOP_TIMEOUT, self.process.wait()).await.is_err() {
            eprintln!("node {} did not stop within {STOP_TIMEOUT:?} and was killed", self.number);
            let _ = self.process.kill().await;
        }
    }
}

/// Stops all nodes and waits for them.
pub async fn stop_all(children: Vec<Child>) {
    join_all(children.into_iter().map(Child::stop)).await;
}
