//! What several messages carry.

use difuse_keylog::{
    Ballot, Configuration, MAX_VALUE_BYTES, Operation, RegisterSummary, Term, Transaction, Value, ValueKind,
};
use difuse_types::{Hash, Key, NodeId};
use flatbuffers::{ForwardsUOffset, Vector, WIPOffset};

use crate::{
    builder::{Builder, BytesOffset, Offset, TablesOffset, write_bytes},
    error::{WireError, check},
    frame::{Frame, list},
    generated::difuse::{keylog as fb, types::NodeId as FbNodeId},
    types::{hash_in, hash_out, node_in, node_out, operation_id_in, operation_id_out, slot_in, time_in, write_key},
};

pub(crate) fn term_out(term: &Term) -> fb::Term {
    fb::Term::new(term.epoch, term.number, &node_out(&term.node))
}

pub(crate) fn term_in(term: &fb::Term) -> Term {
    Term { epoch: term.epoch(), number: term.number(), node: node_in(term.node()) }
}

pub(crate) fn ballot_out(ballot: &Ballot) -> fb::Ballot {
    fb::Ballot::new(&term_out(&ballot.term), ballot.sequence)
}

pub(crate) fn ballot_in(ballot: &fb::Ballot) -> Ballot {
    Ballot { term: term_in(ballot.term()), sequence: ballot.sequence() }
}

pub(crate) fn register_out(register: &RegisterSummary) -> fb::RegisterSummary {
    fb::RegisterSummary::new(&ballot_out(&register.ballot), register.height, &hash_out(&register.hash))
}

pub(crate) fn register_in(register: &fb::RegisterSummary) -> RegisterSummary {
    RegisterSummary { ballot: ballot_in(register.ballot()), height: register.height(), hash: hash_in(register.hash()) }
}

/// Writes a list of nodes.
pub(crate) fn write_nodes(builder: &mut Builder, nodes: &[NodeId]) -> WIPOffset<Vector<'static, FbNodeId>> {
    builder.create_vector_from_iter(nodes.iter().map(node_out))
}

/// Reads a group of at most [`Configuration::MEMBERS_MAX`] nodes; none if it is absent.
pub(crate) fn read_nodes(nodes: Option<Vector<'_, FbNodeId>>, field: &'static str) -> Result<Vec<NodeId>, WireError> {
    nodes.map_or(Ok(Vec::new()), |nodes| list(nodes, Configuration::MEMBERS_MAX, field, |node| Ok(node_in(node))))
}

pub(crate) fn write_configuration(
    builder: &mut Builder,
    configuration: &Configuration,
) -> Offset<fb::Configuration<'static>> {
    let members = write_nodes(builder, &configuration.members);
    let joint = configuration.is_joint().then(|| write_nodes(builder, &configuration.joint));
    let recovery = (configuration.recovery != Hash::ZERO).then(|| hash_out(&configuration.recovery));
    fb::Configuration::create(
        builder,
        &fb::ConfigurationArgs {
            slot: configuration.slot.0,
            epoch: configuration.epoch,
            members: Some(members),
            joint,
            previous: Some(&hash_out(&configuration.previous)),
            recovery: recovery.as_ref(),
        },
    )
}

pub(crate) fn read_configuration(configuration: fb::Configuration<'_>) -> Result<Configuration, WireError> {
    let configuration = Configuration {
        slot: slot_in(configuration.slot())?,
        epoch: configuration.epoch(),
        members: read_nodes(Some(configuration.members()), "members")?,
        joint: read_nodes(configuration.joint(), "joint")?,
        previous: hash_in(configuration.previous()),
        recovery: configuration.recovery().map_or(Hash::ZERO, hash_in),
    };
    check(configuration.is_well_formed(), "configuration")?;
    Ok(configuration)
}

fn kind_out(kind: ValueKind) -> fb::ValueKind {
    match kind {
        ValueKind::Inline => fb::ValueKind::Inline,
        ValueKind::Inode => fb::ValueKind::Inode,
        ValueKind::Operation => fb::ValueKind::Operation,
        ValueKind::State => fb::ValueKind::State,
        ValueKind::Part => fb::ValueKind::Part,
    }
}

fn value_in(
    frame: &Frame<'_>,
    kind: fb::ValueKind,
    bytes: Vector<'_, u8>,
    deadline: Option<u64>,
) -> Result<Value, WireError> {
    let kind = match kind {
        fb::ValueKind::Inline => ValueKind::Inline,
        fb::ValueKind::Inode => ValueKind::Inode,
        fb::ValueKind::Operation => ValueKind::Operation,
        fb::ValueKind::State => ValueKind::State,
        fb::ValueKind::Part => ValueKind::Part,
        _ => return Err(WireError::OutOfBounds { field: "kind" }),
    };
    let bytes = frame.bytes(bytes, MAX_VALUE_BYTES, "value")?;
    Ok(Value { kind, bytes, deadline: deadline.map(time_in) })
}

