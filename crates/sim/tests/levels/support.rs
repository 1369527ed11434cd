use std::time::Duration;

use difuse_keylog::{Operation, Value};
use difuse_protocol::request::{Condition, Reading, Reply, Request, RequestError, Since};
use difuse_sim::scenario::Scenario;
use difuse_types::{Key, Level, NodeId, OperationId};

/// What a write does to its key: the two write operations differ in nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    Set(&'static str),
    Delete,
}

pub fn key() -> Key {
    Key::new(b"k").unwrap()
}

pub fn write(change: Change, level: Level, id: u8) -> Request {
    let operation = match change {
        Change::Set(text) => Operation::Set(Value::inline(text)),
        Change::Delete => Operation::Delete,
    };
    let operation_id = OperationId([id; 16]);
    let since = Since::Now;
    Request::Write { key: key(), operation, condition: Condition::None, operation_id, level, since }
}

pub fn read(level: Level) -> Request {
    Request::Read { key: key(), level, seen: None }
}

/// A ring of three whose key has height 1 and the value "first", and its members, the leader first.
pub fn ring_with_a_key(seed: u64) -> (Scenario, [NodeId; 3]) {
    let mut ring = Scenario::new(3, seed);
    let members: [NodeId; 3] = ring.members().try_into().unwrap();
    let [leader, ..] = members;
    assert_eq!(height_written(ring.ask(leader, write(Change::Set("first"), Level::All, 1))), 1);
    // The members learn that it is committed.
    ring.run_for(Duration::from_millis(200));
    (ring, members)
}

#[track_caller]
pub fn height_written(result: Result<Reply, RequestError>) -> u64 {
    match result {
        Ok(Reply::Written { height, .. }) => height,
        other => panic!("not written: {other:?}"),
    }
}

#[track_caller]
pub fn reading(result: Result<Reply, RequestError>) -> Reading {
    match result {
        Ok(Reply::Entry(reading)) => reading,
        other => panic!("not read: {other:?}"),
    }
}

/// Height and value of what was read.
#[track_caller]
pub fn seen(result: Result<Reply, RequestError>) -> (u64, Option<String>) {
    let Some(entry) = reading(result).entry else { return (0, None) };
    (entry.height, entry.value.map(|value| String::from_utf8(value.bytes.to_vec()).unwrap()))
}

/// The members named by an error of level all: who is silent and who differs; whether the write is applied.
#[track_caller]
pub fn not_all(result: Result<Reply, RequestError>) -> (Vec<NodeId>, Vec<NodeId>, bool) {
    match result {
        Err(RequestError::NotAll { silent, differing, is_applied, .. }) => (silent, differing, is_applied),
        other => panic!("not refused for want of members: {other:?}"),
    }
}

#[track_caller]
pub fn assert_unavailable(result: Result<Reply, RequestError>) {
    match result {
        Err(error @ RequestError::Unavailable { .. }) => assert!(error.retry_after().is_some()),
        other => panic!("not refused as unavailable: {other:?}"),
    }
}
