use std::sync::Arc;

use bytes::Bytes;
use difuse_protocol::request::{Condition, RequestError};
use difuse_types::{Hash, Level};
use futures::{TryStreamExt, executor::block_on, future::join_all, stream};

use super::{FileError, FileKind, Files, Put, PutOptions, RemoveOptions};
use crate::{
    testing::{FakeDatastore, content},
    values::SourceError,
};

type FakeFiles = Files<Arc<FakeDatastore>>;

fn files() -> (Arc<FakeDatastore>, FakeFiles) {
    let datastore = Arc::new(FakeDatastore::new());
    (datastore.clone(), Files::new(datastore))
}

fn source(bytes: &[u8]) -> impl futures::Stream<Item = Result<Bytes, SourceError>> + Send + Unpin + use<> {
    stream::iter([Ok(Bytes::copy_from_slice(bytes))])
}

async fn put(files: &FakeFiles, path: &str, bytes: &[u8]) -> Result<Put, FileError> {
    files.put(path, source(bytes), PutOptions::default()).await
}

async fn put_if(files: &FakeFiles, path: &str, condition: Condition) -> Result<Put, FileError> {
    files.put(path, source(b"new"), PutOptions { condition, ..PutOptions::default() }).await
}

async fn names(files: &FakeFiles, path: &str) -> Vec<String> {
    let page = files.list(path, None, 1000).await.unwrap();
    page.entries.into_iter().map(|entry| entry.name).collect()
}

const RECURSIVE: RemoveOptions = RemoveOptions { recursive: true, condition: Condition::None, attempt: None };

#[test]
fn a_file_comes_back_with_what_is_said_of_it() {
    block_on(async {
        let (_, files) = files();
        for size in [0, 10, 100_000, 3_000_000] {
            let bytes = content(size, 1);
            let options = PutOptions {
                mode: Some(0o755),
                media_type: Some("text/plain".into()),
                modified_ms: Some(1234),
                ..PutOptions::default()
            };
            let put = files.put("/a/b/file", source(&bytes), options).await.unwrap();
            assert_eq!(put.upload.size, size as u64);
            let (entry, parts) = files.open("a/b/file/", None).await.unwrap();
            assert_eq!((entry.name.as_str(), entry.kind, entry.size), ("file", FileKind::File, size as u64));
            assert_eq!((entry.mode, entry.modified_ms), (Some(0o755), Some(1234)));
            assert_eq!(entry.media_type.as_deref(), Some("text/plain"));
            assert!(parts.try_collect::<Vec<_>>().await.unwrap().concat() == bytes);
        }
    });
}

#[test]
fn directories_are_made_and_listed() {
    block_on(async {
        let (_, files) = files();
        assert_eq!(files.stat("/").await.unwrap().kind, FileKind::Directory);
        assert!(names(&files, "/").await.is_empty());
        for path in ["a/b/2", "a/b/1", "a/b/c/d", "a/z", "top"] {
            put(&files, path, b"x").await.unwrap();
        }
        assert_eq!(names(&files, "").await, ["a", "top"]);
        assert_eq!(names(&files, "/a/").await, ["b", "z"]);
        assert_eq!(names(&files, "a/b").await, ["1", "2", "c"]);
        let page = files.list("a/b", None, 2).await.unwrap();
        assert_eq!(page.next.as_deref(), Some("2"));
        let rest = files.list("a/b", page.next.as_deref(), 2).await.unwrap();
        assert_eq!((rest.entries[0].name.as_str(), rest.next), ("c", None));
        assert!(files.make_directory("a/new/deep").await.unwrap());
        assert!(!files.make_directory("a/new/deep").await.unwrap());
        assert!(names(&files, "a/new/deep").await.is_empty());
    });
}

