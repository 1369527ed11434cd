//! Steps: pairs of keys that are only ever changed together, each time to the next number. Whoever reads both at once must
//! find the same number in both; and what is read of either, or of both, has one order with what was written.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use difuse_keylog::{Condition, Step, StepCommand, Store};
use difuse_protocol::{
    Input, RequestId,
    request::{Reading, Reply, Request, RequestError, Since},
};
use difuse_structures::Reply as Answered;
use difuse_types::{Hash, Key, Level};

use crate::{
    Violation,
    clients::operation_id,
    linearizability::{Answer, Call, Demand, NEVER_WRITTEN, Operation, is_linearizable},
    simulation::{Event, Phase, Simulation},
};

/// After so many operations a pair is left, and another one used, so that histories stay short.
const OPERATIONS_PER_PAIR: usize = 48;
/// Nor are there more writes than this whose outcome is not known: each doubles what may have happened.
const OPEN_PER_PAIR: usize = 6;
/// The numbers of operation ids begin here: others are smaller.
const FIRST_OPERATION: u64 = 1 << 40;

/// Two keys of one slot, and what was done with both.
struct Pair {
    keys: [Key; 2],
    operations: Vec<Operation>,
    /// The last head of the first key that was seen, and its number.
    seen: Option<(Hash, u64)>,
}

/// What a request asks of a pair.
struct Asked {
    pair: usize,
    /// Which of the keys, if it is not about both.
    of: Option<Key>,
    call: Call,
    invoked_at: u64,
}

/// The pairs of one seed. They draw from numbers of their own, so that nothing else changes with them.
pub(crate) struct Pairs {
    rng: fastrand::Rng,
    /// How many operations are still to come.
    left: u32,
    pairs: Vec<Pair>,
    pending: BTreeMap<RequestId, Asked>,
    last_number: u64,
}

impl Pair {
    /// `open`: how many of its writes are under way.
    fn is_used_up(&self, open: usize) -> bool {
        let unknown = self.operations.iter().filter(|operation| operation.answer == Answer::Unknown).count();
        self.operations.len() >= OPERATIONS_PER_PAIR || unknown + open >= OPEN_PER_PAIR
    }
}

impl Pairs {
    pub(crate) fn new(seed: u64, count: u32) -> Self {
        let rng = fastrand::Rng::with_seed(seed.rotate_left(32) ^ !seed);
        Self { rng, left: count, pairs: Vec::new(), pending: BTreeMap::new(), last_number: 0 }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.pairs.iter().flat_map(|pair| &pair.keys)
    }

    pub(crate) fn is_asked_by(&self, id: RequestId) -> bool {
        self.pending.contains_key(&id)
    }

    /// The pair in use.
    fn current(&mut self) -> usize {
        let is_open = |asked: &Asked, pair: usize| asked.pair == pair && asked.call != Call::Read;
        let open = |pair: usize| self.pending.values().filter(|asked| is_open(asked, pair)).count();
        let last = self.pairs.len().wrapping_sub(1);
        if self.pairs.last().is_none_or(|pair| pair.is_used_up(open(last))) {
            let number = self.pairs.len();
            // Short names are keys.
            let key = |name: String| Key::new(name.as_bytes()).unwrap_or_else(|error| unreachable!("{error}"));
            let keys = ["a", "b"].map(|name| key(format!("{{pair {number}}} {name}")));
            self.pairs.push(Pair { keys, operations: Vec::new(), seen: None });
        }
        self.pairs.len() - 1
    }

