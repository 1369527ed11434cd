use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use difuse_blocks::{Content, Inode};
use difuse_keylog::{
    Operation, Register, Store, StoreError, Transaction, Value, ValueKind, Write, WriteSequence,
    store::{Usage, conformance},
};
use difuse_types::{Hash, Key, SlotId};
use tempfile::TempDir;

use super::{
    KeyStore,
    cleaner::{Cleaning, Policy},
};
use crate::{
    OpenError, Options, Storage,
    index::{Index, checkpoint, put_checkpoint},
    log::Checkpoint,
};

const SLOT: SlotId = SlotId(5);

/// Small bounds, so that segments roll and the index is updated often.
fn small() -> Options {
    Options {
        reserve_bytes: 0,
        key_segment_bytes: 16 << 10,
        key_log_live_percent: 40,
        clean_every: Duration::from_millis(1),
        block_segment_bytes: 64 << 10,
        index_cache_bytes: 4 << 20,
        head_cache_bytes: 16 << 10,
        index_after_bytes: 8 << 10,
        index_after: Duration::from_millis(20),
        unindexed_bytes_max: 64 << 10,
        queued_bytes_max: 32 << 10,
    }
}

/// As [`small`], but nothing goes to the index before the store is closed.
fn unindexed() -> Options {
    Options {
        index_after_bytes: usize::MAX,
        index_after: Duration::from_secs(3600),
        unindexed_bytes_max: usize::MAX,
        ..small()
    }
}

fn open_unindexed(path: &Path) -> KeyStore {
    Storage::open(path, &unindexed(), Box::new(|_| {})).unwrap().keys
}

fn open(path: &Path) -> Result<KeyStore, OpenError> {
    Storage::open(path, &small(), Box::new(|_| {})).map(|opened| opened.keys)
}

/// A key that is written again and again: batch `n` adds height `n`.
fn extend(key: &Key, last: Option<&Transaction>) -> (Transaction, Write) {
    let parent = last.map_or((0, Hash::ZERO), |last| (last.height, last.hash()));
    let transaction = conformance::sample_chain(key, parent, 1, 1).remove(0);
    let register: Register = conformance::sample_register(std::slice::from_ref(&transaction), 1);
    let write = Write::Accept { slot: SLOT, key: key.clone(), register, transactions: vec![transaction.clone()] };
    (transaction, write)
}

fn key() -> Key {
    Key::new(b"counter").unwrap()
}

/// Writes batches that extend one key, each flushed by itself, and returns the whole chain.
fn write_chain(store: &mut KeyStore, length: u64) -> Vec<Transaction> {
    let mut chain: Vec<Transaction> = Vec::new();
    for _ in 0..length {
        let (transaction, write) = extend(&key(), chain.last());
        chain.push(transaction);
        let sequence = store.write(vec![write]).unwrap();
        store.wait_durable(sequence).unwrap();
    }
    chain
}

fn assert_chain(store: &KeyStore, chain: &[Transaction]) {
    assert_eq!(store.register(SLOT, &key()).unwrap().map(|found| found.head.height), Some(chain.len() as u64));
    for transaction in chain {
        assert_eq!(store.transaction(SLOT, &key(), transaction.height).as_ref(), Ok(&Some(transaction.clone())));
    }
    assert_eq!(store.transaction(SLOT, &key(), chain.len() as u64 + 1), Ok(None));
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path.join("keys")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn flip_bit(file: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 4], offset).unwrap();
}

/// A store that is opened on a directory of its own, and goes with it.
struct Owned {
    store: Option<KeyStore>,
    directory: TempDir,
}

impl Owned {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { store: Some(open(directory.path()).unwrap()), directory }
    }

    fn store(&self) -> &KeyStore {
        self.store.as_ref().unwrap()
    }

    fn reopen(mut self, crash: bool) -> Self {
        let store = self.store.take().unwrap();
        if crash {
            store.crash()
        } else {
            drop(store)
        }
        self.store = Some(open(self.directory.path()).unwrap());
        self
    }
}

