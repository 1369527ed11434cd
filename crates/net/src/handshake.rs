//! How two sides that already know each other's key (Noise proves it) find out whether they belong together.
//!
//! ```text
//! dialler                                   listener
//!   Hello{role, ring, nonce}  ─────────────▶
//!                             ◀─────────────  Hello
//!   Proof                     ─────────────▶
//!                             ◀─────────────  Proof
//! (on the bulk connection)
//!   Attach{session}           ─────────────▶
//!                             ◀─────────────  Attached
//! ```
//!
//! A proof is a keyed blake3 hash, under the ring's secret, of both identities and both nonces: it cannot be replayed,
//! reflected or passed on. The dialler proves first, so that a stranger who dials learns nothing to guess at.

use std::io;

use difuse_types::{NodeId, RingId};
use futures::{AsyncRead, AsyncWrite};

use crate::{
    RingTag, Role,
    message::{self, Message, MessageError, Nonce, Refusal, Session, VERSION},
};

/// What one side brings to a handshake.
#[derive(Clone)]
pub(crate) struct Party {
    pub node: NodeId,
    pub role: Role,
    pub ring: RingTag,
    /// The ring's secret; zeros stand for none.
    pub key: [u8; 32],
}

/// Who the other side turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub role: Role,
    pub ring: RingTag,
    pub session: Session,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the handshake took too long")]
    TimedOut,
    #[error("it sends something else than a difuse handshake")]
    Garbage,
    #[error("version {theirs} instead of {VERSION}")]
    Version { theirs: u16 },
    #[error("ring {theirs} instead of {ours}")]
    OtherRing { ours: RingId, theirs: RingId },
    #[error("wrong secret")]
    WrongSecret,
    #[error("too many connections")]
    Full,
    #[error("the link is no longer waited for")]
    UnknownSession,
}

impl HandshakeError {
    /// What to tell the other side; `None` when it knows, or would not understand.
    fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Version { .. } => Some(Refusal::Version),
            Self::OtherRing { ours, .. } => Some(Refusal::OtherRing(*ours)),
            Self::WrongSecret => Some(Refusal::WrongSecret),
            Self::Full => Some(Refusal::Full),
            Self::UnknownSession => Some(Refusal::UnknownSession),
            Self::Io(_) | Self::TimedOut | Self::Garbage => None,
        }
    }
}

impl From<MessageError> for HandshakeError {
    fn from(error: MessageError) -> Self {
        match error {
            MessageError::Io(error) => Self::Io(error),
            MessageError::Garbage => Self::Garbage,
            MessageError::Version(theirs) => Self::Version { theirs },
        }
    }
}

/// The dialler's half of the control handshake.
pub(crate) async fn initiate<S>(stream: &mut S, ours: &Party, remote: NodeId) -> Result<Greeting, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let nonce = fresh_nonce()?;
    message::write(stream, &Message::Hello { role: ours.role, ring: ours.ring, nonce }).await?;
    let hello = read_hello(stream, ours, remote).await?;
    let transcript = Transcript { dialler: ours.node, listener: remote, nonces: [nonce, hello.nonce] };
    message::write(stream, &Message::Proof(*transcript.proof(&ours.key, ours.role, ours.node).as_bytes())).await?;
    check_proof(stream, ours, transcript.proof(&ours.key, hello.role, remote)).await?;
    Ok(hello.greeting(transcript.session(&ours.key)))
}

/// The listener's half, up to where it is convinced; [`Response::finish`] lets the dialler go on.
pub(crate) async fn respond<S>(stream: &mut S, ours: &Party, remote: NodeId) -> Result<Response, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let hello = read_hello(stream, ours, remote).await?;
    let nonce = fresh_nonce()?;
    message::write(stream, &Message::Hello { role: ours.role, ring: ours.ring, nonce }).await?;
    let transcript = Transcript { dialler: remote, listener: ours.node, nonces: [hello.nonce, nonce] };
    check_proof(stream, ours, transcript.proof(&ours.key, hello.role, remote)).await?;
    let proof = *transcript.proof(&ours.key, ours.role, ours.node).as_bytes();
    Ok(Response { greeting: hello.greeting(transcript.session(&ours.key)), proof })
}

