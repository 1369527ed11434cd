//! The daemon `difused` and the command `difuse`: the only place that wires node, gateway and client together.
//!
//! *Invariant:* nothing here decides anything about rings, logs or blocks.

pub mod command;
pub mod daemon;
mod terminal;
