//! One node: the ring's side, and the gateways for HTTP and for clients of Redis.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use difuse_api::{
    Datastore,
    notice::Notice,
    request::{Reply, Request, RequestError},
    structures::Registry,
};
use difuse_gateway::{
    http::{self, Gateway, Health},
    resp,
};
use difuse_net::NetError;
use difuse_node::{Node, OpenNode, StartError, StopReason};
use difuse_types::NodeId;
use futures::{FutureExt, future::BoxFuture};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use super::{
    collection,
    exit::Failure,
    open_files, quotas,
    settings::DaemonConfig,
    signals::{asked_to_stop, standard_input_ended},
};

/// Runs a node until it is asked to stop, or has to. HTTP answers as soon as the directory is open: while the node looks
/// for its ring, with what it waits for.
pub async fn run(config: DaemonConfig, stop_with_stdin: bool) -> Result<(), Failure> {
    let listener = listen("the HTTP gateway", config.http, "--http").await?;
    let resp_listener = match config.resp {
        Some(address) => Some(listen("the Redis gateway", address, "--resp (or off)").await?),
        None => None,
    };
    let mut stop = std::pin::pin!(stop_requested(stop_with_stdin));
    let open = tokio::select! {
        biased;
        reason = &mut stop => return stopped_early(reason),
        open = Node::open(config.node.clone()) => open.map_err(|error| failure_of(error, &config))?,
    };
    let front = Arc::new(Front { node: OnceLock::new(), progress: open.progress(), resp: OnceLock::new() });
    let gateways = Gateways::start(&front, open.id(), &config, listener, resp_listener);
    let outcome = tokio::select! {
        biased;
        reason = &mut stop => stopped_early(reason),
        started = start(open, &config) => match started {
            Ok(node) => {
                let node = front.node.get_or_init(|| node);
                if let Some(gateway) = front.resp.get() {
                    relay(gateway.clone(), node);
                }
                serve(front.clone(), node, &config, stop).await
            }
            Err(failure) => Err(failure),
        },
    };
    gateways.stop().await;
    if let Some(node) = front.node.get() {
        node.shutdown().await;
    }
    tracing::info!("stopped");
    outcome
}

/// What clients talk to.
struct Gateways {
    stop: watch::Sender<bool>,
    serving: Vec<(&'static str, JoinHandle<io::Result<()>>)>,
}

impl Gateways {
    fn start(
        front: &Arc<Front>,
        node: NodeId,
        config: &DaemonConfig,
        listener: TcpListener,
        resp_listener: Option<TcpListener>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let is_stopped = || {
            let mut stopped = stopped.clone();
            // An error says that nobody can stop them any more: then they end, too.
            async move { drop(stopped.wait_for(|is_stopped| *is_stopped).await) }
        };
        let gateway = Gateway::with_consistency(front.clone(), node, front.clone(), config.consistency);
        let mut serving = vec![("HTTP", tokio::spawn(http::serve(listener, gateway, is_stopped())))];
        if let Some(listener) = resp_listener {
            let registry = Arc::new(Registry::builtin());
            let mut settings = config.resp_settings.clone();
            if let Some(most) = open_files::raise_limit().filter(|most| *most < settings.clients_max) {
                tracing::warn!(most, "the limit of open files allows fewer clients of Redis than usual: see ulimit -n");
                settings.clients_max = most;
            }
            let gateway = resp::Gateway::new(front.clone(), node, registry, settings);
            let gateway = front.resp.get_or_init(|| gateway).clone();
            serving.push(("Redis", tokio::spawn(resp::serve(listener, gateway, is_stopped()))));
        }
        Self { stop, serving }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        for (name, serving) in self.serving {
            match serving.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the {name} gateway ended with an error"),
                Err(error) => tracing::warn!(%error, "the {name} gateway ended unexpectedly"),
            }
        }
    }
}

fn stopped_early(reason: &str) -> Result<(), Failure> {
    tracing::info!(reason, "stopped before the node was up");
    Ok(())
}

/// The node has found its ring.
async fn serve(
    datastore: Arc<dyn Datastore>,
    node: &Node,
    config: &DaemonConfig,
    stop: impl Future<Output = &'static str>,
) -> Result<(), Failure> {
    let address = node.local_address();
    tracing::info!(node = %node.id(), ring = %address, http = %config.http, redis = config.resp.map(|address| address.to_string()).as_deref().unwrap_or("off"), data = %config.node.data_dir.display(), "the node runs");
    tokio::select! {
        reason = stop => {
            tracing::info!(reason, "stopping");
            Ok(())
        }
        never = collection::run(datastore, node.id(), config.gc_every) => match never {},
        never = quotas::run(node.clone()) => match never {},
        reason = failed(node) => Err(match reason {
            StopReason::Failed(reason) => Failure::Stopped(reason),
            StopReason::Refused(reason) => Failure::Refused(reason),
        }),
    }
}

