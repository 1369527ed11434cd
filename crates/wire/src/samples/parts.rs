use bytes::Bytes;
use difuse_blocks::BlockRecord;
use difuse_keylog::{Anchor, Ballot, Configuration, Operation, RegisterSummary, Term, Transaction, Value, ValueKind};
use difuse_types::{Hash, Host, Incarnation, Key, NodeId, OperationId, RingId, RingSettings, SlotId, Slots, WallTime};

pub(crate) const SLOT: SlotId = SlotId(65_535);
pub(crate) const OPERATION_ID: OperationId = OperationId([0x0f; 16]);

pub(crate) fn hash(name: u8) -> Hash {
    Hash([name; 32])
}

pub(crate) fn node(name: u8) -> NodeId {
    NodeId([name; 32])
}

pub(crate) fn host(name: u8) -> Host {
    Host {
        node: node(name),
        incarnation: Incarnation(u64::from(name)),
        address: format!("10.0.0.{name}:4000"),
        http: String::new(),
        zone: "zürich".into(),
        label: "l".repeat(crate::limits::HOST_TEXT_BYTES_MAX),
    }
}

pub(crate) fn ring_id() -> RingId {
    RingId(hash(9))
}

pub(crate) fn settings() -> RingSettings {
    RingSettings { id: ring_id(), replicas: 3, slots: slots(), virtual_nodes: 8 }
}

fn slots() -> Slots {
    Slots::with_bits(Slots::MAX_BITS).unwrap_or_else(|| unreachable!("the greatest number of bits is allowed"))
}

/// An encoded flat key.
pub(crate) fn key(name: &str) -> Key {
    Key::new(name.as_bytes()).unwrap_or_else(|_| unreachable!("a short name is a key"))
}

/// The key of a file.
pub(crate) fn file() -> Key {
    Key::of_path("a/b/c").unwrap_or_else(|_| unreachable!("a plain path is a key"))
}

pub(crate) fn term() -> Term {
    Term { epoch: 3, number: u64::MAX, node: node(2) }
}

pub(crate) fn ballot() -> Ballot {
    Ballot { term: term(), sequence: 77 }
}

pub(crate) fn anchor() -> Anchor {
    Anchor { ballot: ballot(), height: 11 }
}

pub(crate) fn register() -> RegisterSummary {
    RegisterSummary { ballot: ballot(), height: 12, hash: hash(4) }
}

pub(crate) fn configuration() -> Configuration {
    let (slot, members, joint, previous) = (SLOT, vec![node(1), node(2)], vec![], hash(1));
    Configuration { slot, epoch: 3, members, joint, previous, recovery: Hash::ZERO }
}

pub(crate) fn recovered_configuration() -> Configuration {
    configuration().recovered(vec![node(2)], 7).unwrap_or_else(configuration)
}

pub(crate) fn joint_configuration() -> Configuration {
    let most = |first: u8| (first..).take(Configuration::MEMBERS_MAX).map(node).collect();
    Configuration { members: most(1), joint: most(9), ..configuration() }
}

pub(crate) fn value(kind: ValueKind) -> Value {
    Value::new(kind, Bytes::from_static(b"value"))
}

pub(crate) fn transaction(key: Key, height: u64, operation: Operation) -> Transaction {
    Transaction {
        key,
        height,
        previous: hash(3),
        operation,
        author: node(5),
        time: WallTime(1_700_000_000_000),
        operation_id: OPERATION_ID,
        checkpoint: None,
    }
}

/// The same as a checkpoint.
pub(crate) fn checkpoint(key: Key, height: u64, operation: Operation) -> Transaction {
    let state = operation.state_hash();
    Transaction { checkpoint: state, ..transaction(key, height, operation) }
}

/// Transactions of every kind, of one key and of another.
pub(crate) fn transactions() -> Vec<Transaction> {
    let empty = Value::inline(Bytes::new());
    vec![
        transaction(key("k"), 1, Operation::Set(value(ValueKind::Inline))),
        transaction(key("k"), 2, Operation::Set(value(ValueKind::Inode))),
        transaction(key("k"), 2, Operation::Set(value(ValueKind::Operation).until(Some(WallTime(1_800_000_000_000))))),
        transaction(key("k"), 2, Operation::Set(value(ValueKind::State))),
        transaction(
            key("k"),
            2,
            Operation::Set(Value::new(ValueKind::Part, Bytes::from_static(b"\x01\x00\x00\x02\x00part"))),
        ),
        transaction(key("k"), 3, Operation::Delete),
        transaction(file(), 4, Operation::Set(empty)),
        transaction(key("k"), 5, Operation::Delete),
        checkpoint(key("k"), 6, Operation::Set(value(ValueKind::Inline))),
    ]
}

pub(crate) fn record(version: u64) -> BlockRecord {
    BlockRecord { version, present: version == 1, referenced: version == 2, lost: version == 1, length: 40_000 }
}

/// A block that is long enough to be sliced out of its frame.
pub(crate) fn block() -> Bytes {
    (0..40_000u32).map(|index| index.to_le_bytes()[0]).collect()
}
