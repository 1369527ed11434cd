use bytes::Bytes;
use difuse_keylog::{Ballot, REPLY_BYTES_MAX};
use difuse_protocol::request::{ARGUMENT_BYTES_MAX, ARGUMENTS_MAX, Reply, Request, Since};
use difuse_types::{Hash, Key, Level, OperationId};

use super::{read::since_in, write::anchor_out};
use crate::{
    builder::{Builder, UnionOffset, write_bytes},
    error::{WireError, check},
    frame::{Frame, list},
    generated::difuse::request as fb,
    keylog::{ballot_in, ballot_out},
    types::{hash_in, hash_out, level_in, level_out, operation_id_in, operation_id_out, write_key},
};

/// Writes a command on a key.
pub(super) fn write_command(
    builder: &mut Builder,
    key: &Key,
    arguments: &[Bytes],
    operation_id: &OperationId,
    level: Level,
    since: Since,
) -> UnionOffset {
    let key = Some(write_key(builder, key));
    let mut tables = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let bytes = Some(write_bytes(builder, argument));
        tables.push(fb::Argument::create(builder, &fb::ArgumentArgs { bytes }));
    }
    let arguments = Some(builder.create_vector(&tables));
    let operation_id = operation_id_out(operation_id);
    let anchor = since.anchor().as_ref().map(anchor_out);
    let args = fb::CommandArgs {
        key,
        arguments,
        operation_id: Some(&operation_id),
        level: level_out(level),
        since: anchor.as_ref(),
        unsent: matches!(since, Since::Now | Since::Unsent),
    };
    fb::Command::create(builder, &args).as_union_value()
}

/// Reads a command on a key.
pub(super) fn read_command(frame: &Frame<'_>, table: fb::Command<'_>) -> Result<Request, WireError> {
    let mut left = ARGUMENT_BYTES_MAX;
    let arguments = list(table.arguments(), ARGUMENTS_MAX, "arguments", |argument| {
        let bytes = frame.bytes(argument.bytes(), left, "arguments")?;
        left -= bytes.len();
        Ok(bytes)
    })?;
    check(!arguments.is_empty(), "arguments")?;
    Ok(Request::Command {
        key: frame.key(table.key())?,
        arguments,
        operation_id: operation_id_in(table.operation_id()),
        level: level_in(table.level())?,
        since: since_in(table.since(), table.unsent())?,
    })
}

/// The fields of [`Reply::Command`].
pub(super) struct CommandReply<'a> {
    pub(super) reply: &'a Bytes,
    pub(super) is_write: bool,
    pub(super) appended: Option<(u64, Hash)>,
    pub(super) mark: Option<Ballot>,
}

/// Writes what a command came to.
pub(super) fn write_command_reply(builder: &mut Builder, reply: &CommandReply<'_>) -> UnionOffset {
    let bytes = Some(write_bytes(builder, reply.reply));
    let appended = reply.appended.map(|(height, hash)| fb::HeadSummary::new(height, &hash_out(&hash)));
    let mark = reply.mark.as_ref().map(ballot_out);
    let args = fb::CommandReplyArgs {
        reply: bytes,
        is_write: reply.is_write,
        appended: appended.as_ref(),
        mark: mark.as_ref(),
    };
    fb::CommandReply::create(builder, &args).as_union_value()
}

/// Reads what a command came to.
pub(super) fn read_command_reply(frame: &Frame<'_>, table: fb::CommandReply<'_>) -> Result<Reply, WireError> {
    Ok(Reply::Command {
        reply: frame.bytes(table.reply(), REPLY_BYTES_MAX, "reply")?,
        is_write: table.is_write(),
        appended: table.appended().map(|head| (head.height(), hash_in(head.hash()))),
        mark: table.mark().map(ballot_in),
    })
}
