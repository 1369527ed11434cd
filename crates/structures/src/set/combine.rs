//! Commands on several sets.

use bytes::Bytes;
use indexmap::IndexSet;

use super::{Set, SetOperation};
use crate::{
    Arguments, Command, CommandError, Effect,
    Flag::{self, DenyOom, Fast, MovableKeys, ReadOnly, Write},
    KeyPositions, Keys, KeysCommand, KeysOutcome, Reply, keys_command,
};

type Combined = Result<KeysOutcome, CommandError>;

pub(super) fn commands() -> Vec<KeysCommand> {
    let command = |name, arity, flags, keys, since, summary| {
        let command = Command { keys, ..Command::on_key(name, arity, flags) };
        command.documented("set", since, "O(N) for N members of all sets", summary)
    };
    let read = |name, summary, combine: Combine| {
        let command = command(name, -2, &[ReadOnly], KeyPositions::ALL, "1.0.0", summary);
        KeysCommand::new(command, move |keys, _, _| {
            let members = combine(&sets(keys, 0)?);
            Ok(KeysOutcome::reply(Reply::Set(members.into_iter().cloned().map(Reply::Bulk).collect())))
        })
    };
    let store = |name, summary, combine: Combine| {
        let command = command(name, -3, &[Write, DenyOom], KeyPositions::ALL, "1.0.0", summary);
        KeysCommand::new(command, move |keys, _, _| {
            let mut set = Set::default();
            combine(&sets(keys, 1)?).into_iter().for_each(|member| set.add(member.clone()));
            Ok(KeysOutcome::new(Reply::count(set.members.len()), keys.hold(0, &set, None)))
        })
    };
    let both = KeyPositions { first: 1, last: 2, step: 1 };
    const COUNTS: &[Flag] = &[ReadOnly, MovableKeys];
    let count = command("sintercard", -3, COUNTS, KeyPositions::NONE, "7.0.0", "Counts the common members of sets");
    let pass = command("smove", 4, &[Write, Fast], both, "1.0.0", "Moves a member from one set to another");
    vec![
        read("sunion", "Reads what is a member of one of several sets", union),
        read("sinter", "Reads what is a member of each of several sets", intersection),
        read("sdiff", "Reads what is a member of the first set only", difference),
        store("sunionstore", "Stores what is a member of one of several sets", union),
        store("sinterstore", "Stores what is a member of each of several sets", intersection),
        store("sdiffstore", "Stores what is a member of the first set only", difference),
        KeysCommand::new(count, |keys, arguments, _| sintercard(keys, arguments)).finding_keys(|_, arguments| {
            let count = keys_command::count_of_keys(arguments, 1)?;
            if count > arguments.len() - 2 {
                return Err(CommandError::new("Number of keys can't be greater than number of args"));
            }
            Ok((2..2 + count).collect())
        }),
        KeysCommand::new(pass, |keys, arguments, _| smove(keys, arguments)),
    ]
}

/// What several sets come to, `None` being one that does not exist.
type Combine = for<'a> fn(&[Option<&'a Set>]) -> IndexSet<&'a Bytes>;

/// The sets from this key on.
fn sets<'a>(keys: &Keys<'a>, first: usize) -> Result<Vec<Option<&'a Set>>, CommandError> {
    (first..keys.len()).map(|index| keys.find::<Set>(index)).collect()
}

fn union<'a>(sets: &[Option<&'a Set>]) -> IndexSet<&'a Bytes> {
    sets.iter().flatten().flat_map(|set| &set.members).collect()
}

/// Of the smallest one, what all the others have.
fn intersection<'a>(sets: &[Option<&'a Set>]) -> IndexSet<&'a Bytes> {
    common(sets).collect()
}

fn common<'a>(sets: &[Option<&'a Set>]) -> impl Iterator<Item = &'a Bytes> {
    let all: Vec<&Set> = sets.iter().copied().collect::<Option<_>>().unwrap_or_default();
    let smallest = all.iter().copied().min_by_key(|set| set.members.len());
    let members = smallest.into_iter().flat_map(|set| &set.members);
    members.filter(move |member| all.iter().all(|set| set.members.contains(*member)))
}

fn difference<'a>(sets: &[Option<&'a Set>]) -> IndexSet<&'a Bytes> {
    let Some((Some(first), others)) = sets.split_first() else { return IndexSet::new() };
    let is_elsewhere = |member: &Bytes| others.iter().flatten().any(|set| set.members.contains(member));
    first.members.iter().filter(|member| !is_elsewhere(member)).collect()
}

fn sintercard(keys: &Keys<'_>, arguments: &mut Arguments<'_>) -> Combined {
    let mut limit = 0;
    while !arguments.is_empty() {
        if !arguments.take_option("limit", 1) {
            return Err(CommandError::Syntax);
        }
        limit = arguments.count_or("LIMIT can't be negative")?;
    }
    let most = if limit == 0 { usize::MAX } else { limit };
    Ok(KeysOutcome::reply(Reply::count(common(&sets(keys, 0)?).take(most).count())))
}

fn smove(keys: &Keys<'_>, arguments: &mut Arguments<'_>) -> Combined {
    let member = arguments.next_bytes()?;
    let Some(from) = keys.find::<Set>(0)? else { return Ok(KeysOutcome::reply(Reply::Integer(0))) };
    let to = keys.find::<Set>(1)?;
    let reply = Reply::one_if(from.members.contains(member));
    if reply == Reply::Integer(0) || keys.is_same(0, 1) {
        return Ok(KeysOutcome::reply(reply));
    }
    let mut effects = vec![(0, Effect::apply::<Set>(&SetOperation::Remove(vec![member.clone()])))];
    if !to.is_some_and(|to| to.members.contains(member)) {
        effects.push((1, Effect::apply::<Set>(&SetOperation::Add(vec![member.clone()]))));
    }
    Ok(KeysOutcome::new(reply, effects))
}
