//! Whom the client asks, and how often, against a ring of fakes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use difuse_api::{
    Consistency, Datastore,
    keys::deadline_after,
    request::{Reading, Reply, Request, RequestError, Routes},
};
use difuse_keylog::{Ballot, Operation, Term};
use difuse_protocol::message::Outcome;
use difuse_ring::HostState;
use difuse_types::{Hash, Host, Incarnation, Key, Level, NodeId, RingId, RingSettings, SlotId};

use crate::{
    Client, ClientConfig, ClientError, ConnectError, WriteOptions,
    exchange::{Exchange, ExchangeError},
    request::{Condition, Since},
};

/// How a fake node behaves.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Behaviour {
    Serves,
    Silent,
    Unavailable,
    Disconnects,
    Conflict,
    RedirectsTo(u8),
    /// Answers reads as a replica that has seen the slot up to this sequence.
    Reads(u64),
}

/// Nodes 1 to 3 at "1:1" to "3:3"; node 2 leads the only slot.
struct FakeRing {
    behaviour: Mutex<BTreeMap<u8, Behaviour>>,
    connected: Mutex<Vec<NodeId>>,
    asked: Mutex<Vec<(u8, Request)>>,
}

impl FakeRing {
    fn new(behaviour: [Behaviour; 3]) -> Arc<Self> {
        let behaviour = (1..=3).zip(behaviour).collect();
        Arc::new(Self { behaviour: Mutex::new(behaviour), connected: Mutex::default(), asked: Mutex::default() })
    }

    fn asked(&self) -> Vec<u8> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|(_, request)| *request != Request::Routes).map(|(node, _)| *node).collect()
    }

    fn routes() -> Box<Routes> {
        let host = |name: u8| Host {
            node: node(name),
            incarnation: Incarnation(1),
            address: format!("{name}:{name}"),
            http: String::new(),
            zone: String::new(),
            label: String::new(),
        };
        let settings = RingSettings::new(RingId(Hash::ZERO), 3, 1, 8).unwrap();
        let hosts = (1..=3).map(|name| (host(name), HostState::Up)).collect();
        Box::new(Routes { settings, hosts, leaders: vec![1] })
    }
}

#[async_trait]
impl Exchange for FakeRing {
    async fn connect(&self, address: &str) -> Result<NodeId, String> {
        let name: u8 = address.split(':').next().unwrap().parse().map_err(|_| "nobody there".to_string())?;
        let mut connected = self.connected.lock().unwrap();
        if !connected.contains(&node(name)) {
            connected.push(node(name));
        }
        Ok(node(name))
    }

    fn is_connected(&self, node: &NodeId) -> bool {
        self.connected.lock().unwrap().contains(node)
    }

    fn connected(&self) -> Vec<NodeId> {
        self.connected.lock().unwrap().clone()
    }

    async fn exchange(&self, to: NodeId, request: Request) -> Result<Outcome, ExchangeError> {
        let name = to.0[0];
        self.asked.lock().unwrap().push((name, request.clone()));
        if request == Request::Routes {
            return Ok(Outcome::Reply(Reply::Routes(Self::routes())));
        }
        let behaviour = self.behaviour.lock().unwrap()[&name];
        match behaviour {
            Behaviour::Reads(sequence) => {
                let reading = Reading { entry: None, is_linearizable: false, mark: Some(mark(sequence)) };
                Ok(Outcome::Reply(Reply::Entry(reading)))
            }
            Behaviour::Serves => Ok(Outcome::Reply(Reply::Done)),
            Behaviour::Silent => std::future::pending().await,
            Behaviour::Disconnects => Err(ExchangeError::Disconnected),
            Behaviour::Unavailable => Ok(Outcome::Error(unavailable())),
            Behaviour::Conflict => Ok(Outcome::Error(RequestError::Conflict { current: None })),
            Behaviour::RedirectsTo(other) => {
                Ok(Outcome::Redirect { slot: SlotId(0), configuration: None, leader: Some(node(other)) })
            }
        }
    }
}

fn node(name: u8) -> NodeId {
    NodeId([name; 32])
}

fn mark(sequence: u64) -> Ballot {
    Ballot { term: Term::start_of(1), sequence }
}

fn unavailable() -> RequestError {
    RequestError::Unavailable { slot: SlotId(0), reason: "no majority".into() }
}

fn read() -> Request {
    Request::Read { key: Key::new(b"k").unwrap(), level: Level::Quorum, seen: None }
}

fn write() -> Request {
    Request::Write {
        key: Key::new(b"k").unwrap(),
        operation: difuse_keylog::Operation::Delete,
        condition: Condition::None,
        operation_id: difuse_api::keys::new_operation_id(),
        level: Level::Quorum,
        since: Since::Now,
    }
}

