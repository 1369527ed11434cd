use clap::Args;
use difuse_api::{keys, request::OperationState};
use difuse_types::OperationId;
use serde_json::json;

use crate::command::{exit::Failure, output, session::Session};

/// Arguments of `kv outcome`.
#[derive(Debug, Args)]
pub struct OutcomeArguments {
    /// The operation's id, as `kv set --consistency lazy` printed it.
    id: OperationId,
}

/// Tells what became of a write at level lazy; a refusal has the exit code of a conflict, one that nobody can tell
/// that of an unknown outcome.
pub async fn run(session: &Session, arguments: OutcomeArguments) -> Result<(), Failure> {
    let client = session.connect().await?;
    let found = keys::outcome(&client, arguments.id).await?;
    let missing = || Failure::NotFound(format!("no node knows of operation {}", arguments.id));
    let found = found.ok_or_else(missing)?;
    let key = found.key.to_string();
    match found.state {
        OperationState::Queued if session.json => output::print_json(&json!({ "state": "queued", "key": key })),
        OperationState::Queued => output::print(&format!("queued: key {key} waits for its group")),
        OperationState::Applied { height, hash } if session.json => {
            output::print_json(&json!({ "state": "applied", "key": key, "height": height, "hash": hash }))
        }
        OperationState::Applied { height, hash } => {
            output::print(&format!("applied: key {key} at height {height}, transaction {hash}"))
        }
        OperationState::Forgotten => {
            Err(Failure::Unknown(format!("key {key}: nobody can tell any more whether it was applied: read the key")))
        }
        OperationState::Refused { reason, .. } => Err(Failure::Conflict(format!("refused: key {key}: {reason}"))),
    }
}
