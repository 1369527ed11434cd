//! The store of keys: the log holds every batch; records that are not in the index yet are held in memory as well.

mod cache;
mod cleaner;
mod index;
mod overlay;
mod store;
mod weight;

pub(crate) use self::index::KeyIndex;
pub use store::KeyStore;

#[cfg(test)]
mod tests;
