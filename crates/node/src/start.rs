//! From a configuration to a running node.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use difuse_keylog::{StoreError, WriteSequence};
use difuse_net::{Class, Event, Identity, Net, NetError, RingTag};
use difuse_protocol::{Peer, PeerOptions, Start, message::Message};
use difuse_storage::{KeyStore, Options, Storage};
use difuse_types::{Hash, Host, Incarnation, Instant, RingId, RingSettings};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    Node, NodeConfig, StartError,
    handle::Shared,
    memory,
    runtime::{Clock, Runtime, Wake},
};

/// How many calls of this process wait for the state machine.
const CALLS_MAX: usize = 4096;
/// For how long a peer to join through is waited for once it is connected.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);
/// The first and the longest pause between attempts to join.
const JOIN_PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

pub(crate) async fn start(config: NodeConfig) -> Result<Node, StartError> {
    let (wakes, woken) = mpsc::unbounded_channel();
    let mut storage = open(&config, wakes.clone()).await?;
    let seed = memory::identity(&mut storage.keys, fresh_seed()?)?;
    let identity = Identity::from_seed(seed);
    let incarnation = Incarnation(memory::next_incarnation(&mut storage.keys)?);
    let known_ring = memory::ring(&storage.keys)?;
    let (net, mut control, bulk) = listen(&config, identity, known_ring).await?;
    let host = describe(&config, &net, incarnation)?;
    let (settings, begin) = match known_ring {
        Some(settings) => (settings, Start::Resume(memory::hosts(&storage.keys)?)),
        None if config.join.is_empty() => (found(&config, &host)?, Start::Found),
        None => {
            let (settings, hosts) = join(&config, &net, &mut control, &host).await?;
            (settings, Start::Join(hosts))
        }
    };
    if known_ring.is_none() {
        memory::remember_ring(&mut storage.keys, &settings)?;
        net.set_ring(RingTag(Some(settings.id)));
    }
    if known_ring.is_some() {
        redial(&config, &net);
    }
    let options =
        PeerOptions { suspect_after: config.suspect_after, gone_after: config.gone_after, ..PeerOptions::default() };
    let clock = Clock::new();
    let random = Hash::of(&[&seed[..], &incarnation.0.to_le_bytes()].concat());
    let random = u64::from_le_bytes(first_eight(&random));
    let peer = Peer::new(host.clone(), settings, options, begin, storage.keys, Instant(0), random)?;
    Ok(run(host, net, control, bulk, Parts { peer, blocks: storage.blocks, wakes, woken, clock }))
}

struct Parts {
    peer: Peer<KeyStore>,
    blocks: difuse_storage::BlockStore,
    wakes: mpsc::UnboundedSender<Wake>,
    woken: mpsc::UnboundedReceiver<Wake>,
    clock: Clock,
}

fn run(host: Host, net: Net, control: mpsc::Receiver<Event>, bulk: mpsc::Receiver<Event>, parts: Parts) -> Node {
    let (calls, called) = mpsc::channel(CALLS_MAX);
    let (readiness_sender, readiness) = watch::channel(vec!["starting".to_string()]);
    let (stopped_sender, stopped) = watch::channel(None);
    let stop = CancellationToken::new();
    let shared = Arc::new(Shared::default());
    let address = net.local_address().unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    let runtime =
        Runtime::new(parts.peer, parts.blocks, net, shared.clone(), parts.wakes, parts.clock, readiness_sender);
    let ended = stop.clone();
    tokio::spawn(runtime.run(control, bulk, called, parts.woken, ended, stopped_sender));
    Node { id: host.node, address, calls, shared, readiness, stopped, stop }
}

async fn open(config: &NodeConfig, wakes: mpsc::UnboundedSender<Wake>) -> Result<Storage, StartError> {
    let path = config.data_dir.clone();
    let report = move |result: Result<WriteSequence, StoreError>| {
        // The receiver is gone only when the node stops.
        let _ = wakes.send(match result {
            Ok(sequence) => Wake::Durable(sequence),
            Err(error) => Wake::Failed(error),
        });
    };
    let opening = tokio::task::spawn_blocking(move || Storage::open(&path, &Options::default(), Box::new(report)));
    Ok(opening.await.map_err(|error| StartError::System(error.to_string()))??)
}

async fn listen(
    config: &NodeConfig,
    identity: Identity,
    ring: Option<RingSettings>,
) -> Result<(Net, mpsc::Receiver<Event>, mpsc::Receiver<Event>), StartError> {
    let mut net = difuse_net::Config::new(identity);
    net.listen = Some(config.bind);
    net.ring = RingTag(ring.map(|settings| settings.id));
    net.secret = config.secret;
    net.frame_bytes_max = difuse_wire::limits::FRAME_BYTES_MAX;
    Ok(Net::start(net).await?)
}

