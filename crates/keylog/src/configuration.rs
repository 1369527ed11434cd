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
    /// Counts configurations of the slot, from 1. A recovery begins to count anew, higher: the upper bits count the
    /// recoveries ([`Configuration::recoveries`]), then come those that it drew, then the configurations since.
    pub epoch: u64,
    /// The members, in the order in which they are preferred as leader (that of the ring's successors).
    pub members: Vec<NodeId>,
    /// The members-to-be while the group is moving; else empty.
    pub joint: Vec<NodeId>,
    /// The hash of the configuration before, zero for the first.
    pub previous: Hash,
    /// Names the last recovery: the hash of its configuration, without this name. Zero if there was none.
    pub recovery: Hash,
}

impl Configuration {
    /// The most members a group can have, twice that while it is joint.
    pub const MEMBERS_MAX: usize = 15;
    /// The most recoveries that an epoch can count: then a slot cannot be recovered any more.
    pub const RECOVERIES_MAX: u64 = 255;
    /// Bits of an epoch that count the configurations since a recovery.
    const STEP_BITS: u32 = 20;
    /// Bits above them that the recovery drew at random. Together with the count of recoveries they make 52 bits, so that
    /// an epoch keeps its value in JSON.
    const DRAWN_BITS: u32 = 24;

    /// The first configuration of a slot.
    pub fn first(slot: SlotId, members: Vec<NodeId>) -> Self {
        Self { slot, epoch: 1, members, joint: Vec::new(), previous: Hash::ZERO, recovery: Hash::ZERO }
    }

