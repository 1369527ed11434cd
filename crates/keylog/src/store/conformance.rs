//! What every [`Store`] must do, checked. A store's own tests call [`check_all`], and [`check_persistent`] if it
//! survives its process. Every function here panics when the store is wrong.

use std::{collections::BTreeMap, ops::Range};

use difuse_types::{Hash, Key, KeyPrefix, NodeId, OperationId, SlotId, WallTime};

use super::{
    Head, Proposed, Register, SlotDigest, SlotRecord, SlotSize, Store, Usage, Write, WriteSequence, is_counted, weigh,
};
use crate::{Ballot, Configuration, Operation, Term, Transaction, Value, ValueKind};

/// The slots that the checks use.
const SLOTS: [SlotId; 3] = [SlotId(0), SlotId(1), SlotId(0x0102)];
/// The names of node values that the checks use.
const NAMES: [&str; 3] = ["hosts", "incarnation", ""];
/// The highest transaction that the checks look for.
const HEIGHT_MAX: u64 = 12;
/// Batches of the random comparison.
const RANDOM_BATCHES: usize = 400;

/// Checks everything that does not need a restart. `make` gives a new, empty store each time.
pub fn check_all<S: Store>(mut make: impl FnMut() -> S) {
    check_empty(&make());
    check_accept(make());
    check_diverged_chain(make());
    check_base(make());
    check_staged(make());
    check_staged_goes(make());
    check_scan(make());
    check_drop(make());
    check_clear_slot(make());
    check_slot_records_and_meta(make());
    for seed in 0..4 {
        check_random(make(), seed);
    }
}

/// Checks that what is durable survives. `flush` returns when all that was written is durable; `reopen` closes the
/// store, orderly or (if its second argument is true) as if the process were killed, and opens it again.
pub fn check_persistent<S: Store>(
    mut make: impl FnMut() -> S,
    mut flush: impl FnMut(&mut S),
    mut reopen: impl FnMut(S, bool) -> S,
) {
    for seed in 0..3 {
        check_random_restarts(make(), seed, &mut flush, &mut reopen);
    }
    check_cleared_stays_cleared(make(), &mut flush, &mut reopen);
    check_dropped_stays_dropped(make(), &mut flush, &mut reopen);
}

/// The keys that the checks use, in the order of scans: some begin with another, some have bytes at the ends of the
/// range, some are files.
pub fn sample_keys() -> Vec<Key> {
    let names: [&[u8]; 9] = [b"a", b"a\0", b"a\0\xff", b"ab", b"b", b"b\xff", b"b\xff\xff", b"\0", b"\xff"];
    let flat = names.iter().map(|name| Key::new(name));
    let other = ["n", "nn"].iter().map(|namespace| Key::in_namespace(namespace, b"a"));
    let files = ["a", "a/b", "a/c", "ab"].iter().map(|path| Key::of_path(path));
    let mut keys: Vec<_> = flat.chain(other).chain(files).map(|key| key.expect("a valid key")).collect();
    keys.sort();
    keys
}

/// `length` transactions of `key` that follow `parent` (height, hash); `salt` makes chains differ.
pub fn sample_chain(key: &Key, parent: (u64, Hash), length: u64, salt: u8) -> Vec<Transaction> {
    let (parent_height, mut previous) = parent;
    let transactions = (parent_height + 1..=parent_height + length).map(|height| {
        let operation = match (height + u64::from(salt)) % 5 {
            0 => Operation::Delete,
            1 => Operation::Set(Value::new(ValueKind::Inode, vec![salt; 70])),
            2 => Operation::Set(Value::new(ValueKind::State, vec![salt; 30]).until(Some(WallTime(height * 900)))),
            3 => Operation::Set(Value::new(ValueKind::Operation, vec![salt; 50])),
            size => Operation::Set(Value::inline(vec![salt; 40 * size as usize])),
        };
        let transaction = Transaction {
            key: key.clone(),
            height,
            previous,
            operation,
            author: NodeId([salt; 32]),
            time: WallTime(height * 1000),
            operation_id: OperationId([salt ^ height as u8; 16]),
            checkpoint: None,
        };
        let checkpoint = if height.is_multiple_of(4) { transaction.operation.state_hash() } else { None };
        let transaction = Transaction { checkpoint, ..transaction };
        previous = transaction.hash();
        transaction
    });
    transactions.collect()
}

/// The register whose head is the last of `transactions`, with nothing forgotten.
pub fn sample_register(transactions: &[Transaction], ballot: u64) -> Register {
    let node = NodeId([ballot as u8; 32]);
    let marked: Vec<_> = transactions.iter().filter(|transaction| transaction.checkpoint.is_some()).collect();
    Register {
        ballot: Ballot { term: Term { epoch: 1 + ballot / 10, number: ballot, node }, sequence: ballot * 3 },
        head: Head {
            height: transactions.last().map_or(0, |last| last.height),
            hash: transactions.last().map_or(Hash::ZERO, Transaction::hash),
            checkpoint: marked.last().map_or(0, |transaction| transaction.height),
            deleted: transactions.last().and_then(Transaction::deletes_at),
            deadline: transactions.last().and_then(Transaction::deadline),
            recent: transactions.iter().rev().map(|transaction| transaction.operation_id).collect(),
        },
        base: 1,
    }
}

