//! Content-addressed blocks, trees and inodes, without I/O.
//!
//! A large value takes this way: [`Chunker`] cuts its bytes where their content says so, each chunk becomes a
//! [`Block`] named by its hash, [`TreeBuilder`] lists the blocks in a tree of blocks, and an [`Inode`] names the root of
//! that tree. [`RangePlan`] walks a tree back into the blocks of a byte range.
//!
//! What a member of a slot knows about a block is a [`BlockRecord`]; two records of one block always merge into one.
//! Members that exchange records converge.
//!
//! *Invariant:* nothing here reads a clock, a socket, a file or a random generator, and nothing here knows who holds a
//! block. Bytes from elsewhere are verified and bounded; bad ones are typed errors.

mod block;
mod chunker;
mod codec;
mod inode;
mod record;
mod tree;

pub use block::{Block, BlockError, MAX_BLOCK_BYTES};
pub use chunker::{AVERAGE_CHUNK_BYTES, ChunkSizes, ChunkSizesError, Chunker, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES};
pub use codec::DecodeError;
pub use inode::{Content, Inode, InodeError, Kind, MAX_INLINE_BYTES, MAX_INODE_BYTES, MAX_MEDIA_TYPE_BYTES, MAX_MODE};
pub use record::{
    BlockRecord, DeleteDecision, PutDecision, RECORD_BYTES, StillReferenced, decide_delete, decide_put, next_delete,
    version_in_generation,
};
pub use tree::{
    MAX_FAN_OUT, MAX_TREE_DEPTH, Piece, PieceError, RangePlan, RangePlanError, TreeBuildError, TreeBuilder, TreeEntry,
    TreeNode, TreeRoot,
};
