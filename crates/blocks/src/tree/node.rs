use bytes::{BufMut, Bytes, BytesMut};
use difuse_types::Hash;

use crate::{
    MAX_BLOCK_BYTES,
    codec::{DecodeError, Reader},
};

/// The most entries of one node. A full node has 328 KB and a full leaf of average chunks covers 2 GiB.
pub const MAX_FAN_OUT: usize = 8192;
/// The most levels of a tree: room for 2^52 blocks.
pub const MAX_TREE_DEPTH: u8 = 4;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 6;
const ENTRY_BYTES: usize = 40;

/// One child of a tree node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeEntry {
    /// The name of a block of the value, below a leaf, or of the child node.
    pub hash: Hash,
    /// Bytes of the value below this entry, at least 1.
    pub length: u64,
}

/// A decoded and checked node. Keeps the bytes it came from and reads entries from there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TreeNode {
    level: u8,
    length: u64,
    entries: Bytes,
}

impl TreeNode {
    /// Checks everything that one node can tell: version, level, count, exact size, that no entry is empty, that the
    /// lengths add up without overflow, and that a leaf lists no block above [`MAX_BLOCK_BYTES`].
    pub fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let level = reader.u8()?;
        if level >= MAX_TREE_DEPTH {
            return Err(DecodeError::Field("level"));
        }
        // Fits: 4 bytes into a usize of at least 32 bits.
        let count = reader.u32()? as usize;
        if count == 0 || count > MAX_FAN_OUT {
            return Err(DecodeError::Field("count"));
        }
        reader.slice(count * ENTRY_BYTES)?;
        reader.finish()?;
        let mut node = Self { level, length: 0, entries: bytes.slice(HEADER_BYTES..) };
        node.length = node.checked_length()?;
        Ok(node)
    }

    /// 0 for a leaf, whose entries are blocks of the value.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Bytes of the value below this node.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Its children in the order of the value.
    pub fn entries(&self) -> impl Iterator<Item = TreeEntry> {
        (0..).map_while(|index| self.entry(index))
    }

    /// Child number `index`, or `None` behind the last.
    pub(super) fn entry(&self, index: usize) -> Option<TreeEntry> {
        let mut reader = Reader::new(self.entries.get(index * ENTRY_BYTES..)?);
        Some(TreeEntry { hash: reader.hash().ok()?, length: reader.u64().ok()? })
    }

    fn checked_length(&self) -> Result<u64, DecodeError> {
        let longest = if self.level == 0 { MAX_BLOCK_BYTES as u64 } else { u64::MAX };
        self.entries().try_fold(0_u64, |total, entry| {
            if entry.length == 0 || entry.length > longest {
                return Err(DecodeError::Field("length"));
            }
            total.checked_add(entry.length).ok_or(DecodeError::Field("length"))
        })
    }
}

/// The bytes of a node. `entries` has 1 to [`MAX_FAN_OUT`] entries.
pub(super) fn encode(level: u8, entries: &[TreeEntry]) -> Bytes {
    assert!((1..=MAX_FAN_OUT).contains(&entries.len()) && level < MAX_TREE_DEPTH);
    let mut bytes = BytesMut::with_capacity(HEADER_BYTES + entries.len() * ENTRY_BYTES);
    bytes.put_u8(VERSION);
    bytes.put_u8(level);
    bytes.put_u32_le(entries.len() as u32);
    for entry in entries {
        bytes.put_slice(entry.hash.as_bytes());
        bytes.put_u64_le(entry.length);
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_types::Hash;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{MAX_FAN_OUT, TreeEntry, TreeNode, encode};
    use crate::{DecodeError, MAX_BLOCK_BYTES};

    fn entry(length: u64) -> TreeEntry {
        TreeEntry { hash: Hash::of(&length.to_le_bytes()), length }
    }

    #[test]
    fn round_trips() {
        for (level, entries) in
            [(0, vec![entry(1)]), (0, vec![entry(1 << 20); MAX_FAN_OUT]), (3, vec![entry(5), entry(1 << 40)])]
        {
            let node = TreeNode::decode(&encode(level, &entries)).expect("valid node");
            assert_eq!(node.level(), level);
            assert_eq!(node.length(), entries.iter().map(|entry| entry.length).sum::<u64>());
            assert_eq!(node.entries().collect::<Vec<_>>(), entries);
        }
    }

    #[test]
    fn refuses_what_no_encoder_writes() {
        let good = encode(0, &[entry(5), entry(6)]).to_vec();
        let with = |index: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[index] = byte;
            bytes
        };
        let overflow = encode(1, &[entry(u64::MAX), entry(1)]).to_vec();
        let too_long_block = encode(0, &[entry(MAX_BLOCK_BYTES as u64 + 1)]).to_vec();
        let many = [&[1, 0][..], &(MAX_FAN_OUT as u32 + 1).to_le_bytes(), &vec![1; (MAX_FAN_OUT + 1) * 40]].concat();
        for (bytes, error) in [
            (vec![], DecodeError::Truncated),
            (with(0, 2), DecodeError::UnknownVersion(2)),
            (with(1, 4), DecodeError::Field("level")),
            (with(2, 0), DecodeError::Field("count")),
            (with(2, 3), DecodeError::Truncated),
            (with(2, 1), DecodeError::TrailingBytes(40)),
            (with(38, 0), DecodeError::Field("length")),
            (good[..good.len() - 1].to_vec(), DecodeError::Truncated),
            ([&good[..], &[0]].concat(), DecodeError::TrailingBytes(1)),
            (overflow, DecodeError::Field("length")),
            (too_long_block, DecodeError::Field("length")),
            (many, DecodeError::Field("count")),
        ] {
            assert_eq!(TreeNode::decode(&Bytes::from(bytes.clone())), Err(error), "{:?}", &bytes[..bytes.len().min(8)]);
        }
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            count in 0_u8..5,
            shape_it in any::<bool>(),
        ) {
            if shape_it && bytes.len() >= 6 {
                bytes[..6].copy_from_slice(&[1, 1, count, 0, 0, 0]);
                bytes.resize(6 + usize::from(count) * 40, 0);
                (0..usize::from(count)).for_each(|index| bytes[6 + index * 40 + 39] = 0);
            }
            let bytes = Bytes::from(bytes);
            if let Ok(node) = TreeNode::decode(&bytes) {
                prop_assert_eq!(encode(node.level(), &node.entries().collect::<Vec<_>>()), bytes);
            }
        }
    }
}
