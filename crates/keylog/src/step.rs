//! Steps: commands on several keys of one slot, done all at once or not at all.
//!
//! A step is asked for as a command on the slot's key of steps ([`Key::of_steps`]), and everything that holds of commands
//! holds of it: it has one operation id, it is applied once however often it is sent, and its answer is one reply.

use bytes::Bytes;
use difuse_types::{Hash, HashContext, Key, OperationId};
use serde::{Deserialize, Serialize};

use crate::{Condition, Operation, Transaction, Value, ValueKind};

/// The most commands of a step.
pub const STEP_COMMANDS_MAX: usize = 4096;
/// The most keys of a step, those that must not have changed included.
pub const STEP_KEYS_MAX: usize = 4096;

/// The name of the command that a step is.
const STEP: &[u8] = b"step";
/// Replies up to this length are kept beside the step, for whoever asks again.
const REPLY_BYTES_KEPT: usize = 64 << 10;
/// Stands where a structure's number does: what a key of steps holds is no structure.
const NO_STRUCTURE: u8 = 0;

static OPERATION_IDS: HashContext = HashContext::new("difuse 2026 operation of a step v1");

/// What came as a step, or lies where one should, and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no step")]
pub struct MalformedStep;

/// One command of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StepCommand {
    /// The keys that its arguments name, in their order.
    pub keys: Vec<Key>,
    /// Its name and what follows.
    pub arguments: Vec<Bytes>,
}

/// Commands that are done at once, if what they rest on has not changed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Step {
    /// What must hold of keys for any command to be done.
    pub unchanged: Vec<(Key, Condition)>,
    /// The commands: each sees what those before it have done.
    pub commands: Vec<StepCommand>,
}

impl Step {
    /// All keys that it reads or changes, some perhaps more than once.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        let unchanged = self.unchanged.iter().map(|(key, _)| key);
        unchanged.chain(self.commands.iter().flat_map(|command| &command.keys))
    }

    /// The step as the arguments of a command on the slot's key of steps.
    pub fn to_arguments(&self) -> Vec<Bytes> {
        let unchanged = self.unchanged.iter().map(|(key, condition)| (&key.encoded()[..], condition.into()));
        let command = |command: &'_ StepCommand| -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
            let keys = command.keys.iter().map(|key| key.encoded().to_vec());
            (keys.collect(), command.arguments.iter().map(|argument| argument.to_vec()).collect())
        };
        let encoded: EncodedStep<'_> =
            (unchanged.collect::<Vec<_>>(), self.commands.iter().map(command).collect::<Vec<_>>());
        vec![Bytes::from_static(STEP), postcard::to_stdvec(&encoded).unwrap_or_default().into()]
    }

    /// Reads a step from a command's arguments.
    ///
    /// # Errors
    /// If they are none, or have more commands or keys than are allowed.
    pub fn from_arguments(arguments: &[Bytes]) -> Result<Self, MalformedStep> {
        let [name, encoded] = arguments else { return Err(MalformedStep) };
        if name != STEP {
            return Err(MalformedStep);
        }
        let (unchanged, commands): EncodedStep<'_> = postcard::from_bytes(encoded).map_err(|_| MalformedStep)?;
        let key = |bytes: Vec<u8>| Key::from_encoded(bytes.into()).map_err(|_| MalformedStep);
        let unchanged = unchanged.into_iter().map(|(bytes, condition)| Ok((key(bytes.to_vec())?, condition.into())));
        let command = |(keys, arguments): (Vec<Vec<u8>>, Vec<Vec<u8>>)| {
            let keys = keys.into_iter().map(key).collect::<Result<_, _>>()?;
            Ok(StepCommand { keys, arguments: arguments.into_iter().map(Bytes::from).collect() })
        };
        let commands = commands.into_iter().map(command);
        let step =
            Self { unchanged: unchanged.collect::<Result<_, _>>()?, commands: commands.collect::<Result<_, _>>()? };
        let is_small = step.commands.len() <= STEP_COMMANDS_MAX && step.keys().count() <= STEP_KEYS_MAX;
        if is_small { Ok(step) } else { Err(MalformedStep) }
    }
}

type EncodedStep<'a> = (Vec<(&'a [u8], EncodedCondition)>, Vec<(Vec<Vec<u8>>, Vec<Vec<u8>>)>);

#[derive(Serialize, Deserialize)]
enum EncodedCondition {
    None,
    Absent,
    Present,
    Head([u8; 32]),
}

