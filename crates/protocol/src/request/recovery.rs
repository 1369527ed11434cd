use std::collections::BTreeSet;

use difuse_keylog::Configuration;
use difuse_types::{NodeId, SlotId};

/// How many slots one request about recovery looks at.
pub const RECOVERY_PAGE: u32 = 256;
/// The most nodes that one recovery gives up, and that an answer names to be given up.
pub const GIVEN_UP_MAX: usize = 8192;

/// What one node knows and holds of a slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotSurvey {
    /// The newest configuration that it knows.
    pub configuration: Configuration,
    /// Keys that it holds, deleted ones among them.
    pub keys: u64,
    /// Bytes of their transactions.
    pub bytes: u64,
    /// The greatest height among their heads, if it reaches too few members to decide anything; else 0.
    pub highest: u64,
}

/// What one surviving member holds of a slot that lost its majority.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Survivor {
    /// The member.
    pub node: NodeId,
    /// Keys that it holds, deleted ones among them.
    pub keys: u64,
    /// Bytes of their transactions.
    pub bytes: u64,
    /// The greatest height among their heads: one that another survivor lacks may never have been committed, and one that
    /// none of them holds is lost.
    pub highest: u64,
}

/// A slot that too few members are left of to decide anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostSlot {
    /// The newest configuration that is known; if none is, a made up one of the hosts that do not answer.
    pub configuration: Configuration,
    /// The members that answer, in order of preference as leader; a slot without any is begun empty.
    pub survivors: Vec<Survivor>,
    /// Whether a recovery was begun with all of them, or without any.
    pub recovered: bool,
}

impl LostSlot {
    /// The members that do not answer.
    pub fn missing(&self) -> impl Iterator<Item = NodeId> {
        let is_missing = |node: &NodeId| self.survivors.iter().all(|survivor| survivor.node != *node);
        self.configuration.all_members().into_iter().filter(is_missing)
    }
}

/// What is to be recovered, or was: a page of the ring's slots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Slots of this page that lost their majority.
    pub slots: Vec<LostSlot>,
    /// Hosts that do not answer and that an operator has to give up, although no slot need name them: those that nobody
    /// gives up otherwise, because the node that was asked reaches no majority of the hosts; and all of them, if a slot may
    /// be with hosts that nobody who answers knows of. At most [`GIVEN_UP_MAX`].
    pub unreached: BTreeSet<NodeId>,
    /// Where the next page begins; `None` if this is the last one.
    pub next: Option<SlotId>,
}

impl Recovery {
    /// The nodes that an operator has to give up, if they are lost for ever: those that some lost slot lacks, and those that
    /// are unreached.
    pub fn missing(&self) -> BTreeSet<NodeId> {
        self.slots.iter().flat_map(LostSlot::missing).chain(self.unreached.iter().copied()).collect()
    }
}
