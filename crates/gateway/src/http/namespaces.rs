//! `/v1/namespaces`: which namespaces have keys, and dropping one.

use axum::{
    Json,
    extract::{Path, State},
    http::Uri,
    response::{IntoResponse, Response},
};
use difuse_api::namespaces::{self, DropError};
use serde_json::json;

use super::{Gateway, parameters::Parameters, problem::Problem};

/// GET: their names, in order.
pub(super) async fn list(State(gateway): State<Gateway>) -> Result<Response, Problem> {
    let names = namespaces::list(gateway.datastore()).await?;
    Ok(Json(json!({ "namespaces": names })).into_response())
}

/// DELETE of one: of every key in it.
pub(super) async fn delete(
    State(gateway): State<Gateway>,
    Path(name): Path<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    let level = Parameters::of(&uri).level(gateway.consistency().delete_inode)?;
    let dropped = namespaces::drop(gateway.datastore(), &name, level, |_| {}).await;
    let deleted = dropped.map_err(|error| match error {
        DropError::Name(error) => Problem::bad_request("bad_key", error.to_string()),
        DropError::Request(error) => error.into(),
    })?;
    Ok(Json(json!({ "deleted": deleted })).into_response())
}
