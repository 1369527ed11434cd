//! A queue of frames bounded in frames and in bytes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::SendError;

/// Frames that may be lost take one part in so many of a queue, so that others find room.
const SPARE: usize = 4;

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
    /// Whether a frame of this length would leave most of the queue to others.
    pub(crate) fn has_room_to_spare(&self, length: usize) -> bool {
        let queued = self.frames.max_capacity() - self.frames.capacity();
        let bytes = self.bytes.load(Ordering::Relaxed).saturating_add(length);
        queued < self.frames.max_capacity().div_ceil(SPARE) && bytes <= self.bytes_max / SPARE
    }

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
    fn most_of_a_queue_is_not_to_spare() {
        let (queue, mut reader) = queue(8, 1000);
        assert!(queue.has_room_to_spare(250) && !queue.has_room_to_spare(251));
        queue.push(Bytes::from(vec![0; 100])).unwrap();
        assert!(queue.has_room_to_spare(150) && !queue.has_room_to_spare(151));
        queue.push(Bytes::new()).unwrap();
        assert!(!queue.has_room_to_spare(0), "two of eight frames are in it");
        reader.next_ready().unwrap();
        assert!(queue.has_room_to_spare(250));
    }

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