impl Store for Owned {
    fn slot(&self, slot: SlotId) -> Result<Option<difuse_keylog::SlotRecord>, StoreError> {
        self.store().slot(slot)
    }
    fn slots(&self) -> Result<Vec<difuse_keylog::SlotRecord>, StoreError> {
        self.store().slots()
    }
    fn register(&self, slot: SlotId, key: &Key) -> Result<Option<Register>, StoreError> {
        self.store().register(slot, key)
    }
    fn transaction(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<Transaction>, StoreError> {
        self.store().transaction(slot, key, height)
    }
    fn staged(&self, slot: SlotId, key: &Key) -> Result<Option<std::ops::Range<u64>>, StoreError> {
        self.store().staged(slot, key)
    }
    fn verify(&self, slot: SlotId, key: &Key, height: u64) -> Result<Option<u64>, StoreError> {
        self.store().verify(slot, key, height)
    }
    fn scan(
        &self,
        slot: SlotId,
        prefix: &difuse_types::KeyPrefix,
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Register)>, StoreError> {
        self.store().scan(slot, prefix, after, limit)
    }
    fn digest(&self, slot: SlotId) -> Result<difuse_keylog::SlotDigest, StoreError> {
        self.store().digest(slot)
    }
    fn size(&self, slot: SlotId) -> Result<difuse_keylog::store::SlotSize, StoreError> {
        self.store().size(slot)
    }
    fn usage(&self, slot: SlotId) -> Result<BTreeMap<String, Usage>, StoreError> {
        self.store().usage(slot)
    }
    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.store().meta(name)
    }
    fn metas(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.store().metas(prefix)
    }
    fn write(&mut self, writes: Vec<Write>) -> Result<WriteSequence, StoreError> {
        self.store.as_mut().unwrap().write(writes)
    }
    fn flush(&mut self) {
        self.store.as_mut().unwrap().flush();
    }
}

#[test]
fn conforms() {
    conformance::check_all(Owned::new);
}

#[test]
fn conforms_across_restarts_and_crashes() {
    let flush = |owned: &mut Owned| owned.store().wait_durable(owned.store().written()).unwrap();
    conformance::check_persistent(Owned::new, flush, Owned::reopen);
}

#[test]
fn replays_across_segments_what_the_index_never_saw() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_unindexed(directory.path());
    let chain = write_chain(&mut store, 200);
    store.crash();
    assert!(segments(directory.path()).len() > 3, "the chain spans segments");
    let store = open(directory.path()).unwrap();
    assert_eq!(store.written(), WriteSequence(200));
    assert_chain(&store, &chain);
}

#[test]
fn an_interrupted_update_of_the_index_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_unindexed(directory.path());
    let chain = write_chain(&mut store, 30);
    let (digest, size, usage) = (store.digest(SLOT).unwrap(), store.size(SLOT).unwrap(), store.usage(SLOT).unwrap());
    {
        let layers = store.core.lock();
        put_checkpoint(store.core.index.tree(), Checkpoint::START, true).unwrap();
        store.core.index.apply(&layers.active).unwrap();
    }
    store.crash();
    let store = open(directory.path()).unwrap();
    assert_chain(&store, &chain);
    assert_eq!((store.digest(SLOT), store.size(SLOT), store.usage(SLOT)), (Ok(digest), Ok(size), Ok(usage)));
}

/// Stages `chain`, in parts of seven transactions, but for the last one, and accepts that.
fn write_staged(store: &mut KeyStore, chain: &[Transaction]) {
    let (last, staged) = chain.split_last().unwrap();
    for part in staged.chunks(7) {
        let first_height = chain[0].height;
        store.write(vec![Write::Stage { slot: SLOT, key: key(), first_height, transactions: part.to_vec() }]).unwrap();
    }
    let register = conformance::sample_register(chain, 1);
    store.write(vec![Write::Accept { slot: SLOT, key: key(), register, transactions: vec![last.clone()] }]).unwrap();
}

