use bytes::Bytes;

use super::{Evaluated, READS, READS_FAST, WRITES, WRITES_FAST, changed, check_length, command, range_ends};
use crate::{Arguments, CommandError, Context, KeyCommand, Outcome, Reply, View};

pub(super) fn commands() -> Vec<KeyCommand> {
    let long = "O(N) for N bytes answered";
    vec![
        KeyCommand::new(command("append", 3, WRITES_FAST, "2.0.0", "O(N) for N bytes", "Appends to a string"), append),
        KeyCommand::new(command("strlen", 2, READS_FAST, "2.2.0", "O(1)", "Reads the length of a string"), strlen),
        KeyCommand::new(
            command("setrange", 4, WRITES, "2.2.0", "O(N) for N bytes", "Overwrites a part of a string"),
            setrange,
        ),
        KeyCommand::new(command("getrange", 4, READS, "2.4.0", long, "Reads a part of a string"), getrange),
        KeyCommand::new(command("substr", 4, READS, "1.0.0", long, "Reads a part of a string"), getrange),
    ]
}

fn append(view: &View<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Evaluated {
    let more = arguments.next_bytes()?;
    let before = view.string()?.cloned().unwrap_or_default();
    check_length(before.len() as u64 + more.len() as u64, context)?;
    let value = [&before[..], more].concat();
    Ok(changed(Reply::count(value.len()), value))
}

fn strlen(view: &View<'_>, _: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let length = view.string_length()?;
    Ok(Outcome::reply(Reply::Integer(i64::try_from(length).unwrap_or(i64::MAX))))
}

fn setrange(view: &View<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Evaluated {
    let offset = arguments.integer()?;
    let part = arguments.next_bytes()?;
    let offset = u64::try_from(offset).map_err(|_| CommandError::new("offset is out of range"))?;
    if part.is_empty() {
        let length = i64::try_from(view.string_length()?).unwrap_or(i64::MAX);
        return Ok(Outcome::reply(Reply::Integer(length)));
    }
    let before = view.string()?;
    let end = offset.saturating_add(part.len() as u64);
    check_length(end, context)?;
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut value = before.map_or_else(Vec::new, |before| before.to_vec());
    value.resize(value.len().max(start + part.len()), 0);
    value[start..start + part.len()].copy_from_slice(part);
    Ok(changed(Reply::count(value.len()), value))
}

fn getrange(view: &View<'_>, arguments: &mut Arguments<'_>, _: &Context) -> Evaluated {
    let (start, end) = (arguments.integer()?, arguments.integer()?);
    let value = view.string()?.cloned().unwrap_or_default();
    let is_backwards = start < 0 && end < 0 && start > end;
    let (start, end) = range_ends(start, end, value.len());
    let part = match (usize::try_from(start), usize::try_from(end)) {
        (Ok(start), Ok(end)) if start <= end && !is_backwards => value.slice(start..=end),
        _ => Bytes::new(),
    };
    Ok(Outcome::reply(Reply::Bulk(part)))
}
