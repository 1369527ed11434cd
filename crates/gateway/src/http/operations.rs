//! `/v1/operations`: what became of writes at level lazy.

use axum::{
    Json,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use difuse_api::{keys, request::OperationState};
use difuse_types::{Hash, OperationId};
use serde::Serialize;

use super::{
    Gateway, headers,
    parameters::{display, name_of},
    problem::Problem,
};

/// The route, without the operation's id.
const ROUTE: &str = "/v1/operations/";

/// Why nobody can tell what became of a write, for people.
const FORGOTTEN: &str = "nobody can tell whether it was applied: its node was restarted before it had an answer, and too many \
                         other writes of the key followed";

#[derive(Serialize)]
struct OutcomeBody {
    operation_id: String,
    /// `queued`, `applied`, `refused` or `forgotten`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// Of the transaction, or, of a write that is refused, of the head that its condition does not hold of.
    #[serde(skip_serializing_if = "Option::is_none")]
    height: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<Hash>,
    /// Why it is refused, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// GET of what became of an operation, from any node.
pub(super) async fn outcome(State(gateway): State<Gateway>, Path(id): Path<String>) -> Result<Response, Problem> {
    let bad = |_| Problem::bad_request("bad_operation_id", "the operation id is malformed: expected 32 hex digits");
    let operation_id: OperationId = id.parse().map_err(bad)?;
    let found = keys::outcome(gateway.datastore(), operation_id).await?.ok_or_else(|| {
        let detail = "no node knows of this operation: it was not written at level lazy, or was decided long ago";
        Problem::not_found("no_such_operation", detail)
    })?;
    let (state, head, detail) = match found.state {
        OperationState::Queued => ("queued", None, None),
        OperationState::Applied { height, hash } => ("applied", Some((height, hash)), None),
        OperationState::Refused { reason, current } => {
            ("refused", current.map(|(height, hash, _)| (height, hash)), Some(reason))
        }
        OperationState::Forgotten => ("forgotten", None, Some(FORGOTTEN.into())),
    };
    let body = OutcomeBody {
        operation_id: operation_id.to_string(),
        state,
        key: Some(display(&name_of(&found.key))),
        height: head.map(|(height, _)| height),
        hash: head.map(|(_, hash)| hash),
        detail,
    };
    Ok(Json(body).into_response())
}

/// 202 for a write at level lazy: a node has it durably, and here its outcome can be asked for.
pub(super) fn accepted(operation_id: OperationId) -> Response {
    let described = [
        (header::LOCATION, headers::value(format!("{ROUTE}{operation_id}"))),
        (headers::OPERATION_ID, headers::value(operation_id.to_string())),
    ];
    let operation_id = operation_id.to_string();
    let body = OutcomeBody { operation_id, state: "queued", key: None, height: None, hash: None, detail: None };
    (StatusCode::ACCEPTED, described, Json(body)).into_response()
}
