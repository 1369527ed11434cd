//! The Redis protocol as clients see it, over real sockets, on a datastore in memory.

mod basics;
mod blocking;
mod bounds;
mod channels;
mod client;
mod difuse;
mod keys;
mod long;
mod pipelines;
mod redis;
mod secrets;
mod several;
mod transactions;
