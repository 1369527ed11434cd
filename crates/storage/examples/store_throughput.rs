//! Measures the store on this machine: durable small records, blocks, restart with many keys, memory.
//!
//! `cargo run --release -p difuse-storage --example store_throughput [DIRECTORY]`; the directory must be new or empty
//! (default: a temporary one). Takes about 4 GiB of disk and about a minute.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use difuse_keylog::{Ballot, Head, Operation, Register, Store, Term, Transaction, Value, Write};
use difuse_storage::{BlockStore, KeyStore, Options, Storage};
use difuse_types::{Hash, Key, NodeId, OperationId, Slots, WallTime};

const THREADS: usize = 64;
const KEYS_FOR: Duration = Duration::from_secs(5);
const MANY_KEYS: u64 = 1_000_000;
const MANY_KEYS_START: u64 = 1 << 60;
const BLOCK_BYTES: usize = 256 << 10;
const BLOCKS: u64 = 8192;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let temporary = tempfile::tempdir()?;
    let path = std::env::args_os().nth(1).map_or_else(|| temporary.path().to_path_buf(), PathBuf::from);
    let durable = Arc::new(Durable::default());
    let storage = open(&path, &durable)?;
    println!("idle: {} MiB resident", resident_mib());
    measure_blocks(&storage.blocks)?;
    println!("after blocks: {} MiB resident", resident_mib());
    let mut keys = storage.keys;
    for under_way in [64, 1024] {
        measure_keys(&mut keys, &durable, under_way)?;
    }
    drop((keys, storage.blocks));
    println!("after keys: {} MiB resident", resident_mib());
    measure_many_keys(&path, &durable)
}

/// The last batch that is known to be durable.
#[derive(Default)]
struct Durable {
    sequence: Mutex<u64>,
    changed: Condvar,
}

impl Durable {
    fn set(&self, sequence: u64) {
        *self.sequence.lock().unwrap_or_else(PoisonError::into_inner) = sequence;
        self.changed.notify_all();
    }

    fn wait_for(&self, sequence: u64) {
        let reached = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(reached, |reached| *reached < sequence);
        drop(waited);
    }
}

fn open(path: &Path, durable: &Arc<Durable>) -> Result<Storage, Failure> {
    let durable = durable.clone();
    let report = move |report| match report {
        Ok(difuse_keylog::WriteSequence(sequence)) => durable.set(sequence),
        Err(error) => {
            eprintln!("{error}");
            durable.set(u64::MAX);
        }
    };
    Ok(Storage::open(path, &Options::default(), Box::new(report))?)
}

/// One thread writes, as in a node, with a number of writes under way.
fn measure_keys(keys: &mut KeyStore, durable: &Durable, under_way: u64) -> Result<(), Failure> {
    let before = keys.statistics();
    let (first, started) = (keys.written().0 + 1, Instant::now());
    let mut last = first;
    while started.elapsed() < KEYS_FOR {
        last = keys.write(vec![accept((under_way << 40) + last)])?.0;
        durable.wait_for(last.saturating_sub(under_way));
    }
    durable.wait_for(last);
    let (elapsed, after) = (started.elapsed().as_secs_f64(), keys.statistics());
    let (count, flushes) = (last - first + 1, after.flushes - before.flushes);
    println!(
        "keys: {:.0} durable new keys of 100 B a second, {under_way} under way, {:.0} flushes a second",
        count as f64 / elapsed,
        flushes as f64 / elapsed
    );
    Ok(())
}

