use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use difuse_api::{
    Datastore,
    request::{Reply, Request, RequestError, ScrubTotals},
};
use difuse_blocks::MAX_BLOCK_BYTES;
use difuse_net::Net;
use difuse_protocol::QuotasReached;
use difuse_types::{Hash, NodeId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{NodeConfig, OpenNode, StartError, StopReason, notices::Notices, start};

/// A request of this process, and where its answer goes.
pub(crate) type Call = (Request, oneshot::Sender<Result<Reply, RequestError>>);

/// What the runtime tells its handles.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) figures: Figures,
    pub(crate) notices: Notices,
    /// What the state machine has not been told yet.
    pub(crate) quotas_reached: Mutex<Option<QuotasReached>>,
}

/// Counters since the start.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) batches: AtomicU64,
    pub(crate) inputs: AtomicU64,
    pub(crate) frames_received: AtomicU64,
    pub(crate) messages_sent: AtomicU64,
    pub(crate) notices_dropped: AtomicU64,
    pub(crate) scrub: Mutex<ScrubTotals>,
}

/// Counters of a node since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeFigures {
    /// Batches that its state machine has dealt with.
    pub batches: u64,
    /// Inputs in those batches.
    pub inputs: u64,
    /// Frames received from other nodes and from clients.
    pub frames_received: u64,
    /// Messages sent to them.
    pub messages_sent: u64,
    /// Notices of clients that were lost, because a connection or this node was busy.
    pub notices_dropped: u64,
    /// What was read of the disk again, found damaged and repaired.
    pub scrub: ScrubTotals,
}

/// Handle to a running node; cheap to clone. The node runs until [`Node::shutdown`], or until it has to stop.
#[derive(Clone)]
pub struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: SocketAddr,
    pub(crate) calls: mpsc::Sender<Call>,
    pub(crate) net: Net,
    pub(crate) shared: Arc<Shared>,
    pub(crate) readiness: watch::Receiver<Vec<String>>,
    pub(crate) stopped: watch::Receiver<Option<StopReason>>,
    pub(crate) stop: CancellationToken,
}

impl Node {
    /// Starts a node: opens it, and then finds its ring ([`OpenNode::start`]).
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(config: NodeConfig) -> Result<Self, StartError> {
        Self::open(config).await?.start().await
    }

    /// The first half of a start: opens the node's directory and listens for others.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn open(config: NodeConfig) -> Result<OpenNode, StartError> {
        start::open(config).await
    }

    /// Its identity.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Where it listens for other nodes and SDK clients, with the actual port.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it serves; else the reasons why not.
    pub fn ready(&self) -> Result<(), Vec<String>> {
        let reasons = self.readiness.borrow().clone();
        if reasons.is_empty() { Ok(()) } else { Err(reasons) }
    }

    /// Waits until the node serves, or has stopped.
    pub async fn wait_until_ready(&self) {
        let mut readiness = self.readiness.clone();
        let ready = readiness.wait_for(Vec::is_empty);
        tokio::select! {
            _ = ready => {}
            _ = self.stopped() => {}
        }
    }

    /// Resolves when the node has stopped: with the reason if it had to, with `None` after [`Node::shutdown`].
    pub async fn stopped(&self) -> Option<StopReason> {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone(),
            // The runtime has ended without a reason to give.
            Err(_) => None,
        }
    }

    /// Stops the node and waits until its directory is free again.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let mut stopped = self.stopped.clone();
        // The sender is dropped when everything is closed.
        while stopped.changed().await.is_ok() {}
    }

    /// Lets nothing be added to these namespaces, which have reached a quota, instead of those that were told before.
    pub fn set_quotas_reached(&self, reached: QuotasReached) {
        *self.shared.quotas_reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(reached);
    }

    /// Counters since the start.
    pub fn figures(&self) -> NodeFigures {
        let figures = &self.shared.figures;
        NodeFigures {
            batches: figures.batches.load(Ordering::Relaxed),
            inputs: figures.inputs.load(Ordering::Relaxed),
            frames_received: figures.frames_received.load(Ordering::Relaxed),
            messages_sent: figures.messages_sent.load(Ordering::Relaxed),
            notices_dropped: figures.notices_dropped.load(Ordering::Relaxed),
            scrub: *figures.scrub.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

#[async_trait]
impl Datastore for Node {
    async fn call(&self, request: Request) -> Result<Reply, RequestError> {
        check(&request)?;
        let wanted = match &request {
            Request::ReadBlock { hash, .. } => Some(*hash),
            _ => None,
        };
        let gone = || RequestError::NotServing("the node has stopped".into());
        let (answer, answered) = oneshot::channel();
        self.calls.send((request, answer)).await.map_err(|_| gone())?;
        let reply = answered.await.map_err(|_| gone())??;
        match (wanted, &reply) {
            (Some(expected), Reply::Block(Some(bytes))) if Hash::of(bytes) != expected => {
                Err(RequestError::Storage(format!("the content received for block {expected} is another")))
            }
            _ => Ok(reply),
        }
    }
}

/// What is checked where it came in, off the state machine's task.
fn check(request: &Request) -> Result<(), RequestError> {
    let Request::PutBlock { hash, bytes, .. } = request else { return Ok(()) };
    if bytes.len() > MAX_BLOCK_BYTES {
        let length = bytes.len();
        return Err(RequestError::Invalid(format!(
            "the block is {length} bytes long, at most {MAX_BLOCK_BYTES} are allowed"
        )));
    }
    let actual = Hash::of(bytes);
    if actual == *hash { Ok(()) } else { Err(RequestError::WrongHash { expected: *hash, actual }) }
}
