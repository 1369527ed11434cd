//! From content to blocks and a tree.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use difuse_blocks::{Block, Chunker, Content, TreeBuilder};
use difuse_keylog::MAX_INLINE_BYTES;
use difuse_protocol::request::{Reply, Request};
use difuse_types::{Hash, Key, Level};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::{SourceError, Upload, ValueError, damaged};
use crate::{Datastore, collection::generation, keys::unexpected_reply};

/// How many blocks of one upload are being stored at a time: what is in memory is that many blocks of at most 1 MiB.
pub(super) const BLOCKS_IN_FLIGHT: usize = 8;

/// Where content went.
pub(crate) struct Uploaded {
    /// Where it is.
    pub(crate) content: Content,
    /// blake3 of all of it.
    pub(crate) hash_of_content: Hash,
    /// The generation in which its blocks were stored.
    pub(crate) generation: u64,
    /// What was moved.
    pub(crate) upload: Upload,
}

/// Where blocks go.
struct Store<'a, D: ?Sized> {
    datastore: &'a D,
    generation: u64,
    level: Level,
}

/// Stores what `source` yields as blocks, for a value of `key`, unless it is short enough to live in a value.
pub(crate) async fn upload<D: Datastore + ?Sized>(
    datastore: &D,
    key: &Key,
    mut source: impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
    level: Level,
) -> Result<Uploaded, ValueError> {
    let head = read_head(&mut source).await?;
    if head.len() <= MAX_INLINE_BYTES {
        return Ok(inline(head));
    }
    // Apart, on the heap: whoever may have to store a long value would carry the room for that with every short one.
    Box::pin(upload_blocks(datastore, key, head, source, level)).await
}

/// Stores `head` and what follows in `source` as blocks.
async fn upload_blocks<D: Datastore + ?Sized>(
    datastore: &D,
    key: &Key,
    head: Bytes,
    source: impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
    level: Level,
) -> Result<Uploaded, ValueError> {
    // Before the first block: what it stores counts for this generation.
    let generation = generation(datastore, key).await?;
    let store = Store { datastore, generation, level };
    let source = stream::iter([Ok(head)]).chain(source);
    let (mut hasher, mut upload) = (blake3::Hasher::new(), Upload::default());
    let content = {
        let hash_and_put = |bytes: Bytes| {
            hasher.update(&bytes);
            store.put_chunk(bytes)
        };
        let blocks = chunks(source).map_ok(hash_and_put).try_buffered(BLOCKS_IN_FLIGHT);
        link(&store, std::pin::pin!(blocks), &mut upload).await?
    };
    Ok(Uploaded { content, hash_of_content: Hash(*hasher.finalize().as_bytes()), generation, upload })
}

fn inline(bytes: Bytes) -> Uploaded {
    let hash_of_content = Hash::of(&bytes);
    let upload = Upload { size: bytes.len() as u64, ..Upload::default() };
    let content = if bytes.is_empty() { Content::None } else { Content::Inline(bytes) };
    Uploaded { content, hash_of_content, generation: 0, upload }
}

/// Links the `blocks` of one content, in order: a single one stands for itself, several make a tree.
async fn link<D: Datastore + ?Sized>(
    store: &Store<'_, D>,
    mut blocks: impl Stream<Item = Result<StoredBlock, ValueError>> + Unpin,
    upload: &mut Upload,
) -> Result<Content, ValueError> {
    let mut builder = TreeBuilder::new();
    let (mut first, mut count) = (Hash::ZERO, 0_u64);
    while let Some(block) = blocks.try_next().await? {
        upload.size += u64::from(block.length);
        upload.count(&block);
        count += 1;
        if count == 1 {
            first = block.hash;
        }
        let finished = builder.push(block.hash, block.length).map_err(|error| damaged(error.to_string()))?;
        store.put_tree(finished, upload).await?;
    }
    if count == 1 {
        return Ok(Content::Block(first));
    }
    let (finished, root) = builder.finish().map_err(|error| damaged(error.to_string()))?;
    store.put_tree(finished, upload).await?;
    Ok(Content::Tree(root.hash))
}

/// The content up to just beyond what a value holds, or all of it if it is shorter.
async fn read_head(source: &mut (impl Stream<Item = Result<Bytes, SourceError>> + Unpin)) -> Result<Bytes, ValueError> {
    let mut head = match source.try_next().await.map_err(ValueError::Source)? {
        // Nearly always all there is, and then not copied.
        Some(first) => first,
        None => return Ok(Bytes::new()),
    };
    while head.len() <= MAX_INLINE_BYTES {
        let Some(part) = source.try_next().await.map_err(ValueError::Source)? else { break };
        let mut joined = BytesMut::from(head);
        joined.extend_from_slice(&part);
        head = joined.freeze();
    }
    Ok(head)
}

/// Cuts a stream of parts of any length into blocks.
fn chunks(
    source: impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
) -> impl Stream<Item = Result<Bytes, ValueError>> + Send {
    let state = (source, Some(Chunker::default()), VecDeque::new());
    stream::try_unfold(state, |(mut source, mut chunker, mut ready)| async move {
        loop {
            if let Some(chunk) = ready.pop_front() {
                return Ok(Some((chunk, (source, chunker, ready))));
            }
            let Some(mut cutting) = chunker.take() else { return Ok(None) };
            match source.try_next().await.map_err(ValueError::Source)? {
                Some(part) => {
                    ready.extend(cutting.push(part));
                    chunker = Some(cutting);
                }
                None => ready.extend(cutting.finish()),
            }
        }
    })
}

/// A block that is stored.
struct StoredBlock {
    hash: Hash,
    length: u32,
    created: bool,
}

impl Upload {
    fn count(&mut self, block: &StoredBlock) {
        self.blocks_total += 1;
        if block.created {
            self.blocks_new += 1;
            self.bytes_new += u64::from(block.length);
        }
    }
}

impl<D: Datastore + ?Sized> Store<'_, D> {
    async fn put_chunk(&self, bytes: Bytes) -> Result<StoredBlock, ValueError> {
        self.put(Block::new(bytes).map_err(|error| damaged(error.to_string()))?).await
    }

    async fn put(&self, block: Block) -> Result<StoredBlock, ValueError> {
        let (hash, length) = (block.hash(), block.length());
        let (generation, level) = (self.generation, self.level);
        let request = Request::PutBlock { hash, bytes: block.into_bytes(), referenced: true, generation, level };
        match self.datastore.call(request).await? {
            Reply::BlockPut { created } => Ok(StoredBlock { hash, length, created }),
            _ => Err(unexpected_reply().into()),
        }
    }

    /// Stores blocks of the tree; there is one for some thousand blocks of content.
    async fn put_tree(&self, finished: Vec<Block>, upload: &mut Upload) -> Result<(), ValueError> {
        for block in finished {
            upload.count(&self.put(block).await?);
        }
        Ok(())
    }
}
