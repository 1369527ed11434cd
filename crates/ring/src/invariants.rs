//! What must hold of a ring at every moment (Zave, section V), checked over all its members at once. For simulators
//! and tests: no node can see this much.

use std::collections::{BTreeMap, BTreeSet};

use difuse_types::{NodeId, RingPosition};

pub use crate::circle::VirtualNode;

/// The state of one virtual node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VirtualNodeSnapshot {
    /// Which, and where.
    pub place: VirtualNode,
    /// Whether it joined.
    pub member: bool,
    /// Its predecessor, if it knows one.
    pub predecessor: Option<VirtualNode>,
    /// Its successor list, clockwise.
    pub successors: Vec<VirtualNode>,
    /// How many fingers it has.
    pub fingers: usize,
}

/// A broken invariant.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// No entry of a member's list is alive.
    #[error("{member:?} has no live successor")]
    NoLiveSuccessor {
        /// The member.
        member: VirtualNode,
    },
    /// A member's list is not in clockwise order, or names one twice.
    #[error("the successor list of {member:?} is out of order")]
    Unordered {
        /// The member.
        member: VirtualNode,
    },
    /// Following first live successors leads to more than one cycle, or to one that goes round more than once.
    #[error("the first live successors form {cycles} rings and go round {turns} times in all")]
    NotOneRing {
        /// How many cycles there are.
        cycles: usize,
        /// How often they pass position zero, in all.
        turns: usize,
    },
    /// Too few members are skipped by no list.
    #[error("principals lie on {found} hosts, {required} are required")]
    TooFewPrincipals {
        /// On how many distinct hosts principals lie.
        found: usize,
        /// How many are required.
        required: usize,
    },
}

/// Checks all live virtual nodes of one ring (those that are no members are left out of account).
///
/// `principal_hosts_required` is on how many distinct hosts principals must lie: Zave's r + 1 once the ring has grown
/// and settled at that many hosts, and no less than there were before as long as hosts only join; see
/// [`principal_hosts`].
pub fn check(virtual_nodes: &[VirtualNodeSnapshot], principal_hosts_required: usize) -> Vec<Violation> {
    let members = members_of(virtual_nodes);
    let mut violations: Vec<Violation> = members.values().filter(|member| !is_ordered(member)).map(unordered).collect();
    let (next, alone) = live_successors(&members);
    violations.extend(alone);
    if violations.is_empty() && !members.is_empty() {
        violations.extend(check_one_ring(&next));
    }
    let found = principal_hosts(virtual_nodes);
    if found < principal_hosts_required {
        violations.push(Violation::TooFewPrincipals { found, required: principal_hosts_required });
    }
    violations
}

/// On how many distinct hosts the principals lie: members that no member's list skips.
pub fn principal_hosts(virtual_nodes: &[VirtualNodeSnapshot]) -> usize {
    let members = members_of(virtual_nodes);
    let mut principals: BTreeMap<RingPosition, NodeId> =
        members.iter().map(|(position, member)| (*position, member.place.node())).collect();
    for member in members.values() {
        let mut from = member.place.position;
        for to in &member.successors {
            remove_between(&mut principals, from, to.position);
            from = to.position;
        }
    }
    principals.values().collect::<BTreeSet<_>>().len()
}

/// Whether the ring is ideal: every list and every predecessor is what the set of members says it should be.
pub fn is_ideal(virtual_nodes: &[VirtualNodeSnapshot]) -> bool {
    let members = members_of(virtual_nodes);
    members.values().all(|member| {
        let place = member.place.position;
        let before = members.range(..place).next_back().or_else(|| members.iter().next_back());
        let predecessor_is_right = before.map(|(_, before)| before.place) == member.predecessor;
        let after = members.range(place..).skip(1).chain(members.range(..=place));
        let expected: Vec<_> = after.map(|(_, next)| next.place).take(member.successors.len()).collect();
        predecessor_is_right && expected == member.successors
    })
}

type Members<'a> = BTreeMap<RingPosition, &'a VirtualNodeSnapshot>;

fn members_of(virtual_nodes: &[VirtualNodeSnapshot]) -> Members<'_> {
    virtual_nodes.iter().filter(|node| node.member).map(|node| (node.place.position, node)).collect()
}

fn unordered(member: &&VirtualNodeSnapshot) -> Violation {
    Violation::Unordered { member: member.place }
}

/// Distances from the owner grow; the owner itself may stand at the end.
fn is_ordered(member: &VirtualNodeSnapshot) -> bool {
    let distance = |next: &VirtualNode| match member.place.position.distance_to(next.position) {
        own if own == [0; 32] => [255; 32],
        other => other,
    };
    member.successors.is_sorted_by(|a, b| distance(a) < distance(b))
}

