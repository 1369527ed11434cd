use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use difuse_types::NodeId;
use tokio::sync::mpsc;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    Class, Config, Event, NetError, RingTag, SendError,
    book::remember,
    connect::connect,
    driver::{COMMANDS_MAX, Command, Driver},
    shared::{Shared, lock},
    transport,
};

/// Handle to a running transport; cheap to clone. When the last clone is dropped the transport shuts down.
#[derive(Clone)]
pub struct Net {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    /// Shuts down when the last handle goes.
    _guard: Arc<DropGuard>,
}

impl Net {
    /// Starts a transport, and listens if the configuration says so. The first receiver yields what happens to links
    /// and the frames of [`Class::Control`], the second the frames of [`Class::Bulk`] (and nothing else): read both
    /// all the time, from different tasks, because a full receiver slows down every remote that sends in its class.
    ///
    /// # Errors
    /// [`NetError::Config`], [`NetError::AddressInUse`], [`NetError::Listen`], [`NetError::Setup`].
    pub async fn start(config: Config) -> Result<(Self, mpsc::Receiver<Event>, mpsc::Receiver<Event>), NetError> {
        config.validate()?;
        let tasks = TaskTracker::new();
        let mut swarm = transport::swarm(&config, &tasks)?;
        let address = match config.listen {
            Some(wanted) => Some(transport::listen(&mut swarm, wanted).await?),
            None => None,
        };
        let (commands, commands_queued) = mpsc::channel(COMMANDS_MAX);
        let (control_events, control) = mpsc::channel(config.control_events_max);
        let (bulk_events, bulk) = mpsc::channel(config.bulk_events_max);
        let shared = Arc::new(new_shared(config, commands, control_events, bulk_events, tasks));
        shared.tasks.spawn(Driver::new(swarm, commands_queued, shared.clone()).run());
        let guard = Arc::new(shared.stop.clone().drop_guard());
        Ok((Self { shared, address, _guard: guard }, control, bulk))
    }

    /// Who we are.
    pub fn node(&self) -> NodeId {
        self.shared.config.identity.node_id()
    }

    /// Where we listen, with the actual port; `None` for a client. An "any" address stays one.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Sets up a link to whoever answers at `address`: `host:port`, or a multiaddr (`/ip4/…/tcp/…`), which may name
    /// the expected node (`/p2p/…`). Gives who answered; from then on frames can be sent. A link that we dialled to
    /// the same node before is replaced. Keep reading the receivers meanwhile.
    ///
    /// # Errors
    /// [`NetError::Address`], [`NetError::Unreachable`], [`NetError::NotDifuse`], [`NetError::OtherNode`],
    /// [`NetError::OtherRing`], [`NetError::WrongSecret`], [`NetError::Version`], [`NetError::Ourselves`],
    /// [`NetError::Full`], [`NetError::Closed`].
    pub async fn connect(&self, address: &str) -> Result<NodeId, NetError> {
        let stop = self.shared.stop.clone();
        stop.run_until_cancelled(connect(&self.shared, address, None)).await.unwrap_or(Err(NetError::Closed))
    }

    /// Queues a frame for a connected node or client. Never waits. `Ok` says that it is on its way, not that it
    /// arrives.
    ///
    /// # Errors
    /// [`SendError::NotConnected`], [`SendError::Full`], [`SendError::TooLong`].
    pub fn send(&self, to: NodeId, class: Class, frame: Bytes) -> Result<(), SendError> {
        let max = self.shared.config.frame_bytes_max;
        if frame.len() > max {
            return Err(SendError::TooLong { max });
        }
        lock(&self.shared.peers).send(to, class, &frame)
    }

    /// Queues a frame that may be lost: as [`Net::send`], but only while most of the queue is free, so that it is never
    /// in the way of a frame that matters.
    ///
    /// # Errors
    /// As [`Net::send`].
    pub fn offer(&self, to: NodeId, class: Class, frame: Bytes) -> Result<(), SendError> {
        let max = self.shared.config.frame_bytes_max;
        if frame.len() > max {
            return Err(SendError::TooLong { max });
        }
        lock(&self.shared.peers).offer(to, class, &frame)
    }

    /// Notes where a node listens. From now on it is dialled whenever there is no link to it, with growing pauses (50
    /// ms to 1 s), until [`Net::forget`]. A new address replaces the old one. Must be called within a tokio runtime.
    pub fn set_address(&self, node: NodeId, address: &str) {
        if !self.shared.stop.is_cancelled() {
            remember(&self.shared, node, address);
        }
    }

    /// Stops dialling a node. Links to it stay up.
    pub fn forget(&self, node: NodeId) {
        lock(&self.shared.book).forget(node);
    }

    /// Ends all links to a node, which is reported as [`Event::Disconnected`] when it is done. A node in the address
    /// book is dialled anew: the way out of a connection that is stuck.
    pub fn disconnect(&self, node: NodeId) {
        lock(&self.shared.peers).end(node);
    }

    /// Sets the ring that is shown from the next handshake on. Links that are up stay up.
    pub fn set_ring(&self, tag: RingTag) {
        *lock(&self.shared.ring) = tag;
    }

    /// Closes everything and waits until the port is free and all tasks have ended. What is queued is lost, and no
    /// [`Event::Disconnected`] is reported.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("node", &self.node()).field("address", &self.address).finish_non_exhaustive()
    }
}

fn new_shared(
    config: Config,
    commands: mpsc::Sender<Command>,
    control_events: mpsc::Sender<Event>,
    bulk_events: mpsc::Sender<Event>,
    tasks: TaskTracker,
) -> Shared {
    Shared {
        ring: config.ring.into(),
        config,
        commands,
        control_events,
        bulk_events,
        peers: Default::default(),
        book: Default::default(),
        waiting: Default::default(),
        reporting: Default::default(),
        tasks,
        stop: CancellationToken::new(),
    }
}
