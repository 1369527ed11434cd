//! What clients ask of a peer, and what it answers.

mod collection;
mod command;
mod error;
mod located;
mod operation;
mod outcome;
mod read;
mod recovery;
mod reply;
mod scrub;
mod usage;
mod write;

pub(crate) use outcome::{read_response, write_response};
pub(crate) use read::read_request;
pub(crate) use write::write_request;
