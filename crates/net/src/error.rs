use std::{io, net::SocketAddr};

use difuse_types::{NodeId, RingId};

/// Why the transport did not start, or a remote was not connected.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A bound of the configuration makes no sense.
    #[error("invalid network settings: {0}")]
    Config(String),
    /// Another process listens there already.
    #[error("{0} is in use by another process")]
    AddressInUse(SocketAddr),
    /// Listening failed for another reason than [`NetError::AddressInUse`].
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Where we wanted to listen.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The operating system lacks something that the transport cannot do without.
    #[error("cannot set up the transport: {0}")]
    Setup(String),
    /// The text is neither `host:port` nor a multiaddr that we can dial, or its name does not resolve.
    #[error("cannot use the address {address:?}: {reason}")]
    Address {
        /// The text.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there, or the connection broke before the handshake was over. Worth a retry.
    #[error("{address} is unreachable: {reason}")]
    Unreachable {
        /// Where we dialled.
        address: String,
        /// What happened.
        reason: String,
    },
    /// Something answers there, but does not speak our protocol.
    #[error(
        "{address} does not speak the protocol of nodes ({reason}); if it is a node's address for HTTP or Redis, name the \
         one for the ring instead, port 4624 by default"
    )]
    NotDifuse {
        /// Where we dialled.
        address: String,
        /// What it did instead.
        reason: String,
    },
    /// Another node than the expected one answers there.
    #[error("{address} is node {found}, not the expected {expected}")]
    OtherNode {
        /// Where we dialled.
        address: String,
        /// Whom we expected.
        expected: NodeId,
        /// Who answered.
        found: NodeId,
    },
    /// The remote belongs to another ring.
    #[error("it belongs to ring {theirs}, we belong to ring {ours}")]
    OtherRing {
        /// Our ring.
        ours: RingId,
        /// The remote's ring.
        theirs: RingId,
    },
    /// One side does not know the other's ring secret.
    #[error("the ring's secret differs: check that both sides were given the same one")]
    WrongSecret,
    /// The remote speaks another version of the protocol.
    #[error("incompatible protocol version: we speak {ours}, it speaks {theirs}")]
    Version {
        /// Our version.
        ours: u16,
        /// The remote's version.
        theirs: u16,
    },
    /// The address is our own.
    #[error("the address is our own")]
    Ourselves,
    /// The remote, or we, have as many connections as are allowed.
    #[error("too many connections")]
    Full,
    /// The transport was shut down.
    #[error("the transport was shut down")]
    Closed,
}

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The node's queue of this class is full: it reads slower than we write. Try later, or drop.
    #[error("the queue to the node is full")]
    Full,
    /// There is no link to the node.
    #[error("not connected to the node")]
    NotConnected,
    /// The frame is longer than [`crate::Config::frame_bytes_max`].
    #[error("the frame is longer than {max} bytes")]
    TooLong {
        /// The longest allowed, in bytes.
        max: usize,
    },
}
