//! `difuse block`: immutable content by the hash of its bytes.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use clap::Subcommand;
use difuse_api::{
    Datastore,
    blocks::{BlockRecord, MAX_BLOCK_BYTES},
    keys,
    request::{BlockHolding, Reply, Request, RequestError},
};
use difuse_client::Client;
use difuse_types::Hash;
use serde_json::{Value, json};

use super::{exit::Failure, input, output, session::Session};
use crate::terminal;

/// What to do with blocks.
#[derive(Debug, Subcommand)]
pub enum BlockCommand {
    /// Store a block and print its hash.
    Put {
        /// A file with the content, or - for standard input.
        file: PathBuf,
    },
    /// Read a block.
    Get {
        /// Its hash.
        hash: Hash,
        /// Where to write it; - for standard output.
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// Delete a block that no file refers to.
    Rm {
        /// Its hash.
        hash: Hash,
    },
    /// Show what is recorded of a block.
    Stat {
        /// Its hash.
        hash: Hash,
    },
    /// Show what each member of the block's slot holds of it.
    Locate {
        /// Its hash.
        hash: Hash,
    },
}

/// Runs one of them.
pub async fn run(session: &Session, command: BlockCommand) -> Result<(), Failure> {
    match command {
        BlockCommand::Put { file } => put(session, &file).await,
        BlockCommand::Get { hash, file } => get(session, hash, &file).await,
        BlockCommand::Rm { hash } => remove(session, hash).await,
        BlockCommand::Stat { hash } => stat(session, hash).await,
        BlockCommand::Locate { hash } => locate(session, hash).await,
    }
}

async fn put(session: &Session, file: &Path) -> Result<(), Failure> {
    let bytes = input::read_all(file, MAX_BLOCK_BYTES as u64).await?;
    let client = session.connect().await?;
    let (hash, size) = (Hash::of(&bytes), bytes.len());
    let request = Request::PutBlock { hash, bytes, referenced: false, generation: 0, level: session.level() };
    let Reply::BlockPut { created } = client.call(request).await? else { return Err(unexpected()) };
    if session.json {
        return output::print_json(&json!({ "hash": hash, "size": size, "created": created }));
    }
    output::print(&hash.to_string())
}

async fn get(session: &Session, hash: Hash, file: &Path) -> Result<(), Failure> {
    let client = session.connect().await?;
    let bytes = read(session, &client, hash).await?.ok_or_else(|| missing(hash))?;
    if file == Path::new("-") {
        return output::print_bytes(&bytes);
    }
    tokio::fs::write(file, &bytes).await.map_err(|error| Failure::local(file, &error))
}

/// Reads a block and checks it here as well: no node is believed.
async fn read(session: &Session, client: &Client, hash: Hash) -> Result<Option<Bytes>, Failure> {
    let request = Request::ReadBlock { hash, level: session.level() };
    let Reply::Block(bytes) = client.call(request).await? else { return Err(unexpected()) };
    match bytes.as_ref().map(|bytes| Hash::of(bytes)) {
        Some(actual) if actual != hash => Err(RequestError::WrongHash { expected: hash, actual }.into()),
        _ => Ok(bytes),
    }
}

async fn remove(session: &Session, hash: Hash) -> Result<(), Failure> {
    let client = session.connect().await?;
    let request = Request::DeleteBlock { hash, level: session.level() };
    match client.call(request).await? {
        Reply::BlockDeleted { existed: true } if session.json => output::print_json(&json!({ "deleted": hash })),
        Reply::BlockDeleted { existed: true } => output::print(&format!("block {hash} deleted")),
        Reply::BlockDeleted { existed: false } => Err(missing(hash)),
        _ => Err(unexpected()),
    }
}

async fn stat(session: &Session, hash: Hash) -> Result<(), Failure> {
    let client = session.connect().await?;
    let Reply::BlockStat(record) = client.call(Request::StatBlock { hash }).await? else { return Err(unexpected()) };
    let record = record.ok_or_else(|| missing(hash))?;
    if session.json {
        return output::print_json(&record_json(&record));
    }
    output::print(&format!("block {hash}\n{}", record_text(&record)))
}

async fn locate(session: &Session, hash: Hash) -> Result<(), Failure> {
    let client = session.connect().await?;
    let located = keys::locate_block(&client, hash).await?;
    if session.json {
        let holdings = located.holdings.iter().map(holding_json);
        let holdings: Vec<_> = holdings.collect();
        return output::print_json(&json!({ "slot": located.slot.0, "epoch": located.epoch, "holdings": holdings }));
    }
    let rows = located.holdings.iter().map(|holding| [holding.node.to_string(), holding_text(holding)]);
    output::print(&terminal::table(&["node", "holds"], rows))?;
    output::print(&format!("Slot {}, epoch {}", located.slot, located.epoch))
}

fn holding_json(holding: &BlockHolding) -> Value {
    let BlockHolding { node, record, answered } = holding;
    json!({ "node": node, "answered": answered, "holds": record.as_ref().map(record_json) })
}

fn holding_text(holding: &BlockHolding) -> String {
    match &holding.record {
        Some(record) => record_text(record),
        None if holding.answered => "nothing".into(),
        None => "no answer".into(),
    }
}

fn missing(hash: Hash) -> Failure {
    Failure::NotFound(format!("there is no block {hash}"))
}

fn unexpected() -> Failure {
    Failure::Other("the node answered with something that was not asked for: it runs another version".into())
}

fn record_json(record: &BlockRecord) -> Value {
    json!({
        "size": record.length,
        "present": record.present,
        "lost": record.lost,
        "referenced": record.referenced,
        "version": record.version,
    })
}

fn record_text(record: &BlockRecord) -> String {
    if !record.present {
        return "a tombstone".into();
    }
    if record.lost {
        return "nothing: its copy was found damaged, and is being fetched again".into();
    }
    let used = if record.referenced { ", part of a file" } else { "" };
    format!("{}{used}", terminal::bytes(record.length.into()))
}

#[cfg(test)]
mod tests {
    use difuse_api::request::BlockHolding;
    use difuse_types::NodeId;

    use super::{holding_json, holding_text};

    #[test]
    fn who_is_silent_is_not_said_to_hold_nothing() {
        let holding = |answered| BlockHolding { node: NodeId([1; 32]), record: None, answered };
        assert_eq!(
            (holding_text(&holding(true)).as_str(), holding_text(&holding(false)).as_str()),
            ("nothing", "no answer")
        );
        assert_eq!(holding_json(&holding(false))["answered"], false);
    }
}