impl From<&Condition> for EncodedCondition {
    fn from(condition: &Condition) -> Self {
        match condition {
            Condition::None => Self::None,
            Condition::Absent => Self::Absent,
            Condition::Present => Self::Present,
            Condition::Head(hash) => Self::Head(hash.0),
        }
    }
}

impl From<EncodedCondition> for Condition {
    fn from(condition: EncodedCondition) -> Self {
        match condition {
            EncodedCondition::None => Self::None,
            EncodedCondition::Absent => Self::Absent,
            EncodedCondition::Present => Self::Present,
            EncodedCondition::Head(hash) => Self::Head(Hash(hash)),
        }
    }
}

/// What a slot's key of steps holds after a step: what the step does to its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StepRecord {
    /// The height of the first step that was proposed together with this one.
    pub(crate) first_height: u64,
    /// The answer, encoded; `None` if it is too long to be kept.
    pub(crate) reply: Option<Bytes>,
    /// By key, the transactions that follow each other on top of its head.
    pub(crate) changes: Vec<(Key, Vec<Transaction>)>,
}

/// First height, reply and changes; the author, the time and the operation ids are those of the step's own transaction.
#[derive(Serialize, Deserialize)]
struct EncodedRecord<'a> {
    first_height: u64,
    reply: Option<&'a [u8]>,
    #[serde(borrow)]
    changes: Vec<EncodedChange<'a>>,
}

#[derive(Serialize, Deserialize)]
struct EncodedChange<'a> {
    key: &'a [u8],
    height: u64,
    previous: [u8; 32],
    #[serde(borrow)]
    operations: Vec<EncodedOperation<'a>>,
}

#[derive(Serialize, Deserialize)]
struct EncodedOperation<'a> {
    /// The number of the value's kind, and 0 for a delete.
    kind: u8,
    bytes: &'a [u8],
    deadline: Option<u64>,
    checkpoint: Option<[u8; 32]>,
}

impl StepRecord {
    /// Notes a reply unless it is too long to be kept.
    pub(crate) fn new(first_height: u64, reply: &Bytes, changes: Vec<(Key, Vec<Transaction>)>) -> Self {
        let reply = (reply.len() <= REPLY_BYTES_KEPT).then(|| reply.clone());
        Self { first_height, reply, changes }
    }

    /// The operation that the step is in the log of the slot's key of steps.
    pub(crate) fn operation(&self) -> Operation {
        let changes = self.changes.iter().filter_map(|(key, transactions)| {
            let first = transactions.first()?;
            let operations = transactions.iter().map(EncodedOperation::of).collect();
            Some(EncodedChange { key: key.encoded(), height: first.height, previous: first.previous.0, operations })
        });
        let encoded =
            EncodedRecord { first_height: self.first_height, reply: self.reply.as_deref(), changes: changes.collect() };
        let bytes = postcard::to_extend(&encoded, vec![NO_STRUCTURE]).unwrap_or_default();
        Operation::Set(Value::new(ValueKind::State, bytes))
    }

    /// Reads what a step does from its transaction.
    pub(crate) fn of(step: &Transaction) -> Result<Self, MalformedStep> {
        let value = step.value().filter(|value| value.kind == ValueKind::State).ok_or(MalformedStep)?;
        let encoded = value.bytes.strip_prefix(&[NO_STRUCTURE]).ok_or(MalformedStep)?;
        let encoded: EncodedRecord<'_> = postcard::from_bytes(encoded).map_err(|_| MalformedStep)?;
        let mut changes = Vec::with_capacity(encoded.changes.len().min(STEP_KEYS_MAX));
        for EncodedChange { key, height, previous, operations } in encoded.changes {
            let key = Key::from_encoded(Bytes::copy_from_slice(key)).map_err(|_| MalformedStep)?;
            let mut transactions: Vec<Transaction> = Vec::new();
            let mut previous = Hash(previous);
            for (index, operation) in (0..).zip(operations) {
                let height = height.checked_add(index).ok_or(MalformedStep)?;
                let checkpoint = operation.checkpoint.map(Hash);
                let transaction = Transaction {
                    key: key.clone(),
                    height,
                    previous,
                    operation: operation.decode()?,
                    author: step.author,
                    time: step.time,
                    operation_id: operation_id_of(step.operation_id, &key, index),
                    checkpoint,
                };
                previous = transaction.hash();
                transactions.push(transaction);
            }
            changes.push((key, transactions));
        }
        let reply = encoded.reply.map(Bytes::copy_from_slice);
        Ok(Self { first_height: encoded.first_height, reply, changes })
    }
}