fn describe(config: &NodeConfig, net: &Net, incarnation: Incarnation) -> Result<Host, StartError> {
    let bound = net.local_address().unwrap_or(config.bind);
    let address = match &config.advertise {
        Some(address) => address.clone(),
        None if bound.ip().is_unspecified() => return Err(StartError::Advertise(bound)),
        None => bound.to_string(),
    };
    let node = net.node();
    Ok(Host {
        node,
        incarnation,
        address,
        http: config.http.clone(),
        zone: config.zone.clone(),
        label: config.host_label.clone().unwrap_or_else(|| node.to_string()),
    })
}

fn found(config: &NodeConfig, host: &Host) -> Result<RingSettings, StartError> {
    let fresh = fresh_seed()?;
    let id = RingId(Hash::of(&[&host.node.0[..], &fresh].concat()));
    let founding = config.founding;
    let settings = RingSettings::new(id, founding.replicas, founding.slots, founding.virtual_nodes)?;
    tracing::info!(ring = %id, replicas = settings.replicas, slots = settings.slots.count(), "founded a ring");
    Ok(settings)
}

/// Asks the given peers, one after the other and again, for what a member must know.
async fn join(
    config: &NodeConfig,
    net: &Net,
    control: &mut mpsc::Receiver<Event>,
    host: &Host,
) -> Result<(RingSettings, Vec<Host>), StartError> {
    let mut pause = JOIN_PAUSE.0;
    loop {
        for address in &config.join {
            match connect(net, control, address).await {
                Ok(peer) => {
                    let introduce = difuse_wire::encode(&[Message::Introduce { host: host.clone() }]);
                    let _ = net.send(peer, Class::Control, introduce);
                    if let Some(welcome) = await_welcome(control).await {
                        return Ok(welcome);
                    }
                    tracing::warn!(address, "the peer to join through does not answer; trying again");
                }
                Err(error) if is_final(&error) => {
                    return Err(StartError::Join { address: address.clone(), source: error });
                }
                Err(error) => tracing::warn!(address, %error, ?pause, "cannot join yet; trying again"),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(JOIN_PAUSE.1);
    }
}

/// Connects while reading events, as the transport asks for.
async fn connect(
    net: &Net,
    control: &mut mpsc::Receiver<Event>,
    address: &str,
) -> Result<difuse_types::NodeId, NetError> {
    let connecting = net.connect(address);
    tokio::pin!(connecting);
    loop {
        tokio::select! {
            result = &mut connecting => return result,
            event = control.recv() => if event.is_none() { return Err(NetError::Closed) },
        }
    }
}

/// Whether trying again cannot help.
fn is_final(error: &NetError) -> bool {
    matches!(
        error,
        NetError::OtherRing { .. }
            | NetError::WrongSecret
            | NetError::Version { .. }
            | NetError::Ourselves
            | NetError::Address { .. }
    )
}

async fn await_welcome(control: &mut mpsc::Receiver<Event>) -> Option<(RingSettings, Vec<Host>)> {
    let waiting = async {
        while let Some(event) = control.recv().await {
            let Event::Frame { frame, .. } = event else { continue };
            if let Some(welcome) = find_welcome(&frame) {
                return Some(welcome);
            }
        }
        None
    };
    tokio::time::timeout(WELCOME_TIMEOUT, waiting).await.ok().flatten()
}

fn find_welcome(frame: &Bytes) -> Option<(RingSettings, Vec<Host>)> {
    difuse_wire::decode(frame).ok()?.into_iter().find_map(|message| match message {
        Message::Welcome { settings, hosts } => Some((settings, hosts)),
        _ => None,
    })
}

/// A restarted node knows where its peers were; the ones it is told to join through may know better.
fn redial(config: &NodeConfig, net: &Net) {
    for address in config.join.clone() {
        let net = net.clone();
        tokio::spawn(async move {
            if let Err(error) = net.connect(&address).await {
                tracing::warn!(address, %error, "cannot reach a peer that was given to join through");
            }
        });
    }
}

fn fresh_seed() -> Result<[u8; 32], StartError> {
    let identity = Identity::generate().map_err(|error| StartError::System(error.to_string()))?;
    Ok(identity.to_seed())
}

fn first_eight(hash: &Hash) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.0[..8]);
    bytes
}
