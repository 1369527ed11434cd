//! Many puts, gets and deletes as one stream: bounded memory, a result for each item, in the order of the items.
//!
//! Items are served side by side, except those of one key, which take effect one after the other in their order. An item
//! that fails stops nothing: its result says why.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use difuse_keylog::{Operation, Value, ValueKind};
use difuse_protocol::request::{Condition, Entry, RequestError};
use difuse_types::{Key, Level, Slots, WallTime};
use futures::{
    FutureExt, Stream, StreamExt,
    channel::oneshot,
    future::BoxFuture,
    stream::{BoxStream, FuturesOrdered},
};

use crate::{
    Datastore,
    keys::{self, Written},
    namespaces::Levels,
    values::{self, ValueError},
};

mod build;

/// The most items that are served at the same time.
const ITEMS_MAX: usize = 1024;
/// No further item is begun, and no further content read, while those under way take so many bytes.
const BYTES_MAX: usize = 16 << 20;
/// The most contents that are read at the same time.
const CONTENTS_MAX: usize = 64;
/// The longest value that is read as a part of a batch, in bytes: a longer one has to be asked for by itself.
pub const READ_BYTES_MAX: u64 = 4 << 20;

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// Give a key a value.
    Put {
        /// The key.
        key: Key,
        /// The value, of any length.
        value: Bytes,
        /// When the key expires; `None`: never.
        deadline: Option<WallTime>,
        /// What must hold of the key.
        condition: Condition,
    },
    /// Let a key hold the structure that commands make, whatever it held: one step while they are short, else one after the
    /// other. Level lazy is done at leader.
    Build {
        /// The key.
        key: Key,
        /// The commands, without the key.
        commands: Vec<Vec<Bytes>>,
        /// When the key expires; `None`: never.
        deadline: Option<WallTime>,
    },
    /// Read a key's value.
    Get {
        /// The key.
        key: Key,
    },
    /// Delete a key.
    Delete {
        /// The key.
        key: Key,
        /// What must hold of the key.
        condition: Condition,
    },
}

/// What became of an item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// A value was written, or at level lazy will be.
    Put(Option<Written>),
    /// A structure was made.
    Built,
    /// A key's head and its value; `None`: it has no value.
    Got(Option<(Entry, Bytes)>),
    /// A key was deleted, or at level lazy will be.
    Deleted(Option<Written>),
    /// There was nothing to delete.
    Absent,
}

impl Item {
    /// The key that it is about.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Build { key, .. } | Self::Get { key } | Self::Delete { key, .. } => key,
        }
    }

    fn bytes(&self) -> usize {
        let content = match self {
            Self::Put { value, .. } => value.len(),
            Self::Build { commands, .. } => build::bytes_of(commands),
            Self::Get { .. } | Self::Delete { .. } => 0,
        };
        content + self.key().encoded().len()
    }
}

/// Does what `items` say, and gives a result for each, in their order. What is no item, because it could not be read, keeps
/// its place among the results. `levels` are those of the items: one or two for all, or those of each item's namespace.
pub fn run<D: Datastore + Clone, E: From<ValueError> + Send + 'static>(
    datastore: D,
    items: impl Stream<Item = Result<Item, E>> + Send + 'static,
    levels: impl Into<Levels>,
) -> impl Stream<Item = Result<Done, E>> + Send {
    Batch {
        datastore,
        levels: levels.into(),
        items: items.boxed(),
        is_at_end: false,
        running: InOrder::new(),
        contents: InOrder::new(),
        bytes: 0,
        begun: 0,
        last: BTreeMap::new(),
        slots: Arc::default(),
    }
}

/// Results that come before their turn are sorted: small ones are moved about for less.
type InOrder<T> = FuturesOrdered<BoxFuture<'static, Box<T>>>;

