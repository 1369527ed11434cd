//! Content of any size as a value of at most a few KiB, and back.
//!
//! Content up to [`difuse_keylog::MAX_INLINE_BYTES`] lives in the value itself. Longer content is cut into blocks where its bytes say
//! so, the blocks' hashes make a tree, and the value is an inode that names the tree's root. The same content makes
//! the same blocks, so that storing it again stores nothing.
//!
//! Both ways are streams that keep a bounded number of blocks in memory, whatever the size of the content.

use std::{error::Error, ops::Range};

use bytes::{Bytes, BytesMut};
use difuse_blocks::{Content, Inode, InodeError};
use difuse_keylog::{Value, ValueKind};
use difuse_protocol::request::RequestError;
use difuse_types::{Hash, Key, Level};
use futures::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};

use crate::Datastore;

mod download;
mod upload;

pub(crate) use upload::upload;

/// No more room than this is made for a content before it has come, in bytes.
const RESERVED_MAX: u64 = 512 << 20;

/// What a source of content fails with.
pub type SourceError = Box<dyn Error + Send + Sync>;

/// Why content was not stored or not read.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// The datastore refused a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The content to store could not be read to its end. No key was changed.
    #[error("the content could not be read to its end: {0}")]
    Source(#[source] SourceError),
    /// A block that the value names is not there.
    #[error("block {hash} of the content is missing on every replica that was asked")]
    Missing {
        /// The block.
        hash: Hash,
    },
    /// The inode or a block of the tree is not what it should be.
    #[error("the content is damaged: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// The key holds a structure, which has no content of bytes.
    #[error("the key holds a data structure: read it with its commands, over the Redis protocol")]
    Structure,
    /// The range asked for is not within the content.
    #[error("the range is not within the content, which has {size} bytes")]
    Range {
        /// The content's size in bytes.
        size: u64,
    },
}

/// What an upload moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Upload {
    /// Length of the content in bytes.
    pub size: u64,
    /// Blocks that it consists of, those of the tree with them; 0 where it lives in the value.
    pub blocks_total: u64,
    /// Those that were not stored yet.
    pub blocks_new: u64,
    /// The length of those, in bytes.
    pub bytes_new: u64,
}

/// Content that is stored, but that no key names yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// What to give to a key.
    pub value: Value,
    /// What was moved.
    pub upload: Upload,
}

/// Stores what `source` yields, to the end, and returns the value that stands for it, to be given to `key`. An error of `source` is an error
/// here: content that was cut off never looks complete.
pub async fn store<D: Datastore + ?Sized>(
    datastore: &D,
    key: &Key,
    source: impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
    level: Level,
) -> Result<Stored, ValueError> {
    let uploaded = upload(datastore, key, source, level).await?;
    let upload = uploaded.upload;
    let value = match uploaded.content {
        Content::None => Value::inline(Bytes::new()),
        Content::Inline(bytes) => Value::inline(bytes),
        content => {
            let inode = Inode::file(upload.size, content, uploaded.hash_of_content, 0, 0, None);
            let inode = inode.map_err(|error| damaged(error.to_string()))?.stored_in(uploaded.generation);
            inode_value(&inode).map_err(|error| damaged(error.to_string()))?
        }
    };
    Ok(Stored { value, upload })
}

/// The value that holds `inode`.
pub(crate) fn inode_value(inode: &Inode) -> Result<Value, InodeError> {
    Ok(Value::new(ValueKind::Inode, inode.encode()?))
}

/// The inode that `value` holds; `None` if it holds the content itself.
pub fn inode_of(value: &Value) -> Result<Option<Inode>, ValueError> {
    match value.kind {
        ValueKind::Inline => Ok(None),
        ValueKind::Operation | ValueKind::State | ValueKind::Part => Err(ValueError::Structure),
        ValueKind::Inode => Inode::decode(&value.bytes).map(Some).map_err(|error| damaged(error.to_string())),
    }
}

/// The length in bytes of the content that `value` stands for.
pub fn size_of(value: &Value) -> Result<u64, ValueError> {
    Ok(inode_of(value)?.map_or(value.bytes.len() as u64, |inode| inode.size))
}

/// The content that `value` stands for, or the bytes of it in `range` (an empty one is allowed), in order, every block
/// verified. The next few blocks are fetched ahead.
pub fn stream<D: Datastore + Clone>(
    datastore: D,
    value: &Value,
    range: Option<Range<u64>>,
    level: Level,
) -> Result<BoxStream<'static, Result<Bytes, ValueError>>, ValueError> {
    let size = size_of(value)?;
    let range = range.unwrap_or(0..size);
    if range.start > range.end || range.end > size {
        return Err(ValueError::Range { size });
    }
    let content = inode_of(value)?.map_or(Content::Inline(value.bytes.clone()), |inode| inode.content);
    let parts = match content {
        Content::None => stream::empty().boxed(),
        Content::Inline(bytes) => stream::iter(slice(&bytes, &range).map(Ok)).boxed(),
        Content::Block(hash) => download::block(datastore, hash, size, range, level).boxed(),
        Content::Tree(root) => download::tree(datastore, root, size, range, level)?.boxed(),
    };
    Ok(parts)
}

