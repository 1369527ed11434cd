//! Where nodes live: each in a network namespace behind a bridge, or all on loopback.

use std::{
    collections::BTreeSet,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    process::{Command, Stdio},
};

use difuse_tests::free_port;

/// A place for a node: it has addresses, whoever lives there. Numbered from 1.
pub type Place = u8;

/// How many places there are.
pub const PLACES: Place = 8;
/// The nodes' addresses end with their place, that of the bridge with 254.
const NETWORK: [u8; 3] = [10, 77, 0];
const HTTP_PORT: u16 = 9090;
const RING_PORT: u16 = 4624;
const RESP_PORT: u16 = 6379;

/// Packets from the first place to the second that are dropped.
pub type Cuts = BTreeSet<(Place, Place)>;

/// Addresses, and cables that can be cut.
pub enum Network {
    /// One namespace per place, on a bridge in the namespace of this process, where the clients are.
    Namespaces,
    /// 127.0.0.1.
    Loopback {
        /// Why there are no namespaces.
        reason: String,
        /// The ports of each place: of the gateway, of the ring, and for clients of Redis.
        ports: Vec<(u16, u16, u16)>,
    },
}

impl Network {
    /// Makes the namespaces. This process must be in namespaces of its own.
    pub fn in_namespaces() -> Result<Self, String> {
        // `ip netns` keeps names there; this mount is seen by this process and its children alone.
        command("mount", &["-t", "tmpfs", "none", "/run"])?;
        let [a, b, c] = NETWORK;
        ip(&format!(
            "link set lo up\nlink add bridge0 type bridge\naddr add {a}.{b}.{c}.254/24 dev bridge0\nlink set bridge0 up"
        ))?;
        for place in 1..=PLACES {
            let name = namespace(place);
            command("ip", &["netns", "add", &name])?;
            ip(&format!(
                "link add {} type veth peer name eth0 netns {name}\nlink set {} master bridge0 up",
                interface(place),
                interface(place)
            ))?;
            let inside = format!("addr add {a}.{b}.{c}.{place}/24 dev eth0\nlink set eth0 up\nlink set lo up");
            run(Command::new("ip").args(["-n", &name, "-batch", "-"]), &inside)?;
        }
        Ok(Self::Namespaces)
    }

    /// No namespaces, because of `reason`.
    pub fn on_loopback(reason: &str) -> Self {
        let ports = (0..PLACES).map(|_| (free_port(), free_port(), free_port())).collect();
        Self::Loopback { reason: reason.into(), ports }
    }

    /// Whether cables can be cut.
    pub fn has_cables(&self) -> bool {
        matches!(self, Self::Namespaces)
    }

    /// What is missing for all faults, if anything is.
    pub fn shortcoming(&self) -> Option<&str> {
        match self {
            Self::Namespaces => None,
            Self::Loopback { reason, .. } => Some(reason),
        }
    }

    /// Where the gateway of the node at `place` listens.
    pub fn http(&self, place: Place) -> SocketAddr {
        self.address(place, HTTP_PORT, |ports| ports.0)
    }

    /// Where it listens for other nodes.
    pub fn bind(&self, place: Place) -> SocketAddr {
        self.address(place, RING_PORT, |ports| ports.1)
    }

    /// Where it listens for clients of Redis.
    pub fn resp(&self, place: Place) -> SocketAddr {
        self.address(place, RESP_PORT, |ports| ports.2)
    }

    fn address(&self, place: Place, port: u16, choose: fn(&(u16, u16, u16)) -> u16) -> SocketAddr {
        match self {
            Self::Namespaces => {
                let [a, b, c] = NETWORK;
                (Ipv4Addr::new(a, b, c, place), port).into()
            }
            Self::Loopback { ports, .. } => {
                let chosen = ports.get(usize::from(place) - 1).map(choose).unwrap_or_default();
                (Ipv4Addr::LOCALHOST, chosen).into()
            }
        }
    }

    /// The words with which a program is started at `place`.
    pub fn entrance(&self, place: Place) -> Vec<String> {
        match self {
            Self::Namespaces => ["ip", "netns", "exec", &namespace(place)].map(String::from).to_vec(),
            Self::Loopback { .. } => Vec::new(),
        }
    }

    /// Drops packets so from now on, and no others: in one step.
    pub fn cut(&self, cuts: &Cuts) -> Result<(), String> {
        let Self::Namespaces = self else { return Ok(()) };
        let [a, b, c] = NETWORK;
        let pairs =
            cuts.iter().map(|(from, to)| format!("ip saddr {a}.{b}.{c}.{from} ip daddr {a}.{b}.{c}.{to} drop\n"));
        let rules: String = pairs.collect();
        let table = format!(
            "table bridge cuts\ndelete table bridge cuts\ntable bridge cuts {{\nchain forward {{\ntype filter hook \
             forward priority 0;\n{rules}}}\n}}\n"
        );
        run(Command::new("nft").args(["-f", "-"]), &table)
    }

    /// How many bytes the node at `place` has received and sent since its namespace was made, headers included; none on
    /// loopback.
    pub fn traffic(&self, place: Place) -> Option<(u64, u64)> {
        let Self::Namespaces = self else { return None };
        let output = Command::new("ip").args(["-s", "-j", "link", "show", &interface(place)]).output().ok()?;
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let bytes = |direction: &str| links[0]["stats64"][direction]["bytes"].as_u64();
        // What the bridge's end of the cable sends is what the node receives.
        Some((bytes("tx")?, bytes("rx")?))
    }
}

fn namespace(place: Place) -> String {
    format!("node{place}")
}

fn interface(place: Place) -> String {
    format!("cable{place}")
}

fn ip(commands: &str) -> Result<(), String> {
    run(Command::new("ip").args(["-batch", "-"]), commands)
}

fn command(program: &str, arguments: &[&str]) -> Result<(), String> {
    run(Command::new(program).args(arguments), "")
}

fn run(command: &mut Command, input: &str) -> Result<(), String> {
    let described = format!("{command:?}");
    let fail = |error: std::io::Error| format!("{described}: {error}");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(fail)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(fail)?;
    }
    let output = child.wait_with_output().map_err(fail)?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{described}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
