//! What the keys of a namespace come to, as users count it.

use bytes::Bytes;
use difuse_types::{Key, Space};

use super::Register;
use crate::{Operation, Transaction, ValueKind};

/// What the flat keys of a namespace come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct Usage {
    /// Keys that have a value (one that has expired until the leader deletes it).
    pub keys: u64,
    /// The lengths of their names and of their values as they are now ([`weigh`]), in bytes. Neither histories nor copies
    /// on other nodes count.
    pub bytes: u64,
}

impl Usage {
    /// Counts `key` with the weight `after` of its value instead of `before`; `None` where it has none.
    pub fn replace(&mut self, key: &Key, before: Option<u64>, after: Option<u64>) {
        let bytes = |weight: Option<u64>| weight.map_or(0, |weight| weight.saturating_add(key.name().len() as u64));
        self.keys = (self.keys + u64::from(after.is_some())).saturating_sub(u64::from(before.is_some()));
        self.bytes = self.bytes.saturating_add(bytes(after)).saturating_sub(bytes(before));
    }
}

/// Whether a key counts in the usage of a namespace: the key of a user, with a value.
pub fn is_counted(key: &Key, register: &Register) -> bool {
    key.space() == Space::Keys && register.has_value()
}

/// What a key's value weighs after a transaction, in bytes, if it weighed `before` (`None`: nobody knows). A plain value weighs
/// its length, wherever it lives: `length_in_blocks` tells that of one in blocks from its inode. A structure weighs what its
/// last whole state and the operations since take. `None` if it takes to know what was before.
pub fn weigh(
    transaction: &Transaction,
    before: Option<u64>,
    length_in_blocks: impl FnOnce(&Bytes) -> Option<u64>,
) -> Option<u64> {
    let Operation::Set(value) = &transaction.operation else { return Some(0) };
    let own = value.bytes.len() as u64;
    let adds = match value.kind {
        ValueKind::Inline | ValueKind::State => false,
        ValueKind::Inode => return Some(length_in_blocks(&value.bytes).unwrap_or(own)),
        ValueKind::Operation => true,
        ValueKind::Part => value.part().is_none_or(|(index, ..)| index > 0),
    };
    if adds { before.map(|before| before.saturating_add(own)) } else { Some(own) }
}

#[cfg(test)]
mod tests {
    use difuse_types::{Hash, Key};

    use super::{Usage, weigh};
    use crate::{Operation, Transaction, Value, ValueKind, store::conformance::sample_chain};

    fn transaction(operation: Operation) -> Transaction {
        let key = Key::new(b"key").unwrap();
        Transaction { operation, ..sample_chain(&key, (0, Hash::ZERO), 1, 1).remove(0) }
    }

    fn set(kind: ValueKind, length: usize) -> Transaction {
        transaction(Operation::Set(Value::new(kind, vec![0; length])))
    }

    #[test]
    fn values_weigh_what_they_hold() {
        let check = |transaction: Transaction, before, expected| {
            assert_eq!(weigh(&transaction, before, |_| Some(1 << 40)), expected, "{:?}", transaction.operation);
        };
        check(set(ValueKind::Inline, 7), None, Some(7));
        check(set(ValueKind::Inline, 7), Some(100), Some(7));
        check(set(ValueKind::Inode, 7), None, Some(1 << 40));
        check(set(ValueKind::State, 7), Some(100), Some(7));
        check(set(ValueKind::Operation, 7), Some(100), Some(107));
        check(set(ValueKind::Operation, 7), None, None);
        check(transaction(Operation::Delete), None, Some(0));
        let parts: Vec<_> = Value::parts_of(3, &vec![0; 600 << 10]).unwrap().collect();
        let weights = parts.into_iter().scan(Some(1000), |before, part| {
            *before = weigh(&transaction(Operation::Set(part)), *before, |_| None);
            Some(*before)
        });
        assert_eq!(weights.last().flatten(), Some((600 << 10) + 3 * 5));
        assert_eq!(weigh(&set(ValueKind::Inode, 7), None, |_| None), Some(7), "no inode that anybody can read");
    }

    #[test]
    fn a_key_counts_with_its_name_while_it_has_a_value() {
        let key = Key::new(b"key").unwrap();
        let mut usage = Usage::default();
        usage.replace(&key, None, Some(10));
        assert_eq!(usage, Usage { keys: 1, bytes: 13 });
        usage.replace(&key, Some(10), Some(4));
        assert_eq!(usage, Usage { keys: 1, bytes: 7 });
        usage.replace(&key, Some(4), None);
        assert_eq!(usage, Usage::default());
    }
}
