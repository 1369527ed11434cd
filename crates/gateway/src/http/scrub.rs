//! `/v1/scrub`: what is on this node's disk is read again and checked.

use std::{convert::Infallible, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use difuse_api::{
    keys,
    request::{RequestError, ScrubReport, ScrubbedItem},
};
use difuse_types::Hash;
use futures::{Stream, stream};
use serde::Serialize;

use super::{
    Gateway, SharedDatastore,
    parameters::{display, name_of},
    problem::Problem,
};

/// How often a line tells how far a pass is.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// How a pass stands.
#[derive(Serialize)]
struct ReportBody {
    pass: u64,
    running: bool,
    asked_for: bool,
    slots_done: u32,
    slots_total: u32,
    transactions: u64,
    blocks: u64,
    bytes: u64,
    damaged_keys: u64,
    damaged_blocks: u64,
    repaired: u64,
    unrepaired: u64,
    /// The first of what could not be repaired.
    unrepaired_items: Vec<UnrepairedBody>,
}

/// A key or a block that could not be repaired.
#[derive(Serialize)]
struct UnrepairedBody {
    slot: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<Hash>,
    reason: String,
}

/// One line of the answer to a POST.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Progress(ReportBody),
    /// The last line of a pass that came to its end.
    Report(ReportBody),
    /// The last line if the node could not be asked any more.
    Error {
        detail: String,
    },
}

/// GET of how the pass under way stands, or the last one.
pub(super) async fn look(State(gateway): State<Gateway>) -> Result<Response, Problem> {
    let report = keys::scrub(gateway.datastore(), false).await?;
    Ok(Json(body_of(report)).into_response())
}

/// POST: begins a pass as fast as the disk allows, and tells how it goes: JSON lines, the last one the report.
pub(super) async fn start(State(gateway): State<Gateway>) -> Result<Response, Problem> {
    let first = keys::scrub(gateway.datastore(), true).await?;
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    let lines = lines(gateway.shared_datastore(), first);
    Ok((content_type, Body::from_stream(lines)).into_response())
}

fn lines(
    datastore: SharedDatastore,
    first: ScrubReport,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    let pass = first.pass;
    stream::unfold(Some(Ok(first)), move |next| {
        let datastore = datastore.clone();
        async move {
            match next? {
                Err(error) => Some((Ok(line(&error_line(&error))), None)),
                Ok(report) if report.pass == pass && report.is_running => {
                    let text = line(&Line::Progress(body_of(report)));
                    tokio::time::sleep(TELL_EVERY).await;
                    Some((Ok(text), Some(keys::scrub(&datastore, false).await)))
                }
                Ok(report) => Some((Ok(line(&Line::Report(body_of(report)))), None)),
            }
        }
    })
}

fn error_line(error: &RequestError) -> Line {
    Line::Error { detail: error.to_string() }
}

fn line(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

fn body_of(report: ScrubReport) -> ReportBody {
    let unrepaired_items = report.unrepaired_items.into_iter().map(|unrepaired| {
        let (key, block) = match unrepaired.item {
            ScrubbedItem::Key(key) => (Some(display(&name_of(&key))), None),
            ScrubbedItem::Block(hash) => (None, Some(hash)),
        };
        UnrepairedBody { slot: unrepaired.slot.0, key, block, reason: unrepaired.reason }
    });
    ReportBody {
        pass: report.pass,
        running: report.is_running,
        asked_for: report.is_asked_for,
        slots_done: report.slots_done,
        slots_total: report.slots_total,
        transactions: report.transactions,
        blocks: report.blocks,
        bytes: report.bytes,
        damaged_keys: report.damaged_keys,
        damaged_blocks: report.damaged_blocks,
        repaired: report.repaired,
        unrepaired: report.unrepaired,
        unrepaired_items: unrepaired_items.collect(),
    }
}
