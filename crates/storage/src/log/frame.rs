//! How a record lies in a segment: marker, length, sequence, start of its group, checksum of the payload, checksum of
//! the header; then the payload.
//!
//! A group is what one flush made durable, so a frame whose group starts at offset `g` proves that everything before
//! `g` was durable when it was written. That tells damage (a broken frame before such a `g`) from what a crash left
//! of the last, never acknowledged, group. Checksums begin with the segment's random salt: no content that a client
//! chose can look like a frame.

/// Bytes before the payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 28;
/// The longest payload.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 256 << 20;
/// Bytes at the start of a segment.
pub(super) const SEGMENT_HEADER_BYTES: u32 = 24;

const FRAME_MARKER: [u8; 4] = *b"\xd1Frm";
const SEGMENT_MARKER: [u8; 8] = *b"difuseSG";
const SEGMENT_VERSION: u32 = 1;

/// The fields of a frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub length: u32,
    pub sequence: u64,
    pub group_start: u32,
    pub payload_crc: u32,
}

impl FrameHeader {
    pub fn encode(&self, salt: u32) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..4].copy_from_slice(&FRAME_MARKER);
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.group_start.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = checksum(salt, &[&bytes[..24]]);
        bytes[24..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None` if the bytes are no header of a frame in a segment with this salt.
    pub fn decode(bytes: &[u8], salt: u32) -> Option<Self> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES)?;
        let sound = bytes[..4] == FRAME_MARKER && u32_at(bytes, 24) == checksum(salt, &[&bytes[..24]]);
        let header = Self {
            length: u32_at(bytes, 4),
            sequence: u64::from(u32_at(bytes, 8)) | u64::from(u32_at(bytes, 12)) << 32,
            group_start: u32_at(bytes, 16),
            payload_crc: u32_at(bytes, 20),
        };
        (sound && header.length as usize <= PAYLOAD_BYTES_MAX).then_some(header)
    }
}

/// Offsets in `bytes` where a frame may begin.
pub(super) fn possible_frames(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let candidates = bytes.iter().enumerate().filter(|(_, byte)| **byte == FRAME_MARKER[0]);
    candidates.map(|(offset, _)| offset).filter(|offset| bytes[*offset..].starts_with(&FRAME_MARKER))
}

/// The checksum of `parts` one after the other.
pub(super) fn checksum(salt: u32, parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

/// What a segment begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub number: u32,
    pub salt: u32,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        bytes[..8].copy_from_slice(&SEGMENT_MARKER);
        bytes[8..12].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.number.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..SEGMENT_HEADER_BYTES as usize)?;
        let sound = bytes[..8] == SEGMENT_MARKER
            && u32_at(bytes, 8) == SEGMENT_VERSION
            && u32_at(bytes, 20) == crc32fast::hash(&bytes[..20]);
        sound.then(|| Self { number: u32_at(bytes, 12), salt: u32_at(bytes, 16) })
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[offset..offset + 4]);
    u32::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::{FrameHeader, SegmentHeader, possible_frames};

    const HEADER: FrameHeader = FrameHeader { length: 77, sequence: 1 << 40, group_start: 24, payload_crc: 9 };

    #[test]
    fn headers_round_trip_and_every_bit_counts() {
        let bytes = HEADER.encode(5);
        assert_eq!(FrameHeader::decode(&bytes, 5), Some(HEADER));
        assert_eq!(FrameHeader::decode(&bytes, 6), None, "another segment's salt");
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FrameHeader::decode(&changed, 5), None, "bit {bit}");
        }
        let segment = SegmentHeader { number: 3, salt: 5 };
        assert_eq!(SegmentHeader::decode(&segment.encode()), Some(segment));
        assert_eq!(SegmentHeader::decode(&segment.encode()[..20]), None);
    }

    #[test]
    fn finds_where_frames_may_begin() {
        let mut bytes = vec![0xd1; 3];
        bytes.extend_from_slice(&HEADER.encode(0));
        assert_eq!(possible_frames(&bytes).collect::<Vec<_>>(), [3]);
    }
}
