//! The nodes: real processes, each at a place of the network.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use difuse_tests::{Dump, Http, NodeProcess, NodeSettings};
use reqwest::Method;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    gateways::Gateways,
    journal::Journal,
    network::{Cuts, Network, Place},
    sandbox,
};

/// How long a node may take to stop when asked to, or to serve when started.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether something has come about. Each look at the ring asks every node about all others.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How nodes are run.
#[derive(Debug, Clone)]
pub struct RingOptions {
    /// `--suspect-after`.
    pub suspect_after: Duration,
    /// `--gone-after`.
    pub gone_after: Duration,
    /// `--slots`.
    pub slots: u32,
    /// `--log`.
    pub log: String,
}

/// What the process at a place is made to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Run.
    Up,
    /// Nothing: it was killed.
    Down,
    /// Hang.
    Paused,
}

struct Node {
    process: NodeProcess,
    state: State,
}

/// All nodes of one ring.
pub struct Ring {
    network: Network,
    program: PathBuf,
    options: RingOptions,
    /// Where data directories and logs are.
    folder: PathBuf,
    nodes: BTreeMap<Place, Node>,
    /// How many nodes have lived at each place.
    lives: BTreeMap<Place, u32>,
    cuts: Cuts,
    faketime: Option<PathBuf>,
    journal: Arc<Journal>,
    gateways: Arc<Gateways>,
}

impl Ring {
    /// A ring without nodes.
    pub fn new(
        network: Network,
        program: PathBuf,
        options: RingOptions,
        folder: &Path,
        journal: Arc<Journal>,
        gateways: Arc<Gateways>,
    ) -> std::io::Result<Self> {
        let data = folder.join("data");
        if data.exists() {
            fs::remove_dir_all(&data)?;
        }
        fs::create_dir_all(&data)?;
        let faketime = sandbox::faketime().filter(|_| network.has_cables());
        let folder = folder.canonicalize()?;
        Ok(Self {
            network,
            program,
            options,
            folder,
            nodes: BTreeMap::new(),
            lives: BTreeMap::new(),
            cuts: Cuts::new(),
            faketime,
            journal,
            gateways,
        })
    }

    /// The places of all nodes, running or not.
    pub fn places(&self) -> Vec<Place> {
        self.nodes.keys().copied().collect()
    }

    /// The places of those that are in this state.
    pub fn in_state(&self, state: State) -> Vec<Place> {
        self.nodes.iter().filter(|(_, node)| node.state == state).map(|(place, _)| *place).collect()
    }

    /// The network that they are on.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Where its files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// After how long a silent node is replaced.
    pub fn gone_after(&self) -> Duration {
        self.options.gone_after
    }

    /// Gives nodes that are started from now on the right clock, for good: the other one costs time.
    pub fn without_clocks(&mut self) {
        self.faketime = None;
    }

    /// Whether clocks can be set.
    pub fn has_clocks(&self) -> bool {
        self.faketime.is_some()
    }

    /// The gateway of a node.
    pub fn http(&self, place: Place) -> Http {
        Http::new(self.network.http(place))
    }

    /// Starts a new node, without data, at a place where none is; it joins through any of the others.
    pub fn start(&mut self, place: Place) {
        let life = self.lives.entry(place).or_default();
        *life += 1;
        let name = format!("node-{place}-{life}");
        let join: Vec<_> = self.nodes.keys().map(|other| self.network.bind(*other).to_string()).collect();
        let RingOptions { suspect_after, gone_after, slots, log } = &self.options;
        let mut more = vec![
            format!("--suspect-after={}", humantime::format_duration(*suspect_after)),
            format!("--gone-after={}", humantime::format_duration(*gone_after)),
            format!("--slots={slots}"),
            // A clock that jumps by weeks ages them by weeks; and every chain is to be seen whole at the end.
            "--tombstones-kept=forever".into(),
            format!("--log={log}"),
        ];
        if self.network.has_cables() {
            more.push("--open".into());
        }
        let settings = NodeSettings {
            resp: Some(self.network.resp(place)),
            http: self.network.http(place),
            bind: self.network.bind(place),
            data_dir: self.folder.join("data").join(&name),
            join: (!join.is_empty()).then(|| join.join(",")),
            more,
            program: self.program.clone(),
            through: self.entrance(place),
        };
        let process = NodeProcess::start_with_log(settings, self.folder.join(format!("{name}.log")));
        self.nodes.insert(place, Node { process, state: State::Up });
    }