/// A record of `slot` with the given epoch; a proposal is in it if the epoch is odd.
pub fn sample_record(slot: SlotId, epoch: u64) -> SlotRecord {
    let configuration = Configuration { epoch, ..Configuration::first(slot, vec![NodeId([1; 32]), NodeId([2; 32])]) };
    let promised = Term { epoch, number: 7, node: NodeId([2; 32]) };
    let next = configuration.towards(vec![NodeId([3; 32])]);
    let proposed = (epoch % 2 == 1).then_some(Proposed { term: promised, configuration: next });
    let dropped = (epoch % 3 == 1).then_some(Ballot { term: promised, sequence: epoch });
    let without_steps = (epoch % 4 == 1).then_some(promised);
    let configuration = match configuration.recovered(vec![NodeId([2; 32])], 7).filter(|_| epoch % 5 == 2) {
        Some(recovered) => recovered,
        None => configuration,
    };
    SlotRecord { configuration, promised, proposed, dropped, without_steps }
}

fn accept(slot: SlotId, key: &Key, register: &Register, transactions: &[Transaction]) -> Write {
    Write::Accept { slot, key: key.clone(), register: register.clone(), transactions: transactions.to_vec() }
}

fn check_empty<S: Store>(store: &S) {
    assert_eq!(Snapshot::of(store), Snapshot::default());
    assert_eq!(store.slots(), Ok(Vec::new()));
    for slot in SLOTS {
        assert_eq!(store.digest(slot), Ok(SlotDigest::default()));
        assert_eq!(store.size(slot), Ok(SlotSize::default()));
    }
}

fn check_accept<S: Store>(mut store: S) {
    let (slot, key) = (SLOTS[1], Key::new(b"key").expect("a valid key"));
    let chain = sample_chain(&key, (0, Hash::ZERO), 3, 1);
    let first = sample_register(&chain[..2], 1);
    assert_eq!(store.write(vec![accept(slot, &key, &first, &chain[..2])]), Ok(WriteSequence(1)));
    assert_eq!(store.register(slot, &key), Ok(Some(first.clone())));
    assert_eq!(store.transaction(slot, &key, 0), Ok(None));
    assert_eq!(store.transaction(slot, &key, 1), Ok(Some(chain[0].clone())));
    assert_eq!(store.transaction(slot, &key, 2), Ok(Some(chain[1].clone())));
    assert_eq!(store.transaction(slot, &key, 3), Ok(None));
    assert_eq!(store.register(SLOTS[0], &key), Ok(None), "slots are apart");
    assert_eq!(store.transaction(SLOTS[0], &key, 1), Ok(None), "slots are apart");
    assert_eq!(store.register(slot, &Key::new(b"ke").expect("a valid key")), Ok(None));

    let again = sample_register(&chain[..2], 2);
    assert_eq!(store.write(vec![accept(slot, &key, &again, &[])]), Ok(WriteSequence(2)));
    assert_eq!(store.register(slot, &key), Ok(Some(again.clone())), "a higher ballot replaces the register");
    assert_eq!(store.transaction(slot, &key, 2), Ok(Some(chain[1].clone())), "the transactions stay");

    let third = sample_register(&chain, 3);
    assert_eq!(store.write(vec![accept(slot, &key, &third, &chain[2..])]), Ok(WriteSequence(3)));
    assert_eq!(store.transaction(slot, &key, 1), Ok(Some(chain[0].clone())));
    assert_eq!(store.transaction(slot, &key, 3), Ok(Some(chain[2].clone())));
    assert_eq!(store.digest(slot), Ok(SlotDigest::default().replace(&key, None, Some(&third))));
    check_size(&store, slot, 1, &chain);
}

fn check_size<S: Store>(store: &S, slot: SlotId, keys: u64, transactions: &[Transaction]) {
    let size = store.size(slot).expect("the size is readable");
    let values = transactions.iter().filter_map(Transaction::value).map(|value| value.bytes.len() as u64).sum::<u64>();
    let per_transaction = 300 + 2 * 1024;
    assert_eq!(size.keys, keys, "keys of {slot:?}");
    let bound = values + per_transaction * transactions.len() as u64;
    assert!((values..=bound).contains(&size.bytes), "{} bytes, values of {values}, at most {bound}", size.bytes);
}

fn check_diverged_chain<S: Store>(mut store: S) {
    let (slot, key) = (SLOTS[0], Key::of_path("a/b").expect("a valid path"));
    let old = sample_chain(&key, (0, Hash::ZERO), 6, 1);
    store.write(vec![accept(slot, &key, &sample_register(&old, 1), &old)]).expect("a write");

    let branch = sample_chain(&key, (2, old[1].hash()), 2, 2);
    let register = sample_register(&branch, 2);
    store.write(vec![accept(slot, &key, &register, &branch)]).expect("a write");
    let expected = [&old[..2], &branch[..]].concat();
    check_chain(&store, slot, &key, &expected);
    assert_eq!(store.register(slot, &key), Ok(Some(register)));

    store.write(vec![accept(slot, &key, &sample_register(&old[..1], 3), &[])]).expect("a write");
    check_chain(&store, slot, &key, &old[..1]);
    check_size(&store, slot, 1, &old[..1]);

    store.write(vec![accept(slot, &key, &sample_register(&[], 4), &[])]).expect("a write");
    check_chain(&store, slot, &key, &[]);
    check_size(&store, slot, 1, &[]);
}

