use std::fmt;

use crate::{Hash, NodeId, Slots};

/// Which life of a node this is. A node that lost its disk comes back under a new identity; one that restarts with
/// its directory keeps the identity and counts its incarnation up, so that news of its earlier life is recognised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Incarnation(pub u64);

/// What every node knows of every node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its identity.
    pub node: NodeId,
    /// Which of its lives this describes; the higher one wins.
    pub incarnation: Incarnation,
    /// Where other nodes reach it: `host:port` or a multiaddr.
    pub address: String,
    /// Where its HTTP gateway listens: `host:port`; empty when it has none.
    pub http: String,
    /// Failure domain; replicas are spread over zones first.
    pub zone: String,
    /// Names the machine; two nodes with one label never hold two replicas of one slot. By default the node's own id.
    pub label: String,
}

/// Names a ring; two rings founded apart have different ids and refuse each other. Text form: 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RingId(pub Hash);

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What every node of a ring shares, fixed when it is founded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingSettings {
    /// The ring's name.
    pub id: RingId,
    /// N: on how many distinct hosts every key and block is kept (1–15).
    pub replicas: u8,
    /// How the ring is sliced.
    pub slots: Slots,
    /// Virtual nodes per node (1–256).
    pub virtual_nodes: u16,
}

/// A ring cannot be founded with these settings.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// `replicas` is out of range.
    #[error("replicas must be between 1 and 15, got {0}")]
    Replicas(u8),
    /// `slots` is no power of two in range.
    #[error("slots must be a power of two between 1 and 65536, got {0}")]
    Slots(u32),
    /// `virtual_nodes` is out of range.
    #[error("virtual nodes must be between 1 and 256, got {0}")]
    VirtualNodes(u16),
}

impl RingSettings {
    /// Checks and assembles settings.
    pub fn new(id: RingId, replicas: u8, slots: u32, virtual_nodes: u16) -> Result<Self, SettingsError> {
        if !(1..=15).contains(&replicas) {
            return Err(SettingsError::Replicas(replicas));
        }
        if !(1..=256).contains(&virtual_nodes) {
            return Err(SettingsError::VirtualNodes(virtual_nodes));
        }
        let slots = Slots::with_count(slots).ok_or(SettingsError::Slots(slots))?;
        Ok(Self { id, replicas, slots, virtual_nodes })
    }
}
