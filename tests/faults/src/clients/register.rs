//! Registers and counters: keys.

use std::sync::Arc;

use bytes::Bytes;
use difuse_tests::Answer;
use reqwest::Method;

use super::{
    Shared,
    caller::{Call, Caller, Ended},
    content,
    object::{Group, History, Ledger, Sent, Shown, Told},
};
use crate::journal::{Class, Kind};

/// After how many operations a key is left alone, and after how many of unknown outcome.
const OPERATIONS_MAX: usize = 30;
const UNKNOWN_MAX: usize = 4;

/// A key that clients race on.
#[derive(Debug, Default)]
pub struct Register {
    /// The key.
    pub name: String,
    /// Whether it counts.
    pub is_counter: bool,
    /// What clients did, and what they were told.
    pub history: History<RegisterOperation>,
    /// What they were told of its chain.
    pub ledger: Ledger,
}

/// An operation on a register that holds the number of a value, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegisterOperation {
    /// It holds this.
    Read(Option<u64>),
    /// It holds this from now on.
    Write(u64),
    /// It holds `new` if it held `expected`; whether it did, if that is known.
    CompareAndSet {
        /// What it must hold.
        expected: Option<u64>,
        /// What it holds then.
        new: u64,
        /// Whether it did.
        did: Option<bool>,
    },
    /// It holds nothing from now on; whether it held something, if that is known.
    Delete(Option<bool>),
}

impl Register {
    /// Whether it is time for another one.
    pub fn is_full(&self) -> bool {
        let (operations, unknown) = self.history.lengths();
        operations >= OPERATIONS_MAX || unknown >= UNKNOWN_MAX
    }
}

/// What a client knows of a register: the number and count of its value, and its ETag; or that there is none.
#[derive(Clone, Default)]
struct Known {
    content: Option<(u64, u64, String)>,
}

/// A client of registers or counters.
pub struct RegisterClient {
    shared: Arc<Shared>,
    caller: Caller,
    group: Arc<Group<Register>>,
    random: fastrand::Rng,
    /// The last register, and what was last seen of it.
    last: Option<(Arc<Register>, Known)>,
}

impl RegisterClient {
    /// A client that begins with gateway `number`.
    pub fn new(shared: Arc<Shared>, group: Arc<Group<Register>>, class: Class, number: usize) -> Self {
        let (caller, random) = (Caller::new(shared.clone(), class, number), shared.random(number));
        Self { shared, caller, group, random, last: None }
    }

    /// Works until told to stop.
    pub async fn run(mut self) {
        while !self.shared.is_over() {
            let register = self.group.object(Register::is_full);
            self.step(&register).await;
            self.shared.pause(&mut self.random).await;
        }
    }

    async fn step(&mut self, register: &Arc<Register>) {
        if register.is_counter {
            if let Some(known) = self.read(register).await {
                self.compare_and_set(register, known).await;
            }
            return;
        }
        let known = self.last.take().filter(|(last, _)| Arc::ptr_eq(last, register)).map(|(_, known)| known);
        match self.random.u8(..20) {
            0..8 => drop(self.read(register).await),
            8..13 => self.write(register).await,
            13..19 => {
                let known = match known {
                    Some(known) => Some(known),
                    None => self.read(register).await,
                };
                if let Some(known) = known {
                    self.compare_and_set(register, known).await;
                }
            }
            _ => self.delete(register).await,
        }
    }

    async fn send(&mut self, register: &Register, method: Method, headers: &[(&str, &str)], body: Bytes) -> Ended {
        let kind = if method == Method::GET { Kind::Read } else { Kind::Write };
        let path = format!("/v1/keys/{}", register.name);
        self.caller.send(Call { kind, method, path: &path, headers, body }).await
    }

    async fn read(&mut self, register: &Arc<Register>) -> Option<Known> {
        let ended = self.send(register, Method::GET, &[], Bytes::new()).await;
        let answer = ended.answer?;
        let content = match answer.status {
            200 => {
                let Some((id, count)) = content::parse_value(&answer.body) else {
                    self.shared.journal.anomaly(format!("{}: read {:?}", register.name, answer.text()));
                    return None;
                };
                register.ledger.shown(shown(&answer)?);
                Some((id, count, answer.header("etag").to_string()))
            }
            404 => None,
            _ => {
                self.shared.unexpected(&register.name, "GET", &answer);
                return None;
            }
        };
        let id = content.as_ref().map(|(id, _, _)| *id);
        register.history.add(RegisterOperation::Read(id), ended.start, Some(ended.end));
        self.know(register, Known { content })
    }

