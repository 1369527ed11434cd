use std::collections::BTreeMap;

use serde::Deserialize;

use crate::Http;

/// Space, namespace and name of a key.
pub type KeyName = (String, String, String);

/// What a node itself holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dump {
    /// Height and hash of each key's head.
    pub keys: BTreeMap<KeyName, (u64, String)>,
    /// Size of each block that is not deleted.
    pub blocks: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Line {
    Key { space: String, namespace: String, key: String, height: u64, hash: String },
    Block { hash: String, size: u32, deleted: bool },
    Error { detail: String },
    End { items: u64 },
}

impl Dump {
    /// Asks a node for all that it holds, and insists that the answer is complete.
    pub async fn of(http: &Http) -> Self {
        let text = http.get("/v1/dump").await.expect(200).text();
        let (mut dump, mut items, mut end) = (Self::default(), 0, None);
        for line in text.lines() {
            items += 1;
            match serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")) {
                Line::Key { space, namespace, key, height, hash } => {
                    let other = dump.keys.insert((space, namespace, key), (height, hash));
                    assert!(other.is_none(), "a key is there twice: {line}");
                }
                Line::Block { hash, size, deleted: false } => {
                    assert!(dump.blocks.insert(hash, size).is_none(), "a block is there twice: {line}");
                }
                Line::Block { .. } => {}
                Line::Error { detail } => panic!("the dump broke off: {detail}"),
                Line::End { items } => end = Some(items),
            }
        }
        assert_eq!(end, Some(items - 1), "the dump has no end, or not as many items as it says");
        dump
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.blocks.is_empty()
    }

    /// Insists that every key and block of `dumps` is in exactly `count` of them, everywhere with the same head.
    pub fn assert_on_exactly(count: usize, dumps: &[Self]) {
        if let Err(difference) = Self::on_exactly(count, dumps) {
            panic!("{difference}");
        }
    }

    /// Whether every key and block of `dumps` is in exactly `count` of them, everywhere with the same head; else what is
    /// not.
    pub fn on_exactly(count: usize, dumps: &[Self]) -> Result<(), String> {
        let mut keys: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut blocks: BTreeMap<_, usize> = BTreeMap::new();
        for dump in dumps {
            dump.keys.iter().for_each(|(key, head)| keys.entry(key).or_default().push(head));
            dump.blocks.keys().for_each(|hash| *blocks.entry(hash).or_default() += 1);
        }
        let bad_keys: Vec<_> = keys
            .iter()
            .filter(|(_, heads)| heads.len() != count || heads.iter().any(|head| *head != heads[0]))
            .take(5)
            .collect();
        let bad_blocks: Vec<_> = blocks.iter().filter(|(_, hosts)| **hosts != count).take(5).collect();
        if bad_keys.is_empty() && bad_blocks.is_empty() {
            return Ok(());
        }
        Err(format!("not on exactly {count} hosts, or not with one head: {bad_keys:?} {bad_blocks:?}"))
    }
}
