//! The durable store of one node in one data directory.
//!
//! | path | holds |
//! |---|---|
//! | `lock` | locked while a process uses the directory |
//! | `format` | what the directory is, and the version of its layout |
//! | `keys/` | the log of keys: every batch of [`KeyStore`], transactions and all, in append-only segments |
//! | `blocks/` | the log of blocks: their content, in append-only segments |
//! | `index/` | sled: where things lie in the logs, and what is small |
//!
//! An acknowledgement waits for a log only: one write and one flush for all who wait (group commit). The index
//! follows in the background, in batches in which only the last state of a thing is left, and is trusted up to its
//! checkpoint alone: a start replays the log from there. *Invariant:* the index never knows what is not durable in a
//! log, and nothing outside this crate knows of sled.

mod blocks;
mod cleaner;
mod codec;
mod database;
mod directory;
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod keys;
mod log;
mod options;
mod storage;

pub use blocks::{BlockStore, BlockTotals};
pub(crate) use database::Database;
pub use directory::OpenError;
pub use keys::KeyStore;
pub use log::Statistics;
pub use options::Options;
pub use storage::{OnDurable, Storage};
