//! What the tasks of one transport have in common.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

use difuse_types::NodeId;
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Class, Config, Event, NetError, RingTag,
    book::Book,
    driver::{Command, Line},
    handshake::Party,
    message::Session,
    peers::Peers,
};

pub(crate) struct Shared {
    pub config: Config,
    /// The ring as it is now; `config` has it as it was.
    pub ring: Mutex<RingTag>,
    pub commands: mpsc::Sender<Command>,
    pub control_events: mpsc::Sender<Event>,
    pub bulk_events: mpsc::Sender<Event>,
    pub peers: Mutex<Peers>,
    pub book: Mutex<Book>,
    /// Accepted links that wait for their bulk connection; bounded by the number of connections.
    pub waiting: Mutex<HashMap<Session, (NodeId, oneshot::Sender<Line>)>>,
    /// Held while the peer table changes and the change is reported, so that reports come in the order of changes.
    pub reporting: tokio::sync::Mutex<()>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Shared {
    /// What we bring to a handshake now.
    pub(crate) fn party(&self) -> Party {
        Party {
            node: self.config.identity.node_id(),
            role: self.config.role(),
            ring: *lock(&self.ring),
            key: self.config.secret.unwrap_or_default(),
        }
    }

    /// Connects and opens a stream.
    pub(crate) async fn dial(&self, socket: SocketAddr, node: Option<NodeId>, class: Class) -> Result<Line, NetError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Dial { socket, node, class, reply };
        self.commands.send(command).await.map_err(|_| NetError::Closed)?;
        answer.await.map_err(|_| NetError::Closed)?
    }
}

/// Nothing that is done under our locks can leave the data half changed, so a panic elsewhere does not spoil it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
