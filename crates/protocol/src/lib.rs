//! One whole difuse peer as one state machine: ring, key logs, blocks and clients' requests.
//!
//! A [`Peer`] takes [`Input`]s with the current time and gives [`Output`]s; the runtime (crate `node`) and the simulator
//! (crate `sim`) drive the same value. Where to begin: [`Peer::handle`], then
//!
//! - requests about keys go to the leader of the key's slot, from whichever node they come in at;
//! - requests about blocks go to the members of the block's slot, whose configuration the request names;
//! - what the ring proposes and what the key logs decide is passed between the two.
//!
//! *Invariant:* no sockets, files, clocks, threads or global randomness; whatever a peer or client sends can at worst be
//! answered with an error.

pub mod anchors;
pub mod message;
pub mod notice;
mod peer;
pub mod request;

#[cfg(feature = "controls")]
pub use peer::BrokenRule;
pub use peer::{BlockCommand, BlockResult, Input, Output, Peer, PeerOptions, QuotasReached, RequestId, Start};
