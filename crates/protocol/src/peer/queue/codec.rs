//! How a queued write and an outcome lie on disk: a version, then every field in order, integers little-endian, byte
//! strings preceded by their length.

use bytes::Bytes;
use difuse_keylog::{Anchor, Ballot, Condition, Operation, Term, Value, ValueKind};
use difuse_types::{Hash, Key, NodeId, OperationId, WallTime};

use crate::request::OperationState;

const VERSION: u8 = 2;
/// Set in the tag of a value that has a deadline after its bytes.
const HAS_DEADLINE: u8 = 16;

/// A write that waits for its place in its key's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueuedWrite {
    pub(super) key: Key,
    pub(super) operation: Operation,
    pub(super) condition: Condition,
    pub(super) operation_id: OperationId,
    /// What it was first sent after, as far as this node knew when it was queued.
    pub(super) since: Option<Anchor>,
}

/// A write whose outcome is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decided {
    pub(super) key: Key,
    pub(super) operation_id: OperationId,
    pub(super) state: OperationState,
    pub(super) decided_at: WallTime,
}

/// Bytes that are no encoding of what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no encoding of a queued write or its outcome")]
pub(super) struct DecodeError;

pub(super) fn encode_write(write: &QueuedWrite) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_bytes(&mut out, write.key.encoded());
    match &write.operation {
        Operation::Delete => out.push(0),
        Operation::Set(Value { kind, bytes, deadline }) => {
            out.push(kind.tag() | if deadline.is_some() { HAS_DEADLINE } else { 0 });
            put_bytes(&mut out, bytes);
            if let Some(deadline) = deadline {
                out.extend_from_slice(&deadline.0.to_le_bytes());
            }
        }
    }
    match &write.condition {
        Condition::None => out.push(0),
        Condition::Absent => out.push(1),
        Condition::Present => out.push(2),
        Condition::Head(hash) => {
            out.push(3);
            out.extend_from_slice(hash.as_bytes());
        }
    }
    out.extend_from_slice(&write.operation_id.0);
    out.push(u8::from(write.since.is_some()));
    if let Some(Anchor { ballot: Ballot { term, sequence }, height }) = &write.since {
        out.extend_from_slice(&term.epoch.to_le_bytes());
        out.extend_from_slice(&term.number.to_le_bytes());
        out.extend_from_slice(term.node.as_bytes());
        out.extend_from_slice(&sequence.to_le_bytes());
        out.extend_from_slice(&height.to_le_bytes());
    }
    out
}

pub(super) fn decode_write(bytes: &[u8]) -> Result<QueuedWrite, DecodeError> {
    let mut from = Reader::new(bytes)?;
    let key = from.key()?;
    let operation = match from.byte()? {
        0 => Operation::Delete,
        tag => {
            let kind = ValueKind::from_tag(tag & !HAS_DEADLINE).ok_or(DecodeError)?;
            let bytes = from.bytes()?;
            let has_deadline = tag & HAS_DEADLINE != 0;
            let deadline = if has_deadline { Some(WallTime(u64::from_le_bytes(from.array()?))) } else { None };
            Operation::Set(Value { kind, bytes, deadline })
        }
    };
    let condition = match from.byte()? {
        0 => Condition::None,
        1 => Condition::Absent,
        2 => Condition::Present,
        3 => Condition::Head(Hash(from.array()?)),
        _ => return Err(DecodeError),
    };
    let operation_id = OperationId(from.array()?);
    let since = match from.byte()? {
        0 => None,
        1 => Some(from.anchor()?),
        _ => return Err(DecodeError),
    };
    let is_sound = from.0.is_empty() && operation.is_well_formed();
    is_sound.then_some(QueuedWrite { key, operation, condition, operation_id, since }).ok_or(DecodeError)
}

pub(super) fn encode_decided(decided: &Decided) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_bytes(&mut out, decided.key.encoded());
    out.extend_from_slice(&decided.operation_id.0);
    out.extend_from_slice(&decided.decided_at.0.to_le_bytes());
    match &decided.state {
        OperationState::Queued => out.push(0),
        OperationState::Forgotten => out.push(4),
        OperationState::Applied { height, hash } => {
            out.push(1);
            put_head(&mut out, *height, hash);
        }
        OperationState::Refused { reason, current } => {
            out.push(if current.is_some() { 3 } else { 2 });
            put_bytes(&mut out, reason.as_bytes());
            if let Some((height, hash, has_value)) = current {
                put_head(&mut out, *height, hash);
                out.push(u8::from(*has_value));
            }
        }
    }
    out
}

