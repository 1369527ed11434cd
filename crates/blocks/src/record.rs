//! What the members of a slot agree on about a block, without agreeing on an order.
//!
//! Content never changes, so only "is it there" can be in dispute. Each member keeps one [`BlockRecord`] per block, and
//! two records merge into one, whatever order they arrive in. Versions grow as follows:
//!
//! - a put of a block that nobody has seen writes the first version of its generation: [`version_in_generation`];
//! - a delete writes the seen version + 1, not present: a tombstone;
//! - a put over a tombstone of that version or a higher one writes the tombstone's version + 1;
//! - a put that makes an unreferenced block referenced writes its version + 1, too. Otherwise a delete that did not see
//!   the reference would win over it: so both write the same version, and present wins;
//! - any other put of a block that is there raises it to the first version of the put's generation, or keeps it if it is
//!   there already.
//!
//! "Seen" means merged from as many members as the operation's level says. A majority for each makes them see each
//! other. A caller asks [`next_delete`] what to write; each member asks [`decide_put`] or [`decide_delete`] what to do
//! with it.
//!
//! # Generations
//!
//! A collection of blocks that no value names must not delete what an upload in flight has found to be there. Collections
//! are numbered; the number of the last one that has begun is the generation, and it stands in the upper half of a
//! version. A collection `g` deletes what it found unnamed if its version is of a generation up to `g - 2`; its tombstone
//! is the next version, of the same generation. An upload puts every block, the ones that are there too, in the
//! generation that it began in, `g - 1` or later as long as it may name them (see the key log's generations): each of
//! these versions is above that of any such tombstone. So it does not matter whether the two have seen each other.

use serde::{Deserialize, Serialize};

use crate::{
    MAX_BLOCK_BYTES,
    codec::{DecodeError, Reader},
};

/// Bytes of an encoded record.
pub const RECORD_BYTES: usize = 14;

const VERSION: u8 = 1;
const PRESENT: u8 = 1;
const REFERENCED: u8 = 2;
const LOST: u8 = 4;

/// What a member knows about one block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BlockRecord {
    /// Grows with each change, from 1.
    pub version: u64,
    /// Whether the block is there; a record that says it is not is a tombstone.
    pub present: bool,
    /// Whether a file was stored with the block: then it is not to be deleted on its own.
    pub referenced: bool,
    /// Whether the block should be there and its content is not: it was found corrupt, or its file is gone. The record
    /// stays, so that the block is not taken for one that was never stored, until the content is stored again.
    pub lost: bool,
    /// Bytes of the block, at most [`MAX_BLOCK_BYTES`]; a tombstone keeps it.
    pub length: u32,
}

impl BlockRecord {
    /// The record that follows from both. Commutative, associative and idempotent: the higher version wins; at the same
    /// version present wins over deleted, and one reference is enough.
    pub fn merge(self, other: Self) -> Self {
        match self.version.cmp(&other.version) {
            std::cmp::Ordering::Greater => self,
            std::cmp::Ordering::Less => other,
            std::cmp::Ordering::Equal => {
                let present = self.present || other.present;
                Self {
                    version: self.version,
                    present,
                    referenced: self.referenced || other.referenced,
                    lost: present && !self.has_content() && !other.has_content(),
                    // The block's hash decides its length, so honest records do not differ here.
                    length: self.length.max(other.length),
                }
            }
        }
    }

    /// Merges what several members answered; `None` if none has seen the block.
    pub fn merge_all(records: impl IntoIterator<Item = Self>) -> Option<Self> {
        records.into_iter().reduce(Self::merge)
    }

    /// Whether the content is here.
    pub fn has_content(&self) -> bool {
        self.present && !self.lost
    }

