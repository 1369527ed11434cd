//! What became of a write at level lazy.

use difuse_protocol::request::{OperationOutcome, OperationState, Reply};

use crate::{
    builder::{Builder, UnionOffset, write_reason},
    error::{WireError, present},
    frame::{Frame, reason},
    generated::difuse::request as fb,
    types::{hash_in, hash_out, write_key},
};

pub(super) fn write_operation(builder: &mut Builder, outcome: Option<&OperationOutcome>) -> UnionOffset {
    let key = outcome.map(|outcome| write_key(builder, &outcome.key));
    let mut args = fb::OperationReplyArgs { key, ..Default::default() };
    let (mut written, mut current_head) = (None, None);
    match outcome.map(|outcome| &outcome.state) {
        None => args.state = fb::OperationState::Unknown,
        Some(OperationState::Forgotten) => args.state = fb::OperationState::Forgotten,
        Some(OperationState::Queued) => args.state = fb::OperationState::Queued,
        Some(OperationState::Applied { height, hash }) => {
            args.state = fb::OperationState::Applied;
            written = Some(fb::HeadSummary::new(*height, &hash_out(hash)));
        }
        Some(OperationState::Refused { reason, current }) => {
            args.state = fb::OperationState::Refused;
            args.reason = Some(write_reason(builder, reason));
            let head =
                |(height, hash, has_value): &(_, _, _)| fb::CurrentHead::new(*height, &hash_out(hash), *has_value);
            current_head = current.as_ref().map(head);
        }
    }
    args.written = written.as_ref();
    args.current = current_head.as_ref();
    fb::OperationReply::create(builder, &args).as_union_value()
}

pub(super) fn read_operation(frame: &Frame<'_>, table: fb::OperationReply<'_>) -> Result<Reply, WireError> {
    const WHAT: &str = "an outcome without what belongs to it";
    let state = match table.state() {
        fb::OperationState::Unknown => return Ok(Reply::Operation(None)),
        fb::OperationState::Queued => OperationState::Queued,
        fb::OperationState::Forgotten => OperationState::Forgotten,
        fb::OperationState::Applied => {
            let written = present(table.written(), WHAT)?;
            OperationState::Applied { height: written.height(), hash: hash_in(written.hash()) }
        }
        fb::OperationState::Refused => OperationState::Refused {
            reason: reason(present(table.reason(), WHAT)?)?,
            current: table.current().map(|head| (head.height(), hash_in(head.hash()), head.has_value())),
        },
        _ => return Err(WireError::OutOfBounds { field: "state" }),
    };
    let key = frame.key(present(table.key(), WHAT)?)?;
    Ok(Reply::Operation(Some(OperationOutcome { key, state })))
}