    fn entrance(&self, place: Place) -> Vec<String> {
        let mut words = self.network.entrance(place);
        if let Some(library) = &self.faketime {
            let clock = self.clock(place);
            // Without the file the clock is right. Timers count on a clock that nobody sets.
            words.extend([
                "env".into(),
                format!("LD_PRELOAD={}", library.display()),
                format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
                "FAKETIME_CACHE_DURATION=1".into(),
                "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            ]);
            self.set_clock(place, 0);
        }
        words
    }

    fn clock(&self, place: Place) -> PathBuf {
        self.folder.join("data").join(format!("clock-{place}"))
    }

    /// Sets a node's wall clock so many seconds ahead of the right time, or behind it.
    pub fn set_clock(&self, place: Place, seconds: i64) {
        if let Err(error) = fs::write(self.clock(place), format!("{seconds:+}\n")) {
            self.journal.say(&format!("the clock of node {place} cannot be set: {error}"));
        }
    }

    /// kill -9.
    pub fn kill(&mut self, place: Place) {
        if let Some(node) = self.nodes.get_mut(&place).filter(|node| node.state != State::Down) {
            node.process.kill9();
            node.state = State::Down;
        }
    }

    /// Starts a killed node again, with its data.
    pub fn restart(&mut self, place: Place) {
        if let Some(node) = self.nodes.get_mut(&place).filter(|node| node.state == State::Down) {
            node.process.start_again();
            node.state = State::Up;
        }
    }

    /// SIGSTOP.
    pub fn pause(&mut self, place: Place) {
        if let Some(node) = self.nodes.get_mut(&place).filter(|node| node.state == State::Up) {
            node.process.pause();
            node.state = State::Paused;
        }
    }

    /// SIGCONT.
    pub fn resume(&mut self, place: Place) {
        if let Some(node) = self.nodes.get_mut(&place).filter(|node| node.state == State::Paused) {
            node.process.resume();
            node.state = State::Up;
        }
    }

    /// Forgets a node that was killed, and its data: its host is to be replaced.
    pub fn wipe(&mut self, place: Place) {
        self.kill(place);
        if let Some(node) = self.nodes.remove(&place)
            && let Err(error) = fs::remove_dir_all(&node.process.settings.data_dir)
        {
            self.journal.say(&format!("the data of node {place} cannot be removed: {error}"));
        }
    }

    /// Stops a node that has left as SIGTERM does, and forgets it.
    pub async fn stop_for_good(&mut self, place: Place) {
        self.gateways.remove(place);
        self.resume(place);
        if let Some(node) = self.nodes.get_mut(&place).filter(|node| node.state == State::Up) {
            let status = node.process.stop().await;
            node.state = State::Down;
            if !status.success() {
                self.journal.anomaly(format!("node {place} was asked to stop and ended with {status}"));
            }
        }
        self.wipe(place);
    }

    /// Cuts these cables, too.
    pub fn cut(&mut self, cuts: &Cuts) {
        self.cuts.extend(cuts);
        self.apply_cuts();
    }

    /// Mends these.
    pub fn mend(&mut self, cuts: &Cuts) {
        self.cuts.retain(|cut| !cuts.contains(cut));
        self.apply_cuts();
    }

    fn apply_cuts(&self) {
        if let Err(error) = self.network.cut(&self.cuts) {
            self.journal.anomaly(format!("cables cannot be cut: {error}"));
        }
    }

    /// Ends every fault that does not end by itself.
    pub fn heal(&mut self) {
        self.cuts.clear();
        self.apply_cuts();
        for place in self.in_state(State::Paused) {
            self.resume(place);
        }
        for place in self.in_state(State::Down) {
            self.restart(place);
        }
        if self.has_clocks() {
            self.places().into_iter().for_each(|place| self.set_clock(place, 0));
        }
    }

    /// Nodes that ended though nobody ended them: where, and the end of what they said.
    pub fn fallen(&mut self) -> Vec<String> {
        let mut fallen = Vec::new();
        for (place, node) in &mut self.nodes {
            if node.state != State::Down && !node.process.is_running() {
                fallen.push(format!("node {place} ended by itself: {}", node.process.tail()));
            }
        }
        fallen
    }

    /// Waits until a node serves; else says why it does not.
    pub async fn ready(&mut self, place: Place) -> Result<(), String> {
        let http = self.http(place).with_timeout(Duration::from_secs(2));
        self.wait(PATIENCE, async |_| match http.send(Method::GET, "/readyz?verbose", &[], "").await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("node {place} does not serve: {}", answer.text())),
            Err(error) => Err(format!("node {place} does not serve: {error:?}")),
        })
        .await?;
        self.gateways.add(place, self.http(place));
        Ok(())
    }

