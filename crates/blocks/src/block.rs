use bytes::Bytes;
use difuse_types::Hash;

/// The most bytes that one block may have: 1 MiB.
pub const MAX_BLOCK_BYTES: usize = 1 << 20;

/// Bytes together with their hash: whoever has a `Block` knows that the two belong together.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    hash: Hash,
    bytes: Bytes,
}

/// Bytes that cannot be the block they are said to be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BlockError {
    /// More than [`MAX_BLOCK_BYTES`]; the hash was not computed.
    #[error("a block has at most {MAX_BLOCK_BYTES} bytes, got {length}")]
    TooLarge {
        /// How many bytes there were.
        length: usize,
    },
    /// The bytes are damaged or belong to another block.
    #[error("the bytes have hash {actual}, not {expected}")]
    WrongHash {
        /// The hash that was asked for.
        expected: Hash,
        /// The hash that the bytes have.
        actual: Hash,
    },
}

impl Block {
    /// The block of `bytes`, which may be empty. Fails with [`BlockError::TooLarge`] only.
    pub fn new(bytes: Bytes) -> Result<Self, BlockError> {
        if bytes.len() > MAX_BLOCK_BYTES {
            return Err(BlockError::TooLarge { length: bytes.len() });
        }
        Ok(Self { hash: Hash::of(&bytes), bytes })
    }

    /// The block named `expected`, if `bytes` is its content.
    pub fn verify(expected: Hash, bytes: Bytes) -> Result<Self, BlockError> {
        let block = Self::new(bytes)?;
        if block.hash != expected {
            return Err(BlockError::WrongHash { expected, actual: block.hash });
        }
        Ok(block)
    }

    /// Its name: the blake3 hash of its bytes.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Its content.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bytes it has, at most [`MAX_BLOCK_BYTES`].
    pub fn length(&self) -> u32 {
        // Never saturates: the constructors bound the length far below `u32::MAX`.
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    /// Gives up the name and keeps the content.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_types::Hash;

    use super::{Block, BlockError, MAX_BLOCK_BYTES};

    #[test]
    fn is_bounded_and_may_be_empty() {
        for length in [0, 1, MAX_BLOCK_BYTES] {
            let block = Block::new(Bytes::from(vec![7; length])).expect("within bounds");
            assert_eq!(block.length() as usize, length);
            assert_eq!(block.hash(), Hash::of(block.bytes()));
            assert_eq!(Block::verify(block.hash(), block.bytes().clone()), Ok(block));
        }
        let length = MAX_BLOCK_BYTES + 1;
        assert_eq!(Block::new(Bytes::from(vec![7; length])), Err(BlockError::TooLarge { length }));
    }

    #[test]
    fn refuses_other_bytes() {
        let (expected, actual) = (Hash::of(b"one"), Hash::of(b"two"));
        assert_eq!(
            Block::verify(expected, Bytes::from_static(b"two")),
            Err(BlockError::WrongHash { expected, actual })
        );
    }
}
