use std::ops::Range;

use bytes::Bytes;
use difuse_types::Hash;

use super::node::{TreeEntry, TreeNode};
use crate::{Block, BlockError, DecodeError};

/// A part of a block that a range needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// The block's name.
    pub hash: Hash,
    /// How long the tree says the whole block is.
    pub block_length: u32,
    /// Where in the block the piece begins.
    pub offset_in_block: u32,
    /// Bytes of the piece, at least 1.
    pub length: u32,
}

/// A block that is not what the tree says about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PieceError {
    /// The piece is of another block.
    #[error("block {actual} was given where {expected} is needed")]
    OtherBlock {
        /// The block that the piece is of.
        expected: Hash,
        /// The block that was given.
        actual: Hash,
    },
    /// The tree was written with a wrong length: the value is damaged for good.
    #[error("block {hash} has {actual} bytes, but its tree says {expected}")]
    WrongLength {
        /// The block.
        hash: Hash,
        /// Its length according to the tree.
        expected: u32,
        /// Its length.
        actual: u32,
    },
}

impl Piece {
    /// Cuts the piece out of its block, without copying.
    pub fn cut_from(&self, block: &Block) -> Result<Bytes, PieceError> {
        if block.hash() != self.hash {
            return Err(PieceError::OtherBlock { expected: self.hash, actual: block.hash() });
        }
        let (expected, actual) = (self.block_length, block.length());
        let start = self.offset_in_block as usize;
        match start.checked_add(self.length as usize) {
            Some(end) if expected == actual && end <= block.bytes().len() => Ok(block.bytes().slice(start..end)),
            _ => Err(PieceError::WrongLength { hash: self.hash, expected, actual }),
        }
    }
}

/// Why a range cannot be planned, or why a tree block was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RangePlanError {
    /// The range is reversed or reaches behind the end of the value.
    #[error("bytes {start} to {end} of a value of {length} bytes")]
    OutOfRange {
        /// First byte asked for.
        start: u64,
        /// Behind the last byte asked for.
        end: u64,
        /// Bytes of the value.
        length: u64,
    },
    /// A tree block that was not asked for.
    #[error("tree block {0} was not asked for")]
    NotNeeded(Hash),
    /// The bytes are not the block: another source may have the right ones.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The block is no tree node: the tree is damaged for good.
    #[error("tree block {hash}: {error}")]
    NoTree {
        /// The block.
        hash: Hash,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The node is not at its level: the tree is damaged for good.
    #[error("tree block {hash} has level {actual}, but {expected} is below its parent")]
    WrongLevel {
        /// The block.
        hash: Hash,
        /// One below its parent's level.
        expected: u8,
        /// The level that it has.
        actual: u8,
    },
    /// The node covers another number of bytes than its parent, or the inode, says: the tree is damaged for good.
    #[error("tree block {hash} covers {actual} bytes, but its parent says {expected}")]
    WrongLength {
        /// The block.
        hash: Hash,
        /// Bytes according to its parent.
        expected: u64,
        /// Bytes that it covers.
        actual: u64,
    },
}

/// Walks a tree to the blocks of a byte range, in order.
///
/// Ask [`next_needed`](Self::next_needed) for a tree block, [`provide`](Self::provide) it, take the pieces, and go on
/// until nothing is needed any more. Holds one node per level, at most 1.3 MB, whatever the size of the value.
#[derive(Clone, Debug)]
pub struct RangePlan {
    range: Range<u64>,
    /// Inner nodes from the root down to the parent of what is needed.
    path: Vec<Frame>,
    needed: Option<Needed>,
}

/// An inner node, and how far the walk has come in it.
#[derive(Clone, Debug)]
struct Frame {
    node: TreeNode,
    next_index: usize,
    /// Where in the value the next child begins.
    next_start: u64,
}

/// A node to be fetched, and what its parent says about it.
#[derive(Clone, Copy, Debug)]
struct Needed {
    entry: TreeEntry,
    start: u64,
    /// `None` for the root, whose level nobody has told.
    level: Option<u8>,
}

impl RangePlan {
    /// A walk over the bytes `range` of the value of `length` bytes whose tree has this root. An empty range needs
    /// nothing. `0..length` visits every block of the value and of the tree.
    pub fn new(root: Hash, length: u64, range: Range<u64>) -> Result<Self, RangePlanError> {
        if range.start > range.end || range.end > length {
            return Err(RangePlanError::OutOfRange { start: range.start, end: range.end, length });
        }
        let root = Needed { entry: TreeEntry { hash: root, length }, start: 0, level: None };
        let needed = (!range.is_empty()).then_some(root);
        Ok(Self { range, path: Vec::new(), needed })
    }

    /// The tree block that the walk needs now; `None` when all pieces were given.
    pub fn next_needed(&self) -> Option<Hash> {
        self.needed.map(|needed| needed.entry.hash)
    }

