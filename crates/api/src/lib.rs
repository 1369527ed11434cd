//! The datastore as its users see it: one trait, implemented by a node for its own process and by the SDK over the
//! network, and keys and files on top of it.
//!
//! - [`Datastore`] serves one request.
//! - [`keys`] asks the questions about keys, ring and blocks and gives typed answers.
//! - [`values`] turns content of any size into a value of at most a few KiB and back.
//! - [`namespaces`] lists, sets and drops namespaces of keys.
//! - [`batch`] does many things in one stream.
//! - [`iterate`] goes through all keys of a namespace in one, and [`records`] writes them down as JSON lines.
//! - [`collection`] deletes the blocks that nothing names any more.
//! - [`pins`] keeps blocks and trees that nothing names.
//! - [`files`] keeps a tree of directories and files.
//!
//! *Invariant:* nothing here knows how requests travel.

use std::sync::Arc;

use async_trait::async_trait;
pub use consistency::Consistency;
pub use difuse_blocks as blocks;
pub use difuse_keylog as keylog;
use difuse_protocol::request::{Reply, Request, RequestError};
pub use difuse_protocol::{notice, request};
pub use difuse_ring as ring;
pub use difuse_structures as structures;
use futures::future::BoxFuture;

pub mod batch;
pub mod collection;
mod consistency;
pub mod files;
pub mod iterate;
pub mod keys;
pub mod namespaces;
pub mod pins;
pub mod records;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod values;

/// Serves requests, retrying what can be retried until its own deadline: an error is final for the caller.
#[async_trait]
pub trait Datastore: Send + Sync + 'static {
    /// Serves one request. The variants of [`Reply`] are named in [`Request`].
    async fn call(&self, request: Request) -> Result<Reply, RequestError>;
}

impl<D: Datastore + ?Sized> Datastore for Arc<D> {
    /// As the macro has it, but for a second future around the one that is handed on.
    fn call<'a, 'b>(&'a self, request: Request) -> BoxFuture<'b, Result<Reply, RequestError>>
    where
        'a: 'b,
        Self: 'b,
    {
        (**self).call(request)
    }
}