struct Batch<D, E> {
    datastore: D,
    levels: Levels,
    items: BoxStream<'static, Result<Item, E>>,
    is_at_end: bool,
    running: InOrder<Finished<E>>,
    /// Behind those that are running: contents that are read, and what waits for its turn behind one.
    contents: InOrder<Ended<E>>,
    /// Of the items that are running, and of the contents.
    bytes: usize,
    begun: u64,
    /// The last item under way of each key: its number, and what tells that it is done.
    last: BTreeMap<Key, (u64, oneshot::Receiver<()>)>,
    /// The ring's, once an item has needed them.
    slots: Arc<OnceLock<Slots>>,
}

struct Finished<E> {
    number: u64,
    key: Option<Key>,
    bytes: usize,
    result: Result<Served, E>,
}

/// What became of an item so far.
enum Served {
    Done(Done),
    /// A key's head with its value, whose content of so many bytes has yet to be read from blocks, at this level.
    Content {
        entry: Entry,
        value: Value,
        bytes: usize,
        level: Level,
    },
}

/// An item that has come to its end, and how many bytes its content took.
struct Ended<E> {
    bytes: usize,
    result: Result<Done, E>,
}

impl<D: Datastore + Clone, E: From<ValueError> + Send + 'static> Batch<D, E> {
    fn begin(&mut self, item: Result<Item, E>) {
        let item = match item {
            Ok(item) => item,
            Err(error) => {
                let finished = Box::new(Finished { number: 0, key: None, bytes: 0, result: Err(error) });
                return self.running.push_back(std::future::ready(finished).boxed());
            }
        };
        self.begun += 1;
        let (number, key, bytes) = (self.begun, item.key().clone(), item.bytes());
        self.bytes += bytes;
        let (done, is_done) = oneshot::channel();
        let before = self.last.insert(key.clone(), (number, is_done));
        let (datastore, levels, slots) = (self.datastore.clone(), self.levels.clone(), self.slots.clone());
        let run = async move {
            if let Some((_, before)) = before {
                // The sender goes when its item is done, however that went.
                let _ = before.await;
            }
            let result = serve(datastore, item, levels, slots).await.map_err(E::from);
            drop(done);
            Box::new(Finished { number, key: Some(key), bytes, result })
        };
        self.running.push_back(run.boxed());
    }

    /// An item has been served, but for its content.
    fn end(&mut self, finished: Finished<E>) -> Result<Served, E> {
        self.bytes -= finished.bytes;
        if let Some(key) = &finished.key
            && self.last.get(key).is_some_and(|(number, _)| *number == finished.number)
        {
            self.last.remove(key);
        }
        finished.result
    }

    /// What is next but for the content of those that are read: a result, if nothing is before it.
    fn go_on(&mut self, served: Result<Served, E>) -> Option<Result<Done, E>> {
        let result = match served {
            Ok(Served::Content { entry, value, bytes, level }) => {
                self.bytes += bytes;
                let datastore = self.datastore.clone();
                let read = async move {
                    let whole = values::whole(datastore, &value, level).await;
                    let result = whole.map(|whole| Done::Got(Some((entry, whole)))).map_err(E::from);
                    Box::new(Ended { bytes, result })
                };
                self.contents.push_back(read.boxed());
                return None;
            }
            Ok(Served::Done(done)) => Ok(done),
            Err(error) => Err(error),
        };
        if self.contents.is_empty() {
            return Some(result);
        }
        self.contents.push_back(std::future::ready(Box::new(Ended { bytes: 0, result })).boxed());
        None
    }
}

/// Nothing in it is pinned in place.
impl<D, E> Unpin for Batch<D, E> {}

