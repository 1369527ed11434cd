//! Requests that are repeated until they are answered or given up: how they are sent, repeated and ended. Whoever runs them
//! tells what became of them from how they end.

use std::{collections::BTreeMap, time::Duration};

use difuse_protocol::{
    Input, RequestId,
    request::{Anchor, Reply, Request, RequestError},
};
use difuse_structures::{Reply as Answered, series_of};
use difuse_types::NodeId;

use crate::{
    Violation,
    clients::{repeat_after, repeat_open},
    commands, sequences,
    simulation::{Event, Phase, Simulation},
};

/// How often a request is repeated during the faults.
const RETRIES_MAX: u32 = 3;

/// Whose request it is, and what it asks for.
#[derive(Clone)]
pub(crate) enum Aim {
    Sequence(sequences::Asked),
    Commands(commands::Asked),
}

/// How many commands a request has, and how they are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// One.
    Single,
    /// Several on one key.
    Series,
    /// Several on keys of one slot.
    Step,
    /// None: a value is written or deleted, as over HTTP.
    Write,
}

impl Shape {
    pub(crate) fn of(request: &Request) -> Self {
        match request {
            Request::Command { key, .. } if key.steps_of().is_some() => Self::Step,
            Request::Command { arguments, .. } if series_of(arguments).is_some() => Self::Series,
            Request::Command { .. } => Self::Single,
            _ => Self::Write,
        }
    }

    /// The replies to the commands, of the encoded reply to the request; none if what a step rests on has changed.
    pub(crate) fn replies(self, reply: &[u8]) -> Result<Vec<Answered>, String> {
        match (Answered::decode(reply), self) {
            (Ok(reply), Self::Single) => Ok(vec![reply]),
            (Ok(Answered::Array(replies)), Self::Series | Self::Step) => Ok(replies),
            (Ok(Answered::Null), Self::Step) => Ok(Vec::new()),
            (other, _) => Err(format!("answered with {other:?}")),
        }
    }
}

/// How a request has ended.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Ending {
    /// Its commands were answered with these replies.
    Told(Vec<Answered>),
    /// It was applied, and its reply is not known.
    Applied,
    /// It was not applied, and will not be.
    Refused,
    /// Nobody knows: it may have been applied, or may be later.
    Unknown,
}

/// A request that is repeated.
#[derive(Clone)]
struct Errand {
    aim: Aim,
    request: Request,
    retries: u32,
    /// Some attempt may have been applied.
    is_open: bool,
}

impl Errand {
    /// An attempt may have been applied; `told` is what the next one was told to say.
    fn open(&mut self, told: Option<Anchor>) {
        self.is_open = true;
        repeat_open(&mut self.request, told);
    }

    /// No attempt until now will be applied.
    fn begin_anew(&mut self, now: Anchor) {
        self.is_open = false;
        repeat_after(&mut self.request, now);
    }

    fn ending(&self) -> Ending {
        if self.is_open { Ending::Unknown } else { Ending::Refused }
    }
}

/// The errands of one seed. They draw from numbers of their own, so that nothing else changes with them.
pub(crate) struct Errands {
    rng: fastrand::Rng,
    /// What was asked, and whom.
    pending: BTreeMap<RequestId, (NodeId, Errand)>,
    /// To be repeated, by the number of the event that does so.
    waiting: BTreeMap<u64, Errand>,
    last_waiting: u64,
}

impl Errands {
    pub(crate) fn new(seed: u64) -> Self {
        let rng = fastrand::Rng::with_seed(seed.rotate_left(8) ^ !seed);
        Self { rng, pending: BTreeMap::new(), waiting: BTreeMap::new(), last_waiting: 0 }
    }

    pub(crate) fn are_asked_by(&self, id: RequestId) -> bool {
        self.pending.contains_key(&id)
    }

    /// Whether no request waits for anything.
    pub(crate) fn are_idle(&self) -> bool {
        self.pending.is_empty() && self.waiting.is_empty()
    }

    /// What is still under way, for people.
    pub(crate) fn describe_waiting(&self) -> String {
        let pending = self.pending.values().map(|(node, errand)| format!("{:?} asked of {node:?}", errand.request));
        let waiting = self.waiting.values().map(|errand| format!("{:?} to be repeated", errand.request));
        pending.chain(waiting).collect::<Vec<_>>().join("; ")
    }
}

impl Simulation {
    /// Asks some node for the first time.
    pub(crate) fn begin_errand(&mut self, aim: Aim, request: Request) {
        self.run_errand(Errand { aim, request, retries: 0, is_open: false });
    }