impl<'a> EncodedOperation<'a> {
    fn of(transaction: &'a Transaction) -> Self {
        let checkpoint = transaction.checkpoint.map(|state| state.0);
        match &transaction.operation {
            Operation::Delete => Self { kind: 0, bytes: &[], deadline: None, checkpoint },
            Operation::Set(Value { kind, bytes, deadline }) => {
                Self { kind: kind.tag(), bytes, deadline: deadline.map(|deadline| deadline.0), checkpoint }
            }
        }
    }

    fn decode(&self) -> Result<Operation, MalformedStep> {
        if self.kind == 0 {
            return Ok(Operation::Delete);
        }
        let kind = ValueKind::from_tag(self.kind).ok_or(MalformedStep)?;
        let value = Value::new(kind, self.bytes.to_vec()).until(self.deadline.map(difuse_types::WallTime));
        Ok(Operation::Set(value))
    }
}

/// The operation id of one of a step's transactions, by its place among those of its key: in which order the step's commands
/// have changed its keys is not written down.
pub(crate) fn operation_id_of(step: OperationId, key: &Key, index: u64) -> OperationId {
    derived_id(&[&step.0, &index.to_le_bytes(), key.encoded()])
}

/// The operation id of a part of what an operation does, by its place among them.
pub(crate) fn operation_id_in(operation: OperationId, index: u64) -> OperationId {
    derived_id(&[&operation.0, &index.to_le_bytes()])
}

fn derived_id(of: &[&[u8]]) -> OperationId {
    let mut hasher = OPERATION_IDS.hasher();
    for part in of {
        hasher.update(part);
    }
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    OperationId(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use difuse_types::{NodeId, WallTime};

    fn key(name: &str) -> Key {
        Key::new(name.as_bytes()).unwrap()
    }

    #[test]
    fn a_step_comes_back_from_its_arguments_and_rubbish_does_not() {
        let step = Step {
            unchanged: vec![(key("a"), Condition::Head(Hash([7; 32]))), (key("b"), Condition::Absent)],
            commands: vec![StepCommand {
                keys: vec![key("a"), key("b")],
                arguments: vec!["smove".into(), Bytes::new()],
            }],
        };
        let arguments = step.to_arguments();
        assert_eq!(Step::from_arguments(&arguments), Ok(step));
        let encoded = &arguments[1];
        for length in 0..encoded.len() {
            assert!(Step::from_arguments(&["step".into(), encoded.slice(..length)]).is_err());
        }
        let huge = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
        for strange in [vec![], vec!["step".into()], vec!["set".into(), encoded.clone()], vec!["step".into(), huge]] {
            assert_eq!(Step::from_arguments(&strange), Err(MalformedStep));
        }
        let many = StepCommand { keys: vec![key("a"); STEP_KEYS_MAX + 1], arguments: Vec::new() };
        let many = Step { unchanged: Vec::new(), commands: vec![many] };
        assert_eq!(Step::from_arguments(&many.to_arguments()), Err(MalformedStep));
    }

    #[test]
    fn the_transactions_of_a_step_come_back_from_what_is_written_down() {
        let mut step = Transaction {
            key: Key::of_steps(difuse_types::SlotId(3)),
            height: 9,
            previous: Hash([1; 32]),
            operation: Operation::Delete,
            author: NodeId([2; 32]),
            time: WallTime(77),
            operation_id: OperationId([3; 16]),
            checkpoint: None,
        };
        let value = Operation::Set(Value::inline("v").until(Some(WallTime(99))));
        let changes = ["b", "a"].map(|name| {
            let mut transactions: Vec<Transaction> = Vec::new();
            for (height, operation) in (5..).zip([value.clone(), Operation::Delete]) {
                let previous = transactions.last().map_or(Hash([4; 32]), Transaction::hash);
                let checkpoint = (height == 5).then(|| value.state_hash()).flatten();
                let (author, time, key) = (step.author, step.time, key(name));
                let operation_id = operation_id_of(step.operation_id, &key, height - 5);
                let of = Transaction { key, height, previous, operation, author, time, operation_id, checkpoint };
                transactions.push(of);
            }
            (key(name), transactions)
        });
        let record = StepRecord::new(8, &Bytes::from_static(b"reply"), changes.into());
        step.operation = record.operation();
        assert_eq!(StepRecord::of(&step), Ok(record));
        let Operation::Set(value) = step.operation.clone() else { unreachable!() };
        for length in 0..value.bytes.len() {
            step.operation = Operation::Set(Value::new(ValueKind::State, value.bytes.slice(..length)));
            assert_eq!(StepRecord::of(&step), Err(MalformedStep));
        }
    }
}
