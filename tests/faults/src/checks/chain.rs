//! A key's history, verified from the documented layout alone (`Transaction::hash` in `crates/keylog`): nothing of
//! difuse's own code takes part.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use difuse_tests::Http;
use reqwest::Method;
use serde_json::Value as Json;

use crate::clients::object::{Ledger, Sent, Told};

/// What hashes of transactions are derived for.
const CONTEXT: &str = "difuse 2026 transaction v1";
const VERSION: u8 = 1;
const PAGE: u64 = 200;

/// One transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its place, from 1.
    pub height: u64,
    /// Its hash, as computed here.
    pub hash: String,
    /// Which write it is.
    pub operation_id: String,
    /// The value that it sets, if it is short enough to be in it.
    pub inline: Option<Vec<u8>>,
    /// Whether it deletes.
    pub deletes: bool,
    /// When it came in, by the clock of the node that it came in at, in milliseconds since the Unix epoch.
    pub time_ms: u64,
}

/// Fetches the chain of `/v1/log/{path}` and verifies it. Empty if the key was never written.
pub async fn fetch(http: &Http, path: &str, query: &str) -> Result<Vec<Link>, String> {
    let (mut chain, mut previous, mut next) = (Vec::new(), hex::encode([0; 32]), Some(1));
    while let Some(from) = next {
        let address = format!("/v1/log/{path}?{query}from={from}&limit={PAGE}");
        let answer = http.send(Method::GET, &address, &[], "").await.map_err(|error| format!("{error:?}"))?;
        if answer.status == 404 && chain.is_empty() {
            return Ok(chain);
        }
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.text()));
        }
        let page = answer.json();
        let key = decode(&page["encoded_key"])?;
        for entry in page["transactions"].as_array().ok_or("no transactions")? {
            let link = verify(&key, &previous, chain.len() as u64 + 1, entry)?;
            previous.clone_from(&link.hash);
            chain.push(link);
        }
        next = page["next"].as_u64();
        if next.is_none() && page["head_height"].as_u64() != Some(chain.len() as u64) {
            return Err(format!("the head is at height {}, the history ends at {}", page["head_height"], chain.len()));
        }
    }
    Ok(chain)
}

fn verify(key: &[u8], previous: &str, height: u64, entry: &Json) -> Result<Link, String> {
    let text = |name: &str| entry[name].as_str().ok_or_else(|| format!("{name} is missing in {entry}"));
    if text("previous")? != previous || entry["height"].as_u64() != Some(height) {
        return Err(format!("not the one after height {} with hash {previous}: {entry}", height - 1));
    }
    let (tag, value) = match (text("operation")?, entry["value_kind"].as_str()) {
        ("delete", _) => (0u8, Vec::new()),
        ("set", Some("inline")) => (1, decode(&entry["value"])?),
        ("set", Some("inode")) => (2, decode(&entry["value"])?),
        ("set", Some("operation")) => (3, decode(&entry["value"])?),
        ("set", Some("state")) => (4, decode(&entry["value"])?),
        other => return Err(format!("unknown operation {other:?}")),
    };
    let time_ms = entry["time_ms"].as_u64().ok_or("time_ms is missing")?;
    let author = bs58::decode(text("author")?).into_vec().map_err(|error| error.to_string())?;
    // A peer id of an Ed25519 key ends with the key.
    let author = author.last_chunk::<32>().ok_or("the author is no peer id")?;
    let mut bytes = vec![VERSION];
    frame(&mut bytes, key);
    bytes.extend(height.to_le_bytes());
    bytes.extend(hex::decode(previous).map_err(|error| error.to_string())?);
    bytes.push(tag);
    frame(&mut bytes, &value);
    bytes.extend(author);
    bytes.extend(time_ms.to_le_bytes());
    bytes.extend(hex::decode(text("operation_id")?).map_err(|error| error.to_string())?);
    let hash = blake3::Hasher::new_derive_key(CONTEXT).update(&bytes).finalize().to_hex().to_string();
    if text("hash")? != hash {
        return Err(format!("the hash of its fields is {hash}: {entry}"));
    }
    let operation_id = text("operation_id")?.to_string();
    Ok(Link { height, hash, operation_id, inline: (tag == 1).then_some(value), deletes: tag == 0, time_ms })
}

fn frame(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend((field.len() as u32).to_le_bytes());
    bytes.extend(field);
}

fn decode(field: &Json) -> Result<Vec<u8>, String> {
    STANDARD.decode(field.as_str().ok_or("a field is missing")?).map_err(|error| error.to_string())
}

/// Whether a chain agrees with what clients were told: every acknowledged write is in it, once, where they were told;
/// no refused one is; nobody else's is, but for a delete of nothing with which a leader makes sure that an attempt has lapsed;
/// and every head that was shown is in it. `value` gives the bytes of a content that is inline.
pub fn agrees(chain: &[Link], ledger: &Ledger, value: impl Fn(u64, &[u8]) -> bool) -> Result<(), String> {
    let (sent, shown) = ledger.records();
    let twice = super::linearizable::duplicates(chain.iter().map(|link| link.operation_id.clone()));
    if let Some(id) = twice.first() {
        return Err(format!("operation {id} is in the chain twice"));
    }
    let find = |id: &str| chain.iter().find(|link| link.operation_id == id);
    for write in &sent {
        agrees_with(write, find(&write.operation_id), &value)?;
    }
    let seals_nothing = |link: &Link| link.height == 1 && link.deletes;
    for link in chain.iter().filter(|link| !seals_nothing(link)) {
        if !sent.iter().any(|write| write.operation_id == link.operation_id) {
            return Err(format!("the chain has a transaction that no client sent: {link:?}"));
        }
    }
    for head in &shown {
        let found = head.height.checked_sub(1).and_then(|index| chain.get(usize::try_from(index).ok()?));
        if found.is_none_or(|link| link.hash != head.hash) {
            return Err(format!("a client was shown a head that is not in the chain: {head:?}"));
        }
    }
    Ok(())
}

fn agrees_with(write: &Sent, link: Option<&Link>, value: &impl Fn(u64, &[u8]) -> bool) -> Result<(), String> {
    match (&write.told, link) {
        (Told::Done(height, hash), Some(link)) => {
            let is_there =
                (*height == 0 || *height == link.height) && hash.as_ref().is_none_or(|hash| *hash == link.hash);
            if !is_there {
                return Err(format!("acknowledged as {:?}, and in the chain as {link:?}", write.told));
            }
        }
        (Told::Done(..), None) => return Err(format!("an acknowledged write is lost: {write:?}")),
        (Told::Refused, Some(link)) => return Err(format!("a refused write took effect: {write:?} {link:?}")),
        (Told::Refused, None) | (Told::Unknown, _) => {}
    }
    if let Some(link) = link
        && let (Some(id), Some(bytes)) = (write.id, &link.inline)
        && !value(id, bytes)
    {
        return Err(format!("the chain has another value than was sent: {write:?} {link:?}"));
    }
    Ok(())
}
