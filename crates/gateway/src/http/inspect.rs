//! `/v1/stat`, `/v1/leader`, `/v1/locate`: what is known of a key, or with `?space=files` of a file or directory.

use axum::{
    Json,
    extract::State,
    http::Uri,
    response::{IntoResponse, Response},
};
use difuse_api::{blocks::Inode, keys, request::Located, values};
use difuse_types::{Hash, Key, NodeId};
use serde::Serialize;

use super::{
    Gateway,
    keys::{no_such_key, present},
    parameters::{any_key, display, name_of},
    problem::Problem,
};

const STAT_ROUTE: &str = "/v1/stat/";
const LEADER_ROUTE: &str = "/v1/leader/";
const LOCATE_ROUTE: &str = "/v1/locate/";

#[derive(Serialize)]
struct StatBody {
    key: String,
    height: u64,
    hash: Hash,
    /// Whether nothing later was committed when the question came in.
    linearizable: bool,
    time_ms: u64,
    author: NodeId,
    value_kind: &'static str,
    /// Of a plain value; a structure has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Of a value that is not in the transaction, or of a file or directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<Inode>,
}

/// GET of what is recorded of a key.
pub(super) async fn stat(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let key = any_key(&uri, STAT_ROUTE)?;
    let (entry, linearizable) = present(&gateway, key.clone(), &uri).await?;
    let value = entry.value.as_ref().ok_or_else(no_such_key)?;
    let is_structure = value.kind.is_structure();
    let size = if is_structure { None } else { Some(values::size_of(value)?) };
    let inode = if is_structure { None } else { values::inode_of(value)? };
    let body = StatBody {
        key: display(&name_of(&key)),
        height: entry.height,
        hash: entry.hash,
        linearizable,
        time_ms: entry.time.0,
        author: entry.author,
        value_kind: value.kind.as_str(),
        size,
        inode,
    };
    Ok(Json(body).into_response())
}

#[derive(Serialize)]
struct LocatedBody {
    key: String,
    slot: u32,
    epoch: u64,
    /// How often the slot was recovered after it had lost its majority.
    recoveries: u64,
    leader: NodeId,
    members: Vec<NodeId>,
    /// The members-to-be while the group is moving.
    joint: Vec<NodeId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holdings: Option<Vec<HoldingBody>>,
}

#[derive(Serialize)]
struct HoldingBody {
    node: NodeId,
    answered: bool,
    height: Option<u64>,
    hash: Option<Hash>,
}

/// GET of a key's leader and configuration.
pub(super) async fn leader(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let key = any_key(&uri, LEADER_ROUTE)?;
    let located = keys::locate(gateway.datastore(), key.clone()).await?;
    Ok(Json(located_body(&key, located, None)).into_response())
}

/// GET of what each member holds of a key.
pub(super) async fn locate(State(gateway): State<Gateway>, uri: Uri) -> Result<Response, Problem> {
    let key = any_key(&uri, LOCATE_ROUTE)?;
    let located = keys::locate(gateway.datastore(), key.clone()).await?;
    let holdings = located.holdings.iter().map(|holding| HoldingBody {
        node: holding.node,
        answered: holding.answered,
        height: holding.head.map(|(height, _)| height),
        hash: holding.head.map(|(_, hash)| hash),
    });
    let holdings = holdings.collect();
    Ok(Json(located_body(&key, located, Some(holdings))).into_response())
}

fn located_body(key: &Key, located: Located, holdings: Option<Vec<HoldingBody>>) -> LocatedBody {
    LocatedBody {
        key: display(&name_of(key)),
        slot: located.slot.0,
        epoch: located.epoch,
        recoveries: located.recoveries(),
        leader: located.leader,
        members: located.members,
        joint: located.joint,
        holdings,
    }
}
