use std::path::PathBuf;

use clap::Args;
use difuse_api::{
    keys::{self, Written},
    request::Condition,
    values,
};
use difuse_client::Client;
use difuse_keylog::Operation;
use difuse_types::Key;
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

/// Arguments of `kv set`.
#[derive(Debug, Args)]
pub struct SetArguments {
    /// The key.
    #[arg(value_parser = super::parse_key)]
    key: Key,
    #[command(flatten)]
    value: ValueArguments,
}

/// Gives a key a value.
pub async fn run(session: &Session, arguments: SetArguments) -> Result<(), Failure> {
    let client = session.connect().await?;
    let written = write(session, &client, arguments.key, arguments.value, Condition::None).await?;
    print_written(session, &written)
}

/// Writes a value given on the command line.
pub async fn write(
    session: &Session,
    client: &Client,
    key: Key,
    value: ValueArguments,
    condition: Condition,
) -> Result<Written, Failure> {
    let stored = match (value.value, value.file) {
        (Some(text), _) if text != "-" => values::store(client, stream::iter([Ok(text.into())]), session.level).await?,
        (_, file) => {
            values::store(client, input::stream(&file.unwrap_or_else(|| "-".into())).await?, session.level).await?
        }
    };
    let operation_id = keys::new_operation_id();
    Ok(keys::write(client, key, Operation::Set(stored.value), condition, operation_id, session.level).await?)
}

/// Tells where a write came to stand.
pub fn print_written(session: &Session, written: &Written) -> Result<(), Failure> {
    if session.json {
        let Written { height, hash, created } = written;
        return output::print_json(&json!({ "height": height, "hash": hash, "created": created }));
    }
    let verb = if written.created { "created" } else { "written" };
    output::print(&format!("{verb} at height {}, transaction {}", written.height, written.hash))
}
