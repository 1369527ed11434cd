use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use difuse_api::{
    Consistency, Datastore,
    namespaces::Levels,
    request::{Anchor, Reply, Request, RequestError},
};
use difuse_protocol::{anchors::Anchors, message::Outcome};
use difuse_types::{Level, NodeId, SlotId};
use futures::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    ClientConfig, ConnectError, ReadingSession,
    attempts::{Attempts, Verdict},
    exchange::{Exchange, ExchangeError},
    router::Router,
    session::Session,
};

/// A connection to a ring. Cheap to clone; all clones share connections and bounds.
///
/// It implements [`Datastore`]: requests are retried, with the same operation id, until the deadline, and go straight
/// to the leader of their slot.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    deadline: Duration,
}

struct Shared {
    exchange: Arc<dyn Exchange>,
    router: Mutex<Router>,
    anchors: Mutex<Anchors>,
    random: Mutex<fastrand::Rng>,
    permits: Semaphore,
    refresh: Arc<Notify>,
    addresses: Vec<String>,
    entry: NodeId,
    config: ClientConfig,
    levels: Levels,
}

impl Client {
    /// Connects to the ring through any of `addresses` (`host:port` or multiaddrs); one that answers is enough, the
    /// others are found through it.
    pub async fn connect(addresses: &[String], config: ClientConfig) -> Result<Self, ConnectError> {
        let session = Session::start(&config).await.map_err(ConnectError::Transport)?;
        Self::connect_over(Arc::new(session), addresses, config).await
    }

    pub(crate) async fn connect_over(
        exchange: Arc<dyn Exchange>,
        addresses: &[String],
        config: ClientConfig,
    ) -> Result<Self, ConnectError> {
        let entry = first_answering(&*exchange, addresses, config.connect_timeout).await?;
        let levels = match config.consistency {
            Some(named) => Levels::Named(named),
            None => Levels::Default(Arc::default()),
        };
        let shared = Arc::new(Shared {
            exchange,
            router: Mutex::default(),
            anchors: Mutex::default(),
            random: Mutex::new(fastrand::Rng::with_seed(RandomState::new().build_hasher().finish())),
            permits: Semaphore::new(config.in_flight_max.max(1)),
            refresh: Arc::default(),
            addresses: addresses.to_vec(),
            entry,
            config,
            levels,
        });
        // Without routes every node still serves every request, so a failure here is no reason to give up.
        shared.fetch_routes().await;
        tokio::spawn(keep_routes_fresh(Arc::downgrade(&shared), Arc::clone(&shared.refresh)));
        Ok(Self { deadline: shared.config.deadline, shared })
    }

    /// The same connection with another deadline per request.
    #[must_use]
    pub fn with_deadline(&self, deadline: Duration) -> Self {
        Self { shared: Arc::clone(&self.shared), deadline }
    }

    /// A session, in which reads at weaker levels never go back.
    pub fn reading_session(&self) -> ReadingSession {
        ReadingSession::new(self.clone())
    }

    /// The slot that a request about one key or block belongs to; `None` if it belongs to none, or if no node tells how
    /// the ring is sliced.
    pub(crate) async fn slot_of(&self, request: &Request) -> Option<SlotId> {
        let known = self.shared.router().slot_of(request);
        if known.is_none() && !self.shared.router().has_routes() {
            self.shared.fetch_routes().await;
            return self.shared.router().slot_of(request);
        }
        known
    }

    /// The levels for files, which belong to no namespace.
    pub(crate) fn consistency(&self) -> Consistency {
        self.shared.config.consistency.unwrap_or_default()
    }

    /// The levels for keys of the default namespace.
    pub(crate) async fn levels(&self) -> Result<Consistency, RequestError> {
        self.levels_in("").await
    }

    /// The levels for keys of a namespace.
    pub(crate) async fn levels_in(&self, namespace: &str) -> Result<Consistency, RequestError> {
        self.shared.levels.of(self, namespace).await
    }

    /// The node that answered first when connecting.
    pub fn entry_node(&self) -> NodeId {
        self.shared.entry
    }

    /// A datastore that sends every request to `node` and to no other, once: for requests that are about that node,
    /// such as [`Request::Ring`], [`Request::Dump`], [`Request::Scrub`] and [`Request::Leave`]. Its address is learned from the ring.
    pub fn at(&self, node: NodeId) -> AtNode {
        AtNode { client: self.clone(), node }
    }
}

/// One node of a ring (see [`Client::at`]).
#[derive(Clone)]
pub struct AtNode {
    client: Client,
    node: NodeId,
}