/// The whole content that `value` stands for, in memory.
pub async fn whole<D: Datastore + Clone>(datastore: D, value: &Value, level: Level) -> Result<Bytes, ValueError> {
    let size = size_of(value)?;
    let mut parts = stream(datastore, value, None, level)?;
    let first = parts.try_next().await?.unwrap_or_default();
    if first.len() as u64 == size {
        return Ok(first);
    }
    // The size is a claim until all of it has come.
    let mut whole = BytesMut::with_capacity(usize::try_from(size.min(RESERVED_MAX)).unwrap_or_default());
    whole.extend_from_slice(&first);
    while let Some(part) = parts.try_next().await? {
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

/// The part of `bytes` in `range`; `None` if the range is empty or beyond them.
fn slice(bytes: &Bytes, range: &Range<u64>) -> Option<Bytes> {
    let length = bytes.len();
    let start = usize::try_from(range.start).unwrap_or(length).min(length);
    let end = usize::try_from(range.end).unwrap_or(length).min(length);
    (start < end).then(|| bytes.slice(start..end))
}

fn damaged(reason: impl Into<String>) -> ValueError {
    ValueError::Damaged { reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use difuse_keylog::{MAX_INLINE_BYTES, ValueKind};
    use difuse_types::{Key, Level};
    use futures::{TryStreamExt, executor::block_on, stream};

    use super::{SourceError, Stored, ValueError, size_of, store};
    use crate::testing::{FakeDatastore, content};

    fn key() -> Key {
        Key::new(b"k").unwrap()
    }

    /// Parts of an odd length, so that cuts fall anywhere.
    async fn store_bytes(datastore: &FakeDatastore, bytes: &[u8]) -> Stored {
        let parts: Vec<Result<Bytes, SourceError>> =
            bytes.chunks(10_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        store(datastore, &key(), stream::iter(parts), Level::Quorum).await.unwrap()
    }

    async fn read_back(
        datastore: &Arc<FakeDatastore>,
        stored: &Stored,
        range: Option<std::ops::Range<u64>>,
    ) -> Result<Vec<u8>, ValueError> {
        let parts: Vec<Bytes> =
            super::stream(datastore.clone(), &stored.value, range, Level::Quorum)?.try_collect().await?;
        Ok(parts.concat())
    }

    #[test]
    fn content_of_any_size_comes_back() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            for size in [0, 1, MAX_INLINE_BYTES, MAX_INLINE_BYTES + 1, 60_000, 30_000_000] {
                let bytes = content(size, size as u64);
                let stored = store_bytes(&datastore, &bytes).await;
                let kind = if size <= MAX_INLINE_BYTES { ValueKind::Inline } else { ValueKind::Inode };
                assert_eq!((stored.value.kind, stored.upload.size), (kind, size as u64));
                assert_eq!(size_of(&stored.value).unwrap(), size as u64);
                assert!(stored.value.bytes.len() <= crate::keylog::MAX_VALUE_BYTES);
                assert!(read_back(&datastore, &stored, None).await.unwrap() == bytes, "{size}");
            }
        });
    }

    #[test]
    fn ranges_come_back() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let size = 5_000_000;
            let bytes = content(size, 7);
            let stored = store_bytes(&datastore, &bytes).await;
            let end = size as u64;
            for range in [0..1, 0..end, end - 1..end, 1_000_000..3_000_000, 65_535..65_537, 9..9, end..end] {
                let found = read_back(&datastore, &stored, Some(range.clone())).await.unwrap();
                assert!(found == bytes[range.start as usize..range.end as usize], "{range:?}");
            }
            for range in [0..end + 1, end + 1..end + 1] {
                let refused = read_back(&datastore, &stored, Some(range)).await;
                assert!(matches!(refused, Err(ValueError::Range { .. })));
            }
        });
    }

    #[test]
    fn a_range_reads_only_the_blocks_that_it_needs() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let stored = store_bytes(&datastore, &content(20_000_000, 1)).await;
            let before = datastore.calls();
            read_back(&datastore, &stored, Some(10_000_000..10_000_010)).await.unwrap();
            assert!(datastore.calls() - before <= 2, "{} requests", datastore.calls() - before);
        });
    }

    #[test]
    fn the_same_content_stores_nothing_new() {
        block_on(async {
            let datastore = FakeDatastore::new();
            let bytes = content(10_000_000, 3);
            let first = store_bytes(&datastore, &bytes).await;
            assert_eq!(first.upload.blocks_new, first.upload.blocks_total);
            assert!(first.upload.bytes_new >= first.upload.size);
            let second = store_bytes(&datastore, &bytes).await;
            assert_eq!((second.upload.blocks_new, second.upload.bytes_new), (0, 0));
            assert_eq!(first.value, second.value);
            let mut changed = b"in front".to_vec();
            changed.extend_from_slice(&bytes);
            let third = store_bytes(&datastore, &changed).await;
            assert!(third.upload.blocks_new * 4 < third.upload.blocks_total, "{:?}", third.upload);
        });
    }

    #[test]
    fn few_blocks_are_in_flight() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let stored = store_bytes(&datastore, &content(20_000_000, 5)).await;
            assert!((2..=super::upload::BLOCKS_IN_FLIGHT).contains(&datastore.in_flight_max()));
            read_back(&datastore, &stored, None).await.unwrap();
            assert!(datastore.in_flight_max() <= super::upload::BLOCKS_IN_FLIGHT.max(super::download::BLOCKS_AHEAD));
        });
    }

    #[test]
    fn what_is_cut_off_or_missing_is_an_error() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let parts = [Ok(Bytes::from(content(300_000, 1))), Err("gone".into())];
            let refused = store(&*datastore, &key(), stream::iter(parts), Level::Quorum).await;
            assert!(matches!(refused, Err(ValueError::Source(_))), "{refused:?}");

            let stored = store_bytes(&datastore, &content(300_000, 1)).await;
            datastore.lose_all_blocks();
            let refused = read_back(&datastore, &stored, None).await;
            assert!(matches!(refused, Err(ValueError::Missing { .. })), "{refused:?}");
        });
    }
}
