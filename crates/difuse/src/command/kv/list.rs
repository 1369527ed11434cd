use clap::Args;
use difuse_api::{
    keys,
    request::{ListEntry, PAGE_MAX},
};
use difuse_types::Key;
use serde_json::{Map, Value, json};

use crate::{
    command::{exit::Failure, output, session::Session},
    terminal,
};

/// Arguments of `kv list`.
#[derive(Debug, Args)]
pub struct ListArguments {
    /// Only keys that begin with this.
    #[arg(default_value = "")]
    prefix: String,
    /// Only keys after this one.
    #[arg(long, value_name = "KEY")]
    after: Option<String>,
    /// The namespace to list; the default one has no name.
    #[arg(long, value_name = "NAME", default_value = "")]
    namespace: String,
    /// At most so many keys; 0 for all.
    #[arg(long, default_value_t = 1000)]
    limit: u64,
}

/// Lists keys with values, in order.
pub async fn run(session: &Session, arguments: ListArguments) -> Result<(), Failure> {
    let client = session.connect().await?;
    let namespace = &arguments.namespace;
    let prefix = Key::prefix(namespace, arguments.prefix.as_bytes())?;
    let after = arguments.after.map(|after| Key::in_namespace(namespace, after.as_bytes()));
    let mut after = after.transpose()?;
    let mut left = if arguments.limit == 0 { u64::MAX } else { arguments.limit };
    loop {
        let limit = u32::try_from(left).unwrap_or(PAGE_MAX).min(PAGE_MAX);
        let page = keys::list(&client, prefix.clone(), after, limit, None).await?;
        left = left.saturating_sub(page.entries.len() as u64);
        print_entries(session, &page.entries)?;
        after = page.next;
        if after.is_none() || left == 0 {
            break;
        }
    }
    if after.is_some() && !session.json {
        eprintln!("… more follow: --limit 0 for all");
    }
    Ok(())
}

fn print_entries(session: &Session, entries: &[ListEntry]) -> Result<(), Failure> {
    if session.json {
        return entries.iter().try_for_each(|entry| output::print_json_line(&entry_json(entry)));
    }
    if entries.is_empty() {
        return Ok(());
    }
    let rows = entries.iter().map(|ListEntry { key, entry }| {
        let size = entry.value.as_ref().map_or(0, super::value_size);
        let name = output::shown_bytes(key.name(), 120);
        [name, entry.height.to_string(), terminal::bytes(size), terminal::date(entry.time.0)]
    });
    output::print(&terminal::table(&["key", "height", "size", "written"], rows))
}

fn entry_json(ListEntry { key, entry }: &ListEntry) -> Value {
    let mut object: Map<_, _> = [output::json_bytes("key", key.name())].into_iter().collect();
    object.insert("height".into(), json!(entry.height));
    object.insert("hash".into(), json!(entry.hash));
    object.insert("size".into(), json!(entry.value.as_ref().map_or(0, super::value_size)));
    object.insert("time_ms".into(), json!(entry.time.0));
    Value::Object(object)
}
