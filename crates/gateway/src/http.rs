//! The HTTP contract, version 1: keys, files, blocks, and what is going on.
//!
//! Errors are `application/problem+json` (RFC 9457): `title` and `status` as usual, `detail` for people, `code` for
//! programs. Every answer names the node that gave it in `Difuse-Node`. Names of keys are percent-decoded bytes; where
//! an answer shows one that is not UTF-8, it shows it percent-encoded, and `href` is always exact. A listing's `next`
//! goes into the next request's `after` as it is.
//!
//! One module per group of routes; `problem` is the only place that turns errors into statuses.

use std::sync::Arc;

use axum::{
    Router,
    http::HeaderValue,
    middleware,
    routing::{any, get, post},
};
use difuse_api::{
    Consistency, Datastore,
    files::Files,
    namespaces::{DefaultLevels, Levels},
};
use difuse_types::{Key, NodeId, Space};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

mod batch;
mod blocks;
mod body;
mod cluster;
mod content;
mod export;
mod files;
mod gc;
mod headers;
mod inspect;
mod keys;
mod log;
mod metrics;
mod namespaces;
mod observe;
mod operations;
mod parameters;
mod pins;
mod probes;
mod problem;
mod recover;
mod rubbish;
mod scrub;
mod server;

use parameters::Parameters;
use problem::Problem;
pub use server::serve;

/// The most requests that are served at a time; further ones are answered with 503.
const REQUESTS_MAX: i64 = 1024;
/// The most uploads and downloads at a time, each of which keeps about 8 MiB in memory; further ones are answered with
/// 503.
const TRANSFERS_MAX: usize = 128;
/// As how many of them a stream of many keys counts, in or out, which keeps up to 32 MiB.
const TRANSFERS_OF_STREAM: u32 = 4;
/// Uploads up to this length, in bytes, do not count as transfers.
const SMALL_BODY_BYTES: u64 = 64 << 10;

/// The datastore behind the gateway.
type SharedDatastore = Arc<dyn Datastore>;
/// Held while an upload or download runs.
type Transfer = OwnedSemaphorePermit;

/// What the gateway asks the process that it is part of.
pub trait Health: Send + Sync + 'static {
    /// Whether the node serves; else the reasons why not, for people.
    fn ready(&self) -> Result<(), Vec<String>>;

    /// Further metrics of the node in the text format of OpenMetrics.
    fn metrics(&self) -> String;
}

/// The state that all requests share; cheap to clone.
#[derive(Clone)]
pub struct Gateway(Arc<Shared>);

struct Shared {
    datastore: SharedDatastore,
    files: Files<SharedDatastore>,
    levels: Arc<DefaultLevels>,
    node_header: HeaderValue,
    health: Arc<dyn Health>,
    metrics: metrics::Metrics,
    transfers: Arc<Semaphore>,
    /// Collections that may be run through this gateway: one.
    collections: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway to `datastore`, whose answers name `node`. Requests that name no level are served at quorum.
    pub fn new(datastore: Arc<dyn Datastore>, node: NodeId, health: Arc<dyn Health>) -> Self {
        Self::with_consistency(datastore, node, health, Consistency::default())
    }

    /// The same, with other levels for requests that name none, where a namespace of keys has none of its own.
    pub fn with_consistency(
        datastore: Arc<dyn Datastore>,
        node: NodeId,
        health: Arc<dyn Health>,
        consistency: Consistency,
    ) -> Self {
        Self(Arc::new(Shared {
            files: Files::new(datastore.clone()).with_consistency(consistency),
            levels: Arc::new(DefaultLevels::new(consistency)),
            datastore,
            node_header: headers::value(node.to_string()),
            health,
            metrics: metrics::Metrics::new(),
            transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            collections: Arc::new(Semaphore::new(1)),
        }))
    }

    fn datastore(&self) -> &dyn Datastore {
        &*self.0.datastore
    }

    fn shared_datastore(&self) -> SharedDatastore {
        self.0.datastore.clone()
    }

    /// The levels of requests that name none, and are not about keys.
    fn consistency(&self) -> &Consistency {
        self.0.levels.otherwise()
    }

    /// The levels of requests about keys that name none.
    fn default_levels(&self) -> &Arc<DefaultLevels> {
        &self.0.levels
    }

