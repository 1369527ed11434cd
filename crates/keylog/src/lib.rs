//! Replicated hash-chained logs of keys, without I/O.
//!
//! Each key is a register in the sense of CASPaxos (Rystsov, arXiv 1802.07000): its value is a small [`Head`], and the
//! transactions below the head travel with it and form a chain of hashes that anyone can verify. What is ours:
//!
//! - **One promise for a whole slot.** The paper's distinguished proposer (section 2.2.1) caches a promise per register;
//!   here a [`Term`] is promised for all registers of a slot at once, and a [`Ballot`] adds a counter to it, so that a
//!   leader appends in one round trip and no ballot carries two values.
//! - **First touch.** A new leader reads a register from a majority before it builds on it and proposes again what it
//!   finds, unless a majority already has it at one and the same ballot (`leader`).
//! - **Configurations are registers too.** Each slot's next configuration is decided by the majority of the one before;
//!   accepting it stops a replica from accepting anything else in the old epoch, so that whatever was committed there
//!   is seen by the majority read that opens the new one.
//!
//! The chain proves history; the ballot chooses between two children of one parent.
//!
//! *Invariant:* nothing here knows of sockets, clocks or disks: messages, time and durability come in as calls on
//! [`Keylog`] and go out as [`Output`]s.

mod anchor;
mod ballot;
mod configuration;
mod keylog;
mod leader;
mod message;
mod replica;
mod rule;
mod states;
mod step;
pub mod store;
mod transaction;

pub use anchor::{Anchor, ParseAnchorError};
pub use ballot::{Ballot, Term};
pub use configuration::Configuration;
pub use keylog::{
    Answer, Checkpoint, CommittedHead, Condition, Failure, Invocation, Job, Keylog, KeylogOptions, LEASE_DRIFT_BOUND,
    Output, REPLY_BYTES_MAX, SlotSummary, Submission, Ticket,
};
pub use leader::generation::{Sealed, generation_operation};
pub use message::{DROPS_MAX, KeylogMessage, Proposal, RegisterSummary, SCAN_PAGE_MAX, StepsKnown, TRANSACTIONS_MAX};
#[cfg(feature = "controls")]
pub use rule::Rule;
pub use step::{MalformedStep, STEP_COMMANDS_MAX, STEP_KEYS_MAX, Step, StepCommand};
pub use store::{Head, Proposed, Register, SlotDigest, SlotRecord, Store, StoreError, Write, WriteSequence};
pub use transaction::{
    BrokenChain, MAX_INLINE_BYTES, MAX_INODE_BYTES, MAX_OPERATION_BYTES, MAX_VALUE_BYTES, Operation, Transaction,
    Value, ValueKind, verify_chain,
};
