use clap::Args;
use difuse_api::{
    Consistency, keys,
    request::{Entry, Reading},
    values,
};
use difuse_client::Client;
use difuse_keylog::{Value, ValueKind};
use difuse_types::Level;
use futures::TryStreamExt;
use serde_json::{Map, json};

use crate::command::{exit::Failure, output, session::Session};

/// Larger values are not shown inside JSON.
const JSON_VALUE_BYTES_MAX: u64 = 1 << 20;

/// Arguments of `kv get`.
#[derive(Debug, Args)]
pub struct GetArguments {
    #[command(flatten)]
    key: super::KeyArguments,
}

/// Prints a key's value.
pub async fn run(session: &Session, arguments: GetArguments) -> Result<(), Failure> {
    let key = arguments.key.key()?;
    let client = session.connect().await?;
    let Consistency { stat, get_block, .. } = session.levels_of(&client, &key).await?;
    let reading = keys::reading(&client, key.clone(), stat).await?;
    let Reading { entry, is_linearizable, .. } = reading;
    let missing = || Failure::NotFound(format!("key {} has no value", key));
    let entry = entry.ok_or_else(missing)?;
    let value = entry.value.clone().ok_or_else(missing)?;
    if session.json {
        print_entry(get_block, client, &entry, is_linearizable, &value).await
    } else {
        print_value(get_block, client, &value).await
    }
}

async fn print_value(level: Level, client: Client, value: &Value) -> Result<(), Failure> {
    if value.kind == ValueKind::Inline {
        return output::print_bytes(&value.bytes);
    }
    let mut parts = values::stream(client, value, None, level)?;
    while let Some(part) = parts.try_next().await? {
        output::print_bytes(&part)?;
    }
    Ok(())
}

async fn print_entry(
    level: Level,
    client: Client,
    entry: &Entry,
    is_linearizable: bool,
    value: &Value,
) -> Result<(), Failure> {
    let size = super::value_size(value);
    let mut object = Map::new();
    object.insert("height".into(), json!(entry.height));
    object.insert("hash".into(), json!(entry.hash));
    object.insert("linearizable".into(), json!(is_linearizable));
    object.insert("time_ms".into(), json!(entry.time.0));
    object.insert("author".into(), json!(entry.author));
    object.insert("size".into(), json!(size));
    if value.kind == ValueKind::Inline {
        object.extend([output::json_bytes("value", &value.bytes)]);
    } else if size <= JSON_VALUE_BYTES_MAX {
        let parts: Vec<_> = values::stream(client, value, None, level)?.try_collect().await?;
        object.extend([output::json_bytes("value", &parts.concat())]);
    }
    output::print_json(&object)
}
