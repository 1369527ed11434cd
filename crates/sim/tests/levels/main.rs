//! What sets the four levels apart, for each of the six operations, under the fault that does.

mod blocks;
mod keys;
mod lazy;
mod repeated;
mod support;
