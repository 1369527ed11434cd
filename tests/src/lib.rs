//! What the tests in `process/` stand on: rings of real `difused` processes on loopback, spoken to over HTTP and with
//! the command `difuse`.
//!
//! - [`Cluster`] starts, kills, restarts and asks the nodes.
//! - [`Http`] is one node's gateway; [`Retrying`] a client that goes to another node when one does not serve.
//! - [`Load`] writes keys and files in the background and remembers what was acknowledged.
//! - [`Dump`] is what a node holds; [`history`] checks what clients have seen of a key against its chain.
//!
//! *Invariant:* nothing here sleeps to synchronise: every wait polls for what it waits for and has a bound.

mod binaries;
mod cluster;
mod dump;
pub mod history;
mod http;
mod load;
mod ports;
mod process;
mod retrying;
mod small_disk;
pub mod trees;
mod wait;

pub use binaries::{Run, difuse, difused};
pub use cluster::Cluster;
pub use dump::{Dump, KeyName};
pub use http::{Answer, Http};
pub use load::{Load, Sample, Written};
pub use ports::free_port;
pub use process::{NodeProcess, NodeSettings};
pub use retrying::{Attempt, Outcome, Retrying, Since};
pub use small_disk::SmallDisk;
pub use wait::{POLL, until};
