//! Whether what clients saw of one key agrees with its chain, and the chain with itself.
//!
//! The chain orders the writes, so that linearizability of a register needs no search: give every operation the place
//! of the head that it wrote or saw; then no operation that began after another one ended may have an earlier place.
//! That is necessary, and it is sufficient: ordering operations by place, writes before reads of one place, and reads
//! of one place by their beginnings, never goes against real time.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use difuse_keylog::{Operation, Transaction, Value, ValueKind, verify_chain};
use difuse_types::{Hash, Key, WallTime};
use serde_json::Value as Json;
use tokio::time::Instant;

use crate::Http;

/// Fetches the whole history of `/v1/keys/{key}` and verifies it: every hash is computed anew from the fields that the
/// answer gives, and must be the one that the answer claims.
pub async fn verified_chain(http: &Http, key: &str) -> Vec<Transaction> {
    let (mut chain, mut from) = (Vec::new(), Some(1));
    let mut head_height = 0;
    while let Some(start) = from {
        let page = http.get(&format!("/v1/log/{key}?from={start}&limit=100")).await.expect(200).json();
        let encoded = decode(&page["encoded_key"]);
        for entry in page["transactions"].as_array().expect("transactions") {
            chain.push(transaction(&encoded, entry));
        }
        head_height = page["head_height"].as_u64().expect("head_height");
        from = page["next"].as_u64();
    }
    let name = Key::new(key.as_bytes()).expect("a key");
    let head = verify_chain(&name, (0, Hash::ZERO), &chain).unwrap_or_else(|error| panic!("{key}: {error}"));
    assert_eq!(chain.len() as u64, head_height, "{key}: the history is incomplete");
    assert_eq!(chain.last().map(Transaction::hash).unwrap_or(Hash::ZERO), head);
    chain
}

fn decode(field: &Json) -> Bytes {
    STANDARD.decode(field.as_str().expect("base64")).expect("base64").into()
}

fn transaction(encoded_key: &Bytes, entry: &Json) -> Transaction {
    let text = |name: &str| entry[name].as_str().unwrap_or_else(|| panic!("{name} is missing: {entry}"));
    let operation = match text("operation") {
        "delete" => Operation::Delete,
        "set" => {
            let kind = ValueKind::from_word(text("value_kind")).expect("a kind of value");
            let deadline = entry["deadline_ms"].as_u64().map(WallTime);
            Operation::Set(Value::new(kind, decode(&entry["value"])).until(deadline))
        }
        other => panic!("unknown operation {other}"),
    };
    let transaction = Transaction {
        key: Key::from_encoded(encoded_key.clone()).expect("an encoded key"),
        height: entry["height"].as_u64().expect("height"),
        previous: text("previous").parse().expect("a hash"),
        operation,
        author: text("author").parse().expect("a node"),
        time: WallTime(entry["time_ms"].as_u64().expect("time_ms")),
        operation_id: text("operation_id").parse().expect("an operation id"),
        checkpoint: entry["checkpoint"].as_str().map(|state| state.parse().expect("a hash")),
    };
    assert_eq!(transaction.hash().to_string(), text("hash"), "the hash is not that of the fields: {entry}");
    transaction
}

/// What an operation did to the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It wrote a head.
    Wrote,
    /// It saw one.
    Saw,
}

/// One operation of a client that took effect, or may have.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// The height of the head (0: the key was absent).
    pub height: u64,
    /// What was done.
    pub effect: Effect,
    /// When it was sent.
    pub start: Instant,
    /// When the answer came; never, for a write whose outcome only the chain tells.
    pub end: Option<Instant>,
}

/// Checks that the operations on one key are linearizable; else returns two that contradict each other.
pub fn check_real_time(operations: &[Seen]) -> Result<(), Box<(Seen, Seen)>> {
    let mut by_start: Vec<_> = operations.iter().collect();
    by_start.sort_by_key(|seen| seen.start);
    let mut by_end: Vec<_> = operations.iter().filter_map(|seen| Some((seen.end?, seen))).collect();
    by_end.sort_by_key(|(end, _)| *end);
    let mut ended = by_end.into_iter().peekable();
    let mut latest: Option<&Seen> = None;
    for later in by_start {
        while let Some((_, earlier)) = ended.next_if(|(end, _)| *end < later.start) {
            if latest.is_none_or(|latest| place(latest) < place(earlier)) {
                latest = Some(earlier);
            }
        }
        if let Some(earlier) = latest.filter(|earlier| place(earlier) > place(later)) {
            return Err(Box::new((*earlier, *later)));
        }
    }
    Ok(())
}

fn place(seen: &Seen) -> (u64, Effect) {
    (seen.height, seen.effect)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Effect, Seen, check_real_time};

    /// Effect, height, start, end (0: never).
    fn check(operations: &[(Effect, u64, u64, u64)]) -> bool {
        let origin = Instant::now();
        let at = |time: u64| origin + Duration::from_secs(time);
        let seen: Vec<_> = operations
            .iter()
            .map(|(effect, height, start, end)| Seen {
                height: *height,
                effect: *effect,
                start: at(*start),
                end: (*end > 0).then(|| at(*end)),
            })
            .collect();
        check_real_time(&seen).is_ok()
    }

    #[test]
    fn orders_that_real_time_allows() {
        use Effect::{Saw, Wrote};
        assert!(check(&[]));
        assert!(check(&[(Saw, 0, 1, 2), (Wrote, 1, 3, 4), (Saw, 1, 5, 6)]));
        // Overlapping operations may take either order.
        assert!(check(&[(Wrote, 2, 1, 10), (Wrote, 1, 2, 9), (Saw, 1, 3, 8), (Saw, 2, 3, 8)]));
        // A write without an answer may take effect at any time after its start.
        assert!(check(&[(Wrote, 1, 1, 0), (Saw, 0, 2, 3), (Saw, 1, 4, 5)]));
    }

    #[test]
    fn orders_that_it_does_not() {
        use Effect::{Saw, Wrote};
        for (what, operations) in [
            ("a stale read", [(Wrote, 1, 1, 2), (Saw, 0, 3, 4)]),
            ("reads that go back", [(Saw, 2, 1, 2), (Saw, 1, 3, 4)]),
            ("writes in the wrong order", [(Wrote, 2, 1, 2), (Wrote, 1, 3, 4)]),
            ("a read of what is not yet written", [(Saw, 1, 1, 2), (Wrote, 1, 3, 4)]),
            ("the same, of a write without an answer", [(Saw, 1, 1, 2), (Wrote, 1, 3, 0)]),
        ] {
            assert!(!check(&operations), "{what}");
        }
    }
}
