use std::collections::BTreeSet;

use difuse_types::{Hash, HashContext, NodeId, SlotId};

static CONTEXT: HashContext = HashContext::new("difuse 2026 configuration v1");

/// The agreed replica group of a slot. **The ring proposes who should hold a thing; this decides who does.**
///
/// While `joint` is not empty the group is moving from `members` to `joint`, and every decision needs a majority of
/// each (DESIGN section 5, *Changing a configuration*).
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Configuration {
    /// The slot.
    pub slot: SlotId,
    /// Counts configurations of the slot, from 1.
    pub epoch: u64,
    /// The members, in the order in which they are preferred as leader (that of the ring's successors).
    pub members: Vec<NodeId>,
    /// The members-to-be while the group is moving; else empty.
    pub joint: Vec<NodeId>,
    /// The hash of the configuration before, zero for the first.
    pub previous: Hash,
}

impl Configuration {
    /// The most members a group can have, twice that while it is joint.
    pub const MEMBERS_MAX: usize = 15;

    /// The first configuration of a slot.
    pub fn first(slot: SlotId, members: Vec<NodeId>) -> Self {
        Self { slot, epoch: 1, members, joint: Vec::new(), previous: Hash::ZERO }
    }

    /// The joint configuration on the way from this one to `target`.
    pub fn towards(&self, target: Vec<NodeId>) -> Self {
        Self {
            slot: self.slot,
            epoch: self.epoch + 1,
            members: self.members.clone(),
            joint: target,
            previous: self.hash(),
        }
    }

    /// The configuration that completes a joint one; `None` if this one is not joint.
    pub fn completed(&self) -> Option<Self> {
        self.is_joint().then(|| Self {
            slot: self.slot,
            epoch: self.epoch + 1,
            members: self.joint.clone(),
            joint: Vec::new(),
            previous: self.hash(),
        })
    }

    /// Whether the group is moving.
    pub fn is_joint(&self) -> bool {
        !self.joint.is_empty()
    }

    /// Whether `node` is a member, old or to be.
    pub fn contains(&self, node: &NodeId) -> bool {
        self.members.contains(node) || self.joint.contains(node)
    }

    /// Every member once, in order of preference as leader: the old ones first, they have the data.
    pub fn all_members(&self) -> Vec<NodeId> {
        let mut all = self.members.clone();
        all.extend(self.joint.iter().filter(|node| !self.members.contains(node)));
        all
    }

    /// The members-to-be that are not members yet.
    pub fn newcomers(&self) -> Vec<NodeId> {
        self.joint.iter().filter(|node| !self.members.contains(node)).copied().collect()
    }

    /// Whether `voters` hold a majority of the members and, while joint, of the members-to-be as well.
    pub fn is_quorum(&self, voters: &BTreeSet<NodeId>) -> bool {
        let majority = |group: &[NodeId]| {
            let votes = group.iter().filter(|node| voters.contains(node)).count();
            2 * votes > group.len()
        };
        majority(&self.members) && (!self.is_joint() || majority(&self.joint))
    }

    /// The hash that the next configuration names as its previous: blake3 over every field, lists framed.
    pub fn hash(&self) -> Hash {
        let mut hasher = CONTEXT.hasher();
        hasher.update(&self.slot.0.to_le_bytes());
        hasher.update(&self.epoch.to_le_bytes());
        for group in [&self.members, &self.joint] {
            hasher.update(&(group.len() as u64).to_le_bytes());
            for node in group {
                hasher.update(node.as_bytes());
            }
        }
        hasher.update(self.previous.as_bytes());
        Hash(*hasher.finalize().as_bytes())
    }

    /// Whether the lists are within bounds and name nobody twice: checked on everything that a peer sends.
    pub fn is_well_formed(&self) -> bool {
        let distinct = |group: &[NodeId]| group.iter().collect::<BTreeSet<_>>().len() == group.len();
        self.epoch > 0
            && (1..=Self::MEMBERS_MAX).contains(&self.members.len())
            && self.joint.len() <= Self::MEMBERS_MAX
            && distinct(&self.members)
            && distinct(&self.joint)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use difuse_types::{NodeId, SlotId};

    use super::Configuration;

    fn nodes(names: &[u8]) -> Vec<NodeId> {
        names.iter().map(|name| NodeId([*name; 32])).collect()
    }

    #[test]
    fn a_quorum_is_a_majority_of_each_group() {
        let check = |members: &[u8], joint: &[u8], voters: &[u8], expected: bool| {
            let mut configuration = Configuration::first(SlotId(0), nodes(members));
            configuration.joint = nodes(joint);
            let voters: BTreeSet<_> = nodes(voters).into_iter().collect();
            assert_eq!(configuration.is_quorum(&voters), expected, "{members:?} {joint:?} {voters:?}");
        };
        check(&[1, 2, 3], &[], &[1, 2], true);
        check(&[1, 2, 3], &[], &[1], false);
        check(&[1, 2, 3], &[], &[1, 4, 5], false);
        check(&[1, 2], &[], &[1], false);
        check(&[1], &[1, 2, 3], &[1], false);
        check(&[1], &[1, 2, 3], &[2, 3], false);
        check(&[1], &[1, 2, 3], &[1, 3], true);
    }

    #[test]
    fn each_configuration_names_the_one_before() {
        let first = Configuration::first(SlotId(7), nodes(&[1, 2, 3]));
        let joint = first.towards(nodes(&[2, 3, 4]));
        let last = joint.completed().unwrap();
        assert_eq!((joint.epoch, joint.previous), (2, first.hash()));
        assert_eq!((last.epoch, last.previous, last.members.clone()), (3, joint.hash(), nodes(&[2, 3, 4])));
        assert_eq!(joint.newcomers(), nodes(&[4]));
        assert_eq!(joint.all_members(), nodes(&[1, 2, 3, 4]));
        assert_eq!(last.completed(), None);
    }

    #[test]
    fn refuses_groups_that_name_a_node_twice_or_nobody() {
        assert!(!Configuration::first(SlotId(0), nodes(&[])).is_well_formed());
        assert!(!Configuration::first(SlotId(0), nodes(&[1, 1])).is_well_formed());
        assert!(Configuration::first(SlotId(0), nodes(&[1, 2])).is_well_formed());
    }
}
