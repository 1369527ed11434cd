use clap::Args;
use difuse_api::{keys, request::Condition};
use difuse_keylog::Operation;
use difuse_types::Level;
use serde_json::json;

use super::set::print_queued;
use crate::command::{exit::Failure, output, session::Session};

/// Arguments of `kv rm`.
#[derive(Debug, Args)]
pub struct RemoveArguments {
    #[command(flatten)]
    key: super::KeyArguments,
}

/// Deletes a key.
pub async fn run(session: &Session, arguments: RemoveArguments) -> Result<(), Failure> {
    let key = arguments.key.key()?;
    let client = session.connect().await?;
    let level = session.levels_of(&client, &key).await?.delete_inode;
    if level == Level::Lazy {
        let (operation, condition, id) = (Operation::Delete, Condition::Present, keys::new_operation_id());
        keys::submit(&client, key, operation, condition, id, level).await?;
        return print_queued(session, &id);
    }
    let written = keys::delete(&client, key.clone(), level).await?;
    let written = written.ok_or_else(|| Failure::NotFound(format!("key {} has no value", key)))?;
    if session.json {
        return output::print_json(&json!({ "height": written.height, "hash": written.hash }));
    }
    output::print(&format!("deleted at height {}, transaction {}", written.height, written.hash))
}
