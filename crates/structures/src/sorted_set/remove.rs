use std::collections::BTreeSet;

use bytes::Bytes;

use super::{Planned, SortedSet, SortedSetOperation, bounds::Bounds};
use crate::{
    Arguments, Command, CommandError, Context,
    Flag::{self, Fast, Write},
    Key, KeyCommand, Plan, Reply,
};

pub(super) fn commands() -> Vec<KeyCommand> {
    const FAST: &[Flag] = &[Write, Fast];
    const SLOW: &[Flag] = &[Write];
    let command = |name, arity, flags, since, summary| {
        Command::on_key(name, arity, flags).documented("sorted-set", since, "O(log N) for each member removed", summary)
    };
    vec![
        KeyCommand::on(command("zrem", -3, FAST, "1.2.0", "Removes members"), zrem),
        KeyCommand::on(
            command("zpopmin", -2, FAST, "5.0.0", "Takes the members with the lowest scores"),
            |key, a, _| pop(key, a, false),
        ),
        KeyCommand::on(
            command("zpopmax", -2, FAST, "5.0.0", "Takes the members with the highest scores"),
            |key, a, _| pop(key, a, true),
        ),
        KeyCommand::on(
            command("zremrangebyrank", 4, SLOW, "2.0.0", "Removes the members of a range of ranks"),
            |key, a, _| {
                let bounds = Bounds::Ranks(a.integer()?, a.integer()?);
                remove_range(key, &bounds)
            },
        ),
        KeyCommand::on(
            command("zremrangebyscore", 4, SLOW, "1.2.0", "Removes the members of a range of scores"),
            |key, a, _| remove_range(key, &Bounds::scores(a.next_bytes()?, a.next_bytes()?)?),
        ),
        KeyCommand::on(
            command("zremrangebylex", 4, SLOW, "2.8.9", "Removes a range of members with equal scores"),
            |key, a, _| remove_range(key, &Bounds::lex(a.next_bytes()?, a.next_bytes()?)?),
        ),
    ]
}

fn zrem(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let set = key.state()?;
    let removed: BTreeSet<&Bytes> =
        arguments.take_rest().iter().filter(|member| set.scores.contains_key(*member)).collect();
    let reply = Reply::count(removed.len());
    Ok(Plan::only_if(!removed.is_empty(), reply, || SortedSetOperation::Remove(removed.into_iter().cloned().collect())))
}

fn pop(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, is_from_end: bool) -> Planned {
    if arguments.len() > 1 {
        return Err(CommandError::Syntax);
    }
    let count = if arguments.is_empty() { None } else { Some(arguments.count()?) };
    let set = key.state()?;
    let length = set.ranked.len();
    let taken = count.unwrap_or(1).min(length);
    let first = if is_from_end { length - taken } else { 0 };
    let entries = set.ranked.range(first..first + taken);
    let pair = |entry: &super::Entry| (Reply::bulk(entry.member.clone()), Reply::Double(entry.score));
    let pairs: Vec<_> = if is_from_end { entries.rev().map(pair).collect() } else { entries.map(pair).collect() };
    let reply = match count {
        Some(_) => Reply::Pairs(pairs),
        None => Reply::Array(pairs.into_iter().flat_map(|(member, score)| [member, score]).collect()),
    };
    Ok(Plan::only_if(taken > 0, reply, || SortedSetOperation::RemoveRanks(first as u64, taken as u64)))
}

fn remove_range(key: &Key<'_, SortedSet>, bounds: &Bounds) -> Planned {
    let ranks = bounds.ranks(&*key.state()?);
    Ok(Plan::only_if(!ranks.is_empty(), Reply::count(ranks.len()), || {
        SortedSetOperation::RemoveRanks(ranks.start as u64, ranks.len() as u64)
    }))
}
