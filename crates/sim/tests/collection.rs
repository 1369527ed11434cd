//! Uploads, deletes, reads and collections at the same time, by the code that does it in production, on simulated rings whose
//! nodes crash and whose links break: a file that is there has all its blocks.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use difuse_api::{
    Datastore,
    collection::{CollectionError, collect},
    files::{FileError, Files, PutOptions, RemoveOptions},
    request::{Reply, Request, RequestError},
    values::{SourceError, ValueError},
};
use difuse_protocol::RequestId;
use difuse_sim::{Control, plan::Fault, scenario::Scenario};
use difuse_types::{Instant, NodeId};
use futures::{StreamExt, TryStreamExt, stream};

/// How long everybody is at work, in virtual time.
const WORK_FOR: Duration = Duration::from_secs(40);
/// How long the steps of virtual time are.
const STEP: Duration = Duration::from_millis(2);
/// For how long an answer is waited for: longer than a node tries.
const PATIENCE: Duration = Duration::from_secs(5);
/// The names of files, and the contents that they get: so few that they share blocks all the time.
const FILES: usize = 5;
const CONTENTS: u8 = 3;
const CONTENT_BYTES: usize = 200_000;

/// A datastore whose requests go into a simulated ring.
#[derive(Default)]
struct Bridge(Mutex<Calls>);

#[derive(Default)]
struct Calls {
    now: Instant,
    last: u64,
    wanted: Vec<(u64, Request)>,
    answers: BTreeMap<u64, Result<Reply, RequestError>>,
}

impl Bridge {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap()
    }

    async fn sleep(&self, time: Duration) {
        let until = self.calls().now + time;
        futures::future::poll_fn(|context| match self.calls().now >= until {
            true => Poll::Ready(()),
            false => ask_again(context),
        })
        .await;
    }
}

/// Time passes between two polls, and nothing else wakes anybody.
fn ask_again<T>(context: &Context<'_>) -> Poll<T> {
    context.waker().wake_by_ref();
    Poll::Pending
}

#[async_trait]
impl Datastore for Bridge {
    async fn call(&self, request: Request) -> Result<Reply, RequestError> {
        let id = {
            let mut calls = self.calls();
            calls.last += 1;
            let id = calls.last;
            calls.wanted.push((id, request));
            id
        };
        futures::future::poll_fn(|context| match self.calls().answers.remove(&id) {
            Some(answer) => Poll::Ready(answer),
            None => ask_again(context),
        })
        .await
    }
}

/// What was asked of a node.
struct Asked {
    call: u64,
    id: RequestId,
    node: NodeId,
    at: Instant,
    request: Request,
}

/// A ring, and everybody who works with it.
struct World {
    ring: Scenario,
    bridge: Arc<Bridge>,
    rng: fastrand::Rng,
    asked: Vec<Asked>,
    figures: RefCell<Figures>,
}

#[derive(Default, Debug, Clone, Copy)]
struct Figures {
    uploads: u64,
    too_old: u64,
    removed: u64,
    reads: u64,
    collections: u64,
    deleted_blocks: u64,
    /// A file that was there and could not be read.
    lost: u64,
}

type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

static CONTENT: LazyLock<Vec<Bytes>> = LazyLock::new(|| {
    let content = |number: u8| {
        let mut rng = fastrand::Rng::with_seed(number.into());
        let mut bytes = vec![0; CONTENT_BYTES];
        rng.fill(&mut bytes);
        bytes.into()
    };
    (0..CONTENTS).map(content).collect()
});

impl World {
    fn new(seed: u64, control: Option<Control>) -> Self {
        let ring = Scenario::with(4, 4, seed, |plan| {
            plan.broken = control;
            plan.is_through_wire = false;
            plan.faults = vec![Fault::Crash, Fault::Blink, Fault::Blink, Fault::CutLink, Fault::Reset, Fault::Pause];
            plan.fault_every_max = Duration::from_secs(6);
            (plan.loss_per_mille, plan.duplicates_per_mille, plan.stragglers_per_mille) = (2, 10, 10);
        });
        let rng = fastrand::Rng::with_seed(seed);
        Self { ring, bridge: Arc::default(), rng, asked: Vec::new(), figures: RefCell::default() }
    }

