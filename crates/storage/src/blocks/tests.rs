use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use bytes::Bytes;
use difuse_blocks::{BlockRecord, DeleteDecision, PutDecision};
use difuse_keylog::StoreError;
use difuse_types::{Hash, SlotId};

use super::{BlockStore, BlockTotals, record::record_digest};
use crate::{
    OpenError, Options, Storage,
    index::{Index, put_checkpoint},
    log::Checkpoint,
};

const SLOT: SlotId = SlotId(3);
const OTHER: SlotId = SlotId(4);

fn small() -> Options {
    Options {
        reserve_bytes: 0,
        block_segment_bytes: 256 << 10,
        index_cache_bytes: 4 << 20,
        index_after: Duration::from_millis(20),
        index_after_bytes: 4 << 10,
        ..Options::default()
    }
}

fn unindexed() -> Options {
    Options { index_after_bytes: usize::MAX, index_after: Duration::from_secs(3600), ..small() }
}

fn open_with(path: &Path, options: &Options) -> BlockStore {
    Storage::open(path, options, Box::new(|_| {})).unwrap().blocks
}

fn open(path: &Path) -> BlockStore {
    open_with(path, &small())
}

/// A block of about 30 KiB.
fn block(seed: u64) -> (Hash, Bytes) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; 30_000 + random.usize(..5000)];
    random.fill(&mut bytes);
    (Hash::of(&bytes), bytes.into())
}

fn put(store: &BlockStore, slot: SlotId, seed: u64) -> (Hash, Bytes) {
    let (hash, bytes) = block(seed);
    let decision = store.put(slot, hash, bytes.clone(), 2, true).unwrap();
    assert!(matches!(decision, PutDecision::Store), "{decision:?}");
    (hash, bytes)
}

fn assert_holds(store: &BlockStore, slot: SlotId, blocks: &BTreeMap<Hash, Bytes>) {
    for (hash, bytes) in blocks {
        assert_eq!(store.read(hash).unwrap().map(|(_, content)| content).as_ref(), Some(bytes));
    }
    let listed = store.list(slot, None, usize::MAX).unwrap();
    assert_eq!(listed.iter().map(|(hash, _)| hash).collect::<Vec<_>>(), blocks.keys().collect::<Vec<_>>());
    let digest = listed.iter().fold(0u128, |sum, (hash, record)| sum.wrapping_add(record_digest(hash, record)));
    assert_eq!(store.digest(slot), Ok(digest));
}

fn totals<'a>(blocks: impl Iterator<Item = &'a Bytes>) -> BlockTotals {
    blocks.fold(BlockTotals::default(), |sum, block| BlockTotals {
        blocks: sum.blocks + 1,
        bytes: sum.bytes + block.len() as u64,
    })
}

fn segments(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path.join("blocks")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn blocks_are_there_at_once_and_after_any_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = open(directory.path());
    let mut blocks = BTreeMap::new();
    for round in 0..6 {
        for seed in 0..10 {
            blocks.extend([put(&store, SLOT, round * 100 + seed)]);
        }
        assert_holds(&store, SLOT, &blocks);
        assert_eq!(store.totals(), Ok(totals(blocks.values())));
        if round % 2 == 0 {
            store.crash()
        } else {
            drop(store)
        }
        let options = if round % 3 == 0 { unindexed() } else { small() };
        store = open_with(directory.path(), &options);
        assert_holds(&store, SLOT, &blocks);
        assert_eq!(store.totals(), Ok(totals(blocks.values())));
    }
    assert!(segments(directory.path()).len() > 3);
    assert_eq!(store.read(&Hash::of(b"never stored")), Ok(None));
    assert_eq!(store.stat(&Hash::of(b"never stored")), Ok(None));
}

#[test]
fn a_block_is_stored_once() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (hash, bytes) = put(&store, SLOT, 1);
    let written = store.statistics().bytes_written;
    assert_eq!(store.put(SLOT, hash, bytes.clone(), 2, true), Ok(PutDecision::AlreadyThere));
    assert_eq!(store.statistics().bytes_written, written);
    assert_eq!(store.put(SLOT, hash, bytes.clone(), 6, false), Ok(PutDecision::AlreadyThere));
    assert_eq!(store.put(SLOT, hash, bytes.clone(), 7, true), Ok(PutDecision::AlreadyThere));
    assert!(store.statistics().bytes_written < written + 1000, "new records, not the content again");
    assert_eq!(store.totals(), Ok(totals([&bytes].into_iter())));
    let record = BlockRecord { version: 7, present: true, referenced: true, lost: false, length: bytes.len() as u32 };
    assert_eq!(store.stat(&hash), Ok(Some(record)), "it gained a reference");
    store.crash();
    let store = open(directory.path());
    assert_eq!(store.read(&hash), Ok(Some((record, bytes))));
}

