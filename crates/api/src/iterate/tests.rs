use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use difuse_keylog::MAX_INLINE_BYTES;
use difuse_protocol::request::{PAGE_MAX, Reply, Request, RequestError};
use difuse_types::{Key, Level, WallTime};
use futures::{StreamExt, executor::block_on, stream};

use super::{Content, Item, Range, items};
use crate::{
    Consistency, Datastore,
    batch::{self, Done},
    keys,
    records::{Record, RecordContent},
    testing::{FakeDatastore, content},
    values::ValueError,
};

fn key(namespace: &str, name: impl std::fmt::Display) -> Key {
    Key::in_namespace(namespace, name.to_string().as_bytes()).unwrap()
}

fn all(namespace: &str) -> Range {
    Range { prefix: Key::prefix(namespace, b"").unwrap(), after: None }
}

async fn set(datastore: &Arc<FakeDatastore>, key: Key, value: impl Into<Bytes>) {
    keys::set(datastore, key, value.into(), Level::Quorum).await.unwrap();
}

async fn command(datastore: &Arc<FakeDatastore>, key: &Key, line: &str) {
    let arguments = line.split(' ').map(|word| Bytes::from(word.to_string())).collect();
    let id = keys::new_operation_id();
    keys::command(datastore, key.clone(), arguments, id, Level::Quorum).await.unwrap();
}

async fn read_all(datastore: &Arc<FakeDatastore>, range: Range) -> Vec<Item> {
    items(datastore.clone(), range, Consistency::default(), 8 << 20).map(Result::unwrap).collect().await
}

fn names(items: &[Item]) -> Vec<String> {
    items.iter().map(|item| String::from_utf8_lossy(item.key.name()).into_owned()).collect()
}

#[test]
fn what_is_there_all_the_time_comes_up_once_and_in_order_while_others_write() {
    block_on(async {
        let datastore = Arc::new(FakeDatastore::new());
        let count = 2 * PAGE_MAX + 500;
        for number in 0..count {
            set(&datastore, key("n", format_args!("{number:05}")), number.to_string()).await;
        }
        set(&datastore, key("other", "x"), "1").await;
        let mut stream = Box::pin(items(datastore.clone(), all("n"), Consistency::default(), 1000));
        let (mut found, mut written) = (Vec::new(), 0_u32);
        while let Some(item) = stream.next().await {
            let item = item.unwrap();
            // Between any two of them some are added, changed and deleted: before, at and behind where it stands.
            written += 7919;
            let place = written % count;
            set(&datastore, key("n", format_args!("{place:05}")), format!("again {written}")).await;
            set(&datastore, key("n", format_args!("{place:05} new")), "new").await;
            keys::delete(&datastore, key("n", format_args!("{:05} new", (place + 400) % count)), Level::Quorum)
                .await
                .unwrap();
            found.push(item);
        }
        let names = names(&found);
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "not in order, or twice");
        let stable: Vec<_> = names.iter().filter(|name| !name.ends_with("new")).cloned().collect();
        assert_eq!(stable, (0..count).map(|number| format!("{number:05}")).collect::<Vec<_>>());
        assert!(names.len() > stable.len(), "new ones come up as well");
        for item in &found {
            let Content::Bytes(value) = &item.content else { panic!("{item:?}") };
            let log = keys::log(&datastore, item.key.clone(), item.height, 1).await.unwrap().transactions;
            assert_eq!(log[0].value().unwrap().bytes, *value, "what was committed at its height");
            assert_eq!(log[0].hash(), item.hash);
        }
    });
}

#[test]
fn it_goes_on_behind_a_key_and_reads_no_further_than_it_is_asked() {
    block_on(async {
        let datastore = Arc::new(FakeDatastore::new());
        for number in 0..3 * PAGE_MAX {
            set(&datastore, key("", format_args!("{number:05}")), "v").await;
        }
        let before = datastore.calls();
        let stream = items(datastore.clone(), all(""), Consistency::default(), 1000);
        let first: Vec<_> = stream.take(10).map(Result::unwrap).collect().await;
        assert_eq!(datastore.calls() - before, 1, "a page is enough");
        let after = first.last().map(|item| item.key.clone());
        let rest = read_all(&datastore, Range { after, ..all("") }).await;
        assert_eq!(names(&rest)[0], "00010");
        assert_eq!(rest.len() as u32, 3 * PAGE_MAX - 10);
    });
}

