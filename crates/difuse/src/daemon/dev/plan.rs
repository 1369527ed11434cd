//! Which node runs where.

use std::{
    collections::BTreeSet,
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
};

use crate::daemon::{
    exit::Failure,
    settings::{DaemonConfig, Effective, Origin, data_folder},
};

/// Settings that differ from node to node; the others are handed to every node as they are.
const OF_ONE_NODE: [&str; 7] = ["http", "resp", "bind", "join", "advertise", "data_dir", "host_label"];

/// A local ring.
pub struct Plan {
    /// The folder that holds everything.
    pub folder: PathBuf,
    /// The nodes, by number.
    pub nodes: Vec<PlannedNode>,
    /// The settings that all nodes share, as arguments.
    pub shared_arguments: Vec<String>,
    /// What deviates from what was asked for, for people.
    pub remarks: Vec<String>,
}

/// One node of a local ring.
pub struct PlannedNode {
    /// From 1.
    pub number: usize,
    /// Where its HTTP gateway listens.
    pub http: SocketAddr,
    /// Where it serves clients of Redis, if it does.
    pub resp: Option<SocketAddr>,
    /// Where it listens for other nodes.
    pub bind: SocketAddr,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Where its log lines go.
    pub log: PathBuf,
    /// Through which node it joins; the one that founds, or resumes first, has none.
    pub join: Option<SocketAddr>,
}

impl PlannedNode {
    /// The arguments that only this node has.
    pub fn arguments(&self) -> Vec<String> {
        vec![
            format!("--http={}", self.http),
            format!("--resp={}", self.resp_text()),
            format!("--bind={}", self.bind),
            format!("--data-dir={}", self.data_dir.display()),
            format!("--join={}", self.join.map(|address| address.to_string()).unwrap_or_default()),
            "--advertise=".into(),
            "--host-label=".into(),
        ]
    }
}

impl PlannedNode {
    /// Where it serves clients of Redis, as in the setting.
    pub fn resp_text(&self) -> String {
        self.resp.map_or("off".into(), |address| address.to_string())
    }
}

/// Chooses folders and free ports for `count` nodes, beginning with the ports of `config`.
pub fn make_plan(count: usize, config: &DaemonConfig, settings: &[Effective]) -> Result<Plan, Failure> {
    let folder = folder_of(settings);
    fs::create_dir_all(&folder)
        .map_err(|error| Failure::Directory(format!("cannot create {}: {error}", folder.display())))?;
    // Children are started with the folder as it is written, wherever they are restarted from.
    let folder = fs::canonicalize(&folder).unwrap_or(folder);
    let mut ports = Ports::default();
    let mut nodes = Vec::new();
    for number in 1..=count {
        nodes.push(PlannedNode {
            number,
            http: ports.next_free(config.http, number)?,
            resp: config.resp.map(|address| ports.next_free(address, number)).transpose()?,
            bind: ports.next_free(config.node.bind, number)?,
            data_dir: folder.join(format!("node-{number}")),
            log: folder.join(format!("node-{number}.log")),
            join: None,
        });
    }
    let founder = nodes.iter().position(|node| has_data(&node.data_dir)).unwrap_or_default();
    let address = nodes[founder].bind;
    for node in &mut nodes {
        node.join = (node.bind != address).then_some(address);
    }
    Ok(Plan { folder, nodes, shared_arguments: shared_arguments(settings), remarks: ports.remarks })
}

fn folder_of(settings: &[Effective]) -> PathBuf {
    let named = settings.iter().find(|setting| setting.name == "data_dir" && setting.origin != Origin::Default);
    named.map_or_else(|| data_folder("difuse-dev"), |setting| PathBuf::from(&setting.value))
}

fn shared_arguments(settings: &[Effective]) -> Vec<String> {
    let shared = settings.iter().filter(|setting| !OF_ONE_NODE.contains(&setting.name));
    let arguments = shared.filter_map(|setting| match setting.name {
        "open" => (setting.value == "true").then(|| "--open".to_string()),
        name => Some(format!("--{}={}", name.replace('_', "-"), setting.value)),
    });
    arguments.collect()
}

fn has_data(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

/// Hands out ports, each once.
#[derive(Default)]
struct Ports {
    given: BTreeSet<u16>,
    remarks: Vec<String>,
}

impl Ports {
    /// The port of node `number` (from 1) counted from `first`, or the next one above it that is free.
    fn next_free(&mut self, first: SocketAddr, number: usize) -> Result<SocketAddr, Failure> {
        let wanted = u16::try_from(usize::from(first.port()) + number - 1).unwrap_or(u16::MAX);
        let is_free =
            |port: &u16| !self.given.contains(port) && TcpListener::bind(SocketAddr::new(first.ip(), *port)).is_ok();
        let port = (wanted..=u16::MAX).find(is_free);
        let port = port.ok_or_else(|| Failure::Other(format!("no free port above {wanted} on {}", first.ip())))?;
        if port != wanted {
            self.remarks.push(format!("port {wanted} is taken: node {number} uses {port}"));
        }
        self.given.insert(port);
        Ok(SocketAddr::new(first.ip(), port))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener};

    use super::{Plan, Ports, make_plan};
    use crate::daemon::settings::{DaemonConfig, merge};

    fn plan(folder: &std::path::Path, first_port: u16) -> Plan {
        let flags = vec![
            ("data_dir", folder.display().to_string()),
            ("http", format!("127.0.0.1:{first_port}")),
            ("resp", format!("127.0.0.1:{}", first_port + 50)),
            ("bind", format!("127.0.0.1:{}", first_port + 100)),
            ("replicas", "2".to_string()),
        ];
        let settings = merge(flags, std::iter::empty(), None, "/unused").unwrap();
        make_plan(3, &DaemonConfig::from_settings(&settings).unwrap(), &settings).unwrap()
    }

    #[test]
    fn the_first_node_founds_unless_another_has_data() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = plan(folder.path(), 21_000);
        assert_eq!(fresh.nodes[0].join, None);
        assert_eq!(fresh.nodes[2].join, Some(fresh.nodes[0].bind));
        fs::create_dir_all(fresh.nodes[1].data_dir.join("anything")).unwrap();
        let resumed = plan(folder.path(), 21_000);
        assert_eq!(resumed.nodes[1].join, None);
        assert_eq!(resumed.nodes[0].join, Some(resumed.nodes[1].bind));
    }

    #[test]
    fn nodes_share_what_is_not_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(folder.path(), 21_300);
        assert!(plan.shared_arguments.contains(&"--replicas=2".to_string()), "{:?}", plan.shared_arguments);
        assert!(!plan.shared_arguments.iter().any(|argument| argument.starts_with("--http")));
    }

    #[test]
    fn taken_ports_are_passed_over_and_told() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let mut ports = Ports::default();
        let found = ports.next_free(address, 1).unwrap();
        assert!(found.port() > address.port());
        assert!(ports.remarks[0].contains("is taken"));
        assert_ne!(ports.next_free(found, 1).unwrap(), found);
    }
}
