//! Commands that take members from the first of several sorted sets that has any, or store a part of one under another
//! key. Those that may wait come to "nothing" here where there is nothing to take.

use bytes::Bytes;

use super::{Entry, SortedSet, SortedSetOperation, ranges::Range};
use crate::{
    Arguments, Command, CommandError, Effect,
    Flag::{self, Blocking, DenyOom, Fast, MovableKeys, Write},
    KeyPositions, Keys, KeysCommand, KeysOutcome, Reply, keys_command, timeout,
};

type Taken = Result<KeysOutcome, CommandError>;

pub(super) fn commands() -> Vec<KeysCommand> {
    const TAKES_LATER: &[Flag] = &[Write, Blocking, Fast];
    let command = |name, arity, flags, keys, since, summary| {
        let complexity = "O(K + M log N) for K keys, M members taken or stored of N";
        Command { keys, ..Command::on_key(name, arity, flags) }.documented("sorted-set", since, complexity, summary)
    };
    let both = KeyPositions { first: 1, last: 2, step: 1 };
    let all_but_last = KeyPositions { first: 1, last: -2, step: 1 };
    let none = KeyPositions::NONE;
    let lowest = "Takes the lowest member of the first of several sorted sets that has one, waiting for it";
    let highest = "Takes the highest member of the first of several sorted sets that has one, waiting for it";
    vec![
        KeysCommand::new(
            command("zrangestore", -5, &[Write, DenyOom], both, "6.2.0", "Stores a range of a sorted set"),
            |keys, arguments, _| zrangestore(keys, arguments),
        ),
        KeysCommand::new(
            command("zmpop", -4, &[Write, MovableKeys], none, "7.0.0", "Takes members from the first of several"),
            |keys, arguments, _| {
                let (end, count) = end_and_count(arguments)?;
                take_several(keys, end, count)
            },
        )
        .finding_keys(|_, arguments| keys_command::counted_before_word(arguments, 1)),
        KeysCommand::new(
            command("bzmpop", -5, &[Write, Blocking, MovableKeys], none, "7.0.0", "The same, waiting for members"),
            |keys, arguments, _| {
                let (end, count) = end_and_count(arguments)?;
                timeout::read(&keys.arguments()[1])?;
                take_several(keys, end, count)
            },
        )
        .finding_keys(|_, arguments| keys_command::counted_before_word(arguments, 2)),
        KeysCommand::new(command("bzpopmin", -3, TAKES_LATER, all_but_last, "5.0.0", lowest), |keys, arguments, _| {
            timeout::read(arguments.next_bytes()?)?;
            take_one(keys, End::Lowest)
        }),
        KeysCommand::new(command("bzpopmax", -3, TAKES_LATER, all_but_last, "5.0.0", highest), |keys, arguments, _| {
            timeout::read(arguments.next_bytes()?)?;
            take_one(keys, End::Highest)
        }),
    ]
}

fn zrangestore(keys: &Keys<'_>, arguments: &mut Arguments<'_>) -> Taken {
    let range = Range::to_store(arguments)?;
    let mut stored = SortedSet::default();
    if let Some(set) = keys.find::<SortedSet>(1)? {
        range.entries(set).for_each(|entry| stored.set(entry.member.clone(), entry.score));
    }
    Ok(KeysOutcome::new(Reply::count(stored.scores.len()), keys.hold(0, &stored, None)))
}

#[derive(Clone, Copy)]
enum End {
    Lowest,
    Highest,
}

impl End {
    /// So many entries from this end, and what takes them away.
    fn take(self, set: &SortedSet, count: usize) -> (Vec<&Entry>, Effect) {
        let length = set.ranked.len();
        let taken = count.min(length);
        let from = match self {
            Self::Lowest => 0,
            Self::Highest => length - taken,
        };
        let entries = set.ranked.range(from..from + taken);
        let entries = match self {
            Self::Lowest => entries.collect(),
            Self::Highest => entries.rev().collect(),
        };
        (entries, Effect::apply::<SortedSet>(&SortedSetOperation::RemoveRanks(from as u64, taken as u64)))
    }
}

fn end_and_count(arguments: &mut Arguments<'_>) -> Result<(End, usize), CommandError> {
    let end = if arguments.take_word("min") {
        End::Lowest
    } else if arguments.take_word("max") {
        End::Highest
    } else {
        return Err(CommandError::Syntax);
    };
    Ok((end, keys_command::count_option(arguments)?))
}

fn name(keys: &Keys<'_>, index: usize) -> Reply {
    Reply::bulk(Bytes::copy_from_slice(keys.name(index)))
}

fn pair(entry: &Entry) -> [Reply; 2] {
    [Reply::Bulk(entry.member.clone()), Reply::Double(entry.score)]
}

fn take_one(keys: &Keys<'_>, end: End) -> Taken {
    let Some((index, set)) = keys.find_first::<SortedSet>()? else { return Ok(KeysOutcome::reply(Reply::NullArray)) };
    let (entries, effect) = end.take(set, 1);
    let items = [name(keys, index)].into_iter().chain(entries.into_iter().flat_map(pair));
    Ok(KeysOutcome::new(Reply::Array(items.collect()), vec![(index, effect)]))
}

fn take_several(keys: &Keys<'_>, end: End, count: usize) -> Taken {
    let Some((index, set)) = keys.find_first::<SortedSet>()? else { return Ok(KeysOutcome::reply(Reply::NullArray)) };
    let (entries, effect) = end.take(set, count);
    let pairs = entries.into_iter().map(|entry| Reply::Array(pair(entry).into()));
    let reply = Reply::Array(vec![name(keys, index), Reply::Array(pairs.collect())]);
    Ok(KeysOutcome::new(reply, vec![(index, effect)]))
}
