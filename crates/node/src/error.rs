use std::net::SocketAddr;

use difuse_keylog::StoreError;
use difuse_net::NetError;
use difuse_storage::OpenError;
use difuse_types::SettingsError;

/// Why a node had to stop.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// Its storage cannot go on.
    #[error("{0}")]
    Failed(String),
    /// Whom it was told to join will not have it.
    #[error("{0}")]
    Refused(String),
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The data directory was opened but cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the data directory remembers of the ring cannot be read.
    #[error("the data directory remembers something unreadable: {0}")]
    Memory(String),
    /// Listening failed.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The settings to found a ring with make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The node listens on all interfaces, so others cannot be told where it is.
    #[error("the node listens on {0}, which is no address that others could dial: tell them one with --advertise")]
    Advertise(SocketAddr),
    /// A peer to join through answered, but will not have this node.
    #[error("cannot join through {address}: {source}")]
    Join {
        /// The peer.
        address: String,
        /// Why.
        source: NetError,
    },
    /// The operating system refused something.
    #[error("the operating system refused: {0}")]
    System(String),
}
