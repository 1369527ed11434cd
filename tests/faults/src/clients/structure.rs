//! Counters, sets and lists of clients of Redis, at any node.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use redis::{AsyncConnectionConfig, Client, Cmd, RedisError, Value, aio::MultiplexedConnection, cmd};
use tokio::time::{Instant, sleep};

use super::{
    Shared,
    object::{Group, History},
};
use crate::journal::{Class, Kind, Outcome};

const OPERATIONS_MAX: usize = 30;
const UNKNOWN_MAX: usize = 4;
/// What sets and lists hold: few things, so that clients race on them.
const ITEMS: std::ops::Range<u64> = 0..4;
/// How long an operation is tried, if every attempt so far was refused.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long an answer may take, and a connection.
const ANSWER_PATIENCE: Duration = Duration::from_secs(15);
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);

/// What a key holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A number.
    Counter,
    /// A set.
    Set,
    /// A list.
    List,
}

/// A key that clients race on.
#[derive(Debug)]
pub struct Structure {
    /// The key.
    pub name: String,
    /// What it holds.
    pub shape: Shape,
    /// What clients did, and what they were told.
    pub history: History<StructureOperation>,
}

/// An operation, and what it returned, if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StructureOperation {
    /// The counter grows by one, to this.
    Increment(Option<i64>),
    /// The counter stands at this.
    Count(i64),
    /// The set holds this from now on; whether it did not before.
    Include(u64, Option<bool>),
    /// The set does not hold this from now on; whether it did before.
    Exclude(u64, Option<bool>),
    /// The set holds these.
    Members(BTreeSet<u64>),
    /// The list ends with this from now on, and is so long.
    Push(u64, Option<usize>),
    /// The list's first item is taken; none if it is empty.
    Pop(Option<Option<u64>>),
    /// The list is this.
    Items(Vec<u64>),
}

impl Structure {
    /// One that holds nothing.
    pub fn new(name: String, shape: Shape) -> Self {
        Self { name, shape, history: History::default() }
    }

    /// Whether it is time for another one.
    pub fn is_full(&self) -> bool {
        let (operations, unknown) = self.history.lengths();
        operations >= OPERATIONS_MAX || unknown >= UNKNOWN_MAX
    }

    /// The command that reads all of it.
    fn read(&self) -> Cmd {
        let mut command = cmd(match self.shape {
            Shape::Counter => "GET",
            Shape::Set => "SMEMBERS",
            Shape::List => "LRANGE",
        });
        command.arg(&self.name);
        if self.shape == Shape::List {
            command.arg(0).arg(-1);
        }
        command
    }

    /// What an answer to that command says.
    fn seen(&self, answer: &Value) -> Option<StructureOperation> {
        Some(match self.shape {
            Shape::Counter => {
                StructureOperation::Count(redis::from_redis_value_ref::<Option<i64>>(answer).ok()?.unwrap_or_default())
            }
            Shape::Set => StructureOperation::Members(redis::from_redis_value_ref(answer).ok()?),
            Shape::List => StructureOperation::Items(redis::from_redis_value_ref(answer).ok()?),
        })
    }
}

/// A client of counters, sets and lists.
pub struct StructureClient {
    shared: Arc<Shared>,
    caller: RedisCaller,
    group: Arc<Group<Structure>>,
    random: fastrand::Rng,
}

/// Sends commands, one at a time, to any node, and to another one when that does not serve.
pub struct RedisCaller {
    shared: Arc<Shared>,
    connection: Option<MultiplexedConnection>,
    /// Which node is tried first: the one that served last.
    turn: usize,
}

/// How a command ended.
enum Ended {
    Answered(Value),
    /// It may have been carried out.
    Unknown,
    /// It was not.
    Refused,
}

impl StructureClient {
    /// A client that begins with node `number`.
    pub fn new(shared: Arc<Shared>, group: Arc<Group<Structure>>, number: usize) -> Self {
        let (caller, random) = (RedisCaller::new(shared.clone(), number), shared.random(number));
        Self { shared, caller, group, random }
    }

    /// Works until told to stop.
    pub async fn run(mut self) {
        while !self.shared.is_over() {
            let structure = self.group.object(Structure::is_full);
            if self.random.u8(..3) == 0 {
                self.caller.read(&structure).await;
            } else {
                self.change(&structure).await;
            }
            self.shared.pause(&mut self.random).await;
        }
    }

