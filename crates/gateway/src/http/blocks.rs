//! `/v1/blocks`: blocks by their hash.

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use difuse_api::{
    keys,
    request::{Reply, Request as Ask, RequestError},
};
use difuse_types::{Hash, Level};
use serde::Serialize;

use super::{
    Gateway,
    body::collect,
    headers::{self, ReadCondition, Verdict},
    parameters::{Parameters, hash},
    problem::Problem,
};

/// The route, without the hash.
pub(super) const ROUTE: &str = "/v1/blocks/";
/// The longest block, in bytes.
const BLOCK_BYTES_MAX: usize = difuse_api::blocks::MAX_BLOCK_BYTES;

#[derive(Serialize)]
struct StoredBody {
    hash: Hash,
    size: u64,
    created: bool,
}

/// POST of a block: the answer names its hash.
pub(super) async fn post(
    State(gateway): State<Gateway>,
    uri: Uri,
    request: Request<Body>,
) -> Result<Response, Problem> {
    let level = Parameters::of(&uri).level(gateway.consistency().set_block)?;
    let (parts, body) = request.into_parts();
    let bytes = collect(&parts.headers, body, BLOCK_BYTES_MAX).await?;
    store(&gateway, Hash::of(&bytes), bytes, level).await
}

/// PUT of the block with the hash in the path.
pub(super) async fn put(State(gateway): State<Gateway>, uri: Uri, request: Request<Body>) -> Result<Response, Problem> {
    let (hash, level) = (hash(&uri, ROUTE)?, Parameters::of(&uri).level(gateway.consistency().set_block)?);
    let (parts, body) = request.into_parts();
    let bytes = collect(&parts.headers, body, BLOCK_BYTES_MAX).await?;
    let actual = Hash::of(&bytes);
    if actual != hash {
        return Err(RequestError::WrongHash { expected: hash, actual }.into());
    }
    store(&gateway, hash, bytes, level).await
}

async fn store(gateway: &Gateway, hash: Hash, bytes: Bytes, level: Level) -> Result<Response, Problem> {
    let size = bytes.len() as u64;
    let reply =
        gateway.datastore().call(Ask::PutBlock { hash, bytes, referenced: false, generation: 0, level }).await?;
    let Reply::BlockPut { created } = reply else { return Err(keys::unexpected_reply().into()) };
    let status = match (level, created) {
        // One member has it; the others get it in time.
        (Level::Lazy, _) => StatusCode::ACCEPTED,
        (_, true) => StatusCode::CREATED,
        (_, false) => StatusCode::OK,
    };
    let location = [(header::LOCATION, headers::value(format!("{ROUTE}{hash}"))), (header::ETAG, headers::etag(&hash))];
    Ok((status, location, Json(StoredBody { hash, size, created })).into_response())
}

/// GET and HEAD of a block.
pub(super) async fn read(
    State(gateway): State<Gateway>,
    method: Method,
    uri: Uri,
    request_headers: HeaderMap,
) -> Result<Response, Problem> {
    let (hash, level) = (hash(&uri, ROUTE)?, Parameters::of(&uri).level(gateway.consistency().get_block)?);
    let condition = ReadCondition::of(&request_headers)?;
    let (length, body) = if method == Method::HEAD {
        (length_of(&gateway, hash).await?, Body::empty())
    } else {
        let bytes = content_of(&gateway, hash, level).await?;
        (bytes.len() as u64, Body::from(bytes))
    };
    match condition.judge(&hash) {
        Verdict::Send => {}
        Verdict::NotModified => {
            return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, headers::etag(&hash))]).into_response());
        }
        Verdict::Failed => return Err(RequestError::Conflict { current: None }.into()),
    }
    let described = [
        (header::ETAG, headers::etag(&hash)),
        (header::CONTENT_LENGTH, length.into()),
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
    ];
    Ok((described, body).into_response())
}

async fn content_of(gateway: &Gateway, hash: Hash, level: Level) -> Result<Bytes, Problem> {
    match gateway.datastore().call(Ask::ReadBlock { hash, level }).await? {
        Reply::Block(bytes) => bytes.ok_or_else(no_such_block),
        _ => Err(keys::unexpected_reply().into()),
    }
}

async fn length_of(gateway: &Gateway, hash: Hash) -> Result<u64, Problem> {
    match gateway.datastore().call(Ask::StatBlock { hash }).await? {
        Reply::BlockStat(Some(record)) if record.present => Ok(record.length.into()),
        Reply::BlockStat(_) => Err(no_such_block()),
        _ => Err(keys::unexpected_reply().into()),
    }
}

/// DELETE of a block that no file refers to.
pub(super) async fn delete(State(gateway): State<Gateway>, uri: Uri) -> Result<StatusCode, Problem> {
    let (hash, level) = (hash(&uri, ROUTE)?, Parameters::of(&uri).level(gateway.consistency().delete_block)?);
    match gateway.datastore().call(Ask::DeleteBlock { hash, level }).await? {
        Reply::BlockDeleted { existed: true } if level == Level::Lazy => Ok(StatusCode::ACCEPTED),
        Reply::BlockDeleted { existed: true } => Ok(StatusCode::NO_CONTENT),
        Reply::BlockDeleted { existed: false } => Err(no_such_block()),
        _ => Err(keys::unexpected_reply().into()),
    }
}

/// The route of [`locate`], without the hash.
const LOCATE_ROUTE: &str = "/v1/locate-block/";

#[derive(Serialize)]
struct LocatedBody {
    hash: Hash,
    slot: u32,
    epoch: u64,
    holdings: Vec<HoldingBody>,
}

#[derive(Serialize)]
struct HoldingBody {
    node: difuse_types::NodeId,
    /// False where the member is silent: then it may hold the block or not.
    answered: bool,
    holds: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u32>,
}

/// GET of what each member of a block's slot holds of it.
pub(super) async fn locate(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let hash = hash(&uri, LOCATE_ROUTE)?;
    let located = keys::locate_block(gateway.datastore(), hash).await?;
    let holdings = located.holdings.into_iter().map(|holding| {
        let record = holding.record.filter(|record| record.has_content());
        HoldingBody {
            node: holding.node,
            answered: holding.answered,
            holds: record.is_some(),
            size: record.map(|record| record.length),
        }
    });
    let body = LocatedBody { hash, slot: located.slot.0, epoch: located.epoch, holdings: holdings.collect() };
    Ok(Json(body).into_response())
}

/// Every method of `/v1/blocks/` without a hash.
pub(super) async fn empty_hash() -> Problem {
    Problem::bad_request("bad_hash", "the hash is missing: name it after /v1/blocks/, 64 hex digits")
}

fn no_such_block() -> Problem {
    Problem::not_found("no_such_block", "no such block is stored: it was never put, or was deleted")
}
