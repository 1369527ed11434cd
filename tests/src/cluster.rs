use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{Dump, Http, NodeProcess, NodeSettings, Retrying, Run, difuse, until};

/// How long a ring may take to be ready, or settled.
const PATIENCE: Duration = Duration::from_secs(90);
/// What `difused` exits with when a port is taken.
const PORT_TAKEN: i32 = 3;

/// One ring at a time: a test of timing should not wait for another test's processors.
static TURN: LazyLock<Arc<Mutex<()>>> = LazyLock::new(Arc::default);

/// A ring of real processes in a folder of its own. Nodes are numbered from 0 in the order in which they were added.
pub struct Cluster {
    nodes: Vec<NodeProcess>,
    folder: TempDir,
    /// Arguments of all nodes.
    more: Vec<String>,
    _turn: OwnedMutexGuard<()>,
}

impl Cluster {
    /// Starts `count` nodes and waits until they serve and the ring is settled.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, &[]).await
    }

    /// The same, with further arguments for every node, those that are added later included.
    pub async fn start_with(count: usize, more: &[&str]) -> Self {
        let turn = TURN.clone().lock_owned().await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let more = more.iter().map(|argument| argument.to_string()).collect();
        let mut cluster = Self { nodes: Vec::new(), folder, more, _turn: turn };
        for _ in 0..count {
            cluster.add().await;
        }
        cluster.settled(count).await;
        cluster
    }

    /// Starts one more node, which joins through the first one that runs, waits until it serves, and returns its number.
    pub async fn add(&mut self) -> usize {
        self.add_with(|_| {}).await
    }

    /// The same with settings of the caller's own.
    pub async fn add_with(&mut self, change: impl Fn(&mut NodeSettings)) -> usize {
        loop {
            let mut settings = self.new_settings();
            change(&mut settings);
            let mut node = NodeProcess::start(settings);
            if ready(&mut node).await {
                self.nodes.push(node);
                return self.nodes.len() - 1;
            }
        }
    }

    /// Free ports and a fresh directory for one more node of this ring.
    pub fn new_settings(&mut self) -> NodeSettings {
        let first = self.nodes.iter_mut().find_map(|node| node.is_running().then_some(node.settings.bind));
        let name = format!("node-{}", self.nodes.len() + 1);
        let mut settings = NodeSettings::new(self.folder.path(), &name, first.map(|address| address.to_string()));
        settings.more.extend(self.more.iter().cloned());
        settings
    }

    /// Where further files of a test can be put.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A node.
    pub fn node(&self, number: usize) -> &NodeProcess {
        &self.nodes[number]
    }

    /// A node, to be changed.
    pub fn node_mut(&mut self, number: usize) -> &mut NodeProcess {
        &mut self.nodes[number]
    }

    /// A node's gateway.
    pub fn http(&self, number: usize) -> Http {
        self.nodes[number].http()
    }

    /// The gateways of all nodes.
    pub fn all_http(&self) -> Vec<Http> {
        self.nodes.iter().map(NodeProcess::http).collect()
    }

    /// A client that begins with node `first` and goes to the others of `among` when it does not serve.
    pub fn retrying(&self, first: usize, among: &[usize]) -> Retrying {
        let others = among.iter().filter(|number| **number != first);
        Retrying::new(std::iter::once(&first).chain(others).map(|number| self.http(*number)).collect())
    }

    /// `difuse`, connected to a node.
    pub fn difuse(&self, number: usize) -> Run {
        difuse().args(["--node", &self.nodes[number].settings.bind.to_string()])
    }

    /// Kills a node as `kill -9` does.
    pub fn kill9(&mut self, number: usize) {
        self.nodes[number].kill9();
    }

    /// Starts nodes again and waits until they serve.
    pub async fn restart(&mut self, numbers: &[usize]) {
        for number in numbers {
            self.nodes[*number].start_again();
        }
        for number in numbers {
            assert!(ready(&mut self.nodes[*number]).await, "the port of node {number} was taken meanwhile");
        }
    }

    /// Stops a node as SIGTERM does, and insists that it ends well.
    pub async fn stop(&mut self, number: usize) {
        let status = self.nodes[number].stop().await;
        assert!(status.success(), "{status}: {}", self.nodes[number].tail());
    }

    /// Waits until every running node but those of `left` says that the ring has `count` nodes, all up, and is settled.
    pub async fn settled_without(&mut self, left: &[usize], count: usize) {
        let running: Vec<_> = self.running().into_iter().filter(|number| !left.contains(number)).collect();
        let gateways: Vec<_> = running.iter().map(|number| (*number, self.http(*number))).collect();
        until("a settled ring", PATIENCE, async || {
            for (number, http) in &gateways {
                let ring = ring(http).await?;
                if ring["settled"] != true || up(&ring) != count {
                    return Err(format!("node {number} says {ring:#}"));
                }
            }
            Ok(())
        })
        .await;
    }

    /// The same for a ring that no node has left.
    pub async fn settled(&mut self, count: usize) {
        self.settled_without(&[], count).await;
    }

    /// Insists that every node that was not ended by the test still runs.
    pub fn assert_running(&mut self, numbers: &[usize]) {
        for number in numbers {
            assert!(self.nodes[*number].is_running(), "node {number} ended: {}", self.nodes[*number].tail());
        }
    }

    /// What a node holds.
    pub async fn dump(&self, number: usize) -> Dump {
        Dump::of(&self.http(number)).await
    }

    fn running(&mut self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|number| self.nodes[*number].is_running()).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (number, node) in self.nodes.iter().enumerate() {
                eprintln!("---- the end of what node {number} said:\n{}", node.tail());
            }
        }
    }
}

/// Waits until a node serves; false if its port was taken.
async fn ready(node: &mut NodeProcess) -> bool {
    let http = node.http();
    let is_ready = until("a node that serves", PATIENCE, async || {
        if !node.is_running() {
            return Ok(false);
        }
        match http.send(reqwest::Method::GET, "/readyz?verbose", &[], "").await {
            Ok(answer) if answer.status == 200 => Ok(true),
            Ok(answer) => Err(format!("{}\n{}", answer.text(), node.tail())),
            Err(error) => Err(format!("{error}\n{}", node.tail())),
        }
    })
    .await;
    if !is_ready {
        let status = node.ended("while starting", PATIENCE).await;
        assert_eq!(status.code(), Some(PORT_TAKEN), "a node ended: {}", node.tail());
    }
    is_ready
}

async fn ring(http: &Http) -> Result<Value, String> {
    let answer = http.send(reqwest::Method::GET, "/v1/ring", &[], "").await;
    Ok(answer.map_err(|error| error.to_string())?.json())
}

fn up(ring: &Value) -> usize {
    ring["hosts"].as_array().map_or(0, |hosts| hosts.iter().filter(|host| host["state"] == "up").count())
}
