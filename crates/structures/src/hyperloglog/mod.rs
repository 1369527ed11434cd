//! HyperLogLogs: strings that estimate how many different elements were added to them, in Redis's format, so that a
//! value can be moved between the two.

mod commands;
mod registers;

pub(crate) use commands::{commands, commands_on_keys};
