//! What bytes of a stranger reach, for the fuzz targets (`difuse-fuzz`) alone: no part of the crate's interface.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use difuse_types::{Hash, NodeId, RingId};
use futures::{AsyncRead, AsyncWrite, FutureExt};

use crate::{
    RingTag, Role, address,
    frames::FrameReader,
    handshake::{self, Party},
};

/// A stream on which a stranger has sent bytes and then nothing more, and takes whatever is sent.
struct Stranger<'a>(&'a [u8]);

impl AsyncRead for Stranger<'_> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stranger<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Both sides of both handshakes with a stranger who sends `bytes`. None may wait for more than what is there.
pub fn handshake(bytes: &[u8]) {
    let remote = NodeId([2; 32]);
    let ours =
        Party { node: NodeId([1; 32]), role: Role::Peer, ring: RingTag(Some(RingId(Hash([3; 32])))), key: [0; 32] };
    let ended = [
        handshake::respond(&mut Stranger(bytes), &ours, remote).now_or_never().map(|result| result.is_ok()),
        handshake::initiate(&mut Stranger(bytes), &ours, remote).now_or_never().map(|result| result.is_ok()),
        handshake::read_attach(&mut Stranger(bytes)).now_or_never().map(|result| result.is_ok()),
        handshake::attach(&mut Stranger(bytes), [4; 32]).now_or_never().map(|result| result.is_ok()),
    ];
    assert!(ended.iter().all(Option::is_some), "a handshake waits although nothing more comes");
    assert!(ended[0] != Some(true) && ended[1] != Some(true), "a proof was guessed");
}

/// The frames of a stream that carries `bytes`: each as long as it was announced, and nothing is lost between them.
pub fn frames(bytes: &[u8]) {
    const FRAME_BYTES_MAX: usize = 1 << 16;
    for chunk_bytes in [8, 4096] {
        let mut reader = FrameReader::new(bytes, FRAME_BYTES_MAX, chunk_bytes);
        let mut rest = bytes;
        while let Some(Ok(frame)) = reader.next().now_or_never() {
            let (length, after) = rest.split_first_chunk::<4>().expect("a frame has a length before it");
            let length = u32::from_le_bytes(*length) as usize;
            assert!(length <= FRAME_BYTES_MAX && frame[..] == after[..length]);
            rest = &after[length..];
        }
    }
}

/// An address as a peer, a person or a file gives it.
pub fn address(text: &str) {
    if let Ok(port) = address::port_of(text) {
        assert_ne!(port, 0, "port 0 cannot be dialled");
    }
}
