//! A queue of frames bounded in frames and in bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::SendError;

/// The end that frames are put into.
#[derive(Debug)]
pub(crate) struct Queue {
    frames: mpsc::Sender<Bytes>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

/// The end that the writer drains.
#[derive(Debug)]
pub(crate) struct QueueReader {
    frames: mpsc::Receiver<Bytes>,
    bytes: Arc<AtomicUsize>,
}

/// A queue that holds at most so many frames and so many bytes.
pub(crate) fn queue(frames_max: usize, bytes_max: usize) -> (Queue, QueueReader) {
    let (sender, receiver) = mpsc::channel(frames_max);
    let bytes = Arc::new(AtomicUsize::new(0));
    (Queue { frames: sender, bytes: bytes.clone(), bytes_max }, QueueReader { frames: receiver, bytes })
}

impl Queue {
    /// Puts a frame in, or says at once why not.
    pub(crate) fn push(&self, frame: Bytes) -> Result<(), SendError> {
        let length = frame.len();
        if self.bytes.fetch_add(length, Ordering::Relaxed) + length > self.bytes_max {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            return Err(SendError::Full);
        }
        self.frames.try_send(frame).map_err(|refused| {
            self.bytes.fetch_sub(length, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Full(_) => SendError::Full,
                mpsc::error::TrySendError::Closed(_) => SendError::NotConnected,
            }
        })
    }
}

impl QueueReader {
    /// Waits for the next frame; `None` when the other end is gone and all is drained.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let frame = self.frames.recv().await?;
        self.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }

    /// The next frame if one is there.
    pub(crate) fn next_ready(&mut self) -> Option<Bytes> {
        let frame = self.frames.try_recv().ok()?;
        self.bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::queue;
    use crate::SendError;

    #[test]
    fn both_bounds_hold_and_room_comes_back() {
        let (queue, mut reader) = queue(3, 10);
        let frame = |length| Bytes::from(vec![0; length]);
        assert_eq!(queue.push(frame(8)), Ok(()));
        assert_eq!(queue.push(frame(3)), Err(SendError::Full));
        assert_eq!(queue.push(frame(1)), Ok(()));
        assert_eq!(queue.push(frame(1)), Ok(()));
        assert_eq!(queue.push(frame(0)), Err(SendError::Full));
        assert_eq!(reader.next_ready().map(|frame| frame.len()), Some(8));
        assert_eq!(queue.push(frame(8)), Ok(()));
        drop(reader);
        assert_eq!(queue.push(frame(0)), Err(SendError::NotConnected));
    }
}