    /// The one encoding: encoding version, flags (1 present, 2 referenced, 4 lost), version and length, little-endian.
    pub fn encode(&self) -> [u8; RECORD_BYTES] {
        let mut bytes = [0; RECORD_BYTES];
        bytes[0] = VERSION;
        bytes[1] = self.flags();
        bytes[2..10].copy_from_slice(&self.version.to_le_bytes());
        bytes[10..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    /// Presence, reference and loss as the bits 1, 2 and 4.
    pub fn flags(&self) -> u8 {
        u8::from(self.present) * PRESENT + u8::from(self.referenced) * REFERENCED + u8::from(self.lost) * LOST
    }

    /// The record whose [`BlockRecord::flags`] are `flags`; `None` if there are no such flags.
    pub fn with_flags(version: u64, length: u32, flags: u8) -> Option<Self> {
        let (present, referenced, lost) = (flags & PRESENT != 0, flags & REFERENCED != 0, flags & LOST != 0);
        let is_known = flags & !(PRESENT | REFERENCED | LOST) == 0;
        (is_known && (present || !lost)).then_some(Self { version, present, referenced, lost, length })
    }

    /// The record of which `bytes` is the encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let flags = reader.u8()?;
        let (version, length) = (reader.u64()?, reader.u32()?);
        reader.finish()?;
        let record = Self::with_flags(version, length, flags).ok_or(DecodeError::Field("flags"))?;
        record.check().map(|()| record)
    }

    /// Whether an honest member can have this record: a version from 1, a length up to [`MAX_BLOCK_BYTES`], and lost
    /// only what should be there.
    pub fn check(&self) -> Result<(), DecodeError> {
        if self.version == 0 {
            return Err(DecodeError::Field("version"));
        }
        if self.lost && !self.present {
            return Err(DecodeError::Field("flags"));
        }
        if self.length as usize > MAX_BLOCK_BYTES {
            return Err(DecodeError::Field("length"));
        }
        Ok(())
    }
}

/// How many bits of a version count the changes within one generation.
const CHANGES_BITS: u32 = 32;

/// The first version of a generation; from 1.
pub fn version_in_generation(generation: u64) -> u64 {
    generation.min(u64::MAX >> CHANGES_BITS) << CHANGES_BITS | u64::from(generation == 0)
}

impl BlockRecord {
    /// The generation in which it was last put, or deleted.
    pub fn generation(&self) -> u64 {
        self.version >> CHANGES_BITS
    }

    /// Whether a collection of this number may delete it, if no value names it: a file was stored with it, and every
    /// upload that found it there has been refused since, if it has not ended.
    pub fn is_collectable(&self, collection: u64) -> bool {
        self.present && self.referenced && self.generation().saturating_add(2) <= collection
    }
}

/// The block belongs to a file and is not deleted on its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the block belongs to a file")]
pub struct StillReferenced;

/// What a delete writes, given what was seen: `None` if there is nothing to delete. A tombstone that was seen is given
/// again, so that members that lack it learn it.
pub fn next_delete(seen: Option<BlockRecord>) -> Result<Option<BlockRecord>, StillReferenced> {
    match seen {
        Some(seen) if seen.present && seen.referenced => Err(StillReferenced),
        Some(seen) if seen.present => {
            Ok(Some(BlockRecord { version: seen.version.saturating_add(1), present: false, lost: false, ..seen }))
        }
        seen => Ok(seen),
    }
}

/// What a member does with a put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PutDecision {
    /// Store the block, then the merged record.
    Store,
    /// The block is here; store the merged record if it differs.
    AlreadyThere,
    /// The put did not see a later change and has no effect here: the caller looks again and retries.
    Superseded {
        /// The version that this member has.
        version: u64,
    },
}

/// What a member that holds `existing` does with a put of `version`, for a file if `referenced`. What is there with all
/// that the put asks for is left as it is. The first reference to a block that is there takes a version of its own, so
/// that it stands against a delete that has not seen it.
pub fn decide_put(existing: Option<BlockRecord>, version: u64, referenced: bool) -> PutDecision {
    match existing {
        Some(existing)
            if existing.has_content() && existing.version >= version && existing.referenced >= referenced =>
        {
            PutDecision::AlreadyThere
        }
        Some(existing) if existing.version > version => PutDecision::Superseded { version: existing.version },
        Some(existing) if existing.present && referenced && !existing.referenced && existing.version == version => {
            PutDecision::Superseded { version: existing.version }
        }
        Some(existing) if existing.has_content() => PutDecision::AlreadyThere,
        _ => PutDecision::Store,
    }
}

