//! The byte layout of what lies on disk: integers little-endian, byte strings and lists preceded by their length.

use bytes::{Buf, Bytes};
use difuse_keylog::{
    Ballot, Configuration, Head, Operation, Proposed, Register, SlotRecord, Term, Transaction, Value, ValueKind, Write,
};
use difuse_types::{Hash, Key, NodeId, OperationId, SlotId, WallTime};

use crate::{
    index::{put_location, take_location},
    log::Location,
};

/// Version of the layout of a batch; the first byte of each.
const BATCH_VERSION: u8 = 5;
/// The first byte of a record of copies instead.
const COPIES_VERSION: u8 = 3;
/// Set in the byte that tells a transaction's operation if the hash of the state follows.
const IS_CHECKPOINT: u8 = 4;
/// Set in the tag of a body that has a deadline after its value.
const HAS_DEADLINE: u8 = 16;

/// The bytes are not what this crate writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes cannot be decoded")]
pub(crate) struct Malformed;

/// Where the body of a transaction lies in an encoded batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyRange {
    pub start: u32,
    pub length: u32,
    pub crc: u32,
}

/// Appends fields to a buffer.
pub(crate) trait Encode {
    fn put_u8(&mut self, value: u8);
    fn put_u16(&mut self, value: u16);
    fn put_u32(&mut self, value: u32);
    fn put_u64(&mut self, value: u64);
    fn put_framed(&mut self, bytes: &[u8]);
}

impl Encode for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_framed(&mut self, bytes: &[u8]) {
        self.put_u32(bytes.len() as u32);
        self.extend_from_slice(bytes);
    }
}

/// Takes fields from the front of a buffer.
pub(crate) struct Decoder {
    bytes: Bytes,
    total: usize,
}

impl Decoder {
    pub fn new(bytes: Bytes) -> Self {
        let total = bytes.len();
        Self { bytes, total }
    }

