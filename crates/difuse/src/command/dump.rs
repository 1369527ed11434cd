//! `difuse dump`.

use difuse_api::{
    keys,
    request::{DumpItem, PAGE_MAX},
};
use difuse_types::Space;
use serde_json::{Map, Value, json};

use super::{exit::Failure, output, session::Session};

/// Prints what the node connected to holds itself, one JSON object per line.
pub async fn run(session: &Session) -> Result<(), Failure> {
    let client = session.connect().await?;
    let node = client.at(client.entry_node());
    let mut after = None;
    loop {
        let page = keys::dump(&node, after, PAGE_MAX).await?;
        page.items.iter().try_for_each(|item| output::print_json_line(&item_json(item)))?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn item_json(item: &DumpItem) -> Value {
    match item {
        DumpItem::Key { slot, key, height, hash } => {
            let mut object: Map<_, _> = match key.space() {
                Space::Keys => [output::json_bytes("key", key.name())].into_iter().collect(),
                Space::Ring => [("ring".to_string(), json!(key.to_string()))].into_iter().collect(),
                Space::Files => [("path".to_string(), json!(key.to_string()))].into_iter().collect(),
            };
            object.insert("slot".into(), json!(slot.0));
            object.insert("height".into(), json!(height));
            object.insert("hash".into(), json!(hash));
            Value::Object(object)
        }
        DumpItem::Block { slot, hash, record } => {
            json!({ "block": hash, "slot": slot.0, "size": record.length, "present": record.present })
        }
    }
}

#[cfg(test)]
mod tests {
    use difuse_api::request::DumpItem;
    use difuse_types::{Hash, Key, SlotId};

    use super::item_json;

    #[test]
    fn keys_and_files_are_told_apart() {
        let item = |key| DumpItem::Key { slot: SlotId(1), key, height: 2, hash: Hash::ZERO };
        assert_eq!(item_json(&item(Key::new(b"k").unwrap()))["key"], "k");
        assert_eq!(item_json(&item(Key::of_path("a/b").unwrap()))["path"], "/a/b");
    }
}
