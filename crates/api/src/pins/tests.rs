use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use difuse_types::{Hash, Level};
use futures::{executor::block_on, stream};

use super::{PinError, PinKind, add, add_file, find, list, remove};
use crate::{
    Datastore,
    collection::collect,
    files::{Files, PutOptions, RemoveOptions},
    request::{CollectionReply, CollectionStep, Reply, Request},
    testing::{FakeDatastore, content},
    values::{SourceError, ValueError},
};

struct World {
    datastore: Arc<FakeDatastore>,
    files: Files<Arc<FakeDatastore>>,
}

impl World {
    fn new() -> Self {
        let datastore = Arc::new(FakeDatastore::new());
        Self { files: Files::new(datastore.clone()), datastore }
    }

    async fn put(&self, path: &str, bytes: Vec<u8>) {
        let source = stream::iter([Ok::<_, SourceError>(Bytes::from(bytes))]);
        self.files.put(path, source, PutOptions::default()).await.unwrap();
    }

    async fn remove(&self, path: &str) {
        self.files.remove(path, RemoveOptions::default()).await.unwrap();
    }

    async fn put_block(&self, bytes: Vec<u8>) -> Hash {
        let (hash, level) = (Hash::of(&bytes), Level::Quorum);
        let put = Request::PutBlock { hash, bytes: bytes.into(), referenced: false, generation: 0, level };
        self.datastore.call(put).await.unwrap();
        hash
    }

    /// How many blocks are left after so many collections.
    async fn left_after(&self, collections: usize) -> usize {
        for _ in 0..collections {
            collect(&*self.datastore, 1, false, |_| {}, async |_: Duration| {}).await.unwrap();
        }
        self.datastore.block_count()
    }
}

#[test]
fn a_pinned_file_is_kept_whole_without_its_name() {
    block_on(async {
        let world = World::new();
        world.put("one", content(5_000_000, 1)).await;
        let whole = world.datastore.block_count();
        let (pin, created) = add_file(&*world.datastore, "/one").await.unwrap();
        assert_eq!((pin.kind, pin.size, created), (PinKind::Tree, 5_000_000, true));
        world.put("other", content(1_000_000, 2)).await;
        world.remove("one").await;
        world.remove("other").await;
        assert_eq!(world.left_after(3).await, whole, "all of the pinned file, and nothing else");
        let (again, created) = add(&*world.datastore, pin.hash).await.unwrap();
        assert_eq!((again.hash, again.kind, again.size, created), (pin.hash, pin.kind, pin.size, false));
        assert!(remove(&*world.datastore, pin.hash).await.unwrap());
        assert!(!remove(&*world.datastore, pin.hash).await.unwrap());
        assert_eq!(world.left_after(3).await, 0);
    });
}

#[test]
fn a_block_is_kept_while_it_is_pinned() {
    block_on(async {
        let world = World::new();
        let hash = world.put_block(content(1000, 1)).await;
        let (pin, _) = add(&*world.datastore, hash).await.unwrap();
        assert_eq!((pin.hash, pin.kind, pin.size), (hash, PinKind::Block, 1000));
        assert_eq!(find(&*world.datastore, hash).await.unwrap(), Some(pin));
        assert_eq!(world.left_after(3).await, 1);
        remove(&*world.datastore, hash).await.unwrap();
        assert_eq!(find(&*world.datastore, hash).await.unwrap(), None);
        assert_eq!(world.left_after(3).await, 0);
    });
}

/// What is pinned was stored long ago, and its file goes at the same time: the collection that is under way may have it
/// for unnamed.
#[test]
fn a_new_pin_stands_against_a_collection_that_did_not_see_it() {
    block_on(async {
        let world = World::new();
        world.put("one", content(1_000_000, 1)).await;
        let whole = world.datastore.block_count();
        world.datastore.raise_to(5);
        let (pin, _) = add_file(&*world.datastore, "/one").await.unwrap();
        world.remove("one").await;
        let slots = FakeDatastore::settings().slots;
        for slot in slots.iter() {
            let step = CollectionStep::List { after: None };
            let Ok(Reply::Collection(CollectionReply::Blocks { records, .. })) =
                world.datastore.call(Request::Collection { slot, step }).await
            else {
                panic!("no page of slot {slot}");
            };
            assert!(records.iter().all(|(_, record)| !record.is_collectable(6)), "{records:?}");
        }
        assert_eq!(world.left_after(2).await, whole);
        assert_eq!(find(&*world.datastore, pin.hash).await.unwrap(), Some(pin));
    });
}

#[test]
fn pins_are_listed_in_pages() {
    block_on(async {
        let world = World::new();
        let mut hashes = Vec::new();
        for seed in 0..5 {
            let hash = world.put_block(content(100, seed)).await;
            add(&*world.datastore, hash).await.unwrap();
            hashes.push(hash);
        }
        hashes.sort();
        let first = list(&*world.datastore, None, 3).await.unwrap();
        let second = list(&*world.datastore, first.next, 3).await.unwrap();
        assert_eq!((first.pins.len(), second.pins.len(), second.next), (3, 2, None));
        let listed: Vec<_> = first.pins.iter().chain(&second.pins).map(|pin| pin.hash).collect();
        assert_eq!(listed, hashes);
    });
}

#[test]
fn what_is_not_there_is_not_pinned() {
    block_on(async {
        let world = World::new();
        let missing = add(&*world.datastore, Hash::of(b"none")).await;
        assert!(matches!(missing, Err(PinError::NoSuchBlock { .. })), "{missing:?}");
        let missing = add_file(&*world.datastore, "/none").await;
        assert!(matches!(&missing, Err(PinError::NoSuchFile { path }) if path == "/none"), "{missing:?}");
        world.put("small", vec![1; 10]).await;
        for path in ["small", "/"] {
            let refused = add_file(&*world.datastore, path).await;
            assert!(matches!(refused, Err(PinError::NoBlocks { .. } | PinError::Path(_))), "{path}: {refused:?}");
        }
        let empty = world.put_block(Vec::new()).await;
        assert!(matches!(add(&*world.datastore, empty).await, Err(PinError::Refused { .. })));

        // A tree without all of its blocks.
        world.put("torn", content(5_000_000, 1)).await;
        let (pin, _) = add_file(&*world.datastore, "/torn").await.unwrap();
        let root = Request::ReadBlock { hash: pin.hash, level: Level::Quorum };
        let Ok(Reply::Block(Some(bytes))) = world.datastore.call(root).await else { panic!("the root is there") };
        world.datastore.lose_all_blocks();
        world.put_block(bytes.to_vec()).await;
        let torn = add(&*world.datastore, pin.hash).await;
        assert!(matches!(torn, Err(PinError::Content(ValueError::Missing { .. }))), "{torn:?}");
    });
}
