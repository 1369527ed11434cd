//! Bursts of writes to one key, so that its history grows until members forget the beginning of it. They are too many for
//! the search for an order of what clients saw; but what was acknowledged must stay, once and in one chain, and nobody
//! may forget what lies below a transaction that turns out not to be in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use difuse_keylog::{Condition, Operation, Store, Value};
use difuse_protocol::{
    Input, RequestId,
    request::{Reply, Request, RequestError, Since},
};
use difuse_types::{Key, Level, NodeId};

use crate::{
    Violation,
    clients::{Written, operation_id, repeat_open},
    simulation::{Event, Phase, Simulation},
};

/// Writes of one burst.
const WRITES: u64 = 96;
/// How many writes of earlier bursts are sent again with one: their ids may be forgotten.
const REPEATED: usize = 4;

/// A write's number, and how it is sent when it is repeated.
type BurstWrite = (u64, Request);

/// The bursts of one seed. They draw from numbers of their own, so that nothing else changes with them.
pub(crate) struct Bursts {
    pub(crate) key: Key,
    rng: fastrand::Rng,
    /// How many are still to come.
    left: u32,
    /// The writes that are under way.
    pending: BTreeMap<RequestId, BurstWrite>,
    /// Those that were answered, as they are sent when they are repeated: not before, as a first attempt says that it is
    /// the only one.
    sent: Vec<(u64, Request)>,
    /// Those that were.
    repeated: BTreeSet<u64>,
}

impl Bursts {
    pub(crate) fn new(seed: u64, count: u32) -> Self {
        // A short name is a key.
        let key = Key::new(b"long").unwrap_or_else(|error| unreachable!("{error}"));
        let (pending, sent, repeated) = Default::default();
        Self { key, rng: fastrand::Rng::with_seed(!seed), left: count, pending, sent, repeated }
    }

    /// Which write an answer is for.
    pub(crate) fn take(&mut self, id: RequestId) -> Option<BurstWrite> {
        self.pending.remove(&id)
    }
}

impl Simulation {
    /// The next burst comes soon, if there is any left.
    pub(crate) fn schedule_burst(&mut self) {
        if self.bursts.left > 0 {
            let pause = Duration::from_millis(self.bursts.rng.u64(100..3000));
            self.queue.push(self.now + pause, Event::Burst);
        }
    }

    /// Asks one node for many writes at once.
    pub(crate) fn burst(&mut self) {
        if self.phase != Phase::Faults {
            return;
        }
        self.bursts.left = self.bursts.left.saturating_sub(1);
        if let Some(node) = self.bursts.rng.choice(self.ready_nodes()) {
            for _ in 0..REPEATED {
                let Bursts { rng, sent, .. } = &mut self.bursts;
                let Some((operation, request)) = rng.choice(sent.iter()).cloned() else { break };
                self.bursts.repeated.insert(operation);
                self.clients.refused.remove(&operation);
                self.send_burst_write(node, operation, request);
            }
            for _ in 0..WRITES {
                self.ask_for_burst_write(node);
            }
        }
        self.schedule_burst();
    }

    fn ask_for_burst_write(&mut self, node: NodeId) {
        let operation = self.clients.writes.len() as u64 + 1;
        let key = self.bursts.key.clone();
        let bytes = Bytes::from(format!("{key} {operation}"));
        self.clients.writes.insert(operation, Written { key: key.clone(), value: Some(bytes.clone()) });
        let request = Request::Write {
            key,
            operation: Operation::Set(Value::inline(bytes)),
            condition: Condition::None,
            operation_id: operation_id(operation, &mut self.bursts.rng),
            level: Level::Quorum,
            since: Since::Now,
        };
        self.send_burst_write(node, operation, request);
    }

    fn send_burst_write(&mut self, node: NodeId, operation: u64, request: Request) {
        let id = self.clients.next_request_id();
        let mut repeated = request.clone();
        repeat_open(&mut repeated, None);
        self.bursts.pending.insert(id, (operation, repeated));
        self.figures.requests += 1;
        self.give(node, Input::Request { id, request });
    }

    pub(crate) fn handle_burst_reply(
        &mut self,
        (operation, repeated): BurstWrite,
        result: Result<Reply, RequestError>,
    ) -> Result<(), Violation> {
        self.bursts.sent.push((operation, repeated));
        match result {
            Ok(Reply::Written { height, hash, mark, .. }) => {
                let key = self.bursts.key.clone();
                let recovery = self.answered_under(&key, mark, 0);
                let shown = self.show(&key, height, hash, recovery)?;
                if shown == operation {
                    return Ok(());
                }
                Err(Violation::WrongAnswer(format!(
                    "write {operation} was acknowledged with the hash of write {shown}"
                )))
            }
            Err(RequestError::Unknown { .. }) => Ok(()),
            // An attempt was lost, of the client's or of its node's.
            Err(RequestError::Forgotten { .. }) => {
                self.figures.forgotten += 1;
                Ok(())
            }
            Err(error) if error.is_transient() || matches!(error, RequestError::Full { .. }) => {
                // Of one that was repeated, another attempt may have been applied.
                let slot = self.plan.settings.slots.of_key(&self.bursts.key);
                let is_certain = self.recoveries.certain(slot, 0).is_some();
                if is_certain && !self.bursts.repeated.contains(&operation) {
                    self.clients.refused.insert(operation);
                }
                Ok(())
            }
            other => Err(Violation::WrongAnswer(format!("write {operation} of a burst was answered with {other:?}"))),
        }
    }

    /// How many members have forgotten the beginning of the key's history.
    pub(crate) fn forgetful_members(&self) -> u64 {
        let slot = self.plan.settings.slots.of_key(&self.bursts.key);
        let stores = self.nodes.values().filter_map(crate::node::Node::disk);
        let registers = stores.filter_map(|store| store.register(slot, &self.bursts.key).ok().flatten());
        registers.filter(|register| register.base > 1).count() as u64
    }
}
