//! Histories against their sequential specifications, judged by the checker of `todc-utils`.

use std::{collections::HashMap, hash::Hash, time::Duration};

use todc_utils::{
    linearizability::{
        WGLChecker,
        history::{Action, History},
    },
    specifications::Specification,
};

use crate::clients::{
    directory::{DirectoryOperation, Listing},
    object::Entry,
    register::RegisterOperation,
    structure::StructureOperation,
};

/// Whether these operations are linearizable. One without an end may take effect at any time after its beginning: it
/// ends after all others, and one that takes effect last is as good as one that never does.
pub fn is_linearizable<S: Specification>(entries: &[Entry<S::Operation>]) -> bool {
    /// A response never precedes a call at the same time: then the two overlap.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Side {
        Call,
        Response,
    }
    if entries.is_empty() {
        return true;
    }
    let mut order: Vec<(Duration, Side, usize)> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        order.push((entry.start, Side::Call, number));
        order.push((entry.end.unwrap_or(Duration::MAX), Side::Response, number));
    }
    order.sort();
    let actions = order.into_iter().map(|(_, side, number)| {
        let operation = entries[number].operation.clone();
        // Each operation is a process of its own: it is what overlaps in time that counts.
        (number, if side == Side::Call { Action::Call(operation) } else { Action::Response(operation) })
    });
    WGLChecker::<S>::is_linearizable(History::from_actions(actions.collect()))
}

/// A register that holds the number of a value, or none.
pub struct RegisterSpecification;

impl Specification for RegisterSpecification {
    type State = Option<u64>;
    type Operation = RegisterOperation;

    fn init() -> Self::State {
        None
    }

    fn apply(operation: &Self::Operation, state: &Self::State) -> (bool, Self::State) {
        match operation {
            RegisterOperation::Read(seen) => (seen == state, *state),
            RegisterOperation::Write(new) => (true, Some(*new)),
            RegisterOperation::CompareAndSet { expected, new, did } => {
                let holds = expected == state;
                (did.is_none_or(|did| did == holds), if holds && *did != Some(false) { Some(*new) } else { *state })
            }
            RegisterOperation::Delete(did) => {
                (did.is_none_or(|did| did == state.is_some()), if *did == Some(false) { *state } else { None })
            }
        }
    }
}

/// Files of one directory.
pub struct DirectorySpecification;

impl Specification for DirectorySpecification {
    type State = Listing;
    type Operation = DirectoryOperation;

    fn init() -> Self::State {
        Listing::new()
    }

    fn apply(operation: &Self::Operation, state: &Self::State) -> (bool, Self::State) {
        let mut next = state.clone();
        let is_valid = match operation {
            DirectoryOperation::Put(name, id) => {
                next.insert(*name, *id);
                true
            }
            DirectoryOperation::Get(name, seen) => state.get(name).copied() == *seen,
            DirectoryOperation::Delete(name, did) => {
                let was_there = next.remove(name).is_some();
                did.is_none_or(|did| did == was_there)
            }
            DirectoryOperation::List(listing) => listing == state,
        };
        (is_valid, if is_valid { next } else { state.clone() })
    }
}

/// A counter, a set or a list: each uses what it needs of the state.
pub struct StructureSpecification;

impl Specification for StructureSpecification {
    type State = (i64, Vec<u64>);
    type Operation = StructureOperation;

    fn init() -> Self::State {
        (0, Vec::new())
    }

    fn apply(operation: &Self::Operation, state: &Self::State) -> (bool, Self::State) {
        let (mut count, mut items) = state.clone();
        let is_valid = match operation {
            StructureOperation::Increment(told) => {
                count += 1;
                told.is_none_or(|total| total == count)
            }
            StructureOperation::Count(seen) => *seen == count,
            StructureOperation::Include(item, told) => {
                let is_new = !items.contains(item);
                if is_new {
                    items.push(*item);
                    items.sort_unstable();
                }
                told.is_none_or(|told| told == is_new)
            }
            StructureOperation::Exclude(item, told) => {
                let was_there = items.contains(item);
                items.retain(|other| other != item);
                told.is_none_or(|told| told == was_there)
            }
            StructureOperation::Members(seen) => seen.iter().eq(&items),
            StructureOperation::Push(item, told) => {
                items.push(*item);
                told.is_none_or(|length| length == items.len())
            }
            StructureOperation::Pop(told) => {
                let first = (!items.is_empty()).then(|| items.remove(0));
                told.is_none_or(|told| told == first)
            }
            StructureOperation::Items(seen) => *seen == items,
        };
        (is_valid, if is_valid { (count, items) } else { state.clone() })
    }
}

/// The operations of a history, one a line, for people.
pub fn describe<O: std::fmt::Debug>(entries: &[Entry<O>]) -> String {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_key(|entry| entry.start);
    let seconds = |time: Duration| format!("{:9.4}", time.as_secs_f64());
    let line = |entry: &&Entry<O>| {
        let end = entry.end.map_or("        ?".into(), seconds);
        format!("    {} to {end}: {:?}\n", seconds(entry.start), entry.operation)
    };
    sorted.iter().map(line).collect()
}

