//! Seeded simulator of whole difuse rings.
//!
//! It drives the very [`difuse_protocol::Peer`] that production runs, over virtual time, a network and disks that fail
//! in all the ways of [`plan::Fault`], with clients that race for a few keys. One seed decides everything; the same
//! seed gives the same trace, byte by byte. Where to begin: [`run_seed`].
//!
//! Each seed has a phase of faults, during which the promises of safety are checked after every step
//! (`invariants`, one file each), and a phase of healing, after which everything must come to rest within a bound
//! (`convergence`). In the end the clients' histories are checked by [`linearizability`].
//!
//! *Invariant:* nothing here reads a clock or global randomness; ordered maps alone.

mod answers;
mod block_disk;
mod bursts;
mod clients;
mod commands;
#[cfg(feature = "controls")]
mod controls;
mod convergence;
mod disasters;
mod disks;
mod errands;
mod faults;
mod figures;
mod histories;
mod invariants;
pub mod linearizability;
mod network;
mod node;
mod observer;
mod pairs;
pub mod plan;
mod processes;
mod queue;
pub mod scale;
pub mod scenario;
mod search;
mod sequences;
mod simulation;
mod trace;
mod violation;

#[cfg(feature = "controls")]
pub use controls::Control;
pub use figures::Figures;
pub use plan::Plan;
pub use trace::Tracing;
pub use violation::Violation;

/// How one seed went.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// What was simulated.
    pub figures: Figures,
    /// The first promise that was broken, if any.
    pub violation: Option<Violation>,
    /// The hash of the trace; of nothing with [`Tracing::Off`].
    pub trace_hash: difuse_types::Hash,
    /// The virtual time at the end, in nanoseconds.
    pub ended_at: difuse_types::Instant,
}

/// Simulates the ring of one seed.
pub fn run_seed(seed: u64, tracing: Tracing) -> Outcome {
    run_seed_with(seed, tracing, |_| {})
}

/// Simulates the ring of one seed with another plan than it drew: for experiments and controls.
pub fn run_seed_with(seed: u64, tracing: Tracing, change: impl FnOnce(&mut Plan)) -> Outcome {
    let mut simulation = simulation::Simulation::new(seed, tracing, change);
    let violation = simulation.play().err();
    let figures = Figures { seeds: 1, ..simulation.figures };
    Outcome { seed, figures, violation, trace_hash: simulation.trace.hash(), ended_at: simulation.now }
}