pub(super) fn decode_decided(bytes: &[u8]) -> Result<Decided, DecodeError> {
    let mut from = Reader::new(bytes)?;
    let key = from.key()?;
    let operation_id = OperationId(from.array()?);
    let decided_at = WallTime(u64::from_le_bytes(from.array()?));
    let state = match from.byte()? {
        0 => OperationState::Queued,
        4 => OperationState::Forgotten,
        1 => {
            let (height, hash) = from.head()?;
            OperationState::Applied { height, hash }
        }
        2 => OperationState::Refused { reason: from.text()?, current: None },
        3 => {
            let reason = from.text()?;
            let (height, hash) = from.head()?;
            OperationState::Refused { reason, current: Some((height, hash, from.byte()? != 0)) }
        }
        _ => return Err(DecodeError),
    };
    from.0.is_empty().then_some(Decided { key, operation_id, state, decided_at }).ok_or(DecodeError)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_head(out: &mut Vec<u8>, height: u64, hash: &Hash) {
    out.extend_from_slice(&height.to_le_bytes());
    out.extend_from_slice(hash.as_bytes());
}

/// Takes fields off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut from = Self(bytes);
        if from.byte()? == VERSION { Ok(from) } else { Err(DecodeError) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(DecodeError)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = u32::from_le_bytes(self.array()?) as usize;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError)?;
        self.0 = rest;
        Ok(Bytes::copy_from_slice(taken))
    }

    fn text(&mut self) -> Result<String, DecodeError> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| DecodeError)
    }

    fn key(&mut self) -> Result<Key, DecodeError> {
        Key::from_encoded(self.bytes()?).map_err(|_| DecodeError)
    }

    fn number(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn anchor(&mut self) -> Result<Anchor, DecodeError> {
        let term = Term { epoch: self.number()?, number: self.number()?, node: NodeId(self.array()?) };
        Ok(Anchor { ballot: Ballot { term, sequence: self.number()? }, height: self.number()? })
    }

    fn head(&mut self) -> Result<(u64, Hash), DecodeError> {
        Ok((self.number()?, Hash(self.array()?)))
    }
}

#[cfg(test)]
mod tests {
    use difuse_keylog::{Anchor, Ballot, Condition, Operation, Term, Value, ValueKind};
    use difuse_types::{Hash, Key, NodeId, OperationId, WallTime};

    use super::{Decided, QueuedWrite, decode_decided, decode_write, encode_decided, encode_write};
    use crate::request::OperationState;

    fn key() -> Key {
        Key::new(b"k").unwrap()
    }

    fn anchor() -> Anchor {
        let term = Term { epoch: 1, number: 2, node: NodeId([3; 32]) };
        Anchor { ballot: Ballot { term, sequence: 4 }, height: 5 }
    }

    #[test]
    fn writes_come_back_and_others_are_refused() {
        let value = |kind| Operation::Set(Value::new(kind, &b"v"[..]));
        let expiring = Operation::Set(Value::inline(&b"v"[..]).until(Some(WallTime(7))));
        let operations = [Operation::Delete, value(ValueKind::Inline), value(ValueKind::Inode), expiring];
        let conditions = [Condition::None, Condition::Absent, Condition::Present, Condition::Head(Hash::of(b"x"))];
        for operation in &operations {
            for condition in conditions {
                let operation_id = OperationId([7; 16]);
                let since = (condition == Condition::Present).then(anchor);
                let write = QueuedWrite { key: key(), operation: operation.clone(), condition, operation_id, since };
                let bytes = encode_write(&write);
                assert_eq!(decode_write(&bytes), Ok(write));
                (0..bytes.len()).for_each(|length| assert!(decode_write(&bytes[..length]).is_err(), "{length}"));
                assert!(decode_write(&[&bytes[..], &[0]].concat()).is_err());
            }
        }
    }

    #[test]
    fn outcomes_come_back_and_others_are_refused() {
        let refused = |current| OperationState::Refused { reason: "because".into(), current };
        let states = [
            OperationState::Queued,
            OperationState::Forgotten,
            OperationState::Applied { height: 3, hash: Hash::of(b"x") },
            refused(None),
            refused(Some((4, Hash::of(b"y"), true))),
        ];
        for state in states {
            let decided = Decided { key: key(), operation_id: OperationId([7; 16]), state, decided_at: WallTime(9) };
            let bytes = encode_decided(&decided);
            assert_eq!(decode_decided(&bytes), Ok(decided));
            (0..bytes.len()).for_each(|length| assert!(decode_decided(&bytes[..length]).is_err(), "{length}"));
        }
    }
}
