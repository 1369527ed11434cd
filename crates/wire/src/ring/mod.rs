//! Between members of the ring.

mod parts;
mod read;
mod write;

pub(crate) use parts::{state_in, state_out};
pub(crate) use read::read;
pub(crate) use write::write;
