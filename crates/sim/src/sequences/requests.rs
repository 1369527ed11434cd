//! How the requests about lists and streams are sent, repeated and ended.

use std::time::Duration;

use bytes::Bytes;
use difuse_protocol::{
    Input, RequestId,
    request::{Reply, Request, RequestError},
};
use difuse_structures::Reply as Answered;
use difuse_types::{Key, NodeId, SlotId};

use super::{Asked, Order, Outcome, Part};
use crate::{
    Violation,
    simulation::{Event, Phase, Simulation},
};

/// How often a request is repeated during the faults.
const RETRIES_MAX: u32 = 3;

impl Simulation {
    /// The next operation on a list or stream comes soon, if there is any left.
    pub(crate) fn schedule_sequences(&mut self) {
        if self.sequences.left > 0 {
            let pause = Duration::from_millis(self.sequences.rng.u64(5..500));
            self.queue.push(self.now + pause, Event::Sequence { waiting: None });
        }
    }

    /// Asks for something new, or for what waits to be repeated.
    pub(crate) fn use_sequence(&mut self, waiting: Option<u64>) {
        if let Some(asked) = waiting.and_then(|waiting| self.sequences.waiting.remove(&waiting)) {
            return self.ask_sequence(asked);
        }
        if self.phase != Phase::Faults {
            return;
        }
        self.sequences.left = self.sequences.left.saturating_sub(1);
        let pair = self.sequences.current();
        let steps = Key::of_steps(self.slot_of_sequences(pair));
        let (parts, request) = self.sequences.invent(pair, steps);
        self.begin_sequence(pair, parts, request);
        self.schedule_sequences();
    }

    /// When all is healed, both keys of each pair are read.
    pub(crate) fn read_sequences(&mut self) {
        for pair in 0..self.sequences.pairs.len() {
            let steps = Key::of_steps(self.slot_of_sequences(pair));
            let (parts, request) = self.sequences.ask_both(pair, steps, Vec::new());
            self.begin_sequence(pair, parts, request);
        }
    }

    fn slot_of_sequences(&self, pair: usize) -> SlotId {
        self.plan.settings.slots.of_key(&self.sequences.pairs[pair].keys[0])
    }

    fn begin_sequence(&mut self, pair: usize, parts: Vec<Part>, request: Request) {
        let since = self.sequences.pairs[pair].orders.each_ref().map(Order::last);
        let is_step = matches!(&request, Request::Command { key, .. } if key.steps_of().is_some());
        self.ask_sequence(Asked { pair, parts, is_step, request, since, retries: 0, is_open: false });
    }

    fn ask_sequence(&mut self, asked: Asked) {
        let Some(node) = self.sequences.rng.choice(self.ready_nodes()) else {
            return self.wait_with_sequence(asked);
        };
        let id = self.clients.next_request_id();
        let request = asked.request.clone();
        self.trace.line(self.now, || format!("asks {node:?} (request {id}): {request:?}"));
        self.sequences.pending.insert(id, (node, asked));
        self.figures.requests += 1;
        self.give(node, Input::Request { id, request });
    }

    fn wait_with_sequence(&mut self, asked: Asked) {
        let waiting = self.sequences.next_number();
        self.sequences.waiting.insert(waiting, asked);
        let pause = Duration::from_millis(self.sequences.rng.u64(1..300));
        self.queue.push(self.now + pause, Event::Sequence { waiting: Some(waiting) });
    }

    /// A node died that may have been asked.
    pub(crate) fn lose_sequences(&mut self, node: NodeId) {
        let pending = std::mem::take(&mut self.sequences.pending).into_iter();
        let (lost, others): (Vec<_>, Vec<_>) = pending.partition(|(_, (asked_of, _))| *asked_of == node);
        self.sequences.pending = others.into_iter().collect();
        for (_, (_, mut asked)) in lost {
            asked.open(None);
            self.end_sequence_without_answer(asked);
        }
    }

    pub(crate) fn handle_sequence_reply(
        &mut self,
        id: RequestId,
        result: Result<Reply, RequestError>,
    ) -> Result<(), Violation> {
        let Some((_, mut asked)) = self.sequences.pending.remove(&id) else { return Ok(()) };
        match result {
            Ok(Reply::Command { reply, .. }) => {
                self.learn_of_sequence(&asked, &reply)?;
                self.end_sequence(asked, Outcome::Added);
            }
            Err(RequestError::NotAll { is_applied: true, .. }) if asked.is_write() => {
                self.end_sequence(asked, Outcome::Added);
            }
            Err(RequestError::NotAll { .. } | RequestError::Full { .. }) if asked.is_open => {
                self.end_sequence(asked, Outcome::Unknown);
            }
            Err(RequestError::NotAll { .. } | RequestError::Full { .. }) => self.end_sequence(asked, Outcome::Refused),
            Err(RequestError::Forgotten { .. }) => {
                self.figures.forgotten += 1;
                self.end_sequence(asked, Outcome::Unknown);
            }
            Err(error) if error.is_transient() => {
                self.figures.errors += 1;
                match error {
                    RequestError::Unknown { since, .. } => asked.open(since),
                    RequestError::Lapsed { now, .. } => asked.begin_anew(now),
                    _ => {}
                }
                self.end_sequence_without_answer(asked);
            }
            other => return Err(Violation::WrongAnswer(format!("{:?} was answered with {other:?}", asked.request))),
        }
        Ok(())
    }

    fn learn_of_sequence(&mut self, asked: &Asked, reply: &Bytes) -> Result<(), Violation> {
        if self.recoveries.is_recovered(self.slot_of_sequences(asked.pair)) {
            // What was told before may be lost, and of a step that was under way a survivor may hold a part.
            return Ok(());
        }
        let wrong = |reason| Violation::WrongAnswer(format!("{:?}: {reason}", asked.request));
        let replies = match (Answered::decode(reply), asked.is_single()) {
            (Ok(reply), true) => vec![reply],
            (Ok(Answered::Array(replies)), false) => replies,
            (other, _) => return Err(wrong(format!("answered with {other:?}"))),
        };
        self.figures.steps += u64::from(asked.is_step);
        self.sequences.learn(asked, &replies).map_err(wrong)?;
        self.figures.added += asked.parts.iter().map(|part| part.items.len() as u64).sum::<u64>();
        Ok(())
    }

    fn end_sequence(&mut self, asked: Asked, outcome: Outcome) {
        self.figures.operations += 1;
        if asked.is_write() {
            self.sequences.ended.push((asked, outcome));
        }
    }

    fn end_sequence_without_answer(&mut self, mut asked: Asked) {
        let is_last = self.phase == Phase::LastReads;
        if is_last || asked.retries < RETRIES_MAX && self.sequences.rng.bool() {
            asked.retries += 1;
            self.figures.retries += 1;
            return self.wait_with_sequence(asked);
        }
        let outcome = if asked.is_open { Outcome::Unknown } else { Outcome::Refused };
        self.figures.unknown += u64::from(asked.is_open && asked.is_write());
        self.end_sequence(asked, outcome);
    }

    /// What was added is there, whole or not at all, and nothing else is.
    pub(crate) fn check_sequences(&mut self) -> Result<(), Violation> {
        if self.phase != Phase::Over {
            return Ok(());
        }
        self.figures.histories += self.sequences.keys().count() as u64;
        let is_recovered = |key: &Key| self.recoveries.is_recovered(self.plan.settings.slots.of_key(key));
        self.sequences.check_ended(is_recovered).map_err(Violation::WrongAnswer)
    }
}
