use bytes::Bytes;
use difuse_types::{Hash, HashContext, Key, NodeId, OperationId, WallTime};

static CONTEXT: HashContext = HashContext::new("difuse 2026 transaction v1");

/// The longest value that lives in a transaction, in bytes. Larger values become blocks, and the transaction holds
/// their inode.
pub const MAX_INLINE_BYTES: usize = 4096;
/// The longest encoded inode: it may carry a whole small file besides its own fields.
pub const MAX_INODE_BYTES: usize = MAX_INLINE_BYTES + 2048;
/// The longest operation on a structure, and the longest state of one that lives in a transaction.
pub const MAX_OPERATION_BYTES: usize = 256 << 10;
/// The longest encoded value of any kind.
pub const MAX_VALUE_BYTES: usize = MAX_OPERATION_BYTES;

/// What a transaction's value bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum ValueKind {
    /// The value itself.
    Inline,
    /// An encoded inode that names the blocks of the value.
    Inode,
    /// An operation on a structure: the structure's number (1 byte) and the operation. What the key holds is the fold of
    /// its log up to here, from the last transaction on that is none of these.
    Operation,
    /// The whole state of a structure: its number (1 byte) and the state in its checkpoint form.
    State,
    /// A part of a state that is too long for one transaction: the structure's number (1 byte), which part it is, from 0, and
    /// how many there are (2 bytes each, little-endian), and the part. All parts follow each other, in one proposal, so that
    /// whoever holds the first one as committed has all of them.
    Part,
}

/// What a part of a state begins with, in bytes.
const PART_HEAD_BYTES: usize = 5;
/// The longest part of a state, in bytes.
pub(crate) const PART_BYTES_MAX: usize = MAX_OPERATION_BYTES - PART_HEAD_BYTES;

/// Set in a tag when a deadline follows the bytes.
const HAS_DEADLINE: u8 = 16;

impl ValueKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Inline, Self::Inode, Self::Operation, Self::State, Self::Part];

    /// Its number wherever it is written down, for ever: from 1; 0 is a delete.
    pub fn tag(self) -> u8 {
        match self {
            Self::Inline => 1,
            Self::Inode => 2,
            Self::Operation => 3,
            Self::State => 4,
            Self::Part => 5,
        }
    }

    /// The kind with a number.
    pub fn from_tag(tag: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    /// The word for it, as users read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Inode => "inode",
            Self::Operation => "operation",
            Self::State => "state",
            Self::Part => "part",
        }
    }

    /// The kind that a word is for.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether the key holds a structure.
    pub fn is_structure(self) -> bool {
        matches!(self, Self::Operation | Self::State | Self::Part)
    }

    /// How long the bytes may be.
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Inline => MAX_INLINE_BYTES,
            Self::Inode => MAX_INODE_BYTES,
            Self::Operation | Self::State | Self::Part => MAX_OPERATION_BYTES,
        }
    }
}

/// A value as a transaction holds it.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Value {
    /// What the bytes are.
    pub kind: ValueKind,
    /// At most as long as the kind allows.
    pub bytes: Bytes,
    /// When the key expires: from then on it has no value, by the clocks of the nodes that are asked; its leader deletes
    /// it. `None`: never.
    pub deadline: Option<WallTime>,
}

impl Value {
    /// A value that never expires.
    pub fn new(kind: ValueKind, bytes: impl Into<Bytes>) -> Self {
        Self { kind, bytes: bytes.into(), deadline: None }
    }

    /// A value that lives in the transaction and never expires.
    pub fn inline(bytes: impl Into<Bytes>) -> Self {
        Self::new(ValueKind::Inline, bytes)
    }

    /// The same with another deadline.
    #[must_use]
    pub fn until(self, deadline: Option<WallTime>) -> Self {
        Self { deadline, ..self }
    }

    /// Whether it has expired at this time.
    pub fn has_expired(&self, now: WallTime) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The number of the structure that the key holds, if it holds one.
    pub fn structure(&self) -> Option<u8> {
        if self.kind.is_structure() { self.bytes.first().copied() } else { None }
    }