    /// The joint configuration on the way from this one to `target`.
    pub fn towards(&self, target: Vec<NodeId>) -> Self {
        Self {
            slot: self.slot,
            epoch: self.epoch + 1,
            members: self.members.clone(),
            joint: target,
            previous: self.hash(),
            recovery: self.recovery,
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
            recovery: self.recovery,
        })
    }

    /// The configuration by which an operator revives a group that lost its majority for ever: the survivors alone. Its
    /// epoch is above all that the group can have decided, and depends on `drawn`, so that two recoveries that do not know
    /// of each other hardly ever share one: the higher one stands when they meet. `None` after too many recoveries.
    pub fn recovered(&self, survivors: Vec<NodeId>, drawn: u32) -> Option<Self> {
        let recoveries = self.recoveries() + 1;
        let drawn = u64::from(drawn) & ((1 << Self::DRAWN_BITS) - 1);
        let epoch = (recoveries << Self::DRAWN_BITS | drawn) << Self::STEP_BITS;
        let (slot, members, joint, previous) = (self.slot, survivors, Vec::new(), self.hash());
        let nameless = Self { slot, epoch, members, joint, previous, recovery: Hash::ZERO };
        let recovery = nameless.hash();
        (recoveries <= Self::RECOVERIES_MAX).then_some(Self { recovery, ..nameless })
    }

    /// How often the slot was recovered: after each, writes that were acknowledged before may be missing.
    pub fn recoveries(&self) -> u64 {
        Self::recoveries_of(self.epoch)
    }

    /// The same of an epoch alone.
    pub fn recoveries_of(epoch: u64) -> u64 {
        epoch >> (Self::STEP_BITS + Self::DRAWN_BITS)
    }

    /// The epoch with which the last recovery before an epoch began; 0 if there was none.
    pub(crate) const fn recovery_epoch(epoch: u64) -> u64 {
        epoch >> Self::STEP_BITS << Self::STEP_BITS
    }

    /// Whether this configuration goes back to another recovery than `known`, so that what a member accepted under
    /// `known` may be what the recovery did without: the member must drop it and begin as a newcomer. Not so for those
    /// that the recovery itself names, since it goes on with what they hold.
    pub fn begins_anew_after(&self, known: &Self) -> bool {
        self.recovery != known.recovery && !self.is_recovery()
    }

    /// Whether this configuration stands where `known` is met: the higher epoch does. Only two recoveries that do not know
    /// of each other, and drew the same, can share an epoch: then the greater hash stands, whoever compares.
    pub fn supersedes(&self, known: &Self) -> bool {
        match self.epoch.cmp(&known.epoch) {
            std::cmp::Ordering::Equal => self.recoveries() > 0 && self.hash() > known.hash(),
            order => order.is_gt(),
        }
    }

    /// Whether this is the configuration that a recovery began with. What the survivors hold may differ, and what was
    /// committed may be held by a single one: until they hold the same, all of them must agree to everything.
    pub fn is_recovery(&self) -> bool {
        self.recoveries() > 0 && self.epoch & ((1 << Self::STEP_BITS) - 1) == 0
    }

    /// The configuration that follows a recovery's first one, when all survivors hold the same: a majority is enough.
    pub fn reunited(&self) -> Option<Self> {
        self.is_recovery().then(|| Self { epoch: self.epoch + 1, previous: self.hash(), ..self.clone() })
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

    /// Who must hold every block of the slot before the next configuration is entered: the newcomers of a joint one. All
    /// members-to-be, if so few are left that those whom a write did not reach could be a majority of them.
    ///
    /// A block that was acknowledged is held by one member of every majority, so that less than a majority may lack it.
    pub fn collectors(&self) -> Vec<NodeId> {
        let newcomers = self.newcomers();
        let staying = self.joint.len() - newcomers.len();
        let lacking_max = staying.min(self.members.len() / 2);
        if lacking_max > self.joint.len() / 2 { self.joint.clone() } else { newcomers }
    }

    /// Whether `voters` hold a majority of the members and, while joint, of the members-to-be as well; or are all
    /// members, just after a recovery.
    pub fn is_quorum(&self, voters: &BTreeSet<NodeId>) -> bool {
        if self.is_recovery() {
            return self.all_members().iter().all(|node| voters.contains(node));
        }
        let majority = |group: &[NodeId]| {
            let votes = group.iter().filter(|node| voters.contains(node)).count();
            2 * votes > group.len()
        };
        majority(&self.members) && (!self.is_joint() || majority(&self.joint))
    }

    /// The hash that the next configuration names as its previous: blake3 over every field, lists framed; the name of the
    /// recovery only if there is one.
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
        if self.recovery != Hash::ZERO {
            hasher.update(self.recovery.as_bytes());
        }
        Hash(*hasher.finalize().as_bytes())
    }

    /// Whether the lists are within bounds and name nobody twice, and a recovery is named if there was one: checked on everything that a peer sends.
    pub fn is_well_formed(&self) -> bool {
        let distinct = |group: &[NodeId]| group.iter().collect::<BTreeSet<_>>().len() == group.len();
        self.epoch > 0
            && (self.recoveries() > 0) == (self.recovery != Hash::ZERO)
            && (1..=Self::MEMBERS_MAX).contains(&self.members.len())
            && self.joint.len() <= Self::MEMBERS_MAX
            && distinct(&self.members)
            && distinct(&self.joint)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use difuse_types::{Hash, NodeId, SlotId};

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
    fn members_that_stay_collect_blocks_where_they_alone_might_lack_one() {
        let check = |members: &[u8], joint: &[u8], expected: &[u8]| {
            let joint = Configuration::first(SlotId(0), nodes(members)).towards(nodes(joint));
            assert_eq!(joint.collectors(), nodes(expected), "{members:?} {joint:?}");
        };
        check(&[1], &[1, 2, 3], &[2, 3]);
        check(&[1, 2, 3], &[2, 3, 4], &[4]);
        check(&[1, 2, 3], &[3, 4, 5], &[4, 5]);
        check(&[1, 2, 3], &[2, 3], &[]);
        check(&[1, 2, 3, 4, 5], &[1, 2, 3, 4], &[]);
        check(&[1, 2, 3], &[3], &[3]);
        check(&[1, 2], &[2], &[2]);
        check(&[1, 2, 3, 4, 5], &[3, 4, 5], &[3, 4, 5]);
        check(&[1, 2, 3, 4, 5], &[4, 5, 6], &[4, 5, 6]);
        assert_eq!(Configuration::first(SlotId(0), nodes(&[1, 2, 3])).collectors(), []);
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
    fn a_recovery_is_above_everything_decided_before_and_needs_all_survivors() {
        let lost = Configuration { epoch: 77, ..Configuration::first(SlotId(7), nodes(&[1, 2, 3, 4, 5])) };
        let recovered = lost.recovered(nodes(&[1, 2, 4]), u32::MAX).unwrap();
        assert_eq!((lost.recoveries(), recovered.recoveries(), recovered.previous), (0, 1, lost.hash()));
        assert!(recovered.epoch > 1 << 40 && recovered.epoch < 1 << 53 && recovered.is_recovery());
        let voters = |names: &[u8]| nodes(names).into_iter().collect::<BTreeSet<_>>();
        assert!(!recovered.is_quorum(&voters(&[1, 2])) && recovered.is_quorum(&voters(&[1, 2, 4])));
        let reunited = recovered.reunited().unwrap();
        assert!(reunited.is_quorum(&voters(&[1, 2])) && !reunited.is_recovery() && reunited.recoveries() == 1);
        assert_eq!((reunited.reunited(), lost.reunited()), (None, None));
        let [one, other] = [1, 2].map(|drawn| lost.recovered(nodes(&[1]), drawn).unwrap().epoch);
        assert_ne!(one, other);
        assert!(recovered.is_well_formed() && reunited.is_well_formed());
        assert!(!Configuration { recovery: Hash::ZERO, ..reunited.clone() }.is_well_formed());
        assert!(!Configuration { recovery: reunited.recovery, ..lost.clone() }.is_well_formed());
        let mut again = reunited;
        while let Some(next) = again.recovered(nodes(&[1]), 0) {
            assert!(next.epoch > again.epoch);
            again = next;
        }
        assert_eq!(again.recoveries(), Configuration::RECOVERIES_MAX);
    }

    /// Even if they drew the same, and however far each has gone on since.
    #[test]
    fn two_recoveries_by_different_survivors_are_never_taken_for_one() {
        let lost = Configuration::first(SlotId(7), nodes(&[1, 2, 3]));
        let [one, other] = [&[1], &[2]].map(|survivors| lost.recovered(nodes(survivors), 7).unwrap());
        assert_eq!(one.epoch, other.epoch);
        let ahead = other.reunited().unwrap().towards(nodes(&[1, 2])).completed().unwrap();
        let behind = one.reunited().unwrap();
        assert!(ahead.supersedes(&behind) && ahead.begins_anew_after(&behind) && behind.begins_anew_after(&ahead));
        assert!(!ahead.begins_anew_after(&other) && !behind.begins_anew_after(&one));
    }

    #[test]
    fn refuses_groups_that_name_a_node_twice_or_nobody() {
        assert!(!Configuration::first(SlotId(0), nodes(&[])).is_well_formed());
        assert!(!Configuration::first(SlotId(0), nodes(&[1, 1])).is_well_formed());
        assert!(Configuration::first(SlotId(0), nodes(&[1, 2])).is_well_formed());
    }
}