/// What a member does with a delete.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeleteDecision {
    /// Store the tombstone, then drop the block. Also when the block was never here: the tombstone stops a late put.
    Delete,
    /// The tombstone is here.
    AlreadyDeleted,
    /// The delete did not see a later change, or a put of the same version won: no effect here.
    Superseded {
        /// The version that this member has.
        version: u64,
    },
}

/// What a member that holds `existing` does with a tombstone of `version`.
pub fn decide_delete(existing: Option<BlockRecord>, version: u64) -> DeleteDecision {
    match existing {
        None => DeleteDecision::Delete,
        Some(existing) if existing.version < version => DeleteDecision::Delete,
        Some(existing) if existing.version == version && !existing.present => DeleteDecision::AlreadyDeleted,
        Some(existing) => DeleteDecision::Superseded { version: existing.version },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

    use super::{
        BlockRecord, DeleteDecision, PutDecision, StillReferenced, decide_delete, decide_put, next_delete,
        version_in_generation,
    };
    use crate::DecodeError;

    fn record(version: u64, present: bool, referenced: bool) -> BlockRecord {
        BlockRecord { version, present, referenced, lost: false, length: 7 }
    }

    fn records() -> impl Strategy<Value = BlockRecord> {
        (1_u64..4, any::<bool>(), any::<bool>(), any::<bool>(), 0_u32..3).prop_map(
            |(version, present, referenced, lost, length)| {
                let lost = lost && present;
                BlockRecord { version, present, referenced, lost, length }
            },
        )
    }

    proptest! {
        #[test]
        fn merging_knows_no_order(a in records(), b in records(), c in records()) {
            prop_assert_eq!(a.merge(b), b.merge(a));
            prop_assert_eq!(a.merge(b).merge(c), a.merge(b.merge(c)));
            prop_assert_eq!(a.merge(a), a);
        }

        /// A decision to change something is made exactly when merging would change the presence of the block or of
        /// its content.
        #[test]
        fn decisions_agree_with_merging(existing in records(), version in 1_u64..4) {
            let put = existing.merge(record(version, true, false));
            let stores = decide_put(Some(existing), version, false) == PutDecision::Store;
            prop_assert_eq!(stores, put.has_content() && !existing.has_content());
            let delete = existing.merge(record(version, false, false));
            let deletes = decide_delete(Some(existing), version) == DeleteDecision::Delete;
            prop_assert!(deletes || delete.present == existing.present);
            prop_assert!(!deletes || !delete.present);
        }

        #[test]
        fn encoding_round_trips(record in records()) {
            prop_assert_eq!(BlockRecord::decode(&record.encode()), Ok(record));
        }
    }

    #[test]
    fn versions_follow_the_rules() {
        assert_eq!(next_delete(None), Ok(None));
        assert_eq!(next_delete(Some(record(1, true, false))), Ok(Some(record(2, false, false))));
        assert_eq!(next_delete(Some(record(2, false, false))), Ok(Some(record(2, false, false))));
        assert_eq!(next_delete(Some(record(1, true, true))), Err(StillReferenced));
    }

    /// A file is stored with a block while somebody deletes it: neither has seen the other.
    #[test]
    fn a_reference_survives_a_delete_at_the_same_time() {
        let seen = Some(record(1, true, false));
        let put = record(2, true, true);
        let tombstone = next_delete(seen).expect("unreferenced").expect("present");
        let merged = put.merge(tombstone);
        assert!(merged.present && merged.referenced);
        assert_eq!(decide_put(Some(tombstone), put.version, true), PutDecision::Store);
        let decision = decide_delete(Some(put), tombstone.version);
        assert_eq!(decision, DeleteDecision::Superseded { version: 2 });
    }

    #[test]
    fn members_decide_by_version() {
        let (there, gone) = (record(2, true, false), record(2, false, false));
        for (existing, version, put, delete) in [
            (None, 1, PutDecision::Store, DeleteDecision::Delete),
            (Some(there), 1, PutDecision::AlreadyThere, DeleteDecision::Superseded { version: 2 }),
            (Some(there), 2, PutDecision::AlreadyThere, DeleteDecision::Superseded { version: 2 }),
            (Some(there), 3, PutDecision::AlreadyThere, DeleteDecision::Delete),
            (Some(gone), 1, PutDecision::Superseded { version: 2 }, DeleteDecision::Superseded { version: 2 }),
            (Some(gone), 2, PutDecision::Store, DeleteDecision::AlreadyDeleted),
            (Some(gone), 3, PutDecision::Store, DeleteDecision::Delete),
        ] {
            assert_eq!(decide_put(existing, version, false), put, "{existing:?} {version}");
            assert_eq!(decide_delete(existing, version), delete, "{existing:?} {version}");
        }
    }

    /// A copy that was found corrupt: the record stands, and the same put brings the content back.
    #[test]
    fn lost_content_is_stored_again_by_any_put_of_its_version() {
        let lost = BlockRecord { lost: true, ..record(2, true, true) };
        assert_eq!(decide_put(Some(lost), 2, true), PutDecision::Store);
        assert_eq!(decide_put(Some(lost), 1, true), PutDecision::Superseded { version: 2 });
        assert_eq!(lost.merge(record(2, true, true)), record(2, true, true), "one copy is enough");
        assert_eq!(lost.merge(lost), lost);
        assert_eq!(lost.merge(record(1, true, true)), lost, "an older version says nothing of this one");
    }

    #[test]
    fn the_first_reference_to_a_block_takes_a_version_of_its_own() {
        let there = Some(record(1, true, false));
        assert_eq!(decide_put(there, 1, true), PutDecision::Superseded { version: 1 });
        assert_eq!(decide_put(there, 2, true), PutDecision::AlreadyThere);
        assert_eq!(decide_put(Some(record(1, true, true)), 1, true), PutDecision::AlreadyThere);
    }

    /// Whatever the order in which they come, and whether or not they have seen each other.
    #[test]
    fn an_upload_that_may_name_a_block_stands_against_the_collection_that_found_it_unnamed() {
        for (generation, changes) in [(0, 0), (0, 5), (3, 0), (3, 9)] {
            let old = record(version_in_generation(generation) + changes, true, true);
            let collection = generation + 2;
            assert!(!old.is_collectable(collection - 1) && old.is_collectable(collection));
            let tombstone = next_delete(Some(BlockRecord { referenced: false, ..old })).unwrap().unwrap();
            let put = record(version_in_generation(collection - 1), true, true);
            assert_eq!(tombstone.merge(put), put);
            assert_eq!(decide_put(Some(tombstone), put.version, true), PutDecision::Store);
            assert!(matches!(decide_delete(Some(put), tombstone.version), DeleteDecision::Superseded { .. }));
            assert_eq!(decide_put(Some(old), put.version, true), PutDecision::AlreadyThere, "and it is raised");
            assert_eq!(old.merge(put), put);
        }
    }

    #[test]
    fn what_was_put_by_its_hash_is_not_collected() {
        assert!(!record(1, true, false).is_collectable(9));
        assert!(!record(1, false, true).is_collectable(9));
        assert!(record(1, true, true).is_collectable(9));
    }

    #[test]
    fn refuses_bytes_that_are_no_record() {
        let good = record(1, true, true).encode();
        let with = |index: usize, byte: u8| {
            let mut bytes = good;
            bytes[index] = byte;
            BlockRecord::decode(&bytes)
        };
        assert_eq!(with(0, 9), Err(DecodeError::UnknownVersion(9)));
        assert_eq!(with(1, 4), Err(DecodeError::Field("flags")), "lost, but not to be there");
        assert_eq!(with(1, 8), Err(DecodeError::Field("flags")));
        assert_eq!(with(2, 0), Err(DecodeError::Field("version")));
        assert_eq!(with(13, 1), Err(DecodeError::Field("length")));
        assert_eq!(BlockRecord::decode(&good[..13]), Err(DecodeError::Truncated));
        assert_eq!(BlockRecord::decode(&[&good[..], &[0]].concat()), Err(DecodeError::TrailingBytes(1)));
    }
}
