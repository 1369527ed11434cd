use std::time::Duration;

use difuse_api::{request::RequestError, values::ValueError};
use difuse_types::KeyError;

/// Why a client could not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The list of addresses is empty.
    #[error("no address to connect to")]
    NoAddress,
    /// The local end of the transport does not start.
    #[error("the transport does not start: {0}")]
    Transport(String),
    /// None of the addresses leads to a node that answers.
    #[error("no node answers at {}: {}", addresses.join(", "), reasons.join("; "))]
    Unreachable {
        /// What was tried.
        addresses: Vec<String>,
        /// Why each of them failed, for people.
        reasons: Vec<String>,
    },
}

/// Why a request made through [`Client`](crate::Client)'s own methods failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The bytes are no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A key cannot live for so long, or for so short a time.
    #[error("a key cannot live for {0:?}: at least a millisecond, and not beyond all time")]
    Ttl(Duration),
    /// The ring refused or could not answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The value could not be stored or read.
    #[error(transparent)]
    Value(#[from] ValueError),
}
