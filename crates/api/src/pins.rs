//! Pins: a block, or a tree with all that is below it, is kept though no file and no value names it.
//!
//! A pin is a value of its own that names the block or the tree as that of a file would, under a key that only the hash
//! decides ([`Key::of_pin`]). So a collection, which reads every value, keeps what is pinned without knowing of pins, and a
//! pin is agreed on, moved and repaired as any other value.
//!
//! To pin something is an upload of what is there already: every block is read and put again, in a generation that the
//! slot of the pin's key still takes. So no collection that is under way can have it for unnamed, even if the last file
//! that named it is deleted meanwhile ([`crate::collection`]); and a pin that was made is one of content that is whole.

use std::collections::BTreeSet;

use bytes::Bytes;
use difuse_blocks::{Content, Inode, InodeError, TreeNode};
use difuse_keylog::Operation;
use difuse_protocol::request::{Condition, Entry, ListEntry, Reply, Request, RequestError};
use difuse_types::{Hash, Key, KeyError, Level, WallTime};
use futures::{StreamExt, TryStreamExt, stream};

use crate::{
    Datastore,
    collection::generation,
    keys::{self, new_operation_id, unexpected_reply},
    values::{ValueError, inode_of, inode_value},
};

/// How many blocks are put again at a time: what is in memory is that many blocks of at most 1 MiB.
const BLOCKS_IN_FLIGHT: usize = 8;

/// Something that is pinned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin {
    /// The block, or the root of the tree.
    pub hash: Hash,
    /// Which of the two.
    pub kind: PinKind,
    /// Length of the content in bytes, without the blocks that a tree itself consists of.
    pub size: u64,
    /// When it was pinned, last.
    pub since: WallTime,
}

/// What a pin keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PinKind {
    /// One block.
    Block,
    /// The blocks of a tree, and all that they name.
    Tree,
}

/// A part of all pins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PinPage {
    /// In the order of hashes.
    pub pins: Vec<Pin>,
    /// The hash after which the next page begins; `None` if nothing follows.
    pub next: Option<Hash>,
}

/// Why something was not pinned.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// The datastore refused a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The path is none.
    #[error(transparent)]
    Path(#[from] KeyError),
    /// There is no such block.
    #[error("there is no block {hash}")]
    NoSuchBlock {
        /// The block asked for.
        hash: Hash,
    },
    /// Nothing is at the path.
    #[error("there is nothing at {path}")]
    NoSuchFile {
        /// The path.
        path: String,
    },
    /// What is at the path has no blocks that a pin could keep.
    #[error(
        "what is at {path} has no blocks: a directory, a link, or content of at most 4 KiB, which is kept with its name"
    )]
    NoBlocks {
        /// The path.
        path: String,
    },
    /// A part of the content is gone, or is not what it should be.
    #[error(transparent)]
    Content(ValueError),
    /// The content has a length that none can have.
    #[error("block {hash} cannot be pinned: {reason}")]
    Refused {
        /// The block.
        hash: Hash,
        /// Why.
        reason: InodeError,
    },
}

impl From<ValueError> for PinError {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::Request(error) => Self::Request(error),
            error => Self::Content(error),
        }
    }
}

/// Pins a block; if it is the root of a tree, the tree with all that is below it. Says whether it was not pinned before.
pub async fn add<D: Datastore + ?Sized>(datastore: &D, hash: Hash) -> Result<(Pin, bool), PinError> {
    pin(datastore, hash, None).await
}

/// Pins the content of the file at `path` as it is now: the pin stands for the content, whatever becomes of the file.
pub async fn add_file<D: Datastore + ?Sized>(datastore: &D, path: &str) -> Result<(Pin, bool), PinError> {
    let entry = keys::read(datastore, Key::of_path(path)?, Level::Quorum).await?;
    let path = || format!("/{}", path.trim_matches('/'));
    let value = entry.and_then(|entry| entry.value).ok_or_else(|| PinError::NoSuchFile { path: path() })?;
    match inode_of(&value)?.map(|inode| inode.content) {
        Some(Content::Block(hash)) => pin(datastore, hash, Some(PinKind::Block)).await,
        Some(Content::Tree(root)) => pin(datastore, root, Some(PinKind::Tree)).await,
        _ => Err(PinError::NoBlocks { path: path() }),
    }
}

/// Lets go of what was pinned; whether it was. What nothing else names goes with a collection to come.
pub async fn remove<D: Datastore + ?Sized>(datastore: &D, hash: Hash) -> Result<bool, RequestError> {
    Ok(keys::delete(datastore, Key::of_pin(&hash), Level::Quorum).await?.is_some())
}

/// The pin of a block or tree, if there is one.
pub async fn find<D: Datastore + ?Sized>(datastore: &D, hash: Hash) -> Result<Option<Pin>, RequestError> {
    let entry = keys::read(datastore, Key::of_pin(&hash), Level::Quorum).await?;
    Ok(entry.and_then(|entry| pin_of(hash, &entry)))
}