    /// Which part of a state the value is, of how many, and the part; `None` if it is none.
    pub fn part(&self) -> Option<(u16, u16, &[u8])> {
        if self.kind != ValueKind::Part {
            return None;
        }
        let (head, part) = self.bytes.split_at_checked(PART_HEAD_BYTES)?;
        let (index, count) = (u16::from_le_bytes([head[1], head[2]]), u16::from_le_bytes([head[3], head[4]]));
        (index < count).then_some((index, count, part))
    }

    /// A state of a structure, cut into as many parts as it takes; `None` if it takes too many.
    pub(crate) fn parts_of(structure: u8, state: &[u8]) -> Option<impl Iterator<Item = Self>> {
        let parts = state.chunks(PART_BYTES_MAX);
        let count = u16::try_from(parts.len()).ok()?;
        let head = move |index: u16| {
            let ([a, b], [c, d]) = (index.to_le_bytes(), count.to_le_bytes());
            [structure, a, b, c, d]
        };
        Some((0..count).zip(parts).map(move |(index, part)| Self::new(ValueKind::Part, [&head(index), part].concat())))
    }

    fn is_well_formed(&self) -> bool {
        let is_whole = match self.kind {
            ValueKind::Part => self.part().is_some(),
            ValueKind::Operation | ValueKind::State => !self.bytes.is_empty(),
            ValueKind::Inline | ValueKind::Inode => true,
        };
        self.bytes.len() <= self.kind.bytes_max() && is_whole
    }
}

/// What a transaction does to its key.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub enum Operation {
    /// The key has this value from now on.
    Set(Value),
    /// The key has no value from now on (a tombstone): the history stays.
    Delete,
}

/// One entry of a key's log.
#[derive(Clone, PartialEq, Eq, Debug, Hash)]
pub struct Transaction {
    /// The key.
    pub key: Key,
    /// Its place in the log, from 1.
    pub height: u64,
    /// The hash of the transaction before, zero for the first.
    pub previous: Hash,
    /// What it does.
    pub operation: Operation,
    /// The node through which it came in.
    pub author: NodeId,
    /// When it came in there. For people: nothing is ordered by it.
    pub time: WallTime,
    /// Which request it answers.
    pub operation_id: OperationId,
    /// The hash of the key's state after this transaction, if it is a checkpoint: then what is below it may be
    /// forgotten once it is committed, and the chain is verified from here.
    pub checkpoint: Option<Hash>,
}

impl Transaction {
    /// blake3 over a layout of its own, because FlatBuffers bytes are not canonical: version (1 byte: 2 for a
    /// checkpoint, else 1), then every field in the order of the struct, integers little-endian, byte strings preceded
    /// by their length (4 bytes), the operation as a tag (0 delete, 1 set inline, 2 set inode, 3 operation on a structure,
    /// 4 state of one, 5 part of one; 16 more with a deadline) and its bytes, and its deadline if it has one; of a checkpoint, last, the
    /// hash of the state.
    pub fn hash(&self) -> Hash {
        let mut hasher = CONTEXT.hasher();
        hasher.update(&[if self.checkpoint.is_some() { 2 } else { 1 }]);
        update_framed(&mut hasher, self.key.encoded());
        hasher.update(&self.height.to_le_bytes());
        hasher.update(self.previous.as_bytes());
        self.operation.update(&mut hasher);
        hasher.update(self.author.as_bytes());
        hasher.update(&self.time.0.to_le_bytes());
        hasher.update(&self.operation_id.0);
        if let Some(state) = &self.checkpoint {
            hasher.update(state.as_bytes());
        }
        Hash(*hasher.finalize().as_bytes())
    }

    /// Whether the value is within bounds and a checkpoint says what the state is: checked on everything that a peer or
    /// a client sends.
    pub fn is_well_formed(&self) -> bool {
        self.height > 0
            && self.operation.is_well_formed()
            && self.checkpoint.is_none_or(|state| self.operation.state_hash() == Some(state))
    }