#[test]
fn a_tombstone_outlives_restarts_and_yields_to_newer_blocks() {
    let directory = tempfile::tempdir().unwrap();
    for crash in [false, true] {
        let store = open(directory.path());
        let (hash, bytes) = put(&store, SLOT, 100 + u64::from(crash));
        let kept = put(&store, SLOT, 200 + u64::from(crash));
        assert!(matches!(store.delete(SLOT, hash, 5), Ok(DeleteDecision::Delete)));
        assert_eq!(store.read(&hash), Ok(None));
        if crash {
            store.crash()
        } else {
            drop(store)
        }
        let store = open(directory.path());
        assert_eq!(store.read(&hash), Ok(None));
        assert_eq!(
            store.stat(&hash),
            Ok(Some(BlockRecord { version: 5, present: false, referenced: false, lost: false, length: 0 }))
        );
        assert_eq!(store.put(SLOT, hash, bytes.clone(), 4, true), Ok(PutDecision::Superseded { version: 5 }));
        assert!(matches!(store.put(SLOT, hash, bytes.clone(), 8, true), Ok(PutDecision::Store)));
        for (hash, bytes) in [(hash, bytes), kept] {
            assert_eq!(store.read(&hash).unwrap().map(|(_, content)| content), Some(bytes));
        }
    }
}

#[test]
fn listing_is_by_hash_within_a_slot() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut blocks = BTreeMap::new();
    for seed in 0..40 {
        blocks.extend([put(&store, SLOT, seed)]);
        put(&store, OTHER, 1000 + seed);
    }
    let hashes: Vec<_> = blocks.keys().copied().collect();
    let mut listed = Vec::new();
    loop {
        let page = store.list(SLOT, listed.last().copied(), 7).unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 7);
        listed.extend(page.into_iter().map(|(hash, _)| hash));
    }
    assert_eq!(listed, hashes);
    assert_eq!(store.list(SLOT, None, 0), Ok(Vec::new()));
}

#[test]
fn a_cleared_slot_stays_clear() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let gone: Vec<_> = (0..10).map(|seed| put(&store, SLOT, seed)).collect();
    let others: BTreeMap<_, _> = (20..25).map(|seed| put(&store, OTHER, seed)).collect();
    drop(store);
    let store = open(directory.path());
    store.clear_slot(SLOT).unwrap();
    let again: BTreeMap<_, _> = [put(&store, SLOT, 3)].into();
    let mut store = store;
    for crash in [true, false, true] {
        if crash {
            store.crash()
        } else {
            drop(store)
        }
        store = open(directory.path());
        assert_holds(&store, SLOT, &again);
        assert_holds(&store, OTHER, &others);
        assert_eq!(store.stat(&gone[0].0), Ok(None));
        assert_eq!(store.totals(), Ok(totals(again.values().chain(others.values()))));
    }
}

#[test]
fn the_space_of_deleted_blocks_is_freed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let blocks: Vec<_> = (0..40).map(|seed| put(&store, SLOT, seed)).collect();
    let on_disk =
        || -> u64 { segments(directory.path()).iter().map(|path| fs::metadata(path).unwrap().blocks() * 512).sum() };
    let is_at_most = |most: u64| {
        (0..3000).any(|_| {
            on_disk() <= most || {
                thread::sleep(Duration::from_millis(10));
                false
            }
        })
    };
    let before = on_disk();
    // Of a block of 30,000 bytes at least these are whole pages, wherever it begins.
    let freed = |blocks: u64| blocks * 6 * 4096;
    for (hash, _) in blocks.iter().step_by(4) {
        store.delete(SLOT, *hash, 5).unwrap();
    }
    assert!(is_at_most(before - freed(10)), "{before} bytes before, {} after", on_disk());
    for (hash, _) in blocks.iter().skip(2).step_by(4) {
        store.delete(SLOT, *hash, 5).unwrap();
    }
    // The store does not stay open for it.
    drop(store);
    let store = open(directory.path());
    assert!(is_at_most(before - freed(20)), "{before} bytes before, {} after", on_disk());
    for (index, (hash, bytes)) in blocks.iter().enumerate() {
        let expected = (index % 2 == 1).then_some(bytes);
        assert_eq!(store.read(hash).unwrap().map(|(_, content)| content).as_ref(), expected);
    }
}

#[test]
fn damaged_content_is_lost_not_an_answer_until_it_is_stored_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (hash, bytes) = put(&store, SLOT, 1);
    let intact = store.digest(SLOT);
    drop(store);
    let file = OpenOptions::new().write(true).open(&segments(directory.path())[0]).unwrap();
    file.write_all_at(b"damage", 20_000).unwrap();
    let store = open(directory.path());
    assert_eq!(store.stat(&hash).unwrap().map(|record| record.lost), Some(false), "nobody has looked yet");
    assert_eq!(store.read(&hash), Ok(None));
    is_lost_until_stored_again(store, directory.path(), hash, bytes, intact);
}