    /// Lets time pass until the tasks are done.
    fn run(&mut self, mut tasks: Vec<Task<'_>>) {
        let mut context = Context::from_waker(Waker::noop());
        while !tasks.is_empty() {
            self.bridge.calls().now = self.ring.now();
            tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
            self.exchange();
            self.ring.run_for(STEP);
        }
    }

    /// Hands requests to nodes, and answers back.
    fn exchange(&mut self) {
        let wanted = std::mem::take(&mut self.bridge.calls().wanted);
        for (call, request) in wanted {
            let up: Vec<_> = self.ring.nodes().into_iter().filter(|node| self.ring.is_running(*node)).collect();
            match self.rng.choice(up) {
                Some(node) => {
                    let id = self.ring.submit(node, request.clone());
                    self.asked.push(Asked { call, id, node, at: self.ring.now(), request });
                }
                None => self.answer(call, Err(RequestError::NotServing("no node is up".into()))),
            }
        }
        for asked in std::mem::take(&mut self.asked) {
            let is_lost = !self.ring.is_running(asked.node) || self.ring.now().since(asked.at) > PATIENCE;
            match self.ring.answer(asked.id) {
                Some(answer) => self.answer(asked.call, answer),
                None if is_lost => {
                    let error = match asked.request {
                        Request::Write { operation_id, .. } => RequestError::Unknown { operation_id, since: None },
                        _ => RequestError::NotServing("the node asked is down".into()),
                    };
                    self.answer(asked.call, Err(error));
                }
                None => self.asked.push(asked),
            }
        }
    }

    fn answer(&self, call: u64, answer: Result<Reply, RequestError>) {
        self.bridge.calls().answers.insert(call, answer);
    }
}

/// One of those who work, until it is time.
struct Worker<'a> {
    bridge: Arc<Bridge>,
    files: Files<Arc<Bridge>>,
    rng: RefCell<fastrand::Rng>,
    figures: &'a RefCell<Figures>,
    until: Instant,
}

impl<'a> Worker<'a> {
    fn new(bridge: &Arc<Bridge>, seed: u64, figures: &'a RefCell<Figures>, until: Instant) -> Self {
        let (bridge, files) = (bridge.clone(), Files::new(bridge.clone()));
        Self { bridge, files, rng: RefCell::new(fastrand::Rng::with_seed(seed)), figures, until }
    }

    fn is_over(&self) -> bool {
        self.bridge.calls().now >= self.until
    }

    fn some_time(&self, most_ms: u64) -> Duration {
        Duration::from_millis(self.rng.borrow_mut().u64(0..most_ms))
    }

    fn some_file(&self) -> String {
        format!("file-{}", self.rng.borrow_mut().usize(0..FILES))
    }

    /// Uploads slowly: collections begin and end meanwhile.
    async fn upload(self) {
        while !self.is_over() {
            let bytes = CONTENT[usize::from(self.rng.borrow_mut().u8(0..CONTENTS))].clone();
            let pause_ms = self.rng.borrow_mut().u64(1..1500);
            let parts = (0..4).map(|part| bytes.slice(part * CONTENT_BYTES / 4..(part + 1) * CONTENT_BYTES / 4));
            let parts: Vec<_> = parts.map(|part| (part, self.bridge.clone(), self.some_time(pause_ms))).collect();
            let parts = stream::iter(parts).then(|(part, bridge, pause)| async move {
                bridge.sleep(pause).await;
                Ok::<_, SourceError>(part)
            });
            let put = self.files.put(&self.some_file(), Box::pin(parts), PutOptions::default()).await;
            let mut figures = self.figures.borrow_mut();
            match put {
                Ok(_) => figures.uploads += 1,
                Err(FileError::Request(RequestError::UploadTooOld { .. })) => figures.too_old += 1,
                Err(_) => {}
            }
        }
    }

    async fn remove(self) {
        while !self.is_over() {
            self.bridge.sleep(self.some_time(1200)).await;
            let removed = self.files.remove(&self.some_file(), RemoveOptions::default()).await;
            self.figures.borrow_mut().removed += u64::from(removed.is_ok());
        }
    }

    async fn read(self) {
        while !self.is_over() {
            self.bridge.sleep(self.some_time(500)).await;
            self.read_file(&self.some_file()).await;
        }
    }

