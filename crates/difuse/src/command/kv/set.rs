use std::{path::PathBuf, time::Duration};

use clap::Args;
use difuse_api::{
    keys::{self, Submitted, Written},
    request::Condition,
    values,
};
use difuse_client::Client;
use difuse_keylog::Operation;
use difuse_types::{Key, OperationId, WallTime};
use futures::stream;
use serde_json::json;

use crate::command::{exit::Failure, input, output, session::Session};

/// The value to write.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct ValueArguments {
    /// The value; `-` reads it from standard input.
    value: Option<String>,
    /// A file with the value.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// How long a value lives.
#[derive(Debug, Args)]
pub struct TtlArguments {
    /// How long the key lives, such as 30s or 1h30m; without it, for ever.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,
}

impl TtlArguments {
    /// When a value that is written now expires.
    pub fn deadline(&self) -> Result<Option<WallTime>, Failure> {
        let out_of_range = || Failure::Usage("--ttl must be at least 1ms, and not reach beyond all time".into());
        self.ttl.map(|ttl| keys::deadline_after(ttl).ok_or_else(out_of_range)).transpose()
    }
}

/// Arguments of `kv set`.
#[derive(Debug, Args)]
pub struct SetArguments {
    #[command(flatten)]
    key: super::KeyArguments,
    #[command(flatten)]
    value: ValueArguments,
    #[command(flatten)]
    ttl: TtlArguments,
}

/// Gives a key a value.
pub async fn run(session: &Session, arguments: SetArguments) -> Result<(), Failure> {
    let key = arguments.key.key()?;
    let client = session.connect().await?;
    let submitted = write(session, &client, key, arguments.value, arguments.ttl.deadline()?, Condition::None).await?;
    print_submitted(session, &submitted)
}

/// Writes a value given on the command line.
pub async fn write(
    session: &Session,
    client: &Client,
    key: Key,
    value: ValueArguments,
    deadline: Option<WallTime>,
    condition: Condition,
) -> Result<Submitted, Failure> {
    let levels = session.levels_of(client, &key).await?;
    let stored = match (value.value, value.file) {
        (Some(text), _) if text != "-" => {
            values::store(client, &key, stream::iter([Ok(text.into())]), levels.set_block).await?
        }
        (_, file) => {
            let source = input::stream(&file.unwrap_or_else(|| "-".into())).await?;
            values::store(client, &key, source, levels.set_block).await?
        }
    };
    let (operation, operation_id) = (Operation::Set(stored.value.until(deadline)), keys::new_operation_id());
    Ok(keys::submit(client, key, operation, condition, operation_id, levels.set_inode).await?)
}

/// Tells where a write came to stand, or how to ask for that.
pub fn print_submitted(session: &Session, submitted: &Submitted) -> Result<(), Failure> {
    let written = match submitted {
        Submitted::Written(written) => written,
        Submitted::Queued(operation_id) => return print_queued(session, operation_id),
    };
    if session.json {
        let Written { height, hash, created } = written;
        return output::print_json(&json!({ "height": height, "hash": hash, "created": created }));
    }
    let verb = if written.created { "created" } else { "written" };
    output::print(&format!("{verb} at height {}, transaction {}", written.height, written.hash))
}

/// Tells how to ask for the outcome of a write at level lazy.
pub fn print_queued(session: &Session, operation_id: &OperationId) -> Result<(), Failure> {
    if session.json {
        let operation_id = operation_id.to_string();
        return output::print_json(&json!({ "queued": true, "operation_id": operation_id }));
    }
    output::print(&format!("queued: `difuse kv outcome {operation_id}` tells what becomes of it"))
}