#[test]
fn an_interrupted_update_of_what_was_staged_is_repaired() {
    let chain = conformance::sample_chain(&key(), (0, Hash::ZERO), 60, 1);
    let other = conformance::sample_chain(&key(), (20, chain[19].hash()), 20, 2);
    for indexed in 0..4 {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open_unindexed(directory.path());
        write_staged(&mut store, &chain[..20]);
        if indexed > 0 {
            // A part of it is in the index already.
            drop(store);
            store = open_unindexed(directory.path());
        }
        if indexed > 1 {
            let transactions = other[..10].to_vec();
            store.write(vec![Write::Stage { slot: SLOT, key: key(), first_height: 21, transactions }]).unwrap();
        }
        if indexed > 2 {
            drop(store);
            store = open_unindexed(directory.path());
            assert_eq!(store.staged(SLOT, &key()), Ok(Some(21..31)));
            let transactions = other[10..].to_vec();
            store.write(vec![Write::Stage { slot: SLOT, key: key(), first_height: 21, transactions }]).unwrap();
        }
        write_staged(&mut store, &chain[20..]);
        let last = store.written();
        store.wait_durable(last).unwrap();
        let found = (store.digest(SLOT).unwrap(), store.size(SLOT).unwrap());
        {
            let (layers, tree) = (store.core.lock(), store.core.index.tree());
            let (indexed, _) = checkpoint(tree).unwrap().unwrap_or((Checkpoint::START, false));
            put_checkpoint(tree, indexed, true).unwrap();
            store.core.index.apply(&layers.active).unwrap();
        }
        store.crash();
        let store = open(directory.path()).unwrap();
        assert_chain(&store, &chain);
        assert_eq!(store.staged(SLOT, &key()), Ok(None));
        assert_eq!((store.digest(SLOT).unwrap(), store.size(SLOT).unwrap()), found, "{indexed}");
    }
}

/// Writes one value after the other under `name` in `namespace`.
fn write_values(store: &mut KeyStore, namespace: &str, name: &str, values: Vec<Value>) {
    let key = Key::in_namespace(namespace, name.as_bytes()).unwrap();
    let mut previous = Hash::ZERO;
    let chain = (1..).zip(values).map(|(height, value)| {
        let operation = Operation::Set(value);
        let sample = conformance::sample_chain(&key, (0, Hash::ZERO), 1, 1).remove(0);
        let one = Transaction { height, previous, operation, checkpoint: None, ..sample };
        previous = one.hash();
        one
    });
    let chain: Vec<_> = chain.collect();
    for length in 1..=chain.len() {
        let register = conformance::sample_register(&chain[..length], length as u64);
        let transactions = vec![chain[length - 1].clone()];
        store.write(vec![Write::Accept { slot: SLOT, key: key.clone(), register, transactions }]).unwrap();
    }
}

fn inode(size: u64) -> Value {
    let hash = Hash::of(b"block");
    let inode = Inode::file(size, Content::Block(hash), hash, 0, 0, None).unwrap();
    Value::new(ValueKind::Inode, inode.encode().unwrap())
}

#[test]
fn what_namespaces_come_to_is_counted_and_survives() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    write_values(&mut store, "", "plain", vec![Value::inline("long before"), Value::inline("short")]);
    write_values(&mut store, "n", "blocks", vec![inode(1 << 19)]);
    let state = Value::new(ValueKind::State, vec![1; 1000]);
    let operation = Value::new(ValueKind::Operation, vec![1; 10]);
    write_values(&mut store, "n", "list", vec![state, operation.clone(), operation]);
    let expected = BTreeMap::from([
        ("".to_owned(), Usage { keys: 1, bytes: 5 + 5 }),
        ("n".to_owned(), Usage { keys: 2, bytes: 6 + (1 << 19) + 4 + 1020 }),
    ]);
    assert_eq!(store.usage(SLOT), Ok(expected.clone()));
    drop(store);
    let mut store = open(directory.path()).unwrap();
    assert_eq!(store.usage(SLOT), Ok(expected.clone()));
    let key = Key::in_namespace("n", b"blocks").unwrap();
    store.write(vec![Write::Drop { slot: SLOT, key }]).unwrap();
    assert_eq!(store.usage(SLOT).unwrap()["n"], Usage { keys: 1, bytes: 4 + 1020 });
    store.write(vec![Write::ClearSlot(SLOT)]).unwrap();
    assert_eq!(store.usage(SLOT), Ok(BTreeMap::new()));
    drop(store);
    assert_eq!(open(directory.path()).unwrap().usage(SLOT), Ok(BTreeMap::new()));
}