fn check_base<S: Store>(mut store: S) {
    let (slot, key) = (SLOTS[2], Key::new(b"key").expect("a valid key"));
    let chain = sample_chain(&key, (0, Hash::ZERO), 9, 1);
    store.write(vec![accept(slot, &key, &sample_register(&chain[..6], 1), &chain[..6])]).expect("a write");

    let register = Register { base: 4, ..sample_register(&chain[..7], 2) };
    store.write(vec![accept(slot, &key, &register, &chain[6..7])]).expect("a write");
    assert_eq!(store.register(slot, &key), Ok(Some(register)));
    check_chain(&store, slot, &key, &chain[3..7]);
    check_size(&store, slot, 1, &chain[3..7]);

    let register = Register { base: 6, ..sample_register(&chain[..7], 3) };
    store.write(vec![accept(slot, &key, &register, &[])]).expect("a write");
    check_chain(&store, slot, &key, &chain[5..7]);

    let register = Register { base: 8, ..sample_register(&chain, 4) };
    store.write(vec![accept(slot, &key, &register, &chain[7..])]).expect("a write");
    check_chain(&store, slot, &key, &chain[7..]);
    check_size(&store, slot, 1, &chain[7..]);

    let anew = sample_chain(&key, (0, Hash::ZERO), 2, 2);
    store.write(vec![accept(slot, &key, &sample_register(&anew, 5), &anew)]).expect("a write");
    check_chain(&store, slot, &key, &anew);
}

fn stage(slot: SlotId, key: &Key, first_height: u64, transactions: &[Transaction]) -> Write {
    Write::Stage { slot, key: key.clone(), first_height, transactions: transactions.to_vec() }
}

fn check_staged<S: Store>(mut store: S) {
    let (slot, key) = (SLOTS[1], Key::new(b"key").expect("a valid key"));
    let chain = sample_chain(&key, (0, Hash::ZERO), 7, 1);
    store.write(vec![stage(slot, &key, 1, &chain[..3]), stage(slot, &key, 1, &chain[3..4])]).expect("a write");
    assert_eq!(store.staged(slot, &key), Ok(Some(1..5)));
    assert_eq!(store.staged(SLOTS[0], &key), Ok(None), "slots are apart");
    assert_eq!(store.register(slot, &key), Ok(None), "what is staged shows nothing");
    check_chain(&store, slot, &key, &[]);
    assert_eq!(store.digest(slot), Ok(SlotDigest::default()));

    // It becomes part of the chain that goes on where it ends.
    let register = sample_register(&chain[..5], 1);
    store.write(vec![accept(slot, &key, &register, &chain[4..5])]).expect("a write");
    assert_eq!((store.register(slot, &key), store.staged(slot, &key)), (Ok(Some(register)), Ok(None)));
    check_chain(&store, slot, &key, &chain[..5]);
    check_size(&store, slot, 1, &chain[..5]);

    // Also above a head, and where the chain begins further up with it: at the whole state of a structure.
    store.write(vec![stage(slot, &key, 6, &chain[5..6])]).expect("a write");
    check_chain(&store, slot, &key, &chain[..5]);
    let register = Register { base: 6, ..sample_register(&chain[..7], 2) };
    store.write(vec![accept(slot, &key, &register, &chain[6..7])]).expect("a write");
    check_chain(&store, slot, &key, &chain[5..7]);
    check_size(&store, slot, 1, &chain[5..7]);
    let usage = store.usage(slot).expect("the usage is readable");
    assert_eq!(
        usage.get(key.namespace()),
        Some(&Usage { keys: 1, bytes: 3 + 30 + 50 }),
        "the key, the state, an operation"
    );
}

fn check_staged_goes<S: Store>(mut store: S) {
    let (slot, key) = (SLOTS[0], Key::new(b"key").expect("a valid key"));
    let chain = sample_chain(&key, (0, Hash::ZERO), 8, 1);
    let register = sample_register(&chain[..4], 1);
    store.write(vec![accept(slot, &key, &register, &chain[..4])]).expect("a write");
    let other = sample_chain(&key, (4, chain[3].hash()), 4, 2);
    let staged = stage(slot, &key, 5, &other[..3]);

    // With a head that is accepted without it.
    let changes = [
        accept(slot, &key, &sample_register(&chain[..4], 2), &[]),
        accept(slot, &key, &sample_register(&chain[..6], 2), &chain[4..6]),
        accept(slot, &key, &sample_register(&chain[..4], 3), &[]),
        accept(slot, &key, &sample_register(&chain[..8], 4), &chain[2..8]),
        accept(slot, &key, &sample_register(&chain[..4], 5), &[]),
    ];
    for (change, height) in changes.into_iter().zip([4, 6, 4, 8, 4]) {
        store.write(vec![staged.clone(), change]).expect("a write");
        assert_eq!(store.staged(slot, &key), Ok(None));
        check_chain(&store, slot, &key, &chain[..height]);
        check_size(&store, slot, 1, &chain[..height]);
    }
    // With what is staged instead.
    store.write(vec![staged.clone(), stage(slot, &key, 5, &chain[4..6])]).expect("a write");
    store.write(vec![accept(slot, &key, &sample_register(&chain[..7], 6), &chain[6..7])]).expect("a write");
    check_chain(&store, slot, &key, &chain[..7]);
    // With its key, and its slot.
    for gone in [Write::Drop { slot, key: key.clone() }, Write::ClearSlot(slot)] {
        store.write(vec![stage(slot, &key, 8, &chain[7..]), gone]).expect("a write");
        assert_eq!(store.staged(slot, &key), Ok(None));
        store.write(vec![accept(slot, &key, &sample_register(&chain[..7], 7), &chain[..7])]).expect("a write");
        check_chain(&store, slot, &key, &chain[..7]);
    }
}

