//! What must hold after every step, one promise per file. All are checked by what passes by: messages, stores that
//! changed, answers to clients.

mod ballots;
mod blocks;
mod chains;
mod configurations;
mod recoveries;
mod ring;

pub(crate) use ballots::Ballots;
pub(crate) use blocks::Blocks;
pub(crate) use chains::{Chains, Known};
pub(crate) use configurations::Configurations;
pub(crate) use recoveries::{Brought, Recoveries};
pub(crate) use ring::check_ring;
