use difuse_protocol::{
    message::Message,
    request::{Condition, DumpCursor, PAGE_MAX, Request, Since},
};

use super::{
    collection::read_step,
    command::read_command,
    recovery::{read_begin_epochs, read_recover},
    usage::{read_usage, read_usage_led},
    write::anchor_in,
};
use crate::{
    error::{WireError, check, present},
    frame::Frame,
    generated::difuse::request as fb,
    keylog::{ballot_in, read_value},
    limits::{BLOCK_BYTES_MAX, KEY_PREFIX_BYTES_MAX},
    types::{hash_in, level_in, operation_id_in, slot_in},
};

/// Reads a request.
pub(crate) fn read_request(frame: &Frame<'_>, message: fb::Request<'_>) -> Result<Message, WireError> {
    Ok(Message::Request { id: message.id(), direct: message.direct(), request: read_body(frame, message)? })
}

fn read_body(frame: &Frame<'_>, message: fb::Request<'_>) -> Result<Request, WireError> {
    use fb::RequestBody as Body;
    const WHAT: &str = "a request without its body";
    match message.body_type() {
        Body::Read => read(frame, present(message.body_as_read(), WHAT)?),
        Body::Write => write(frame, present(message.body_as_write(), WHAT)?),
        Body::Command => read_command(frame, present(message.body_as_command(), WHAT)?),
        Body::Log => log(frame, present(message.body_as_log(), WHAT)?),
        Body::List => list(frame, present(message.body_as_list(), WHAT)?),
        Body::ListLed => list_led(frame, present(message.body_as_list_led(), WHAT)?),
        Body::Usage => read_usage(present(message.body_as_usage(), WHAT)?),
        Body::UsageLed => read_usage_led(present(message.body_as_usage_led(), WHAT)?),
        Body::Locate => Ok(Request::Locate { key: frame.key(present(message.body_as_locate(), WHAT)?.key())? }),
        Body::PutBlock => put_block(frame, present(message.body_as_put_block(), WHAT)?),
        Body::ReadBlock => read_block(present(message.body_as_read_block(), WHAT)?),
        Body::StatBlock => {
            Ok(Request::StatBlock { hash: hash_in(present(message.body_as_stat_block(), WHAT)?.hash()) })
        }
        Body::DeleteBlock => delete_block(present(message.body_as_delete_block(), WHAT)?),
        Body::LocateBlock => {
            Ok(Request::LocateBlock { hash: hash_in(present(message.body_as_locate_block(), WHAT)?.hash()) })
        }
        Body::Operation => {
            let operation_id = present(message.body_as_operation(), WHAT)?.operation_id();
            Ok(Request::Operation { operation_id: operation_id_in(operation_id) })
        }
        Body::Ring => Ok(Request::Ring),
        Body::Status => Ok(Request::Status),
        Body::Routes => Ok(Request::Routes),
        Body::Leave => Ok(Request::Leave),
        Body::Dump => dump(frame, present(message.body_as_dump(), WHAT)?),
        Body::Generation => {
            Ok(Request::Generation { key: frame.key(present(message.body_as_generation(), WHAT)?.key())? })
        }
        Body::Collection => read_step(present(message.body_as_collection(), WHAT)?),
        Body::Scrub => Ok(Request::Scrub { start: present(message.body_as_scrub(), WHAT)?.start() }),
        Body::Recover => read_recover(present(message.body_as_recover(), WHAT)?),
        Body::Survey => Ok(Request::Survey { first: slot_in(present(message.body_as_survey(), WHAT)?.first())? }),
        Body::BeginEpochs => read_begin_epochs(present(message.body_as_begin_epochs(), WHAT)?),
        _ => Err(WireError::malformed("an unknown request")),
    }
}

pub(super) fn limit_in(limit: u32) -> Result<u32, WireError> {
    check(limit <= PAGE_MAX, "limit")?;
    Ok(limit)
}

fn read(frame: &Frame<'_>, table: fb::Read<'_>) -> Result<Request, WireError> {
    let seen = table.seen().map(ballot_in);
    Ok(Request::Read { key: frame.key(table.key())?, level: level_in(table.level())?, seen })
}

