//! Between replicas of a slot.

mod parts;
mod read;
mod write;

pub(crate) use parts::{
    ballot_in, ballot_out, read_configuration, read_nodes, read_transactions, read_value, register_in, register_out,
    term_in, term_out, write_configuration, write_nodes, write_transactions, write_value,
};
pub(crate) use read::read;
pub(crate) use write::write;
