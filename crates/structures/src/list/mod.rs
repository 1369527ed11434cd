//! Lists: items in an order, cheap to change at both ends.

mod pass;
mod read;
mod write;

use std::collections::VecDeque;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    CommandError,
    Flag::{self, DenyOom, Fast, ReadOnly, Write},
    KeyCommand, KeysCommand, Plan, Rebuilding, Structure, in_commands,
};

/// Items in an order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "VecDeque<Bytes>")]
pub struct List {
    items: VecDeque<Bytes>,
    /// Bytes of all items: follows from them.
    #[serde(skip)]
    bytes: usize,
}

/// From what a checkpoint has of a list.
impl From<VecDeque<Bytes>> for List {
    fn from(items: VecDeque<Bytes>) -> Self {
        let bytes = items.iter().map(Bytes::len).sum();
        Self { items, bytes }
    }
}

/// What the log of a list consists of. Positions are counted from 0, from the front; one that is not there changes
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ListOperation {
    /// These are put in front, one after the other: the last one is the first item then.
    PushFront(Vec<Bytes>),
    /// These are put to the end, one after the other.
    PushBack(Vec<Bytes>),
    /// So many items go, from this position on.
    Remove(u64, u64),
    /// The item at this position is this one.
    Set(u64, Bytes),
    /// This item stands at this position; those behind move.
    Insert(u64, Bytes),
    /// Items equal to this one go: so many counted from the front, if negative from the end, if 0 all.
    RemoveEqual(i64, Bytes),
    /// So many items stay, from this position on.
    Keep(u64, u64),
}

type Planned = Result<Plan<ListOperation>, CommandError>;

/// A position or a count of a log as one of memory.
fn position(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

impl List {
    fn push(&mut self, item: Bytes, is_front: bool) {
        self.bytes += item.len();
        if is_front { self.items.push_front(item) } else { self.items.push_back(item) }
    }

    fn remove(&mut self, from: usize, count: usize) {
        let from = from.min(self.items.len());
        let to = from.saturating_add(count).min(self.items.len());
        self.bytes -= self.items.drain(from..to).map(|item| item.len()).sum::<usize>();
    }

    fn keep(&mut self, from: usize, count: usize) {
        self.remove(from.saturating_add(count), usize::MAX);
        self.remove(0, from);
    }

    fn set(&mut self, position: usize, item: Bytes) {
        if let Some(place) = self.items.get_mut(position) {
            self.bytes += item.len();
            self.bytes -= std::mem::replace(place, item).len();
        }
    }

    fn insert(&mut self, position: usize, item: Bytes) {
        if position <= self.items.len() {
            self.bytes += item.len();
            self.items.insert(position, item);
        }
    }

    fn remove_equal(&mut self, count: i64, item: &Bytes) {
        let mut left = if count == 0 { usize::MAX } else { position(count.unsigned_abs()) };
        let before = self.items.len();
        let mut is_kept = |candidate: &Bytes| {
            let is_removed = left > 0 && candidate == item;
            left -= usize::from(is_removed);
            !is_removed
        };
        if count < 0 {
            self.items.make_contiguous().reverse();
            self.items.retain(&mut is_kept);
            self.items.make_contiguous().reverse();
        } else {
            self.items.retain(&mut is_kept);
        }
        self.bytes -= (before - self.items.len()) * item.len();
    }
}

impl Structure for List {
    const ID: u8 = 2;
    const NAME: &'static str = "list";
    type Operation = ListOperation;

    fn apply(&mut self, operation: ListOperation) {
        match operation {
            ListOperation::PushFront(items) => items.into_iter().for_each(|item| self.push(item, true)),
            ListOperation::PushBack(items) => items.into_iter().for_each(|item| self.push(item, false)),
            ListOperation::Remove(from, count) => self.remove(position(from), position(count)),
            ListOperation::Set(at, item) => self.set(position(at), item),
            ListOperation::Insert(at, item) => self.insert(position(at), item),
            ListOperation::RemoveEqual(count, item) => self.remove_equal(count, &item),
            ListOperation::Keep(from, count) => self.keep(position(from), position(count)),
        }
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn weight(&self) -> usize {
        self.bytes + 40 * self.items.len()
    }

    fn encoding(&self) -> &'static str {
        "quicklist"
    }

    fn rebuild(&self) -> Option<Vec<Rebuilding>> {
        Some(in_commands("rpush", self.items.iter().map(|item| [item.clone()])))
    }

    fn commands() -> Vec<KeyCommand> {
        [write::commands(), read::commands()].into_iter().flatten().collect()
    }

    fn commands_on_keys() -> Vec<KeysCommand> {
        pass::commands()
    }
}

impl List {
    /// All items, in their order.
    pub(crate) fn items(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.items.iter()
    }

    /// Where an index of a client is: negative ones count from the end.
    fn index(&self, index: i64) -> Option<usize> {
        let index = if index < 0 { (self.items.len() as i64).saturating_add(index) } else { index };
        usize::try_from(index).ok().filter(|index| *index < self.items.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: &[&'static str]) -> List {
        items.iter().map(|item| Bytes::from_static(item.as_bytes())).collect::<VecDeque<_>>().into()
    }

    fn check(operation: ListOperation, expected: &[&'static str]) {
        let mut changed = list(&["a", "bb", "a", "c", "a"]);
        changed.apply(operation.clone());
        assert_eq!(changed, list(expected), "{operation:?}");
    }

    #[test]
    fn operations_do_what_they_say() {
        let item = Bytes::from_static;
        check(ListOperation::PushFront(vec![item(b"x"), item(b"y")]), &["y", "x", "a", "bb", "a", "c", "a"]);
        check(ListOperation::PushBack(vec![item(b"x"), item(b"y")]), &["a", "bb", "a", "c", "a", "x", "y"]);
        check(ListOperation::Remove(1, 2), &["a", "c", "a"]);
        check(ListOperation::Set(1, item(b"longer")), &["a", "longer", "a", "c", "a"]);
        check(ListOperation::Insert(5, item(b"x")), &["a", "bb", "a", "c", "a", "x"]);
        check(ListOperation::RemoveEqual(2, item(b"a")), &["bb", "c", "a"]);
        check(ListOperation::RemoveEqual(-2, item(b"a")), &["a", "bb", "c"]);
        check(ListOperation::RemoveEqual(0, item(b"a")), &["bb", "c"]);
        check(ListOperation::Keep(1, 3), &["bb", "a", "c"]);
    }

    #[test]
    fn what_is_not_there_is_left_alone() {
        let all = ["a", "bb", "a", "c", "a"];
        let item = Bytes::from_static(b"x");
        check(ListOperation::Remove(5, u64::MAX), &all);
        check(ListOperation::Remove(4, u64::MAX), &all[..4]);
        check(ListOperation::Set(5, item.clone()), &all);
        check(ListOperation::Insert(6, item.clone()), &all);
        check(ListOperation::RemoveEqual(i64::MIN, item), &all);
        check(ListOperation::Keep(0, u64::MAX), &all);
        check(ListOperation::Keep(u64::MAX, u64::MAX), &[]);
    }
}
