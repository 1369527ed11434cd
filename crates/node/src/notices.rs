//! What gateways tell each other for their clients, past the state machine: at most once, and never in the way of
//! anything else. Notices travel with blocks, and only while a connection has room to spare.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
};

use bytes::Bytes;
use difuse_api::notice::{Notice, PUBLISHED_BYTES_MAX};
use difuse_net::{Class, SendError};
use difuse_protocol::message::Message;
use difuse_types::NodeId;
use tokio::sync::mpsc;

use crate::{Node, handle::Shared};

/// The most notices that wait to be taken.
const WAITING_MAX: usize = 4096;

/// Who can be told something, and who wants to be.
#[derive(Default)]
pub(crate) struct Notices {
    connected: Mutex<BTreeSet<NodeId>>,
    taker: OnceLock<mpsc::Sender<(NodeId, Notice)>>,
}

impl Notices {
    pub(crate) fn note_connected(&self, node: NodeId) {
        self.connected().insert(node);
    }

    pub(crate) fn note_disconnected(&self, node: NodeId) {
        self.connected().remove(&node);
    }

    fn connected(&self) -> MutexGuard<'_, BTreeSet<NodeId>> {
        self.connected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Hands over what another node tells; it is lost if nobody takes it as fast as it comes.
    pub(crate) fn take_notice(&self, from: NodeId, notice: Notice) {
        if let Some(taker) = self.notices.taker.get()
            && taker.try_send((from, notice)).is_err()
        {
            self.figures.notices_dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Node {
    /// What other nodes tell from now on, each with the one that tells it. What is not taken fast enough is lost. It is
    /// given out once: whoever asks again gets nothing.
    pub fn notices(&self) -> mpsc::Receiver<(NodeId, Notice)> {
        let (taker, notices) = mpsc::channel(WAITING_MAX);
        // The receiver of a second one sees that its sender is gone.
        let _ = self.shared.notices.taker.set(taker);
        notices
    }

    /// Tells all nodes that are connected. Never waits: whoever is busy does not hear of it.
    pub fn tell_all(&self, notice: Notice) {
        let nodes: Vec<NodeId> = self.shared.notices.connected().iter().copied().collect();
        self.tell_each(&nodes, notice);
    }

    /// Tells one node, in the same way.
    pub fn tell(&self, node: NodeId, notice: Notice) {
        self.tell_each(&[node], notice);
    }

    fn tell_each(&self, nodes: &[NodeId], notice: Notice) {
        if nodes.is_empty() || is_too_long(&notice) {
            return;
        }
        let frame: Bytes = difuse_wire::encode(&[Message::Notice(notice)]);
        for node in nodes {
            match self.net.offer(*node, Class::Bulk, frame.clone()) {
                Ok(()) | Err(SendError::NotConnected) => {}
                Err(_) => drop(self.shared.figures.notices_dropped.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }
}

/// Whether receivers would refuse it.
fn is_too_long(notice: &Notice) -> bool {
    match notice {
        Notice::Published { channel, message } => channel.len().saturating_add(message.len()) > PUBLISHED_BYTES_MAX,
        Notice::Waiting { .. } | Notice::Added { .. } => false,
    }
}
