//! `difuse kv`: keys and their histories.

mod cas;
mod get;
mod list;
mod log;
mod outcome;
mod remove;
mod set;
mod verify;

use clap::{Args, Subcommand};
use difuse_types::Key;

use super::{exit::Failure, session::Session};

const EXAMPLES: &str = "\
Examples:
  difuse kv set greeting hello
  difuse kv set report --file report.pdf       any size
  difuse kv get greeting
  difuse kv cas greeting absent hello          only if the key has no value
  difuse kv cas greeting 3f0c…e1 hello         only if the last transaction has this hash
  difuse kv set greeting hello --consistency lazy  answered when one node has it
  difuse kv set session:7 open --ttl 30m       gone after half an hour
  difuse kv set greeting hello --namespace de  another key than the one above
  difuse kv list user: --limit 20";

/// What to do with keys.
#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub enum KvCommand {
    /// Print a key's value as it is (with --json: its head too).
    Get(get::GetArguments),
    /// Give a key a value.
    Set(set::SetArguments),
    /// Give a key a value only if its head is as expected (compare and set).
    Cas(cas::CasArguments),
    /// Delete a key; its history stays.
    Rm(remove::RemoveArguments),
    /// Tell what became of a write at level lazy.
    Outcome(outcome::OutcomeArguments),
    /// Show a key's transactions.
    Log(log::LogArguments),
    /// Fetch a key's history, as far as it is kept, and recompute every hash.
    Verify(verify::VerifyArguments),
    /// List keys in order.
    List(list::ListArguments),
}

/// Runs one of them.
pub async fn run(session: &Session, command: KvCommand) -> Result<(), Failure> {
    match command {
        KvCommand::Get(arguments) => get::run(session, arguments).await,
        KvCommand::Set(arguments) => set::run(session, arguments).await,
        KvCommand::Cas(arguments) => cas::run(session, arguments).await,
        KvCommand::Rm(arguments) => remove::run(session, arguments).await,
        KvCommand::Outcome(arguments) => outcome::run(session, arguments).await,
        KvCommand::Log(arguments) => log::run(session, arguments).await,
        KvCommand::Verify(arguments) => verify::run(session, arguments).await,
        KvCommand::List(arguments) => list::run(session, arguments).await,
    }
}

/// A key on the command line.
#[derive(Debug, Args)]
pub struct KeyArguments {
    /// The key.
    key: String,
    /// The namespace that the key is in; the default one has no name.
    #[arg(long, value_name = "NAME", default_value = "")]
    namespace: String,
}

impl KeyArguments {
    /// The key that they name.
    pub fn key(&self) -> Result<Key, Failure> {
        Ok(Key::in_namespace(&self.namespace, self.key.as_bytes())?)
    }
}

/// Where a pruned history begins.
fn checkpoint_json(checkpoint: &difuse_keylog::Checkpoint) -> serde_json::Value {
    serde_json::json!({ "height": checkpoint.height, "hash": checkpoint.hash, "state": checkpoint.state })
}

/// The length of a value's content.
pub fn value_size(value: &difuse_keylog::Value) -> u64 {
    difuse_api::values::size_of(value).unwrap_or_default()
}
