//! Many clients compare and set few keys through all nodes, while one of them is killed or
//! hangs.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use difuse_keylog::Transaction;
use difuse_tests::{
    Answer, Attempt, Cluster, Outcome, Retrying,
    history::{self, Effect, Seen},
    until,
};
use difuse_types::Hash;
use reqwest::Method;
use tokio::time::Instant;

const CLIENTS: usize = 64;
const KEYS: usize = 8;
const VICTIM: usize = 1;
/// Acknowledged writes before, during and after the fault.
const WRITES: usize = 600;
/// Clients go on trying for so long; after that an outcome is unknown.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that does not answer for so long is given up for another one.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);

/// What a client did and was told.
struct Operation {
    key: usize,
    start: Instant,
    end: Instant,
    result: Told,
}

enum Told {
    /// A read, or a refused write that was told the head: its height (0: absent) and hash.
    Saw { height: u64, hash: Option<Hash> },
    /// A write: what it expected, what it wrote, and how that ended.
    Wrote { operation_id: String, expected: Option<Hash>, value: String, outcome: WriteOutcome },
}

enum WriteOutcome {
    Acknowledged { height: u64, hash: Hash },
    Refused,
    Unknown,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    acknowledged: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_while_a_node_is_killed() {
    check(async |cluster| cluster.kill9(VICTIM), async |cluster| cluster.restart(&[VICTIM]).await).await;
}

/// The worse case: it comes back believing that it leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_are_linearizable_while_a_node_hangs() {
    check(async |cluster| cluster.node_mut(VICTIM).pause(), async |cluster| cluster.node_mut(VICTIM).resume()).await;
}

/// Lets clients work before, during and after a fault, and checks what they saw.
async fn check(begin_fault: impl AsyncFnOnce(&mut Cluster), end_fault: impl AsyncFnOnce(&mut Cluster)) {
    let mut cluster = Cluster::start(3).await;
    let shared = Arc::new(Shared::default());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let ring = cluster.retrying(number % 3, &[0, 1, 2]).with_timeout(ANSWER_PATIENCE);
            let client = Client { number, ring, shared: shared.clone() };
            tokio::spawn(client.run())
        })
        .collect();
    acknowledged(&shared, WRITES).await;
    begin_fault(&mut cluster).await;
    acknowledged(&shared, WRITES).await;
    end_fault(&mut cluster).await;
    acknowledged(&shared, WRITES).await;
    shared.is_over.store(true, Ordering::Relaxed);
    let mut operations = Vec::new();
    for client in clients {
        operations.extend(client.await.expect("a client does not panic"));
    }
    cluster.settled(3).await;
    for key in 0..KEYS {
        let chain = history::verified_chain(&cluster.http(key % 3), &name(key)).await;
        let of_key: Vec<_> = operations.iter().filter(|operation| operation.key == key).collect();
        check_key(key, &chain, &of_key);
        for node in 0..3 {
            let again = history::verified_chain(&cluster.http(node), &name(key)).await;
            assert!(again == chain, "node {node} tells another history of {}", name(key));
        }
    }
}

/// Waits until so many further writes are acknowledged.
async fn acknowledged(shared: &Shared, count: usize) {
    let goal = shared.acknowledged.load(Ordering::Relaxed) + count;
    until("acknowledged writes", Duration::from_secs(120), async || {
        let now = shared.acknowledged.load(Ordering::Relaxed);
        (now >= goal).then_some(()).ok_or_else(|| format!("{now} of {goal}"))
    })
    .await;
}

fn name(key: usize) -> String {
    format!("register-{key}")
}

struct Client {
    number: usize,
    ring: Retrying,
    shared: Arc<Shared>,
}

impl Client {
    async fn run(self) -> Vec<Operation> {
        let mut operations = Vec::new();
        let mut random = fastrand::Rng::with_seed(self.number as u64);
        while !self.shared.is_over.load(Ordering::Relaxed) {
            let key = random.usize(..KEYS);
            let Some((read, head)) = self.read(key).await else { continue };
            operations.push(read);
            let value = format!("client {} write {}", self.number, operations.len());
            operations.extend(self.write(key, head, value).await);
        }
        operations
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &Bytes) -> Outcome {
        let is_over = || self.shared.is_over.load(Ordering::Relaxed);
        self.ring.send(&Attempt { method, path, headers, body }, PATIENCE, is_over).await
    }

    async fn read(&self, key: usize) -> Option<(Operation, Option<Hash>)> {
        let start = Instant::now();
        let path = format!("/v1/keys/{}", name(key));
        let Outcome::Answered(answer, _) = self.send(Method::GET, &path, &[], &Bytes::new()).await else {
            return None;
        };
        let saw = match answer.status {
            200 => Told::Saw { height: height(&answer), hash: Some(etag(&answer)) },
            404 => Told::Saw { height: 0, hash: None },
            other => panic!("a read was answered with {other}: {}", answer.text()),
        };
        let head = (answer.status == 200).then(|| etag(&answer));
        Some((Operation { key, start, end: Instant::now(), result: saw }, head))
    }

