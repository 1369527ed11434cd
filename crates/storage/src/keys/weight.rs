//! What keys weigh in the usage of their namespaces.

use difuse_blocks::Inode;
use difuse_keylog::{Register, Transaction, store};

/// A key's register, and what its value weighs, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    pub register: Register,
    pub weight: u64,
}

impl Held {
    /// The weight of a key that counts; `None` of one that does not.
    pub fn counted(&self, key: &difuse_types::Key) -> Option<u64> {
        store::is_counted(key, &self.register).then_some(self.weight)
    }
}

/// What a key's value weighs once its register is `register`, to which `transactions` lead from where it was `before`; `None` if
/// that does not follow from these.
pub(crate) fn weight_after<'a>(
    before: Option<&Held>,
    register: &Register,
    transactions: impl IntoIterator<Item = &'a Transaction>,
) -> Option<u64> {
    let mut transactions = transactions.into_iter().peekable();
    let Some(first) = transactions.peek() else {
        let is_same = |before: &&Held| before.register.head.hash == register.head.hash;
        return match register.head.height {
            0 => Some(0),
            _ => before.filter(is_same).map(|before| before.weight),
        };
    };
    let is_parent = |before: &&Held| before.register.head.hash == first.previous;
    let start = if first.height == 1 { Some(0) } else { before.filter(is_parent).map(|before| before.weight) };
    fold(start, transactions)
}

/// The weight after `transactions` if it was `before`.
pub(crate) fn fold<'a>(before: Option<u64>, transactions: impl IntoIterator<Item = &'a Transaction>) -> Option<u64> {
    transactions.into_iter().fold(before, |before, transaction| {
        store::weigh(transaction, before, |inode| Inode::decode(inode).ok().map(|inode| inode.size))
    })
}
