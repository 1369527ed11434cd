//! Block commands on blocking threads: the store's calls return when they are durable.

use difuse_blocks::DeleteDecision;
use difuse_keylog::StoreError;
use difuse_protocol::{BlockCommand, BlockResult, Input};
use difuse_storage::BlockStore;
use difuse_types::Hash;
use tokio::sync::mpsc;

/// How many records a page of a listing has.
const PAGE: usize = 1024;

/// Starts a command; its result comes as an input.
pub(crate) fn start(store: &BlockStore, ticket: u64, command: BlockCommand, done: &mpsc::UnboundedSender<Input>) {
    let (store, done) = (store.clone(), done.clone());
    tokio::task::spawn_blocking(move || {
        let result = perform(&store, command).unwrap_or_else(|error| BlockResult::Failed(error.to_string()));
        // The receiver is gone only when the node stops.
        let _ = done.send(Input::BlockDone { ticket, result });
    });
}

fn perform(store: &BlockStore, command: BlockCommand) -> Result<BlockResult, StoreError> {
    match command {
        BlockCommand::Put { slot, hash, bytes, version, referenced } => {
            let actual = Hash::of(&bytes);
            if actual != hash {
                return Ok(BlockResult::Failed(format!("the block's hash is {actual}, not {hash}")));
            }
            Ok(BlockResult::Put(store.put(slot, hash, bytes, version, referenced)?))
        }
        BlockCommand::Read { hash } => read(store, &hash),
        BlockCommand::Stat { hash } => Ok(BlockResult::Record(store.stat(&hash)?)),
        BlockCommand::Delete { slot, hash, version } => Ok(match store.delete(slot, hash, version)? {
            DeleteDecision::Delete | DeleteDecision::AlreadyDeleted => BlockResult::Done,
            DeleteDecision::Superseded { version } => BlockResult::Superseded { version },
        }),
        BlockCommand::List { slot, after } => {
            let records = store.list(slot, after, PAGE)?;
            let is_last = records.len() < PAGE;
            Ok(BlockResult::Page { records, is_last })
        }
        BlockCommand::Digest { slot } => Ok(BlockResult::Digest(store.digest(slot)?)),
        BlockCommand::Clear { slot } => {
            store.clear_slot(slot)?;
            Ok(BlockResult::Done)
        }
    }
}

/// A block that is not what its hash says is never served: another member has it.
fn read(store: &BlockStore, hash: &Hash) -> Result<BlockResult, StoreError> {
    match store.read(hash) {
        Ok(Some((_, bytes))) if Hash::of(&bytes) != *hash => {
            tracing::error!(%hash, "a block on disk is corrupt; reading it from another member");
            Ok(BlockResult::Content(None))
        }
        Ok(found) => Ok(BlockResult::Content(found)),
        Err(StoreError::Corrupt(what)) => {
            tracing::error!(%hash, what, "a block on disk is corrupt; reading it from another member");
            Ok(BlockResult::Content(None))
        }
        Err(error) => Err(error),
    }
}
