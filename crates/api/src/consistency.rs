//! Which level stands behind an answer when a request names none.

use difuse_types::Level;

/// The level of each operation that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Consistency {
    /// Reading the head of a key, and what is known of a file or directory.
    pub stat: Level,
    /// Giving a key, a file or a directory its value.
    pub set_inode: Level,
    /// Deleting a key, a file or a directory.
    pub delete_inode: Level,
    /// Reading a block.
    pub get_block: Level,
    /// Storing a block.
    pub set_block: Level,
    /// Deleting a block.
    pub delete_block: Level,
}

impl Consistency {
    /// The same level for every operation.
    pub fn uniform(level: Level) -> Self {
        Self::of(level, level)
    }

    /// One level for what reads, another one for what changes something.
    pub fn of(read: Level, write: Level) -> Self {
        Self {
            stat: read,
            set_inode: write,
            delete_inode: write,
            get_block: read,
            set_block: write,
            delete_block: write,
        }
    }

    /// The same with other levels where some are given: for what reads, and for what changes something.
    #[must_use]
    pub fn with(self, read: Option<Level>, write: Option<Level>) -> Self {
        Self {
            stat: read.unwrap_or(self.stat),
            set_inode: write.unwrap_or(self.set_inode),
            delete_inode: write.unwrap_or(self.delete_inode),
            get_block: read.unwrap_or(self.get_block),
            set_block: write.unwrap_or(self.set_block),
            delete_block: write.unwrap_or(self.delete_block),
        }
    }
}