/// Checks that exactly these transactions are stored.
fn check_chain<S: Store>(store: &S, slot: SlotId, key: &Key, expected: &[Transaction]) {
    for height in 0..=HEIGHT_MAX {
        let wanted = expected.iter().find(|transaction| transaction.height == height);
        assert_eq!(store.transaction(slot, key, height), Ok(wanted.cloned()), "height {height}");
    }
}

fn check_scan<S: Store>(mut store: S) {
    let keys = sample_keys();
    let slot = SLOTS[1];
    let mut random = fastrand::Rng::with_seed(3);
    let mut shuffled = keys.clone();
    random.shuffle(&mut shuffled);
    for key in &shuffled {
        for slot in SLOTS {
            let chain = sample_chain(key, (0, Hash::ZERO), 1, slot.0 as u8);
            store.write(vec![accept(slot, key, &sample_register(&chain, 1), &chain)]).expect("a write");
        }
    }
    for prefix in prefixes(&keys) {
        for after in [None].into_iter().chain(keys.iter().map(Some)) {
            for limit in [0, 1, 2, keys.len(), usize::MAX] {
                check_one_scan(&store, slot, &keys, &prefix, after, limit);
            }
        }
    }
}

fn prefixes(keys: &[Key]) -> Vec<KeyPrefix> {
    let directory = Key::prefix_of_directory("a").expect("a valid path");
    let whole = keys.iter().map(|key| key.encoded().clone());
    let cut = keys.iter().map(|key| key.encoded().slice(..key.encoded().len() - 1));
    let odd: [&[u8]; 4] = [b"", b"\x01", b"\xff\xff", b"\x01\x00a\x01"];
    let odd = odd.iter().map(|bytes| KeyPrefix::copy_from_slice(bytes));
    whole.chain(cut).chain(odd).chain([directory]).collect()
}

fn check_one_scan<S: Store>(
    store: &S,
    slot: SlotId,
    keys: &[Key],
    prefix: &KeyPrefix,
    after: Option<&Key>,
    limit: usize,
) {
    let fits = |key: &&Key| key.encoded().starts_with(prefix) && after.is_none_or(|after| *key > after);
    let expected: Vec<_> = keys.iter().filter(fits).take(limit).cloned().collect();
    let found = store.scan(slot, prefix, after, limit).expect("a scan");
    for (key, register) in &found {
        assert_eq!(store.register(slot, key), Ok(Some(register.clone())));
    }
    let found: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
    assert_eq!(found, expected, "prefix {prefix:?} after {after:?} limit {limit}");
}

fn check_drop<S: Store>(mut store: S) {
    let (slot, keys) = (SLOTS[1], sample_keys());
    let chains: Vec<_> = keys.iter().map(|key| sample_chain(key, (0, Hash::ZERO), 5, 5)).collect();
    let fill = keys.iter().zip(&chains);
    let fill: Vec<_> = fill.map(|(key, chain)| accept(slot, key, &sample_register(chain, 1), chain)).collect();
    store.write(fill.clone()).expect("a write");
    assert_eq!(store.size(slot).expect("a size").tombstones, keys.len() as u64);
    let mut expected = Snapshot::of(&store);

    let drop = |key: &Key| Write::Drop { slot, key: key.clone() };
    store.write(vec![drop(&keys[2]), drop(&keys[3]), drop(&keys[2])]).expect("a write");
    expected.entries.retain(|(_, key), _| *key != keys[2] && *key != keys[3]);
    expected.check_against(&store, "only what belongs to a dropped key goes");
    let kept: Vec<_> = [&keys[..2], &keys[4..]].concat();
    for limit in [1, 2, 3, usize::MAX] {
        check_one_scan(&store, slot, &kept, &KeyPrefix::new(), None, limit);
        check_one_scan(&store, slot, &kept, &KeyPrefix::new(), Some(&keys[1]), limit);
    }

    let anew = sample_chain(&keys[2], (0, Hash::ZERO), 2, 1);
    let (again, register) = (&fill[3], sample_register(&anew, 2));
    let batch = vec![accept(slot, &keys[2], &register, &anew), again.clone(), drop(&keys[3])];
    store.write(batch).expect("a write");
    check_chain(&store, slot, &keys[2], &anew);
    check_chain(&store, slot, &keys[3], &[]);
    assert_eq!(store.register(slot, &keys[2]), Ok(Some(register)), "a key may be written anew");
    assert_eq!(store.register(slot, &keys[3]), Ok(None), "the writes of a batch take effect in order");
    assert_eq!(store.size(slot).expect("a size").tombstones, keys.len() as u64 - 2);
}

