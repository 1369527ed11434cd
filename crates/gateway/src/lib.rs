//! Access to a difuse datastore over HTTP and over the Redis protocol.
//!
//! *Invariant:* nothing here knows of the ring, of replicas or of how requests travel: every answer comes from one
//! [`difuse_api::Datastore`].

pub mod http;
pub mod resp;
