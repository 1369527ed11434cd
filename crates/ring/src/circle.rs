use std::collections::BTreeMap;

use difuse_types::{NodeId, RingPosition};

use crate::VirtualNodeId;

/// A virtual node and where it lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VirtualNode {
    /// Whose it is, and which.
    pub id: VirtualNodeId,
    /// Its position, recomputed from the id.
    pub position: RingPosition,
}

impl VirtualNode {
    /// The virtual node that `id` names.
    pub fn new(id: VirtualNodeId) -> Self {
        Self { id, position: RingPosition::of_virtual_node(&id.node, id.index) }
    }

    /// The node that runs it.
    pub fn node(&self) -> NodeId {
        self.id.node
    }
}

/// Virtual nodes in the order of their positions.
#[derive(Debug, Default)]
pub(crate) struct Circle {
    by_position: BTreeMap<RingPosition, VirtualNodeId>,
}

impl Circle {
    pub(crate) fn insert(&mut self, node: NodeId, count: u16) {
        for index in 0..count {
            let place = VirtualNode::new(VirtualNodeId { node, index });
            self.by_position.insert(place.position, place.id);
        }
    }

    pub(crate) fn remove(&mut self, node: NodeId, count: u16) {
        for index in 0..count {
            self.by_position.remove(&RingPosition::of_virtual_node(&node, index));
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_position.len()
    }

    /// All, once round, beginning at `position` inclusive.
    pub(crate) fn clockwise_from(&self, position: RingPosition) -> impl Iterator<Item = VirtualNode> {
        self.by_position
            .range(position..)
            .chain(self.by_position.range(..position))
            .map(|(position, id)| VirtualNode { id: *id, position: *position })
    }

    /// All, once round against the clock, beginning before `position` exclusive.
    pub(crate) fn backwards_from(&self, position: RingPosition) -> impl Iterator<Item = VirtualNode> {
        self.by_position
            .range(..position)
            .rev()
            .chain(self.by_position.range(position..).rev())
            .map(|(position, id)| VirtualNode { id: *id, position: *position })
    }
}
