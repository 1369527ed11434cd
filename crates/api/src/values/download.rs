//! From a block or a tree to content.

use std::{collections::VecDeque, ops::Range};

use bytes::Bytes;
use difuse_blocks::{Piece, RangePlan};
use difuse_protocol::request::{Reply, Request};
use difuse_types::{Hash, Level};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::{ValueError, damaged, slice};
use crate::{Datastore, keys::unexpected_reply};

/// How many blocks are fetched ahead of the reader: what is in memory is that many blocks of at most 1 MiB.
pub(super) const BLOCKS_AHEAD: usize = 8;

/// The content in `range` of the one block `hash`, which has `size` bytes.
pub(super) fn block<D: Datastore>(
    datastore: D,
    hash: Hash,
    size: u64,
    range: Range<u64>,
    level: Level,
) -> impl Stream<Item = Result<Bytes, ValueError>> + Send + 'static {
    let fetch = async move {
        if range.is_empty() {
            return Ok(None);
        }
        let bytes = read(&datastore, hash, level).await?;
        if bytes.len() as u64 == size { Ok(slice(&bytes, &range)) } else { Err(wrong_length(hash)) }
    };
    stream::once(fetch).try_filter_map(|part| async move { Ok(part) })
}

/// The content in `range` of the tree with this root, which has `size` bytes.
pub(super) fn tree<D: Datastore + Clone>(
    datastore: D,
    root: Hash,
    size: u64,
    range: Range<u64>,
    level: Level,
) -> Result<impl Stream<Item = Result<Bytes, ValueError>> + Send + 'static, ValueError> {
    let plan = RangePlan::new(root, size, range).map_err(|error| damaged(error.to_string()))?;
    let pieces = pieces(datastore.clone(), plan, level);
    Ok(pieces.map_ok(move |piece| fetch(datastore.clone(), piece, level)).try_buffered(BLOCKS_AHEAD).boxed())
}

/// The pieces of blocks that the plan asks for, in order. Reads the tree as it goes.
fn pieces<D: Datastore>(
    datastore: D,
    plan: RangePlan,
    level: Level,
) -> impl Stream<Item = Result<Piece, ValueError>> + Send + 'static {
    let state = (datastore, plan, VecDeque::new());
    stream::try_unfold(state, move |(datastore, mut plan, mut ready)| async move {
        loop {
            if let Some(piece) = ready.pop_front() {
                return Ok(Some((piece, (datastore, plan, ready))));
            }
            let Some(hash) = plan.next_needed() else { return Ok(None) };
            let bytes = read(&datastore, hash, level).await?;
            ready.extend(plan.provide(hash, bytes).map_err(|error| damaged(error.to_string()))?);
        }
    })
}

/// The bytes of `piece`. The datastore has checked the block against its hash; that the tree tells the truth about its
/// length is checked here.
async fn fetch<D: Datastore>(datastore: D, piece: Piece, level: Level) -> Result<Bytes, ValueError> {
    let bytes = read(&datastore, piece.hash, level).await?;
    let start = u64::from(piece.offset_in_block);
    match slice(&bytes, &(start..start + u64::from(piece.length))) {
        Some(part) if bytes.len() == piece.block_length as usize && part.len() == piece.length as usize => Ok(part),
        _ => Err(wrong_length(piece.hash)),
    }
}

async fn read<D: Datastore>(datastore: &D, hash: Hash, level: Level) -> Result<Bytes, ValueError> {
    match datastore.call(Request::ReadBlock { hash, level }).await? {
        Reply::Block(bytes) => bytes.ok_or(ValueError::Missing { hash }),
        _ => Err(unexpected_reply().into()),
    }
}

fn wrong_length(hash: Hash) -> ValueError {
    damaged(format!("block {hash} has another length than is said of it"))
}