    fn know(&mut self, register: &Arc<Register>, known: Known) -> Option<Known> {
        self.last = Some((register.clone(), known.clone()));
        Some(known)
    }

    async fn write(&mut self, register: &Arc<Register>) {
        let id = self.shared.new_id();
        let operation_id = self.shared.new_operation_id();
        let headers = [("difuse-operation-id", operation_id.as_str())];
        let ended = self.send(register, Method::PUT, &headers, content::value(id, 0)).await;
        self.conclude(register, ended, operation_id, Some((id, 0)), |_| RegisterOperation::Write(id));
    }

    async fn compare_and_set(&mut self, register: &Arc<Register>, known: Known) {
        let (id, operation_id) = (self.shared.new_id(), self.shared.new_operation_id());
        let condition = match &known.content {
            Some((_, _, tag)) => ("if-match", tag.as_str()),
            None => ("if-none-match", "*"),
        };
        let expected = known.content.as_ref().map(|(id, _, _)| *id);
        let count = if register.is_counter { known.content.as_ref().map_or(0, |(_, count, _)| *count) + 1 } else { 0 };
        let headers = [condition, ("difuse-operation-id", operation_id.as_str())];
        let ended = self.send(register, Method::PUT, &headers, content::value(id, count)).await;
        let operation = |did| RegisterOperation::CompareAndSet { expected, new: id, did };
        self.conclude(register, ended, operation_id, Some((id, count)), operation);
    }

    async fn delete(&mut self, register: &Arc<Register>) {
        let operation_id = self.shared.new_operation_id();
        let headers = [("difuse-operation-id", operation_id.as_str())];
        let ended = self.send(register, Method::DELETE, &headers, Bytes::new()).await;
        self.conclude(register, ended, operation_id, None, RegisterOperation::Delete);
    }

    /// Writes down how a write ended: `operation` makes the history's entry from whether it took effect.
    fn conclude(
        &mut self,
        register: &Arc<Register>,
        ended: Ended,
        operation_id: String,
        content: Option<(u64, u64)>,
        operation: impl Fn(Option<bool>) -> RegisterOperation,
    ) {
        let id = content.map(|(id, _)| id);
        let sent = |told| Sent { operation_id: operation_id.clone(), id, told };
        let is_conditional = !matches!(operation(None), RegisterOperation::Write(_));
        let (did, told) = match &ended.answer {
            Some(answer) if answer.status < 300 => {
                let told = Told::Done(height(answer), shown(answer).map(|shown| shown.hash));
                let seen = content.map(|(id, count)| (id, count, answer.header("etag").to_string()));
                self.know(register, Known { content: seen });
                (Some(true), told)
            }
            // An earlier attempt may have been carried out, and another write since then.
            Some(answer) if matches!(answer.status, 404 | 412) && is_conditional && ended.is_uncertain => {
                (None, Told::Unknown)
            }
            Some(answer) if matches!(answer.status, 404 | 412) && is_conditional => {
                if let Some(shown) = shown(answer) {
                    register.ledger.shown(shown);
                }
                (Some(false), Told::Refused)
            }
            Some(answer) => {
                self.shared.unexpected(&register.name, "a write", answer);
                (None, Told::Unknown)
            }
            // Every attempt was refused, or never sent.
            None if !ended.is_uncertain => return register.ledger.sent(sent(Told::Refused)),
            None => (None, Told::Unknown),
        };
        register.history.add(operation(did), ended.start, did.map(|_| ended.end));
        register.ledger.sent(sent(told));
    }
}

fn height(answer: &Answer) -> u64 {
    answer.header("difuse-height").parse().unwrap_or_default()
}

/// The head that an answer shows, if it does.
pub fn shown(answer: &Answer) -> Option<Shown> {
    let hash = answer.header("etag").trim_matches('"');
    (!hash.is_empty()).then(|| Shown { height: height(answer), hash: hash.into() })
}
