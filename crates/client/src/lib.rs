//! Rust SDK of difuse: keys, files and blocks of a ring, over the nodes' own protocol.
//!
//! [`Client`] implements [`Datastore`], so that everything in [`keys`], [`values`], [`files`] and [`pins`] works with it. Requests
//! go straight to the leader of their slot; what can be retried is retried until the deadline, under the same
//! operation id, so that a write is applied once.
//!
//! ```no_run
//! use difuse_client::{Client, ClientConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(&["127.0.0.1:4624".into()], ClientConfig::default()).await?;
//! let written = client.set(b"greeting", b"hello").await?;
//! println!("at height {}, transaction {}", written.height, written.hash);
//! assert_eq!(client.get(b"greeting").await?.as_deref(), Some(&b"hello"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! *Invariant:* nothing here decides what is true: it only chooses whom to ask, and asks again.

mod attempts;
mod client;
#[cfg(test)]
mod client_tests;
mod config;
mod convenience;
mod error;
mod exchange;
mod options;
mod reading;
mod router;
mod secret;
mod session;

pub use client::{AtNode, Client};
pub use config::ClientConfig;
pub use difuse_api::{
    Consistency, Datastore, batch, files, iterate, keys, namespaces, pins,
    request::{self, Condition, Entry, RequestError},
    values,
};
pub use difuse_types::{Hash, Key, KeyError, Level, NodeId, OperationId};
pub use error::{ClientError, ConnectError};
pub use options::WriteOptions;
pub use reading::{ReadingSession, SessionToken};
pub use secret::secret_from_text;
