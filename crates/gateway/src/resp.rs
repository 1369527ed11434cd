//! The Redis protocol, versions 2 and 3: any node serves any client of Redis.
//!
//! A command on one key is evaluated by the leader of the key's slot, where its operation is appended to the key's log;
//! one that only reads a string is answered from a read of the key. Strings of any length are there, the long ones in
//! blocks. What a client must know beyond Redis's own manual is in `docs/redis.md`.
//!
//! How a request goes: `server` accepts a connection, `connection` moves its bytes, `request` takes them apart,
//! `catalogue` knows every command, `commands` does them (a file per group), `pipeline` keeps the order, `encode` writes
//! the replies.
//!
//! Everything is bounded: connections, what is kept for a request that is not complete, requests of a connection that
//! are served at a time, and what waits for a client that does not read.

use std::{sync::Arc, time::Instant};

use difuse_api::{
    Consistency, Datastore, keys, namespaces::DefaultLevels, notice::Notice, request::RequestError,
    structures::Registry,
};
use difuse_types::{Hash, NodeId, RingSettings};
use tokio::sync::{OnceCell, Semaphore};

mod answer;
mod call;
mod catalogue;
mod clients;
mod commands;
mod connection;
mod cursors;
mod encode;
mod failure;
mod glob;
mod hub;
mod input;
mod metrics;
mod pipeline;
mod request;
mod server;
mod session;
mod transaction;
mod waiting;

pub use hub::Relay;
pub use server::serve;

/// What long requests may keep of a node's memory, in KiB.
const LONG_REQUESTS_KIB: usize = 512 << 10;
/// What long transactions may keep, in KiB.
const TRANSACTIONS_KIB: usize = 256 << 10;
/// The most long strings that are being read, or read and changed, at a time.
const TRANSFERS_MAX: usize = 64;

/// What is chosen when a node starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// blake3 of the password that clients must give; `None`: they need none.
    pub password: Option<Hash>,
    /// How many databases there are; database n > 0 is the namespace named `n`, 0 the default one.
    pub databases: u32,
    /// Which levels stand behind what a connection asks until it says otherwise, where the namespace has none of its own.
    pub consistency: Consistency,
    /// The most connections at a time; further ones are told so, and closed.
    pub clients_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { password: None, databases: 16, consistency: Consistency::default(), clients_max: 10_000 }
    }
}

/// What all connections share; cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

struct Shared {
    datastore: Arc<dyn Datastore>,
    registry: Arc<Registry>,
    settings: Settings,
    levels: DefaultLevels,
    node: NodeId,
    catalogue: catalogue::Catalogue,
    clients: clients::Clients,
    hub: hub::Hub,
    cursors: cursors::Cursors,
    waiting: waiting::Waiting,
    metrics: metrics::Metrics,
    ring: OnceCell<RingSettings>,
    long_requests: Arc<Semaphore>,
    transactions: Arc<Semaphore>,
    transfers: Arc<Semaphore>,
    started: Instant,
}

impl Gateway {
    /// A gateway to `datastore` with the commands of `registry` and its own; `node` is named in `INFO`.
    pub fn new(datastore: Arc<dyn Datastore>, node: NodeId, registry: Arc<Registry>, settings: Settings) -> Self {
        let catalogue = catalogue::Catalogue::new(&registry);
        let metrics = metrics::Metrics::new(&catalogue);
        Self(Arc::new(Shared {
            datastore,
            registry,
            levels: DefaultLevels::new(settings.consistency),
            settings,
            node,
            catalogue,
            metrics,
            clients: clients::Clients::default(),
            hub: hub::Hub::default(),
            cursors: cursors::Cursors::default(),
            waiting: waiting::Waiting::default(),
            ring: OnceCell::new(),
            long_requests: Arc::new(Semaphore::new(LONG_REQUESTS_KIB)),
            transactions: Arc::new(Semaphore::new(TRANSACTIONS_KIB)),
            transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            started: Instant::now(),
        }))
    }

    /// Tells the gateways of other nodes through `relay` what their clients want to hear of.
    pub fn set_relay(&self, relay: Box<dyn Relay>) {
        self.0.hub.set_relay(relay);
    }

    /// Does what the gateway of another node tells this one.
    pub fn take_notice(&self, from: NodeId, notice: Notice) {
        match notice {
            Notice::Published { channel, message } => drop(self.0.hub.deliver(&channel, &message)),
            Notice::Waiting { key } => self.0.waiting.note_waiting(from, key),
            Notice::Added { key } => self.0.waiting.wake(&key),
        }
    }

    /// What the gateway counts, in the text format of OpenMetrics, without an end mark.
    pub fn metrics(&self) -> String {
        self.0.metrics.render()
    }
}

impl Shared {
    /// What the ring was founded with; asked for once.
    async fn ring_settings(&self) -> Result<RingSettings, RequestError> {
        let asked = self.ring.get_or_try_init(|| async { Ok(keys::routes(&*self.datastore).await?.settings) });
        asked.await.copied()
    }
}