/// A listener that is convinced but has not said so.
pub(crate) struct Response {
    pub greeting: Greeting,
    proof: [u8; 32],
}

impl Response {
    /// Lets the dialler attach its bulk connection.
    pub(crate) async fn finish<S: AsyncWrite + Unpin>(&self, stream: &mut S) -> Result<(), HandshakeError> {
        Ok(message::write(stream, &Message::Proof(self.proof)).await?)
    }
}

/// The dialler's half of the bulk handshake.
pub(crate) async fn attach<S>(stream: &mut S, session: Session) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    message::write(stream, &Message::Attach(session)).await?;
    match receive(stream, RingTag(None)).await? {
        Message::Attached => Ok(()),
        _ => Err(HandshakeError::Garbage),
    }
}

/// The listener's half of the bulk handshake: which link the stream belongs to.
pub(crate) async fn read_attach<S>(stream: &mut S) -> Result<Session, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match receive(stream, RingTag(None)).await? {
        Message::Attach(session) => Ok(session),
        _ => Err(HandshakeError::Garbage),
    }
}

/// Tells the other side why, as far as it can be told.
pub(crate) async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, error: &HandshakeError) {
    if let Some(refusal) = error.refusal() {
        // It may be gone already; then there is nobody to tell.
        let _ = message::write(stream, &Message::Refuse(refusal)).await;
    }
}

struct Hello {
    role: Role,
    ring: RingTag,
    nonce: Nonce,
}

impl Hello {
    fn greeting(&self, session: Session) -> Greeting {
        Greeting { role: self.role, ring: self.ring, session }
    }
}

async fn read_hello<S>(stream: &mut S, ours: &Party, remote: NodeId) -> Result<Hello, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Message::Hello { role, ring, nonce } = receive(stream, ours.ring).await? else {
        return Err(HandshakeError::Garbage);
    };
    if let (Some(ours), Some(theirs)) = (ours.ring.0, ring.0)
        && ours != theirs
    {
        return Err(HandshakeError::OtherRing { ours, theirs });
    }
    tracing::trace!(%remote, ?role, "greeted");
    Ok(Hello { role, ring, nonce })
}

async fn check_proof<S>(stream: &mut S, ours: &Party, expected: blake3::Hash) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let Message::Proof(proof) = receive(stream, ours.ring).await? else {
        return Err(HandshakeError::Garbage);
    };
    // Comparing two `blake3::Hash` takes the same time wherever they differ.
    if blake3::Hash::from_bytes(proof) == expected { Ok(()) } else { Err(HandshakeError::WrongSecret) }
}

/// Reads a message; a refusal becomes the error that it reports.
async fn receive<S>(stream: &mut S, ours: RingTag) -> Result<Message, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match message::read(stream).await? {
        Message::Refuse(refusal) => Err(match (refusal, ours.0) {
            (Refusal::OtherRing(theirs), Some(ours)) => HandshakeError::OtherRing { ours, theirs },
            (Refusal::WrongSecret, _) => HandshakeError::WrongSecret,
            (Refusal::Full, _) => HandshakeError::Full,
            (Refusal::UnknownSession, _) => HandshakeError::UnknownSession,
            (Refusal::Version | Refusal::OtherRing(_), _) => HandshakeError::Garbage,
        }),
        message => Ok(message),
    }
}

struct Transcript {
    dialler: NodeId,
    listener: NodeId,
    /// The dialler's, the listener's.
    nonces: [Nonce; 2],
}

impl Transcript {
    /// What `prover` shows.
    fn proof(&self, key: &[u8; 32], role: Role, prover: NodeId) -> blake3::Hash {
        let mut hasher = self.hasher(key, b"difuse 1 proof of the ring's secret");
        hasher.update(prover.as_bytes());
        hasher.update(&[message::role_code(role)]);
        hasher.finalize()
    }