    /// Thinks of something to ask for: the call, and the request as it is sent.
    fn invent(&mut self, pair: usize, steps: Key) -> (Call, Request) {
        let id = FIRST_OPERATION + self.last_number + 1;
        let Pair { keys, seen, .. } = &self.pairs[pair];
        let command = |key: &Key, words: &[&str]| StepCommand {
            keys: vec![key.clone()],
            arguments: words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect(),
        };
        let (call, step) = match self.rng.u32(..10) {
            0..5 => {
                self.last_number += 1;
                let number = self.last_number.to_string();
                let commands = keys.iter().map(|key| command(key, &["set", "k", &number])).collect();
                let (unchanged, demand) = match seen.filter(|_| self.rng.bool()) {
                    Some((hash, last)) => (vec![(keys[0].clone(), Condition::Head(hash))], Demand::Last(last)),
                    None => (Vec::new(), Demand::None),
                };
                let call = Call::Write { id: self.last_number, demand, has_value: true };
                (call, Step { unchanged, commands })
            }
            5..8 => {
                let commands = keys.iter().map(|key| command(key, &["get", "k"])).collect();
                (Call::Read, Step { unchanged: Vec::new(), commands })
            }
            _ => {
                let key = keys[self.rng.usize(..2)].clone();
                return (Call::Read, Request::Read { key, level: Level::Quorum, seen: None });
            }
        };
        let level = if self.rng.u32(..8) == 0 { Level::All } else { Level::Quorum };
        let operation_id = operation_id(id, &mut self.rng);
        let arguments = step.to_arguments();
        (call, Request::Command { key: steps, arguments, operation_id, level, since: Since::Now })
    }
}

impl Simulation {
    /// The next operation on a pair comes soon, if there is any left.
    pub(crate) fn schedule_pairs(&mut self) {
        if self.pairs.left > 0 {
            let pause = Duration::from_millis(self.pairs.rng.u64(5..500));
            self.queue.push(self.now + pause, Event::Pair);
        }
    }

    /// Asks one node to do something with a pair.
    pub(crate) fn use_pair(&mut self) {
        if self.phase != Phase::Faults {
            return;
        }
        self.pairs.left = self.pairs.left.saturating_sub(1);
        if let Some(node) = self.pairs.rng.choice(self.ready_nodes()) {
            let pair = self.pairs.current();
            let slot = self.plan.settings.slots.of_key(&self.pairs.pairs[pair].keys[0]);
            let (call, request) = self.pairs.invent(pair, Key::of_steps(slot));
            let of = if let Request::Read { key, .. } = &request { Some(key.clone()) } else { None };
            let (id, invoked_at) = (self.clients.next_request_id(), self.clients.tick());
            self.pairs.pending.insert(id, Asked { pair, of, call, invoked_at });
            self.figures.requests += 1;
            self.give(node, Input::Request { id, request });
        }
        self.schedule_pairs();
    }

    pub(crate) fn handle_pair_reply(
        &mut self,
        id: RequestId,
        result: Result<Reply, RequestError>,
    ) -> Result<(), Violation> {
        let Some(Asked { pair, of, call, invoked_at }) = self.pairs.pending.remove(&id) else { return Ok(()) };
        if self.recoveries.is_recovered(self.plan.settings.slots.of_key(&self.pairs.pairs[pair].keys[0])) {
            // Of a step that was under way, a survivor may hold a part.
            return Ok(());
        }
        let is_write = call != Call::Read;
        let answer = match (result, of) {
            (Ok(Reply::Entry(reading)), Some(key)) => Answer::Last(self.see_one_of_pair(pair, &key, reading)?),
            (result, _) => match self.answer_of_step(result, is_write)? {
                Some(answer) => answer,
                None => return Ok(()),
            },
        };
        self.record_of_pair(pair, id, call, answer, invoked_at);
        Ok(())
    }

    /// The number under one key.
    fn see_one_of_pair(&mut self, pair: usize, key: &Key, reading: Reading) -> Result<u64, Violation> {
        let Some(entry) = reading.entry else { return Ok(NEVER_WRITTEN) };
        let recovery = self.answered_under(key, reading.mark, 0);
        self.show(key, entry.height, entry.hash, recovery)?;
        let number = entry.value.and_then(|value| number_in(&value.bytes)).unwrap_or(NEVER_WRITTEN);
        let pair = &mut self.pairs.pairs[pair];
        if *key == pair.keys[0] {
            pair.seen = Some((entry.hash, number));
        }
        Ok(number)
    }