fn measure_blocks(blocks: &BlockStore) -> Result<(), Failure> {
    let slots = Slots::with_bits(10).ok_or("a valid number of slots")?;
    let content: Vec<(Hash, Bytes)> = (0..BLOCKS)
        .map(|index| {
            let mut bytes = vec![index as u8; BLOCK_BYTES];
            bytes[..8].copy_from_slice(&index.to_le_bytes());
            (Hash::of(&index.to_le_bytes()), bytes.into())
        })
        .collect();
    let megabytes = (BLOCKS as usize * BLOCK_BYTES) as f64 / 1e6;
    let started = Instant::now();
    in_threads(&content, |(hash, bytes)| {
        blocks.put(slots.of_block(hash), *hash, bytes.clone(), 1, true).map(drop).map_err(Into::into)
    })?;
    println!(
        "blocks: put {:.0} MB/s, {BLOCK_BYTES} B each, {THREADS} threads",
        megabytes / started.elapsed().as_secs_f64()
    );
    let started = Instant::now();
    in_threads(&content, |(hash, bytes)| match blocks.read(hash)? {
        Some((_, found)) if found == *bytes => Ok(()),
        _ => Err("a block is not what was put".into()),
    })?;
    println!("blocks: read {:.0} MB/s from the page cache", megabytes / started.elapsed().as_secs_f64());
    Ok(())
}

fn in_threads<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), Failure> + Sync) -> Result<(), Failure> {
    let work = &work;
    thread::scope(|scope| {
        let parts = items.chunks(items.len().div_ceil(THREADS));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || part.iter().try_for_each(work))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })
}

fn measure_many_keys(path: &Path, durable: &Arc<Durable>) -> Result<(), Failure> {
    let mut storage = open(path, durable)?;
    let started = Instant::now();
    let mut last = 0;
    for batch in 0..MANY_KEYS / 100 {
        let writes = (0..100).map(|index| accept(MANY_KEYS_START + batch * 100 + index)).collect();
        last = storage.keys.write(writes)?.0;
    }
    durable.wait_for(last);
    println!("many keys: {MANY_KEYS} in {:.1} s, {} MiB resident", started.elapsed().as_secs_f64(), resident_mib());
    let started = Instant::now();
    storage.keys.crash();
    drop(storage.blocks);
    println!("killed in {:.1} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let storage = open(path, durable)?;
    println!("restart after a kill: {:.2} s, {} MiB resident", started.elapsed().as_secs_f64(), resident_mib());
    let started = Instant::now();
    drop(storage);
    println!("orderly stop: {:.2} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    let storage = open(path, durable)?;
    println!("restart: {:.2} s, {} MiB resident", started.elapsed().as_secs_f64(), resident_mib());
    let started = Instant::now();
    let key = key(MANY_KEYS_START + 77)?;
    let slot = Slots::with_bits(10).ok_or("a valid number of slots")?.of_key(&key);
    let found = storage.keys.transaction(slot, &key, 1)?;
    println!("first read: {:.1} ms, found: {}", started.elapsed().as_secs_f64() * 1e3, found.is_some());
    Ok(())
}

fn key(number: u64) -> Result<Key, Failure> {
    Ok(Key::new(format!("key/{number:020}").as_bytes())?)
}

/// The first transaction of a key, with a value of 100 B.
fn accept(number: u64) -> Write {
    let key = key(number).unwrap_or_else(|error| panic!("{error}"));
    let transaction = Transaction {
        key: key.clone(),
        height: 1,
        previous: Hash::ZERO,
        operation: Operation::Set(Value::inline(Bytes::from_static(&[b'v'; 100]))),
        author: NodeId([1; 32]),
        time: WallTime(number),
        operation_id: OperationId([7; 16]),
        checkpoint: None,
    };
    let term = Term { epoch: 1, number: 1, node: NodeId([1; 32]) };
    let register = Register {
        ballot: Ballot { term, sequence: number },
        head: Head {
            height: 1,
            hash: Hash([3; 32]),
            checkpoint: 0,
            deleted: None,
            deadline: None,
            recent: vec![transaction.operation_id],
        },
        base: 1,
    };
    let slot = Slots::with_bits(10).map_or_else(Default::default, |slots| slots.of_key(&key));
    Write::Accept { slot, key, register, transactions: vec![transaction] }
}

/// What this process takes of the machine's memory.
fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kibibytes| kibibytes.parse::<u64>().ok()).unwrap_or(0) / 1024
}