/// Since when a write or a command may have been sent.
pub(super) fn since_in(anchor: Option<&fb::Anchor>, is_unsent: bool) -> Result<Since, WireError> {
    match (anchor, is_unsent) {
        (Some(anchor), false) => Ok(Since::After(anchor_in(anchor))),
        (None, true) => Ok(Since::Unsent),
        (None, false) => Ok(Since::Unknown),
        (Some(_), true) => Err(WireError::OutOfBounds { field: "unsent" }),
    }
}

fn write(frame: &Frame<'_>, table: fb::Write<'_>) -> Result<Request, WireError> {
    let condition = match (table.condition(), table.head()) {
        (fb::ConditionKind::None, None) => Condition::None,
        (fb::ConditionKind::Absent, None) => Condition::Absent,
        (fb::ConditionKind::Present, None) => Condition::Present,
        (fb::ConditionKind::Head, Some(hash)) => Condition::Head(hash_in(hash)),
        _ => return Err(WireError::OutOfBounds { field: "condition" }),
    };
    let since = since_in(table.since(), table.unsent())?;
    Ok(Request::Write {
        key: frame.key(table.key())?,
        operation: read_value(frame, table.value())?,
        condition,
        operation_id: operation_id_in(table.operation_id()),
        level: level_in(table.level())?,
        since,
    })
}

fn log(frame: &Frame<'_>, table: fb::Log<'_>) -> Result<Request, WireError> {
    Ok(Request::Log { key: frame.key(table.key())?, from_height: table.from_height(), limit: limit_in(table.limit())? })
}

fn list(frame: &Frame<'_>, table: fb::List<'_>) -> Result<Request, WireError> {
    Ok(Request::List {
        prefix: frame.bytes(table.prefix(), KEY_PREFIX_BYTES_MAX, "prefix")?,
        after: frame.key_option(table.after())?,
        limit: limit_in(table.limit())?,
        slot: table.slot().map(slot_in).transpose()?,
    })
}

fn list_led(frame: &Frame<'_>, table: fb::ListLed<'_>) -> Result<Request, WireError> {
    Ok(Request::ListLed {
        prefix: frame.bytes(table.prefix(), KEY_PREFIX_BYTES_MAX, "prefix")?,
        after: frame.key_option(table.after())?,
        limit: limit_in(table.limit())?,
    })
}

fn put_block(frame: &Frame<'_>, table: fb::PutBlock<'_>) -> Result<Request, WireError> {
    Ok(Request::PutBlock {
        hash: hash_in(table.hash()),
        bytes: frame.bytes(table.bytes(), BLOCK_BYTES_MAX, "bytes")?,
        referenced: table.referenced(),
        generation: table.generation(),
        level: level_in(table.level())?,
    })
}

fn read_block(table: fb::ReadBlock<'_>) -> Result<Request, WireError> {
    Ok(Request::ReadBlock { hash: hash_in(table.hash()), level: level_in(table.level())? })
}

fn delete_block(table: fb::DeleteBlock<'_>) -> Result<Request, WireError> {
    Ok(Request::DeleteBlock { hash: hash_in(table.hash()), level: level_in(table.level())? })
}

fn dump(frame: &Frame<'_>, table: fb::Dump<'_>) -> Result<Request, WireError> {
    Ok(Request::Dump {
        after: table.after().map(|cursor| read_cursor(frame, cursor)).transpose()?,
        limit: limit_in(table.limit())?,
    })
}

/// Reads where a page of a dump begins.
pub(super) fn read_cursor(frame: &Frame<'_>, cursor: fb::DumpCursor<'_>) -> Result<DumpCursor, WireError> {
    let slot = slot_in(cursor.slot())?;
    match (cursor.key(), cursor.block()) {
        (Some(key), None) => Ok(DumpCursor::Key(slot, frame.key(key)?)),
        (None, block) => Ok(DumpCursor::Block(slot, block.map(hash_in))),
        (Some(_), Some(_)) => Err(WireError::malformed("a cursor after a key and after a block")),
    }
}
