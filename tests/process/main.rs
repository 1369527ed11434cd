//! Rings of real processes. Each test has a ring of its own; they take turns.

mod bad_input;
mod batch;
mod collection;
mod compare_and_set;
mod damage;
mod disk;
mod first;
mod healing;
mod iteration;
mod kill;
mod membership;
mod pins;
mod recovery;
mod redis;
mod restart;
mod scrub;
mod tombstones;
mod tree;
