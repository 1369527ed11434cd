//! Commands that change a stream.

use difuse_types::WallTime;

use super::{Planned, Stream, StreamId, StreamOperation, id::NewId, id_reply, trim};
use crate::{
    Arguments, Command, CommandError, Context,
    Flag::{self, DenyOom, Fast, Write},
    Key, KeyCommand, Plan, Reply,
};

pub(super) fn commands() -> Vec<KeyCommand> {
    const ADDS: &[Flag] = &[Write, DenyOom, Fast];
    let command = |name, arity, flags, complexity, summary| {
        Command::on_key(name, arity, flags).documented("stream", "5.0.0", complexity, summary)
    };
    let trimming = "O(log N) to add, O(1) for each entry that goes";
    vec![
        KeyCommand::on(command("xadd", -5, ADDS, trimming, "Adds an entry to the end of a stream"), add),
        KeyCommand::on(
            command("xtrim", -4, &[Write], "O(1) for each entry that goes", "Deletes entries from the beginning"),
            cut,
        ),
        KeyCommand::on(command("xdel", -3, &[Write, Fast], "O(log N) for each id", "Deletes entries by id"), delete),
        KeyCommand::on(
            command("xsetid", -3, ADDS, "O(1)", "Sets up to which id, and how many, entries there have been"),
            set_id,
        ),
    ]
}

fn add(key: &Key<'_, Stream>, arguments: &mut Arguments<'_>, context: &Context) -> Planned {
    let command = arguments.command();
    let rest = arguments.take_rest();
    let options = trim::read(rest, true)?;
    let fields = rest.get(options.count..).unwrap_or_default();
    let id = options.id.filter(|_| !fields.is_empty() && fields.len().is_multiple_of(2));
    let Some(id) = id else { return Err(CommandError::Arity(command.to_string())) };
    if id == NewId::Given(StreamId::ZERO) {
        return Err(CommandError::new("The ID specified in XADD must be greater than 0-0"));
    }
    let found = key.find()?;
    if found.is_none() && !options.may_create {
        return Ok(Plan::reply(Reply::Null));
    }
    let empty = Stream::default();
    let stream = found.unwrap_or(&empty);
    let id = stream.new_id(id, context.now)?;
    let trimmed = options.trim.map_or(0, |trim| stream.count_to_trim(&trim, Some(id)));
    Ok(Plan::new(id_reply(id), StreamOperation::Add { id, fields: fields.to_vec(), trimmed }))
}

impl Stream {
    /// The id of an entry that is added now.
    fn new_id(&self, id: NewId, now: WallTime) -> Result<StreamId, CommandError> {
        if self.last_id == StreamId::MAX {
            return Err(CommandError::new("The stream has exhausted the last possible ID, unable to add more items"));
        }
        let id = match id {
            NewId::Given(id) => Some(id),
            NewId::Sequence(milliseconds) if milliseconds == self.last_id.milliseconds => {
                let sequence = self.last_id.sequence.checked_add(1);
                sequence.map(|sequence| StreamId { milliseconds, sequence })
            }
            NewId::Sequence(milliseconds) => Some(StreamId { milliseconds, sequence: 0 }),
            // A clock that went back does not take the stream with it.
            NewId::Any if now.0 > self.last_id.milliseconds => Some(StreamId { milliseconds: now.0, sequence: 0 }),
            NewId::Any => self.last_id.next(),
        };
        id.filter(|id| *id > self.last_id).ok_or_else(|| {
            CommandError::new("The ID specified in XADD is equal or smaller than the target stream top item")
        })
    }
}

fn cut(key: &Key<'_, Stream>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let options = trim::read(arguments.take_rest(), false)?;
    let count = match (key.find()?, options.trim) {
        (Some(stream), Some(trim)) => stream.count_to_trim(&trim, None),
        _ => 0,
    };
    let reply = Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(Plan::only_if(count > 0, reply, || StreamOperation::Trim(count)))
}

fn delete(key: &Key<'_, Stream>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let Some(stream) = key.find()? else { return Ok(Plan::reply(Reply::Integer(0))) };
    let ids = arguments.take_rest().iter().map(|id| StreamId::read(id)).collect::<Result<Vec<_>, _>>()?;
    let mut there: Vec<StreamId> = Vec::new();
    for id in ids {
        if stream.entries.contains_key(&id) {
            there.push(id);
        }
    }
    there.sort_unstable();
    there.dedup();
    let reply = Reply::count(there.len());
    Ok(Plan::only_if(!there.is_empty(), reply, || StreamOperation::Delete(there)))
}

fn set_id(key: &Key<'_, Stream>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let last = StreamId::read(arguments.next_bytes()?)?;
    let (mut entries_added, mut max_deleted) = (None, StreamId::ZERO);
    while !arguments.is_empty() {
        if arguments.take_option("entriesadded", 1) {
            let count = u64::try_from(arguments.integer()?);
            entries_added = Some(count.map_err(|_| CommandError::new("entries_added must be positive"))?);
        } else if arguments.take_option("maxdeletedid", 1) {
            max_deleted = StreamId::read(arguments.next_bytes()?)?;
            if last < max_deleted {
                return Err(smaller("the provided max_deleted_entry_id"));
            }
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let stream = key.find()?.ok_or_else(|| CommandError::new("no such key"))?;
    if let Some(top) = stream.entries.keys().next_back() {
        if last < *top {
            return Err(smaller("the target stream top item"));
        }
        if entries_added.is_some_and(|count| count < stream.entries.len() as u64) {
            let text = "The entries_added specified in XSETID is smaller than the target stream length";
            return Err(CommandError::new(text));
        }
    }
    let max_deleted = (max_deleted != StreamId::ZERO).then_some(max_deleted);
    Ok(Plan::new(Reply::ok(), StreamOperation::SetId { last, entries_added, max_deleted }))
}

fn smaller(than: &str) -> CommandError {
    CommandError::new(format_args!("The ID specified in XSETID is smaller than {than}"))
}
