//! What the command line of `difuse` accepts. Each subcommand's own arguments stand in its file.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::{
    bench::BenchCommand, block::BlockCommand, export, gc, get, import, kv::KvCommand, leave, locate, ls,
    namespace::NamespaceCommand, pin::PinCommand, put, recover, rm, scrub, stat,
};

const AFTER_HELP: &str = "\
Examples:
  difuse put photos /holiday                 a folder with everything in it
  difuse get /holiday copy                   and back
  tar c . | difuse put - /backup.tar         a stream
  difuse ls -l /holiday
  difuse kv set greeting hello
  difuse kv cas greeting absent hello        only if there is none yet
  difuse kv log greeting                     its whole history, which `kv verify` checks
  difuse --json ring | jq .settled
  difuse scrub --all                         check and repair every disk now
  difuse bench keys --clients 64 --seconds 5

Exit codes:
  0 done
  1 other failure
  2 wrong usage
  3 not found
  4 conflict: the condition does not hold, or something is in the way
  5 unavailable: try again later
  6 the outcome of a write is unknown
  7 verification failed: what was read is not what was written
  8 a disk of the ring is full, or a namespace has reached its quota: nothing was changed";

/// Reads and writes a difuse ring.
#[derive(Debug, Parser)]
#[command(name = "difuse", version, after_help = AFTER_HELP)]
pub struct Arguments {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the ring, and how to answer.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection and output")]
pub struct Connection {
    /// Nodes to connect through, any one is enough: host:port or multiaddr, comma-separated.
    #[arg(
        long,
        global = true,
        env = "DIFUSE_NODE",
        default_value = "127.0.0.1:4624",
        value_name = "ADDRESSES",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub node: Vec<String>,
    /// How long one request may take, retries included.
    #[arg(long, global = true, env = "DIFUSE_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration,
          value_name = "DURATION", hide_env_values = true)]
    pub timeout: std::time::Duration,
    /// A file with the ring's secret, if it has one.
    #[arg(long, global = true, env = "DIFUSE_SECRET_FILE", value_name = "FILE", hide_env_values = true)]
    pub secret_file: Option<PathBuf>,
    /// Who stands behind an answer: lazy, leader, quorum or all (docs/consistency.md says what each promises); without it,
    /// for keys whoever their namespace says (`difuse namespace set`), else quorum.
    #[arg(long, global = true, env = "DIFUSE_CONSISTENCY", value_name = "LEVEL", hide_env_values = true)]
    pub consistency: Option<difuse_types::Level>,
    /// Print JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Store a file, a folder with everything in it, or standard input (-).
    Put(put::PutArguments),
    /// Fetch a file, a folder with everything in it, or write a file to standard output (-).
    Get(get::GetArguments),
    /// List a directory.
    Ls(ls::LsArguments),
    /// Show what is known of a file or directory.
    Stat(stat::StatArguments),
    /// Remove a file or directory.
    Rm(rm::RmArguments),
    /// Read and write keys and their histories.
    Kv {
        #[command(subcommand)]
        command: KvCommand,
    },
    /// List the namespaces of keys, choose how each behaves, and drop one.
    Namespace {
        #[command(subcommand)]
        command: NamespaceCommand,
    },
    /// Write the records of a file, JSON lines or CSV, as keys with values.
    Import(import::ImportArguments),
    /// Write keys and values to a file, as JSON lines or CSV.
    Export(export::ExportArguments),
    /// Read and write blocks by the hash of their content.
    Block {
        #[command(subcommand)]
        command: BlockCommand,
    },
    /// Keep blocks and contents of files though no name refers to them any more.
    Pin {
        #[command(subcommand)]
        command: PinCommand,
    },
    /// Show the ring: its nodes, whether it is settled, what is on the move.
    Ring,
    /// Show who leads a key or file and what each member holds of it.
    Locate(locate::LocateArguments),
    /// Make the node take its leave: it hands over what it holds, and this returns when others have it.
    Leave(leave::LeaveArguments),
    /// Read what is on a node's disk again, check it, and repair what is damaged from other nodes.
    ///
    /// Nodes do this by themselves all the time, slowly (`difused --scrub-rate`); this does it now, as fast as the disk
    /// allows, and reports. It ends with 7 if something could not be repaired.
    Scrub(scrub::ScrubArguments),
    /// Revive slots that lost the majority of their members for ever, with what the survivors hold.
    ///
    /// A slot whose members are mostly gone answers nothing any more, because nobody knows what the others agreed to. As
    /// long as one of them may come back, wait for it. This command shows which slots are concerned, who is missing, and
    /// what the survivors hold; after you confirm that the missing nodes are lost for ever, the survivors go on alone:
    /// writes that only the missing ones held are lost. See docs/recovery.md.
    Recover(recover::RecoverArguments),
    /// Delete the blocks that no file and no value refers to any more, and say how much that was.
    ///
    /// A ring does this by itself once a day (`difused --gc-every`). Every node must answer meanwhile; what was stored
    /// lately is kept until a later run, since an upload under way may refer to it. Blocks stored by their hash (`difuse
    /// block put`) stay until they are deleted by it.
    Gc(gc::GcArguments),
    /// Print everything that the node itself holds, as JSON lines.
    Dump,
    /// Measure operations per second, throughput and latency.
    Bench {
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Print a script that completes this command's arguments in a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}