    /// Waits until all nodes say that the ring has just them, all up, and is settled; else returns what one says.
    pub async fn settled(&mut self, patience: Duration) -> Result<(), String> {
        let places = self.places();
        let gateways: Vec<_> =
            places.iter().map(|place| (*place, self.http(*place).with_timeout(Duration::from_secs(4)))).collect();
        self.wait(patience, async |_| {
            for (place, http) in &gateways {
                let ring = view(http).await.map_err(|error| format!("node {place}: {error}"))?;
                let hosts = ring["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
                let up = hosts.iter().filter(|host| host["state"] == "up").count();
                if ring["settled"] != true || up != gateways.len() {
                    return Err(format!("node {place} says {ring}"));
                }
            }
            Ok(())
        })
        .await
    }

    /// What keeps the ring from being settled, as far as can be seen: what each node says, and what is where it should
    /// not be.
    pub async fn unsettled(&self) -> String {
        let mut told = Vec::new();
        for place in self.places() {
            told.push(match view(&self.http(place)).await {
                Ok(ring) => format!(
                    "node {place} ({}): settled {}, short {}, moving {}",
                    ring["node"], ring["settled"], ring["slots_short"], ring["moving"]
                ),
                Err(reason) => format!("node {place}: {reason}"),
            });
        }
        let nodes: Vec<_> = self.places().into_iter().map(|place| self.http(place)).collect();
        let held = tokio::spawn(async move {
            let mut dumps = Vec::new();
            for node in &nodes {
                dumps.push(Dump::of(node).await);
            }
            Dump::on_exactly(3, &dumps)
        });
        let held = match held.await {
            Ok(Ok(())) => "everything is where it should be".into(),
            Ok(Err(reason)) => reason,
            Err(error) => format!("a node does not say what it holds: {error}"),
        };
        format!("{}; {held}", told.join("; "))
    }

    async fn wait(
        &mut self,
        patience: Duration,
        mut check: impl AsyncFnMut(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let reason = match check(self).await {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            };
            if let Some(fallen) = self.fallen().into_iter().next() {
                return Err(fallen);
            }
            if start.elapsed() > patience {
                return Err(format!("not within {patience:?}: {reason}"));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Removes all data; logs stay.
    pub fn remove_data(mut self) {
        self.nodes.clear();
        // What stays is removed by the next run with this seed.
        let _ = fs::remove_dir_all(self.folder.join("data"));
    }
}

/// The ring as a node sees it.
pub async fn view(http: &Http) -> Result<Value, String> {
    let answer = http.send(Method::GET, "/v1/ring", &[], "").await.map_err(|error| format!("{error:?}"))?;
    if answer.status == 200 { Ok(answer.json()) } else { Err(answer.text()) }
}
