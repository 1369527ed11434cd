//! The store of blocks: their content lies in the log, and is not kept in memory once it is durable.

mod cleaner;
mod contents;
mod index;
mod overlay;
mod record;
mod store;

pub(crate) use index::BlockIndex;
pub(crate) use record::decode as decode_record;
pub use store::{BlockStore, BlockTotals};

#[cfg(test)]
mod tests;