    /// What an answer says of both keys; `None`: that nothing was done.
    fn answer_of_step(&self, result: Result<Reply, RequestError>, is_write: bool) -> Result<Option<Answer>, Violation> {
        Ok(match result {
            Ok(Reply::Command { reply, .. }) => match (Answered::decode(&reply), is_write) {
                (Ok(Answered::Array(_)), true) => Some(Answer::Written),
                // What it rests on has changed.
                (Ok(Answered::Null), true) => None,
                (Ok(Answered::Array(replies)), false) => Some(Answer::Last(same_number(&replies)?)),
                (other, _) => return Err(Violation::WrongAnswer(format!("a step was answered with {other:?}"))),
            },
            Err(RequestError::NotAll { is_applied: true, .. }) if is_write => Some(Answer::Written),
            Err(RequestError::Unknown { .. } | RequestError::Forgotten { .. }) if is_write => Some(Answer::Unknown),
            Err(RequestError::NotAll { .. } | RequestError::Full { .. } | RequestError::Forgotten { .. }) => None,
            Err(error) if error.is_transient() => None,
            other => return Err(Violation::WrongAnswer(format!("a step was answered with {other:?}"))),
        })
    }

    fn record_of_pair(&mut self, pair: usize, id: RequestId, call: Call, answer: Answer, invoked_at: u64) {
        let completed_at = if answer == Answer::Unknown { u64::MAX } else { self.clients.tick() };
        let operation = Operation { client: id as usize, call, answer, invoked_at, completed_at };
        self.figures.steps += u64::from(answer != Answer::Unknown);
        self.pairs.pairs[pair].operations.push(operation);
    }

    /// What was done with each pair has one order, and in the end both keys hold its last number.
    pub(crate) fn check_pairs(&mut self) -> Result<(), Violation> {
        for (id, Asked { pair, call, invoked_at, .. }) in std::mem::take(&mut self.pairs.pending) {
            if call != Call::Read {
                self.record_of_pair(pair, id, call, Answer::Unknown, invoked_at);
            }
        }
        for pair in 0..self.pairs.pairs.len() {
            if self.phase == Phase::Over {
                for key in self.pairs.pairs[pair].keys.clone() {
                    let invoked_at = self.clients.tick();
                    let last = Answer::Last(self.last_number_of(&key));
                    self.record_of_pair(pair, 0, Call::Read, last, invoked_at);
                }
            }
            if self.recoveries.is_recovered(self.plan.settings.slots.of_key(&self.pairs.pairs[pair].keys[0])) {
                // What was acknowledged may be lost.
                continue;
            }
            self.figures.histories += 1;
            let Pair { keys, operations, .. } = &self.pairs.pairs[pair];
            if !is_linearizable(operations, false) {
                let history = operations.iter().map(crate::histories::describe).collect::<Vec<_>>().join("\n");
                return Err(Violation::NotLinearizable { key: keys[0].clone(), history });
            }
        }
        Ok(())
    }

    /// The number that a key holds where it is led.
    fn last_number_of(&self, key: &Key) -> u64 {
        let slot = self.plan.settings.slots.of_key(key);
        let leader = self.running().find(|(_, keylog)| keylog.is_leading(slot));
        let last = leader.and_then(|(_, keylog)| {
            let height = keylog.store().register(slot, key).ok()??.head.height;
            keylog.store().transaction(slot, key, height).ok()?
        });
        last.and_then(|last| number_in(&last.value()?.bytes)).unwrap_or(NEVER_WRITTEN)
    }
}

fn number_in(bytes: &Bytes) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// The number that both keys of a pair hold.
fn same_number(replies: &[Answered]) -> Result<u64, Violation> {
    let number = |reply: &Answered| match reply {
        Answered::Null => Some(NEVER_WRITTEN),
        Answered::Bulk(bytes) => number_in(bytes),
        _ => None,
    };
    match replies {
        [first, second] if first == second => number(first),
        _ => None,
    }
    .ok_or_else(|| Violation::WrongAnswer(format!("a step was seen in a part: both keys at once hold {replies:?}")))
}