/// Directories of before namespaces were counted say nothing of them.
#[test]
fn what_nobody_counted_is_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    write_values(&mut store, "", "plain", vec![Value::inline("value")]);
    write_values(&mut store, "n", "blocks", vec![inode(1 << 19)]);
    let usage = store.usage(SLOT).unwrap();
    drop(store);
    let store = open(directory.path()).unwrap();
    store.core.index.forget_usage();
    assert_eq!(store.usage(SLOT), Ok(BTreeMap::new()));
    store.crash();
    assert_eq!(open(directory.path()).unwrap().usage(SLOT), Ok(usage));
}

#[test]
fn a_torn_tail_is_cut_off() {
    // What is missing of the last record; whether the room that was made for more is there behind it.
    for (torn, has_room) in [(1, false), (20, false), (60, false), (1, true), (60, true), (300, true)] {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open_unindexed(directory.path());
        let mut chain = write_chain(&mut store, 8);
        let end = u64::from(store.core.log.end().end.offset);
        store.crash();
        let last = segments(directory.path()).pop().unwrap();
        let file = OpenOptions::new().write(true).open(last).unwrap();
        assert!(file.metadata().unwrap().len() > end, "there is room");
        if has_room {
            file.write_all_at(&vec![0; torn], end - torn as u64).unwrap();
        } else {
            file.set_len(end - torn as u64).unwrap();
        }
        drop(file);
        let mut store = open(directory.path()).unwrap();
        chain.truncate(7);
        assert_chain(&store, &chain);
        let (transaction, write) = extend(&key(), chain.last());
        chain.push(transaction);
        assert_eq!(store.write(vec![write]), Ok(WriteSequence(8)));
        drop(store);
        assert_chain(&open(directory.path()).unwrap(), &chain);
    }
}

/// A file that was full, and still has its room when the next one is written, is read on behind it.
#[test]
fn room_at_the_end_of_any_file_is_no_damage() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_unindexed(directory.path());
    let chain = write_chain(&mut store, 200);
    store.crash();
    let files = segments(directory.path());
    assert!(files.len() > 2);
    for file in &files {
        let file = OpenOptions::new().write(true).open(file).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length + 5000).unwrap();
    }
    let store = open_unindexed(directory.path());
    assert_chain(&store, &chain);
    store.crash();
    flip_bit(&files[0], fs::metadata(&files[0]).unwrap().len() - 1);
    assert!(matches!(open(directory.path()), Err(OpenError::Corrupt { .. })), "but what lies behind it is");
}

#[test]
fn damage_in_the_middle_is_an_error_that_names_the_place() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_unindexed(directory.path());
    write_chain(&mut store, 8);
    store.crash();
    let file = segments(directory.path()).pop().unwrap();
    flip_bit(&file, 24 + 100);
    match open(directory.path()) {
        Err(OpenError::Corrupt { path, offset, .. }) => assert_eq!((path, offset), (file.clone(), 24)),
        other => panic!("expected damage to be found, got {other:?}"),
    }
    flip_bit(&file, 24 + 100);
    assert!(open(directory.path()).is_ok());
}

#[test]
fn damage_of_an_indexed_body_is_found_when_it_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    let chain = write_chain(&mut store, 1);
    drop(store);
    flip_bit(&segments(directory.path())[0], 24 + 250);
    let store = open(directory.path()).unwrap();
    assert_eq!(store.register(SLOT, &key()).unwrap().unwrap().head.hash, chain[0].hash());
    assert!(matches!(store.transaction(SLOT, &key(), 1), Err(StoreError::Corrupt(_))));
}

