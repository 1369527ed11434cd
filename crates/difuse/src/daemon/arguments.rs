//! What the command line of `difused` accepts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

const AFTER_HELP: &str = "\
Every option can also be given as a variable (DIFUSE_HTTP, DIFUSE_DATA_DIR, …) or in a TOML file (http = \"…\",
data_dir = \"…\"): --config, else ./difuse.toml, else difuse/difuse.toml in the platform's folder for configuration.
The command line wins over variables, variables over the file. `difused config` shows what is in force and why.

Examples:
  A local ring of three nodes to try things with:
    difused dev
  Found a ring, or go on with the one in the data directory:
    difused
  A second node on the same machine:
    difused -a 127.0.0.1:9091 -b 127.0.0.1:4625 --resp 127.0.0.1:6380 \\
      -j 127.0.0.1:4624
  A node that other machines reach:
    difused -b 0.0.0.0:4624 --advertise ring1.example.net:4624 \\
      --secret-file /etc/difuse/secret

Exit codes:
  0 stopped as asked
  1 other failure
  2 wrong usage or configuration
  3 a port is taken
  4 the data directory is in use or unusable
  5 storage failed while running
  6 the ring refused this node";

/// A node of a difuse ring: a replicated, verifiable store for keys, blocks and files.
#[derive(Debug, Parser)]
#[command(name = "difused", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = false)]
pub struct Arguments {
    #[command(flatten)]
    pub flags: Flags,
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do instead of running one node.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a local ring of several nodes, one process each, to try things with; it keeps its data for the next start.
    Dev {
        /// How many nodes (1–32).
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=32))]
        nodes: u8,
    },
    /// Print which settings are in force, and where each of them came from.
    Config {
        /// As JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Print a script that completes this command's arguments in a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Settings as given on the command line; what is absent comes from variables, the file or the defaults.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    /// A TOML file with settings.
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where the HTTP gateway listens [default: 127.0.0.1:9090].
    #[arg(short = 'a', long, global = true, value_name = "IP:PORT")]
    pub http: Option<String>,
    /// Where clients of Redis are served, in its protocol, or off [default: 127.0.0.1:6379].
    #[arg(long, global = true, value_name = "IP:PORT")]
    pub resp: Option<String>,
    /// A file with the password that clients of Redis must give (AUTH); needed when they are served on other than loopback
    /// [default: none].
    #[arg(long, global = true, value_name = "FILE")]
    pub resp_password_file: Option<String>,
    /// How many databases clients of Redis can SELECT (1–65536); database n is the namespace named n [default: 16].
    #[arg(long, global = true, value_name = "N")]
    pub resp_databases: Option<String>,
    /// Where other nodes and SDK clients reach this node [default: 127.0.0.1:4624].
    #[arg(short, long, global = true, value_name = "IP:PORT")]
    pub bind: Option<String>,
    /// Nodes to join through, any one is enough: host:port or multiaddr, comma-separated [default: found a ring].
    #[arg(short, long, global = true, value_name = "ADDRESSES")]
    pub join: Option<String>,
    /// Give up joining after this long [default: never].
    #[arg(long, global = true, value_name = "DURATION")]
    pub join_timeout: Option<String>,
    /// The address that other nodes are told [default: the one bound].
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Where the node keeps its identity and data [default: difuse in the platform's folder for data;
    /// difuse-PORT with another port than 4624].
    #[arg(long, global = true, value_name = "FOLDER")]
    pub data_dir: Option<String>,
    /// Failure domain; replicas are spread over zones first.
    #[arg(long, global = true, value_name = "NAME")]
    pub zone: Option<String>,
    /// Names the machine; nodes with one label never hold two replicas of one thing [default: the node's identity].
    #[arg(long, global = true, value_name = "NAME")]
    pub host_label: Option<String>,
    /// After how long without an answer a node is routed around [default: 1s].
    #[arg(long, global = true, value_name = "DURATION")]
    pub suspect_after: Option<String>,
    /// After how long a silent node is replaced [default: 5m].
    #[arg(long, global = true, value_name = "DURATION")]
    pub gone_after: Option<String>,
    /// For how long the history of a deleted key is kept at least, before the key is forgotten as if it had never been
    /// written, or `forever` [default: 24h].
    #[arg(long, global = true, value_name = "DURATION")]
    pub tombstones_kept: Option<String>,
    /// Refuse writes while the disk of the data directory has less free space than this, and take over no more slots
    /// below twice as much (0, 500MB, 256MiB, 4GiB, …) [default: 256MiB].
    #[arg(long, global = true, value_name = "SIZE")]
    pub keep_free: Option<String>,
    /// Read what is on the disk again and check it all the time, this many bytes per second (4MiB, 1GB, …) or off; what
    /// is damaged is repaired from other nodes [default: 8MiB].
    #[arg(long, global = true, value_name = "SIZE")]
    pub scrub_rate: Option<String>,
    /// How often the ring deletes blocks that nothing refers to any more, or off (the node that leads the first slot does
    /// it) [default: 24h].
    #[arg(long, global = true, value_name = "DURATION")]
    pub gc_every: Option<String>,
    /// A file with the ring's secret, the same at every node; needed when bound to other than loopback.
    #[arg(long, global = true, value_name = "FILE")]
    pub secret_file: Option<String>,
    /// Let anybody who reaches the port join, without a secret.
    #[arg(long, global = true)]
    pub open: bool,
    /// On how many hosts everything is kept; fixed when founding (1–15) [default: 3].
    #[arg(long, global = true, value_name = "N")]
    pub replicas: Option<String>,
    /// Into how many slots the ring is divided; fixed when founding (a power of two up to 65536) [default: 1024].
    #[arg(long, global = true, value_name = "N")]
    pub slots: Option<String>,
    /// Virtual nodes per node; fixed when founding (1–256) [default: 8].
    #[arg(long, global = true, value_name = "N")]
    pub vnodes: Option<String>,
    /// Who stands behind what is read over HTTP and by clients of Redis when they name no level: lazy, leader, quorum or all
    /// [default: quorum].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub consistency_read: Option<String>,
    /// The same for what is written [default: quorum].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub consistency_write: Option<String>,
    /// The same for reading keys, files and directories alone [default: as for reads].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub consistency_stat: Option<String>,
    /// The same for writing keys, files and directories alone [default: as for writes].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub consistency_set_inode: Option<String>,
    /// The same for deleting keys, files and directories alone [default: as for writes].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub consistency_delete_inode: Option<String>,
    /// The same for reading blocks alone [default: as for reads].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub consistency_get_block: Option<String>,
    /// The same for storing blocks alone [default: as for writes].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub consistency_set_block: Option<String>,
    /// The same for deleting blocks alone [default: as for writes].
    #[arg(long, global = true, value_name = "LEVEL")]
    pub consistency_delete_block: Option<String>,
    /// What is logged: a level (error, warn, info, debug, trace) or filters such as info,difuse_node=debug
    /// [default: info,libp2p=warn].
    #[arg(long, global = true, value_name = "FILTER")]
    pub log: Option<String>,
    /// How it is logged: text or json [default: text].
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Stop when standard input ends: how `difused dev` stops its nodes, and they outlive it in no case.
    #[arg(long, hide = true)]
    pub stop_with_stdin: bool,
}

impl Flags {
    /// The settings given, by name.
    pub fn given(&self) -> Vec<(&'static str, String)> {
        let open = self.open.then(|| "true".to_string());
        let data = [
            ("http", &self.http),
            ("resp", &self.resp),
            ("resp_password_file", &self.resp_password_file),
            ("resp_databases", &self.resp_databases),
            ("bind", &self.bind),
            ("join", &self.join),
            ("join_timeout", &self.join_timeout),
            ("advertise", &self.advertise),
            ("data_dir", &self.data_dir),
            ("zone", &self.zone),
            ("host_label", &self.host_label),
            ("suspect_after", &self.suspect_after),
            ("gone_after", &self.gone_after),
            ("tombstones_kept", &self.tombstones_kept),
            ("keep_free", &self.keep_free),
            ("scrub_rate", &self.scrub_rate),
            ("gc_every", &self.gc_every),
            ("secret_file", &self.secret_file),
            ("open", &open),
            ("replicas", &self.replicas),
            ("slots", &self.slots),
            ("vnodes", &self.vnodes),
            ("consistency_read", &self.consistency_read),
            ("consistency_write", &self.consistency_write),
            ("consistency_stat", &self.consistency_stat),
            ("consistency_set_inode", &self.consistency_set_inode),
            ("consistency_delete_inode", &self.consistency_delete_inode),
            ("consistency_get_block", &self.consistency_get_block),
            ("consistency_set_block", &self.consistency_set_block),
            ("consistency_delete_block", &self.consistency_delete_block),
            ("log", &self.log),
            ("log_format", &self.log_format),
        ];
        data.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}
