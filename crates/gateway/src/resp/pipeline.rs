//! What a connection has asked and was not answered yet.

use std::collections::HashMap;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{answer::Answer, encode::Protocol};

/// The most commands of one connection that are being done at a time.
const COMMANDS_MAX: usize = 256;
/// The most bytes of their arguments; one command may exceed it.
const BYTES_MAX: usize = 1 << 20;

/// A key of a database.
pub(super) type UsedKey = (u32, Bytes);

/// What is known of a command from its beginning to its answer.
#[derive(Debug, Default)]
pub(super) struct Ticket {
    /// Its place in the catalogue.
    pub(super) command: Option<usize>,
    /// The protocol of the connection when it came in.
    pub(super) protocol: Protocol,
    /// Whether its answer is not sent.
    pub(super) is_silent: bool,
    /// Since when it is being done; `None`: it was done at once.
    pub(super) started: Option<Instant>,
    /// The keys that it touches.
    pub(super) keys: Vec<UsedKey>,
    /// Whether it may change them.
    pub(super) is_write: bool,
    /// Whether it may add items to them that other clients wait for.
    pub(super) may_add: bool,
    /// Whether nothing else may be done beside it.
    pub(super) is_alone: bool,
    /// Whether it may wait for other clients: then it is not done for one that has gone.
    pub(super) is_waiting: bool,
    /// How long its arguments are.
    pub(super) bytes: usize,
    /// How many commands it stands for, if not for one.
    pub(super) commands: usize,
    /// What it keeps of the memory for long requests.
    pub(super) reserved: Option<OwnedSemaphorePermit>,
}

/// Who uses a key.
enum Use {
    Readers(usize),
    Writer,
}

/// Commands being done; their answers come out in the order in which they were put in.
#[derive(Default)]
pub(super) struct Pipeline {
    running: FuturesOrdered<BoxFuture<'static, (Ticket, Answer)>>,
    used: HashMap<UsedKey, Use>,
    is_alone: bool,
    is_waiting: bool,
    bytes: usize,
    commands: usize,
}

impl Pipeline {
    /// Whether a command is being done that may wait for other clients.
    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Whether nothing is being done.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether nothing more may be put in before an answer has come out.
    pub(super) fn is_full(&self) -> bool {
        self.commands >= COMMANDS_MAX || self.bytes >= BYTES_MAX || self.is_alone
    }

    /// Whether a command on `keys` must wait for one before it: per key, effects are in the order of requests.
    pub(super) fn conflicts(&self, keys: &[UsedKey], is_write: bool) -> bool {
        let is_used = |key| match self.used.get(key) {
            None => false,
            Some(Use::Readers(_)) => is_write,
            Some(Use::Writer) => true,
        };
        !self.used.is_empty() && keys.iter().any(is_used)
    }

    /// Puts in a command that was begun.
    pub(super) fn push(&mut self, ticket: Ticket, task: impl Future<Output = Answer> + Send + 'static) {
        self.bytes += ticket.bytes;
        self.commands += ticket.commands.max(1);
        self.is_alone |= ticket.is_alone;
        self.is_waiting |= ticket.is_waiting;
        for key in &ticket.keys {
            let user = self.used.entry(key.clone()).or_insert(Use::Readers(0));
            match user {
                _ if ticket.is_write => *user = Use::Writer,
                Use::Readers(count) => *count += 1,
                Use::Writer => {}
            }
        }
        self.running.push_back(task.map(move |answer| (ticket, answer)).boxed());
    }

    /// The next answer, when it is there; `None` if nothing is being done.
    pub(super) async fn next(&mut self) -> Option<(Ticket, Answer)> {
        let (ticket, answer) = self.running.next().await?;
        self.bytes -= ticket.bytes;
        self.commands -= ticket.commands.max(1);
        if ticket.is_alone {
            (self.is_alone, self.is_waiting) = (false, false);
        }
        for key in &ticket.keys {
            match self.used.get_mut(key) {
                Some(Use::Readers(count)) if *count > 1 => *count -= 1,
                _ => drop(self.used.remove(key)),
            }
        }
        Some((ticket, answer))
    }
}
