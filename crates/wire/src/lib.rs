//! The FlatBuffers form of everything that peers and clients say to each other: `schemas/*.fbs` ⇄ plain messages.
//!
//! A *frame* is one FlatBuffer, an `Envelope` of many messages to one receiver. FlatBuffers types do not leave this
//! crate, and nothing that a frame carries is believed before [`decode`] has verified and bounded it. FlatBuffers bytes
//! are not canonical: nothing may hash or compare frames.
//!
//! There is one file per domain, as there is one schema per domain: a new field is one line in the schema, one where
//! the message is written and one where it is read. `.ci/generate-wire` turns the schemas into the module `generated`.

mod blocks;
#[cfg(test)]
mod bounds_tests;
mod builder;
mod decode;
mod encode;
mod envelope;
mod error;
mod frame;
// The one place with `unsafe` code: what flatc generated, which reads only what the verifier has accepted.
#[rustfmt::skip]
#[allow(unsafe_code, missing_docs, deprecated, unused_imports, dead_code, clippy::all, rustdoc::all)]
mod generated;
mod keylog;
pub mod limits;
mod notice;
mod request;
mod ring;
#[cfg(any(test, feature = "samples"))]
pub mod samples;
mod size;
mod types;

pub use decode::decode;
pub use encode::{Encoder, encode};
pub use error::WireError;
pub use size::approximate_bytes;

/// The version of the schemas. A peer refuses every other: it goes up with every change.
pub const VERSION: u16 = 1;
