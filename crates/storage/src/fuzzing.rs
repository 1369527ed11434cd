//! What bytes on a disk reach, for the fuzz targets (`difuse-fuzz`) alone: no part of the crate's interface.

use bytes::Bytes;

pub use crate::log::fuzzing::log;
use crate::{
    blocks::decode_record,
    codec::{put_batch, take_batch},
    log::Position,
};

/// A batch of the log of keys: what decodes is encoded as it was.
pub fn batch(bytes: &[u8]) {
    if let Ok((writes, _)) = take_batch(Bytes::copy_from_slice(bytes)) {
        let mut again = Vec::new();
        put_batch(&mut again, &writes);
        let (decoded, _) = take_batch(again.into()).expect("what this crate encodes it decodes");
        assert_eq!(decoded, writes);
    }
}

/// A record of the log of blocks.
pub fn block_record(bytes: &[u8]) {
    // An error is an answer: only a panic would be wrong.
    let _ = decode_record(&Bytes::copy_from_slice(bytes), Position { segment: 1, offset: 24 });
}