/// A client that is connected to all three.
async fn connected(ring: &Arc<FakeRing>) -> Client {
    let addresses = ["1:1".to_string()];
    let client = Client::connect_over(ring.clone(), &addresses, ClientConfig::default()).await.unwrap();
    while ring.connected().len() < 3 {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client
}

#[tokio::test(start_paused = true)]
async fn requests_go_straight_to_the_leader_once_it_is_found() {
    let ring = FakeRing::new([Behaviour::Serves; 3]);
    let client = connected(&ring).await;
    for _ in 0..5 {
        assert_eq!(client.call(read()).await, Ok(Reply::Done));
    }
    assert_eq!(ring.asked(), [2; 5]);
}

#[tokio::test(start_paused = true)]
async fn another_node_is_asked_when_the_leader_is_silent_and_it_is_passed_over_afterwards() {
    let ring = FakeRing::new([Behaviour::Serves, Behaviour::Silent, Behaviour::Serves]);
    let client = connected(&ring).await;
    let started = tokio::time::Instant::now();
    assert_eq!(client.call(read()).await, Ok(Reply::Done));
    assert!(started.elapsed() < ClientConfig::default().deadline);
    assert_eq!(client.call(read()).await, Ok(Reply::Done));
    let asked = ring.asked();
    assert!(asked[0] == 2 && asked[1..].iter().all(|node| *node != 2), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_waits_for_a_group_to_come_back() {
    let ring = FakeRing::new([Behaviour::Unavailable; 3]);
    let client = connected(&ring).await;
    let call = tokio::spawn(async move { client.call(read()).await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!call.is_finished());
    *ring.behaviour.lock().unwrap() = (1..=3).map(|name| (name, Behaviour::Serves)).collect();
    assert_eq!(call.await.unwrap(), Ok(Reply::Done));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_and_the_error_says_what_is_known() {
    for (behaviour, request, expected) in [
        (Behaviour::Unavailable, read(), "no majority"),
        (Behaviour::Unavailable, write(), "no majority"),
        (Behaviour::Disconnects, write(), "unknown"),
        (Behaviour::Silent, write(), "unknown"),
    ] {
        let ring = FakeRing::new([behaviour; 3]);
        let client = connected(&ring).await;
        let started = tokio::time::Instant::now();
        let error = client.call(request).await.unwrap_err();
        assert!(started.elapsed() <= ClientConfig::default().deadline, "{behaviour:?}");
        assert!(error.to_string().contains(expected), "{behaviour:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_carry_the_same_operation_id() {
    let ring = FakeRing::new([Behaviour::Disconnects, Behaviour::Disconnects, Behaviour::Serves]);
    let client = connected(&ring).await;
    let request = write();
    assert_eq!(client.call(request.clone()).await, Ok(Reply::Done));
    let asked = ring.asked.lock().unwrap();
    let writes: Vec<_> = asked.iter().filter(|(_, asked)| *asked != Request::Routes).collect();
    let as_attempt = |attempt_since| {
        let mut attempt = request.clone();
        if let Request::Write { since, .. } = &mut attempt {
            *since = attempt_since;
        }
        attempt
    };
    // Once an answer was lost, the write may have been applied.
    let repeated = as_attempt(Since::Unknown);
    assert!(writes.len() >= 2 && writes[0].1 == as_attempt(Since::Unsent), "{writes:?}");
    assert!(writes[1..].iter().all(|(_, asked)| *asked == repeated), "{writes:?}");
}

#[tokio::test(start_paused = true)]
async fn final_errors_are_not_retried_and_redirects_are_followed() {
    let ring = FakeRing::new([Behaviour::Serves, Behaviour::Conflict, Behaviour::Serves]);
    let client = connected(&ring).await;
    assert_eq!(client.call(write()).await, Err(RequestError::Conflict { current: None }));
    assert_eq!(ring.asked(), [2]);

    let ring = FakeRing::new([Behaviour::Unavailable, Behaviour::RedirectsTo(3), Behaviour::Serves]);
    let client = connected(&ring).await;
    assert_eq!(client.call(write()).await, Ok(Reply::Done));
    assert_eq!(ring.asked(), [2, 3]);
}

#[tokio::test(start_paused = true)]
async fn one_node_can_be_asked_by_name() {
    let ring = FakeRing::new([Behaviour::Serves, Behaviour::Serves, Behaviour::Conflict]);
    let client = connected(&ring).await;
    assert_eq!(client.entry_node(), node(1));
    assert_eq!(client.at(node(1)).call(Request::Leave).await, Ok(Reply::Done));
    assert!(client.at(node(3)).call(Request::Leave).await.is_err());
    assert!(matches!(client.at(node(9)).call(Request::Leave).await, Err(RequestError::Invalid(_))));
    assert_eq!(ring.asked(), [1, 3]);
}

#[tokio::test(start_paused = true)]
async fn connecting_needs_one_address_that_answers() {
    let connect = |addresses: &[&str]| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let ring = FakeRing::new([Behaviour::Serves; 3]);
        async move {
            Client::connect_over(ring, &addresses, ClientConfig::default()).await.map(|client| client.entry_node())
        }
    };
    assert_eq!(connect(&[]).await, Err(ConnectError::NoAddress));
    assert_eq!(connect(&["nobody:1", "3:3"]).await, Ok(node(3)));
    let error = connect(&["nobody:1"]).await.unwrap_err();
    assert!(error.to_string().contains("nobody:1") && error.to_string().contains("nobody there"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn requests_under_way_are_bounded() {
    let ring = FakeRing::new([Behaviour::Silent; 3]);
    let config = ClientConfig { in_flight_max: 2, ..ClientConfig::default() };
    let client = Client::connect_over(ring.clone(), &["1:1".into()], config).await.unwrap();
    let call = |seconds| {
        let client = client.with_deadline(Duration::from_secs(seconds));
        tokio::spawn(async move { client.call(read()).await })
    };
    let under_way = [call(5), call(5)];
    tokio::task::yield_now().await;
    for waiting in [call(1), call(1), call(1)] {
        assert_eq!(waiting.await.unwrap(), Err(RequestError::Busy));
    }
    for call in under_way {
        assert!(matches!(call.await.unwrap(), Err(RequestError::Unavailable { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_tells_what_it_has_seen_and_nothing_else_does() {
    let ring = FakeRing::new([Behaviour::Reads(7); 3]);
    let client = connected(&ring).await;
    let lazily = || Request::Read { key: Key::new(b"k").unwrap(), level: Level::Lazy, seen: None };
    let last_seen = || match ring.asked.lock().unwrap().last() {
        Some((_, Request::Read { seen, .. })) => *seen,
        other => panic!("{other:?}"),
    };
    let session = client.reading_session();
    session.call(lazily()).await.unwrap();
    assert_eq!(last_seen(), None);
    session.call(lazily()).await.unwrap();
    assert_eq!(last_seen(), Some(mark(7)));
    // A replica that is behind does not make it forget.
    ring.behaviour.lock().unwrap().extend((1..=3).map(|name| (name, Behaviour::Reads(5))));
    session.clone().call(lazily()).await.unwrap();
    session.call(lazily()).await.unwrap();
    assert_eq!(last_seen(), Some(mark(7)));
    client.call(lazily()).await.unwrap();
    assert_eq!(last_seen(), None);
    let other = client.reading_session();
    other.resume(&session.token());
    other.call(lazily()).await.unwrap();
    assert_eq!(last_seen(), Some(mark(7)));
}

#[tokio::test(start_paused = true)]
async fn lazy_reads_are_spread_over_the_nodes() {
    let ring = FakeRing::new([Behaviour::Reads(1); 3]);
    let client = connected(&ring).await;
    for _ in 0..9 {
        let request = Request::Read { key: Key::new(b"k").unwrap(), level: Level::Lazy, seen: None };
        client.call(request).await.unwrap();
    }
    let asked: std::collections::BTreeSet<u8> = ring.asked().into_iter().collect();
    assert_eq!(asked.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_write_carries_its_options() {
    let ring = FakeRing::new([Behaviour::Conflict; 3]);
    let client = connected(&ring).await;
    let (condition, ttl) = (Condition::Head(Hash::of(b"expected")), Duration::from_secs(1800));
    let options = WriteOptions {
        namespace: "sessions".into(),
        condition,
        ttl: Some(ttl),
        consistency: Some(Consistency::uniform(Level::Leader)),
    };
    let earliest = deadline_after(ttl).unwrap();
    let refused = client.set_with(b"k", "v", &options).await;
    assert!(matches!(refused, Err(ClientError::Request(RequestError::Conflict { .. }))), "{refused:?}");
    let asked = ring.asked.lock().unwrap().last().cloned().unwrap().1;
    let Request::Write { key, operation: Operation::Set(value), condition: demanded, level, .. } = asked else {
        panic!("{asked:?}")
    };
    assert_eq!((key.namespace(), key.name(), &value.bytes[..]), ("sessions", &b"k"[..], &b"v"[..]));
    assert_eq!((demanded, level), (condition, Level::Leader));
    let deadline = value.deadline.expect("it expires");
    assert!(earliest <= deadline && deadline <= deadline_after(ttl).unwrap());
    let never = client.set_with(b"k", "v", &WriteOptions { ttl: Some(Duration::ZERO), ..options }).await;
    assert!(matches!(never, Err(ClientError::Ttl(_))), "{never:?}");
}