#[test]
fn files_and_directories_do_not_replace_each_other() {
    block_on(async {
        let (_, files) = files();
        put(&files, "d/file", b"x").await.unwrap();
        for condition in [Condition::None, Condition::Present] {
            let refused = put_if(&files, "d", condition).await;
            assert!(matches!(&refused, Err(FileError::IsADirectory { path }) if path == "/d"), "{refused:?}");
        }
        assert!(matches!(put(&files, "/", b"x").await, Err(FileError::IsADirectory { .. })));
        for path in ["d/file/below", "d/file/far/below"] {
            let refused = put(&files, path, b"x").await;
            assert!(matches!(&refused, Err(FileError::NotADirectory { path }) if path == "/d/file"), "{refused:?}");
        }
        assert!(matches!(files.make_directory("d/file").await, Err(FileError::NotADirectory { .. })));
        assert!(matches!(files.list("d/file", None, 9).await, Err(FileError::NotADirectory { .. })));
        assert!(matches!(files.list("nowhere", None, 9).await, Err(FileError::NotFound { .. })));
        assert!(matches!(files.open("d", None).await.err(), Some(FileError::IsADirectory { .. })));
        assert!(matches!(put(&files, "a/../b", b"x").await, Err(FileError::Path(_))));
    });
}

#[test]
fn conditions_of_puts_hold() {
    block_on(async {
        let (_, files) = files();
        let conflicts = |outcome: Result<Put, FileError>| {
            assert!(matches!(outcome, Err(FileError::Request(RequestError::Conflict { .. }))), "{outcome:?}");
        };
        conflicts(put_if(&files, "f", Condition::Present).await);
        conflicts(put_if(&files, "f", Condition::Head(Hash::ZERO)).await);
        let first = put_if(&files, "f", Condition::Absent).await.unwrap().written.written().copied().unwrap();
        assert!(first.created);
        conflicts(put_if(&files, "f", Condition::Absent).await);
        let second =
            put_if(&files, "f", Condition::Head(first.hash)).await.unwrap().written.written().copied().unwrap();
        conflicts(put_if(&files, "f", Condition::Head(first.hash)).await);
        assert!(!put_if(&files, "f", Condition::None).await.unwrap().written.written().unwrap().created);
        assert_eq!(
            put_if(&files, "f", Condition::Present).await.unwrap().written.written().unwrap().height,
            second.height + 2
        );
    });
}

#[test]
fn a_put_that_is_repeated_is_applied_once() {
    block_on(async {
        let (_, files) = files();
        let options = PutOptions { attempt: Some(crate::keys::new_operation_id().into()), ..PutOptions::default() };
        let once = || files.put("f", source(b"x"), options.clone());
        assert_eq!(once().await.unwrap(), once().await.unwrap());
    });
}

#[test]
fn a_put_that_is_cut_off_changes_nothing() {
    block_on(async {
        let (_, files) = files();
        let parts = stream::iter([Ok(Bytes::from(content(500_000, 1))), Err(SourceError::from("gone"))]);
        let refused = files.put("new/file", parts, PutOptions::default()).await;
        assert!(matches!(refused, Err(FileError::Value(_))), "{refused:?}");
        assert!(names(&files, "/").await.is_empty());
    });
}

#[test]
fn removing() {
    block_on(async {
        let (datastore, files) = files();
        for index in 0..150 {
            put(&files, &format!("d/many/{index}"), b"x").await.unwrap();
            put(&files, &format!("d/deep/{index}/er/file"), b"x").await.unwrap();
        }
        put(&files, "other", b"x").await.unwrap();
        let refused = files.remove("d", RemoveOptions::default()).await;
        assert!(matches!(refused, Err(FileError::NotEmpty { .. })), "{refused:?}");
        let wrong = RemoveOptions { condition: Condition::Head(Hash::ZERO), ..RECURSIVE };
        assert!(files.remove("d", wrong).await.is_err());
        // 150 files, 150 files in 300 directories, and three more directories.
        assert_eq!(files.remove("d", RECURSIVE).await.unwrap(), 603);
        assert!(datastore.in_flight_max() <= 16);
        assert_eq!(names(&files, "/").await, ["other"]);
        assert!(matches!(files.stat("d/many/1").await, Err(FileError::NotFound { .. })));
        assert!(matches!(files.remove("d", RECURSIVE).await, Err(FileError::NotFound { .. })));
        // The directories are not taken for known any more.
        put(&files, "d/many/again", b"x").await.unwrap();
        assert_eq!(names(&files, "d").await, ["many"]);
        assert_eq!(files.remove("/", RECURSIVE).await.unwrap(), 4);
        assert!(names(&files, "/").await.is_empty());
    });
}