    /// Takes the needed tree block and gives the pieces that follow the earlier ones: none below an inner node, at most
    /// [`MAX_FAN_OUT`](crate::MAX_FAN_OUT) below a leaf. After an error the walk stands where it stood.
    pub fn provide(&mut self, hash: Hash, bytes: Bytes) -> Result<Vec<Piece>, RangePlanError> {
        let needed = self.needed.filter(|needed| needed.entry.hash == hash).ok_or(RangePlanError::NotNeeded(hash))?;
        let node = needed.check(bytes)?;
        let pieces = if node.level() == 0 {
            self.pieces(&node, needed.start)
        } else {
            self.path.push(Frame { node, next_index: 0, next_start: needed.start });
            Vec::new()
        };
        self.needed = self.advance();
        Ok(pieces)
    }

    fn pieces(&self, leaf: &TreeNode, start: u64) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut block_start = start;
        for entry in leaf.entries() {
            let block_end = block_start + entry.length;
            let (from, to) = (block_start.max(self.range.start), block_end.min(self.range.end));
            if from < to {
                pieces.push(Piece {
                    hash: entry.hash,
                    block_length: within_block(entry.length),
                    offset_in_block: within_block(from - block_start),
                    length: within_block(to - from),
                });
            }
            block_start = block_end;
        }
        pieces
    }

    /// The next node that overlaps the range, depth first.
    fn advance(&mut self) -> Option<Needed> {
        while let Some(frame) = self.path.last_mut() {
            if let Some(needed) = frame.next_within(&self.range) {
                return Some(needed);
            }
            self.path.pop();
        }
        None
    }
}

impl Needed {
    fn check(&self, bytes: Bytes) -> Result<TreeNode, RangePlanError> {
        let TreeEntry { hash, length: expected } = self.entry;
        let block = Block::verify(hash, bytes)?;
        let node = TreeNode::decode(block.bytes()).map_err(|error| RangePlanError::NoTree { hash, error })?;
        let actual = node.level();
        if let Some(expected) = self.level.filter(|expected| *expected != actual) {
            return Err(RangePlanError::WrongLevel { hash, expected, actual });
        }
        if node.length() != expected {
            return Err(RangePlanError::WrongLength { hash, expected, actual: node.length() });
        }
        Ok(node)
    }
}

impl Frame {
    fn next_within(&mut self, range: &Range<u64>) -> Option<Needed> {
        while self.next_start < range.end {
            let entry = self.node.entry(self.next_index)?;
            let start = self.next_start;
            self.next_index += 1;
            self.next_start += entry.length;
            if self.next_start > range.start {
                return Some(Needed { entry, start, level: self.node.level().checked_sub(1) });
            }
        }
        None
    }
}