    async fn change(&mut self, structure: &Structure) {
        use StructureOperation::{Exclude, Include, Increment, Pop, Push};
        let item = self.random.u64(ITEMS);
        let (name, does_add) = (&structure.name, self.random.u8(..5) < 3);
        let (word, unknown) = match (structure.shape, does_add) {
            (Shape::Counter, _) => ("INCR", Increment(None)),
            (Shape::Set, true) => ("SADD", Include(item, None)),
            (Shape::Set, false) => ("SREM", Exclude(item, None)),
            (Shape::List, true) => ("RPUSH", Push(item, None)),
            (Shape::List, false) => ("LPOP", Pop(None)),
        };
        let mut command = cmd(word);
        command.arg(name);
        if matches!(unknown, Include(..) | Exclude(..) | Push(..)) {
            command.arg(item);
        }
        let start = self.shared.journal.now();
        let answer = match self.caller.send(Kind::Write, command).await {
            Ended::Answered(answer) => answer,
            Ended::Unknown => return structure.history.add(unknown, start, None),
            Ended::Refused => return,
        };
        let number = || redis::from_redis_value_ref::<i64>(&answer).ok();
        let known = match unknown {
            Increment(_) => number().map(|total| Increment(Some(total))),
            Include(item, _) => number().map(|count| Include(item, Some(count == 1))),
            Exclude(item, _) => number().map(|count| Exclude(item, Some(count == 1))),
            Push(item, _) => number().and_then(|length| Some(Push(item, Some(length.try_into().ok()?)))),
            Pop(_) => redis::from_redis_value_ref(&answer).ok().map(|item| Pop(Some(item))),
            read => Some(read),
        };
        match known {
            Some(operation) => structure.history.add(operation, start, Some(self.shared.journal.now())),
            None => self.shared.journal.anomaly(format!("{name}: {word} was answered with {answer:?}")),
        }
    }
}

impl RedisCaller {
    /// One that begins with node `turn`.
    pub fn new(shared: Arc<Shared>, turn: usize) -> Self {
        Self { shared, connection: None, turn }
    }

    /// Reads all of a structure; says whether a node answered.
    pub async fn read(&mut self, structure: &Structure) -> bool {
        let start = self.shared.journal.now();
        let Ended::Answered(answer) = self.send(Kind::Read, structure.read()).await else { return false };
        match structure.seen(&answer) {
            Some(operation) => structure.history.add(operation, start, Some(self.shared.journal.now())),
            None => self.shared.journal.anomaly(format!("{} was read as {answer:?}", structure.name)),
        }
        true
    }

    /// Sends to one node after the other until one answers, or a command may have been carried out.
    async fn send(&mut self, kind: Kind, command: Cmd) -> Ended {
        let begun = Instant::now();
        loop {
            let ended = match self.connected().await {
                None => Ended::Refused,
                Some(mut connection) => match connection.send_packed_command(&command).await {
                    Ok(Value::ServerError(error)) => self.judge(&command, &error.into()),
                    Ok(answer) => Ended::Answered(answer),
                    Err(error) => self.judge(&command, &error),
                },
            };
            let is_answered = matches!(ended, Ended::Answered(_));
            let outcome = if is_answered { Outcome::Acknowledged } else { Outcome::Failed };
            self.shared.journal.event(Class::Structures, kind, outcome);
            if !is_answered {
                self.connection = None;
                self.turn = self.turn.wrapping_add(1);
            }
            let may_repeat = matches!(ended, Ended::Refused) || (kind == Kind::Read && !is_answered);
            if !may_repeat || begun.elapsed() > PATIENCE {
                return ended;
            }
            sleep(PAUSE).await;
        }
    }

    /// What an error means for a command.
    fn judge(&self, command: &Cmd, error: &RedisError) -> Ended {
        match error.code() {
            Some("CLUSTERDOWN" | "TRYAGAIN" | "LOADING" | "MISCONF") => Ended::Refused,
            Some("UNKNOWN") | None => Ended::Unknown,
            Some(_) => {
                let command = String::from_utf8_lossy(&command.get_packed_command()).replace("\r\n", " ");
                self.shared.journal.anomaly(format!("{command} was answered with {error}"));
                Ended::Unknown
            }
        }
    }

    /// A connection to some node; none if that one does not answer.
    async fn connected(&mut self) -> Option<MultiplexedConnection> {
        if self.connection.is_none() {
            let gateways = self.shared.gateways.all();
            let (place, _) = gateways.get(self.turn % gateways.len().max(1))?;
            let client = Client::open(format!("redis://{}", self.shared.resp.get(usize::from(*place) - 1)?)).ok()?;
            let config = AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_PATIENCE))
                .set_response_timeout(Some(ANSWER_PATIENCE));
            self.connection = client.get_multiplexed_async_connection_with_config(&config).await.ok();
        }
        self.connection.clone()
    }
}
