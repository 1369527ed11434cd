//! Frames on a stream: a length (u32 LE), then that many bytes.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::queue::QueueReader;

const LENGTH_BYTES: usize = 4;
/// A writer takes this much of its queue into one write and one flush.
const BATCH_BYTES: usize = 256 * 1024;

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("the remote closed the connection")]
    Ended,
    #[error("a frame of {length} bytes was announced, {max} are allowed")]
    TooLong { length: usize, max: usize },
}

/// Writes what the queue yields until it is closed and drained. Many small frames share one write.
pub(crate) async fn write_frames<S: AsyncWrite + Unpin>(stream: &mut S, mut queue: QueueReader) -> io::Result<()> {
    let mut batch = BytesMut::with_capacity(BATCH_BYTES / 16);
    while let Some(first) = queue.next().await {
        append(&mut batch, &first);
        while batch.len() < BATCH_BYTES
            && let Some(frame) = queue.next_ready()
        {
            append(&mut batch, &frame);
        }
        stream.write_all(&batch).await?;
        stream.flush().await?;
        batch.clear();
    }
    stream.close().await
}

fn append(batch: &mut BytesMut, frame: &[u8]) {
    // No queue takes a frame longer than `Config::frame_bytes_max`, which is far below the u32 range.
    batch.put_u32_le(frame.len() as u32);
    batch.extend_from_slice(frame);
}

/// Takes frames out of a stream.
pub(crate) struct FrameReader<S> {
    stream: S,
    buffer: FrameBuffer,
}

impl<S: AsyncRead + Unpin> FrameReader<S> {
    /// Accepts frames of up to `frame_bytes_max`; reads about `chunk_bytes` at a time.
    pub(crate) fn new(stream: S, frame_bytes_max: usize, chunk_bytes: usize) -> Self {
        let buffer = FrameBuffer { bytes: BytesMut::new(), filled: 0, frame_bytes_max, chunk_bytes };
        Self { stream, buffer }
    }

    /// Waits for the next frame.
    pub(crate) async fn next(&mut self) -> Result<Bytes, FrameError> {
        loop {
            if let Some(frame) = self.buffer.next_frame()? {
                return Ok(frame);
            }
            match self.stream.read(self.buffer.spare()?).await? {
                0 => return Err(FrameError::Ended),
                count => self.buffer.filled += count,
            }
        }
    }
}

/// Bytes that were read, of which frames are split off without copying. All of `bytes` is initialised, the first
/// `filled` of it hold what was read: so that every byte is zeroed once, not once per read.
struct FrameBuffer {
    bytes: BytesMut,
    filled: usize,
    frame_bytes_max: usize,
    chunk_bytes: usize,
}

impl FrameBuffer {
    /// Bytes of the frame at the front, with its length; refused before anything is allocated for it.
    fn wanted(&self) -> Result<usize, FrameError> {
        if self.filled < LENGTH_BYTES {
            return Ok(LENGTH_BYTES);
        }
        let length = (&self.bytes[..LENGTH_BYTES]).get_u32_le() as usize;
        if length > self.frame_bytes_max {
            return Err(FrameError::TooLong { length, max: self.frame_bytes_max });
        }
        Ok(LENGTH_BYTES + length)
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let wanted = self.wanted()?;
        if self.filled < wanted {
            return Ok(None);
        }
        let mut frame = self.bytes.split_to(wanted);
        self.filled -= wanted;
        frame.advance(LENGTH_BYTES);
        Ok(Some(frame.freeze()))
    }

    /// Where to read to: room for the frame at the front, and for a good deal more.
    fn spare(&mut self) -> Result<&mut [u8], FrameError> {
        let wanted = self.wanted()?;
        let room = self.bytes.len() - self.filled;
        if self.bytes.len() < wanted || room < self.chunk_bytes / 8 {
            let mut larger = BytesMut::zeroed(self.chunk_bytes.max(wanted + self.chunk_bytes / 4));
            larger[..self.filled].copy_from_slice(&self.bytes[..self.filled]);
            self.bytes = larger;
        }
        Ok(&mut self.bytes[self.filled..])
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::executor::block_on;

    use super::{FrameError, FrameReader, write_frames};
    use crate::queue::queue;

    fn written(frames: &[Bytes]) -> Vec<u8> {
        let (sender, reader) = queue(frames.len().max(1), usize::MAX / 2);
        for frame in frames {
            sender.push(frame.clone()).unwrap();
        }
        drop(sender);
        let mut stream = futures::io::Cursor::new(Vec::new());
        block_on(write_frames(&mut stream, reader)).unwrap();
        stream.into_inner()
    }

    #[test]
    fn frames_of_all_lengths_survive_every_chunk_size() {
        let lengths = [0, 1, 3, 4, 5, 100, 0, 4096, 70_000, 0, 300_000, 7];
        let frames: Vec<_> = lengths.iter().map(|length| Bytes::from(vec![*length as u8 ^ 0x5a; *length])).collect();
        let stream = written(&frames);
        for chunk_bytes in [8, 64, 1000, 65_536] {
            let mut reader = FrameReader::new(&stream[..], 300_000, chunk_bytes);
            for frame in &frames {
                assert_eq!(block_on(reader.next()).unwrap(), frame, "chunks of {chunk_bytes}");
            }
            assert!(matches!(block_on(reader.next()), Err(FrameError::Ended)));
        }
    }

    #[test]
    fn a_frame_too_long_is_refused_by_its_length() {
        let mut reader = FrameReader::new(&b"\xff\xff\xff\xff and so on"[..], 1000, 64);
        assert!(matches!(block_on(reader.next()), Err(FrameError::TooLong { max: 1000, .. })));
    }

    #[test]
    fn half_a_frame_is_no_frame() {
        let stream = written(&[Bytes::from_static(b"whole")]);
        for cut in 0..stream.len() {
            let mut reader = FrameReader::new(&stream[..cut], 1000, 64);
            assert!(matches!(block_on(reader.next()), Err(FrameError::Ended)), "cut at {cut}");
        }
    }
}