/// Never saturates: a decoded leaf lists no block above 1 MiB.
fn within_block(length: u64) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use difuse_types::Hash;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::{Piece, PieceError, RangePlan, RangePlanError};
    use crate::{Block, BlockError, DecodeError, TreeBuilder, TreeEntry, TreeNode, TreeRoot, tree::node::encode};

    /// A value of blocks of the given lengths, its tree, and everything that was stored.
    fn build(fan_out: usize, lengths: &[usize]) -> (Vec<u8>, TreeRoot, BTreeMap<Hash, Bytes>) {
        let (mut value, mut stored) = (Vec::new(), BTreeMap::new());
        let mut builder = TreeBuilder::with_fan_out(fan_out);
        let mut nodes = Vec::new();
        for (index, length) in lengths.iter().enumerate() {
            let block = Block::new(Bytes::from(vec![index as u8; *length])).expect("small block");
            value.extend_from_slice(block.bytes());
            nodes.extend(builder.push(block.hash(), block.length()).expect("fits"));
            stored.insert(block.hash(), block.into_bytes());
        }
        let (rest, root) = builder.finish().expect("fits");
        stored.extend(nodes.into_iter().chain(rest).map(|node| (node.hash(), node.into_bytes())));
        (value, root, stored)
    }

    fn read(plan: &mut RangePlan, stored: &BTreeMap<Hash, Bytes>) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(hash) = plan.next_needed() {
            let pieces = plan.provide(hash, stored[&hash].clone()).expect("a sound tree");
            assert!(plan.path.len() < 4);
            for piece in pieces {
                let block = Block::verify(piece.hash, stored[&piece.hash].clone()).expect("a sound block");
                bytes.extend_from_slice(&piece.cut_from(&block).expect("within the block"));
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn a_range_is_the_slice_of_the_value(
            fan_out in 3_usize..6,
            lengths in prop::collection::vec(1_usize..50, 1..81),
            ends in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let (value, root, stored) = build(fan_out, &lengths);
            let (one, other) = (ends.0.index(value.len() + 1), ends.1.index(value.len() + 1));
            let (start, end) = (one.min(other), one.max(other));
            let mut plan = RangePlan::new(root.hash, root.length, start as u64..end as u64).expect("in range");
            prop_assert_eq!(read(&mut plan, &stored), &value[start..end]);
            let mut whole = RangePlan::new(root.hash, root.length, 0..root.length).expect("in range");
            prop_assert_eq!(read(&mut whole, &stored), value);
        }

        #[test]
        fn a_changed_tree_block_is_refused_and_the_right_one_still_taken(
            place in any::<prop::sample::Index>(),
            flip in 1_u8..,
        ) {
            let (value, root, stored) = build(3, &[20; 30]);
            let mut plan = RangePlan::new(root.hash, root.length, 0..root.length).expect("in range");
            let mut bytes = stored[&root.hash].to_vec();
            let place = place.index(bytes.len());
            bytes[place] ^= flip;
            let refused = matches!(
                plan.provide(root.hash, Bytes::from(bytes)),
                Err(RangePlanError::Block(BlockError::WrongHash { .. }))
            );
            prop_assert!(refused);
            prop_assert_eq!(read(&mut plan, &stored), value);
        }
    }

    #[test]
    fn a_narrow_range_needs_one_path_only() {
        let (_, root, stored) = build(4, &[10; 64]);
        // The first and last bytes of subtrees (160 bytes), leaves (40) and blocks (10), and one in between.
        for start in [0, 159, 160, 199, 200, 315, 319, 320, 639] {
            let mut plan = RangePlan::new(root.hash, root.length, start..start + 1).expect("in range");
            let (mut nodes, mut pieces) = (0, Vec::new());
            while let Some(hash) = plan.next_needed() {
                nodes += 1;
                pieces.extend(plan.provide(hash, stored[&hash].clone()).expect("a sound tree"));
            }
            let hash = Hash::of(&[(start / 10) as u8; 10]);
            let expected = Piece { hash, block_length: 10, offset_in_block: (start % 10) as u32, length: 1 };
            assert_eq!((nodes, pieces), (3, vec![expected]), "byte {start}");
        }
    }

    #[test]
    fn refuses_ranges_outside_and_blocks_not_asked_for() {
        for (start, end) in [(0, 11), (11, 11), (3, 2)] {
            let plan = RangePlan::new(Hash::ZERO, 10, start..end).map(|_| ());
            assert_eq!(plan, Err(RangePlanError::OutOfRange { start, end, length: 10 }));
        }
        let mut empty = RangePlan::new(Hash::ZERO, 10, 10..10).expect("empty range");
        assert_eq!(empty.next_needed(), None);
        assert_eq!(empty.provide(Hash::ZERO, Bytes::new()), Err(RangePlanError::NotNeeded(Hash::ZERO)));
    }

    /// Trees that hash correctly and yet lie: their writer was hostile.
    #[test]
    fn refuses_trees_that_contradict_themselves() {
        let entry = |hash, length| TreeEntry { hash, length };
        let leaf = Block::new(encode(0, &[entry(Hash::of(b"x"), 5)])).expect("small");
        let inner = |level, length| Block::new(encode(level, &[entry(leaf.hash(), length)])).expect("small");
        let rubbish = Block::new(Bytes::from_static(b"rubbish")).expect("small");
        let wrong_length = RangePlanError::WrongLength { hash: leaf.hash(), expected: 6, actual: 5 };
        let wrong_level = RangePlanError::WrongLevel { hash: leaf.hash(), expected: 1, actual: 0 };
        let no_tree = RangePlanError::NoTree { hash: rubbish.hash(), error: DecodeError::UnknownVersion(b'r') };
        for (root, length, error) in [
            (leaf.clone(), 6, wrong_length.clone()),
            (inner(1, 6), 6, wrong_length),
            (inner(2, 5), 5, wrong_level),
            (rubbish, 5, no_tree),
        ] {
            let mut plan = RangePlan::new(root.hash(), length, 0..length).expect("in range");
            let mut provided = plan.provide(root.hash(), root.bytes().clone());
            if provided.is_ok() {
                provided = plan.provide(leaf.hash(), leaf.bytes().clone());
            }
            assert_eq!(provided, Err(error));
        }
        assert!(TreeNode::decode(leaf.bytes()).is_ok());
    }

    #[test]
    fn a_block_of_another_length_than_its_tree_says_is_refused() {
        let block = Block::new(Bytes::from_static(b"four")).expect("small");
        let piece = Piece { hash: block.hash(), block_length: 5, offset_in_block: 0, length: 4 };
        let error = PieceError::WrongLength { hash: block.hash(), expected: 5, actual: 4 };
        assert_eq!(piece.cut_from(&block), Err(error));
        let other = Piece { hash: Hash::ZERO, block_length: 4, ..piece };
        assert!(matches!(other.cut_from(&block), Err(PieceError::OtherBlock { .. })));
    }
}