    pub fn take(&mut self, length: usize) -> Result<Bytes, Malformed> {
        if length > self.bytes.len() { Err(Malformed) } else { Ok(self.bytes.split_to(length)) }
    }

    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let array = *self.bytes.first_chunk().ok_or(Malformed)?;
        self.bytes.advance(N);
        Ok(array)
    }

    pub fn take_u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take_array::<1>()?[0])
    }

    pub fn take_u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.take_array()?))
    }

    pub fn take_u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.take_array()?))
    }

    pub fn take_u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.take_array()?))
    }

    pub fn take_framed(&mut self) -> Result<Bytes, Malformed> {
        let length = self.take_u32()?;
        self.take(length as usize)
    }

    /// How many bytes were taken so far.
    pub fn position(&self) -> usize {
        self.total - self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn finish(self) -> Result<(), Malformed> {
        if self.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

/// Decodes all of `bytes` with `take`.
pub(crate) fn decode_all<T>(
    bytes: Bytes,
    take: impl FnOnce(&mut Decoder) -> Result<T, Malformed>,
) -> Result<T, Malformed> {
    let mut decoder = Decoder::new(bytes);
    let value = take(&mut decoder)?;
    decoder.finish()?;
    Ok(value)
}

pub(crate) fn put_register(out: &mut Vec<u8>, register: &Register) {
    put_ballot(out, &register.ballot);
    out.put_u64(register.head.height);
    out.extend_from_slice(register.head.hash.as_bytes());
    out.put_u64(register.head.checkpoint);
    match (register.head.deleted, register.head.deadline) {
        (None, None) => out.put_u8(0),
        (Some(time), _) => {
            out.put_u8(1);
            out.put_u64(time.0);
        }
        (None, Some(time)) => {
            out.put_u8(2);
            out.put_u64(time.0);
        }
    }
    out.put_u64(register.base);
    out.put_u16(register.head.recent.len() as u16);
    for operation in &register.head.recent {
        out.extend_from_slice(&operation.0);
    }
}

pub(crate) fn take_register(from: &mut Decoder) -> Result<Register, Malformed> {
    let ballot = take_ballot(from)?;
    let (height, hash) = (from.take_u64()?, Hash(from.take_array()?));
    let checkpoint = from.take_u64()?;
    let (deleted, deadline) = match from.take_u8()? {
        0 => (None, None),
        1 => (Some(WallTime(from.take_u64()?)), None),
        2 => (None, Some(WallTime(from.take_u64()?))),
        _ => return Err(Malformed),
    };
    let base = from.take_u64()?;
    let count = from.take_u16()?;
    let recent = (0..count).map(|_| from.take_array().map(OperationId)).collect::<Result<_, _>>()?;
    Ok(Register { ballot, head: Head { height, hash, checkpoint, deleted, deadline, recent }, base })
}

fn take_flag(from: &mut Decoder) -> Result<bool, Malformed> {
    match from.take_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn put_ballot(out: &mut Vec<u8>, ballot: &Ballot) {
    put_term(out, &ballot.term);
    out.put_u64(ballot.sequence);
}

fn take_ballot(from: &mut Decoder) -> Result<Ballot, Malformed> {
    Ok(Ballot { term: take_term(from)?, sequence: from.take_u64()? })
}

fn put_term(out: &mut Vec<u8>, term: &Term) {
    out.put_u64(term.epoch);
    out.put_u64(term.number);
    out.extend_from_slice(term.node.as_bytes());
}

fn take_term(from: &mut Decoder) -> Result<Term, Malformed> {
    Ok(Term { epoch: from.take_u64()?, number: from.take_u64()?, node: NodeId(from.take_array()?) })
}

fn put_configuration(out: &mut Vec<u8>, configuration: &Configuration) {
    out.put_u32(configuration.slot.0);
    out.put_u64(configuration.epoch);
    for group in [&configuration.members, &configuration.joint] {
        out.put_u16(group.len() as u16);
        for node in group {
            out.extend_from_slice(node.as_bytes());
        }
    }
    out.extend_from_slice(configuration.previous.as_bytes());
    if configuration.recoveries() > 0 {
        out.extend_from_slice(configuration.recovery.as_bytes());
    }
}

fn take_configuration(from: &mut Decoder) -> Result<Configuration, Malformed> {
    let (slot, epoch) = (SlotId(from.take_u32()?), from.take_u64()?);
    let (members, joint) = (take_nodes(from)?, take_nodes(from)?);
    let previous = Hash(from.take_array()?);
    let is_recovered = Configuration::recoveries_of(epoch) > 0;
    let recovery = if is_recovered { Hash(from.take_array()?) } else { Hash::ZERO };
    Ok(Configuration { slot, epoch, members, joint, previous, recovery })
}

fn take_nodes(from: &mut Decoder) -> Result<Vec<NodeId>, Malformed> {
    let count = from.take_u16()?;
    (0..count).map(|_| from.take_array().map(NodeId)).collect()
}

/// Which of its last two parts a slot's record has.
const HAS_DROPPED: u8 = 1;
const HAS_NO_STEPS: u8 = 2;

pub(crate) fn put_slot_record(out: &mut Vec<u8>, record: &SlotRecord) {
    put_configuration(out, &record.configuration);
    put_term(out, &record.promised);
    out.put_u8(u8::from(record.proposed.is_some()));
    if let Some(proposed) = &record.proposed {
        put_term(out, &proposed.term);
        put_configuration(out, &proposed.configuration);
    }
    out.put_u8(
        u8::from(record.dropped.is_some()) * HAS_DROPPED + u8::from(record.without_steps.is_some()) * HAS_NO_STEPS,
    );
    if let Some(dropped) = &record.dropped {
        put_ballot(out, dropped);
    }
    if let Some(term) = &record.without_steps {
        put_term(out, term);
    }
}

pub(crate) fn take_slot_record(from: &mut Decoder) -> Result<SlotRecord, Malformed> {
    let (configuration, promised) = (take_configuration(from)?, take_term(from)?);
    let proposed = match take_flag(from)? {
        true => Some(Proposed { term: take_term(from)?, configuration: take_configuration(from)? }),
        false => None,
    };
    let parts = from.take_u8()?;
    if parts & !(HAS_DROPPED | HAS_NO_STEPS) != 0 {
        return Err(Malformed);
    }
    let dropped = if parts & HAS_DROPPED != 0 { Some(take_ballot(from)?) } else { None };
    let without_steps = if parts & HAS_NO_STEPS != 0 { Some(take_term(from)?) } else { None };
    Ok(SlotRecord { configuration, promised, proposed, dropped, without_steps })
}

/// The number of a kind in a body; 0 is a delete.
fn tag_of(kind: ValueKind) -> u8 {
    match kind {
        ValueKind::Inline => 1,
        ValueKind::Inode => 2,
        ValueKind::Operation => 3,
        // 4 is a flag.
        ValueKind::State => 8,
        ValueKind::Part => 9,
    }
}

/// A transaction without its key.
fn put_body(out: &mut Vec<u8>, transaction: &Transaction) {
    out.put_u64(transaction.height);
    out.extend_from_slice(transaction.previous.as_bytes());
    let value = transaction.value();
    let checkpoint_flag = if transaction.checkpoint.is_some() { IS_CHECKPOINT } else { 0 };
    let deadline_flag = if transaction.deadline().is_some() { HAS_DEADLINE } else { 0 };
    out.put_u8(value.map_or(0, |value| tag_of(value.kind)) | checkpoint_flag | deadline_flag);
    if let Some(value) = value {
        out.put_framed(&value.bytes);
        if let Some(deadline) = value.deadline {
            out.put_u64(deadline.0);
        }
    }
    out.extend_from_slice(transaction.author.as_bytes());
    out.put_u64(transaction.time.0);
    out.extend_from_slice(&transaction.operation_id.0);
    if let Some(state) = &transaction.checkpoint {
        out.extend_from_slice(state.as_bytes());
    }
}

/// The transaction of `key` whose body is next.
pub(crate) fn take_body(key: &Key, from: &mut Decoder) -> Result<Transaction, Malformed> {
    let (height, previous) = (from.take_u64()?, Hash(from.take_array()?));
    let tag = from.take_u8()?;
    let has_deadline = tag & HAS_DEADLINE != 0;
    let operation = match tag & !(IS_CHECKPOINT | HAS_DEADLINE) {
        0 if !has_deadline => Operation::Delete,
        tag => {
            let kind = ValueKind::ALL.into_iter().find(|kind| tag_of(*kind) == tag).ok_or(Malformed)?;
            let bytes = from.take_framed()?;
            let deadline = if has_deadline { Some(WallTime(from.take_u64()?)) } else { None };
            Operation::Set(Value { kind, bytes, deadline })
        }
    };
    let author = NodeId(from.take_array()?);
    let time = WallTime(from.take_u64()?);
    let operation_id = OperationId(from.take_array()?);
    let checkpoint = if tag & IS_CHECKPOINT != 0 { Some(Hash(from.take_array()?)) } else { None };
    Ok(Transaction { key: key.clone(), height, previous, operation, author, time, operation_id, checkpoint })
}

/// Appends a batch to `out`; returns where each transaction's body lies, counted from `out`'s start when this was
/// called.
pub(crate) fn put_batch(out: &mut Vec<u8>, writes: &[Write]) -> Vec<BodyRange> {
    let start = out.len();
    let mut ranges = Vec::new();
    out.put_u8(BATCH_VERSION);
    for write in writes {
        put_write(out, write, start, &mut ranges);
    }
    ranges
}

fn put_write(out: &mut Vec<u8>, write: &Write, start: usize, ranges: &mut Vec<BodyRange>) {
    match write {
        Write::Slot(record) => {
            out.put_u8(1);
            put_slot_record(out, record);
        }
        Write::Accept { slot, key, register, transactions } => {
            out.put_u8(2);
            out.put_u32(slot.0);
            out.put_framed(key.encoded());
            put_register(out, register);
            put_bodies(out, transactions, start, ranges);
        }
        Write::Stage { slot, key, first_height, transactions } => {
            out.put_u8(7);
            out.put_u32(slot.0);
            out.put_framed(key.encoded());
            out.put_u64(*first_height);
            put_bodies(out, transactions, start, ranges);
        }
        Write::Repair { slot, key, transactions } => {
            out.put_u8(8);
            out.put_u32(slot.0);
            out.put_framed(key.encoded());
            put_bodies(out, transactions, start, ranges);
        }
        Write::Drop { slot, key } => {
            out.put_u8(6);
            out.put_u32(slot.0);
            out.put_framed(key.encoded());
        }
        Write::ClearSlot(slot) => {
            out.put_u8(3);
            out.put_u32(slot.0);
        }
        Write::Meta(name, value) => {
            out.put_u8(if value.is_some() { 4 } else { 5 });
            out.put_framed(name.as_bytes());
            if let Some(value) = value {
                out.put_framed(value);
            }
        }
    }
}

fn put_bodies(out: &mut Vec<u8>, transactions: &[Transaction], start: usize, ranges: &mut Vec<BodyRange>) {
    out.put_u32(transactions.len() as u32);
    for transaction in transactions {
        let body = out.len();
        put_body(out, transaction);
        let (range_start, length) = ((body - start) as u32, (out.len() - body) as u32);
        ranges.push(BodyRange { start: range_start, length, crc: crc32fast::hash(&out[body..]) });
    }
}

/// The body of a transaction, copied within the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copied {
    pub slot: SlotId,
    pub key: Key,
    pub height: u64,
    /// Where it lay.
    pub old: Location,
    pub body: Bytes,
}

/// The body of a transaction in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggedBody {
    pub slot: SlotId,
    pub key: Key,
    pub height: u64,
    pub range: BodyRange,
}

/// Appends a record of copies to `out`; returns where each body lies, as [`put_batch`] does.
pub(crate) fn put_copies(out: &mut Vec<u8>, copies: &[Copied]) -> Vec<BodyRange> {
    let start = out.len();
    out.put_u8(COPIES_VERSION);
    let put = |copy: &Copied| {
        out.put_u32(copy.slot.0);
        out.put_framed(copy.key.encoded());
        out.put_u64(copy.height);
        put_location(out, copy.old);
        out.put_framed(&copy.body);
        let length = copy.body.len() as u32;
        BodyRange { start: (out.len() - start) as u32 - length, length, crc: copy.old.crc }
    };
    copies.iter().map(put).collect()
}

/// Whether a record is one of copies.
pub(crate) fn is_copies(record: &Bytes) -> bool {
    record.first() == Some(&COPIES_VERSION)
}

/// Decodes a record of copies: them and where each body lies in `bytes`.
pub(crate) fn take_copies(bytes: Bytes) -> Result<(Vec<Copied>, Vec<BodyRange>), Malformed> {
    let mut from = Decoder::new(bytes);
    if from.take_u8()? != COPIES_VERSION {
        return Err(Malformed);
    }
    let (mut copies, mut ranges) = (Vec::new(), Vec::new());
    while !from.is_empty() {
        let (slot, key) = (SlotId(from.take_u32()?), take_key(&mut from)?);
        let (height, old, body) = (from.take_u64()?, take_location(&mut from)?, from.take_framed()?);
        let (length, crc) = (body.len() as u32, crc32fast::hash(&body));
        ranges.push(BodyRange { start: from.position() as u32 - length, length, crc });
        copies.push(Copied { slot, key, height, old, body });
    }
    Ok((copies, ranges))
}

/// All bodies of transactions in a record of any kind.
pub(crate) fn take_bodies(record: Bytes) -> Result<Vec<LoggedBody>, Malformed> {
    if is_copies(&record) {
        let (copies, ranges) = take_copies(record)?;
        let body = |(Copied { slot, key, height, .. }, range)| LoggedBody { slot, key, height, range };
        return Ok(copies.into_iter().zip(ranges).map(body).collect());
    }
    let (writes, ranges) = take_batch(record)?;
    let transactions = writes.into_iter().filter_map(|write| match write {
        Write::Accept { slot, transactions, .. }
        | Write::Stage { slot, transactions, .. }
        | Write::Repair { slot, transactions, .. } => Some((slot, transactions)),
        _ => None,
    });
    let each = transactions.flat_map(|(slot, transactions)| transactions.into_iter().map(move |one| (slot, one)));
    let body = |((slot, Transaction { key, height, .. }), range)| LoggedBody { slot, key, height, range };
    Ok(each.zip(ranges).map(body).collect())
}

/// Decodes a batch: its writes and where each transaction's body lies in `bytes`.
pub(crate) fn take_batch(bytes: Bytes) -> Result<(Vec<Write>, Vec<BodyRange>), Malformed> {
    let whole = bytes.clone();
    let mut from = Decoder::new(bytes);
    if from.take_u8()? != BATCH_VERSION {
        return Err(Malformed);
    }
    let (mut writes, mut ranges) = (Vec::new(), Vec::new());
    while !from.is_empty() {
        writes.push(take_write(&mut from, &whole, &mut ranges)?);
    }
    Ok((writes, ranges))
}

fn take_write(from: &mut Decoder, whole: &Bytes, ranges: &mut Vec<BodyRange>) -> Result<Write, Malformed> {
    match from.take_u8()? {
        1 => Ok(Write::Slot(Box::new(take_slot_record(from)?))),
        2 => take_accept(from, whole, ranges),
        3 => Ok(Write::ClearSlot(SlotId(from.take_u32()?))),
        4 => Ok(Write::Meta(take_name(from)?, Some(from.take_framed()?.to_vec()))),
        5 => Ok(Write::Meta(take_name(from)?, None)),
        6 => Ok(Write::Drop { slot: SlotId(from.take_u32()?), key: take_key(from)? }),
        7 => {
            let (slot, key) = (SlotId(from.take_u32()?), take_key(from)?);
            let first_height = from.take_u64()?;
            match take_transactions(&key, from, whole, ranges)? {
                transactions if transactions.is_empty() => Err(Malformed),
                transactions => Ok(Write::Stage { slot, key, first_height, transactions }),
            }
        }
        8 => {
            let (slot, key) = (SlotId(from.take_u32()?), take_key(from)?);
            let transactions = take_transactions(&key, from, whole, ranges)?;
            Ok(Write::Repair { slot, key, transactions })
        }
        _ => Err(Malformed),
    }
}

fn take_accept(from: &mut Decoder, whole: &Bytes, ranges: &mut Vec<BodyRange>) -> Result<Write, Malformed> {
    let slot = SlotId(from.take_u32()?);
    let key = take_key(from)?;
    let register = take_register(from)?;
    let transactions = take_transactions(&key, from, whole, ranges)?;
    Ok(Write::Accept { slot, key, register, transactions })
}

fn take_transactions(
    key: &Key,
    from: &mut Decoder,
    whole: &Bytes,
    ranges: &mut Vec<BodyRange>,
) -> Result<Vec<Transaction>, Malformed> {
    let count = from.take_u32()?;
    let mut transactions = Vec::new();
    for _ in 0..count {
        let start = from.position();
        transactions.push(take_body(key, from)?);
        let crc = crc32fast::hash(&whole[start..from.position()]);
        ranges.push(BodyRange { start: start as u32, length: (from.position() - start) as u32, crc });
    }
    Ok(transactions)
}

fn take_key(from: &mut Decoder) -> Result<Key, Malformed> {
    Key::from_encoded(from.take_framed()?).map_err(|_| Malformed)
}

fn take_name(from: &mut Decoder) -> Result<String, Malformed> {
    String::from_utf8(from.take_framed()?.to_vec()).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use difuse_keylog::{Write, store::conformance};
    use difuse_types::{Hash, SlotId};

    use super::{Copied, put_batch, put_copies, take_batch, take_bodies, take_body, take_copies};
    use crate::log::{Location, Position};

    fn sample_batch() -> Vec<Write> {
        let key = conformance::sample_keys().remove(3);
        let transactions = conformance::sample_chain(&key, (0, Hash::ZERO), 6, 3);
        let register = conformance::sample_register(&transactions, 4);
        let staged = conformance::sample_chain(&key, (6, transactions[5].hash()), 2, 3);
        vec![
            Write::Slot(Box::new(conformance::sample_record(SlotId(7), 1))),
            Write::Slot(Box::new(conformance::sample_record(SlotId(8), 2))),
            Write::Accept { slot: SlotId(9), key: key.clone(), register, transactions: transactions.clone() },
            Write::Stage { slot: SlotId(9), key: key.clone(), first_height: 7, transactions: staged },
            Write::Repair { slot: SlotId(9), key: key.clone(), transactions: transactions[2..3].to_vec() },
            Write::Drop { slot: SlotId(9), key },
            Write::ClearSlot(SlotId(3)),
            Write::Meta("name".to_string(), Some(vec![1, 2])),
            Write::Meta(String::new(), None),
        ]
    }

    #[test]
    fn batches_round_trip() {
        let batch = sample_batch();
        let mut bytes = vec![0xaa; 5];
        let ranges = put_batch(&mut bytes, &batch);
        let payload = bytes::Bytes::from(bytes).slice(5..);
        let (decoded, found) = take_batch(payload.clone()).unwrap();
        assert_eq!((&decoded, &found), (&batch, &ranges));
        let Write::Accept { key, transactions, .. } = &batch[2] else { unreachable!() };
        for (transaction, range) in transactions.iter().zip(ranges) {
            let body = payload.slice(range.start as usize..(range.start + range.length) as usize);
            assert_eq!(crc32fast::hash(&body), range.crc);
            assert_eq!(take_body(key, &mut super::Decoder::new(body)).as_ref(), Ok(transaction));
        }
    }

    /// The bodies of the sample batch, as they would be copied.
    fn sample_copies() -> Vec<Copied> {
        let mut bytes = Vec::new();
        put_batch(&mut bytes, &sample_batch());
        let payload = bytes::Bytes::from(bytes);
        let copied = |body: super::LoggedBody| {
            let (start, length) = (body.range.start, body.range.length);
            let old = Location { at: Position { segment: 3, offset: start }, length, crc: body.range.crc };
            let bytes = payload.slice(start as usize..(start + length) as usize);
            Copied { slot: body.slot, key: body.key, height: body.height, old, body: bytes }
        };
        take_bodies(payload.clone()).unwrap().into_iter().map(copied).collect()
    }

    #[test]
    fn copies_round_trip() {
        let copies = sample_copies();
        assert_eq!(copies.iter().map(|copy| copy.height).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8, 3]);
        let mut bytes = vec![0xaa; 5];
        let ranges = put_copies(&mut bytes, &copies);
        let payload = bytes::Bytes::from(bytes).slice(5..);
        assert_eq!(take_copies(payload.clone()), Ok((copies.clone(), ranges.clone())));
        for (copy, body) in copies.iter().zip(take_bodies(payload.clone()).unwrap()) {
            let range = body.range;
            assert_eq!((body.height, &body.key), (copy.height, &copy.key));
            assert_eq!(payload.slice(range.start as usize..(range.start + range.length) as usize), copy.body);
        }
        for length in 0..payload.len() {
            let _ = take_copies(payload.slice(..length));
        }
    }

    #[test]
    fn cut_or_changed_batches_are_no_panic() {
        let mut bytes = Vec::new();
        put_batch(&mut bytes, &sample_batch());
        for length in 0..bytes.len() {
            let _ = take_batch(bytes[..length].to_vec().into());
            let mut changed = bytes.clone();
            changed[length] ^= 0xff;
            let _ = take_batch(changed.into());
        }
        assert!(take_batch(vec![1].into()).is_err(), "another version");
    }
}
