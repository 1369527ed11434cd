//! Block commands on threads of their own: the store's calls return when they are durable.

use std::{
    collections::{HashMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError, mpsc as queue},
    thread,
};

use difuse_blocks::DeleteDecision;
use difuse_keylog::StoreError;
use difuse_protocol::{BlockCommand, BlockResult, Input, request::PAGE_MAX};
use difuse_storage::BlockStore;
use difuse_types::{Hash, SlotId, Slots};
use tokio::sync::mpsc;

/// How many records a page of a listing has: what a message may carry.
const PAGE: usize = PAGE_MAX as usize;

/// How many commands run at the same time. A thread keeps what it has freed for its next content: with as many threads as
/// there are commands, a node that serves long values took five times the memory, and was no faster.
const THREADS: usize = 8;

/// Commands of one slot run side by side, but never beside or across a [`BlockCommand::Clear`] of it: a late clear would
/// erase what was stored after it was asked for, and a late put would stay behind it.
#[derive(Default)]
struct Lane {
    running: usize,
    is_clearing: bool,
    waiting: VecDeque<Job>,
}

/// The disk's queues, by slot, and its threads.
pub(crate) struct Disk {
    slots: Slots,
    lanes: HashMap<SlotId, Lane>,
    /// What a lane has let run goes to the next thread that is free. `None`: the threads are to end.
    jobs: Option<queue::Sender<Job>>,
    threads: Vec<thread::JoinHandle<()>>,
}

struct Job {
    slot: SlotId,
    ticket: u64,
    command: BlockCommand,
}

/// A command that has ended.
pub(crate) struct Done {
    slot: SlotId,
    ticket: u64,
    result: BlockResult,
}

impl Disk {
    /// Fails when the system gives it no threads.
    pub(crate) fn new(store: BlockStore, slots: Slots, done: mpsc::UnboundedSender<Done>) -> io::Result<Self> {
        let (jobs, queued) = queue::channel();
        let queued = Arc::new(Mutex::new(queued));
        let start = |_| {
            let (store, queued, done) = (store.clone(), queued.clone(), done.clone());
            thread::Builder::new().name("difuse-blocks".to_string()).spawn(move || work(&store, &queued, &done))
        };
        let threads = (0..THREADS).map(start).collect::<io::Result<_>>()?;
        Ok(Self { slots, lanes: HashMap::new(), jobs: Some(jobs), threads })
    }

    /// Starts a command as soon as its slot allows; its end comes as [`Done`].
    pub(crate) fn start(&mut self, ticket: u64, command: BlockCommand) {
        let slot = slot_of(&command, self.slots);
        self.lanes.entry(slot).or_default().waiting.push_back(Job { slot, ticket, command });
        self.advance(slot);
    }

    /// Takes note of an end, starts what waited for it, and gives the input for the peer.
    pub(crate) fn finish(&mut self, done: Done) -> Input {
        if let Some(lane) = self.lanes.get_mut(&done.slot) {
            lane.running -= 1;
            lane.is_clearing = false;
        }
        self.advance(done.slot);
        Input::BlockDone { ticket: done.ticket, result: done.result }
    }

    fn advance(&mut self, slot: SlotId) {
        let Some(lane) = self.lanes.get_mut(&slot) else { return };
        while let Some(next) = lane.waiting.front() {
            let is_clear = matches!(next.command, BlockCommand::Clear { .. });
            if lane.is_clearing || (is_clear && lane.running > 0) {
                return;
            }
            let (Some(job), Some(jobs)) = (lane.waiting.pop_front(), &self.jobs) else { return };
            lane.running += 1;
            lane.is_clearing = is_clear;
            // The threads are there as long as this is.
            let _ = jobs.send(job);
        }
        if lane.running == 0 {
            self.lanes.remove(&slot);
        }
    }
}

/// Ends the threads when what was begun is done, so that nobody has the store behind it.
impl Drop for Disk {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // One that panicked has ended as well.
            let _ = thread.join();
        }
    }
}

/// Does one job after the other, until there is nobody to give any.
fn work(store: &BlockStore, queued: &Mutex<queue::Receiver<Job>>, done: &mpsc::UnboundedSender<Done>) {
    let next = || queued.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok(Job { slot, ticket, command }) = next() {
        let result = perform(store, command).unwrap_or_else(|error| match error {
            StoreError::Full(reason) => BlockResult::Full(reason),
            error => BlockResult::Failed(error.to_string()),
        });
        // The receiver is gone only when the node stops.
        let _ = done.send(Done { slot, ticket, result });
    }
}

fn slot_of(command: &BlockCommand, slots: Slots) -> SlotId {
    match command {
        BlockCommand::Put { slot, .. }
        | BlockCommand::Delete { slot, .. }
        | BlockCommand::List { slot, .. }
        | BlockCommand::NoteLost { slot, .. }
        | BlockCommand::Digest { slot }
        | BlockCommand::Clear { slot } => *slot,
        BlockCommand::Read { hash } | BlockCommand::Verify { hash } | BlockCommand::Stat { hash } => {
            slots.of_block(hash)
        }
    }
}

