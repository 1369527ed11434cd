//! Commands on several sets.

use bytes::Bytes;

use super::Set;
use crate::{
    Command, CommandError,
    Flag::{DenyOom, Write},
    KeyPositions, Keys, KeysCommand, KeysOutcome, Reply,
};

pub(super) fn commands() -> Vec<KeysCommand> {
    let store = |name, summary| {
        let command = Command { keys: KeyPositions::ALL, ..Command::on_key(name, -3, &[Write, DenyOom]) };
        command.documented("set", "1.0.0", "O(N) for N members of all sets", summary)
    };
    vec![KeysCommand::new(store("sunionstore", "Stores what is a member of one of several sets"), |keys, _, _| {
        stored(keys, &union(&sets(keys, 1)?))
    })]
}

/// The sets from this key on; `None` for a key that does not exist.
fn sets<'a>(keys: &Keys<'a>, first: usize) -> Result<Vec<Option<&'a Set>>, CommandError> {
    (first..keys.len()).map(|index| keys.find::<Set>(index)).collect()
}

fn union(sets: &[Option<&Set>]) -> Set {
    collected(sets.iter().flatten().flat_map(|set| set.members()))
}

fn collected<'a>(members: impl Iterator<Item = &'a Bytes>) -> Set {
    let mut set = Set::default();
    members.for_each(|member| set.add(member.clone()));
    set
}

/// The first key holds the set.
fn stored(keys: &Keys<'_>, set: &Set) -> Result<KeysOutcome, CommandError> {
    Ok(KeysOutcome::new(Reply::count(set.members().len()), keys.hold(0, set, None)))
}
