use difuse_types::Hash;

use super::node::{MAX_FAN_OUT, MAX_TREE_DEPTH, TreeEntry, encode};
use crate::{Block, BlockError, MAX_BLOCK_BYTES};

/// Builds the tree of a value while its blocks come in, holding one unfinished node per level.
#[derive(Debug)]
pub struct TreeBuilder {
    fan_out: usize,
    /// Children that wait for their node, by the level of that node.
    levels: Vec<Vec<TreeEntry>>,
    length: u64,
    value_blocks: u64,
    tree_blocks: u64,
}

/// What names a finished tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TreeRoot {
    /// The name of the topmost node.
    pub hash: Hash,
    /// Bytes of the whole value.
    pub length: u64,
    /// Blocks of the value that the tree lists, repeated ones counted again.
    pub value_blocks: u64,
    /// Blocks that the tree itself consists of.
    pub tree_blocks: u64,
}

/// Blocks that no tree can list. The builder is of no further use.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TreeBuildError {
    /// A tree lists at least one block; an empty value needs none.
    #[error("a tree of no blocks")]
    Empty,
    /// A listed block has 1 to [`MAX_BLOCK_BYTES`] bytes.
    #[error("a block of {0} bytes in a tree")]
    BlockLength(u32),
    /// More blocks than fit in [`MAX_TREE_DEPTH`] levels, or more than 2^64 bytes.
    #[error("too many blocks for one tree")]
    TooLarge,
    /// A node of the tree is no block. Cannot happen within [`MAX_FAN_OUT`].
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl Default for TreeBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TreeBuilder {
    /// A builder with nodes of [`MAX_FAN_OUT`] entries.
    pub fn new() -> Self {
        Self::with_fan_out(MAX_FAN_OUT)
    }

    /// A builder with smaller nodes, for tests of deep trees; `fan_out` is brought into 2 to [`MAX_FAN_OUT`]. The same
    /// value has another root with another fan-out.
    pub fn with_fan_out(fan_out: usize) -> Self {
        Self { fan_out: fan_out.clamp(2, MAX_FAN_OUT), levels: Vec::new(), length: 0, value_blocks: 0, tree_blocks: 0 }
    }

    /// Lists the next block of the value, of `length` bytes. Gives the nodes that this completes, to be stored:
    /// mostly none, at most [`MAX_TREE_DEPTH`].
    pub fn push(&mut self, hash: Hash, length: u32) -> Result<Vec<Block>, TreeBuildError> {
        if length == 0 || length as usize > MAX_BLOCK_BYTES {
            return Err(TreeBuildError::BlockLength(length));
        }
        self.length = self.length.checked_add(u64::from(length)).ok_or(TreeBuildError::TooLarge)?;
        self.value_blocks += 1;
        let mut finished = Vec::new();
        self.add(0, TreeEntry { hash, length: u64::from(length) }, &mut finished)?;
        Ok(finished)
    }

    /// Completes the tree. Gives the remaining nodes, to be stored, and the root's name.
    pub fn finish(mut self) -> Result<(Vec<Block>, TreeRoot), TreeBuildError> {
        let mut finished = Vec::new();
        let mut level = 0;
        let hash = loop {
            if let Some(root) = self.root_above(level) {
                break root.hash;
            }
            if level >= self.levels.len() {
                return Err(TreeBuildError::Empty);
            }
            if !self.levels[level].is_empty() {
                let node = self.seal(level, &mut finished)?;
                self.add(level + 1, node, &mut finished)?;
            }
            level += 1;
        };
        let Self { length, value_blocks, tree_blocks, .. } = self;
        Ok((finished, TreeRoot { hash, length, value_blocks, tree_blocks }))
    }

    /// The root, when everything below `level` is sealed and the topmost list has one node: no node is put above it.
    fn root_above(&self, level: usize) -> Option<TreeEntry> {
        match self.levels.get(level)?.as_slice() {
            [only] if level > 0 && level + 1 == self.levels.len() => Some(*only),
            _ => None,
        }
    }

    fn add(&mut self, level: usize, entry: TreeEntry, finished: &mut Vec<Block>) -> Result<(), TreeBuildError> {
        let (mut level, mut entry) = (level, entry);
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            // The list above the deepest level may hold the root, but there is no node to hold a second one.
            let is_above_all = level >= usize::from(MAX_TREE_DEPTH);
            if is_above_all && !self.levels[level].is_empty() {
                return Err(TreeBuildError::TooLarge);
            }
            self.levels[level].push(entry);
            if is_above_all || self.levels[level].len() < self.fan_out {
                return Ok(());
            }
            entry = self.seal(level, finished)?;
            level += 1;
        }
    }

    /// Makes a node of the children that wait at `level`.
    fn seal(&mut self, level: usize, finished: &mut Vec<Block>) -> Result<TreeEntry, TreeBuildError> {
        let level_byte = u8::try_from(level).map_err(|_| TreeBuildError::TooLarge)?;
        let node = Block::new(encode(level_byte, &self.levels[level]))?;
        let length = self.levels[level].iter().map(|entry| entry.length).sum();
        self.levels[level].clear();
        let entry = TreeEntry { hash: node.hash(), length };
        self.tree_blocks += 1;
        finished.push(node);
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::Hash;

    use super::{TreeBuildError, TreeBuilder, TreeRoot};
    use crate::{Block, MAX_BLOCK_BYTES, TreeNode};

    fn build(fan_out: usize, count: u32) -> Result<(Vec<Block>, TreeRoot), TreeBuildError> {
        let mut builder = TreeBuilder::with_fan_out(fan_out);
        let mut nodes = Vec::new();
        for index in 1..=count {
            nodes.extend(builder.push(Hash::of(&index.to_le_bytes()), index)?);
        }
        let (rest, root) = builder.finish()?;
        nodes.extend(rest);
        Ok((nodes, root))
    }

    #[test]
    fn shapes_follow_from_the_count() {
        // (fan-out, blocks, level of the root, nodes)
        for (fan_out, count, level, nodes_expected) in [
            (3, 1, 0, 1),
            (3, 3, 0, 1),
            (3, 4, 1, 3),
            (3, 9, 1, 4),
            (3, 10, 2, 7),
            (2, 16, 3, 15),
            (8192, 8192, 0, 1),
            (8192, 8193, 1, 3),
        ] {
            let (nodes, root) = build(fan_out, count).expect("fits");
            let top = nodes.iter().find(|node| node.hash() == root.hash).expect("the root was emitted");
            let top = TreeNode::decode(top.bytes()).expect("valid node");
            assert_eq!((top.level(), nodes.len()), (level, nodes_expected), "{fan_out} {count}");
            assert_eq!((root.tree_blocks, root.value_blocks), (nodes.len() as u64, u64::from(count)));
            assert_eq!((root.length, top.length()), ((1..=u64::from(count)).sum(), root.length));
        }
    }

    #[test]
    fn refuses_what_cannot_be_listed() {
        assert_eq!(build(2, 0).map(|_| ()), Err(TreeBuildError::Empty));
        assert_eq!(build(2, 17).map(|_| ()), Err(TreeBuildError::TooLarge));
        for length in [0, MAX_BLOCK_BYTES as u32 + 1] {
            assert_eq!(TreeBuilder::new().push(Hash::ZERO, length), Err(TreeBuildError::BlockLength(length)));
        }
    }
}
