//! `/v1/recover`: slots that lost their majority for ever.

use std::collections::BTreeSet;

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::State,
    response::{IntoResponse, Response},
};
use difuse_api::{
    keys,
    request::{LostSlot, Recovery},
};
use difuse_types::NodeId;
use serde::{Deserialize, Serialize};

use super::{Gateway, problem::Problem};

/// The longest body, in bytes: as many names as may be given up.
const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenUp {
    given_up: Vec<String>,
}

#[derive(Serialize)]
struct RecoveryBody {
    /// Nodes that do not answer and that some slot lacks, or that are `unreached`.
    missing: BTreeSet<NodeId>,
    /// Nodes that do not answer, and that an operator has to give up although no slot need name them.
    unreached: BTreeSet<NodeId>,
    slots: Vec<LostSlotBody>,
}

#[derive(Serialize)]
struct LostSlotBody {
    slot: u32,
    epoch: u64,
    recoveries: u64,
    members: Vec<NodeId>,
    missing: Vec<NodeId>,
    survivors: Vec<SurvivorBody>,
    recovered: bool,
}

#[derive(Serialize)]
struct SurvivorBody {
    node: NodeId,
    keys: u64,
    bytes: u64,
    highest: u64,
}

/// GET: what a recovery would do, and what may be lost.
pub(super) async fn look(State(gateway): State<Gateway>) -> Result<Response, Problem> {
    Ok(answer(keys::recover(gateway.datastore(), None).await?))
}

/// POST of `{"given_up": [nodes]}`: begins anew with the survivors of every slot that lacks no other nodes than these, and
/// gives up those of them that do not answer.
pub(super) async fn recover(State(gateway): State<Gateway>, body: Body) -> Result<Response, Problem> {
    let expected = "expected {\"given_up\": [\"<node>\", ...]} with the nodes that are lost for ever";
    let bad = |what: String| Problem::bad_request("bad_body", format!("{what}: {expected}"));
    let bytes = to_bytes(body, BODY_BYTES_MAX).await.map_err(|error| bad(error.to_string()))?;
    let body: GivenUp = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
    let node = |text: &String| text.parse::<NodeId>().map_err(|error| bad(format!("{text:?}: {error}")));
    let given_up = body.given_up.iter().map(node).collect::<Result<BTreeSet<_>, _>>()?;
    if given_up.is_empty() {
        return Err(bad("no node is given up".into()));
    }
    Ok(answer(keys::recover(gateway.datastore(), Some(given_up)).await?))
}

fn answer(recovery: Recovery) -> Response {
    let missing = recovery.missing();
    let slots = recovery.slots.into_iter().map(slot_body).collect();
    Json(RecoveryBody { missing, unreached: recovery.unreached, slots }).into_response()
}

fn slot_body(slot: LostSlot) -> LostSlotBody {
    let missing = slot.missing().collect();
    let survivor = |survivor: difuse_api::request::Survivor| SurvivorBody {
        node: survivor.node,
        keys: survivor.keys,
        bytes: survivor.bytes,
        highest: survivor.highest,
    };
    LostSlotBody {
        slot: slot.configuration.slot.0,
        epoch: slot.configuration.epoch,
        recoveries: slot.configuration.recoveries(),
        members: slot.configuration.all_members(),
        missing,
        survivors: slot.survivors.into_iter().map(survivor).collect(),
        recovered: slot.recovered,
    }
}
