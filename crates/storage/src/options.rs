use std::time::Duration;

/// How a node's store works. [`Options::default`] suits a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Transactions and blocks are refused while the file system has less free space than this, in bytes.
    pub reserve_bytes: u64,
    /// A file of the key log holds at most this many bytes, or one batch (at most 1 GiB).
    pub key_segment_bytes: u32,
    /// The key log is cleaned when less than this share of its closed files is live, in percent (and they are more than a
    /// few); 0: only files in which nothing is live are deleted.
    pub key_log_live_percent: u32,
    /// How often it is looked whether there is anything to clean.
    pub clean_every: Duration,
    /// A file of blocks holds at most this many bytes, or one block (at most 1 GiB).
    pub block_segment_bytes: u32,
    /// sled's cache, in bytes; it takes about twice that.
    pub index_cache_bytes: u64,
    /// The heads of the keys in use are kept in about this much memory, in bytes.
    pub head_cache_bytes: usize,
    /// Records not yet in the index are moved there when they take about this many bytes.
    pub index_after_bytes: usize,
    /// Records not yet in the index are moved there after this time at the latest.
    pub index_after: Duration,
    /// A write waits while the records not yet in the index take more than this many bytes.
    pub unindexed_bytes_max: usize,
    /// A write waits while more than this many bytes wait for the disk.
    pub queued_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            reserve_bytes: 256 << 20,
            key_segment_bytes: 64 << 20,
            key_log_live_percent: 40,
            clean_every: Duration::from_secs(1),
            block_segment_bytes: 64 << 20,
            index_cache_bytes: 16 << 20,
            head_cache_bytes: 32 << 20,
            index_after_bytes: 16 << 20,
            index_after: Duration::from_secs(5),
            unindexed_bytes_max: 128 << 20,
            queued_bytes_max: 64 << 20,
        }
    }
}
