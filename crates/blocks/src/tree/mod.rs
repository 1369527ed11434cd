//! Trees: blocks that list the blocks of a large value.
//!
//! A node of level 0 (a leaf) lists blocks of the value; a node of level n lists nodes of level n - 1. Every entry says
//! how many bytes of the value lie below it, so that a byte range is found without reading what is beside it. Every node
//! but the last of its level is full; only the root is never an inner node with one child.
//!
//! Layout of a node, integers little-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version, 1 |
//! | 1 | level, below [`MAX_TREE_DEPTH`] |
//! | 4 | number of entries, 1 to [`MAX_FAN_OUT`] |
//! | 40 each | hash (32), length (8): bytes of the value below this entry, at least 1 |

mod builder;
mod node;
mod plan;

pub use builder::{TreeBuildError, TreeBuilder, TreeRoot};
pub use node::{MAX_FAN_OUT, MAX_TREE_DEPTH, TreeEntry, TreeNode};
pub use plan::{Piece, PieceError, RangePlan, RangePlanError};
