//! The HTTP contract over real sockets, against the datastore in memory.

mod batch;
mod blocks;
mod export;
mod files;
mod keys;
mod namespaces;
mod node;
mod pins;
mod server;
mod wire;