fn check_clear_slot<S: Store>(mut store: S) {
    let keys = sample_keys();
    let chains: Vec<_> = keys.iter().map(|key| sample_chain(key, (0, Hash::ZERO), 2, 5)).collect();
    let fill = |slot| -> Vec<Write> {
        let both = keys.iter().zip(&chains);
        both.map(|(key, chain)| accept(slot, key, &sample_register(chain, 1), chain)).collect()
    };
    let mut writes: Vec<_> = SLOTS.into_iter().flat_map(fill).collect();
    writes.push(Write::Slot(Box::new(sample_record(SLOTS[1], 3))));
    store.write(writes).expect("a write");
    let mut expected = Snapshot::of(&store);
    expected.entries.retain(|(slot, _), _| *slot != SLOTS[1]);
    store.write(vec![Write::ClearSlot(SLOTS[1])]).expect("a write");
    assert_eq!(Snapshot::of(&store), expected, "only the registers and transactions of the slot go");
    assert_eq!(store.digest(SLOTS[1]), Ok(SlotDigest::default()));
    assert_eq!(store.size(SLOTS[1]), Ok(SlotSize::default()));
    assert_eq!(store.slot(SLOTS[1]), Ok(Some(sample_record(SLOTS[1], 3))), "the record stays");

    let batch = vec![fill(SLOTS[1]).remove(0), Write::ClearSlot(SLOTS[1]), fill(SLOTS[1]).remove(1)];
    store.write(batch).expect("a write");
    let left = store.scan(SLOTS[1], &KeyPrefix::new(), None, usize::MAX).expect("a scan");
    assert_eq!(left.len(), 1, "the writes of a batch take effect in order");
    check_chain(&store, SLOTS[1], &keys[0], &[]);
    check_chain(&store, SLOTS[1], &keys[1], &chains[1]);
}

fn check_slot_records_and_meta<S: Store>(mut store: S) {
    let records: Vec<_> = SLOTS.iter().map(|slot| sample_record(*slot, u64::from(slot.0) + 1)).collect();
    store.write(records.iter().rev().cloned().map(|record| Write::Slot(Box::new(record))).collect()).expect("a write");
    assert_eq!(store.slots(), Ok(records.clone()), "by slot");
    let newer = sample_record(SLOTS[2], 9);
    store.write(vec![Write::Slot(Box::new(newer.clone()))]).expect("a write");
    assert_eq!(store.slot(SLOTS[2]), Ok(Some(newer)));
    assert_eq!(store.slot(SLOTS[0]), Ok(Some(records[0].clone())));

    let meta = |name: &str, value: Option<&[u8]>| Write::Meta(name.to_string(), value.map(<[u8]>::to_vec));
    store.write(vec![meta("a", Some(b"1")), meta("b", Some(b"")), meta("a", Some(b"2"))]).expect("a write");
    assert_eq!(store.meta("a"), Ok(Some(b"2".to_vec())), "the last write counts");
    assert_eq!(store.meta("b"), Ok(Some(Vec::new())), "empty is not absent");
    store.write(vec![meta("a", None), meta("never", None)]).expect("a write");
    assert_eq!((store.meta("a"), store.meta("never")), (Ok(None), Ok(None)));
    assert_eq!(store.write(Vec::new()), Ok(WriteSequence(5)), "an empty batch counts");

    store.write(vec![meta("q/2", Some(b"y")), meta("q/1", Some(b"x")), meta("q/3", Some(b"z"))]).expect("a write");
    store.write(vec![meta("q", Some(b"")), meta("r", Some(b"")), meta("q/3", None)]).expect("a write");
    let named = |names: &[(&str, &[u8])]| -> Vec<_> {
        names.iter().map(|(name, value)| (name.to_string(), value.to_vec())).collect()
    };
    assert_eq!(store.metas("q/"), Ok(named(&[("q/1", b"x"), ("q/2", b"y")])), "those that begin with it, in order");
    assert_eq!(store.metas("s"), Ok(Vec::new()));
}

fn check_random<S: Store>(mut store: S, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model = Snapshot::default();
    let mut last = WriteSequence(0);
    for count in 1..=RANDOM_BATCHES as u64 {
        let writes = model.apply_random_batch(&mut random);
        last = checked_write(&mut store, writes, last);
        if count % 20 == 0 {
            model.check_against(&store, &format!("seed {seed} batch {count}"));
        }
    }
}

fn check_random_restarts<S: Store>(
    mut store: S,
    seed: u64,
    flush: &mut impl FnMut(&mut S),
    reopen: &mut impl FnMut(S, bool) -> S,
) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut model = Snapshot::default();
    let mut last = WriteSequence(0);
    for round in 0..12 {
        for _ in 0..random.usize(..40) {
            last = checked_write(&mut store, model.apply_random_batch(&mut random), last);
        }
        flush(&mut store);
        let (durable, mut possible) = (last, vec![model.clone()]);
        for _ in 0..random.usize(..6) {
            last = checked_write(&mut store, model.apply_random_batch(&mut random), last);
            possible.push(model.clone());
        }
        let crash = random.bool();
        store = reopen(store, crash);
        let context = format!("seed {seed} round {round} crash {crash}, durable {durable:?}, written {last:?}");
        let found = Snapshot::of(&store);
        let kept = possible.iter().rposition(|model| *model == found);
        model = possible.swap_remove(kept.unwrap_or_else(|| panic!("{context}: what is there was never written")));
        assert!(crash || kept == Some(possible.len()), "{context}: an orderly close lost a batch");
        model.check_against(&store, &context);
        model.forget_staged();
        last = durable;
    }
}

