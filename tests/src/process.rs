use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Http, binaries, free_port, until};

/// How much of a node's log a failing test shows, in bytes.
const TAIL_BYTES: usize = 4000;
/// How long a node may take to stop when asked.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// How a node is started.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its HTTP gateway.
    pub http: SocketAddr,
    /// Its address for other nodes.
    pub bind: SocketAddr,
    /// Where it serves clients of Redis; `None`: nowhere.
    pub resp: Option<SocketAddr>,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// What it joins through.
    pub join: Option<String>,
    /// Further arguments.
    pub more: Vec<String>,
    /// The program.
    pub program: PathBuf,
    /// What starts it, as in `ip netns exec NAME`: words that stand before it and become it.
    pub through: Vec<String>,
}

impl NodeSettings {
    /// Free ports, and a data directory in `folder`.
    pub fn new(folder: &Path, name: &str, join: Option<String>) -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let more = ["--slots", "32"].map(String::from).to_vec();
        let (data_dir, program) = (folder.join(name), binaries::difused().to_path_buf());
        Self { http: address(), bind: address(), resp: None, data_dir, join, more, program, through: Vec::new() }
    }
}

/// A `difused`, running or not; killed when dropped.
pub struct NodeProcess {
    /// What it is started with.
    pub settings: NodeSettings,
    log: PathBuf,
    child: Option<Child>,
}

impl NodeProcess {
    /// Starts it.
    pub fn start(settings: NodeSettings) -> Self {
        let log = settings.data_dir.with_extension("log");
        Self::start_with_log(settings, log)
    }

    /// Starts it with a file of its own for what it says on standard error.
    pub fn start_with_log(settings: NodeSettings, log: PathBuf) -> Self {
        let mut node = Self { settings, log, child: None };
        node.start_again();
        node
    }

    /// Starts it again after it ended, as it was started first.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let mut words = self.settings.through.iter().map(OsStr::new).chain([self.settings.program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        binaries::without_settings(&mut command);
        command
            .arg(format!("--http={}", self.settings.http))
            .arg(format!("--bind={}", self.settings.bind))
            .arg(format!("--resp={}", self.settings.resp.map_or("off".into(), |address| address.to_string())))
            .arg(format!("--data-dir={}", self.settings.data_dir.display()))
            .arg(format!("--join={}", self.settings.join.as_deref().unwrap_or_default()))
            .args(&self.settings.more)
            // Whatever becomes of the test: its end ends the node.
            .arg("--stop-with-stdin")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        self.child = Some(command.spawn().expect("difused must start"));
    }

    /// Its gateway.
    pub fn http(&self) -> Http {
        Http::new(self.settings.http)
    }

    /// Kills it without warning, as `kill -9` does.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a process of ours can be killed");
        child.wait().expect("it ends");
    }

    /// Asks it to stop (SIGTERM) and waits until it has.
    pub async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended("asked to stop", STOP_PATIENCE).await
    }

    /// Makes it hang: it keeps its connections and answers nothing (SIGSTOP).
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a process of ours can be signalled");
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self, why: &str, patience: Duration) -> ExitStatus {
        let what = format!("the end of {}, {why}", self.settings.data_dir.display());
        let status = until(&what, patience, async || {
            let child = self.child.as_mut().expect("it runs");
            child.try_wait().expect("a child of ours").ok_or_else(|| self.tail())
        })
        .await;
        self.child = None;
        status
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// All that it said on standard error.
    pub fn stderr(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of that.
    pub fn tail(&self) -> String {
        let text = self.stderr();
        let start = text.len().saturating_sub(TAIL_BYTES);
        let start = (start..text.len()).find(|index| text.is_char_boundary(*index)).unwrap_or_default();
        text[start..].to_string()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
