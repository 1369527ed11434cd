//! `/v1/ring`, `/v1/leave`, `/v1/dump`: the ring and what this node holds.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use difuse_api::{
    keys,
    request::{DumpCursor, DumpItem, PAGE_MAX, RequestError},
    ring::HostState,
};
use difuse_types::{Hash, Host, NodeId, Space};
use futures::{Stream, TryStreamExt, stream};
use serde::Serialize;

use super::{
    Gateway, SharedDatastore, Transfer,
    parameters::{display, name_of},
    problem::Problem,
};

#[derive(Serialize)]
struct RingBody {
    id: Hash,
    node: NodeId,
    replicas: u8,
    slots: u32,
    virtual_nodes: u16,
    settled: bool,
    slots_short: u64,
    /// Copies of keys that their nodes cannot read, and are fetching from other members.
    keys_damaged: u64,
    moving: MovingBody,
    /// Nodes whose disks are so full that they take over no more slots.
    short_of_room: Vec<NodeId>,
    /// Deleted keys whose tombstones are kept.
    tombstones: u64,
    hosts: Vec<HostBody>,
}

#[derive(Serialize)]
struct MovingBody {
    slots: u64,
    bytes_done: u64,
    bytes_total: u64,
}

#[derive(Serialize)]
struct HostBody {
    id: NodeId,
    address: String,
    http: String,
    zone: String,
    label: String,
    state: &'static str,
}

/// GET of the ring as this node sees it.
pub(super) async fn ring(State(gateway): State<Gateway>) -> Result<Response, Problem> {
    let view = keys::ring(gateway.datastore()).await?;
    let body = RingBody {
        id: view.settings.id.0,
        node: view.node,
        replicas: view.settings.replicas,
        slots: view.settings.slots.count(),
        virtual_nodes: view.settings.virtual_nodes,
        settled: view.settled,
        slots_short: view.slots_short,
        keys_damaged: view.keys_damaged,
        moving: MovingBody {
            slots: view.moving.slots,
            bytes_done: view.moving.bytes_done,
            bytes_total: view.moving.bytes_total,
        },
        short_of_room: view.short_of_room,
        tombstones: view.tombstones,
        hosts: view.hosts.into_iter().map(|(host, state)| host_body(host, state)).collect(),
    };
    Ok(Json(body).into_response())
}

fn host_body(host: Host, state: HostState) -> HostBody {
    let state = state.as_str();
    HostBody { id: host.node, address: host.address, http: host.http, zone: host.zone, label: host.label, state }
}

/// POST: plans the leave of this node, and answers when it holds nothing more that others need.
pub(super) async fn leave(State(gateway): State<Gateway>) -> Result<StatusCode, Problem> {
    keys::leave(gateway.datastore()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One line of a dump.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Key {
        slot: u32,
        space: &'static str,
        namespace: String,
        key: String,
        height: u64,
        hash: Hash,
    },
    Block {
        slot: u32,
        hash: Hash,
        size: u32,
        referenced: bool,
        deleted: bool,
    },
    /// The last line of a dump that could not be completed.
    Error {
        detail: String,
    },
    /// The last line of a complete dump.
    End {
        items: u64,
    },
}

/// GET of what this node holds: JSON lines, a page at a time.
pub(super) async fn dump(State(gateway): State<Gateway>) -> Result<Response, Problem> {
    let transfer = gateway.begin_transfer()?;
    let lines = lines(gateway.shared_datastore(), transfer);
    let content_type = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    Ok((content_type, Body::from_stream(lines)).into_response())
}

/// What is left of a dump.
enum Rest {
    Page(Option<DumpCursor>),
    End,
    Nothing,
}

fn lines(
    datastore: SharedDatastore,
    transfer: Transfer,
) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + 'static {
    let transfer = Arc::new(transfer);
    stream::unfold((Rest::Page(None), 0), move |(rest, items)| {
        let (datastore, transfer) = (datastore.clone(), transfer.clone());
        async move {
            let _transfer = transfer;
            match rest {
                Rest::Nothing => None,
                Rest::End => Some((Ok(line(&Line::End { items })), (Rest::Nothing, items))),
                Rest::Page(after) => Some(page(&datastore, after, items).await),
            }
        }
    })
    .map_ok(Bytes::from)
}

type Step = (Result<Vec<u8>, std::convert::Infallible>, (Rest, u64));

async fn page(datastore: &SharedDatastore, after: Option<DumpCursor>, items: u64) -> Step {
    match keys::dump(datastore, after, PAGE_MAX).await {
        Ok(page) => {
            let items = items + page.items.len() as u64;
            let text = page.items.iter().flat_map(|item| line(&line_of(item))).collect();
            (Ok(text), (page.next.map_or(Rest::End, |next| Rest::Page(Some(next))), items))
        }
        Err(error) => (Ok(line(&error_line(&error))), (Rest::Nothing, items)),
    }
}

fn line_of(item: &DumpItem) -> Line {
    match item {
        DumpItem::Key { slot, key, height, hash } => Line::Key {
            slot: slot.0,
            space: match key.space() {
                Space::Keys => "keys",
                Space::Files => "files",
                Space::Ring => "ring",
            },
            namespace: key.namespace().to_owned(),
            key: display(&name_of(key)),
            height: *height,
            hash: *hash,
        },
        DumpItem::Block { slot, hash, record } => Line::Block {
            slot: slot.0,
            hash: *hash,
            size: record.length,
            referenced: record.referenced,
            deleted: !record.present,
        },
    }
}

fn error_line(error: &RequestError) -> Line {
    Line::Error { detail: error.to_string() }
}

fn line(line: &Line) -> Vec<u8> {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    text
}
