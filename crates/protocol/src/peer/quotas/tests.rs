use std::time::Duration;

use bytes::Bytes;
use difuse_keylog::{Condition, Operation, Step, StepCommand, Value, WriteSequence, store::MemoryStore};
use difuse_types::{Hash, Host, Incarnation, Instant, Key, Level, NodeId, OperationId, RingId, RingSettings, WallTime};

use crate::{
    peer::{BlockCommand, BlockResult, Input, Output, Peer, PeerOptions, QuotasReached, Start},
    request::{OperationState, Quota, Reply, Request, RequestError, Since},
};

/// A ring of one node.
struct Alone {
    peer: Peer<MemoryStore>,
    now: Instant,
    durable: WriteSequence,
    asked: u64,
}

type Answer = Result<Reply, RequestError>;

impl Alone {
    fn new() -> Self {
        let settings = RingSettings::new(RingId(Hash::ZERO), 1, 2, 1).unwrap();
        let node = NodeId([1; 32]);
        let host = Host {
            node,
            incarnation: Incarnation(1),
            address: "127.0.0.1:1".into(),
            http: String::new(),
            zone: String::new(),
            label: node.to_string(),
        };
        let (now, store) = (Instant(1), MemoryStore::default());
        let peer = Peer::new(host, settings, PeerOptions::default(), Start::Found, store, now, 1).unwrap();
        let mut alone = Self { peer, now, durable: WriteSequence(0), asked: 0 };
        for _ in 0..500 {
            alone.give(Input::Tick);
        }
        alone
    }

    /// Gives an input, and what follows from it; the answer to a request if there is one.
    fn give(&mut self, input: Input) -> Option<Answer> {
        let (mut inputs, mut answer) = (vec![input], None);
        self.now = self.now + Duration::from_millis(10);
        while !inputs.is_empty() {
            for output in self.peer.handle(self.now, WallTime(0), std::mem::take(&mut inputs)).unwrap() {
                match output {
                    Output::Block { ticket, command } => {
                        let result = match command {
                            BlockCommand::Digest { .. } => BlockResult::Digest(0),
                            BlockCommand::List { .. } => BlockResult::Page { records: vec![], is_last: true },
                            _ => BlockResult::Done,
                        };
                        inputs.push(Input::BlockDone { ticket, result });
                    }
                    Output::Reply { result, .. } => answer = Some(result),
                    _ => {}
                }
            }
            let durable = self.peer.store_mut().flush_all();
            if durable > self.durable {
                self.durable = durable;
                inputs.push(Input::Durable(durable));
            }
        }
        answer
    }

    fn ask(&mut self, request: Request) -> Answer {
        self.asked += 1;
        let mut answer = self.give(Input::Request { id: self.asked, request });
        for _ in 0..100 {
            if let Some(answer) = answer {
                return answer;
            }
            answer = self.give(Input::Tick);
        }
        panic!("no answer")
    }

    fn write(&mut self, key: &Key, operation: Operation) -> Answer {
        self.write_at(key, operation, Level::Quorum)
    }

    fn write_at(&mut self, key: &Key, operation: Operation, level: Level) -> Answer {
        let operation_id = OperationId([self.asked as u8; 16]);
        let (key, condition, since) = (key.clone(), Condition::None, Since::Now);
        self.ask(Request::Write { key, operation, condition, operation_id, level, since })
    }

    fn command(&mut self, key: &Key, words: &[&str]) -> Answer {
        let arguments = words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        self.command_of(key, arguments)
    }

    fn command_of(&mut self, key: &Key, arguments: Vec<Bytes>) -> Answer {
        let operation_id = OperationId([self.asked as u8; 16]);
        let (key, level, since) = (key.clone(), Level::Quorum, Since::Now);
        self.ask(Request::Command { key, arguments, operation_id, level, since })
    }
}

fn key(namespace: &str, name: &str) -> Key {
    Key::in_namespace(namespace, name.as_bytes()).unwrap()
}

