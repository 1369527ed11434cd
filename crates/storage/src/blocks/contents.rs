//! What reads and writes the log of blocks, for the store and for the thread that cleans.

use bytes::Bytes;
use difuse_blocks::BlockRecord;
use difuse_keylog::StoreError;
use difuse_types::{Hash, SlotId};

use super::{
    index::BlockIndex,
    overlay::{BlockOverlay, Stored, find},
    record::{LogRecord, content_location, encode, encode_with_content},
};
use crate::{
    index::{Core, Layers, Pending},
    log::{Admission, Checkpoint, FRAME_HEADER_BYTES, Location, SegmentFiles},
};

/// How often a read looks again when a block is replaced or deleted under it.
const READ_ATTEMPTS: usize = 3;

type Locked<'a> = std::sync::MutexGuard<'a, Layers<BlockOverlay>>;

/// Content to be stored.
pub(crate) struct NewContent {
    pub slot: SlotId,
    pub hash: Hash,
    pub record: BlockRecord,
    pub bytes: Bytes,
    pub crc: u32,
}

impl Core<BlockIndex> {
    pub fn find(&self, hash: &Hash) -> Result<Option<Stored>, StoreError> {
        let layers = self.lock();
        find(layers.newest_first(), &self.index, hash)
    }

    pub fn read_by(
        &self,
        hash: &Hash,
        read: fn(&SegmentFiles, Location) -> Result<Bytes, StoreError>,
    ) -> Result<Option<(BlockRecord, Bytes)>, StoreError> {
        let mut found = self.find(hash)?;
        for _ in 0..READ_ATTEMPTS {
            let Some(Stored { record, location: Some(location), content, .. }) = found else { return Ok(None) };
            if let Some(content) = content {
                return Ok(Some((record, content)));
            }
            let damage = match read(&self.files, location) {
                Ok(bytes) if Hash::of(&bytes) == *hash => return Ok(Some((record, bytes))),
                Ok(_) => "its content has another hash".to_string(),
                Err(StoreError::Corrupt(what)) => what,
                Err(error) => return Err(error),
            };
            // It may have been deleted, and its space freed, since it was found.
            found = self.find(hash)?;
            if found.as_ref().and_then(|stored| stored.location) == Some(location) {
                tracing::error!(%hash, damage, "a block is damaged: it is fetched again from another member");
                self.lose(hash, location)?;
                return Ok(None);
            }
        }
        Err(StoreError::Failed(format!("block {hash} changes all the time")))
    }

    /// Marks the content at `location` as lost, if the block still lies there. Nobody waits for that to be durable.
    fn lose(&self, hash: &Hash, location: Location) -> Result<(), StoreError> {
        let layers = self.lock();
        let found = find(layers.newest_first(), &self.index, hash)?;
        let Some(found) = found.filter(|found| found.location == Some(location)) else { return Ok(()) };
        let (slot, record) = (found.slot, BlockRecord { lost: true, ..found.record });
        match self.append(layers, LogRecord::Set { slot, hash: *hash, record, content: None }) {
            // It is found again, and there is no room for its repair either.
            Ok(_) | Err(StoreError::Full(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub fn append_content(&self, layers: Locked<'_>, new: NewContent, admission: Admission) -> Result<u64, StoreError> {
        let NewContent { slot, hash, record, bytes, crc } = new;
        let head = encode_with_content(slot, &hash, &record, crc);
        let head_length = head.len();
        let appended = self.log.append(head, bytes.clone(), admission)?;
        let content = content_location(head_length - FRAME_HEADER_BYTES, appended.at, &bytes, crc);
        let log_record = LogRecord::Set { slot, hash, record, content: Some(content) };
        self.apply(layers, log_record, Some(bytes), appended.end)
    }

    pub fn append(&self, layers: Locked<'_>, log_record: LogRecord) -> Result<u64, StoreError> {
        let appended = self.log.append(encode(&log_record), Bytes::new(), Admission::Always)?;
        self.apply(layers, log_record, None, appended.end)
    }

    fn apply(
        &self,
        mut layers: Locked<'_>,
        log_record: LogRecord,
        content: Option<Bytes>,
        end: Checkpoint,
    ) -> Result<u64, StoreError> {
        let Layers { active, frozen, .. } = &mut *layers;
        let before = active.bytes();
        if let Err(error) = active.apply(log_record, content, end, frozen.as_deref(), &self.index) {
            self.log.poison(error.clone());
            return Err(error);
        }
        self.added(layers, before);
        Ok(end.sequence)
    }

    pub fn wait_for(&self, sequence: u64) -> Result<(), StoreError> {
        self.log.wait_durable(sequence)
    }

    /// Durable content is read from its file.
    pub fn forget_content(&self, hash: &Hash, sequence: u64) {
        let mut layers = self.lock();
        let stored = layers.active.entries.get_mut(hash);
        if let Some(stored) = stored.filter(|stored| stored.sequence == sequence) {
            stored.content = None;
        }
    }

    /// Copies content to the log's end if it still lies at `location`; gives the record that says so. What is found to be
    /// damaged is marked as lost.
    pub fn move_content(&self, hash: &Hash, location: Location) -> Result<Option<u64>, StoreError> {
        let Some((_, bytes)) = self.read_by(hash, SegmentFiles::read)? else { return Ok(None) };
        let layers = self.lock_with_room(Admission::Always)?;
        let found = find(layers.newest_first(), &self.index, hash)?;
        let Some(found) = found.filter(|found| found.location == Some(location)) else { return Ok(None) };
        let (slot, record, crc) = (found.slot, found.record, location.crc);
        let copy = NewContent { slot, hash: *hash, record, bytes, crc };
        self.append_content(layers, copy, Admission::Always).map(Some)
    }
}