#[test]
fn long_values_and_what_expired() {
    block_on(async {
        let datastore = Arc::new(FakeDatastore::new());
        let long = Bytes::from(content(MAX_INLINE_BYTES * 30, 1));
        let puts = [("long", long.clone(), None), ("longer", Bytes::from(content(1 << 20, 2)), None)];
        let gone = ("gone", Bytes::from_static(b"x"), Some(WallTime(1)));
        let later = ("later", Bytes::from_static(b"x"), Some(WallTime(u64::MAX)));
        let puts = puts.into_iter().chain([gone, later]).map(|(name, value, deadline)| {
            let (key, condition) = (key("", name), Default::default());
            Ok::<_, ValueError>(batch::Item::Put { key, value, deadline, condition })
        });
        let done: Vec<_> = batch::run(datastore.clone(), stream::iter(puts), Consistency::default()).collect().await;
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        let found: Vec<_> =
            items(datastore, all(""), Consistency::default(), 500_000).map(Result::unwrap).collect().await;
        assert_eq!(names(&found), ["later", "long", "longer"]);
        assert_eq!(found[0].deadline, Some(WallTime(u64::MAX)));
        assert!(matches!(&found[1].content, Content::Bytes(bytes) if *bytes == long));
        assert!(matches!(found[2].content, Content::TooLong(1_048_576)), "{:?}", found[2]);
    });
}

/// Puts what is in a namespace into another one, by way of lines.
async fn copy(datastore: &Arc<FakeDatastore>, from: &str, to: &'static str) -> Vec<String> {
    let found = read_all(datastore, all(from)).await;
    let lines: Vec<String> = found.iter().map(|item| Record::of(item).unwrap().line()).collect();
    let records = lines.iter().map(|line| Record::read(line).unwrap().unwrap()).collect::<Vec<_>>();
    let items = records.into_iter().map(move |record| {
        let key = Key::in_namespace(to, &record.key).unwrap();
        let deadline = record.deadline;
        Ok::<_, ValueError>(match record.content {
            RecordContent::Value(value) => batch::Item::Put { key, value, deadline, condition: Default::default() },
            RecordContent::Structure { commands, .. } => batch::Item::Build { key, commands, deadline },
        })
    });
    let done: Vec<_> = batch::run(datastore.clone(), stream::iter(items), Consistency::default()).collect().await;
    assert!(done.iter().all(|done| matches!(done, Ok(Done::Put(_) | Done::Built))), "{done:?}");
    lines
}

#[test]
fn structures_are_made_again_from_what_is_written_down() {
    block_on(async {
        let datastore = Arc::new(FakeDatastore::new());
        let lines = [
            "rpush list a b c",
            "hset hash f 1 g two",
            "sadd set x y",
            "zadd ranked 1.5 a inf b -2e-7 c",
            "pfadd counted a b c",
            "set plain v",
            "pexpireat list 4000000000000",
        ];
        for line in lines {
            let name = line.split(' ').nth(1).unwrap();
            command(&datastore, &key("from", name), line).await;
        }
        // So long that it is no single step, with checkpoints and parts of the log behind it.
        let long = key("from", "long");
        for part in 0..300 {
            let items: Vec<_> = (0..20).map(|item| format!("{part}-{item}-{}", "x".repeat(90))).collect();
            command(&datastore, &long, &format!("rpush long {}", items.join(" "))).await;
        }
        // What is there is replaced.
        command(&datastore, &key("to", "list"), "hset list another kind").await;
        let lines = copy(&datastore, "from", "to").await;
        assert_eq!(lines.len(), 7);
        assert_eq!(lines[4], "{\"key\":\"plain\",\"value\":\"v\"}");
        assert!(
            lines[1].starts_with("{\"key\":\"hash\",\"type\":\"hash\",\"commands\":[[\"hset\",\"f\","),
            "{}",
            lines[1]
        );
        let again = copy(&datastore, "to", "once-more").await;
        assert_eq!(again, lines, "what was imported is exported as the same");
        let listed: BTreeSet<_> = lines.iter().map(String::len).collect();
        assert!(listed.last().is_some_and(|longest| *longest > 500_000), "{listed:?}");
    });
}

