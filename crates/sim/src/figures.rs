//! What was simulated, in numbers.

use std::{ops::AddAssign, time::Duration};

/// Sums over one or more seeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Seeds.
    pub seeds: u64,
    /// Virtual time.
    pub virtual_time: Duration,
    /// Messages between peers.
    pub messages: u64,
    /// Inputs that peers dealt with.
    pub inputs: u64,
    /// Requests of clients.
    pub requests: u64,
    /// Operations of clients, retries not counted.
    pub operations: u64,
    /// Operations on several keys at once that were answered.
    pub steps: u64,
    /// Items added to lists and streams, and told to be there.
    pub added: u64,
    /// Requests that were repeated.
    pub retries: u64,
    /// Requests answered with an error that may pass.
    pub errors: u64,
    /// Writes whose outcome stayed unknown.
    pub unknown: u64,
    /// Repeated writes of which nobody could tell any more whether they were applied.
    pub forgotten: u64,
    /// Histories checked for linearizability.
    pub histories: u64,
    /// Faults injected.
    pub faults: u64,
    /// Slots whose majority was made to die.
    pub disasters: u64,
    /// Recoveries that came to stand.
    pub recoveries: u64,
    /// Processes that died.
    pub crashes: u64,
    /// Nodes that left as planned.
    pub leaves: u64,
    /// Members that have forgotten the beginning of a long history in the end.
    pub forgetful: u64,
    /// Members told to drop the tombstone of a key.
    pub dropped: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.virtual_time += other.virtual_time;
        self.messages += other.messages;
        self.inputs += other.inputs;
        self.requests += other.requests;
        self.operations += other.operations;
        self.steps += other.steps;
        self.added += other.added;
        self.retries += other.retries;
        self.errors += other.errors;
        self.unknown += other.unknown;
        self.forgotten += other.forgotten;
        self.histories += other.histories;
        self.faults += other.faults;
        self.disasters += other.disasters;
        self.recoveries += other.recoveries;
        self.crashes += other.crashes;
        self.leaves += other.leaves;
        self.forgetful += other.forgetful;
        self.dropped += other.dropped;
    }
}
