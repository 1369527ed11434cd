//! What must never happen.

use difuse_keylog::StoreError;
use difuse_types::{Hash, Key, NodeId, SlotId};

/// A promise that was broken.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Violation {
    /// The ring is not as Zave's invariants demand.
    #[error("ring: {0}")]
    Ring(difuse_ring::invariants::Violation),
    /// Two values were accepted at one ballot.
    #[error("ballots: slot {slot}, key {key}: {both}")]
    TwoValues {
        /// The slot.
        slot: SlotId,
        /// The key.
        key: Key,
        /// The ballot, and height and hash of both values.
        both: String,
    },
    /// Two transactions of one height were shown to clients as committed.
    #[error("chains: key {key}: height {height} was shown as {first:?} and as {second:?}")]
    TwoChildren {
        /// The key.
        key: Key,
        /// The height.
        height: u64,
        /// The one.
        first: Hash,
        /// The other.
        second: Hash,
    },
    /// A client was told of a transaction that no member ever held.
    #[error("chains: key {key}: transaction {hash:?} of height {height} was shown, but nobody holds it")]
    Unheard {
        /// The key.
        key: Key,
        /// Its height.
        height: u64,
        /// Its hash.
        hash: Hash,
    },
    /// In the end, an acknowledged transaction is not in the chain.
    #[error("chains: key {key}: transaction {hash:?} of height {height} was shown, but is lost")]
    Lost {
        /// The key.
        key: Key,
        /// Its height.
        height: u64,
        /// Its hash.
        hash: Hash,
    },
    /// A member forgot what lies below a transaction, and in the end that is not in the chain.
    #[error("chains: key {key}: a member forgot what is below transaction {hash:?} of height {height}, which is lost")]
    Forgotten {
        /// The key.
        key: Key,
        /// Its height.
        height: u64,
        /// Its hash.
        hash: Hash,
    },
    /// A member forgot transactions whose operations its head names: it could not tell a repeated one any more.
    #[error(
        "chains: key {key}: a member at height {height} forgot what is below {base}, and its head names operations there"
    )]
    ForgottenOperations {
        /// The key.
        key: Key,
        /// The height of the member's head.
        height: u64,
        /// What it keeps begins here.
        base: u64,
    },
    /// A write is in the chain that must not be there (again).
    #[error("chains: key {key}: height {height} holds operation {operation}, which {reason}")]
    Unwanted {
        /// The key.
        key: Key,
        /// The height.
        height: u64,
        /// The number of the operation.
        operation: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// One epoch of a slot has two configurations.
    #[error("configurations: slot {slot}: epoch {epoch} has two contents, the second is {second}")]
    TwoConfigurations {
        /// The slot.
        slot: SlotId,
        /// The epoch.
        epoch: u64,
        /// The second one.
        second: String,
    },
    /// What clients saw of a key has no order.
    #[error("linearizability: key {key}: no order explains this history:\n{history}")]
    NotLinearizable {
        /// The key.
        key: Key,
        /// The history.
        history: String,
    },
    /// A client was given something that it did not ask for, or that was never written.
    #[error("answers: {0}")]
    WrongAnswer(String),
    /// An acknowledged block is not there.
    #[error("blocks: {0}")]
    Block(String),
    /// Something that must come to pass did not.
    #[error("liveness: {0}")]
    Stuck(String),
    /// A message is not the same after it was encoded and decoded.
    #[error("wire: {0}")]
    Wire(String),
    /// A store failed though no fault was injected.
    #[error("store: node {node:?}: {error}")]
    Store {
        /// The node.
        node: NodeId,
        /// The error.
        error: StoreError,
    },
}