    /// About how many bytes it takes in a message.
    pub fn approximate_bytes(&self) -> usize {
        200 + self.key.encoded().len() + self.value().map_or(0, |value| value.bytes.len())
    }

    /// When the key expires.
    pub fn deadline(&self) -> Option<WallTime> {
        self.value().and_then(|value| value.deadline)
    }

    /// When it came in, if it deletes the key.
    pub fn deletes_at(&self) -> Option<WallTime> {
        matches!(self.operation, Operation::Delete).then_some(self.time)
    }

    /// The value that the key has after this transaction.
    pub fn value(&self) -> Option<&Value> {
        self.operation.value()
    }
}

impl Operation {
    /// The value that it sets.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Set(value) => Some(value),
            Self::Delete => None,
        }
    }

    /// Whether what the key holds afterwards does not follow from this operation, and those after it, alone.
    pub(crate) fn builds_on_earlier(&self) -> bool {
        match self {
            Self::Delete => false,
            Self::Set(value) => match value.kind {
                ValueKind::Operation => true,
                ValueKind::Part => value.part().is_none_or(|(index, ..)| index > 0),
                ValueKind::Inline | ValueKind::Inode | ValueKind::State => false,
            },
        }
    }

    /// Whether the value is within bounds.
    pub fn is_well_formed(&self) -> bool {
        match self {
            Self::Set(value) => value.is_well_formed(),
            Self::Delete => true,
        }
    }

    /// The hash of the key's state after this operation, as a checkpoint carries it: blake3 over the operation as it is
    /// hashed in a transaction. A plain key's last operation is its whole state; `None` for an operation on a structure,
    /// which is not. Of a state in parts, the first part stands for all: the others follow it in the chain.
    pub fn state_hash(&self) -> Option<Hash> {
        if self.builds_on_earlier() {
            return None;
        }
        let mut hasher = blake3::Hasher::new_derive_key("difuse 2026 state v1");
        self.update(&mut hasher);
        Some(Hash(*hasher.finalize().as_bytes()))
    }

    fn update(&self, hasher: &mut blake3::Hasher) {
        let (tag, bytes, deadline): (u8, &[u8], _) = match self {
            Self::Delete => (0, &[], None),
            Self::Set(Value { kind, bytes, deadline }) => (kind.tag(), bytes, *deadline),
        };
        hasher.update(&[if deadline.is_some() { tag | HAS_DEADLINE } else { tag }]);
        update_framed(hasher, bytes);
        if let Some(WallTime(deadline)) = deadline {
            hasher.update(&deadline.to_le_bytes());
        }
    }
}

fn update_framed(hasher: &mut blake3::Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u32).to_le_bytes());
    hasher.update(bytes);
}

/// Why a list of transactions is not a chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrokenChain {
    /// A transaction is of another key.
    #[error("transaction {height} belongs to another key")]
    OtherKey {
        /// Its height.
        height: u64,
    },
    /// A height does not follow the one before.
    #[error("expected transaction {expected}, found {found}")]
    Height {
        /// What should be there.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// A previous hash is not the hash of the transaction before.
    #[error("transaction {height} does not follow the one before: its previous hash is wrong")]
    Previous {
        /// Its height.
        height: u64,
    },
    /// A value is out of bounds, or a checkpoint is of another state.
    #[error("transaction {height} carries a value out of bounds, or the checkpoint of another state")]
    Malformed {
        /// Its height.
        height: u64,
    },
}

/// Checks that `transactions` follow each other, the first one on `parent` (height, hash), and returns the hash of the
/// last one (the parent's if there are none). This is all that it takes to verify a key's history.
pub fn verify_chain(key: &Key, parent: (u64, Hash), transactions: &[Transaction]) -> Result<Hash, BrokenChain> {
    let (mut height, mut previous) = parent;
    for transaction in transactions {
        let found = transaction.height;
        if transaction.key != *key {
            return Err(BrokenChain::OtherKey { height: found });
        }
        if found != height + 1 {
            return Err(BrokenChain::Height { expected: height + 1, found });
        }
        if transaction.previous != previous {
            return Err(BrokenChain::Previous { height: found });
        }
        if !transaction.is_well_formed() {
            return Err(BrokenChain::Malformed { height: found });
        }
        (height, previous) = (found, transaction.hash());
    }
    Ok(previous)
}