/// The values of `items` that are there more than once.
pub fn duplicates<T: Eq + Hash + Clone>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut counts: HashMap<T, usize> = HashMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > 1).map(|(item, _)| item).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{DirectorySpecification, RegisterSpecification, StructureSpecification, is_linearizable};
    use crate::clients::{
        directory::{
            DirectoryOperation::{self, Delete, Get, List, Put},
            Listing,
        },
        object::Entry,
        register::RegisterOperation::{self, CompareAndSet, Read, Write},
        structure::StructureOperation::{self, Count, Exclude, Include, Increment, Items, Members, Pop, Push},
    };

    /// Operation, start, end (0: unknown).
    fn entries<O: Clone>(operations: &[(O, u64, u64)]) -> Vec<Entry<O>> {
        let entry = |(operation, start, end): &(O, u64, u64)| Entry {
            operation: operation.clone(),
            start: Duration::from_secs(*start),
            end: (*end > 0).then(|| Duration::from_secs(*end)),
        };
        operations.iter().map(entry).collect()
    }

    fn register(operations: &[(RegisterOperation, u64, u64)]) -> bool {
        is_linearizable::<RegisterSpecification>(&entries(operations))
    }

    fn directory(operations: &[(DirectoryOperation, u64, u64)]) -> bool {
        is_linearizable::<DirectorySpecification>(&entries(operations))
    }

    fn structure(operations: &[(StructureOperation, u64, u64)]) -> bool {
        is_linearizable::<StructureSpecification>(&entries(operations))
    }

    fn cas(expected: Option<u64>, new: u64, did: Option<bool>) -> RegisterOperation {
        CompareAndSet { expected, new, did }
    }

    #[test]
    fn registers_that_are_linearizable() {
        assert!(register(&[]));
        assert!(register(&[(Write(1), 1, 2), (Read(Some(1)), 3, 4), (cas(Some(1), 2, Some(true)), 5, 6)]));
        // Overlapping operations in either order.
        assert!(register(&[(Write(1), 1, 9), (Read(None), 2, 3), (Read(Some(1)), 4, 5)]));
        // An unknown write takes effect late, early, or never.
        assert!(register(&[(Write(1), 1, 0), (Read(None), 8, 9), (Read(Some(1)), 10, 11)]));
        assert!(register(&[(Write(1), 1, 0), (Read(None), 8, 9)]));
        assert!(register(&[(cas(Some(7), 1, None), 1, 0), (Read(None), 8, 9)]));
        assert!(register(&[(RegisterOperation::Delete(Some(false)), 1, 2), (cas(None, 1, Some(true)), 3, 4)]));
    }

    #[test]
    fn registers_that_are_not() {
        assert!(!register(&[(Write(1), 1, 2), (Read(None), 3, 4)]));
        assert!(!register(&[(Write(1), 1, 2), (Write(2), 3, 4), (Read(Some(1)), 5, 6)]));
        assert!(!register(&[(Write(1), 1, 2), (cas(None, 2, Some(true)), 3, 4)]));
        assert!(!register(&[(Write(1), 1, 2), (cas(Some(1), 2, Some(false)), 3, 4)]));
        // Two clients cannot both set what one value was.
        assert!(!register(&[
            (Write(1), 1, 2),
            (cas(Some(1), 2, Some(true)), 3, 9),
            (cas(Some(1), 3, Some(true)), 4, 8)
        ]));
        // What was read once stays, though its writer never had an answer.
        assert!(!register(&[(Write(1), 1, 0), (Read(Some(1)), 2, 3), (Read(None), 4, 5)]));
        assert!(!register(&[(RegisterOperation::Delete(Some(true)), 1, 2)]));
    }

    #[test]
    fn counters_sets_and_lists() {
        assert!(structure(&[(Increment(Some(1)), 1, 2), (Increment(None), 3, 0), (Increment(Some(3)), 4, 5)]));
        assert!(structure(&[(Increment(Some(2)), 1, 9), (Increment(Some(1)), 2, 8), (Count(2), 10, 11)]));
        // One increment, applied twice; and one that is lost.
        assert!(!structure(&[(Increment(Some(1)), 1, 2), (Count(2), 3, 4)]));
        assert!(!structure(&[(Increment(Some(1)), 1, 2), (Increment(Some(1)), 3, 4)]));
        assert!(structure(&[(Include(1, Some(true)), 1, 2), (Exclude(1, None), 3, 0), (Members([].into()), 4, 5)]));
        assert!(!structure(&[(Include(1, Some(true)), 1, 2), (Include(1, Some(true)), 3, 4)]));
        assert!(!structure(&[(Include(1, Some(true)), 1, 2), (Members([].into()), 3, 4)]));
        let pushed = [(Push(1, Some(1)), 1, 2), (Push(2, Some(2)), 3, 4)];
        assert!(structure(&[&pushed[..], &[(Pop(Some(Some(1))), 5, 6), (Items(vec![2]), 7, 8)]].concat()));
        assert!(!structure(&[&pushed[..], &[(Pop(Some(Some(2))), 5, 6)]].concat()));
        assert!(!structure(&[&pushed[..], &[(Pop(Some(Some(1))), 5, 6), (Pop(Some(Some(1))), 5, 6)]].concat()));
    }

    #[test]
    fn directories() {
        let list = |files: &[(u8, u64)]| List(Listing::from_iter(files.iter().copied()));
        assert!(directory(&[(Put(1, 10), 1, 2), (Put(2, 20), 1, 2), (list(&[(1, 10), (2, 20)]), 3, 4)]));
        assert!(directory(&[(Put(1, 10), 1, 9), (list(&[]), 2, 3), (list(&[(1, 10)]), 4, 5)]));
        assert!(directory(&[(Delete(1, None), 1, 0), (Put(1, 10), 2, 3), (Get(1, None), 4, 5)]));
        assert!(!directory(&[(Put(1, 10), 1, 2), (Delete(1, Some(true)), 3, 4), (list(&[(1, 10)]), 5, 6)]));
        assert!(!directory(&[(Put(1, 10), 1, 2), (Get(1, None), 3, 4)]));
        // A listing is one moment: it cannot have the later file without the earlier one.
        assert!(!directory(&[(Put(1, 10), 1, 2), (Put(2, 20), 3, 4), (list(&[(2, 20)]), 1, 9)]));
    }
}
