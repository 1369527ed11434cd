//! All keys of a namespace as a stream, in the order of their names, while others write, with bounded memory.
//!
//! What is guaranteed, from whichever node and however long it takes: a key that has a value from the beginning to the end comes up
//! exactly once; one that is written or deleted meanwhile, once at most; in ascending order of the bytes of their names. What
//! comes up of a key was committed, and nothing later was when it was read: at level quorum, or at level all if that is asked
//! for. The stream as a whole is no snapshot: keys are read one page after the other, and writers go on in between.

use std::{sync::LazyLock, time::SystemTime};

use bytes::Bytes;
use difuse_keylog::{Operation, Value, ValueKind};
use difuse_protocol::request::{Entry, ListEntry, PAGE_MAX, RequestError};
use difuse_structures::{Malformed, Registry, State, UnknownStructure};
use difuse_types::{Hash, Key, KeyPrefix, Level, WallTime};
use futures::{Stream, StreamExt, TryStreamExt, stream};

use crate::{
    Consistency, Datastore, keys,
    values::{self, ValueError},
};

/// About how many bytes of contents are read ahead.
const AHEAD_BYTES: u64 = 32 << 20;
/// The most contents that are read at the same time.
const AHEAD_MAX: u64 = 8;

/// The structures of this program.
static STRUCTURES: LazyLock<Registry> = LazyLock::new(Registry::builtin);

/// Which keys to go through, and how.
#[derive(Clone, Debug)]
pub struct Range {
    /// The encoded keys begin with this: [`Key::prefix`].
    pub prefix: KeyPrefix,
    /// Only keys after this one: where an earlier stream was left.
    pub after: Option<Key>,
}

/// A key with what it holds.
#[derive(Debug)]
pub struct Item {
    /// The key.
    pub key: Key,
    /// The height of the transaction after which it holds that.
    pub height: u64,
    /// The hash of that transaction.
    pub hash: Hash,
    /// When the key expires; `None`: never.
    pub deadline: Option<WallTime>,
    /// What it holds.
    pub content: Content,
}

/// What a key holds.
#[derive(Debug)]
pub enum Content {
    /// A value of bytes.
    Bytes(Bytes),
    /// A structure, whole.
    Structure(Box<dyn State>),
    /// More than was asked for: so many bytes.
    TooLong(u64),
}

/// Why the content of a key cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum IterateError {
    /// The datastore refused a request, or a value is damaged.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// The log of a structure holds what is none of its operations.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A structure that this program does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownStructure),
    /// The log of a structure has a gap.
    #[error("a part of the log is missing")]
    Gap,
}

impl From<RequestError> for IterateError {
    fn from(error: RequestError) -> Self {
        Self::Value(error.into())
    }
}

/// The heads of all keys of a range that have a value. It reads a page when it is asked for what is in it, and holds one at a time.
pub fn entries<D: Datastore + Clone>(
    datastore: D,
    range: Range,
) -> impl Stream<Item = Result<ListEntry, RequestError>> + Send + 'static {
    let pages = stream::try_unfold(Some(range), move |rest| {
        let datastore = datastore.clone();
        async move {
            let Some(Range { prefix, after }) = rest else { return Ok(None) };
            let page = keys::list(&datastore, prefix.clone(), after.clone(), PAGE_MAX, None).await?;
            // Always onwards, whatever the answer says.
            let next = page.next.filter(|next| after.as_ref().is_none_or(|after| next > after));
            let rest = next.map(|next| Range { prefix, after: Some(next) });
            Ok(Some((stream::iter(page.entries.into_iter().map(Ok)), rest)))
        }
    });
    pages.try_flatten()
}

/// All keys of a range with what they hold, up to `bytes_max` of each. A few contents are read ahead. What cannot be read
/// is an error in its place, with its key; without a key it is the last one: go on behind the last key that came.
pub fn items<D: Datastore + Clone>(
    datastore: D,
    range: Range,
    levels: Consistency,
    bytes_max: u64,
) -> impl Stream<Item = Result<Item, (Option<Key>, IterateError)>> + Send + 'static {
    let at_once = (AHEAD_BYTES / bytes_max.max(1)).clamp(1, AHEAD_MAX);
    entries(datastore.clone(), range)
        .map(move |listed| {
            let datastore = datastore.clone();
            async move {
                let ListEntry { key, entry } = listed.map_err(|error| (None, error.into()))?;
                let item = item_of(datastore, key.clone(), entry, levels, bytes_max).await;
                item.map_err(|error| (Some(key), error))
            }
        })
        .buffered(usize::try_from(at_once).unwrap_or(1))
        .try_filter_map(|item| std::future::ready(Ok(item)))
}