    /// The levels of a request about flat keys.
    fn levels(&self, parameters: &Parameters) -> Result<Levels, Problem> {
        let named = parameters.given_level()?.map(|level| Consistency::uniform(level).into());
        Ok(named.unwrap_or_else(|| Levels::Default(self.0.levels.clone())))
    }

    /// The levels of a request about a key, flat or of a file.
    async fn levels_of(&self, parameters: &Parameters<'_>, key: &Key) -> Result<Consistency, Problem> {
        let levels = self.levels(parameters)?;
        match key.space() {
            Space::Keys => Ok(levels.of(self.datastore(), key.namespace()).await?),
            Space::Files | Space::Ring => {
                Ok(parameters.given_level()?.map_or(*self.consistency(), Consistency::uniform))
            }
        }
    }

    fn files(&self) -> &Files<SharedDatastore> {
        &self.0.files
    }

    fn node_header(&self) -> HeaderValue {
        self.0.node_header.clone()
    }

    fn health(&self) -> &dyn Health {
        &*self.0.health
    }

    fn metrics(&self) -> &metrics::Metrics {
        &self.0.metrics
    }

    /// Permission to run a collection; an error if one is running.
    fn collection_turn(&self) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.0.collections.clone().try_acquire_owned()
    }

    /// Permission to move content; an error if too many transfers are running.
    fn begin_transfer(&self) -> Result<Transfer, Problem> {
        self.begin_transfers(1)
    }

    /// The same for what keeps as much in memory as `count` transfers.
    fn begin_transfers(&self, count: u32) -> Result<Transfer, Problem> {
        self.0.transfers.clone().try_acquire_many_owned(count).map_err(|_| Problem::busy())
    }

    /// The same, for a body of `length` bytes if that is known: small ones need no permission.
    fn begin_transfer_unless_small(&self, length: Option<u64>) -> Result<Option<Transfer>, Problem> {
        match length {
            Some(..=SMALL_BODY_BYTES) => Ok(None),
            _ => self.begin_transfer().map(Some),
        }
    }
}

/// All routes.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/v1/keys", get(keys::list))
        .route("/v1/keys/", any(keys::empty_key))
        .route("/v1/keys/{*key}", get(keys::read).head(keys::read).put(keys::write).delete(keys::delete))
        .route("/v1/log/{*key}", get(log::read))
        .route("/v1/stat/{*key}", get(inspect::stat))
        .route("/v1/leader/{*key}", get(inspect::leader))
        .route("/v1/locate/{*key}", get(inspect::locate))
        .route("/v1/batch", post(batch::run))
        .route("/v1/export", get(export::run))
        .route("/v1/blocks", post(blocks::post))
        .route("/v1/blocks/", any(blocks::empty_hash))
        .route("/v1/blocks/{*hash}", get(blocks::read).head(blocks::read).put(blocks::put).delete(blocks::delete))
        .route("/v1/locate-block/{*hash}", get(blocks::locate))
        .route("/v1/files", get(files::read).head(files::read))
        .route("/v1/files/", get(files::read).head(files::read).put(files::write).delete(files::delete))
        .route("/v1/files/{*path}", get(files::read).head(files::read).put(files::write).delete(files::delete))
        .route("/v1/operations/{id}", get(operations::outcome))
        .route("/v1/namespaces", get(namespaces::list))
        // The default namespace, whose name is empty. Deleting all of its keys by leaving out a name would be too easy.
        .route("/v1/namespaces/", get(namespaces::read).head(namespaces::read).put(namespaces::write))
        .route(
            "/v1/namespaces/{name}",
            get(namespaces::read).head(namespaces::read).put(namespaces::write).delete(namespaces::delete),
        )
        .route("/v1/pins", get(pins::list).post(pins::post))
        .route("/v1/pins/{*hash}", get(pins::read).head(pins::read).put(pins::put).delete(pins::delete))
        .route("/v1/ring", get(cluster::ring))
        .route("/v1/leave", post(cluster::leave))
        .route("/v1/recover", get(recover::look).post(recover::recover))
        .route("/v1/dump", get(cluster::dump))
        .route("/v1/gc", post(gc::start))
        .route("/v1/scrub", get(scrub::look).post(scrub::start))
        .route("/livez", get(probes::alive))
        .route("/healthz", get(probes::alive))
        .route("/readyz", get(probes::ready))
        .route("/metrics", get(probes::metrics))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(middleware::from_fn_with_state(gateway.clone(), observe::observe))
        .with_state(gateway)
}
