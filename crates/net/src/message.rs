//! The few messages that set up a link, before frames flow.
//!
//! Each is a length (u16 LE), then `difuse`, the protocol version (u16 LE), a kind (u8) and the kind's fixed fields.
//! The part up to the kind never changes between versions, so that two versions can tell each other so.

use std::io;

use difuse_types::{Hash, RingId};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{RingTag, Role};

/// The version of everything that this crate puts on a stream.
pub(crate) const VERSION: u16 = 1;
const MAGIC: &[u8; 6] = b"difuse";
const MESSAGE_BYTES_MAX: usize = 256;

pub(crate) type Nonce = [u8; 32];
pub(crate) type Session = [u8; 32];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// First, from both sides of a control stream.
    Hello { role: Role, ring: RingTag, nonce: Nonce },
    /// The sender knows the secret.
    Proof([u8; 32]),
    /// First on a bulk stream: it belongs to this link.
    Attach(Session),
    /// The link is complete.
    Attached,
    /// In place of any other message: the sender will not go on.
    Refuse(Refusal),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The refusing side belongs to this ring.
    OtherRing(RingId),
    WrongSecret,
    /// The refusing side's version is in the message's head.
    Version,
    Full,
    UnknownSession,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum MessageError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it sends something else than a difuse handshake")]
    Garbage,
    #[error("it speaks version {0}")]
    Version(u16),
}

/// Writes one message and flushes.
pub(crate) async fn write<S: AsyncWrite + Unpin>(stream: &mut S, message: &Message) -> io::Result<()> {
    let body = encode(message);
    let mut bytes = (body.len() as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// Reads one message, never more than it, and never more than a few hundred bytes.
pub(crate) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Message, MessageError> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length = usize::from(u16::from_le_bytes(length));
    if length > MESSAGE_BYTES_MAX {
        return Err(MessageError::Garbage);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    decode(&body)
}

fn encode(message: &Message) -> Vec<u8> {
    let mut body = MAGIC.to_vec();
    body.extend_from_slice(&VERSION.to_le_bytes());
    match message {
        Message::Hello { role, ring, nonce } => {
            body.extend_from_slice(&[1, role_code(*role), u8::from(ring.0.is_some())]);
            body.extend_from_slice(ring.0.map_or(Hash::ZERO, |ring| ring.0).as_bytes());
            body.extend_from_slice(nonce);
        }
        Message::Proof(proof) => {
            body.push(2);
            body.extend_from_slice(proof);
        }
        Message::Attach(session) => {
            body.push(3);
            body.extend_from_slice(session);
        }
        Message::Attached => body.push(4),
        Message::Refuse(refusal) => {
            body.extend_from_slice(&[5, refusal_code(*refusal)]);
            if let Refusal::OtherRing(ring) = refusal {
                body.extend_from_slice(ring.0.as_bytes());
            }
        }
    }
    body
}

fn decode(body: &[u8]) -> Result<Message, MessageError> {
    let rest = body.strip_prefix(MAGIC).ok_or(MessageError::Garbage)?;
    let (version, rest) = rest.split_first_chunk().ok_or(MessageError::Garbage)?;
    let version = u16::from_le_bytes(*version);
    if version != VERSION {
        return Err(MessageError::Version(version));
    }
    let (kind, fields) = rest.split_first().ok_or(MessageError::Garbage)?;
    decode_fields(*kind, fields).ok_or(MessageError::Garbage)
}

fn decode_fields(kind: u8, fields: &[u8]) -> Option<Message> {
    Some(match (kind, fields) {
        (1, [role, known @ (0 | 1), rest @ ..]) => {
            let (ring, nonce) = rest.split_first_chunk()?;
            let ring = RingTag((*known == 1).then_some(RingId(Hash(*ring))));
            Message::Hello { role: role_of(*role)?, ring, nonce: nonce.try_into().ok()? }
        }
        (2, proof) => Message::Proof(proof.try_into().ok()?),
        (3, session) => Message::Attach(session.try_into().ok()?),
        (4, []) => Message::Attached,
        (5, [1, ring @ ..]) => Message::Refuse(Refusal::OtherRing(RingId(Hash(ring.try_into().ok()?)))),
        (5, [2]) => Message::Refuse(Refusal::WrongSecret),
        (5, [3]) => Message::Refuse(Refusal::Version),
        (5, [4]) => Message::Refuse(Refusal::Full),
        (5, [5]) => Message::Refuse(Refusal::UnknownSession),
        _ => return None,
    })
}

/// The byte that stands for a role, here and in proofs.
pub(crate) fn role_code(role: Role) -> u8 {
    match role {
        Role::Peer => 1,
        Role::Client => 2,
    }
}

fn role_of(code: u8) -> Option<Role> {
    [Role::Peer, Role::Client].into_iter().find(|role| role_code(*role) == code)
}

fn refusal_code(refusal: Refusal) -> u8 {
    match refusal {
        Refusal::OtherRing(_) => 1,
        Refusal::WrongSecret => 2,
        Refusal::Version => 3,
        Refusal::Full => 4,
        Refusal::UnknownSession => 5,
    }
}

#[cfg(test)]
mod tests {
    use difuse_types::{Hash, RingId};

    use super::{Message, MessageError, Refusal, decode, encode, read};
    use crate::{RingTag, Role};

    fn messages() -> Vec<Message> {
        let ring = RingId(Hash([9; 32]));
        vec![
            Message::Hello { role: Role::Peer, ring: RingTag(Some(ring)), nonce: [1; 32] },
            Message::Hello { role: Role::Client, ring: RingTag(None), nonce: [2; 32] },
            Message::Proof([3; 32]),
            Message::Attach([4; 32]),
            Message::Attached,
            Message::Refuse(Refusal::OtherRing(ring)),
            Message::Refuse(Refusal::WrongSecret),
            Message::Refuse(Refusal::Version),
            Message::Refuse(Refusal::Full),
            Message::Refuse(Refusal::UnknownSession),
        ]
    }

    #[test]
    fn messages_survive_the_way_and_nothing_else_does() {
        for message in messages() {
            let body = encode(&message);
            assert_eq!(decode(&body).unwrap(), message);
            for cut in 0..body.len() {
                assert!(decode(&body[..cut]).is_err(), "{message:?} cut at {cut}");
            }
            let longer = [&body[..], &[0]].concat();
            assert!(decode(&longer).is_err(), "{message:?} with a byte too many");
        }
    }

    #[test]
    fn another_version_is_recognised_whatever_follows() {
        assert!(matches!(decode(b"difuse\x07\x00\xff\xff"), Err(MessageError::Version(7))));
        assert!(matches!(decode(b"GET / HTTP/1.1"), Err(MessageError::Garbage)));
    }

    #[test]
    fn a_long_message_is_refused_by_its_length() {
        let read = futures::executor::block_on(read(&mut &b"\xff\xff"[..]));
        assert!(matches!(read, Err(MessageError::Garbage)));
    }
}