#[async_trait]
impl Datastore for AtNode {
    async fn call(&self, request: Request) -> Result<Reply, RequestError> {
        let shared = &self.client.shared;
        shared.ensure_connected(self.node).await?;
        let mut attempts = Attempts::new(&request, None, None);
        let request = since(request, &attempts);
        let outcome = shared.exchange_within(self.node, request, after(self.client.deadline)).await;
        match attempts.handle_outcome(self.node, outcome) {
            Verdict::Done(result) => *result,
            Verdict::TryAnother | Verdict::Pause => Err(attempts.into_error()),
        }
    }
}

#[async_trait]
impl Datastore for Client {
    async fn call(&self, request: Request) -> Result<Reply, RequestError> {
        let deadline = after(self.deadline);
        let permit = timeout_at(deadline, self.shared.permits.acquire()).await;
        let _permit = permit.ok().and_then(Result::ok).ok_or(RequestError::Busy)?;
        self.shared.call_until(request, deadline).await
    }
}

impl Shared {
    async fn call_until(&self, request: Request, deadline: Instant) -> Result<Reply, RequestError> {
        let slot = self.router().slot_of(&request);
        let mut attempts = Attempts::new(&request, slot, self.anchor_of(slot, &request));
        loop {
            match self.attempt(&request, slot, &mut attempts, deadline).await {
                Verdict::Done(result) => return *result,
                Verdict::TryAnother if Instant::now() < deadline => self.refresh.notify_one(),
                Verdict::TryAnother => return Err(attempts.into_error()),
                Verdict::Pause => {
                    self.refresh.notify_one();
                    let pause = attempts.pause(self.random_number());
                    if Instant::now() + pause >= deadline {
                        return Err(attempts.into_error());
                    }
                    sleep(pause).await;
                }
            }
        }
    }

    async fn attempt(
        &self,
        request: &Request,
        slot: Option<SlotId>,
        attempts: &mut Attempts,
        deadline: Instant,
    ) -> Verdict {
        // At level lazy any node will do.
        let is_lazy = matches!(request, Request::Read { level: Level::Lazy, .. });
        let Some(node) = self.choose(slot.filter(|_| !is_lazy), attempts) else {
            attempts.handle_nobody();
            return Verdict::Pause;
        };
        let limit = deadline.min(after(self.attempt_timeout(request)));
        let outcome = self.exchange_within(node, since(request.clone(), attempts), limit).await;
        self.note_outcome(slot, request, &outcome);
        attempts.handle_outcome(node, outcome)
    }

    /// What a write that is sent for the first time comes after.
    fn anchor_of(&self, slot: Option<SlotId>, request: &Request) -> Option<Anchor> {
        match (slot, request) {
            (Some(slot), Request::Write { key, .. } | Request::Command { key, .. }) => self.anchors().of(slot, key),
            _ => None,
        }
    }

    /// Learns from an answer what later writes come after.
    fn note_outcome(&self, slot: Option<SlotId>, request: &Request, outcome: &Result<Outcome, ExchangeError>) {
        let Some(slot) = slot else { return };
        match (request, outcome) {
            (_, Ok(Outcome::Reply(reply))) => self.anchors().note_reply(slot, request, reply),
            (
                Request::Write { key, .. } | Request::Command { key, .. },
                Ok(Outcome::Error(RequestError::Forgotten { now, .. } | RequestError::Lapsed { now, .. })),
            ) => self.anchors().note(slot, key, *now),
            _ => {}
        }
    }

    fn choose(&self, slot: Option<SlotId>, attempts: &mut Attempts) -> Option<NodeId> {
        if let Some(hint) = attempts.take_hint()
            && self.exchange.is_connected(&hint)
        {
            return Some(hint);
        }
        let is_connected = |node: &NodeId| self.exchange.is_connected(node);
        self.router().choose(slot, attempts.tried(), Instant::now(), is_connected, || self.exchange.connected())
    }

    async fn exchange_within(&self, node: NodeId, request: Request, limit: Instant) -> Result<Outcome, ExchangeError> {
        let outcome = timeout_at(limit, self.exchange.exchange(node, request)).await;
        let outcome = outcome.unwrap_or(Err(ExchangeError::TimedOut));
        match &outcome {
            Ok(_) => self.router().trust(&node),
            Err(_) => self.router().doubt(node, Instant::now()),
        }
        outcome
    }

    fn attempt_timeout(&self, request: &Request) -> Duration {
        match request {
            Request::Leave => Duration::MAX,
            Request::PutBlock { .. }
            | Request::ReadBlock { .. }
            | Request::List { .. }
            | Request::Usage { .. }
            | Request::Log { .. }
            | Request::Dump { .. } => self.config.bulk_attempt_timeout,
            _ => self.config.attempt_timeout,
        }
    }

