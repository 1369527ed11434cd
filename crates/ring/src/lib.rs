//! Chord membership, placement and routing, without I/O: events in, events out, time and randomness passed in.
//!
//! *Invariant:* nothing here knows what is stored on the ring, or how messages travel. One [`Ring`] is one node's part.
//!
//! # What it does
//!
//! - **Host table.** Every node knows every host ([`HostEntry`]); virtual nodes are derived from it. Rows are merged by
//!   [`HostEntry::precedence`], a total order, so that tables converge whatever the order in which rows arrive.
//! - **Placement.** [`Ring::successors`] is a function of the table alone: a proposal of who should hold a slot.
//!   Configurations, agreed elsewhere, decide.
//! - **Failure detection.** *Suspect* after about a second or at once when a connection breaks; *gone* after minutes,
//!   and only by word of a host that reaches a majority, or of an operator.
//! - **Chord**, as corrected by Pamela Zave ("Reasoning about identifier spaces: how to make Chord correct",
//!   arXiv 1610.01140): Join, StabilizeFromSuccessor, StabilizeFromPredecessor, Rectify; one operation at a time per
//!   virtual node; a successor is adopted only when it has just answered; a notification always follows a
//!   stabilization. Fingers for routing where the table is incomplete.
//!
//! # Where it differs from the paper
//!
//! - *Distinct hosts.* Virtual nodes of one host fail together. The paper's list has r entries; ours is the shortest
//!   run that holds r = N + 2 distinct other hosts. Where there are no more than r hosts, the list goes once round the
//!   ring and ends with its owner: the full member list. At most [`SUCCESSORS_MAX`] entries.
//! - *Dead entries.* The paper drops a dead first entry and pads the list with a made-up one. Ours is replaced whole,
//!   by the first live successor and its list, in the same step. Where none of the entries is a member any more (the
//!   paper presupposes one), the first member behind them by the table is taken.
//! - *Hints from the table.* A stabilization first asks a virtual node that the table shows nearer than the first
//!   successor. It is adopted only if it answers as a member, and its list starts after it, so no principal is skipped
//!   that was not skipped before; it makes rings that grew apart in a partition one again, which the paper leaves open.
//! - *Growth.* The paper starts with r + 1 members. A founder starts alone, with the full member list, which has the
//!   same effect: the base of principals grows with the ring.
//! - *Restart of all.* When no node is a member any more, the ring is built from the remembered tables.

mod circle;
mod config;
mod converged;
mod detection;
mod gossip;
pub mod invariants;
mod join;
mod lookup;
mod membership;
mod message;
mod output;
mod placement;
mod ring;
mod stabilize;
mod successor_list;
mod table;
#[cfg(test)]
mod tests;
mod virtual_node;

pub use circle::VirtualNode;
pub use config::{HOSTS_MAX, RingConfig};
pub use membership::DeclareGoneError;
pub use message::{
    DIGEST_BUCKETS, ENTRIES_PER_PAGE_MAX, HostEntry, HostState, JoinOutcome, LookupOutcome, RefuseReason, RingMessage,
    SUCCESSORS_MAX, VirtualNodeId,
};
pub use output::{LookupId, RingOutput};
pub use ring::Ring;