fn checked_write<S: Store>(store: &mut S, writes: Vec<Write>, after: WriteSequence) -> WriteSequence {
    let sequence = store.write(writes).expect("a write");
    assert!(sequence > after, "{sequence:?} does not come after {after:?}");
    sequence
}

fn check_cleared_stays_cleared<S: Store>(
    mut store: S,
    flush: &mut impl FnMut(&mut S),
    reopen: &mut impl FnMut(S, bool) -> S,
) {
    let keys = sample_keys();
    let chain = |key: &Key| sample_chain(key, (0, Hash::ZERO), 4, 1);
    for key in &keys {
        let chain = chain(key);
        store.write(vec![accept(SLOTS[0], key, &sample_register(&chain, 1), &chain)]).expect("a write");
    }
    flush(&mut store);
    store = reopen(store, false);
    store.write(vec![Write::ClearSlot(SLOTS[0])]).expect("a write");
    let again = chain(&keys[3]);
    store.write(vec![accept(SLOTS[0], &keys[3], &sample_register(&again[..1], 2), &again[..1])]).expect("a write");
    flush(&mut store);
    for crash in [true, false, true] {
        store = reopen(store, crash);
        let left = store.scan(SLOTS[0], &KeyPrefix::new(), None, usize::MAX).expect("a scan");
        assert_eq!(left.len(), 1, "crash {crash}");
        check_chain(&store, SLOTS[0], &keys[3], &again[..1]);
        check_chain(&store, SLOTS[0], &keys[4], &[]);
    }
}

fn check_dropped_stays_dropped<S: Store>(
    mut store: S,
    flush: &mut impl FnMut(&mut S),
    reopen: &mut impl FnMut(S, bool) -> S,
) {
    let (slot, keys) = (SLOTS[0], sample_keys());
    let chain = |key: &Key| sample_chain(key, (0, Hash::ZERO), 4, 1);
    let fill = |key: &Key| accept(slot, key, &sample_register(&chain(key), 1), &chain(key));
    store.write(keys.iter().map(fill).collect()).expect("a write");
    flush(&mut store);
    store = reopen(store, false);
    store.write(keys[..4].iter().map(|key| Write::Drop { slot, key: key.clone() }).collect()).expect("a write");
    let again = chain(&keys[3]);
    store.write(vec![accept(slot, &keys[3], &sample_register(&again[..1], 2), &again[..1])]).expect("a write");
    flush(&mut store);
    for crash in [true, false, true] {
        store = reopen(store, crash);
        let left = store.scan(slot, &KeyPrefix::new(), None, usize::MAX).expect("a scan");
        let left: Vec<_> = left.into_iter().map(|(key, _)| key).collect();
        assert_eq!(left, keys[3..], "crash {crash}");
        check_chain(&store, slot, &keys[2], &[]);
        check_chain(&store, slot, &keys[3], &again[..1]);
    }
}

/// All that a store holds of the slots, keys and names of the checks; also the plain model of a store.
#[derive(Clone, PartialEq, Debug, Default)]
struct Snapshot {
    records: BTreeMap<SlotId, SlotRecord>,
    entries: BTreeMap<(SlotId, Key), (Register, Vec<Transaction>)>,
    staged: BTreeMap<(SlotId, Key), Staged>,
    meta: BTreeMap<String, Vec<u8>>,
}

/// What is staged of a chain. A store tells its heights alone, so that only these are compared.
#[derive(Clone, Debug)]
struct Staged {
    heights: Range<u64>,
    transactions: Vec<Transaction>,
}

impl PartialEq for Staged {
    fn eq(&self, other: &Self) -> bool {
        self.heights == other.heights
    }
}

impl Snapshot {
    fn of<S: Store>(store: &S) -> Self {
        let mut snapshot = Self::default();
        for record in store.slots().expect("slots are readable") {
            assert_eq!(store.slot(record.configuration.slot), Ok(Some(record.clone())));
            snapshot.records.insert(record.configuration.slot, record);
        }
        for slot in SLOTS {
            for (key, register) in store.scan(slot, &KeyPrefix::new(), None, usize::MAX).expect("a scan") {
                assert_eq!(store.register(slot, &key), Ok(Some(register.clone())));
                snapshot.entries.insert((slot, key.clone()), (register, stored_chain(store, slot, &key)));
            }
            for key in sample_keys() {
                let staged = store.staged(slot, &key).expect("what is staged is readable");
                let staged = staged.map(|heights| Staged { heights, transactions: Vec::new() });
                snapshot.staged.extend(staged.map(|staged| ((slot, key), staged)));
            }
        }
        for name in NAMES {
            let value = store.meta(name).expect("meta is readable");
            snapshot.meta.extend(value.map(|value| (name.to_string(), value)));
        }
        let listed = store.metas("").expect("metas are readable").into_iter();
        let listed: BTreeMap<_, _> = listed.filter(|(name, _)| NAMES.contains(&name.as_str())).collect();
        assert_eq!(listed, snapshot.meta);
        snapshot
    }