    async fn ensure_connected(&self, node: NodeId) -> Result<(), RequestError> {
        if self.exchange.is_connected(&node) {
            return Ok(());
        }
        let hosts = self.router().usable_hosts();
        let host = hosts.into_iter().find(|host| host.node == node);
        let host = host.ok_or_else(|| RequestError::Invalid(format!("no node {node} is known to the ring")))?;
        let connected = timeout(self.config.connect_timeout, self.exchange.connect(&host.address)).await;
        let refuse = |reason: &str| {
            let reason = format!("node {node} at {}: {reason}", host.address);
            Err(RequestError::Unavailable { slot: SlotId::default(), reason })
        };
        match connected {
            Ok(Ok(found)) if found == node => Ok(()),
            Ok(Ok(_)) => refuse("another node answers there"),
            Ok(Err(reason)) => refuse(&reason),
            Err(_) => refuse("no answer in time"),
        }
    }

    /// Asks the nodes connected, one after the other, who leads what.
    async fn fetch_routes(&self) {
        for node in self.exchange.connected() {
            let limit = after(self.config.attempt_timeout);
            let outcome = self.exchange_within(node, Request::Routes, limit).await;
            if let Ok(Outcome::Reply(Reply::Routes(routes))) = outcome {
                self.router().update(routes);
                return;
            }
        }
    }

    /// Connects to every usable host that is not connected, and to the first addresses when nothing is.
    async fn connect_to_hosts(&self) {
        let hosts = self.router().usable_hosts();
        let missing = hosts.into_iter().filter(|host| !self.exchange.is_connected(&host.node));
        let mut addresses: Vec<_> = missing.map(|host| host.address).collect();
        if self.exchange.connected().is_empty() {
            addresses.extend(self.addresses.iter().cloned());
        }
        let limit = self.config.connect_timeout;
        let connect = |address: String| async move {
            if let Ok(Err(reason)) = timeout(limit, self.exchange.connect(&address)).await {
                tracing::debug!(address, reason, "a host cannot be reached");
            }
        };
        futures::stream::iter(addresses).for_each_concurrent(16, connect).await;
    }

    fn router(&self) -> MutexGuard<'_, Router> {
        self.router.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn anchors(&self) -> MutexGuard<'_, Anchors> {
        self.anchors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn random_number(&self) -> u64 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).u64(..)
    }
}

/// The request as its next attempt says it.
fn since(mut request: Request, attempts: &Attempts) -> Request {
    if let Request::Write { since, .. } | Request::Command { since, .. } = &mut request {
        *since = attempts.since();
    }
    request
}

/// The moment `duration` from now; for ever is a year.
fn after(duration: Duration) -> Instant {
    Instant::now() + duration.min(Duration::from_secs(365 * 24 * 3600))
}

/// Connects to all addresses at once and returns the first node that answers; the others go on being found later.
async fn first_answering(
    exchange: &dyn Exchange,
    addresses: &[String],
    limit: Duration,
) -> Result<NodeId, ConnectError> {
    if addresses.is_empty() {
        return Err(ConnectError::NoAddress);
    }
    let attempt = |address: &String| {
        let address = address.clone();
        async move {
            match timeout(limit, exchange.connect(&address)).await {
                Ok(Ok(node)) => Ok(node),
                Ok(Err(reason)) if reason.contains(&address) => Err(reason),
                Ok(Err(reason)) => Err(format!("{address}: {reason}")),
                Err(_) => Err(format!("{address}: no answer within {limit:?}")),
            }
        }
    };
    let mut attempts: FuturesUnordered<_> = addresses.iter().map(attempt).collect();
    let mut reasons = Vec::new();
    while let Some(result) = attempts.next().await {
        match result {
            Ok(node) => return Ok(node),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(ConnectError::Unreachable { addresses: addresses.to_vec(), reasons })
}

/// Keeps routes and connections current until the last client is gone. At most one round every tenth of a second.
async fn keep_routes_fresh(shared: Weak<Shared>, refresh: Arc<Notify>) {
    let mut pause = Duration::ZERO;
    loop {
        let _ = timeout(pause, refresh.notified()).await;
        let Some(shared) = shared.upgrade() else { return };
        shared.fetch_routes().await;
        shared.connect_to_hosts().await;
        pause = shared.config.routes_refresh;
        drop(shared);
        sleep(Duration::from_millis(100)).await;
    }
}