pub(crate) fn write_value(builder: &mut Builder, value: &Value) -> Offset<fb::Value<'static>> {
    let bytes = write_bytes(builder, &value.bytes);
    let deadline = value.deadline.map(|deadline| deadline.0);
    fb::Value::create(builder, &fb::ValueArgs { kind: kind_out(value.kind), bytes: Some(bytes), deadline })
}

/// Reads a value that may be absent, as the operation that sets it or, without one, deletes.
pub(crate) fn read_value(frame: &Frame<'_>, value: Option<fb::Value<'_>>) -> Result<Operation, WireError> {
    let value = value.map(|value| value_in(frame, value.kind(), value.bytes(), value.deadline())).transpose()?;
    well_formed(value.map_or(Operation::Delete, Operation::Set))
}

fn well_formed(operation: Operation) -> Result<Operation, WireError> {
    check(operation.is_well_formed(), "value")?;
    Ok(operation)
}

/// Writes a chain. Transactions of `key`, which has been written already, refer to it instead of repeating it.
pub(crate) fn write_transactions(
    builder: &mut Builder,
    key: Option<(&Key, BytesOffset)>,
    transactions: &[Transaction],
) -> TablesOffset<fb::Transaction<'static>> {
    let mut shared = key;
    let mut offsets = Vec::with_capacity(transactions.len());
    for transaction in transactions {
        let key = match shared {
            Some((key, offset)) if *key == transaction.key => offset,
            _ => write_key(builder, &transaction.key),
        };
        shared = shared.or(Some((&transaction.key, key)));
        offsets.push(write_transaction(builder, key, transaction));
    }
    builder.create_vector(&offsets)
}

fn write_transaction(
    builder: &mut Builder,
    key: BytesOffset,
    transaction: &Transaction,
) -> Offset<fb::Transaction<'static>> {
    let value = transaction.value();
    let bytes = value.map(|value| write_bytes(builder, &value.bytes));
    let checkpoint = transaction.checkpoint.as_ref().map(hash_out);
    fb::Transaction::create(
        builder,
        &fb::TransactionArgs {
            key: Some(key),
            height: transaction.height,
            previous: Some(&hash_out(&transaction.previous)),
            kind: value.map_or(fb::ValueKind::Inline, |value| kind_out(value.kind)),
            value: bytes,
            author: Some(&node_out(&transaction.author)),
            time: transaction.time.0,
            operation_id: Some(&operation_id_out(&transaction.operation_id)),
            checkpoint: checkpoint.as_ref(),
            deadline: transaction.deadline().map(|deadline| deadline.0),
        },
    )
}

/// Reads a chain of at most `count_max`; none if it is absent. Transactions of one key share its memory.
pub(crate) fn read_transactions(
    frame: &Frame<'_>,
    key: Option<&Key>,
    transactions: Option<Vector<'_, ForwardsUOffset<fb::Transaction<'_>>>>,
    count_max: usize,
) -> Result<Vec<Transaction>, WireError> {
    let Some(transactions) = transactions else { return Ok(Vec::new()) };
    let mut last = key.cloned();
    list(transactions, count_max, "transactions", |transaction| {
        let bytes = transaction.key();
        let key = match &last {
            Some(key) if key.encoded() == bytes.bytes() => key.clone(),
            _ => frame.key(bytes)?,
        };
        last = Some(key.clone());
        read_transaction(frame, key, transaction)
    })
}

fn read_transaction(frame: &Frame<'_>, key: Key, transaction: fb::Transaction<'_>) -> Result<Transaction, WireError> {
    let value_in = |bytes| value_in(frame, transaction.kind(), bytes, transaction.deadline());
    let value = transaction.value().map(value_in).transpose()?;
    let transaction = Transaction {
        key,
        height: transaction.height(),
        previous: hash_in(transaction.previous()),
        operation: value.map_or(Operation::Delete, Operation::Set),
        author: node_in(transaction.author()),
        time: time_in(transaction.time()),
        operation_id: operation_id_in(transaction.operation_id()),
        checkpoint: transaction.checkpoint().map(hash_in),
    };
    check(transaction.is_well_formed(), "transaction")?;
    Ok(transaction)
}