/// At any place of a chain: told with the head, listed, or the head itself.
#[test]
fn what_is_damaged_is_written_again() {
    for height in [1, 20, 28, 30] {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open_uncleaned(directory.path());
        let chain = write_chain(&mut store, 30);
        drop(store);
        let mut store = open_uncleaned(directory.path());
        let location = store.core.index.location(SLOT, &key(), height).unwrap().unwrap();
        flip_bit(&store.core.files.path(location.at.segment), u64::from(location.at.offset) + 20);
        assert!(matches!(store.transaction(SLOT, &key(), height), Err(StoreError::Corrupt(_))));
        let (digest, size, usage) = (store.digest(SLOT), store.size(SLOT), store.usage(SLOT));
        let transactions = vec![chain[height as usize - 1].clone()];
        store.write(vec![Write::Repair { slot: SLOT, key: key(), transactions }]).unwrap();
        assert_chain(&store, &chain);
        drop(store);
        let store = open_uncleaned(directory.path());
        assert_chain(&store, &chain);
        assert_eq!((store.digest(SLOT), store.size(SLOT), store.usage(SLOT)), (digest, size, usage));
    }
}

#[test]
fn batches_that_wait_share_a_flush() {
    const BATCHES: u64 = 2000;
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_unindexed(directory.path());
    for _ in 0..BATCHES {
        store.write(vec![Write::Meta("name".to_string(), Some(vec![1]))]).unwrap();
    }
    store.wait_durable(WriteSequence(BATCHES)).unwrap();
    let statistics = store.statistics();
    assert_eq!(statistics.records_written, BATCHES);
    assert!(statistics.flushes < BATCHES, "{statistics:?}");
}

#[test]
fn a_directory_is_opened_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path()).unwrap();
    assert!(matches!(open(directory.path()), Err(OpenError::InUse { .. })));
    drop(store);
    open(directory.path()).unwrap();
}

#[test]
fn nothing_is_written_after_a_failed_write() {
    const EIO: i32 = 5;
    let directory = tempfile::tempdir().unwrap();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let seen = reports.clone();
    let on_durable = Box::new(move |report| seen.lock().unwrap().push(report));
    let mut store = Storage::open(directory.path(), &small(), on_durable).unwrap().keys;
    let chain = write_chain(&mut store, 2);
    store.core.log.inject(EIO);
    let (_, write) = extend(&key(), chain.last());
    let sequence = store.write(vec![write.clone()]).unwrap();
    assert!(matches!(store.wait_durable(sequence), Err(StoreError::Failed(_))));
    for _ in 0..2 {
        assert!(matches!(store.write(vec![write.clone()]), Err(StoreError::Failed(_))));
    }
    assert_eq!(store.transaction(SLOT, &key(), 1), Ok(Some(chain[0].clone())), "reads go on");
    drop(store);
    let reports = reports.lock().unwrap();
    assert_eq!(reports[..2], [Ok(WriteSequence(1)), Ok(WriteSequence(2))]);
    assert!(reports.len() == 3 && matches!(reports[2], Err(StoreError::Failed(_))), "{reports:?}");
    assert_chain(&open(directory.path()).unwrap(), &chain);
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    const ENOSPC: i32 = 28;
    let directory = tempfile::tempdir().unwrap();
    let reports = Arc::new(Mutex::new(Vec::new()));
    let seen = reports.clone();
    let on_durable = Box::new(move |report| seen.lock().unwrap().push(report));
    let mut store = Storage::open(directory.path(), &small(), on_durable).unwrap().keys;
    let mut chain = write_chain(&mut store, 2);
    store.core.log.inject(ENOSPC);
    let (transaction, write) = extend(&key(), chain.last());
    chain.push(transaction);
    let sequence = store.write(vec![write]).unwrap();
    assert!(matches!(store.wait_durable(sequence), Err(StoreError::Full(_))));
    assert_chain(&store, &chain);
    store.core.log.wait_durable_through_full(sequence.0).unwrap();
    let next = extend(&key(), chain.last());
    chain.push(next.0);
    store.write(vec![next.1]).unwrap();
    drop(store);
    let reports = reports.lock().unwrap();
    assert!(matches!(reports[2], Err(StoreError::Full(_))), "{reports:?}");
    assert_eq!(reports[3..], [Ok(WriteSequence(3)), Ok(WriteSequence(4))]);
    assert_chain(&open(directory.path()).unwrap(), &chain);
}

