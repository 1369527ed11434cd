use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use difuse_keylog::Operation;
use difuse_types::{Hash, Key, Level};
use futures::{TryStreamExt, executor::block_on, stream};

use super::{Collected, CollectionError, collect};
use crate::{
    Datastore,
    files::{FileError, Files, PutOptions, RemoveOptions},
    keys::{new_operation_id, submit},
    request::{Condition, Reply, Request, RequestError},
    testing::{FakeDatastore, content},
    values::{self, SourceError},
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

    async fn put(&self, path: &str, bytes: &[u8]) -> Result<(), FileError> {
        let parts: Vec<Result<Bytes, SourceError>> =
            bytes.chunks(100_000).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        self.files.put(path, stream::iter(parts), PutOptions::default()).await.map(drop)
    }

    async fn remove(&self, path: &str) {
        self.files.remove(path, RemoveOptions::default()).await.unwrap();
    }

    async fn collect(&self, is_dry_run: bool) -> Result<Collected, CollectionError> {
        collect(&*self.datastore, 1, is_dry_run, |_| {}, async |_: Duration| {}).await
    }

    /// Two collections go by, in which everything may grow old; what the last one says.
    async fn collect_twice(&self) -> Collected {
        self.collect(false).await.unwrap();
        self.collect(false).await.unwrap()
    }

    async fn assert_readable(&self, path: &str, expected: &[u8]) {
        let (_, parts) = self.files.open(path, None).await.unwrap();
        let parts: Vec<Bytes> = parts.try_collect().await.unwrap();
        assert!(parts.concat() == expected, "{path}");
    }
}

#[test]
fn what_two_files_share_is_kept_until_both_are_gone() {
    block_on(async {
        let world = World::new();
        let bytes = content(5_000_000, 1);
        world.put("one", &bytes).await.unwrap();
        world.put("two", &bytes).await.unwrap();
        let before = world.datastore.block_count();
        world.remove("one").await;
        let collected = world.collect_twice().await;
        assert_eq!((collected.deleted.blocks, world.datastore.block_count()), (0, before));
        assert_eq!((collected.generation, collected.values), (2, 1));
        world.assert_readable("two", &bytes).await;
        world.remove("two").await;
        let collected = world.collect(false).await.unwrap();
        assert_eq!(collected.deleted.blocks as usize, before, "all that was there");
        assert!(collected.deleted.bytes >= 5_000_000);
        assert_eq!(world.datastore.block_count(), 0);
    });
}

#[test]
fn a_dry_run_changes_nothing() {
    block_on(async {
        let world = World::new();
        world.put("one", &content(1_000_000, 1)).await.unwrap();
        world.collect_twice().await;
        world.remove("one").await;
        let before = world.datastore.block_count();
        let collected = world.collect(true).await.unwrap();
        assert_eq!((collected.deleted.blocks as usize, world.datastore.block_count()), (before, before));
        assert_eq!(world.collect(false).await.unwrap().generation, collected.generation);
    });
}

#[test]
fn blocks_put_by_their_hash_are_kept_until_they_are_deleted_by_it() {
    block_on(async {
        let world = World::new();
        let bytes = Bytes::from(content(100_000, 1));
        let hash = Hash::of(&bytes);
        let level = Level::Quorum;
        let put = Request::PutBlock { hash, bytes, referenced: false, generation: 0, level };
        world.datastore.call(put).await.unwrap();
        assert_eq!(world.collect_twice().await.deleted.blocks, 0);
        let found = world.datastore.call(Request::StatBlock { hash }).await;
        assert!(matches!(found, Ok(Reply::BlockStat(Some(_)))));
    });
}

/// The upload's blocks are there, its value is not written yet.
#[test]
fn an_upload_in_flight_outlives_one_collection_and_is_refused_after_two() {
    block_on(async {
        for collections in [1, 2] {
            let world = World::new();
            // The blocks are there already, of an older generation, and nothing names them: the upload leans on them.
            let bytes = content(1_000_000, 1);
            world.put("old", &bytes).await.unwrap();
            world.remove("old").await;
            world.datastore.raise_to(5);
            let key = Key::new(b"late").unwrap();
            let source = stream::iter([Ok(Bytes::from(bytes.clone()))]);
            let stored = values::store(&*world.datastore, &key, source, Level::Quorum).await.unwrap();
            for _ in 0..collections {
                world.collect(false).await.unwrap();
            }
            let operation = Operation::Set(stored.value.clone());
            let id = new_operation_id();
            let written = submit(&*world.datastore, key, operation, Condition::None, id, Level::Quorum).await;
            if collections == 1 {
                written.unwrap();
                let parts = values::stream(world.datastore.clone(), &stored.value, None, Level::Quorum);
                let parts: Vec<Bytes> = parts.unwrap().try_collect().await.unwrap();
                assert!(parts.concat() == bytes);
            } else {
                assert!(matches!(written, Err(RequestError::UploadTooOld { generation: 7 })), "{written:?}");
                assert_eq!(world.datastore.block_count(), 0);
            }
        }
    });
}

#[test]
fn a_tree_that_cannot_be_read_ends_a_collection_before_anything_is_deleted() {
    block_on(async {
        let world = World::new();
        world.put("broken", &content(5_000_000, 1)).await.unwrap();
        world.datastore.lose_all_blocks();
        let ended = world.collect(false).await;
        assert!(matches!(&ended, Err(CollectionError::Unreadable { key, .. }) if key == "/broken"), "{ended:?}");
    });
}

#[test]
fn many_named_blocks_are_remembered_with_few_errors() {
    let mut named = super::Named::new(3);
    let hash = |number: u32| Hash::of(&number.to_le_bytes());
    let count = super::FEW_MAX as u32 + 5000;
    (0..count).for_each(|number| named.insert(&hash(number)));
    assert!(matches!(named.hashes, super::Hashes::Many(_)));
    assert!((0..count).all(|number| named.contains(&hash(number))), "none is forgotten");
    let errors = (count..2 * count).filter(|number| named.contains(&hash(*number))).count();
    assert!(errors < count as usize / 100, "{errors}");
}