/// What a key holds, listed with this head; `None` if it holds nothing any more.
async fn item_of<D: Datastore + Clone>(
    datastore: D,
    key: Key,
    mut entry: Entry,
    levels: Consistency,
    bytes_max: u64,
) -> Result<Option<Item>, IterateError> {
    if levels.stat == Level::All {
        let Some(read) = keys::read(&datastore, key.clone(), Level::All).await? else { return Ok(None) };
        entry = read;
    }
    let Some(value) = entry.value.filter(|value| !value.has_expired(now())) else { return Ok(None) };
    if value.kind.is_structure() {
        return structure(&datastore, key, bytes_max).await;
    }
    let size = values::size_of(&value)?;
    let content = if size > bytes_max {
        Content::TooLong(size)
    } else {
        Content::Bytes(values::whole(datastore, &value, levels.get_block).await?)
    };
    Ok(Some(Item { key, height: entry.height, hash: entry.hash, deadline: value.deadline, content }))
}

/// A structure as the fold of its log up to the head; a string if the key was made one meanwhile.
async fn structure<D: Datastore + Clone>(
    datastore: &D,
    key: Key,
    bytes_max: u64,
) -> Result<Option<Item>, IterateError> {
    let (_, mut page) = keys::kept_log(datastore, key.clone(), PAGE_MAX).await?;
    let mut head_height = page.head_height;
    let mut folded = Folded::default();
    let mut done = 0;
    loop {
        // Always onwards, whatever the answer says.
        let last = page.transactions.last().filter(|last| last.height > done).ok_or(IterateError::Gap)?;
        let (height, hash) = (last.height, last.hash());
        done = height;
        for transaction in page.transactions {
            folded.fold(transaction.operation)?;
            let bytes = folded.bytes();
            if bytes > bytes_max {
                let deadline = folded.value.and_then(|value| value.deadline);
                let content = Content::TooLong(bytes);
                return Ok(Some(Item { key, height, hash, deadline, content }));
            }
        }
        if height >= head_height {
            let Some(value) = folded.value.filter(|value| !value.has_expired(now())) else { return Ok(None) };
            let content = match (value.kind, folded.state) {
                (_, Some(state)) => Content::Structure(state),
                (ValueKind::Inline, None) => Content::Bytes(value.bytes),
                // It was made a string in blocks meanwhile: what it held is gone.
                (ValueKind::Inode, None) => Content::TooLong(values::size_of(&value)?),
                (_, None) => return Err(IterateError::Gap),
            };
            return Ok(Some(Item { key, height, hash, deadline: value.deadline, content }));
        }
        page = match keys::log(datastore, key.clone(), height + 1, PAGE_MAX).await {
            // Its log begins further up now: what was folded is in the checkpoint there.
            Err(RequestError::Pruned(base)) if base.height > height => {
                folded = Folded::default();
                let (_, kept) = keys::kept_log(datastore, key.clone(), PAGE_MAX).await?;
                head_height = kept.head_height;
                kept
            }
            page => page?,
        };
    }
}

/// What a log comes to, as the leader of its key folds it.
#[derive(Default)]
struct Folded {
    value: Option<Value>,
    state: Option<Box<dyn State>>,
    /// What there is of a state in parts.
    parts: Vec<u8>,
}

impl Folded {
    fn fold(&mut self, operation: Operation) -> Result<(), IterateError> {
        let Operation::Set(value) = operation else {
            *self = Self::default();
            return Ok(());
        };
        self.state = match (value.kind, value.bytes.split_first()) {
            (ValueKind::State, Some((structure, bytes))) => Some(STRUCTURES.decode_state(*structure, bytes)??),
            (ValueKind::Operation, Some((structure, bytes))) => {
                let mut state = match self.state.take() {
                    Some(state) if state.id() == *structure => state,
                    _ => STRUCTURES.empty_state(*structure)?,
                };
                // Without anything after the structure's number the deadline alone is another one.
                if !bytes.is_empty() {
                    state.apply_encoded(bytes)?;
                }
                Some(state)
            }
            (ValueKind::Part, Some((structure, _))) => {
                let (index, count, part) = value.part().ok_or(IterateError::Gap)?;
                if index == 0 {
                    self.parts.clear();
                }
                self.parts.extend_from_slice(part);
                let whole = (index + 1 == count).then(|| std::mem::take(&mut self.parts));
                whole.map(|bytes| STRUCTURES.decode_state(*structure, &bytes)).transpose()?.transpose()?
            }
            _ => None,
        };
        self.value = Some(value);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        let state = self.state.as_ref().map_or(0, |state| state.memory());
        state.max(self.parts.len()) as u64
    }
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
#[path = "iterate/tests.rs"]
mod tests;
