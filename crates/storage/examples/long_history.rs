//! What a key costs that is written again and again: disk, restart, and whether what is kept of its history verifies.
//!
//! `cargo run --release -p difuse-storage --example long_history [WRITES [CHECKPOINT_EVERY [DIRECTORY]]]`: so many writes of
//! 100 bytes (default: 1,000,000), through a group of one member and its store, with checkpoints so far apart (default:
//! 1024; 0 keeps everything), in a new or empty directory (default: a temporary one).

use std::{
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant as Clock},
};

use bytes::Bytes;
use difuse_keylog::{
    Anchor, Answer, Condition, Job, Keylog, KeylogOptions, Operation, Output, Store, Submission, Value, verify_chain,
};
use difuse_storage::{KeyStore, Options, Storage};
use difuse_types::{Instant, Key, Level, NodeId, OperationId, SlotId, Slots, WallTime};

type Failure = Box<dyn Error + Send + Sync>;

const ME: NodeId = NodeId([1; 32]);
const SLOT: SlotId = SlotId(0);
/// Writes that are asked for at the same time.
const UNDER_WAY: u64 = 512;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let mut number = |default: u64| match arguments.next() {
        Some(text) => text.to_string_lossy().parse(),
        None => Ok(default),
    };
    let (writes, checkpoint_every) = (number(1_000_000)?, number(1024)?);
    let temporary = tempfile::tempdir()?;
    let path = arguments.next().map_or_else(|| temporary.path().join("data"), PathBuf::from);
    let key = Key::new(b"counter")?;

    let mut keylog = begin(&path, checkpoint_every)?;
    keylog.found()?;
    let started = Clock::now();
    for begun in (0..writes).step_by(UNDER_WAY as usize) {
        write(&mut keylog, &key, begun..writes.min(begun + UNDER_WAY))?;
        if (begun / UNDER_WAY).is_multiple_of(200) {
            println!("{begun:>9} writes, {}", Disk::of(&path)?);
        }
    }
    println!("{writes:>9} writes in {:.1} s, {}", started.elapsed().as_secs_f64(), Disk::of(&path)?);
    println!("          {} MiB were written to the log", keylog.store().statistics().bytes_written >> 20);

    // The cleaner looks once a second.
    std::thread::sleep(Duration::from_secs(5));
    println!("          5 s later: {}", Disk::of(&path)?);
    drop(keylog);

    let started = Clock::now();
    let store = open(&path)?;
    println!("restart in {:.0} ms", started.elapsed().as_secs_f64() * 1000.0);
    verify(&store, &key)?;
    drop(store);
    println!("closed:   {}", Disk::of(&path)?);
    Ok(())
}

fn open(path: &Path) -> Result<KeyStore, Failure> {
    Ok(Storage::open(path, &Options::default(), Box::new(|_| {}))?.keys)
}

fn begin(path: &Path, checkpoint_every: u64) -> Result<Keylog<KeyStore>, Failure> {
    let slots = Slots::with_count(1).ok_or("one slot is a number of slots")?;
    let options = KeylogOptions { checkpoint_every, ..KeylogOptions::new(slots) };
    Ok(Keylog::new(ME, options, open(path)?, Instant(0), 1)?)
}

/// Asks for all of these writes at once, and waits until they are durable.
fn write(keylog: &mut Keylog<KeyStore>, key: &Key, numbers: std::ops::Range<u64>) -> Result<(), Failure> {
    let mut waiting = numbers.end - numbers.start;
    let register = keylog.store().register(SLOT, key)?;
    let since = register.map(|register| Anchor { ballot: register.ballot, height: register.head.height });
    for number in numbers {
        let submission = Submission {
            operation: Operation::Set(Value::inline(Bytes::from(vec![number as u8; 100]))),
            condition: Condition::None,
            operation_id: OperationId(u128::from(number).to_le_bytes()),
            author: ME,
            time: WallTime(number),
            level: Level::Quorum,
            generation: None,
            since,
        };
        keylog.submit(number, SLOT, key.clone(), Job::Append(submission))?;
    }
    while waiting > 0 {
        keylog.finish_batch()?;
        let written = keylog.store().written();
        keylog.store().wait_durable(written)?;
        keylog.handle_durable(written)?;
        for output in keylog.take_outputs() {
            if let Output::Done { result, .. } = output {
                match result {
                    Ok(Answer::Appended { .. }) => waiting -= 1,
                    other => return Err(format!("a write was answered with {other:?}").into()),
                }
            }
        }
    }
    Ok(())
}

/// Checks the chain from the base to the head.
fn verify(store: &KeyStore, key: &Key) -> Result<(), Failure> {
    let started = Clock::now();
    let register = store.register(SLOT, key)?.ok_or("the key is gone")?;
    let mut chain = Vec::new();
    for height in register.base..=register.head.height {
        chain.push(store.transaction(SLOT, key, height)?.ok_or("a transaction is gone")?);
    }
    let hash = verify_chain(key, (register.base - 1, chain[0].previous), &chain)?;
    let is_checkpoint = register.base == 1 || chain[0].checkpoint.is_some();
    if hash != register.head.hash || !is_checkpoint {
        return Err("the chain does not verify".into());
    }
    let took = started.elapsed().as_secs_f64() * 1000.0;
    let (base, height) = (register.base, register.head.height);
    println!("verified {} transactions from height {base} to {height} in {took:.0} ms", chain.len());
    Ok(())
}

/// What a data directory takes.
struct Disk {
    log: u64,
    index: u64,
}

impl Disk {
    fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { log: bytes_below(&path.join("keys"))?, index: bytes_below(&path.join("index"))? })
    }
}

impl std::fmt::Display for Disk {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} MiB of log, {} MiB of index", self.log >> 20, self.index >> 20)
    }
}

/// The blocks that files take on the disk; what is deleted meanwhile takes none.
fn bytes_below(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path())?,
            Ok(metadata) => metadata.blocks() * 512,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}
