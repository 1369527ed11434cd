//! `/v1/pins`: blocks and trees that are kept though nothing names them.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use difuse_api::pins::{self, Pin, PinError, PinKind};
use difuse_types::Hash;
use serde::Serialize;

use super::{
    Gateway, headers,
    parameters::{Parameters, hash},
    problem::Problem,
};

/// The route, without the hash.
const ROUTE: &str = "/v1/pins/";

#[derive(Serialize)]
struct PinBody {
    hash: Hash,
    kind: &'static str,
    size: u64,
    since_ms: u64,
}

impl From<Pin> for PinBody {
    fn from(pin: Pin) -> Self {
        let kind = match pin.kind {
            PinKind::Block => "block",
            PinKind::Tree => "tree",
        };
        Self { hash: pin.hash, kind, size: pin.size, since_ms: pin.since.0 }
    }
}

#[derive(Serialize)]
struct Listing {
    pins: Vec<PinBody>,
    next: Option<Hash>,
}

/// GET of the listing of pins.
pub(super) async fn list(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::of(&uri);
    let bad_cursor = || Problem::bad_request("bad_parameter", "the parameter after is malformed: expected a hash");
    let after = parameters.text("after")?.map(|text| text.parse().map_err(|_| bad_cursor())).transpose()?;
    let page = pins::list(gateway.datastore(), after, parameters.limit()?).await?;
    let listing = Listing { pins: page.pins.into_iter().map(PinBody::from).collect(), next: page.next };
    Ok(Json(listing).into_response())
}

/// GET of one pin.
pub(super) async fn read(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let found = pins::find(gateway.datastore(), hash(&uri, ROUTE)?).await?;
    found.map(|pin| Json(PinBody::from(pin)).into_response()).ok_or_else(no_such_pin)
}

/// PUT of a pin: of the block with the hash in the path, or of the tree with that root.
pub(super) async fn put(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let hash = hash(&uri, ROUTE)?;
    let _transfer = gateway.begin_transfer()?;
    Ok(pinned(pins::add(gateway.datastore(), hash).await?))
}

/// POST of a pin: of the content that the file at `path` has now.
pub(super) async fn post(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let missing = || Problem::bad_request("bad_parameter", "the parameter path is missing: it names the file to pin");
    let path = Parameters::of(&uri).text("path")?.ok_or_else(missing)?;
    let _transfer = gateway.begin_transfer()?;
    Ok(pinned(pins::add_file(gateway.datastore(), &path).await?))
}

fn pinned((pin, created): (Pin, bool)) -> Response {
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    let location = [(header::LOCATION, headers::value(format!("{ROUTE}{}", pin.hash)))];
    (status, location, Json(PinBody::from(pin))).into_response()
}

/// DELETE of a pin.
pub(super) async fn delete(State(gateway): State<Gateway>, uri: Uri) -> Result<StatusCode, Problem> {
    match pins::remove(gateway.datastore(), hash(&uri, ROUTE)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_such_pin()),
    }
}

fn no_such_pin() -> Problem {
    Problem::not_found("no_such_pin", "nothing with this hash is pinned")
}

impl From<PinError> for Problem {
    fn from(error: PinError) -> Self {
        let detail = error.to_string();
        match error {
            PinError::Request(error) => error.into(),
            PinError::Content(error) => error.into(),
            PinError::Path(_) => Self::bad_request("bad_path", detail),
            PinError::NoSuchBlock { .. } => Self::not_found("no_such_block", detail),
            PinError::NoSuchFile { .. } => Self::not_found("no_such_file", detail),
            PinError::NoBlocks { .. } | PinError::Refused { .. } => {
                Self::new(StatusCode::CONFLICT, "cannot_be_pinned", detail)
            }
        }
    }
}