#[cfg(test)]
mod tests {
    use difuse_types::{Hash, Key, NodeId, OperationId, WallTime};

    use super::{BrokenChain, Operation, Transaction, Value, ValueKind, verify_chain};

    fn chain(length: u64) -> Vec<Transaction> {
        let mut previous = Hash::ZERO;
        (1..=length)
            .map(|height| {
                let transaction = Transaction {
                    key: Key::new(b"k").unwrap(),
                    height,
                    previous,
                    operation: Operation::Delete,
                    author: NodeId([1; 32]),
                    time: WallTime(height),
                    operation_id: OperationId([height as u8; 16]),
                    checkpoint: None,
                };
                previous = transaction.hash();
                transaction
            })
            .collect()
    }

    #[test]
    fn the_hash_is_the_one_that_rings_have_agreed_on() {
        let transaction = Transaction {
            key: Key::new(b"k").unwrap(),
            height: 2,
            previous: Hash([3; 32]),
            operation: Operation::Set(Value::inline(&b"v"[..])),
            author: NodeId([1; 32]),
            time: WallTime(4),
            operation_id: OperationId([5; 16]),
            checkpoint: None,
        };
        let expected = "ca1b8c151540ae48dd91779a7384eb1149b04bed969a988ce069b7c8f9774759";
        assert_eq!(transaction.hash().to_string(), expected);
    }

    #[test]
    fn every_field_changes_the_hash() {
        let base = chain(1).remove(0);
        let value = |kind| Operation::Set(Value::new(kind, &b"v"[..]));
        let expiring = Operation::Set(Value::inline(&b"v"[..]).until(Some(WallTime(1))));
        let variants = [
            Transaction { key: Key::new(b"l").unwrap(), ..base.clone() },
            Transaction { height: 2, ..base.clone() },
            Transaction { previous: Hash([1; 32]), ..base.clone() },
            Transaction { operation: value(ValueKind::Inline), ..base.clone() },
            Transaction { operation: value(ValueKind::Inode), ..base.clone() },
            Transaction { operation: value(ValueKind::Operation), ..base.clone() },
            Transaction { operation: value(ValueKind::State), ..base.clone() },
            Transaction { operation: expiring, ..base.clone() },
            Transaction { author: NodeId([2; 32]), ..base.clone() },
            Transaction { time: WallTime(9), ..base.clone() },
            Transaction { operation_id: OperationId([9; 16]), ..base.clone() },
            Transaction { checkpoint: base.operation.state_hash(), ..base.clone() },
        ];
        let hashes: std::collections::BTreeSet<_> =
            variants.iter().map(Transaction::hash).chain([base.hash()]).collect();
        assert_eq!(hashes.len(), variants.len() + 1);
    }

    #[test]
    fn a_tampered_history_is_found() {
        let key = Key::new(b"k").unwrap();
        let good = chain(3);
        assert_eq!(verify_chain(&key, (0, Hash::ZERO), &good), Ok(good[2].hash()));
        let mut tampered = good.clone();
        tampered[1].time = WallTime(77);
        assert_eq!(verify_chain(&key, (0, Hash::ZERO), &tampered), Err(BrokenChain::Previous { height: 3 }));
        let mut lie = good.clone();
        lie[2].checkpoint = Some(Hash([1; 32]));
        assert_eq!(verify_chain(&key, (0, Hash::ZERO), &lie), Err(BrokenChain::Malformed { height: 3 }));
        let gap = [good[0].clone(), good[2].clone()];
        assert_eq!(verify_chain(&key, (0, Hash::ZERO), &gap), Err(BrokenChain::Height { expected: 2, found: 3 }));
    }
}