    /// Asks for what waits to be repeated.
    pub(crate) fn repeat_errand(&mut self, waiting: u64) {
        if let Some(errand) = self.errands.waiting.remove(&waiting) {
            self.run_errand(errand);
        }
    }

    fn run_errand(&mut self, errand: Errand) {
        let Some(node) = self.errands.rng.choice(self.ready_nodes()) else {
            return self.wait_with_errand(errand);
        };
        let id = self.clients.next_request_id();
        let request = errand.request.clone();
        self.trace.line(self.now, || format!("asks {node:?} (request {id}): {request:?}"));
        self.errands.pending.insert(id, (node, errand));
        self.figures.requests += 1;
        self.give(node, Input::Request { id, request });
    }

    fn wait_with_errand(&mut self, errand: Errand) {
        self.errands.last_waiting += 1;
        let waiting = self.errands.last_waiting;
        self.errands.waiting.insert(waiting, errand);
        let pause = Duration::from_millis(self.errands.rng.u64(1..300));
        self.queue.push(self.now + pause, Event::Errand { waiting });
    }

    /// A node died that may have been asked.
    pub(crate) fn lose_errands(&mut self, node: NodeId) {
        let pending = std::mem::take(&mut self.errands.pending).into_iter();
        let (lost, others): (Vec<_>, Vec<_>) = pending.partition(|(_, (asked, _))| *asked == node);
        self.errands.pending = others.into_iter().collect();
        for (_, (_, mut errand)) in lost {
            errand.open(None);
            self.end_without_reply(errand);
        }
    }

    pub(crate) fn handle_errand_reply(
        &mut self,
        id: RequestId,
        result: Result<Reply, RequestError>,
    ) -> Result<(), Violation> {
        let Some((_, mut errand)) = self.errands.pending.remove(&id) else { return Ok(()) };
        match result {
            Ok(Reply::Command { reply, .. }) => {
                let replies = self
                    .learn_from_reply(&errand, &reply)
                    .map_err(|reason| Violation::WrongAnswer(format!("{:?}: {reason}", errand.request)))?;
                self.end_errand(errand, Ending::Told(replies));
            }
            Ok(Reply::Written { .. }) => self.end_errand(errand, Ending::Told(vec![Answered::ok()])),
            // As of a step that rests on something else.
            Err(RequestError::Conflict { .. }) if Shape::of(&errand.request) == Shape::Write => {
                self.end_errand(errand, Ending::Told(Vec::new()));
            }
            Err(RequestError::NotAll { is_applied: true, .. }) => self.end_errand(errand, Ending::Applied),
            Err(RequestError::NotAll { .. } | RequestError::Full { .. }) => {
                let ending = errand.ending();
                self.end_errand(errand, ending);
            }
            Err(RequestError::Forgotten { .. }) => {
                self.figures.forgotten += 1;
                self.end_errand(errand, Ending::Unknown);
            }
            Err(error) if error.is_transient() => {
                self.figures.errors += 1;
                match error {
                    RequestError::Unknown { since, .. } => errand.open(since),
                    RequestError::Lapsed { now, .. } => errand.begin_anew(now),
                    _ => {}
                }
                self.end_without_reply(errand);
            }
            other => {
                return Err(Violation::WrongAnswer(format!("{:?} was answered with {other:?}", errand.request)));
            }
        }
        Ok(())
    }

    fn learn_from_reply(&mut self, errand: &Errand, reply: &[u8]) -> Result<Vec<Answered>, String> {
        let shape = Shape::of(&errand.request);
        let replies = shape.replies(reply)?;
        self.figures.steps += u64::from(shape == Shape::Step);
        match &errand.aim {
            Aim::Sequence(asked) => self.learn_of_sequence(asked, shape, &replies)?,
            // What it told is looked at in the end.
            Aim::Commands(_) => {}
        }
        Ok(replies)
    }

    /// Asks again later, or not.
    fn end_without_reply(&mut self, mut errand: Errand) {
        let is_last = self.phase == Phase::LastReads;
        if is_last || errand.retries < RETRIES_MAX && self.errands.rng.bool() {
            errand.retries += 1;
            self.figures.retries += 1;
            return self.wait_with_errand(errand);
        }
        let ending = errand.ending();
        self.end_errand(errand, ending);
    }

    fn end_errand(&mut self, errand: Errand, ending: Ending) {
        self.figures.operations += 1;
        match errand.aim {
            Aim::Sequence(asked) => self.end_sequence(asked, ending),
            Aim::Commands(asked) => self.end_commands(asked, ending),
        }
    }
}
