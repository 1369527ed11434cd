use std::collections::BTreeSet;

use difuse_types::{NodeId, RingPosition};

use crate::{SUCCESSORS_MAX, circle::VirtualNode};

/// The successor list of `owner` given what follows it clockwise: `following` begins with its first successor.
///
/// The paper's list has exactly r entries. Virtual nodes of one host fail together, so ours is the shortest run that
/// holds `hosts_wanted` (r) distinct hosts besides the owner's; where the ring has fewer, it goes once round and ends
/// with the owner itself, which makes it the full member list. Never longer than [`SUCCESSORS_MAX`].
///
/// A run taken from a peer is not trusted to be in order: it ends where it would pass the owner or go back.
pub(crate) fn successor_list(
    owner: &VirtualNode,
    following: impl IntoIterator<Item = VirtualNode>,
    hosts_wanted: usize,
) -> Vec<VirtualNode> {
    let mut list = Vec::new();
    let mut hosts: BTreeSet<NodeId> = BTreeSet::new();
    let mut reached = [0; 32];
    for next in following {
        let distance = owner.position.distance_to(next.position);
        // A distance of zero is the owner; a lesser one means that the run went round past the owner.
        if distance <= reached {
            list.push(*owner);
            break;
        }
        reached = distance;
        list.push(next);
        if next.node() != owner.node() {
            hosts.insert(next.node());
        }
        if hosts.len() >= hosts_wanted || list.len() >= SUCCESSORS_MAX {
            break;
        }
    }
    list
}

/// Whether `place` lies between two positions, as the paper writes it: `between[from, place, to]`.
pub(crate) fn between(from: RingPosition, place: &VirtualNode, to: RingPosition) -> bool {
    place.position.is_between(from, to)
}

#[cfg(test)]
mod tests {
    use difuse_types::{NodeId, RingPosition};

    use super::successor_list;
    use crate::{VirtualNodeId, circle::VirtualNode};

    fn place(node: u8, position: u8) -> VirtualNode {
        VirtualNode { id: VirtualNodeId { node: NodeId([node; 32]), index: 0 }, position: RingPosition([position; 32]) }
    }

    #[test]
    fn ends_with_enough_hosts_or_once_round() {
        let owner = place(1, 10);
        let check = |following: &[(u8, u8)], expected: &[u8]| {
            let run = following.iter().map(|(node, position)| place(*node, *position));
            let list: Vec<u8> = successor_list(&owner, run, 2).iter().map(|p| p.position.0[0]).collect();
            assert_eq!(list, expected, "{following:?}");
        };
        check(&[(2, 20), (3, 30), (4, 40)], &[20, 30]);
        check(&[(2, 20), (2, 30), (1, 40), (3, 50), (4, 60)], &[20, 30, 40, 50]);
        check(&[(2, 20), (2, 5), (1, 10), (2, 20)], &[20, 5, 10]);
        check(&[(1, 10)], &[10]);
        // The successor went round without knowing the owner.
        check(&[(2, 20), (2, 5), (2, 20)], &[20, 5, 10]);
        // Out of order: rubbish from a peer.
        check(&[(2, 30), (3, 20)], &[30, 10]);
    }
}
