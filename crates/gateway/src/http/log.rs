//! `/v1/log/{key}`: a key's history, with everything that its hashes are computed from.

use axum::{Json, extract::State, http::Uri};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use difuse_api::{
    keylog::{Checkpoint, Operation, Transaction},
    keys,
};
use difuse_types::{Hash, NodeId, OperationId};
use serde::Serialize;

use super::{
    Gateway,
    parameters::{Parameters, any_key, display, name_of},
    problem::Problem,
};

/// The route, without the key.
pub(super) const ROUTE: &str = "/v1/log/";

/// A page of a key's history.
#[derive(Serialize)]
pub(super) struct LogBody {
    key: String,
    /// The encoded key as it is hashed: base64.
    encoded_key: String,
    head_height: u64,
    /// Where the history begins if what is below was pruned, unless the request said where to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<CheckpointBody>,
    transactions: Vec<TransactionBody>,
    /// The `from` of the next page.
    next: Option<u64>,
}

/// A checkpoint: the kept part of a history begins with it.
#[derive(Debug, Serialize)]
pub(super) struct CheckpointBody {
    height: u64,
    hash: Hash,
    /// The hash of the state after it.
    state: Hash,
}

impl From<Checkpoint> for CheckpointBody {
    fn from(Checkpoint { height, hash, state }: Checkpoint) -> Self {
        Self { height, hash, state }
    }
}

#[derive(Serialize)]
struct TransactionBody {
    height: u64,
    hash: Hash,
    previous: Hash,
    operation: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_kind: Option<&'static str>,
    /// base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    author: NodeId,
    time_ms: u64,
    operation_id: OperationId,
    /// The hash of the state, if the transaction is a checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    checkpoint: Option<Hash>,
    /// When the key expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline_ms: Option<u64>,
}

/// GET of a key's history: from its beginning, or from the checkpoint below which it was pruned; a request that names
/// a height below that is answered 410.
pub(super) async fn read(State(gateway): State<Gateway>, uri: Uri) -> Result<Json<LogBody>, Problem> {
    let key = any_key(&uri, ROUTE)?;
    let parameters = Parameters::of(&uri);
    let (from, limit) = (parameters.number("from", 0)?, parameters.limit()?);
    let (base, page) = match from {
        0 => keys::kept_log(gateway.datastore(), key.clone(), limit).await?,
        from => (None, keys::log(gateway.datastore(), key.clone(), from, limit).await?),
    };
    if page.head_height == 0 {
        return Err(Problem::not_found("no_such_key", "the key was never written: it has no history"));
    }
    let last = page.transactions.last().map(|transaction| transaction.height);
    Ok(Json(LogBody {
        key: display(&name_of(&key)),
        encoded_key: STANDARD.encode(key.encoded()),
        head_height: page.head_height,
        base: base.map(CheckpointBody::from),
        transactions: page.transactions.iter().map(transaction_body).collect(),
        next: last.filter(|last| *last < page.head_height).map(|last| last + 1),
    }))
}

fn transaction_body(transaction: &Transaction) -> TransactionBody {
    TransactionBody {
        height: transaction.height,
        hash: transaction.hash(),
        previous: transaction.previous,
        operation: match transaction.operation {
            Operation::Set(_) => "set",
            Operation::Delete => "delete",
        },
        value_kind: transaction.value().map(|value| value.kind.as_str()),
        value: transaction.value().map(|value| STANDARD.encode(&value.bytes)),
        author: transaction.author,
        time_ms: transaction.time.0,
        operation_id: transaction.operation_id,
        checkpoint: transaction.checkpoint,
        deadline_ms: transaction.deadline().map(|deadline| deadline.0),
    }
}
