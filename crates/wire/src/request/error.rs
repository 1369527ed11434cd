use difuse_keylog::Checkpoint;
use difuse_protocol::request::{Quota, RequestError};
use difuse_types::MAX_NAMESPACE_BYTES;

use super::write::{anchor_in, anchor_out};
use crate::{
    builder::{Builder, Offset, UnionOffset, write_reason},
    error::{WireError, present},
    frame::{list, reason, text},
    generated::difuse::request as fb,
    keylog::write_nodes,
    limits::HOLDINGS_MAX,
    types::{hash_in, hash_out, node_in, operation_id_in, operation_id_out, slot_in},
};

/// Writes why a request was not served.
pub(super) fn write_error(builder: &mut Builder, error: &RequestError) -> Offset<fb::RequestError<'static>> {
    let (body_type, body) = write_body(builder, error);
    fb::RequestError::create(builder, &fb::RequestErrorArgs { body_type, body: Some(body) })
}

fn write_body(builder: &mut Builder, error: &RequestError) -> (fb::ErrorBody, UnionOffset) {
    use fb::ErrorBody as Body;
    match error {
        RequestError::Conflict { current } => {
            let current = current
                .as_ref()
                .map(|(height, hash, has_value)| fb::CurrentHead::new(*height, &hash_out(hash), *has_value));
            let table = fb::ConflictError::create(builder, &fb::ConflictErrorArgs { current: current.as_ref() });
            (Body::ConflictError, table.as_union_value())
        }
        RequestError::Unavailable { slot, reason } => {
            let reason = Some(write_reason(builder, reason));
            let table = fb::UnavailableError::create(builder, &fb::UnavailableErrorArgs { slot: slot.0, reason });
            (Body::UnavailableError, table.as_union_value())
        }
        RequestError::Unknown { operation_id, since } => {
            let since = since.as_ref().map(anchor_out);
            let args =
                fb::UnknownErrorArgs { operation_id: Some(&operation_id_out(operation_id)), since: since.as_ref() };
            (Body::UnknownError, fb::UnknownError::create(builder, &args).as_union_value())
        }
        RequestError::Forgotten { operation_id, now } => {
            let (id, now) = (operation_id_out(operation_id), anchor_out(now));
            let args = fb::ForgottenErrorArgs { operation_id: Some(&id), now: Some(&now) };
            (Body::ForgottenError, fb::ForgottenError::create(builder, &args).as_union_value())
        }
        RequestError::Lapsed { operation_id, now } => {
            let (id, now) = (operation_id_out(operation_id), anchor_out(now));
            let args = fb::LapsedErrorArgs { operation_id: Some(&id), now: Some(&now) };
            (Body::LapsedError, fb::LapsedError::create(builder, &args).as_union_value())
        }
        RequestError::WrongHash { expected, actual } => {
            let (expected, actual) = (hash_out(expected), hash_out(actual));
            let args = fb::WrongHashErrorArgs { expected: Some(&expected), actual: Some(&actual) };
            (Body::WrongHashError, fb::WrongHashError::create(builder, &args).as_union_value())
        }
        RequestError::Invalid(reason) => {
            let reason = Some(write_reason(builder, reason));
            let table = fb::InvalidError::create(builder, &fb::InvalidErrorArgs { reason });
            (Body::InvalidError, table.as_union_value())
        }
        RequestError::BlockReferenced { hash } => {
            let args = fb::BlockReferencedErrorArgs { hash: Some(&hash_out(hash)) };
            (Body::BlockReferencedError, fb::BlockReferencedError::create(builder, &args).as_union_value())
        }
        RequestError::Busy => (Body::BusyError, fb::BusyError::create(builder, &fb::BusyErrorArgs {}).as_union_value()),
        RequestError::Storage(reason) => {
            let reason = Some(write_reason(builder, reason));
            let table = fb::StorageError::create(builder, &fb::StorageErrorArgs { reason });
            (Body::StorageError, table.as_union_value())
        }
        RequestError::Pruned(Checkpoint { height, hash, state }) => {
            let (hash, state) = (hash_out(hash), hash_out(state));
            let args = fb::PrunedErrorArgs { height: *height, hash: Some(&hash), state: Some(&state) };
            (Body::PrunedError, fb::PrunedError::create(builder, &args).as_union_value())
        }
        RequestError::Full { reason } => {
            let reason = Some(write_reason(builder, reason));
            (Body::FullError, fb::FullError::create(builder, &fb::FullErrorArgs { reason }).as_union_value())
        }
        RequestError::QuotaReached { namespace, quota } => {
            let namespace = Some(builder.create_string(namespace));
            let (of_bytes, count) = match *quota {
                Quota::Keys(count) => (false, count),
                Quota::Bytes(count) => (true, count),
            };
            let args = fb::QuotaReachedErrorArgs { namespace, of_bytes, count };
            (Body::QuotaReachedError, fb::QuotaReachedError::create(builder, &args).as_union_value())
        }
        RequestError::UploadTooOld { generation } => {
            let table = fb::UploadTooOldError::create(builder, &fb::UploadTooOldErrorArgs { generation: *generation });
            (Body::UploadTooOldError, table.as_union_value())
        }
        RequestError::InBlocks => {
            (Body::InBlocksError, fb::InBlocksError::create(builder, &fb::InBlocksErrorArgs {}).as_union_value())
        }
        RequestError::NotServing(reason) => {
            let reason = Some(write_reason(builder, reason));
            let table = fb::NotServingError::create(builder, &fb::NotServingErrorArgs { reason });
            (Body::NotServingError, table.as_union_value())
        }
        RequestError::NotAll { slot, silent, differing, is_applied, written } => {
            let silent = Some(write_nodes(builder, silent));
            let differing = Some(write_nodes(builder, differing));
            let written = written.as_ref().map(|(height, hash)| fb::HeadSummary::new(*height, &hash_out(hash)));
            let args = fb::NotAllErrorArgs {
                slot: slot.0,
                silent,
                differing,
                applied: *is_applied,
                written: written.as_ref(),
            };
            (Body::NotAllError, fb::NotAllError::create(builder, &args).as_union_value())
        }
    }
}