    /// The write, and what a refusal told of the head.
    async fn write(&self, key: usize, expected: Option<Hash>, value: String) -> Vec<Operation> {
        let operation_id = format!("{:032x}", fastrand::u128(..));
        let tag = expected.map(|hash| format!("\"{hash}\""));
        let condition = tag.as_deref().map_or(("if-none-match", "*"), |tag| ("if-match", tag));
        let headers = [condition, ("difuse-operation-id", &operation_id)];
        let path = format!("/v1/keys/{}", name(key));
        let start = Instant::now();
        let sent = self.send(Method::PUT, &path, &headers, &value.clone().into()).await;
        let end = Instant::now();
        let operation = |result| Operation { key, start, end, result };
        let wrote = |outcome| {
            operation(Told::Wrote { operation_id: operation_id.clone(), expected, value: value.clone(), outcome })
        };
        match sent {
            Outcome::Answered(answer, _) if matches!(answer.status, 200 | 201) => {
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                vec![wrote(WriteOutcome::Acknowledged { height: height(&answer), hash: etag(&answer) })]
            }
            // An earlier attempt may have been carried out, and another write since then.
            Outcome::Answered(answer, true) if answer.status == 412 => vec![wrote(WriteOutcome::Unknown)],
            Outcome::Answered(answer, false) if answer.status == 412 => {
                let saw = Told::Saw { height: height(&answer), hash: Some(etag(&answer)) };
                vec![wrote(WriteOutcome::Refused), operation(saw)]
            }
            Outcome::Answered(answer, true) if answer.is_forgotten() => vec![wrote(WriteOutcome::Unknown)],
            Outcome::Answered(answer, _) => panic!("a write was answered with {}: {}", answer.status, answer.text()),
            Outcome::GaveUp(_) => vec![wrote(WriteOutcome::Unknown)],
        }
    }
}

fn height(answer: &Answer) -> u64 {
    answer
        .header("difuse-height")
        .parse()
        .unwrap_or_else(|_| panic!("no height: {:?} {}", answer.headers, answer.text()))
}

fn etag(answer: &Answer) -> Hash {
    let tag = answer.header("etag").trim_matches('"');
    tag.parse().unwrap_or_else(|_| panic!("no ETag: {:?} {}", answer.headers, answer.text()))
}

/// Checks everything that clients were told of a key against its chain.
fn check_key(key: usize, chain: &[Transaction], operations: &[&Operation]) {
    let key = name(key);
    let mut by_id: BTreeMap<String, &Transaction> = BTreeMap::new();
    for transaction in chain {
        let other = by_id.insert(transaction.operation_id.to_string(), transaction);
        assert!(other.is_none(), "{key}: one operation is in the chain twice: {transaction:?}");
    }
    let mut seen = Vec::new();
    for operation in operations {
        let interval = |height, effect, end| Seen { height, effect, start: operation.start, end };
        match &operation.result {
            Told::Saw { height, hash } => {
                assert_eq!(*hash, hash_at(chain, *height), "{key}: a head at height {height} that is not in the chain");
                seen.push(interval(*height, Effect::Saw, Some(operation.end)));
            }
            Told::Wrote { operation_id, expected, value, outcome } => {
                let found = by_id.remove(operation_id);
                if let Some(transaction) = found {
                    check_transaction(transaction, *expected, value);
                    let end = matches!(outcome, WriteOutcome::Acknowledged { .. }).then_some(operation.end);
                    seen.push(interval(transaction.height, Effect::Wrote, end));
                }
                check_outcome(&key, outcome, found);
            }
        }
    }
    assert!(by_id.is_empty(), "{key}: transactions that no client sent: {by_id:?}");
    println!("{key}: {} transactions, {} operations", chain.len(), seen.len());
    if let Err(contradiction) = history::check_real_time(&seen) {
        panic!("{key}: not linearizable: {contradiction:?}");
    }
}

fn hash_at(chain: &[Transaction], height: u64) -> Option<Hash> {
    let index = usize::try_from(height).ok()?.checked_sub(1)?;
    chain.get(index).map(Transaction::hash)
}

fn check_transaction(transaction: &Transaction, expected: Option<Hash>, value: &str) {
    assert_eq!(transaction.previous, expected.unwrap_or(Hash::ZERO), "a write took effect on another head: {value}");
    assert_eq!(transaction.value().map(|value| &value.bytes[..]), Some(value.as_bytes()));
}

fn check_outcome(key: &str, outcome: &WriteOutcome, found: Option<&Transaction>) {
    match (outcome, found) {
        (WriteOutcome::Acknowledged { height, hash }, Some(transaction)) => {
            assert_eq!((*height, *hash), (transaction.height, transaction.hash()), "{key}");
        }
        (WriteOutcome::Acknowledged { height, .. }, None) => panic!("{key}: an acknowledged write at {height} is lost"),
        (WriteOutcome::Refused, Some(transaction)) => panic!("{key}: a refused write took effect: {transaction:?}"),
        (WriteOutcome::Refused, None) | (WriteOutcome::Unknown, _) => {}
    }
}