#[test]
fn a_structure_that_is_changed_meanwhile_comes_up_as_it_was_after_one_of_its_transactions() {
    block_on(async {
        let datastore = Arc::new(FakeDatastore::new());
        let name = key("", "counted");
        for number in 0..250 {
            command(&datastore, &name, &format!("rpush counted {number}")).await;
        }
        for _ in 0..5 {
            let item = read_all(&datastore, all("")).await.pop().unwrap();
            let Content::Structure(state) = item.content else { panic!("{item:?}") };
            let commands = state.rebuilding().unwrap();
            assert_eq!(commands.iter().map(|command| command.len() as u64 - 1).sum::<u64>(), item.height);
            command(&datastore, &name, "rpush counted more").await;
        }
        let mut few = Box::pin(items(datastore.clone(), all(""), Consistency::default(), 1000));
        let few = few.next().await.unwrap().unwrap();
        assert!(matches!(few.content, Content::TooLong(bytes) if bytes > 1000), "{few:?}");
    });
}

#[test]
fn what_cannot_be_read_is_named() {
    block_on(async {
        let datastore = Arc::new(FakeDatastore::new());
        let long = Bytes::from(content(MAX_INLINE_BYTES * 30, 1));
        let put =
            |name, value| batch::Item::Put { key: key("", name), value, deadline: None, condition: Default::default() };
        let puts = stream::iter([put("a", long), put("b", "x".into())].map(Ok::<_, ValueError>));
        assert_eq!(batch::run(datastore.clone(), puts, Consistency::default()).count().await, 2);
        datastore.lose_all_blocks();
        let found: Vec<_> = items(datastore, all(""), Consistency::default(), 1 << 20).collect().await;
        let errors: BTreeMap<usize, bool> = found.iter().map(Result::is_err).enumerate().collect();
        assert_eq!(errors, BTreeMap::from([(0, true), (1, false)]));
        assert!(matches!(&found[0], Err((Some(name), _)) if *name == key("", "a")));
    });
}

/// A datastore that forgets what is below a checkpoint of a key when its log has been read to here.
#[derive(Clone)]
struct Forgets {
    datastore: Arc<FakeDatastore>,
    key: Key,
    read: u64,
    checkpoint: u64,
}

#[async_trait]
impl Datastore for Forgets {
    async fn call(&self, request: Request) -> Result<Reply, RequestError> {
        if matches!(&request, Request::Log { from_height, .. } if *from_height == self.read + 1) {
            self.datastore.prune(&self.key, self.checkpoint);
        }
        self.datastore.call(request).await
    }
}

#[test]
fn a_log_that_is_pruned_while_it_is_read_is_read_from_its_checkpoint() {
    block_on(async {
        let datastore = Arc::new(FakeDatastore::new());
        let name = key("", "long");
        for height in 1..=1250 {
            // A new deadline writes the whole state.
            let is_checkpoint = height == 1200;
            let line =
                if is_checkpoint { "pexpireat long 4000000000000".into() } else { format!("rpush long {height}") };
            command(&datastore, &name, &line).await;
        }
        let (read, checkpoint) = (u64::from(PAGE_MAX), 1200);
        let forgets = Forgets { datastore: datastore.clone(), key: name.clone(), read, checkpoint };
        let mut stream = Box::pin(items(forgets, all(""), Consistency::default(), 1 << 20));
        let item = stream.next().await.unwrap().unwrap();
        let Content::Structure(state) = item.content else { panic!("{item:?}") };
        let commands = state.rebuilding().unwrap();
        let pushed: Vec<_> = commands.iter().flat_map(|command| &command[1..]).cloned().collect();
        let expected = (1..=1250).filter(|height| *height != 1200).map(|height| Bytes::from(height.to_string()));
        assert_eq!(pushed, expected.collect::<Vec<_>>());
        assert_eq!((item.height, item.deadline), (1250, Some(WallTime(4_000_000_000_000))));
        let pruned = keys::log(&datastore, name, 1, 1).await;
        assert!(matches!(pruned, Err(RequestError::Pruned(_))), "{pruned:?}");
    });
}
