//! What a client sends, within its share of the node's memory.

use std::{io, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::request::{ProtocolError, RequestReader};

/// How much is read at a time, in bytes.
const READ_BYTES: usize = 16 << 10;
/// The same within a long argument.
const READ_BYTES_MAX: usize = 1 << 20;
/// What every connection may keep for a request that is not complete, in bytes; more must be reserved.
const FREE_BYTES: usize = 32 << 10;
/// How much is reserved at a time, in KiB.
const STEP_KIB: u32 = 256;
/// How long a connection waits for memory, and one that keeps some for the rest of its request.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A request, and what was reserved for it of the node's memory.
pub(super) type Arrived = (Vec<Bytes>, Option<OwnedSemaphorePermit>);

/// The receiving side of a connection.
pub(super) struct Input {
    pub(super) reader: RequestReader,
    memory: Arc<Semaphore>,
    reserved: Option<OwnedSemaphorePermit>,
    /// When something last arrived, or memory was last given.
    last_progress: Instant,
    /// Whether the client has closed its side.
    pub(super) is_at_end: bool,
}

impl Input {
    /// One that reserves what it needs from `memory`, in KiB.
    pub(super) fn new(memory: Arc<Semaphore>) -> Self {
        let (reader, last_progress) = (RequestReader::default(), Instant::now());
        Self { reader, memory, reserved: None, last_progress, is_at_end: false }
    }

    /// The next request if all of it has arrived, with what was reserved for it.
    pub(super) fn next_request(&mut self) -> Result<Option<Arrived>, ProtocolError> {
        Ok(self.reader.next_request()?.map(|request| (request, self.reserved.take())))
    }

    /// Whether more may be read: if not, [`Input::wait_for_room`] first.
    pub(super) fn has_room(&mut self) -> bool {
        while self.reserved_bytes() + FREE_BYTES < self.reader.held() {
            let Ok(more) = self.memory.clone().try_acquire_many_owned(STEP_KIB) else { return false };
            self.keep(more);
        }
        true
    }

    /// Resolves when there is memory again.
    pub(super) async fn wait_for_room(&self) -> Option<OwnedSemaphorePermit> {
        self.memory.clone().acquire_many_owned(STEP_KIB).await.ok()
    }

    /// Adds what [`Input::wait_for_room`] gave.
    pub(super) fn keep(&mut self, more: OwnedSemaphorePermit) {
        self.last_progress = Instant::now();
        match &mut self.reserved {
            Some(reserved) => reserved.merge(more),
            None => self.reserved = Some(more),
        }
    }

    /// Until when a client that keeps memory must go on; `None` if it keeps none.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let keeps = self.reserved.is_some() || self.reader.held() > FREE_BYTES;
        keeps.then(|| self.last_progress + PATIENCE)
    }

    /// Reads what has arrived; how much.
    pub(super) fn read(&mut self, stream: &TcpStream) -> io::Result<usize> {
        let length = self.reader.wanted().clamp(READ_BYTES, READ_BYTES_MAX);
        self.reader.input.reserve(length);
        match stream.try_read_buf(&mut self.reader.input) {
            Ok(0) => {
                self.is_at_end = true;
                Ok(0)
            }
            Ok(count) => {
                self.last_progress = Instant::now();
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.release_if_idle();
                Ok(0)
            }
            Err(error) => Err(error),
        }
    }

    /// Gives the buffer back while there is nothing in it: most connections are idle most of the time.
    pub(super) fn release_if_idle(&mut self) {
        if self.reader.input.is_empty() {
            self.reader.input = BytesMut::new();
        }
    }

    fn reserved_bytes(&self) -> usize {
        self.reserved.as_ref().map_or(0, OwnedSemaphorePermit::num_permits) << 10
    }
}