#[test]
fn a_tree_is_put_with_few_requests() {
    block_on(async {
        let (datastore, files) = files();
        put(&files, "a/b/c/first", b"x").await.unwrap();
        let before = datastore.calls();
        let puts = (0..100).map(|index| {
            let files = files.clone();
            async move { put(&files, &format!("a/b/c/{index}"), b"x").await.unwrap() }
        });
        join_all(puts).await;
        // The write, and a look whether the directory is still there.
        assert_eq!(datastore.calls() - before, 200);
    });
}

#[test]
fn a_directory_removed_through_another_node_is_made_again_by_the_next_put() {
    block_on(async {
        let (datastore, here) = files();
        let elsewhere = Files::new(datastore);
        put(&here, "a/b/first", b"x").await.unwrap();
        elsewhere.remove("a", RECURSIVE).await.unwrap();
        put(&here, "a/b/second", b"x").await.unwrap();
        assert_eq!(names(&elsewhere, "/").await, ["a"]);
        assert_eq!(names(&elsewhere, "a/b").await, ["second"]);
    });
}

#[test]
fn at_level_lazy_a_file_waits_for_its_place_and_gets_it() {
    block_on(async {
        let (datastore, files) = files();
        let lazy = files.with_level(Level::Lazy);
        let queued = put(&lazy, "a/f", b"x").await.unwrap().written;
        assert!(matches!(queued, crate::keys::Submitted::Queued(_)), "{queued:?}");
        assert!(matches!(files.stat("a/f").await, Err(FileError::NotFound { .. })));
        datastore.apply_queued();
        assert_eq!(files.stat("a/f").await.unwrap().size, 1);
        assert_eq!(names(&files, "/").await, ["a"]);
        assert_eq!(lazy.remove("a/f", RemoveOptions::default()).await.unwrap(), 1);
        datastore.apply_queued();
        assert!(files.stat("a/f").await.is_err());
    });
}

#[test]
fn symbolic_links_are_kept_and_not_followed() {
    block_on(async {
        let (_, files) = files();
        files.put_symlink("d/link", "../target".into(), PutOptions::default()).await.unwrap();
        let (entry, parts) = files.open("d/link", None).await.unwrap();
        assert_eq!((entry.kind, entry.size), (FileKind::Symlink, 9));
        assert_eq!(parts.try_collect::<Vec<_>>().await.unwrap().concat(), b"../target");
        assert!(matches!(put(&files, "d/link/x", b"x").await, Err(FileError::NotADirectory { .. })));
        assert!(matches!(put_if(&files, "d", Condition::None).await, Err(FileError::IsADirectory { .. })));
        assert_eq!(files.remove("d", RECURSIVE).await.unwrap(), 2);
    });
}

#[test]
fn options_out_of_bounds_are_refused_before_anything_is_stored() {
    block_on(async {
        let (datastore, files) = files();
        for options in [
            PutOptions { mode: Some(0o10000), ..PutOptions::default() },
            PutOptions { media_type: Some("x".repeat(200)), ..PutOptions::default() },
            PutOptions { media_type: Some("\n".into()), ..PutOptions::default() },
        ] {
            let refused = files.put("f", source(&content(100_000, 1)), options).await;
            assert!(matches!(refused, Err(FileError::Options(_))), "{refused:?}");
        }
        assert_eq!(datastore.calls(), 0);
    });
}