/// At most `limit` pins after the hash `after`.
pub async fn list<D: Datastore + ?Sized>(
    datastore: &D,
    after: Option<Hash>,
    limit: u32,
) -> Result<PinPage, RequestError> {
    let after = after.map(|hash| Key::of_pin(&hash));
    let page = keys::list(datastore, Key::prefix_of_pins(), after, limit, None).await?;
    let pin = |listed: &ListEntry| pin_of(listed.key.pinned()?, &listed.entry);
    Ok(PinPage { pins: page.entries.iter().filter_map(pin).collect(), next: page.next.and_then(|key| key.pinned()) })
}

fn pin_of(hash: Hash, entry: &Entry) -> Option<Pin> {
    let inode = inode_of(entry.value.as_ref()?).ok()??;
    let kind = match inode.content {
        Content::Block(_) => PinKind::Block,
        Content::Tree(_) => PinKind::Tree,
        Content::None | Content::Inline(_) => return None,
    };
    Some(Pin { hash, kind, size: inode.size, since: entry.time })
}

/// Pins what `hash` names: a block or a tree, if that is known; else what it looks like.
async fn pin<D: Datastore + ?Sized>(
    datastore: &D,
    hash: Hash,
    known: Option<PinKind>,
) -> Result<(Pin, bool), PinError> {
    let key = Key::of_pin(&hash);
    // Before the first block is put: what is put counts for this generation.
    let keeper = Keeper { datastore, generation: generation(datastore, &key).await? };
    let root = keeper.keep(hash).await.map_err(|error| match error {
        ValueError::Missing { hash } => PinError::NoSuchBlock { hash },
        error => error.into(),
    })?;
    let node = match known {
        Some(PinKind::Block) => None,
        Some(PinKind::Tree) => Some(decode(hash, &root)?),
        None => TreeNode::decode(&root).ok(),
    };
    let (kind, content, size) = match &node {
        None => (PinKind::Block, Content::Block(hash), root.len() as u64),
        Some(node) => (PinKind::Tree, Content::Tree(hash), node.length()),
    };
    if let Some(node) = node {
        keeper.keep_below(node).await?;
    }
    // That of a tree's content is not asked for: nobody reads it from here.
    let hash_of_content = if kind == PinKind::Block { hash } else { Hash::ZERO };
    let refused = |reason| PinError::Refused { hash, reason };
    let inode = Inode::file(size, content, hash_of_content, 0, 0, None).map_err(refused)?.stored_in(keeper.generation);
    let operation = Operation::Set(inode_value(&inode).map_err(refused)?);
    let written = keys::write(datastore, key, operation, Condition::None, new_operation_id(), Level::Quorum).await?;
    let since = find(datastore, hash).await?.map_or_else(WallTime::default, |pin| pin.since);
    Ok((Pin { hash, kind, size, since }, written.created))
}

/// Puts blocks again, so that they count as stored in its generation.
struct Keeper<'a, D: ?Sized> {
    datastore: &'a D,
    generation: u64,
}

impl<D: Datastore + ?Sized> Keeper<'_, D> {
    /// Every block below a node of a tree.
    async fn keep_below(&self, root: TreeNode) -> Result<(), ValueError> {
        let (mut seen, mut nodes) = (BTreeSet::new(), vec![root]);
        while let Some(node) = nodes.pop() {
            let unseen: Vec<Hash> =
                node.entries().map(|entry| entry.hash).filter(|hash| seen.insert((node.level(), *hash))).collect();
            let kept = stream::iter(unseen.into_iter().map(|hash| async move {
                let bytes = self.keep(hash).await?;
                Ok::<_, ValueError>((hash, bytes))
            }));
            let mut kept = kept.buffer_unordered(BLOCKS_IN_FLIGHT);
            while let Some((hash, bytes)) = kept.try_next().await? {
                if node.level() > 0 {
                    nodes.push(decode(hash, &bytes)?);
                }
            }
        }
        Ok(())
    }

    /// One block; its content.
    async fn keep(&self, hash: Hash) -> Result<Bytes, ValueError> {
        let request = Request::ReadBlock { hash, level: Level::Quorum };
        let Reply::Block(bytes) = self.datastore.call(request).await? else { return Err(unexpected_reply().into()) };
        let bytes = bytes.ok_or(ValueError::Missing { hash })?;
        let (generation, level) = (self.generation, Level::Quorum);
        let request = Request::PutBlock { hash, bytes: bytes.clone(), referenced: true, generation, level };
        match self.datastore.call(request).await? {
            Reply::BlockPut { .. } => Ok(bytes),
            _ => Err(unexpected_reply().into()),
        }
    }
}

fn decode(hash: Hash, bytes: &Bytes) -> Result<TreeNode, ValueError> {
    TreeNode::decode(bytes).map_err(|error| ValueError::Damaged { reason: format!("tree block {hash}: {error}") })
}

#[cfg(test)]
mod tests;
