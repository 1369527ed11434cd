//! `/v1/gc`: blocks that nothing names any more are deleted.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use difuse_api::collection::{Amount, Collected, CollectionError, Phase, collect};
use difuse_types::NodeId;
use futures::{Stream, stream};
use serde::Serialize;
use tokio::{runtime::Handle, sync::watch};

use super::{Gateway, parameters::Parameters, problem::Problem};

/// How often a line tells how far a collection is.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// How a collection stands.
#[derive(Serialize)]
struct CollectedBody {
    generation: u64,
    phase: &'static str,
    slots_done: u32,
    slots_total: u32,
    waiting_for: Vec<NodeId>,
    values: u64,
    before: AmountBody,
    unnamed: AmountBody,
    deleted: AmountBody,
}

#[derive(Serialize)]
struct AmountBody {
    blocks: u64,
    bytes: u64,
}

/// One line of the answer.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Progress(CollectedBody),
    /// The last line of a collection that came to its end.
    Report(CollectedBody),
    /// The last line of one that was given up.
    Error {
        detail: String,
    },
}

/// Where a collection under way stands: its progress, and in the end how it ended.
type Standing = (Collected, Option<Result<(), String>>);

/// POST: runs a collection (`dry_run=true`: only finds out what it would delete), and tells how it goes: JSON lines, the
/// last one the report. It goes on if nobody listens any more.
pub(super) async fn start(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let is_dry_run = Parameters::of(&uri).flag("dry_run")?;
    let Ok(turn) = gateway.collection_turn() else {
        let detail = "this node runs a collection already: wait for its end";
        return Err(Problem::new(StatusCode::CONFLICT, "gc_running", detail));
    };
    let (tell, standing) = watch::channel((Collected::default(), None));
    let datastore = gateway.shared_datastore();
    let runtime = Handle::current();
    // On a thread of its own: it looks at everything that the ring names, which is not to hold up requests.
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let told = |collected: &Collected| tell.send_modify(|standing| standing.0 = collected.clone());
        let ended = runtime.block_on(collect(&*datastore, seed(), is_dry_run, told, tokio::time::sleep));
        let ended = ended.map(drop).map_err(|error: CollectionError| error.to_string());
        tell.send_modify(|standing| standing.1 = Some(ended));
    });
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    Ok((content_type, Body::from_stream(lines(standing))).into_response())
}

/// Another filter each time, so that none of its errors lasts.
fn seed() -> u128 {
    use std::hash::{BuildHasher, RandomState};
    u128::from(RandomState::new().hash_one(0_u8)) << 64 | u128::from(RandomState::new().hash_one(1_u8))
}

fn lines(standing: watch::Receiver<Standing>) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static {
    stream::unfold(Some(standing), |standing| async move {
        let mut standing = standing?;
        // Whichever comes first: the end, or the time to tell.
        let _ = tokio::time::timeout(TELL_EVERY, standing.wait_for(|standing| standing.1.is_some())).await;
        let (collected, ended) = standing.borrow().clone();
        let body = body_of(collected);
        Some(match ended {
            None if standing.has_changed().is_err() => {
                (Ok(line(&Line::Error { detail: "the node ended it".into() })), None)
            }
            None => (Ok(line(&Line::Progress(body))), Some(standing)),
            Some(Ok(())) => (Ok(line(&Line::Report(body))), None),
            Some(Err(detail)) => (Ok(line(&Line::Error { detail })), None),
        })
    })
}

fn line(line: &Line) -> Bytes {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

fn body_of(collected: Collected) -> CollectedBody {
    let amount = |amount: Amount| AmountBody { blocks: amount.blocks, bytes: amount.bytes };
    CollectedBody {
        generation: collected.generation,
        phase: match collected.phase {
            Phase::Raise => "raise",
            Phase::Seal => "seal",
            Phase::Mark => "mark",
            Phase::Sweep => "sweep",
            Phase::Done => "done",
        },
        slots_done: collected.slots_done,
        slots_total: collected.slots_total,
        waiting_for: collected.waiting_for,
        values: collected.values,
        before: amount(collected.before),
        unnamed: amount(collected.unnamed),
        deleted: amount(collected.deleted),
    }
}
