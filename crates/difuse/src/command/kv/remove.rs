use clap::Args;
use difuse_api::keys;
use difuse_types::Key;
use serde_json::json;

use crate::command::{exit::Failure, output, session::Session};

/// Arguments of `kv rm`.
#[derive(Debug, Args)]
pub struct RemoveArguments {
    /// The key.
    #[arg(value_parser = super::parse_key)]
    key: Key,
}

/// Deletes a key.
pub async fn run(session: &Session, arguments: RemoveArguments) -> Result<(), Failure> {
    let client = session.connect().await?;
    let written = keys::delete(&client, arguments.key.clone(), session.level).await?;
    let written = written.ok_or_else(|| Failure::NotFound(format!("key {} has no value", arguments.key)))?;
    if session.json {
        return output::print_json(&json!({ "height": written.height, "hash": written.hash }));
    }
    output::print(&format!("deleted at height {}, transaction {}", written.height, written.hash))
}