/// The first live successor of each member, and those who have none.
fn live_successors(members: &Members<'_>) -> (BTreeMap<RingPosition, RingPosition>, Vec<Violation>) {
    let (mut next, mut alone) = (BTreeMap::new(), Vec::new());
    for (position, member) in members {
        match member.successors.iter().find(|successor| members.contains_key(&successor.position)) {
            Some(successor) => _ = next.insert(*position, successor.position),
            None => alone.push(Violation::NoLiveSuccessor { member: member.place }),
        }
    }
    (next, alone)
}

/// There is exactly one cycle, and it passes position zero exactly once.
fn check_one_ring(next: &BTreeMap<RingPosition, RingPosition>) -> Option<Violation> {
    let (mut cycles, mut turns) = (0, 0);
    // Which walk came by first; a walk that meets its own trace has found a cycle.
    let mut walk_of: BTreeMap<RingPosition, usize> = BTreeMap::new();
    for (walk, start) in next.keys().enumerate() {
        let mut at = *start;
        while !walk_of.contains_key(&at) {
            walk_of.insert(at, walk);
            at = next[&at];
        }
        if walk_of[&at] == walk {
            cycles += 1;
            turns += turns_of_cycle(next, at);
        }
    }
    (cycles != 1 || turns != 1).then_some(Violation::NotOneRing { cycles, turns })
}

/// How often the cycle through `start` passes position zero.
fn turns_of_cycle(next: &BTreeMap<RingPosition, RingPosition>, start: RingPosition) -> usize {
    let (mut at, mut turns) = (start, 0);
    loop {
        let to = next[&at];
        turns += usize::from(to <= at);
        at = to;
        if at == start {
            return turns;
        }
    }
}

fn remove_between(principals: &mut BTreeMap<RingPosition, NodeId>, from: RingPosition, to: RingPosition) {
    let skipped: Vec<RingPosition> = if from < to {
        principals.range(from..to).map(|(position, _)| *position).filter(|p| *p != from).collect()
    } else {
        principals
            .range(from..)
            .chain(principals.range(..to))
            .map(|(p, _)| *p)
            .filter(|p| *p != from && *p != to)
            .collect()
    };
    for position in skipped {
        principals.remove(&position);
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::{NodeId, RingPosition};

    use super::{Violation, VirtualNode, VirtualNodeSnapshot, check, is_ideal, principal_hosts};
    use crate::VirtualNodeId;

    fn place(at: u8) -> VirtualNode {
        VirtualNode { id: VirtualNodeId { node: NodeId([at; 32]), index: 0 }, position: RingPosition([at; 32]) }
    }

    fn ring(members: &[(u8, &[u8])]) -> Vec<VirtualNodeSnapshot> {
        let snapshot = |(at, successors): &(u8, &[u8])| VirtualNodeSnapshot {
            place: place(*at),
            member: true,
            predecessor: None,
            successors: successors.iter().map(|at| place(*at)).collect(),
            fingers: 0,
        };
        members.iter().map(snapshot).collect()
    }

    #[test]
    fn a_sound_ring_passes() {
        let mut nodes = ring(&[(1, &[2, 3]), (2, &[3, 1]), (3, &[1, 2])]);
        assert_eq!(check(&nodes, 3), []);
        for (node, before) in nodes.iter_mut().zip([3, 1, 2]) {
            node.predecessor = Some(place(before));
        }
        assert!(is_ideal(&nodes));
    }

    #[test]
    fn each_fault_is_found() {
        let dead = ring(&[(1, &[9, 9]), (2, &[1])]);
        assert!(check(&dead, 0).contains(&Violation::NoLiveSuccessor { member: place(1) }));
        let disordered = ring(&[(1, &[3, 2]), (2, &[3]), (3, &[1])]);
        assert_eq!(check(&disordered, 0), [Violation::Unordered { member: place(1) }]);
        let two_rings = ring(&[(1, &[3]), (3, &[1]), (2, &[4]), (4, &[2])]);
        assert_eq!(check(&two_rings, 0), [Violation::NotOneRing { cycles: 2, turns: 2 }]);
        let twice_round = ring(&[(1, &[3]), (3, &[2]), (2, &[4]), (4, &[1])]);
        assert_eq!(check(&twice_round, 0), [Violation::NotOneRing { cycles: 1, turns: 2 }]);
        let skipped = ring(&[(1, &[3]), (2, &[3]), (3, &[1])]);
        assert_eq!(principal_hosts(&skipped), 2);
        assert_eq!(check(&skipped, 3), [Violation::TooFewPrincipals { found: 2, required: 3 }]);
    }
}
