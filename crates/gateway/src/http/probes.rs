//! `/livez`, `/readyz`, `/metrics`: for whatever watches the process.

use axum::{
    extract::State,
    http::{StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::{Gateway, parameters::Parameters, problem::Problem};

/// GET: the process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// GET: whether the node serves; with `?verbose` the answer says why not.
pub(super) async fn ready(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let verbose = Parameters::of(&uri).flag("verbose")?;
    let Err(reasons) = gateway.health().ready() else {
        return Ok(if verbose { "ok: the node serves\n" } else { "ok\n" }.into_response());
    };
    let detail = if verbose {
        format!("the node does not serve yet: {}", reasons.join("; "))
    } else {
        "the node does not serve yet; /readyz?verbose says why".into()
    };
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", detail);
    Ok(problem.with_header(header::RETRY_AFTER, 1.into()).into_response())
}

/// GET: figures in the text format of OpenMetrics, the gateway's and then the node's.
pub(super) async fn metrics(State(gateway): State<Gateway>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = gateway.metrics().render(&gateway.health().metrics());
    ([(header::CONTENT_TYPE, content_type)], text).into_response()
}