    fn check_against<S: Store>(&self, store: &S, context: &str) {
        assert_eq!(Self::of(store), *self, "{context}");
        let keys = sample_keys();
        for slot in SLOTS {
            let entries = || self.entries.iter().filter(|((of, _), _)| *of == slot);
            let sum = entries()
                .fold(SlotDigest::default(), |sum, ((_, key), (register, _))| sum.replace(key, None, Some(register)));
            assert_eq!(store.digest(slot), Ok(sum), "{context}: digest of {slot:?}");
            let transactions: Vec<_> = entries().flat_map(|(_, (_, chain))| chain.clone()).collect();
            check_size(store, slot, entries().count() as u64, &transactions);
            let tombstones = entries().filter(|(_, (register, _))| register.head.deleted.is_some()).count() as u64;
            assert_eq!(store.size(slot).map(|size| size.tombstones), Ok(tombstones), "{context}: {slot:?}");
            let expiring = entries().filter(|(_, (register, _))| register.head.deadline.is_some()).count() as u64;
            assert_eq!(store.size(slot).map(|size| size.expiring), Ok(expiring), "{context}: {slot:?}");
            self.check_usage(store, slot, context);
            for key in keys.iter().filter(|key| !self.entries.contains_key(&(slot, (*key).clone()))) {
                assert_eq!(store.register(slot, key), Ok(None), "{context}: {key:?}");
                check_chain(store, slot, key, &[]);
            }
            let held: Vec<_> = entries().map(|((_, key), _)| key.clone()).collect();
            for prefix in prefixes(&keys[..4]) {
                check_one_scan(store, slot, &held, &prefix, keys.get(2), 3);
                check_one_scan(store, slot, &held, &prefix, None, usize::MAX);
            }
        }
    }

    /// Exact for plain values; for a structure, whose log may have been cut, at least its last operation.
    fn check_usage<S: Store>(&self, store: &S, slot: SlotId, context: &str) {
        let mut expected: BTreeMap<String, (Usage, bool)> = BTreeMap::new();
        let entries = self.entries.iter().filter(|((of, _), _)| *of == slot);
        for ((_, key), (_, chain)) in entries.filter(|((_, key), (register, _))| is_counted(key, register)) {
            let (usage, is_exact) = expected.entry(key.namespace().to_owned()).or_insert((Usage::default(), true));
            let known = chain.last().and_then(|last| weigh(last, None, |_| None));
            let own = chain.last().and_then(Transaction::value).map_or(0, |value| value.bytes.len() as u64);
            usage.replace(key, None, Some(known.unwrap_or(own)));
            *is_exact &= known.is_some();
        }
        let found = store.usage(slot).expect("the usage is readable");
        assert_eq!(found.len(), expected.len(), "{context}: {found:?}, expected {expected:?}");
        for (namespace, (least, is_exact)) in expected {
            let usage = found.get(&namespace).copied().unwrap_or_default();
            let context = format!("{context}: {slot:?} {namespace:?}: {usage:?}, expected {least:?}");
            assert_eq!(usage.keys, least.keys, "{context}");
            let most = least.bytes + if is_exact { 0 } else { least.keys * HEIGHT_MAX * 2400 };
            assert!((least.bytes..=most).contains(&usage.bytes), "{context}");
        }
    }

    /// Whether what was staged last is there or what was before cannot be told: nothing builds on it.
    fn forget_staged(&mut self) {
        self.staged.values_mut().for_each(|staged| staged.transactions.clear());
    }

    fn apply_random_batch(&mut self, random: &mut fastrand::Rng) -> Vec<Write> {
        let mut writes = Vec::new();
        for _ in 0..random.usize(1..5) {
            let write = self.random_write(random);
            self.apply(write.clone());
            writes.push(write);
        }
        writes
    }

    fn random_write(&self, random: &mut fastrand::Rng) -> Write {
        let slot = SLOTS[random.usize(..SLOTS.len())];
        match random.u8(..40) {
            0 => Write::ClearSlot(slot),
            7..11 => {
                let keys = sample_keys();
                Write::Drop { slot, key: keys[random.usize(..keys.len())].clone() }
            }
            11..18 => self.random_stage(slot, random),
            18..21 => self.random_repair(random),
            1..4 => Write::Slot(Box::new(sample_record(slot, random.u64(1..20)))),
            4..7 => {
                let value = random.bool().then(|| vec![random.u8(..); random.usize(..20)]);
                Write::Meta(NAMES[random.usize(..NAMES.len())].to_string(), value)
            }
            _ => self.random_accept(slot, random),
        }
    }

    /// Extends a chain, cuts it, replaces its end, forgets its beginning, or accepts the same head at another ballot.
    fn random_accept(&self, slot: SlotId, random: &mut fastrand::Rng) -> Write {
        let keys = sample_keys();
        let key = &keys[random.usize(..keys.len())];
        let old = self.entries.get(&(slot, key.clone())).map(|(_, chain)| &chain[..]).unwrap_or_default();
        let staged = self.staged.get(&(slot, key.clone())).map(|staged| &staged.transactions[..]).unwrap_or_default();
        if let Some(last) = staged.last().filter(|_| random.u8(..4) > 0) {
            let added = sample_chain(key, (last.height, last.hash()), 1, random.u8(..));
            return self.random_register(slot, key, &[old, staged, &added[..]].concat(), &added, random);
        }
        let begins_anew = old.is_empty() || random.u8(..8) == 0;
        let kept = match random.bool() {
            _ if begins_anew => 0,
            true => old.len(),
            false => random.usize(1..=old.len()),
        };
        let parent = old[..kept].last().map_or((0, Hash::ZERO), |last| (last.height, last.hash()));
        let length = random.u64(..4).min(HEIGHT_MAX - 1 - parent.0);
        let added = sample_chain(key, parent, length, random.u8(..));
        self.random_register(slot, key, &[&old[..kept], &added[..]].concat(), &added, random)
    }

