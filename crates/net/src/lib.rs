//! Encrypted, authenticated transport between difuse nodes, and between clients and nodes, over libp2p.
//!
//! It carries opaque frames of bytes and reports who is there; it does not know what a frame means, keeps nothing on
//! disk and decides nothing about the ring.
//!
//! # Links
//!
//! Two processes talk over a *link*: two TCP connections (Noise, yamux), one per [`Class`] of traffic, each with one
//! long-lived substream in both directions. Bulk has a connection of its own because large frames on a shared one
//! delay small ones by the time that the whole backlog takes (measured: a median of 12 ms instead of 0.13 ms).
//!
//! The dialler opens the control connection, both sides greet each other ([`Config::ring`], [`Config::secret`]), then
//! the dialler opens the bulk connection and attaches it to the link. Only then is the remote
//! [`Event::Connected`]; when either connection ends, the link ends.
//!
//! Two nodes that dial each other at the same moment have two links, one dialled by each. Both are read, frames leave
//! over the newest, and no tie is broken. A second link dialled by the same side replaces that side's first (which
//! ends a little later), so that links do not pile up, and a peer that restarted is not talked to over a connection
//! that died unnoticed.
//!
//! # What is promised
//!
//! - A frame arrives whole and unchanged, at most once, from the node that the event names.
//! - Frames of one class over one link arrive in order. When a link ends, its queued frames are lost.
//! - [`Event::Connected`] comes before a node's frames of either class; [`Event::Disconnected`] comes when its last
//!   link has ended.
//!
//! # Why not `libp2p-stream`
//!
//! It opens a stream on a random one of a peer's connections, drops streams that arrive while another is being
//! handed over, and keeps a channel for every connection there ever was. Here each connection carries exactly one
//! stream, opened by whoever dialled it (`behaviour`).

mod accept;
mod address;
mod behaviour;
mod book;
mod config;
mod connect;
mod driver;
mod error;
mod event;
mod frames;
#[doc(hidden)]
pub mod fuzzing;
mod handler;
mod handshake;
mod identity;
mod link;
mod message;
mod net;
mod peers;
mod queue;
mod shared;
mod transport;

pub use config::{Config, RingTag};
pub use error::{NetError, SendError};
pub use event::{Class, Event, Role};
pub use identity::Identity;
pub use net::Net;
