use bytes::Bytes;
use difuse_blocks::{BlockRecord, Inode, TreeNode};

/// What is stored as a value or as a block, and read by whoever asks for it: inodes, nodes of trees, records of blocks.
pub fn block_records(bytes: &[u8]) {
    if let Ok(inode) = Inode::decode(bytes) {
        let again = inode.encode().expect("what was read can be written");
        assert_eq!(again, bytes, "there is one encoding of an inode");
    }
    if let Ok(record) = BlockRecord::decode(bytes) {
        assert_eq!(&record.encode()[..], bytes, "there is one encoding of a record");
    }
    // An error is an answer: only a panic would be wrong.
    let _ = TreeNode::decode(&Bytes::copy_from_slice(bytes));
}
