//! A disk for blocks that can crash: writes are visible at once and stay undoable until they are flushed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
};

use bytes::Bytes;
use difuse_blocks::{BlockRecord, DeleteDecision, PutDecision, decide_delete, decide_put};
use difuse_protocol::{BlockCommand, BlockResult};
use difuse_types::{Hash, SlotId};

/// Records in one page of a listing: few, so that paging is exercised.
const PAGE: usize = 4;

#[derive(Clone)]
struct Stored {
    slot: SlotId,
    record: BlockRecord,
    bytes: Option<Bytes>,
    /// What it adds to the digest of its slot.
    digest: u128,
}

impl Stored {
    fn new(slot: SlotId, hash: &Hash, record: BlockRecord, bytes: Option<Bytes>) -> Self {
        Self { slot, record, bytes, digest: digest_of(hash, &record) }
    }
}

/// The blocks on one node's disk.
#[derive(Default)]
pub(crate) struct BlockDisk {
    stored: BTreeMap<Hash, Stored>,
    /// What brings back the state before each write that is not durable, oldest first.
    unflushed: VecDeque<Vec<(Hash, Option<Stored>)>>,
    written: u64,
    is_full: bool,
    /// Content that is damaged, and that nobody has read since.
    damaged: BTreeSet<Hash>,
}

impl BlockDisk {
    /// The number of the last write.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Makes all writes up to `sequence` durable.
    pub(crate) fn flush_through(&mut self, sequence: u64) {
        let durable = self.written - self.unflushed.len() as u64;
        let count = sequence.saturating_sub(durable) as usize;
        self.unflushed.drain(..count.min(self.unflushed.len()));
    }

    /// Loses all writes that are not durable but the first `kept`.
    pub(crate) fn crash(&mut self, kept: usize) {
        while self.unflushed.len() > kept {
            self.written -= 1;
            for (hash, before) in self.unflushed.pop_back().unwrap_or_default() {
                match before {
                    Some(stored) => drop(self.stored.insert(hash, stored)),
                    None => drop(self.stored.remove(&hash)),
                }
            }
        }
        self.unflushed.clear();
    }

    /// Without room nothing can be stored; what is here can be read, and removed.
    pub(crate) fn set_full(&mut self, is_full: bool) {
        self.is_full = is_full;
    }

    /// Whether a block's content is here.
    pub(crate) fn has(&self, hash: &Hash) -> bool {
        self.stored.get(hash).is_some_and(|stored| stored.bytes.is_some()) && !self.damaged.contains(hash)
    }

    /// Whether a block's content is here, and stays in a crash.
    pub(crate) fn has_durably(&self, hash: &Hash) -> bool {
        self.has(hash) && !self.unflushed.iter().flatten().any(|(written, _)| written == hash)
    }

    /// The content of a block is gone, as if its file were, and has been found to be.
    pub(crate) fn lose(&mut self, hash: &Hash) {
        let lost = |stored: &mut Stored| {
            stored.bytes = None;
            stored.record.lost = stored.record.present;
            stored.digest = digest_of(hash, &stored.record);
        };
        self.stored.get_mut(hash).into_iter().for_each(lost);
        // A crash brings no content back either.
        let earlier = self.unflushed.iter_mut().flatten().filter(|(written, _)| written == hash);
        earlier.filter_map(|(_, before)| before.as_mut()).for_each(lost);
    }

    /// The content of a block is damaged, which nobody knows until it is read.
    pub(crate) fn damage(&mut self, hash: &Hash) {
        self.damaged.insert(*hash);
    }

    /// Finds out about damaged content, as reading it does.
    fn discover(&mut self, hash: &Hash) {
        if self.damaged.remove(hash) {
            self.lose(hash);
        }
    }

    /// How many records of a slot are here.
    pub(crate) fn count(&self, slot: SlotId) -> usize {
        self.stored.values().filter(|stored| stored.slot == slot).count()
    }