/// A segment that is deleted under the store: what it held is lost, and comes back with the next put.
#[test]
fn a_deleted_segment_is_lost_not_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let (hash, bytes) = put(&store, SLOT, 1);
    let intact = store.digest(SLOT);
    assert!(store.read(&hash).unwrap().is_some());
    drop(store);
    let store = open(directory.path());
    // Another segment is being written by now.
    (2..40).for_each(|seed| drop(put(&store, OTHER, seed)));
    assert!(store.read(&hash).unwrap().is_some(), "the file is open");
    std::fs::remove_file(&segments(directory.path())[0]).unwrap();
    assert!(store.read(&hash).unwrap().is_some(), "nobody has looked");
    assert_eq!(store.verify(&hash).map(|record| record.map(|record| record.lost)), Ok(Some(true)));
    assert_eq!(store.read(&hash), Ok(None));
    is_lost_until_stored_again(store, directory.path(), hash, bytes, intact);
}

fn is_lost_until_stored_again(
    store: BlockStore,
    directory: &Path,
    hash: Hash,
    bytes: Bytes,
    intact: Result<u128, StoreError>,
) {
    let lost = store.stat(&hash).unwrap().unwrap();
    assert!(lost.present && lost.lost, "{lost:?}");
    assert_ne!(store.digest(SLOT), intact, "other members must see that something is wrong");
    drop(store);
    let store = open(directory);
    assert_eq!(store.stat(&hash), Ok(Some(lost)));
    assert_eq!(store.put(SLOT, hash, bytes.clone(), lost.version, lost.referenced), Ok(PutDecision::Store));
    assert_eq!(store.read(&hash), Ok(Some((BlockRecord { lost: false, ..lost }, bytes))));
    assert_eq!(store.digest(SLOT), intact);
}

#[test]
fn an_interrupted_update_of_the_index_is_repaired() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), &unindexed());
    let blocks: BTreeMap<_, _> = (0..20).map(|seed| put(&store, SLOT, seed)).collect();
    let deleted = *blocks.keys().next().unwrap();
    store.delete(SLOT, deleted, 5).unwrap();
    let again = blocks[&deleted].clone();
    store.put(SLOT, deleted, again, 8, true).unwrap();
    {
        let layers = store.core().lock();
        put_checkpoint(store.core().index.tree(), Checkpoint::START, true).unwrap();
        store.core().index.apply(&layers.active).unwrap();
    }
    store.crash();
    let store = open(directory.path());
    assert_holds(&store, SLOT, &blocks);
    assert_eq!(store.totals(), Ok(totals(blocks.values())));
}

#[test]
fn many_threads_write_at_once() {
    const WRITERS: u64 = 32;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = store.clone();
            scope.spawn(move || (0..4).for_each(|index| drop(put(&store, SLOT, writer * 1000 + index))));
        }
    });
    assert_eq!(store.statistics().records_written, WRITERS * 4);
    store.crash();
    let store = open(directory.path());
    let blocks = (0..WRITERS).flat_map(|writer| (0..4).map(move |index| block(writer * 1000 + index))).collect();
    assert_holds(&store, SLOT, &blocks);
}

#[test]
fn a_full_disk_refuses_and_a_broken_one_ends_writing() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let kept = put(&store, SLOT, 1);
    let (hash, bytes) = block(2);
    store.core().log.inject(ENOSPC);
    assert!(matches!(store.put(SLOT, hash, bytes.clone(), 2, true), Err(StoreError::Full(_))));
    assert_eq!(store.read(&kept.0).unwrap().map(|(_, content)| content), Some(kept.1.clone()));
    store.core().log.wait_durable_through_full(2).unwrap();
    assert_eq!(store.put(SLOT, hash, bytes, 2, true), Ok(PutDecision::AlreadyThere));
    store.core().log.inject(EIO);
    let (hash, bytes) = block(3);
    for _ in 0..2 {
        assert!(matches!(store.put(SLOT, hash, bytes.clone(), 2, true), Err(StoreError::Failed(_))));
    }
    assert_eq!(store.read(&kept.0).unwrap().map(|(_, content)| content), Some(kept.1));
    drop(store);
    assert_eq!(open(directory.path()).read(&hash), Ok(None));
}

#[test]
fn a_damaged_record_in_the_middle_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_with(directory.path(), &unindexed());
    (0..20).for_each(|seed| drop(put(&store, SLOT, seed)));
    store.crash();
    let first = &segments(directory.path())[0];
    OpenOptions::new().write(true).open(first).unwrap().write_all_at(b"damage", 20_000).unwrap();
    match Storage::open(directory.path(), &small(), Box::new(|_| {})) {
        Err(OpenError::Corrupt { path, offset, .. }) => assert_eq!((&path, offset), (first, 24)),
        other => panic!("expected damage to be found, got {other:?}"),
    }
}