#[test]
fn the_reserve_is_kept_free() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options { reserve_bytes: u64::MAX, ..small() };
    let mut store = Storage::open(directory.path(), &options, Box::new(|_| {})).unwrap().keys;
    assert!(matches!(store.check_room(), Err(StoreError::Full(_))));
    assert!(store.is_short_of_room());
    assert!(store.write(vec![Write::ClearSlot(SLOT)]).is_ok(), "what is no transaction is taken");
    assert_eq!(store.slots(), Ok(Vec::new()));
}

const CHILD_DIRECTORY: &str = "DIFUSE_STORAGE_TEST_CHILD";

/// Not a test of its own: what the test below runs in another process. It writes until it is killed and prints every
/// sequence that is durable.
#[test]
fn child_that_writes_until_it_is_killed() {
    let Some(path) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let mut store =
        Storage::open(Path::new(&path), &small(), Box::new(|report| println!("durable {}", report.unwrap().0)))
            .unwrap()
            .keys;
    let height = store.register(SLOT, &key()).unwrap().map_or(0, |register| register.head.height);
    let mut last = (height > 0).then(|| store.transaction(SLOT, &key(), height).unwrap().unwrap());
    loop {
        let (transaction, write) = extend(&key(), last.as_ref());
        last = Some(transaction);
        store.write(vec![write]).unwrap();
    }
}

#[test]
fn what_was_durable_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut durable = 0;
    for round in 1..=3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keys::tests::child_that_writes_until_it_is_killed", "--nocapture"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut killed = false;
        for line in lines.map_while(Result::ok) {
            if let Some(sequence) = line.split("durable ").nth(1).and_then(|text| text.trim().parse::<u64>().ok()) {
                durable = durable.max(sequence);
            }
            if durable >= 700 * round && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "round {round}: the child ended by itself");
        let store = open(directory.path()).unwrap();
        let head = store.register(SLOT, &key()).unwrap().unwrap().head;
        assert!(head.height >= durable, "round {round}: {durable} was durable, {} is there", head.height);
        let chain: Vec<_> =
            (1..=head.height).map(|height| store.transaction(SLOT, &key(), height).unwrap().unwrap()).collect();
        let hash = difuse_keylog::verify_chain(&key(), (0, Hash::ZERO), &chain);
        assert_eq!(hash, Ok(head.hash), "round {round}");
        assert_eq!(store.size(SLOT).unwrap().keys, 1);
        let expected = store.register(SLOT, &key()).unwrap();
        let digest = difuse_keylog::SlotDigest::default().replace(&key(), None, expected.as_ref());
        assert_eq!(store.digest(SLOT), Ok(digest), "round {round}");
        durable = head.height;
    }
}

/// A key of which only the last transactions are kept, among keys that are written once.
struct HotAndCold {
    hot: Vec<Transaction>,
    cold: Vec<Transaction>,
}

impl HotAndCold {
    const KEPT: u64 = 3;

    fn write(store: &mut KeyStore) -> Self {
        let mut written = Self { hot: Vec::new(), cold: Vec::new() };
        for number in 0..40 {
            let key = Key::new(format!("cold {number}").as_bytes()).unwrap();
            let (transaction, write) = extend(&key, None);
            written.cold.push(transaction);
            store.write(vec![write]).unwrap();
            for _ in 0..30 {
                written.overwrite(store);
            }
            store.wait_durable(store.written()).unwrap();
        }
        written
    }

    fn overwrite(&mut self, store: &mut KeyStore) {
        let (transaction, write) = extend(&key(), self.hot.last());
        let Write::Accept { slot, key, register, transactions } = write else { unreachable!() };
        let base = (transaction.height + 1).saturating_sub(Self::KEPT).max(1);
        let register = Register { base, ..register };
        self.hot.push(transaction);
        store.write(vec![Write::Accept { slot, key, register, transactions }]).unwrap();
    }