    /// Does what a peer asks for.
    pub(crate) fn perform(&mut self, command: BlockCommand) -> BlockResult {
        match command {
            BlockCommand::Put { .. } if self.is_full => BlockResult::Full(crate::faults::INJECTED.into()),
            BlockCommand::Put { slot, hash, bytes, version, referenced } => {
                BlockResult::Put(self.put(slot, hash, bytes, version, referenced))
            }
            BlockCommand::Read { hash } => {
                self.discover(&hash);
                let found = self.stored.get(&hash);
                let (record, bytes) = found.map_or((None, None), |it| (Some(it.record), it.bytes.clone()));
                BlockResult::Content { record, bytes }
            }
            BlockCommand::Verify { hash } => {
                self.discover(&hash);
                BlockResult::Record(self.stored.get(&hash).map(|stored| stored.record))
            }
            BlockCommand::Stat { hash } => BlockResult::Record(self.stored.get(&hash).map(|stored| stored.record)),
            BlockCommand::Delete { slot, hash, version } => self.delete(slot, hash, version),
            BlockCommand::List { slot, after } => self.list(slot, after),
            BlockCommand::NoteLost { slot, hash, record } => {
                let known = self.stored.get(&hash).map(|stored| stored.record);
                let merged = known.map_or(record, |known| known.merge(record));
                if merged.lost && known != Some(merged) {
                    self.write(vec![(hash, Some(Stored::new(slot, &hash, merged, None)))]);
                }
                BlockResult::Done
            }
            BlockCommand::Digest { slot } => BlockResult::Digest(self.digest(slot)),
            BlockCommand::Clear { slot } => {
                let of_slot = self.stored.iter().filter(|(_, stored)| stored.slot == slot);
                self.write(of_slot.map(|(hash, _)| (*hash, None)).collect());
                BlockResult::Done
            }
        }
    }

    fn put(&mut self, slot: SlotId, hash: Hash, bytes: Bytes, version: u64, referenced: bool) -> PutDecision {
        let existing = self.stored.get(&hash).cloned();
        let decision = decide_put(existing.as_ref().map(|stored| stored.record), version, referenced);
        let put = BlockRecord { version, present: true, referenced, lost: false, length: bytes.len() as u32 };
        let record = existing.as_ref().map_or(put, |stored| stored.record.merge(put));
        let is_news = existing.is_none_or(|stored| stored.record != record);
        if is_news && !matches!(decision, PutDecision::Superseded { .. }) {
            self.write(vec![(hash, Some(Stored::new(slot, &hash, record, Some(bytes))))]);
        }
        decision
    }

    fn delete(&mut self, slot: SlotId, hash: Hash, version: u64) -> BlockResult {
        let existing = self.stored.get(&hash).map(|stored| stored.record);
        match decide_delete(existing, version) {
            DeleteDecision::Superseded { version } => BlockResult::Superseded { version },
            DeleteDecision::AlreadyDeleted => BlockResult::Done,
            DeleteDecision::Delete => {
                let length = existing.map_or(0, |record| record.length);
                let record = BlockRecord { version, present: false, referenced: false, lost: false, length };
                self.write(vec![(hash, Some(Stored::new(slot, &hash, record, None)))]);
                BlockResult::Done
            }
        }
    }

    fn list(&self, slot: SlotId, after: Option<Hash>) -> BlockResult {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let following = self.stored.range((start, Bound::Unbounded)).filter(|(_, stored)| stored.slot == slot);
        let mut records: Vec<_> = following.take(PAGE + 1).map(|(hash, stored)| (*hash, stored.record)).collect();
        let is_last = records.len() <= PAGE;
        records.truncate(PAGE);
        BlockResult::Page { records, is_last }
    }

    fn digest(&self, slot: SlotId) -> u128 {
        let of_slot = self.stored.values().filter(|stored| stored.slot == slot);
        of_slot.fold(0, |sum, stored| sum.wrapping_add(stored.digest))
    }

    fn write(&mut self, changes: Vec<(Hash, Option<Stored>)>) {
        let mut undo = Vec::new();
        for (hash, after) in changes {
            let before = match after {
                Some(stored) => self.stored.insert(hash, stored),
                None => self.stored.remove(&hash),
            };
            undo.push((hash, before));
        }
        self.written += 1;
        self.unflushed.push_back(undo);
    }
}

fn digest_of(hash: &Hash, record: &BlockRecord) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(hash.as_bytes());
    hasher.update(&record.version.to_le_bytes());
    hasher.update(&[record.flags()]);
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_protocol::BlockCommand;
    use difuse_types::{Hash, SlotId};

    use super::BlockDisk;

    fn put(disk: &mut BlockDisk, content: &'static [u8]) -> Hash {
        let (slot, hash, bytes) = (SlotId(0), Hash::of(content), Bytes::from_static(content));
        disk.perform(BlockCommand::Put { slot, hash, bytes, version: 1, referenced: false });
        hash
    }

    #[test]
    fn a_crash_returns_to_the_flushed_prefix() {
        let mut disk = BlockDisk::default();
        let [first, second, third] = [b"a", b"b", b"c"].map(|content| put(&mut disk, content));
        disk.flush_through(1);
        disk.perform(BlockCommand::Clear { slot: SlotId(0) });
        disk.crash(1);
        assert_eq!((disk.has(&first), disk.has(&second), disk.has(&third)), (true, true, false));
        assert_eq!(disk.written(), 2);
    }
}
