use bytes::Bytes;

use super::{Planned, SortedSet, bounds::Bounds};
use crate::{
    Arguments, Command, Context,
    Flag::{self, Fast, ReadOnly},
    Key, KeyCommand, Plan, Reply, format_double, sample, scan,
};

pub(super) fn commands() -> Vec<KeyCommand> {
    const FAST: &[Flag] = &[ReadOnly, Fast];
    const SLOW: &[Flag] = &[ReadOnly];
    let command = |name, arity, flags, since, complexity, summary| {
        Command::on_key(name, arity, flags).documented("sorted-set", since, complexity, summary)
    };
    vec![
        KeyCommand::on(command("zscore", 3, FAST, "1.2.0", "O(1)", "Reads the score of a member"), zscore),
        KeyCommand::on(
            command("zmscore", -3, FAST, "6.2.0", "O(1) for each member", "Reads scores of members"),
            zmscore,
        ),
        KeyCommand::on(command("zcard", 2, FAST, "1.2.0", "O(1)", "Counts the members of a sorted set"), zcard),
        KeyCommand::on(
            command("zcount", 4, FAST, "2.0.0", "O(log N)", "Counts the members of a range of scores"),
            zcount,
        ),
        KeyCommand::on(
            command("zlexcount", 4, FAST, "2.8.9", "O(log N)", "Counts a range of members with equal scores"),
            zlexcount,
        ),
        KeyCommand::on(
            command("zrank", 3, FAST, "2.0.0", "O(log N)", "Counts the members with lower scores"),
            |key, a, _| rank(key, a, false),
        ),
        KeyCommand::on(
            command("zrevrank", 3, FAST, "2.0.0", "O(log N)", "Counts the members with higher scores"),
            |key, a, _| rank(key, a, true),
        ),
        KeyCommand::on(
            command("zrandmember", -2, SLOW, "6.2.0", "O(N) for N members answered", "Reads members at random"),
            zrandmember,
        ),
        KeyCommand::on(
            command("zscan", -3, SLOW, "2.8.0", "O(1) for a step", "Reads the members and scores in steps"),
            zscan,
        ),
    ]
}

fn score_of(set: &SortedSet, member: &Bytes) -> Reply {
    set.scores.get(member).copied().map_or(Reply::Null, Reply::Double)
}

fn zscore(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let member = arguments.next_bytes()?;
    Ok(Plan::reply(score_of(&*key.state()?, member)))
}

fn zmscore(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let set = key.state()?;
    Ok(Plan::reply(Reply::Array(arguments.take_rest().iter().map(|member| score_of(&set, member)).collect())))
}

fn zcard(key: &Key<'_, SortedSet>, _: &mut Arguments<'_>, _: &Context) -> Planned {
    Ok(Plan::reply(Reply::count(key.state()?.scores.len())))
}

fn zcount(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let bounds = Bounds::scores(arguments.next_bytes()?, arguments.next_bytes()?)?;
    Ok(Plan::reply(Reply::count(bounds.ranks(&*key.state()?).len())))
}

fn zlexcount(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let bounds = Bounds::lex(arguments.next_bytes()?, arguments.next_bytes()?)?;
    Ok(Plan::reply(Reply::count(bounds.ranks(&*key.state()?).len())))
}

fn rank(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, is_from_end: bool) -> Planned {
    let member = arguments.next_bytes()?;
    let set = key.state()?;
    Ok(Plan::reply(set.scores.get(member).map_or(Reply::Null, |score| {
        let rank = set.rank_of(*score, member);
        Reply::count(if is_from_end { set.ranked.len() - 1 - rank } else { rank })
    })))
}

fn zrandmember(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, context: &Context) -> Planned {
    if arguments.is_empty() {
        let set = key.state()?;
        let chosen = set.scores.get_index(sample::index(set.scores.len(), context.seed));
        return Ok(Plan::reply(Reply::bulk_or_null(chosen.map(|(member, _)| member.clone()))));
    }
    let (count, has_scores) = sample::count_and_word(arguments, "withscores")?;
    let set = key.state()?;
    let chosen = sample::indexes(set.scores.len(), count, context.seed)?;
    let chosen = chosen.into_iter().filter_map(|index| set.scores.get_index(index));
    Ok(Plan::reply(if has_scores {
        Reply::Pairs(chosen.map(|(member, score)| (Reply::bulk(member.clone()), Reply::Double(*score))).collect())
    } else {
        Reply::bulks(chosen.map(|(member, _)| member.clone()))
    }))
}

fn zscan(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let cursor = scan::cursor(arguments)?;
    let Some(set) = key.find()? else { return Ok(Plan::reply(scan::nothing())) };
    let entry = |index| {
        let (member, score) = set.scores.get_index(index)?;
        Some((member.clone(), Some(score_text(*score, !set.is_table))))
    };
    Ok(Plan::reply(scan::step(arguments, cursor, set.scores.len(), !set.is_table, entry)?))
}

/// A score as `ZSCAN` writes it: in a listpack, Redis keeps whole numbers up to 2 to the power of 62 as integers.
fn score_text(score: f64, is_listpack: bool) -> Bytes {
    let is_integer = score.fract() == 0.0 && score.abs() <= (i64::MAX / 2) as f64;
    if is_listpack && is_integer { (score as i64).to_string().into() } else { format_double(score).into() }
}