impl<D: Datastore + Clone, E: From<ValueError> + Send + 'static> Stream for Batch<D, E> {
    type Item = Result<Done, E>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        while !self.is_at_end && self.running.len() < ITEMS_MAX && self.bytes < BYTES_MAX {
            match self.items.poll_next_unpin(context) {
                Poll::Ready(Some(item)) => self.begin(item),
                Poll::Ready(None) => self.is_at_end = true,
                Poll::Pending => break,
            }
        }
        while self.contents.is_empty() || (self.contents.len() < CONTENTS_MAX && self.bytes < BYTES_MAX) {
            let Poll::Ready(Some(finished)) = self.running.poll_next_unpin(context) else { break };
            let served = self.end(*finished);
            if let Some(result) = self.go_on(served) {
                return Poll::Ready(Some(result));
            }
        }
        match self.contents.poll_next_unpin(context) {
            Poll::Ready(Some(ended)) => {
                self.bytes -= ended.bytes;
                Poll::Ready(Some(ended.result))
            }
            Poll::Ready(None) if self.is_at_end && self.running.is_empty() => Poll::Ready(None),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}

async fn serve<D: Datastore + Clone>(
    datastore: D,
    item: Item,
    levels: Levels,
    slots: Arc<OnceLock<Slots>>,
) -> Result<Served, ValueError> {
    let consistency = levels.of(&datastore, item.key().namespace()).await?;
    let operation_id = keys::new_operation_id();
    let done = match item {
        Item::Put { key, value, deadline, condition } => {
            let value = match keys::inline_value(value.clone()) {
                Some(value) => value,
                None => {
                    let source = futures::stream::iter([Ok(value)]);
                    values::store(&datastore, &key, source, consistency.set_block).await?.value
                }
            };
            let operation = Operation::Set(value.until(deadline));
            let level = consistency.set_inode;
            let submitted = keys::submit(&datastore, key, operation, condition, operation_id, level).await?;
            Done::Put(submitted.written().copied())
        }
        Item::Build { key, commands, deadline } => {
            Box::pin(build::run(&datastore, key, commands, deadline, consistency.set_inode, &slots)).await?;
            Done::Built
        }
        Item::Get { key } => {
            let entry = keys::read(&datastore, key, consistency.stat).await?;
            let Some((entry, value)) = entry.and_then(|entry| entry.value.clone().map(|value| (entry, value))) else {
                return Ok(Served::Done(Done::Got(None)));
            };
            let size = values::size_of(&value)?;
            if size > READ_BYTES_MAX {
                let reason = format!("the value has {size} bytes: one of more than {READ_BYTES_MAX} is read by itself");
                return Err(RequestError::Invalid(reason).into());
            }
            if value.kind == ValueKind::Inode {
                let (bytes, level) = (size as usize, consistency.get_block);
                return Ok(Served::Content { entry, value, bytes, level });
            }
            Done::Got(Some((entry, value.bytes)))
        }
        Item::Delete { key, condition } => {
            // A tombstone on nothing would be a transaction for nothing.
            let demanded = if condition == Condition::None { Condition::Present } else { condition };
            let level = consistency.delete_inode;
            match keys::submit(&datastore, key, Operation::Delete, demanded, operation_id, level).await {
                Ok(submitted) => Done::Deleted(submitted.written().copied()),
                Err(RequestError::Conflict { .. }) if condition == Condition::None => Done::Absent,
                Err(error) => return Err(error.into()),
            }
        }
    };
    Ok(Served::Done(done))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use difuse_keylog::MAX_INLINE_BYTES;
    use difuse_protocol::request::{Condition, RequestError};
    use difuse_types::Key;
    use futures::{StreamExt, executor::block_on, stream};

    use super::{Done, Item, READ_BYTES_MAX, run};
    use crate::{
        Consistency,
        testing::{FakeDatastore, content},
        values::ValueError,
    };

    fn key(name: impl std::fmt::Display) -> Key {
        Key::new(name.to_string().as_bytes()).unwrap()
    }

    fn put(name: impl std::fmt::Display, value: impl Into<Bytes>) -> Item {
        Item::Put { key: key(name), value: value.into(), deadline: None, condition: Condition::None }
    }

    fn get(name: impl std::fmt::Display) -> Item {
        Item::Get { key: key(name) }
    }

    type ItemResult = Result<Done, ValueError>;

    async fn results(datastore: &Arc<FakeDatastore>, items: Vec<Item>) -> Vec<ItemResult> {
        run(datastore.clone(), stream::iter(items.into_iter().map(Ok)), Consistency::default()).collect().await
    }

    fn got(result: &ItemResult) -> Option<Bytes> {
        match result {
            Ok(Done::Got(found)) => found.as_ref().map(|(_, value)| value.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn thousands_of_items_round_trip_in_their_order() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let count = 5_000;
            let puts = (0..count).map(|number| put(number, number.to_string())).collect();
            assert!(results(&datastore, puts).await.iter().all(|result| matches!(result, Ok(Done::Put(Some(_))))));
            let found = results(&datastore, (0..count).map(get).collect()).await;
            for (number, result) in found.iter().enumerate() {
                assert_eq!(got(result), Some(number.to_string().into()));
            }
        });
    }

    #[test]
    fn items_of_one_key_take_effect_in_their_order() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let mut items = Vec::new();
            for number in 0..500 {
                items.extend([put("k", number.to_string()), get("k")]);
            }
            items.extend([Item::Delete { key: key("k"), condition: Condition::None }, get("k")]);
            let found = results(&datastore, items).await;
            for number in 0..500 {
                assert_eq!(got(&found[2 * number + 1]), Some(number.to_string().into()));
            }
            assert!(matches!(found[1000], Ok(Done::Deleted(Some(_)))), "{:?}", found[1000]);
            assert_eq!(got(&found[1001]), None);
        });
    }

    #[test]
    fn what_fails_stops_nothing() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let items = vec![
                put("a", "1"),
                Item::Put { key: key("a"), value: "2".into(), deadline: None, condition: Condition::Absent },
                Item::Delete { key: key("never"), condition: Condition::None },
                get("a"),
            ];
            let found = results(&datastore, items).await;
            assert!(matches!(found[1], Err(ValueError::Request(RequestError::Conflict { .. }))), "{:?}", found[1]);
            assert_eq!(found[2].as_ref().unwrap(), &Done::Absent);
            assert_eq!(got(&found[3]), Some("1".into()));
        });
    }

    #[test]
    fn long_values_go_through_blocks() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let long = Bytes::from(content(MAX_INLINE_BYTES * 40, 1));
            let found = results(&datastore, vec![put("long", long.clone()), get("long")]).await;
            assert_eq!(got(&found[1]), Some(long));
        });
    }

    #[test]
    fn no_more_contents_are_read_than_there_is_room_for() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let long = Bytes::from(content(READ_BYTES_MAX as usize, 1));
            let puts = (0..40).map(|number| put(number, long.clone())).collect();
            assert!(results(&datastore, puts).await.iter().all(Result::is_ok));
            let before = datastore.calls();
            results(&datastore, vec![get(0)]).await;
            let calls_of_one = datastore.calls() - before;
            let before = datastore.calls();
            let gets = stream::iter((0..40).map(get).map(Ok::<_, ValueError>));
            let mut found = Box::pin(run(datastore.clone(), gets, Consistency::default()));
            assert_eq!(got(&found.next().await.unwrap()), Some(long.clone()));
            let calls = datastore.calls() - before;
            assert!(
                calls <= 40 + 5 * calls_of_one,
                "{calls} calls for one result, where one alone takes {calls_of_one}"
            );
            let rest: Vec<_> = found.map(|result| got(&result) == Some(long.clone())).collect().await;
            assert_eq!(rest, [true; 39]);
        });
    }

    #[test]
    fn no_more_is_taken_than_is_served() {
        block_on(async {
            let datastore = Arc::new(FakeDatastore::new());
            let taken = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let counter = taken.clone();
            let items = stream::iter(0..100).map(move |number| {
                counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                Ok::<_, ValueError>(put(number, vec![0; 1 << 20]))
            });
            let mut results = Box::pin(run(datastore, items, Consistency::default()));
            results.next().await.unwrap().unwrap();
            assert!(taken.load(std::sync::atomic::Ordering::Relaxed) <= 18, "{taken:?}");
            assert_eq!(results.count().await, 99);
        });
    }
}
