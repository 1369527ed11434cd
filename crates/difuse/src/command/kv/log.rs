use clap::Args;
use difuse_api::keys;
use difuse_keylog::{Operation, Transaction, Value, ValueKind};
use serde_json::json;

use crate::{
    command::{exit::Failure, output, session::Session},
    terminal,
};

/// Characters of a value shown in the table.
const VALUE_WIDTH: usize = 32;

/// Arguments of `kv log`.
#[derive(Debug, Args)]
pub struct LogArguments {
    #[command(flatten)]
    key: super::KeyArguments,
    /// The first height shown; without it, the first one that is kept. A long history is kept from a checkpoint on,
    /// which holds the hash of the value; what is below is pruned.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    from: Option<u64>,
    /// At most so many transactions.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
}

/// Shows a part of a key's history, oldest first.
pub async fn run(session: &Session, arguments: LogArguments) -> Result<(), Failure> {
    let key = arguments.key.key()?;
    let client = session.connect().await?;
    let (base, page) = match arguments.from {
        None => keys::kept_log(&client, key.clone(), arguments.limit).await?,
        Some(from) => (None, keys::log(&client, key.clone(), from, arguments.limit).await?),
    };
    if page.head_height == 0 {
        return Err(Failure::NotFound(format!("key {} was never written", key)));
    }
    if session.json {
        let transactions: Vec<_> = page.transactions.iter().map(transaction_json).collect();
        let base = base.map(|base| super::checkpoint_json(&base));
        return output::print_json(
            &json!({ "head_height": page.head_height, "base": base, "transactions": transactions }),
        );
    }
    if let Some(base) = base {
        output::print(&format!("pruned below checkpoint {}", base.height))?;
    }
    let header = ["height", "hash", "previous", "operation", "time", "author"];
    output::print(&terminal::table(&header, page.transactions.iter().map(row)))?;
    let last = page.transactions.last().map_or(0, |transaction| transaction.height);
    if last < page.head_height {
        output::print(&format!("… up to height {}: go on with --from {}", page.head_height, last + 1))?;
    }
    Ok(())
}

fn row(transaction: &Transaction) -> [String; 6] {
    let operation = match &transaction.operation {
        Operation::Delete => "delete".to_string(),
        Operation::Set(value @ Value { kind, bytes, .. }) => match kind {
            ValueKind::Inline => format!("set {}", output::shown_bytes(bytes, VALUE_WIDTH)),
            ValueKind::Inode => "set (in blocks)".to_string(),
            ValueKind::Operation => format!("change {}", output::shown_bytes(bytes, VALUE_WIDTH)),
            ValueKind::State => format!("state ({} bytes)", bytes.len()),
            ValueKind::Part => {
                let (index, count, _) = value.part().unwrap_or_default();
                format!("part {} of {count} of the state ({} bytes)", index + 1, bytes.len())
            }
        },
    };
    [
        transaction.height.to_string(),
        short(&transaction.hash().to_string()),
        short(&transaction.previous.to_string()),
        operation,
        terminal::date(transaction.time.0),
        transaction.author.short(),
    ]
}

/// The first digits of a hash: enough to tell transactions apart in a table.
fn short(hash: &str) -> String {
    hash.chars().take(12).chain(['…']).collect()
}

/// Every field that the hash covers, so that it can be recomputed from this.
fn transaction_json(transaction: &Transaction) -> serde_json::Value {
    let (kind, value) = match &transaction.operation {
        Operation::Delete => ("delete", None),
        Operation::Set(Value { kind, bytes, .. }) => match kind {
            ValueKind::Inline => ("set", Some(bytes)),
            ValueKind::Inode => ("set_inode", Some(bytes)),
            ValueKind::Operation => ("apply", Some(bytes)),
            ValueKind::State => ("set_state", Some(bytes)),
            ValueKind::Part => ("set_state_part", Some(bytes)),
        },
    };
    json!({
        "height": transaction.height,
        "hash": transaction.hash(),
        "previous": transaction.previous,
        "operation": kind,
        "value_hex": value.map(hex::encode),
        "time_ms": transaction.time.0,
        "author": transaction.author,
        "operation_id": transaction.operation_id,
        "checkpoint": transaction.checkpoint,
        "deadline_ms": transaction.deadline().map(|deadline| deadline.0),
        "key_hex": hex::encode(transaction.key.encoded()),
    })
}

#[cfg(test)]
mod tests {
    use difuse_keylog::{Operation, Transaction, Value};
    use difuse_types::{Hash, Key, NodeId, OperationId, WallTime};

    use super::{row, transaction_json};

    #[test]
    fn transactions_are_shown_with_all_that_their_hash_covers() {
        let transaction = Transaction {
            key: Key::new(b"k").unwrap(),
            height: 1,
            previous: Hash::ZERO,
            operation: Operation::Set(Value::inline(&b"hello"[..])),
            author: NodeId([1; 32]),
            time: WallTime(1_000),
            operation_id: OperationId([2; 16]),
            checkpoint: None,
        };
        let shown = row(&transaction);
        assert_eq!(
            (shown[0].as_str(), shown[3].as_str(), shown[4].as_str()),
            ("1", "set hello", "1970-01-01T00:00:01Z")
        );
        let value = transaction_json(&transaction);
        assert_eq!(value["hash"], transaction.hash().to_string());
        assert_eq!(value["value_hex"], hex::encode("hello"));
    }
}