    fn check(&self, store: &KeyStore) {
        for transaction in &self.cold {
            assert_eq!(store.transaction(SLOT, &transaction.key, 1).as_ref(), Ok(&Some(transaction.clone())));
        }
        let (gone, kept) = self.hot.split_at(self.hot.len() - Self::KEPT as usize);
        for transaction in kept {
            assert_eq!(store.transaction(SLOT, &key(), transaction.height).as_ref(), Ok(&Some(transaction.clone())));
        }
        assert_eq!(store.transaction(SLOT, &key(), gone.len() as u64), Ok(None));
        assert_eq!(store.size(SLOT).unwrap().keys, 41);
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn log_bytes(path: &Path) -> u64 {
    segments(path).iter().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

#[test]
fn files_in_which_little_is_live_are_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    let written = HotAndCold::write(&mut store);
    assert!(store.statistics().bytes_written > 400_000, "{:?}", store.statistics());
    wait_until("the log stays long", || log_bytes(directory.path()) < 150_000);
    written.check(&store);
    for crash in [true, false] {
        if crash {
            store.crash();
        } else {
            drop(store);
        }
        store = open(directory.path()).unwrap();
        written.check(&store);
    }
}

#[test]
fn the_space_of_dropped_keys_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path()).unwrap();
    let keys: Vec<Key> = (0..600).map(|number| Key::new(format!("key-{number}").as_bytes()).unwrap()).collect();
    for key in &keys {
        let chain = conformance::sample_chain(key, (0, Hash::ZERO), 4, 1);
        let register = conformance::sample_register(&chain, 1);
        let write = Write::Accept { slot: SLOT, key: key.clone(), register, transactions: chain };
        let sequence = store.write(vec![write]).unwrap();
        store.wait_durable(sequence).unwrap();
    }
    let full = log_bytes(directory.path());
    assert!(full > 300_000, "{full}");
    for part in keys[1..].chunks(50) {
        let drops = part.iter().map(|key| Write::Drop { slot: SLOT, key: key.clone() }).collect();
        store.write(drops).unwrap();
    }
    wait_until("the log stays long", || log_bytes(directory.path()) < 120_000);
    for crash in [false, true] {
        let size = store.size(SLOT).unwrap();
        assert_eq!((size.keys, size.tombstones), (1, 1));
        assert!(size.bytes < 2000, "{size:?}");
        assert_eq!(store.register(SLOT, &keys[1]), Ok(None));
        assert!(store.transaction(SLOT, &keys[0], 4).unwrap().is_some());
        if crash {
            store.crash();
        } else {
            drop(store);
        }
        store = open(directory.path()).unwrap();
    }
}

/// As [`small`], but cleaned by hand only.
fn uncleaned() -> Options {
    Options { clean_every: Duration::from_secs(3600), ..small() }
}

fn open_uncleaned(path: &Path) -> KeyStore {
    Storage::open(path, &uncleaned(), Box::new(|_| {})).unwrap().keys
}

