use bytes::Bytes;

use super::{DenyOom, Fast, Flag, List, ListOperation, Planned, Write};
use crate::{Arguments, Command, CommandError, Context, Key, KeyCommand, Plan, Reply, range};

pub(super) fn commands() -> Vec<KeyCommand> {
    let command = |name, arity, flags, since, complexity, summary| {
        Command::on_key(name, arity, flags).documented("list", since, complexity, summary)
    };
    const PUSH: &[Flag] = &[Write, DenyOom, Fast];
    const POP: &[Flag] = &[Write, Fast];
    const ADDS: &[Flag] = &[Write, DenyOom];
    const CHANGES: &[Flag] = &[Write];
    let each = "O(1) for each item";
    vec![
        KeyCommand::on(command("lpush", -3, PUSH, "1.0.0", each, "Puts items in front of a list"), |key, a, _| {
            push(key, a, true, false)
        }),
        KeyCommand::on(command("rpush", -3, PUSH, "1.0.0", each, "Puts items to the end of a list"), |key, a, _| {
            push(key, a, false, false)
        }),
        KeyCommand::on(
            command("lpushx", -3, PUSH, "2.2.0", each, "Puts items in front of a list that exists"),
            |key, a, _| push(key, a, true, true),
        ),
        KeyCommand::on(
            command("rpushx", -3, PUSH, "2.2.0", each, "Puts items to the end of a list that exists"),
            |key, a, _| push(key, a, false, true),
        ),
        KeyCommand::on(command("lpop", -2, POP, "1.0.0", each, "Takes items from the front of a list"), |key, a, _| {
            pop(key, a, true)
        }),
        KeyCommand::on(command("rpop", -2, POP, "1.0.0", each, "Takes items from the end of a list"), |key, a, _| {
            pop(key, a, false)
        }),
        KeyCommand::on(command("lset", 4, ADDS, "1.0.0", "O(1)", "Replaces an item of a list"), lset),
        KeyCommand::on(
            command("linsert", 5, ADDS, "2.2.0", "O(N) for N items", "Inserts an item before or after another one"),
            linsert,
        ),
        KeyCommand::on(
            command("lrem", 4, CHANGES, "1.0.0", "O(N) for N items", "Removes items of a list that are equal to one"),
            lrem,
        ),
        KeyCommand::on(
            command("ltrim", 4, CHANGES, "1.0.0", "O(N) for N items removed", "Removes all but a range of a list"),
            ltrim,
        ),
    ]
}

fn push(key: &Key<'_, List>, arguments: &mut Arguments<'_>, is_front: bool, must_exist: bool) -> Planned {
    let items = arguments.take_rest().to_vec();
    let Some(list) = key.find()? else {
        let reply = Reply::count(if must_exist { 0 } else { items.len() });
        return Ok(Plan::only_if(!must_exist, reply, || pushed(items, is_front)));
    };
    Ok(Plan::new(Reply::count(list.items.len() + items.len()), pushed(items, is_front)))
}

fn pushed(items: Vec<Bytes>, is_front: bool) -> ListOperation {
    if is_front { ListOperation::PushFront(items) } else { ListOperation::PushBack(items) }
}

fn pop(key: &Key<'_, List>, arguments: &mut Arguments<'_>, is_front: bool) -> Planned {
    if arguments.len() > 1 {
        return Err(CommandError::Arity(arguments.command().to_string()));
    }
    let count = if arguments.is_empty() { None } else { Some(arguments.count()?) };
    let Some(list) = key.find()? else {
        return Ok(Plan::reply(if count.is_some() { Reply::NullArray } else { Reply::Null }));
    };
    let length = list.items.len();
    let taken = count.unwrap_or(1).min(length);
    let first = if is_front { 0 } else { length - taken };
    let items = list.items.range(first..first + taken).cloned();
    let reply = match count {
        None => Reply::bulk_or_null(items.last()),
        Some(_) if is_front => Reply::bulks(items),
        Some(_) => Reply::bulks(items.rev()),
    };
    Ok(Plan::only_if(taken > 0, reply, || ListOperation::Remove(first as u64, taken as u64)))
}

fn lset(key: &Key<'_, List>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let list = key.find()?.ok_or_else(|| CommandError::new("no such key"))?;
    let index = arguments.integer()?;
    let item = arguments.next_bytes()?;
    let index = list.index(index).ok_or_else(|| CommandError::new("index out of range"))?;
    Ok(Plan::new(Reply::ok(), ListOperation::Set(index as u64, item.clone())))
}

fn linsert(key: &Key<'_, List>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let is_after = arguments.take_word("after");
    if !is_after && !arguments.take_word("before") {
        return Err(CommandError::Syntax);
    }
    let (pivot, item) = (arguments.next_bytes()?, arguments.next_bytes()?);
    let Some(list) = key.find()? else { return Ok(Plan::reply(Reply::Integer(0))) };
    let Some(position) = list.items.iter().position(|candidate| candidate == pivot) else {
        return Ok(Plan::reply(Reply::Integer(-1)));
    };
    let position = (position + usize::from(is_after)) as u64;
    Ok(Plan::new(Reply::count(list.items.len() + 1), ListOperation::Insert(position, item.clone())))
}

fn lrem(key: &Key<'_, List>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let count = arguments.integer()?;
    let item = arguments.next_bytes()?;
    let equal = key.state()?.items.iter().filter(|candidate| *candidate == item).count();
    let bound = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let removed = if count == 0 { equal } else { equal.min(bound) };
    Ok(Plan::only_if(removed > 0, Reply::count(removed), || ListOperation::RemoveEqual(count, item.clone())))
}

fn ltrim(key: &Key<'_, List>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let (start, stop) = (arguments.integer()?, arguments.integer()?);
    let list = key.state()?;
    let kept = range::positions(start, stop, list.items.len());
    Ok(Plan::only_if(kept.len() < list.items.len(), Reply::ok(), || {
        ListOperation::Keep(kept.start as u64, kept.len() as u64)
    }))
}