    /// Names the link.
    fn session(&self, key: &[u8; 32]) -> Session {
        *self.hasher(key, b"difuse 1 name of a link, both sides").finalize().as_bytes()
    }

    /// Contexts are of one length, so that no two hashed layouts can be taken for each other.
    fn hasher(&self, key: &[u8; 32], context: &[u8; 35]) -> blake3::Hasher {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(context);
        hasher.update(self.dialler.as_bytes());
        hasher.update(self.listener.as_bytes());
        for nonce in &self.nonces {
            hasher.update(nonce);
        }
        hasher
    }
}

fn fresh_nonce() -> io::Result<Nonce> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use difuse_types::{Hash, NodeId, RingId};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::{Greeting, HandshakeError, Party, initiate, refuse, respond};
    use crate::{RingTag, Role, message};

    fn party(node: u8, ring: Option<u8>, key: u8) -> Party {
        let ring = RingTag(ring.map(|ring| RingId(Hash([ring; 32]))));
        Party { node: NodeId([node; 32]), role: Role::Peer, ring, key: [key; 32] }
    }

    async fn shake(
        dialler: Party,
        listener: Party,
    ) -> (Result<Greeting, HandshakeError>, Result<Greeting, HandshakeError>) {
        let (near, far) = tokio::io::duplex(1024);
        let (mut near, mut far) = (near.compat(), far.compat());
        let dial = async {
            let result = initiate(&mut near, &dialler, listener.node).await;
            if let Err(error) = &result {
                refuse(&mut near, error).await;
            }
            result
        };
        let listen = async {
            let result = match respond(&mut far, &listener, dialler.node).await {
                Ok(response) => response.finish(&mut far).await.map(|()| response.greeting),
                Err(error) => Err(error),
            };
            if let Err(error) = &result {
                refuse(&mut far, error).await;
            }
            result
        };
        tokio::join!(dial, listen)
    }

    #[tokio::test]
    async fn those_who_belong_together_agree_on_the_session() {
        for (ours, theirs) in [(Some(1), Some(1)), (None, Some(1)), (Some(1), None), (None, None)] {
            let (dialler, listener) = shake(party(1, ours, 7), party(2, theirs, 7)).await;
            let (dialler, listener) = (dialler.unwrap(), listener.unwrap());
            assert_eq!(dialler.session, listener.session);
            assert_eq!(dialler.ring, party(2, theirs, 7).ring);
            assert_eq!(listener.ring, party(1, ours, 7).ring);
        }
    }

    #[tokio::test]
    async fn both_sides_learn_why_they_do_not_belong_together() {
        let (dialler, listener) = shake(party(1, Some(1), 7), party(2, Some(1), 8)).await;
        assert!(matches!(dialler, Err(HandshakeError::WrongSecret)), "{dialler:?}");
        assert!(matches!(listener, Err(HandshakeError::WrongSecret)), "{listener:?}");

        let (dialler, listener) = shake(party(1, Some(1), 7), party(2, Some(2), 7)).await;
        assert!(matches!(dialler, Err(HandshakeError::OtherRing { .. })), "{dialler:?}");
        assert!(matches!(listener, Err(HandshakeError::OtherRing { .. })), "{listener:?}");
    }

    #[tokio::test]
    async fn a_reflected_proof_is_no_proof() {
        let (near, far) = tokio::io::duplex(1024);
        let (mut near, mut far) = (near.compat(), far.compat());
        let dialler = party(1, None, 7);
        let mirror = async {
            for _ in 0..2 {
                let echoed = message::read(&mut far).await.unwrap();
                message::write(&mut far, &echoed).await.unwrap();
            }
        };
        let (result, ()) = tokio::join!(initiate(&mut near, &dialler, NodeId([2; 32])), mirror);
        assert!(matches!(result, Err(HandshakeError::WrongSecret)), "{result:?}");
    }
}
