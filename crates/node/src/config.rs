use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// How a node runs.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// Where it keeps its identity and its data; one process at a time.
    pub data_dir: PathBuf,
    /// Where it listens for other nodes and SDK clients; port 0 picks one.
    pub bind: SocketAddr,
    /// The address that other nodes are told, `host:port` or a multiaddr; by default the one bound.
    pub advertise: Option<String>,
    /// The address of its HTTP gateway as other nodes are told it; empty when it has none.
    pub http: String,
    /// Peers to join through, any of which is enough; empty founds a ring, or resumes the one in `data_dir`.
    pub join: Vec<String>,
    /// Failure domain.
    pub zone: String,
    /// Names the machine; by default the node's own identity.
    pub host_label: Option<String>,
    /// Hash of the ring's secret; every member has the same, or none has one.
    pub secret: Option<[u8; 32]>,
    /// After how long without an answer a node is routed around.
    pub suspect_after: Duration,
    /// After how long a suspect node is replaced.
    pub gone_after: Duration,
    /// For how long deleted keys are remembered at least; `None`: for ever.
    pub tombstones_kept: Option<Duration>,
    /// Transactions and blocks are refused while the disk has less free space than this, in bytes.
    pub keep_free: u64,
    /// How many bytes of what is on the disk are read and checked again per second; `None`: only when it is asked for.
    pub scrub_rate: Option<u64>,
    /// What to found a ring with; ignored when joining or resuming one.
    pub founding: Founding,
}

/// What is fixed when a ring is founded.
#[derive(Debug, Clone, Copy)]
pub struct Founding {
    /// On how many hosts every key and block is kept.
    pub replicas: u8,
    /// Into how many slots the ring is divided: a power of two.
    pub slots: u32,
    /// Virtual nodes per node.
    pub virtual_nodes: u16,
}

impl Default for Founding {
    fn default() -> Self {
        Self { replicas: 3, slots: 1024, virtual_nodes: 8 }
    }
}
