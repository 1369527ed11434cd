//! `/v1/log/{key}`: a key's history, with everything that its hashes are computed from.

use axum::{Json, extract::State, http::Uri};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use difuse_api::{
    keylog::{Operation, Transaction},
    keys,
};
use difuse_types::{Hash, NodeId, OperationId};
use serde::Serialize;

use super::{
    Gateway,
    keys::kind_word,
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
    transactions: Vec<TransactionBody>,
    /// The `from` of the next page.
    next: Option<u64>,
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
}

/// GET of a key's history.
pub(super) async fn read(State(gateway): State<Gateway>, uri: Uri) -> Result<Json<LogBody>, Problem> {
    let key = any_key(&uri, ROUTE)?;
    let parameters = Parameters::of(&uri);
    let from = parameters.number("from", 1)?.max(1);
    let page = keys::log(gateway.datastore(), key.clone(), from, parameters.limit()?).await?;
    if page.head_height == 0 {
        return Err(Problem::not_found("no_such_key", "the key was never written: it has no history"));
    }
    let last = page.transactions.last().map(|transaction| transaction.height);
    Ok(Json(LogBody {
        key: display(&name_of(&key)),
        encoded_key: STANDARD.encode(key.encoded()),
        head_height: page.head_height,
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
        value_kind: transaction.value().map(kind_word),
        value: transaction.value().map(|value| STANDARD.encode(&value.bytes)),
        author: transaction.author,
        time_ms: transaction.time.0,
        operation_id: transaction.operation_id,
    }
}
