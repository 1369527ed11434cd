//! Sets: members, each once.

mod combine;
mod commands;

use bytes::Bytes;
use indexmap::IndexSet;
use serde::{Deserialize, Serialize};

use crate::{KeyCommand, KeysCommand, Rebuilding, Structure, in_commands, number::parse_integer};

/// Members, each once. A member that goes leaves its place to the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Checkpoint")]
pub struct Set {
    members: IndexSet<Bytes>,
    /// Whether it has once been more than what Redis calls an intset, and so is a hash table for good.
    is_table: bool,
    /// Bytes of all members: follows from them.
    #[serde(skip)]
    bytes: usize,
}

/// What a checkpoint has of a set.
#[derive(Deserialize)]
struct Checkpoint {
    members: IndexSet<Bytes>,
    is_table: bool,
}

impl From<Checkpoint> for Set {
    fn from(checkpoint: Checkpoint) -> Self {
        let bytes = checkpoint.members.iter().map(Bytes::len).sum();
        Self { members: checkpoint.members, is_table: checkpoint.is_table, bytes }
    }
}

/// What the log of a set consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SetOperation {
    /// These are members from now on.
    Add(Vec<Bytes>),
    /// These are none any more.
    Remove(Vec<Bytes>),
    /// Nothing is a member any more.
    Clear,
    /// These are all members from now on.
    Keep(Vec<Bytes>),
}

/// Redis's bound of an intset.
const INTSET_MEMBERS_MAX: usize = 512;

impl Set {
    fn add(&mut self, member: Bytes) {
        let length = member.len();
        self.is_table |= parse_integer(&member).is_none();
        if self.members.insert(member) {
            self.bytes += length;
        }
        self.is_table |= self.members.len() > INTSET_MEMBERS_MAX;
    }

    fn remove(&mut self, member: &Bytes) {
        if self.members.swap_remove(member) {
            self.bytes -= member.len();
        }
    }

    /// Whether this is a member.
    pub(crate) fn contains(&self, member: &Bytes) -> bool {
        self.members.contains(member)
    }

    /// All members.
    pub(crate) fn members(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.members.iter()
    }
}

impl Structure for Set {
    const ID: u8 = 3;
    const NAME: &'static str = "set";
    type Operation = SetOperation;

    fn apply(&mut self, operation: SetOperation) {
        match operation {
            SetOperation::Add(members) => members.into_iter().for_each(|member| self.add(member)),
            SetOperation::Remove(members) => members.iter().for_each(|member| self.remove(member)),
            SetOperation::Clear => *self = Self::default(),
            SetOperation::Keep(members) => {
                *self = Self::default();
                members.into_iter().for_each(|member| self.add(member));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn weight(&self) -> usize {
        self.bytes + 60 * self.members.len()
    }

    fn encoding(&self) -> &'static str {
        if self.is_table { "hashtable" } else { "intset" }
    }

    fn rebuild(&self) -> Option<Vec<Rebuilding>> {
        Some(in_commands("sadd", self.members.iter().map(|member| [member.clone()])))
    }

    fn commands() -> Vec<KeyCommand> {
        commands::commands()
    }

    fn commands_on_keys() -> Vec<KeysCommand> {
        combine::commands()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Context, Effect, Held, Registry, Reply, View, structure::encode};

    fn set(members: &[&'static str]) -> Set {
        let mut set = Set::default();
        set.apply(SetOperation::Add(members.iter().map(|member| Bytes::from_static(member.as_bytes())).collect()));
        set
    }

    /// What `SPOP` with these arguments plans.
    fn pop(set: &Set, seed: u64, count: Option<&'static str>) -> (Reply, SetOperation) {
        let arguments: Vec<Bytes> = ["spop", "key"].into_iter().chain(count).map(Bytes::from).collect();
        let view = View { held: Some(Held::Structure(set)), deadline: None };
        let context = Context::new(difuse_types::WallTime(0), seed);
        let outcome = Registry::builtin().evaluate(&view, &arguments, &context).expect("a reply");
        let Effect::Apply { operation, .. } = outcome.effect else { panic!("{outcome:?}") };
        (outcome.reply, postcard::from_bytes(&operation).expect("an operation"))
    }

    #[test]
    fn a_member_taken_at_random_is_named_in_the_log() {
        let set = set(&["a", "b", "c"]);
        let mut taken = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let (reply, operation) = pop(&set, seed, None);
            let SetOperation::Remove(members) = operation else { panic!("{operation:?}") };
            assert_eq!(reply, Reply::Bulk(members[0].clone()));
            assert_eq!(pop(&set, seed, None), (reply, SetOperation::Remove(members.clone())));
            taken.extend(members);
        }
        assert_eq!(taken.len(), 3);
        assert_eq!(pop(&set, 1, Some("9")).1, SetOperation::Clear);
    }

    #[test]
    fn few_that_stay_are_logged_in_place_of_many_that_go() {
        let set = set(&["a", "b", "c", "d", "e", "1"]);
        let (reply, operation) = pop(&set, 3, Some("5"));
        let (Reply::Set(taken), SetOperation::Keep(kept)) = (reply, operation.clone()) else { panic!("{operation:?}") };
        assert_eq!((taken.len(), kept.len()), (5, 1));
        assert!(set.members.contains(&kept[0]) && !taken.contains(&Reply::Bulk(kept[0].clone())));
        let mut after = set.clone();
        after.apply(operation);
        assert_eq!((after.members.len(), after.bytes), (1, 1));
        after.apply(SetOperation::Keep(vec![Bytes::from_static(b"7")]));
        assert_eq!(after.encoding(), "intset");
        assert!(matches!(pop(&set, 3, Some("4")).1, SetOperation::Remove(taken) if taken.len() == 4));
    }

    #[test]
    fn integers_are_an_intset_until_something_else_comes() {
        let mut set = set(&["1", "-2"]);
        assert_eq!(set.encoding(), "intset");
        set.apply(SetOperation::Add(vec![Bytes::from_static(b"01")]));
        set.apply(SetOperation::Remove(vec![Bytes::from_static(b"01")]));
        assert_eq!((set.encoding(), set.bytes), ("hashtable", 3));
        let read: Set = postcard::from_bytes(&encode(&set)).expect("a checkpoint");
        assert_eq!(read, set);
    }
}