/// Reads why a request was not served.
pub(super) fn read_error(error: fb::RequestError<'_>) -> Result<RequestError, WireError> {
    use fb::ErrorBody as Body;
    const WHAT: &str = "an error without its body";
    Ok(match error.body_type() {
        Body::ConflictError => {
            let current = present(error.body_as_conflict_error(), WHAT)?.current();
            let current = current.map(|head| (head.height(), hash_in(head.hash()), head.has_value()));
            RequestError::Conflict { current }
        }
        Body::UnavailableError => {
            let table = present(error.body_as_unavailable_error(), WHAT)?;
            RequestError::Unavailable { slot: slot_in(table.slot())?, reason: reason(table.reason())? }
        }
        Body::UnknownError => {
            let table = present(error.body_as_unknown_error(), WHAT)?;
            let (operation_id, since) = (operation_id_in(table.operation_id()), table.since().map(anchor_in));
            RequestError::Unknown { operation_id, since }
        }
        Body::ForgottenError => {
            let table = present(error.body_as_forgotten_error(), WHAT)?;
            let (operation_id, now) = (operation_id_in(table.operation_id()), anchor_in(table.now()));
            RequestError::Forgotten { operation_id, now }
        }
        Body::LapsedError => {
            let table = present(error.body_as_lapsed_error(), WHAT)?;
            let (operation_id, now) = (operation_id_in(table.operation_id()), anchor_in(table.now()));
            RequestError::Lapsed { operation_id, now }
        }
        Body::WrongHashError => {
            let table = present(error.body_as_wrong_hash_error(), WHAT)?;
            RequestError::WrongHash { expected: hash_in(table.expected()), actual: hash_in(table.actual()) }
        }
        Body::InvalidError => RequestError::Invalid(reason(present(error.body_as_invalid_error(), WHAT)?.reason())?),
        Body::BlockReferencedError => {
            let hash = present(error.body_as_block_referenced_error(), WHAT)?.hash();
            RequestError::BlockReferenced { hash: hash_in(hash) }
        }
        Body::BusyError => RequestError::Busy,
        Body::StorageError => RequestError::Storage(reason(present(error.body_as_storage_error(), WHAT)?.reason())?),
        Body::FullError => RequestError::Full { reason: reason(present(error.body_as_full_error(), WHAT)?.reason())? },
        Body::UploadTooOldError => {
            RequestError::UploadTooOld { generation: present(error.body_as_upload_too_old_error(), WHAT)?.generation() }
        }
        Body::QuotaReachedError => {
            let table = present(error.body_as_quota_reached_error(), WHAT)?;
            let quota = if table.of_bytes() { Quota::Bytes(table.count()) } else { Quota::Keys(table.count()) };
            RequestError::QuotaReached { namespace: text(table.namespace(), MAX_NAMESPACE_BYTES, "namespace")?, quota }
        }
        Body::InBlocksError => RequestError::InBlocks,
        Body::NotServingError => {
            RequestError::NotServing(reason(present(error.body_as_not_serving_error(), WHAT)?.reason())?)
        }
        Body::NotAllError => {
            let table = present(error.body_as_not_all_error(), WHAT)?;
            let written = table.written().map(|head| (head.height(), hash_in(head.hash())));
            RequestError::NotAll {
                slot: slot_in(table.slot())?,
                silent: list(table.silent(), HOLDINGS_MAX, "silent", |node| Ok(node_in(node)))?,
                differing: list(table.differing(), HOLDINGS_MAX, "differing", |node| Ok(node_in(node)))?,
                is_applied: table.applied(),
                written,
            }
        }
        Body::PrunedError => {
            let table = present(error.body_as_pruned_error(), WHAT)?;
            let (hash, state) = (hash_in(table.hash()), hash_in(table.state()));
            RequestError::Pruned(Checkpoint { height: table.height(), hash, state })
        }
        _ => return Err(WireError::malformed("an unknown error")),
    })
}
