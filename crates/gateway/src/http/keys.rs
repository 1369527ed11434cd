//! `/v1/keys`: flat keys.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use difuse_api::{
    keylog::Operation,
    keys,
    request::{Condition, Entry, ListEntry, RequestError},
    values,
};
use difuse_types::{Hash, Key};
use serde::Serialize;

use super::{
    Gateway,
    body::{content_length, stream_of},
    content::{Content, respond_with_content},
    headers::{self, ReadCondition},
    operations::accepted,
    parameters::{Parameters, cursor, display, encoded, flat_key, key_after, name_of},
    problem::Problem,
};

/// The route, without the key.
pub(super) const ROUTE: &str = "/v1/keys/";

/// What a write answers.
#[derive(Serialize)]
pub(super) struct WrittenBody {
    height: u64,
    hash: Hash,
}

/// GET and HEAD of a key: its value.
pub(super) async fn read(
    State(gateway): State<Gateway>,
    method: Method,
    uri: Uri,
    request_headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = flat_key(&uri, ROUTE)?;
    let condition = ReadCondition::of(&request_headers)?;
    let block_level = gateway.levels_of(&Parameters::of(&uri), &key).await?.get_block;
    let (entry, is_linearizable) = present(&gateway, key, &uri).await?;
    let value = entry.value.ok_or_else(no_such_key)?;
    let content = Content {
        hash: entry.hash,
        height: entry.height,
        is_linearizable: Some(is_linearizable),
        value,
        block_level,
        media_type: None,
        modified_ms: None,
    };
    respond_with_content(&gateway, &method, &request_headers, &condition, content)
}

/// The head of `key`, which must have a value, and whether it is the last one for certain.
pub(super) async fn present(gateway: &Gateway, key: Key, uri: &Uri) -> Result<(Entry, bool), Problem> {
    let level = gateway.levels_of(&Parameters::of(uri), &key).await?.stat;
    let reading = keys::reading(gateway.datastore(), key, level).await?;
    let entry = reading.entry.filter(|entry| entry.value.is_some());
    let described =
        |problem: Problem| problem.with_header(headers::LINEARIZABLE, headers::boolean(reading.is_linearizable));
    entry.map(|entry| (entry, reading.is_linearizable)).ok_or_else(|| described(no_such_key()))
}

/// 404 for a key without a value.
pub(super) fn no_such_key() -> Problem {
    Problem::not_found("no_such_key", "the key has no value: it was never written, or was deleted; PUT gives it one")
}

/// PUT of a key: its new value, of any length.
pub(super) async fn write(
    State(gateway): State<Gateway>,
    uri: Uri,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let key = flat_key(&uri, ROUTE)?;
    let levels = gateway.levels_of(&Parameters::of(&uri), &key).await?;
    let deadline = Parameters::of(&uri).deadline()?;
    let condition = headers::write_condition(request.headers())?;
    let attempt = headers::attempt(request.headers())?;
    let operation_id = attempt.operation_id;
    let transfer = gateway.begin_transfer_unless_small(content_length(request.headers()))?;
    let stored = values::store(gateway.datastore(), &key, stream_of(request.into_body()), levels.set_block).await?;
    drop(transfer);
    let operation = Operation::Set(stored.value.until(deadline));
    let submitted = keys::submit(gateway.datastore(), key, operation, condition, attempt, levels.set_inode).await?;
    let Some(written) = submitted.written() else { return Ok(accepted(operation_id)) };
    let status = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let written_headers = [
        (header::ETAG, headers::etag(&written.hash)),
        (headers::HEIGHT, written.height.into()),
        (headers::OPERATION_ID, headers::value(operation_id.to_string())),
    ];
    let body = WrittenBody { height: written.height, hash: written.hash };
    Ok((status, written_headers, Json(body)).into_response())
}

/// DELETE of a key.
pub(super) async fn delete(
    State(gateway): State<Gateway>,
    uri: Uri,
    request_headers: HeaderMap,
) -> Result<Response, Problem> {
    let key = flat_key(&uri, ROUTE)?;
    let level = gateway.levels_of(&Parameters::of(&uri), &key).await?.delete_inode;
    let attempt = headers::attempt(&request_headers)?;
    let operation_id = attempt.operation_id;
    let asked = headers::write_condition(&request_headers)?;
    // A tombstone on nothing would be a transaction for nothing.
    let condition = if asked == Condition::None { Condition::Present } else { asked };
    let outcome = keys::submit(gateway.datastore(), key, Operation::Delete, condition, attempt, level).await;
    let submitted = match outcome {
        Err(RequestError::Conflict { current }) if asked == Condition::None || is_absent(current) => {
            return Err(no_such_key());
        }
        outcome => outcome?,
    };
    let Some(written) = submitted.written() else { return Ok(accepted(operation_id)) };
    let written_headers =
        [(headers::HEIGHT, written.height.into()), (headers::OPERATION_ID, headers::value(operation_id.to_string()))];
    Ok((StatusCode::NO_CONTENT, written_headers).into_response())
}

fn is_absent(current: Option<(u64, Hash, bool)>) -> bool {
    current.is_none_or(|(_, _, has_value)| !has_value)
}

/// One key of a listing.
#[derive(Serialize)]
struct ListedKey {
    key: String,
    href: String,
    height: u64,
    hash: Hash,
    size: u64,
    value_kind: &'static str,
    time_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
}

#[derive(Serialize)]
struct Listing {
    keys: Vec<ListedKey>,
    next: Option<String>,
}

/// GET of the listing of keys.
pub(super) async fn list(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::of(&uri);
    let namespace = parameters.namespace()?;
    let prefix = parameters.bytes("prefix").unwrap_or_default();
    let prefix = Key::prefix(&namespace, &prefix).map_err(super::parameters::bad_key)?;
    let after = parameters.after()?.map(|name| key_after(&namespace, &name)).transpose()?;
    let page = keys::list(gateway.datastore(), prefix, after, parameters.limit()?, None).await?;
    let listing = Listing {
        keys: page.entries.iter().filter_map(listed).collect(),
        next: page.next.map(|key| cursor(&name_of(&key))),
    };
    Ok(Json(listing).into_response())
}

fn listed(listed: &ListEntry) -> Option<ListedKey> {
    let name = name_of(&listed.key);
    let value = listed.entry.value.as_ref()?;
    let namespace = listed.key.namespace();
    let query =
        if namespace.is_empty() { String::new() } else { format!("?namespace={}", encoded(namespace.as_bytes())) };
    Some(ListedKey {
        key: display(&name),
        href: format!("{ROUTE}{}{query}", encoded(&name)),
        height: listed.entry.height,
        hash: listed.entry.hash,
        size: values::size_of(value).unwrap_or_default(),
        value_kind: value.kind.as_str(),
        time_ms: listed.entry.time.0,
        deadline_ms: value.deadline.map(|deadline| deadline.0),
    })
}

/// Every method of `/v1/keys/` without a key.
pub(super) async fn empty_key() -> Problem {
    Problem::bad_request("empty_key", "the key is empty: name it after /v1/keys/, percent-encoded, 1 to 1024 bytes")
}