fn cleaning(store: &KeyStore) -> Cleaning {
    let segment_bytes = small().key_segment_bytes;
    Cleaning::new(store.core.clone(), Policy { live_percent_min: 90, segment_bytes, every: Duration::ZERO })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CrashAfter {
    /// The copies were made, and may not be on the disk.
    Copy,
    /// The copies are on the disk, and the index does not know of them.
    Durable,
    /// The index knows of them, and the file is still there.
    Indexed,
}

#[test]
fn a_crash_between_the_steps_of_cleaning_loses_nothing() {
    for step in [CrashAfter::Copy, CrashAfter::Durable, CrashAfter::Indexed] {
        let directory = tempfile::tempdir().unwrap();
        let mut store = open_uncleaned(directory.path());
        let written = HotAndCold::write(&mut store);
        drop(store);
        for _ in 0..3 {
            let store = open_uncleaned(directory.path());
            let by_hand = cleaning(&store);
            let victim = by_hand.victim().unwrap().expect("there is something to clean");
            let last_copy = by_hand.copy_live(victim).unwrap().expect("it goes on to the end");
            if step != CrashAfter::Copy {
                store.core.log.wait_durable(last_copy).unwrap();
            }
            if step == CrashAfter::Indexed {
                assert_eq!(store.core.wait_indexed(last_copy, || false), Ok(true));
                assert_eq!(store.core.index.live_bytes(victim.segment), Ok(0));
            }
            drop(by_hand);
            store.crash();
            written.check(&open_uncleaned(directory.path()));
        }
        let store = open_uncleaned(directory.path());
        let mut by_hand = cleaning(&store);
        while by_hand.clean_next() {}
        drop(by_hand);
        assert!(log_bytes(directory.path()) < 150_000, "{step:?}");
        written.check(&store);
        drop(store);
        written.check(&open_uncleaned(directory.path()));
    }
}

#[test]
fn what_is_staged_is_kept_when_its_file_is_cleaned() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_uncleaned(directory.path());
    let chain = conformance::sample_chain(&key(), (0, Hash::ZERO), 60, 1);
    let (other, mut salt) = (Key::new(b"other").unwrap(), 0);
    for part in chain[..59].chunks(2) {
        store
            .write(vec![Write::Stage { slot: SLOT, key: key(), first_height: 1, transactions: part.to_vec() }])
            .unwrap();
        for _ in 0..2 {
            salt += 1;
            let transactions = conformance::sample_chain(&other, (0, Hash::ZERO), 20, salt);
            let register = conformance::sample_register(&transactions, u64::from(salt));
            store.write(vec![Write::Accept { slot: SLOT, key: other.clone(), register, transactions }]).unwrap();
        }
    }
    let first = segments(directory.path())[0].clone();
    drop(store);
    let mut store = open_uncleaned(directory.path());
    let mut by_hand = cleaning(&store);
    while by_hand.clean_next() {}
    drop(by_hand);
    assert!(!first.exists(), "it was cleaned");
    let register = conformance::sample_register(&chain, 1);
    store.write(vec![Write::Accept { slot: SLOT, key: key(), register, transactions: chain[59..].to_vec() }]).unwrap();
    assert_chain(&store, &chain);
}

#[test]
fn a_damaged_file_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open_uncleaned(directory.path());
    HotAndCold::write(&mut store);
    drop(store);
    let store = open_uncleaned(directory.path());
    let mut by_hand = cleaning(&store);
    let victim = by_hand.victim().unwrap().expect("there is something to clean");
    let file = store.core.files.path(victim.segment);
    flip_bit(&file, 24 + 100);
    assert!(by_hand.clean_next());
    assert!(file.exists(), "what cannot be read may still be needed");
    assert_ne!(by_hand.victim().unwrap(), Some(victim));
}

/// Files can be written to after they were deleted: what is acknowledged then would be gone at the next start.
#[test]
fn a_directory_that_vanishes_ends_writing() {
    for is_blocks in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let (reports, reported) = std::sync::mpsc::channel();
        let on_durable = Box::new(move |report| drop(reports.send(report)));
        let mut storage = Storage::open(directory.path(), &small(), on_durable).unwrap();
        write_chain(&mut storage.keys, 1);
        let (hash, bytes) = (Hash::of(b"block"), Bytes::from_static(b"block"));
        storage.blocks.put(SLOT, hash, bytes, 1, false).unwrap();
        let part = if is_blocks { "blocks" } else { "keys" };
        std::fs::remove_dir_all(directory.path().join(part)).unwrap();
        // Nobody writes anything any more.
        let failure = reported.iter().find_map(Result::err);
        let Some(StoreError::Failed(reason)) = failure else { panic!("{failure:?}") };
        assert!(reason.contains(part) && reason.contains("deleted"), "{reason}");
        let written = storage.keys.write(vec![Write::ClearSlot(SLOT)]);
        assert!(is_blocks || matches!(written, Err(StoreError::Failed(_))));
    }
}
