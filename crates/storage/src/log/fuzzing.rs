//! Replay of damaged segments, for the fuzz targets.

use std::path::Path;

use super::{
    Checkpoint, SegmentFiles,
    frame::{FrameHeader, SEGMENT_HEADER_BYTES, SegmentHeader, checksum},
    replay,
};

const SALT: u32 = 0x5a17;

/// A segment as it is written when each payload is flushed by itself.
fn segment_of(payloads: &[&[u8]]) -> Vec<u8> {
    let mut segment = SegmentHeader { number: 1, salt: SALT }.encode().to_vec();
    for (payload, sequence) in payloads.iter().zip(1..) {
        let (length, group_start) = (payload.len() as u32, segment.len() as u32);
        let header = FrameHeader { length, sequence, group_start, payload_crc: checksum(SALT, &[payload]) };
        segment.extend_from_slice(&header.encode(SALT));
        segment.extend_from_slice(payload);
    }
    assert!(segment.len() >= SEGMENT_HEADER_BYTES as usize);
    segment
}

/// Replays a segment in the empty folder `directory` that was damaged: `payloads` as they were written, and `damage` to
/// its bytes. What is found is the beginning of what was written, if all damage lies in four bytes.
pub fn log(directory: &Path, payloads: &[&[u8]], damage: impl FnOnce(&mut Vec<u8>), is_small: bool) {
    let mut segment = segment_of(payloads);
    damage(&mut segment);
    let files = SegmentFiles::new(directory.to_path_buf());
    std::fs::write(files.path(1), &segment).expect("the folder can be written to");
    let mut found = Vec::new();
    let replayed = replay(&files, Checkpoint::START, |_, _, payload| {
        found.push(payload);
        Ok(())
    });
    if is_small {
        assert!(found.len() <= payloads.len() && found.iter().zip(payloads).all(|(found, written)| found == written));
    }
    if replayed.is_ok() {
        // What is left is sound: it is found again.
        let mut again = Vec::new();
        let second = replay(&files, Checkpoint::START, |_, _, payload| {
            again.push(payload);
            Ok(())
        });
        assert_eq!(second.ok(), replayed.ok());
        assert_eq!(again, found);
    }
    // A file that replay has removed is as good as one that is removed here.
    let _ = std::fs::remove_file(files.path(1));
}