    /// Accepts `whole`, of which `added` is new, and perhaps forgets its beginning.
    fn random_register(
        &self,
        slot: SlotId,
        key: &Key,
        whole: &[Transaction],
        added: &[Transaction],
        random: &mut fastrand::Rng,
    ) -> Write {
        let lowest = whole.first().map_or(1, |first| first.height);
        let register = sample_register(whole, random.u64(1..250));
        let forgets = random.u8(..4) == 0 && register.head.height > lowest;
        let base = if forgets { random.u64(lowest..=register.head.height) } else { lowest };
        accept(slot, key, &Register { base, ..register }, added)
    }

    /// Writes a part of a chain again, as it is.
    fn random_repair(&self, random: &mut fastrand::Rng) -> Write {
        let place = random.usize(..self.entries.len().max(1));
        let Some(((slot, key), (_, chain))) = self.entries.iter().nth(place) else {
            return Write::ClearSlot(SLOTS[0]);
        };
        let begin = random.usize(..=chain.len());
        let transactions = chain[begin..random.usize(begin..=chain.len())].to_vec();
        Write::Repair { slot: *slot, key: key.clone(), transactions }
    }

    /// Goes on with what is staged, or begins: above the head, or anywhere if there is none.
    fn random_stage(&self, slot: SlotId, random: &mut fastrand::Rng) -> Write {
        let keys = sample_keys();
        let key = &keys[random.usize(..keys.len())];
        let is_known = |staged: &&Staged| !staged.transactions.is_empty();
        let staged = self.staged.get(&(slot, key.clone())).filter(is_known).filter(|_| random.u8(..3) > 0);
        let head = self.entries.get(&(slot, key.clone())).and_then(|(_, chain)| chain.last());
        let parent = match (staged.and_then(|staged| staged.transactions.last()), head) {
            (Some(last), _) | (None, Some(last)) => (last.height, last.hash()),
            (None, None) => (random.u64(..3), Hash::ZERO),
        };
        let length = random.u64(1..4).min(HEIGHT_MAX.saturating_sub(2 + parent.0));
        if length == 0 || self.entries.contains_key(&(slot, key.clone())) && head.is_none() {
            return self.random_accept(slot, random);
        }
        let first_height = staged.map_or(parent.0 + 1, |staged| staged.heights.start);
        stage(slot, key, first_height, &sample_chain(key, parent, length, random.u8(..)))
    }

    fn apply(&mut self, write: Write) {
        match write {
            Write::Slot(record) => {
                self.records.insert(record.configuration.slot, *record);
            }
            Write::Stage { slot, key, first_height, transactions } => {
                let end = transactions.last().map_or(0, |last| last.height + 1);
                let begins = transactions.first().is_some_and(|first| first.height == first_height);
                let before = self.staged.remove(&(slot, key.clone())).filter(|_| !begins);
                let transactions = [before.map_or_else(Vec::new, |before| before.transactions), transactions].concat();
                self.staged.insert((slot, key), Staged { heights: first_height..end, transactions });
            }
            Write::Repair { .. } => {}
            Write::Accept { slot, key, register, mut transactions } => {
                let staged = self.staged.remove(&(slot, key.clone()));
                let follows = |staged: &Staged| transactions.first().is_some_and(|it| it.height == staged.heights.end);
                if let Some(staged) = staged.filter(follows) {
                    transactions.splice(..0, staged.transactions);
                }
                let entry = self.entries.entry((slot, key)).or_insert_with(|| (register.clone(), Vec::new()));
                let parent_height = register.head.height - transactions.len() as u64;
                entry.1.retain(|transaction| transaction.height <= parent_height);
                entry.1.extend(transactions);
                entry.1.retain(|transaction| transaction.height >= register.base);
                entry.0 = register;
            }
            Write::Drop { slot, key } => {
                let place = (slot, key);
                self.entries.remove(&place);
                self.staged.remove(&place);
            }
            Write::ClearSlot(slot) => {
                self.entries.retain(|(of, _), _| *of != slot);
                self.staged.retain(|(of, _), _| *of != slot);
            }
            Write::Meta(name, Some(value)) => {
                self.meta.insert(name, value);
            }
            Write::Meta(name, None) => {
                self.meta.remove(&name);
            }
        }
    }
}

fn stored_chain<S: Store>(store: &S, slot: SlotId, key: &Key) -> Vec<Transaction> {
    let at = |height| store.transaction(slot, key, height).expect("a transaction is readable");
    let chain: Vec<_> = (1..=HEIGHT_MAX).filter_map(at).collect();
    let is_whole = chain.is_sorted_by(|one, next| one.height + 1 == next.height);
    assert!(is_whole, "a transaction of {key:?} above a gap");
    chain
}