/// Carries what the gateways for clients of Redis tell each other, until the node stops.
fn relay(gateway: resp::Gateway, node: &Node) {
    gateway.set_relay(Box::new(Relay(node.clone())));
    let mut notices = node.notices();
    tokio::spawn(async move {
        while let Some((from, notice)) = notices.recv().await {
            gateway.take_notice(from, notice);
        }
    });
}

struct Relay(Node);

impl resp::Relay for Relay {
    fn tell_all(&self, notice: Notice) {
        self.0.tell_all(notice);
    }

    fn tell(&self, node: NodeId, notice: Notice) {
        self.0.tell(node, notice);
    }
}

/// The node as the gateway sees it, from before it has found its ring.
struct Front {
    node: OnceLock<Node>,
    /// What it waits for until then.
    progress: watch::Receiver<String>,
    /// The gateway for clients of Redis, if there is one.
    resp: OnceLock<resp::Gateway>,
}

impl Datastore for Front {
    /// As the macro has it, but for a second future around the node's.
    fn call<'a, 'b>(&'a self, request: Request) -> BoxFuture<'b, Result<Reply, RequestError>>
    where
        'a: 'b,
        Self: 'b,
    {
        match self.node.get() {
            Some(node) => node.call(request),
            None => std::future::ready(Err(RequestError::NotServing(self.progress.borrow().clone()))).boxed(),
        }
    }
}

impl Health for Front {
    fn ready(&self) -> Result<(), Vec<String>> {
        self.node.get().map_or_else(|| Err(vec![self.progress.borrow().clone()]), Node::ready)
    }

    fn metrics(&self) -> String {
        let figures = self.node.get().map(Node::figures).unwrap_or_default();
        let scrub = figures.scrub;
        let resp = self.resp.get().map(resp::Gateway::metrics).unwrap_or_default();
        let node = [
            ("batches", "Batches that the state machine has dealt with.", figures.batches),
            ("inputs", "Inputs in those batches.", figures.inputs),
            ("frames_received", "Frames received from other nodes and from clients.", figures.frames_received),
            ("messages_sent", "Messages sent to them.", figures.messages_sent),
            ("notices_dropped", "Messages of channels and the like that were lost.", figures.notices_dropped),
            ("scrub_transactions", "Transactions read again and checked.", scrub.transactions),
            ("scrub_blocks", "Blocks read again and checked.", scrub.blocks),
            ("scrub_bytes", "Bytes of both.", scrub.bytes),
            ("scrub_damaged", "Keys and blocks found damaged by that.", scrub.damaged),
            ("scrub_repaired", "Of those, the ones repaired.", scrub.repaired),
            ("scrub_unrepaired", "Of those, the ones that could not be repaired.", scrub.unrepaired),
        ]
        .map(|(name, help, count)| {
            let name = format!("difuse_node_{name}");
            format!("# HELP {name} {help}\n# TYPE {name} counter\n{name}_total {count}\n")
        });
        resp + &node.concat()
    }
}

async fn listen(what: &'static str, address: SocketAddr, flag: &'static str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::PortTaken { what, address, flag },
        _ => Failure::Other(format!("{what} cannot listen on {address}: {error}")),
    })
}

async fn stop_requested(stop_with_stdin: bool) -> &'static str {
    let input = async { if stop_with_stdin { standard_input_ended().await } else { std::future::pending().await } };
    tokio::select! {
        reason = asked_to_stop() => reason,
        () = input => "standard input ended",
    }
}

/// Resolves only when the node had to stop by itself.
async fn failed(node: &Node) -> StopReason {
    match node.stopped().await {
        Some(reason) => reason,
        None => std::future::pending().await,
    }
}

/// Finds the node's ring. While nobody answers at the addresses to join, it goes on trying, for ever unless told
/// otherwise.
async fn start(open: OpenNode, config: &DaemonConfig) -> Result<Node, Failure> {
    let limit = config.join_timeout.unwrap_or(Duration::MAX);
    match timeout(limit, open.start()).await {
        Ok(node) => node.map_err(|error| failure_of(error, config)),
        Err(_) => {
            let addresses = config.node.join.join(", ");
            Err(Failure::Refused(format!("gave up joining after {limit:?}: no member answered at {addresses}")))
        }
    }
}

fn failure_of(error: StartError, config: &DaemonConfig) -> Failure {
    let text = error.to_string();
    match error {
        StartError::Net(NetError::AddressInUse(address)) => {
            Failure::PortTaken { what: "the node", address, flag: "--bind" }
        }
        StartError::Open(_) | StartError::Store(_) | StartError::Memory(_) => {
            Failure::Directory(format!("data directory {}: {text}", config.node.data_dir.display()))
        }
        StartError::Join { .. } => Failure::Refused(text),
        StartError::Settings(_) | StartError::Advertise(_) => Failure::Unusable(text),
        StartError::Net(_) | StartError::System(_) => Failure::Other(text),
    }
}