fn perform(store: &BlockStore, command: BlockCommand) -> Result<BlockResult, StoreError> {
    match command {
        BlockCommand::Put { slot, hash, bytes, version, referenced } => {
            let actual = Hash::of(&bytes);
            if actual != hash {
                return Ok(BlockResult::Failed(format!("the block's hash is {actual}, not {hash}")));
            }
            Ok(BlockResult::Put(store.put(slot, hash, bytes, version, referenced)?))
        }
        BlockCommand::Read { hash } => read(store, &hash),
        BlockCommand::Verify { hash } => Ok(BlockResult::Record(store.verify(&hash)?)),
        BlockCommand::Stat { hash } => Ok(BlockResult::Record(store.stat(&hash)?)),
        BlockCommand::Delete { slot, hash, version } => Ok(match store.delete(slot, hash, version)? {
            DeleteDecision::Delete | DeleteDecision::AlreadyDeleted => BlockResult::Done,
            DeleteDecision::Superseded { version } => BlockResult::Superseded { version },
        }),
        BlockCommand::List { slot, after } => {
            let records = store.list(slot, after, PAGE)?;
            let is_last = records.len() < PAGE;
            Ok(BlockResult::Page { records, is_last })
        }
        BlockCommand::NoteLost { slot, hash, record } => {
            store.note_lost(slot, hash, record)?;
            Ok(BlockResult::Done)
        }
        BlockCommand::Digest { slot } => Ok(BlockResult::Digest(store.digest(slot)?)),
        BlockCommand::Clear { slot } => {
            store.clear_slot(slot)?;
            Ok(BlockResult::Done)
        }
    }
}

/// What the store does not have, or has lost, still has a record, which tells that other members have it.
fn read(store: &BlockStore, hash: &Hash) -> Result<BlockResult, StoreError> {
    Ok(match store.read(hash)? {
        Some((record, bytes)) => BlockResult::Content { record: Some(record), bytes: Some(bytes) },
        None => BlockResult::Content { record: store.stat(hash)?, bytes: None },
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_keylog::WriteSequence;
    use difuse_protocol::message::{BlockAnswer, BlockMessage, Message};
    use difuse_storage::{Options, Storage};

    use super::*;

    fn storage_in(directory: &tempfile::TempDir) -> Storage {
        let on_durable = Box::new(|_: Result<WriteSequence, StoreError>| ());
        Storage::open(&directory.path().join("data"), &Options::default(), on_durable).unwrap()
    }

    /// A member that holds more blocks of a slot than one page has tells of all of them, in frames that others take.
    #[test]
    fn a_long_list_is_told_in_pages_that_the_wire_carries() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage_in(&directory);
        let slot = SlotId(0);
        let blocks: Vec<Bytes> = (0..2 * PAGE_MAX + 1).map(|number| number.to_be_bytes().to_vec().into()).collect();
        std::thread::scope(|scope| {
            for part in blocks.chunks(100) {
                let store = &storage.blocks;
                scope.spawn(move || {
                    for bytes in part {
                        store.put(slot, Hash::of(bytes), bytes.clone(), 1, false).unwrap();
                    }
                });
            }
        });

        let (mut listed, mut after, mut is_last) = (0, None, false);
        while !is_last {
            let page = perform(&storage.blocks, BlockCommand::List { slot, after }).unwrap();
            let BlockResult::Page { records, is_last: ends } = page else { panic!("{page:?}") };
            after = records.last().map(|(hash, _)| *hash);
            listed += records.len();
            is_last = ends;
            let answer = BlockAnswer::Page { records, is_last };
            let message = Message::Block(BlockMessage::Answer { id: 1, answer });
            let decoded = difuse_wire::decode(&difuse_wire::encode(std::slice::from_ref(&message)));
            assert!(decoded.is_ok_and(|decoded| decoded == [message]), "a page after {listed} blocks is refused");
        }
        assert_eq!(listed, blocks.len());
    }
    /// Commands run side by side; a clear runs when those before it have ended; and what was begun ends before the disk does.
    #[tokio::test]
    async fn a_clear_waits_for_what_was_begun_before_it() {
        let directory = tempfile::tempdir().unwrap();
        let storage = storage_in(&directory);
        let slots = Slots::with_bits(0).unwrap();
        let content = Bytes::from_static(b"content");
        let (slot, hash) = (SlotId(0), Hash::of(&content));
        storage.blocks.put(slot, hash, content, 1, false).unwrap();

        let (sender, mut done) = mpsc::unbounded_channel();
        let mut disk = Disk::new(storage.blocks.clone(), slots, sender).unwrap();
        let reads = 5 * THREADS as u64;
        for ticket in 0..reads {
            disk.start(ticket, BlockCommand::Read { hash });
        }
        disk.start(reads, BlockCommand::Clear { slot });
        disk.start(reads + 1, BlockCommand::Read { hash });
        for ended in 0..=reads + 1 {
            let Input::BlockDone { ticket, result } = disk.finish(done.recv().await.unwrap()) else { unreachable!() };
            match result {
                BlockResult::Content { bytes: Some(_), .. } => assert!(ticket < reads),
                BlockResult::Done => assert_eq!((ticket, ended), (reads, reads)),
                BlockResult::Content { bytes: None, .. } => assert_eq!((ticket, ended), (reads + 1, reads + 1)),
                other => panic!("{other:?}"),
            }
        }
        assert!(disk.lanes.is_empty());

        for ticket in 0..reads {
            disk.start(ticket, BlockCommand::Stat { hash });
        }
        drop(disk);
        let mut answered = 0;
        while done.recv().await.is_some() {
            answered += 1;
        }
        assert_eq!(answered, reads);
    }
}
