//! How `difused` ends, and with which exit code.

use std::net::SocketAddr;

use super::settings::SettingsError;

/// Why `difused` does not go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Settings are not accepted.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Settings are well formed but cannot work.
    #[error("{0}")]
    Unusable(String),
    /// Another process has the port.
    #[error("{what} cannot listen on {address}: the port is taken; choose another one with {flag}")]
    PortTaken {
        /// The HTTP gateway or the ring.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// The option that changes it.
        flag: &'static str,
    },
    /// The data directory is in use or unusable.
    #[error("{0}")]
    Directory(String),
    /// Storage failed while running.
    #[error("the node stopped: {0}")]
    Stopped(String),
    /// The ring does not take the node.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// As documented in `difused --help`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::Settings(_) | Self::Unusable(_) => 2,
            Self::PortTaken { .. } => 3,
            Self::Directory(_) => 4,
            Self::Stopped(_) => 5,
            Self::Refused(_) => 6,
        }
    }
}
