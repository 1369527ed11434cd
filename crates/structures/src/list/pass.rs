//! Commands that take items from one list and give them to another, or from the first of several that has any. Those
//! that may wait come to "nothing" here where there is nothing to take: whoever has asked waits, and asks again.

use bytes::Bytes;

use super::{DenyOom, Flag, List, ListOperation, Write};
use crate::{
    Arguments, Command, CommandError, Effect,
    Flag::{Blocking, MovableKeys},
    KeyPositions, Keys, KeysCommand, KeysOutcome, Reply, keys_command, timeout,
};

type Passed = Result<KeysOutcome, CommandError>;

pub(super) fn commands() -> Vec<KeysCommand> {
    const MOVES: &[Flag] = &[Write, DenyOom];
    const MOVES_LATER: &[Flag] = &[Write, DenyOom, Blocking];
    const TAKES: &[Flag] = &[Write, MovableKeys];
    const TAKES_LATER: &[Flag] = &[Write, Blocking];
    let both = KeyPositions { first: 1, last: 2, step: 1 };
    let all_but_last = KeyPositions { first: 1, last: -2, step: 1 };
    let command = |name, arity, flags, keys, since, complexity, summary| {
        Command { keys, ..Command::on_key(name, arity, flags) }.documented("list", since, complexity, summary)
    };
    let passing = |name, arity, flags, since, summary| command(name, arity, flags, both, since, "O(1)", summary);
    let taking = |name, arity, flags, keys, since, summary| {
        command(name, arity, flags, keys, since, "O(N) for N keys and items", summary)
    };
    let none = KeyPositions::NONE;
    let pass_on = "Takes an item from an end of a list and puts it to one of another";
    let from_front = "Takes the first item of the first of several lists that has one, waiting for it";
    let from_back = "Takes the last item of the first of several lists that has one, waiting for it";
    vec![
        KeysCommand::new(passing("lmove", 5, MOVES, "6.2.0", pass_on), |keys, arguments, _| {
            let (from, to) = (End::read(arguments)?, End::read(arguments)?);
            pass(keys, from, to)
        }),
        KeysCommand::new(passing("rpoplpush", 3, MOVES, "1.2.0", pass_on), |keys, _, _| {
            pass(keys, End::Back, End::Front)
        }),
        KeysCommand::new(passing("blmove", 6, MOVES_LATER, "6.2.0", pass_on), |keys, arguments, _| {
            let (from, to) = (End::read(arguments)?, End::read(arguments)?);
            timeout::read(arguments.next_bytes()?)?;
            pass(keys, from, to)
        }),
        KeysCommand::new(passing("brpoplpush", 4, MOVES_LATER, "2.2.0", pass_on), |keys, arguments, _| {
            timeout::read(arguments.next_bytes()?)?;
            pass(keys, End::Back, End::Front)
        }),
        KeysCommand::new(
            taking("lmpop", -4, TAKES, none, "7.0.0", "Takes items from the first of several lists that has any"),
            |keys, arguments, _| {
                let (end, count) = end_and_count(arguments)?;
                take_several(keys, end, count)
            },
        )
        .finding_keys(|_, arguments| keys_command::counted_before_word(arguments, 1)),
        KeysCommand::new(
            taking("blmpop", -5, &[Write, Blocking, MovableKeys], none, "7.0.0", "The same, waiting for items"),
            |keys, arguments, _| {
                let (end, count) = end_and_count(arguments)?;
                timeout::read(&keys.arguments()[1])?;
                take_several(keys, end, count)
            },
        )
        .finding_keys(|_, arguments| keys_command::counted_before_word(arguments, 2)),
        KeysCommand::new(taking("blpop", -3, TAKES_LATER, all_but_last, "2.0.0", from_front), |keys, arguments, _| {
            timeout::read(arguments.next_bytes()?)?;
            take_one(keys, End::Front)
        }),
        KeysCommand::new(taking("brpop", -3, TAKES_LATER, all_but_last, "2.0.0", from_back), |keys, arguments, _| {
            timeout::read(arguments.next_bytes()?)?;
            take_one(keys, End::Back)
        }),
    ]
}

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl End {
    fn read(arguments: &mut Arguments<'_>) -> Result<Self, CommandError> {
        if arguments.take_word("left") {
            Ok(Self::Front)
        } else if arguments.take_word("right") {
            Ok(Self::Back)
        } else {
            Err(CommandError::Syntax)
        }
    }

    fn push(self, item: Bytes) -> Effect {
        Effect::apply::<List>(&match self {
            Self::Front => ListOperation::PushFront(vec![item]),
            Self::Back => ListOperation::PushBack(vec![item]),
        })
    }

    /// Takes so many of `length` items.
    fn pop(self, length: usize, count: usize) -> Effect {
        let position = match self {
            Self::Front => 0,
            Self::Back => length.saturating_sub(count),
        };
        Effect::apply::<List>(&ListOperation::Remove(position as u64, count as u64))
    }

    /// So many items, the one at the end first.
    fn items(self, list: &List, count: usize) -> Vec<Bytes> {
        match self {
            Self::Front => list.items.iter().take(count).cloned().collect(),
            Self::Back => list.items.iter().rev().take(count).cloned().collect(),
        }
    }
}

/// From the first key to the second one.
fn pass(keys: &Keys<'_>, from: End, to: End) -> Passed {
    let Some(list) = keys.find::<List>(0)? else { return Ok(KeysOutcome::reply(Reply::Null)) };
    keys.find::<List>(1)?;
    let Some(item) = from.items(list, 1).pop() else { return Ok(KeysOutcome::reply(Reply::Null)) };
    let reply = Reply::Bulk(item.clone());
    let length = list.items.len();
    if !keys.is_same(0, 1) {
        return Ok(KeysOutcome::new(reply, vec![(0, from.pop(length, 1)), (1, to.push(item))]));
    }
    if from == to {
        return Ok(KeysOutcome::reply(reply));
    }
    // Pushed first: a list of one item must not end, and lose its deadline, in between.
    Ok(KeysOutcome::new(reply, vec![(0, to.push(item)), (0, from.pop(length + 1, 1))]))
}

fn end_and_count(arguments: &mut Arguments<'_>) -> Result<(End, usize), CommandError> {
    let end = End::read(arguments)?;
    Ok((end, keys_command::count_option(arguments)?))
}

fn take_one(keys: &Keys<'_>, end: End) -> Passed {
    let Some((index, list)) = keys.find_first::<List>()? else { return Ok(KeysOutcome::reply(Reply::NullArray)) };
    let items = end.items(list, 1);
    let reply = Reply::bulks([Bytes::copy_from_slice(keys.name(index))].into_iter().chain(items));
    Ok(KeysOutcome::new(reply, vec![(index, end.pop(list.items.len(), 1))]))
}

fn take_several(keys: &Keys<'_>, end: End, count: usize) -> Passed {
    let Some((index, list)) = keys.find_first::<List>()? else { return Ok(KeysOutcome::reply(Reply::NullArray)) };
    let items = end.items(list, count);
    let pop = end.pop(list.items.len(), items.len());
    let name = Reply::bulk(Bytes::copy_from_slice(keys.name(index)));
    Ok(KeysOutcome::new(Reply::Array(vec![name, Reply::bulks(items)]), vec![(index, pop)]))
}