fn set() -> Operation {
    Operation::Set(Value::inline("value"))
}

#[track_caller]
fn refused(answer: Answer, quota: Quota) {
    assert_eq!(answer, Err(RequestError::QuotaReached { namespace: "n".into(), quota }));
}

#[test]
fn nothing_is_added_to_a_namespace_that_is_full() {
    let mut alone = Alone::new();
    alone.write(&key("n", "there"), set()).unwrap();
    alone.command(&key("n", "list"), &["rpush", "list", "a", "b"]).unwrap();
    let quota = Quota::Bytes(7);
    alone.give(Input::QuotasReached(QuotasReached::from([("n".to_owned(), quota)])));
    refused(alone.write(&key("n", "there"), set()), quota);
    refused(alone.command(&key("n", "list"), &["rpush", "list", "c"]), quota);
    refused(alone.command(&key("n", "number"), &["incr", "number"]), quota);
    let error = alone.write(&key("n", "new"), set()).unwrap_err();
    assert!(error.to_string().contains("namespace n has reached its quota of 7 bytes") && !error.is_transient());
    alone.write(&key("", "new"), set()).unwrap();
    alone.write(&key("nn", "new"), set()).unwrap();
    alone.command(&key("n", "list"), &["lpop", "list"]).unwrap();
    alone.command(&key("n", "list"), &["lrange", "list", "0", "-1"]).unwrap();
    alone.write(&key("n", "there"), Operation::Delete).unwrap();
    alone.give(Input::QuotasReached(QuotasReached::new()));
    alone.write(&key("n", "there"), set()).unwrap();
}

#[test]
fn keys_that_are_there_may_be_written_when_there_may_be_no_more() {
    let mut alone = Alone::new();
    alone.write(&key("n", "there"), set()).unwrap();
    let quota = Quota::Keys(1);
    alone.give(Input::QuotasReached(QuotasReached::from([("n".to_owned(), quota)])));
    alone.write(&key("n", "there"), set()).unwrap();
    refused(alone.write(&key("n", "new"), set()), quota);
    refused(alone.command(&key("n", "list"), &["rpush", "list", "a"]), quota);
    alone.write(&key("n", "there"), Operation::Delete).unwrap();
    refused(alone.write(&key("n", "there"), set()), quota);
}

#[test]
fn a_step_adds_where_one_of_its_commands_does() {
    let mut alone = Alone::new();
    let quota = Quota::Keys(1);
    alone.give(Input::QuotasReached(QuotasReached::from([("n".to_owned(), quota)])));
    let command = |namespace, words: &[&str]| StepCommand {
        keys: vec![key(namespace, words[1])],
        arguments: words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect(),
    };
    let slot = alone.peer.settings().slots.of_key(&key("n", "{tag}a"));
    let steps = Key::of_steps(slot);
    let run =
        |alone: &mut Alone, commands| alone.command_of(&steps, Step { unchanged: vec![], commands }.to_arguments());
    let delete = command("n", &["del", "{tag}a"]);
    refused(run(&mut alone, vec![delete.clone(), command("n", &["sadd", "{tag}b", "1"])]), quota);
    run(&mut alone, vec![delete]).unwrap();
}

#[test]
fn a_queued_write_is_refused_for_good() {
    let mut alone = Alone::new();
    let quota = Quota::Bytes(0);
    alone.give(Input::QuotasReached(QuotasReached::from([("n".to_owned(), quota)])));
    let Ok(Reply::Queued { operation_id }) = alone.write_at(&key("n", "k"), set(), Level::Lazy) else {
        panic!("not queued")
    };
    for _ in 0..100 {
        alone.give(Input::Tick);
    }
    let Ok(Reply::Operation(Some(outcome))) = alone.ask(Request::Operation { operation_id }) else {
        panic!("nothing is known of it")
    };
    let OperationState::Refused { reason, current: None } = outcome.state else { panic!("{:?}", outcome.state) };
    assert!(reason.contains("quota of 0 bytes"), "{reason}");
}
