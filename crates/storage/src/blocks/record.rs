use bytes::Bytes;
use difuse_blocks::BlockRecord;
use difuse_types::{Hash, HashContext, SlotId};

use crate::{
    codec::{Decoder, Encode, Malformed},
    index::{put_location, take_location},
    log::{FRAME_HEADER_BYTES, Location, Position},
};

/// Version of the layout; the first byte of each record of the log.
const VERSION: u8 = 1;

static DIGEST: HashContext = HashContext::new("difuse 2026 block slot digest v1");

/// Every record says how things are from then on, whatever was before: replaying one twice changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogRecord {
    /// A block is so.
    Set {
        slot: SlotId,
        hash: Hash,
        record: BlockRecord,
        /// Where its content lies, if it has any.
        content: Option<Location>,
    },
    /// A slot has no blocks and no records of any.
    Clear(SlotId),
}

pub(crate) fn put_record(out: &mut Vec<u8>, record: &BlockRecord) {
    out.put_u64(record.version);
    out.put_u8(record.flags());
    out.put_u32(record.length);
}

pub(crate) fn take_record(from: &mut Decoder) -> Result<BlockRecord, Malformed> {
    let (version, flags, length) = (from.take_u64()?, from.take_u8()?, from.take_u32()?);
    BlockRecord::with_flags(version, length, flags).ok_or(Malformed)
}

/// The part that a block's record adds to the digest of its slot. The length follows from the hash.
pub(crate) fn record_digest(hash: &Hash, record: &BlockRecord) -> u128 {
    let mut hasher = DIGEST.hasher();
    hasher.update(hash.as_bytes());
    hasher.update(&record.version.to_le_bytes());
    hasher.update(&[record.flags()]);
    let mut first = [0; 16];
    first.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(first)
}

/// The beginning of a record whose payload ends with the block's content; with room for the frame's header.
pub(crate) fn encode_with_content(slot: SlotId, hash: &Hash, record: &BlockRecord, crc: u32) -> Vec<u8> {
    let mut out = start(1, slot);
    out.extend_from_slice(hash.as_bytes());
    put_record(&mut out, record);
    out.put_u32(crc);
    out
}

/// Where the content lies that follows the first `head_length` bytes of a payload, when the payload lies at `at`.
pub(crate) fn content_location(head_length: usize, at: Position, content: &Bytes, crc: u32) -> Location {
    let offset = at.offset + head_length as u32;
    Location { at: Position { offset, ..at }, length: content.len() as u32, crc }
}

/// A record without content of its own; with room for the frame's header.
pub(crate) fn encode(log_record: &LogRecord) -> Vec<u8> {
    match log_record {
        LogRecord::Set { slot, hash, record, content } => {
            let mut out = start(if content.is_some() { 3 } else { 2 }, *slot);
            out.extend_from_slice(hash.as_bytes());
            put_record(&mut out, record);
            if let Some(content) = content {
                put_location(&mut out, *content);
            }
            out
        }
        LogRecord::Clear(slot) => start(4, *slot),
    }
}

fn start(kind: u8, slot: SlotId) -> Vec<u8> {
    let mut out = Vec::with_capacity(FRAME_HEADER_BYTES + 80);
    out.resize(FRAME_HEADER_BYTES, 0);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out.put_u32(slot.0);
    out
}

/// Decodes the record whose payload lies at `at`.
pub(crate) fn decode(payload: &Bytes, at: Position) -> Result<LogRecord, Malformed> {
    let mut from = Decoder::new(payload.clone());
    if from.take_u8()? != VERSION {
        return Err(Malformed);
    }
    let (kind, slot) = (from.take_u8()?, SlotId(from.take_u32()?));
    if kind == 4 {
        return from.finish().map(|()| LogRecord::Clear(slot));
    }
    let (hash, record) = (Hash(from.take_array()?), take_record(&mut from)?);
    let content = match kind {
        1 => {
            let crc = from.take_u32()?;
            let offset = at.offset + from.position() as u32;
            let length = (payload.len() - from.position()) as u32;
            return Ok(LogRecord::Set {
                slot,
                hash,
                record,
                content: Some(Location { at: Position { offset, ..at }, length, crc }),
            });
        }
        2 => None,
        3 => Some(take_location(&mut from)?),
        _ => return Err(Malformed),
    };
    from.finish().map(|()| LogRecord::Set { slot, hash, record, content })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_blocks::BlockRecord;
    use difuse_types::{Hash, SlotId};

    use super::{LogRecord, content_location, decode, encode, encode_with_content};
    use crate::log::{FRAME_HEADER_BYTES, Location, Position};

    const RECORD: BlockRecord = BlockRecord { version: 8, present: true, referenced: true, lost: false, length: 7 };
    const AT: Position = Position { segment: 3, offset: 100 };

    #[test]
    fn records_round_trip() {
        let (slot, hash, record) = (SlotId(9), Hash([7; 32]), RECORD);
        let elsewhere = Location { at: AT, length: 5, crc: 6 };
        for log_record in [
            LogRecord::Clear(slot),
            LogRecord::Set { slot, hash, record, content: None },
            LogRecord::Set { slot, hash, record, content: Some(elsewhere) },
        ] {
            let payload = Bytes::from(encode(&log_record)).slice(FRAME_HEADER_BYTES..);
            assert_eq!(decode(&payload, AT), Ok(log_record));
            for length in 0..payload.len() {
                assert!(decode(&payload.slice(..length), AT).is_err());
            }
        }
    }

    #[test]
    fn content_follows_its_record() {
        let (slot, hash, record) = (SlotId(9), Hash([7; 32]), RECORD);
        let content = Bytes::from_static(b"content");
        let head = encode_with_content(slot, &hash, &record, 5);
        let location = content_location(head.len() - FRAME_HEADER_BYTES, AT, &content, 5);
        let payload = Bytes::from([&head[FRAME_HEADER_BYTES..], &content[..]].concat());
        assert_eq!(&payload[(location.at.offset - AT.offset) as usize..], &content[..]);
        assert_eq!(decode(&payload, AT), Ok(LogRecord::Set { slot, hash, record, content: Some(location) }));
    }
}