    /// Reads a file whole. Its blocks may be gone only if it was changed since it was found.
    async fn read_file(&self, path: &str) {
        let Ok((found, parts)) = self.files.open(path, None).await else { return };
        let read: Result<Vec<Bytes>, ValueError> = parts.try_collect().await;
        match read {
            Ok(parts) => {
                let bytes = parts.concat();
                assert!(CONTENT.iter().any(|known| *known == bytes), "{path} holds what nobody stored");
                self.figures.borrow_mut().reads += 1;
            }
            Err(ValueError::Missing { .. }) => {
                let height = |entry: difuse_api::files::FileEntry| entry.entry.map(|entry| entry.height);
                let now = self.files.stat(path).await.map(height);
                if now.is_ok_and(|now| now == height(found)) {
                    self.figures.borrow_mut().lost += 1;
                }
            }
            Err(_) => {}
        }
    }

    async fn collect(self) {
        while !self.is_over() {
            self.bridge.sleep(self.some_time(1500)).await;
            self.collect_once().await;
        }
    }

    async fn collect_once(&self) {
        let seed = self.rng.borrow_mut().u128(..);
        let pause = async |time: Duration| self.bridge.sleep(time).await;
        match collect(&*self.bridge, seed, false, |_| {}, pause).await {
            Ok(collected) => {
                let mut figures = self.figures.borrow_mut();
                figures.collections += 1;
                figures.deleted_blocks += collected.deleted.blocks;
            }
            // What is named and missing is found by reading it.
            Err(CollectionError::Unreadable { .. } | CollectionError::Request(_) | CollectionError::Waiting { .. }) => {
            }
        }
    }
}

fn run(seed: u64, control: Option<Control>) -> Figures {
    let mut world = World::new(seed, control);
    let (bridge, figures) = (world.bridge.clone(), std::mem::take(&mut world.figures));
    bridge.calls().now = world.ring.now();
    let until = world.ring.now() + WORK_FOR;
    let worker = |number: u64| Worker::new(&bridge, seed << 8 | number, &figures, until);
    let tasks: Vec<Task<'_>> = vec![
        Box::pin(worker(0).upload()),
        Box::pin(worker(1).upload()),
        Box::pin(worker(2).upload()),
        Box::pin(worker(3).remove()),
        Box::pin(worker(4).read()),
        Box::pin(worker(5).collect()),
        Box::pin(worker(6).collect()),
    ];
    world.run(tasks);
    world.ring.heal();
    world.ring.run_for(Duration::from_secs(5));
    // Everything that may go goes; then every file that is there is read.
    let last = worker(7);
    let tasks: Vec<Task<'_>> = vec![Box::pin(async {
        for _ in 0..3 {
            last.collect_once().await;
        }
        for number in 0..FILES {
            last.read_file(&format!("file-{number}")).await;
        }
    })];
    world.run(tasks);
    figures.into_inner()
}

/// Few, so that it is quick; ask for more with `DIFUSE_SEEDS`, of which it takes one in fifty.
fn seeds_wanted() -> u64 {
    let seeds: u64 = std::env::var("DIFUSE_SEEDS").map_or(0, |count| count.parse().expect("DIFUSE_SEEDS is a number"));
    (seeds / 50).max(6)
}

#[test]
fn a_file_that_is_there_has_all_its_blocks() {
    let mut total = Figures::default();
    for seed in 0..seeds_wanted() {
        let figures = run(seed, None);
        assert_eq!(figures.lost, 0, "seed {seed}: {figures:?}");
        total.uploads += figures.uploads;
        total.too_old += figures.too_old;
        total.removed += figures.removed;
        total.collections += figures.collections;
        total.deleted_blocks += figures.deleted_blocks;
        total.reads += figures.reads;
    }
    // It would hold as well if nothing happened.
    assert!(total.uploads > 20 && total.removed > 10 && total.reads > 20, "{total:?}");
    assert!(total.collections > 20 && total.deleted_blocks > 20 && total.too_old > 0, "{total:?}");
}

/// A control: were uploads not refused that two collections have overtaken, files would lack blocks.
#[test]
fn uploads_that_are_not_refused_lose_blocks() {
    let lost = (0..100).find(|seed| run(*seed, Some(Control::UploadGeneration)).lost > 0);
    assert!(lost.is_some(), "not caught");
}
