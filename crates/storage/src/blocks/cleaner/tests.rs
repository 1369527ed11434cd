use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt, path::Path, time::Duration};

use bytes::Bytes;
use difuse_types::{Hash, SlotId};

use super::Cleaning;
use crate::{BlockStore, Options, Storage};

const SLOT: SlotId = SlotId(3);
const SEGMENT_BYTES: u32 = 256 << 10;

/// Nothing is cleaned but by hand.
fn open(path: &Path) -> BlockStore {
    let options = Options {
        reserve_bytes: 0,
        block_segment_bytes: SEGMENT_BYTES,
        index_after: Duration::from_millis(5),
        clean_every: Duration::from_secs(3600),
        ..Options::default()
    };
    Storage::open(path, &options, Box::new(|_| {})).unwrap().blocks
}

type Blocks = BTreeMap<Hash, Bytes>;

fn put(store: &BlockStore, count: u64, length: usize) -> Blocks {
    let block = |seed: u64| {
        let mut bytes = vec![0; length];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        let (hash, bytes) = (Hash::of(&bytes), Bytes::from(bytes));
        store.put(SLOT, hash, bytes.clone(), 1, true).unwrap();
        (hash, bytes)
    };
    (0..count).map(block).collect()
}

/// Deletes all blocks but every fifth.
fn thin_out(store: &BlockStore, blocks: &mut Blocks) {
    let gone: Vec<Hash> =
        blocks.keys().enumerate().filter(|(index, _)| index % 5 != 0).map(|(_, hash)| *hash).collect();
    for hash in gone {
        store.delete(SLOT, hash, 2).unwrap();
        blocks.remove(&hash);
    }
}

fn cleaning(store: &BlockStore) -> Cleaning {
    store.core().wait_indexed(store.core().log.end().sequence, || false).unwrap();
    Cleaning::new(store.core().clone(), SEGMENT_BYTES)
}

fn assert_holds(store: &BlockStore, blocks: &Blocks) {
    for (hash, bytes) in blocks {
        assert_eq!(store.read(hash).unwrap().map(|(_, content)| content).as_ref(), Some(bytes));
    }
    assert_eq!(store.totals().unwrap().blocks, blocks.len() as u64);
}

/// Files, and what they take.
fn on_disk(path: &Path) -> (usize, u64) {
    let files = fs::read_dir(path.join("blocks")).unwrap().map(|file| file.unwrap().metadata().unwrap());
    files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.blocks() * 512))
}

#[test]
fn files_in_which_nothing_is_live_are_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let gone = put(&store, 40, 30_000);
    assert!(on_disk(directory.path()).0 > 4);
    for hash in gone.keys() {
        store.delete(SLOT, *hash, 2).unwrap();
    }
    let written = store.statistics().bytes_written;
    assert!(!cleaning(&store).clean_next(), "all is cleaned at once");
    assert_eq!(store.statistics().bytes_written, written, "nothing is copied");
    assert_eq!(on_disk(directory.path()).0, 1, "the one that is being written");
    drop(store);
    let store = open(directory.path());
    assert_holds(&store, &put(&store, 40, 31_000));
}

/// Blocks that are not much larger than a page, or smaller: holes give back little of them.
#[test]
fn files_that_waste_space_are_copied_and_deleted() {
    for length in [1_500, 5_000] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let mut blocks = put(&store, 500, length);
        thin_out(&store, &mut blocks);
        let mut by_hand = cleaning(&store);
        let (_, before) = on_disk(directory.path());
        while by_hand.clean_next() {}
        assert_holds(&store, &blocks);
        let (_, after) = on_disk(directory.path());
        let live = (blocks.len() * (length + 83)) as u64;
        // The file being written is not looked at.
        assert!(
            after < live * 3 / 2 + u64::from(SEGMENT_BYTES),
            "{length}: {live} live, {before} before, {after} after"
        );
        assert!(after < before, "{length}: {before} before, {after} after");
        // What was being written may be worth cleaning now; then it comes to an end.
        let copied_anew = |_: &usize| {
            let written = store.statistics().bytes_written;
            cleaning(&store).clean_next();
            store.statistics().bytes_written > written
        };
        assert!((0..10).take_while(copied_anew).count() < 3, "{length}: what was copied is copied again");
        drop((by_hand, store));
        assert_holds(&open(directory.path()), &blocks);
    }
}

/// Copies are there twice until the file is deleted, and the index may know of the one or the other.
#[test]
fn a_crash_between_copying_and_deleting_loses_nothing() {
    for is_waited_for in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let mut blocks = put(&store, 400, 5_000);
        thin_out(&store, &mut blocks);
        drop(store);
        let store = open(directory.path());
        let by_hand = cleaning(&store);
        let live = by_hand.survey().unwrap().unwrap();
        let (victims, _) = by_hand.victims(&live).unwrap();
        let copied: u64 = victims.values().map(|live| live.blocks).sum();
        assert!(copied > 40);
        if is_waited_for {
            assert!(by_hand.copy(&victims).unwrap());
        } else {
            for (hash, location) in store.core().index.contents(None, usize::MAX).unwrap() {
                if let Some(location) = location {
                    store.core().move_content(&hash, location).unwrap();
                }
            }
        }
        assert_holds(&store, &blocks);
        drop(by_hand);
        store.crash();
        let store = open(directory.path());
        assert_holds(&store, &blocks);
        while cleaning(&store).clean_next() {}
        drop(store);
        assert_holds(&open(directory.path()), &blocks);
    }
}

/// Until enough was given up, nobody looks: that takes reading the whole index.
#[test]
fn nothing_is_looked_at_before_enough_was_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let mut blocks = put(&store, 40, 30_000);
    let mut by_hand = cleaning(&store);
    assert!(!by_hand.clean_next(), "the first look");
    let hash = *blocks.keys().next().unwrap();
    store.delete(SLOT, hash, 2).unwrap();
    blocks.remove(&hash);
    store.core().wait_indexed(store.core().log.end().sequence, || false).unwrap();
    assert_eq!(store.core().freed_bytes(), 30_000);
    by_hand.clean_next();
    assert_eq!(store.core().freed_bytes(), 30_000, "too little");
    thin_out(&store, &mut blocks);
    store.core().wait_indexed(store.core().log.end().sequence, || false).unwrap();
    by_hand.clean_next();
    assert_eq!(store.core().freed_bytes(), 0);
    assert_holds(&store, &blocks);
}
