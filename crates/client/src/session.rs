//! Requests over libp2p: numbered, multiplexed, answered in any order.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use difuse_api::request::Request;
use difuse_net::{Class, Config, Event, Identity, Net, SendError};
use difuse_protocol::message::{Message, Outcome};
use difuse_types::NodeId;
use tokio::sync::{mpsc, oneshot};

use crate::{
    ClientConfig,
    exchange::{Exchange, ExchangeError},
};

/// Bytes of blocks that may wait for one node.
const BULK_QUEUE_BYTES_MAX: usize = 64 << 20;
/// The pause before a full queue is tried again; it empties at tens of frames per millisecond.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(1);

/// Our end of the transport, under an identity that lives as long as this does.
pub(crate) struct Session {
    net: Net,
    links: Arc<Links>,
    next_id: AtomicU64,
}

impl Session {
    /// Starts the transport; nothing is connected yet. The error is for people.
    pub(crate) async fn start(config: &ClientConfig) -> Result<Self, String> {
        let identity = Identity::generate().map_err(|error| error.to_string())?;
        let mut net_config = Config::new(identity);
        net_config.secret = config.secret;
        net_config.bulk_queue_bytes_max = BULK_QUEUE_BYTES_MAX;
        let (net, control, bulk) = Net::start(net_config).await.map_err(|error| error.to_string())?;
        let links = Arc::new(Links::default());
        for events in [control, bulk] {
            tokio::spawn(read_events(events, Arc::clone(&links)));
        }
        Ok(Self { net, links, next_id: AtomicU64::new(1) })
    }

    /// Queues a frame; waits while the queue is full.
    async fn send(&self, node: NodeId, class: Class, frame: Bytes) -> Result<(), ExchangeError> {
        loop {
            match self.net.send(node, class, frame.clone()) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) => tokio::time::sleep(FULL_QUEUE_PAUSE).await,
                Err(error) => {
                    if error == SendError::NotConnected {
                        self.links.handle_disconnected(&node);
                    }
                    return Err(ExchangeError::NotSent(error.to_string()));
                }
            }
        }
    }
}

#[async_trait]
impl Exchange for Session {
    async fn connect(&self, address: &str) -> Result<NodeId, String> {
        let node = self.net.connect(address).await.map_err(|error| error.to_string())?;
        self.links.handle_connected(node);
        Ok(node)
    }

    fn is_connected(&self, node: &NodeId) -> bool {
        lock(&self.links.connected).contains(node)
    }

    fn connected(&self) -> Vec<NodeId> {
        lock(&self.links.connected).iter().copied().collect()
    }

    async fn exchange(&self, node: NodeId, request: Request) -> Result<Outcome, ExchangeError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let class = if matches!(request, Request::PutBlock { .. }) { Class::Bulk } else { Class::Control };
        let frame = difuse_wire::encode(&[Message::Request { id, direct: false, request }]);
        let (answer, answered) = oneshot::channel();
        let _waiting = self.links.expect(id, node, answer);
        self.send(node, class, frame).await?;
        answered.await.unwrap_or(Err(ExchangeError::Disconnected))
    }
}

type Answer = oneshot::Sender<Result<Outcome, ExchangeError>>;

/// Who is connected, and who waits for what. As many entries as there are requests under way, which the client bounds.
#[derive(Default)]
struct Links {
    connected: Mutex<BTreeSet<NodeId>>,
    waiting: Mutex<HashMap<u64, (NodeId, Answer)>>,
}

impl Links {
    fn expect(self: &Arc<Self>, id: u64, node: NodeId, answer: Answer) -> Waiting {
        lock(&self.waiting).insert(id, (node, answer));
        Waiting { links: Arc::clone(self), id }
    }

    fn handle_connected(&self, node: NodeId) {
        lock(&self.connected).insert(node);
    }

    fn handle_disconnected(&self, node: &NodeId) {
        lock(&self.connected).remove(node);
        lock(&self.waiting).retain(|_, (asked, _)| asked != node);
    }

    /// Takes the answers out of a frame. Nobody answers for another node.
    fn handle_frame(&self, from: NodeId, frame: &Bytes) {
        let messages = match difuse_wire::decode(frame) {
            Ok(messages) => messages,
            Err(error) => {
                tracing::warn!(node = %from, %error, "a node sent a frame that cannot be read");
                return;
            }
        };
        for message in messages {
            if let Message::Response { id, outcome } = message {
                self.handle_response(from, id, outcome);
            }
        }
    }

    fn handle_response(&self, from: NodeId, id: u64, outcome: Outcome) {
        let mut waiting = lock(&self.waiting);
        if waiting.get(&id).is_some_and(|(asked, _)| *asked == from)
            && let Some((_, answer)) = waiting.remove(&id)
        {
            // Whoever asked may have stopped waiting.
            let _ = answer.send(Ok(outcome));
        }
    }
}

/// Forgets a request when nobody waits for it any more.
struct Waiting {
    links: Arc<Links>,
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.links.waiting).remove(&self.id);
    }
}

async fn read_events(mut events: mpsc::Receiver<Event>, links: Arc<Links>) {
    while let Some(event) = events.recv().await {
        match event {
            Event::Connected { node, .. } => links.handle_connected(node),
            Event::Disconnected { node } => links.handle_disconnected(&node),
            Event::Frame { from, frame, .. } => links.handle_frame(from, &frame),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use difuse_api::request::Reply;
    use difuse_protocol::message::{Message, Outcome};
    use difuse_types::NodeId;
    use tokio::sync::oneshot;

    use super::{Links, lock};

    fn node(name: u8) -> NodeId {
        NodeId([name; 32])
    }

    fn done(id: u64) -> bytes::Bytes {
        difuse_wire::encode(&[Message::Response { id, outcome: Outcome::Reply(Reply::Done) }])
    }

    #[test]
    fn answers_find_their_requests_and_only_from_the_node_asked() {
        let links = Arc::new(Links::default());
        let (answer, mut answered) = oneshot::channel();
        let _waiting = links.expect(7, node(1), answer);
        links.handle_frame(node(2), &done(7));
        links.handle_frame(node(1), &done(8));
        links.handle_frame(node(1), &b"rubbish"[..].into());
        assert!(answered.try_recv().is_err());
        links.handle_frame(node(1), &done(7));
        assert_eq!(answered.try_recv().unwrap(), Ok(Outcome::Reply(Reply::Done)));
    }

    #[test]
    fn a_node_that_goes_takes_its_requests_with_it() {
        let links = Arc::new(Links::default());
        links.handle_connected(node(1));
        let (first, mut first_answered) = oneshot::channel();
        let (second, mut second_answered) = oneshot::channel();
        let _first = links.expect(1, node(1), first);
        let _second = links.expect(2, node(2), second);
        links.handle_disconnected(&node(1));
        assert_eq!(first_answered.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        assert_eq!(second_answered.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        assert!(lock(&links.connected).is_empty());
    }

    #[test]
    fn nothing_is_kept_of_requests_that_nobody_waits_for() {
        let links = Arc::new(Links::default());
        let (answer, _answered) = oneshot::channel();
        drop(links.expect(1, node(1), answer));
        assert!(lock(&links.waiting).is_empty());
    }
}
