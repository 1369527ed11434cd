//! The runtime of a difuse peer: performs what the protocol's state machine asks for, with real sockets, disks and
//! clocks.
//!
//! One task owns the [`difuse_protocol::Peer`] (`runtime`): it waits for anything to happen, collects all that has
//! happened, hands it over in one batch and performs the outputs. Disk work on blocks happens on blocking threads
//! (`disk`), flushes on the store's own.
//!
//! *Invariant:* no decision is taken here: what to answer, whom to ask and when is the protocol's.

mod config;
mod disk;
mod error;
mod handle;
mod memory;
mod notices;
mod outbox;
mod runtime;
mod start;

pub use config::{Founding, NodeConfig};
pub use error::{StartError, StopReason};
pub use handle::{Node, NodeFigures};
pub use start::OpenNode;
