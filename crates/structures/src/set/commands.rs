use std::collections::BTreeSet;

use bytes::Bytes;
use indexmap::IndexSet;

use super::{Set, SetOperation};
use crate::{
    Arguments, Command, CommandError, Context,
    Flag::{self, DenyOom, Fast, ReadOnly, Write},
    Key, KeyCommand, Plan, Reply, sample, scan,
};

type Planned = Result<Plan<SetOperation>, CommandError>;

pub(super) fn commands() -> Vec<KeyCommand> {
    let command = |name, arity, flags, since, complexity, summary| {
        Command::on_key(name, arity, flags).documented("set", since, complexity, summary)
    };
    const FAST: &[Flag] = &[ReadOnly, Fast];
    const SLOW: &[Flag] = &[ReadOnly];
    const REMOVES: &[Flag] = &[Write, Fast];
    let each = "O(1) for each member";
    vec![
        KeyCommand::on(command("sadd", -3, &[Write, DenyOom, Fast], "1.0.0", each, "Adds members to a set"), sadd),
        KeyCommand::on(command("srem", -3, REMOVES, "1.0.0", each, "Removes members of a set"), srem),
        KeyCommand::on(command("spop", -2, REMOVES, "1.0.0", each, "Takes members of a set at random"), spop),
        KeyCommand::on(command("scard", 2, FAST, "1.0.0", "O(1)", "Counts the members of a set"), scard),
        KeyCommand::on(command("sismember", 3, FAST, "1.0.0", "O(1)", "Tells whether a set has a member"), sismember),
        KeyCommand::on(command("smismember", -3, FAST, "6.2.0", each, "Tells which members a set has"), smismember),
        KeyCommand::on(
            command("smembers", 2, SLOW, "1.0.0", "O(N) for N members", "Reads all members of a set"),
            smembers,
        ),
        KeyCommand::on(
            command(
                "srandmember",
                -2,
                SLOW,
                "1.0.0",
                "O(N) for N members answered",
                "Reads members of a set at random",
            ),
            srandmember,
        ),
        KeyCommand::on(
            command("sscan", -3, SLOW, "2.8.0", "O(1) for a step", "Reads the members of a set in steps"),
            sscan,
        ),
    ]
}

fn sadd(key: &Key<'_, Set>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let set = key.state()?;
    let added: IndexSet<&Bytes> =
        arguments.take_rest().iter().filter(|member| !set.members.contains(*member)).collect();
    let added: Vec<Bytes> = added.into_iter().cloned().collect();
    Ok(Plan::only_if(!added.is_empty(), Reply::count(added.len()), || SetOperation::Add(added)))
}

fn srem(key: &Key<'_, Set>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let set = key.state()?;
    let removed: BTreeSet<&Bytes> =
        arguments.take_rest().iter().filter(|member| set.members.contains(*member)).collect();
    let reply = Reply::count(removed.len());
    Ok(Plan::only_if(!removed.is_empty(), reply, || SetOperation::Remove(removed.into_iter().cloned().collect())))
}

fn spop(key: &Key<'_, Set>, arguments: &mut Arguments<'_>, context: &Context) -> Planned {
    if arguments.is_empty() {
        let set = key.state()?;
        let chosen = set.members.get_index(sample::index(set.members.len(), context.seed)).cloned();
        let operation = chosen.clone().map(|member| SetOperation::Remove(vec![member]));
        return Ok(Plan { reply: Reply::bulk_or_null(chosen), operation });
    }
    if arguments.len() > 1 {
        return Err(CommandError::Syntax);
    }
    let count = arguments.count()?;
    let set = key.state()?;
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let chosen: IndexSet<Bytes> = sample::indexes(set.members.len(), count, context.seed)?
        .into_iter()
        .filter_map(|index| set.members.get_index(index).cloned())
        .collect();
    let reply = Reply::Set(chosen.iter().cloned().map(Reply::Bulk).collect());
    Ok(Plan::only_if(!chosen.is_empty(), reply, || taken(&set, chosen)))
}

/// What is shorter: those that go, or, as Redis begins a new set then, those that stay.
fn taken(set: &Set, chosen: IndexSet<Bytes>) -> SetOperation {
    let left = set.members.len() - chosen.len();
    if left == 0 {
        SetOperation::Clear
    } else if left * 5 > chosen.len() {
        SetOperation::Remove(chosen.into_iter().collect())
    } else {
        SetOperation::Keep(set.members.iter().filter(|member| !chosen.contains(*member)).cloned().collect())
    }
}

fn scard(key: &Key<'_, Set>, _: &mut Arguments<'_>, _: &Context) -> Planned {
    Ok(Plan::reply(Reply::count(key.state()?.members.len())))
}

fn sismember(key: &Key<'_, Set>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let member = arguments.next_bytes()?;
    Ok(Plan::reply(Reply::one_if(key.state()?.members.contains(member))))
}

fn smismember(key: &Key<'_, Set>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let set = key.state()?;
    let answers = arguments.take_rest().iter().map(|member| Reply::one_if(set.members.contains(member)));
    Ok(Plan::reply(Reply::Array(answers.collect())))
}

fn smembers(key: &Key<'_, Set>, _: &mut Arguments<'_>, _: &Context) -> Planned {
    Ok(Plan::reply(Reply::Set(key.state()?.members.iter().cloned().map(Reply::Bulk).collect())))
}

fn srandmember(key: &Key<'_, Set>, arguments: &mut Arguments<'_>, context: &Context) -> Planned {
    if arguments.is_empty() {
        let set = key.state()?;
        let chosen = set.members.get_index(sample::index(set.members.len(), context.seed));
        return Ok(Plan::reply(Reply::bulk_or_null(chosen.cloned())));
    }
    if arguments.len() > 1 {
        return Err(CommandError::Syntax);
    }
    let count = sample::count(arguments)?;
    let set = key.state()?;
    let chosen = sample::indexes(set.members.len(), count, context.seed)?;
    Ok(Plan::reply(Reply::bulks(chosen.into_iter().filter_map(|index| set.members.get_index(index).cloned()))))
}

fn sscan(key: &Key<'_, Set>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let cursor = scan::cursor(arguments)?;
    let Some(set) = key.find()? else { return Ok(Plan::reply(scan::nothing())) };
    let entry = |index| set.members.get_index(index).map(|member| (member.clone(), None));
    Ok(Plan::reply(scan::step(arguments, cursor, set.members.len(), !set.is_table, entry)?))
}
