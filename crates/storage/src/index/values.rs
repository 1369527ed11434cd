use bytes::Bytes;
use difuse_keylog::StoreError;

use crate::{
    codec::{Decoder, Encode, Malformed, decode_all},
    log::{Checkpoint, Location, Position},
};

/// The first byte of the key of the checkpoint: segment, offset, sequence, whether an update was under way.
const CHECKPOINT: u8 = 0;

/// Up to where the index has seen the log, and whether an update beyond that was under way.
pub(crate) fn checkpoint(tree: &sled::Tree) -> Result<Option<(Checkpoint, bool)>, StoreError> {
    value(tree, &[CHECKPOINT], |from| {
        let end = Position { segment: from.take_u32()?, offset: from.take_u32()? };
        Ok((Checkpoint { end, sequence: from.take_u64()? }, from.take_u8()? != 0))
    })
}

/// Says that the index has seen the log up to `end`; `under_way` while it is being updated beyond that.
pub(crate) fn put_checkpoint(tree: &sled::Tree, end: Checkpoint, under_way: bool) -> Result<(), StoreError> {
    let mut out = Vec::with_capacity(17);
    out.put_u32(end.end.segment);
    out.put_u32(end.end.offset);
    out.put_u64(end.sequence);
    out.put_u8(u8::from(under_way));
    tree.insert([CHECKPOINT], out).map(drop).map_err(failed)
}

/// The decoded value of a key.
pub(crate) fn value<T>(
    tree: &sled::Tree,
    key: &[u8],
    take: impl FnOnce(&mut Decoder) -> Result<T, Malformed>,
) -> Result<Option<T>, StoreError> {
    tree.get(key).map_err(failed)?.map(|value| decode(&value, take)).transpose()
}

pub(crate) fn decode<T>(
    value: &[u8],
    take: impl FnOnce(&mut Decoder) -> Result<T, Malformed>,
) -> Result<T, StoreError> {
    decode_all(Bytes::copy_from_slice(value), take).map_err(|_| undecodable())
}

pub(crate) fn put_location(out: &mut Vec<u8>, location: Location) {
    out.put_u32(location.at.segment);
    out.put_u32(location.at.offset);
    out.put_u32(location.length);
    out.put_u32(location.crc);
}

pub(crate) fn take_location(from: &mut Decoder) -> Result<Location, Malformed> {
    let at = Position { segment: from.take_u32()?, offset: from.take_u32()? };
    Ok(Location { at, length: from.take_u32()?, crc: from.take_u32()? })
}

/// An error of sled as the store's.
pub(crate) fn failed(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { .. } => StoreError::Corrupt(format!("the index: {error}")),
        error => StoreError::Failed(format!("the index: {error}")),
    }
}

/// The index holds what this crate never wrote.
pub(crate) fn undecodable() -> StoreError {
    StoreError::Corrupt("the index holds what cannot be decoded".to_string())
}
