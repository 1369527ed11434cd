//! From a configuration to a running node.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use difuse_keylog::{StoreError, WriteSequence};
use difuse_net::{Class, Event, Identity, Net, NetError, RingTag, Role};
use difuse_protocol::{Peer, PeerOptions, Start, message::Message};
use difuse_storage::{KeyStore, Options, Storage};
use difuse_types::{Hash, Host, Incarnation, Instant, NodeId, RingId, RingSettings};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
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

/// A node whose directory is open and that listens for others, but that has not found its ring yet.
pub struct OpenNode {
    config: NodeConfig,
    storage: Storage,
    net: Net,
    control: mpsc::Receiver<Event>,
    bulk: mpsc::Receiver<Event>,
    /// Nodes that are connected already.
    connected: BTreeSet<NodeId>,
    host: Host,
    seed: [u8; 32],
    known_ring: Option<RingSettings>,
    wakes: mpsc::UnboundedSender<Wake>,
    woken: mpsc::UnboundedReceiver<Wake>,
    progress: watch::Sender<String>,
}

pub(crate) async fn open(config: NodeConfig) -> Result<OpenNode, StartError> {
    let (wakes, woken) = mpsc::unbounded_channel();
    let mut storage = open_storage(&config, wakes.clone()).await?;
    let seed = memory::identity(&mut storage.keys, fresh_seed()?)?;
    let identity = Identity::from_seed(seed);
    let incarnation = Incarnation(memory::next_incarnation(&mut storage.keys)?);
    let known_ring = memory::ring(&storage.keys)?;
    let (net, control, bulk) = listen(&config, identity, known_ring).await?;
    let host = describe(&config, &net, incarnation)?;
    let progress = watch::Sender::new("starting".to_string());
    let connected = BTreeSet::new();
    Ok(OpenNode { config, storage, net, control, bulk, connected, host, seed, known_ring, wakes, woken, progress })
}

impl OpenNode {
    /// Its identity.
    pub fn id(&self) -> NodeId {
        self.host.node
    }

    /// What it is waiting for, for people.
    pub fn progress(&self) -> watch::Receiver<String> {
        self.progress.subscribe()
    }

    /// Founds, joins or resumes a ring. Joining retries until one of the peers answers.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(mut self) -> Result<Node, StartError> {
        let (settings, begin) = self.find_ring().await?;
        let Self { config, mut storage, net, control, bulk, connected, host, seed, known_ring, wakes, woken, .. } =
            self;
        if known_ring.is_none() {
            memory::remember_ring(&mut storage.keys, &settings)?;
            net.set_ring(RingTag(Some(settings.id)));
        } else {
            redial(&config, &net, &wakes);
        }
        let options = PeerOptions {
            suspect_after: config.suspect_after,
            gone_after: config.gone_after,
            scrub_rate: config.scrub_rate,
            tombstones_kept: config.tombstones_kept,
            ..PeerOptions::default()
        };
        let clock = Clock::new();
        let random = Hash::of(&[&seed[..], &host.incarnation.0.to_le_bytes()].concat());
        let random = u64::from_le_bytes(first_eight(&random));
        let peer = Peer::new(host.clone(), settings, options, begin, storage.keys, Instant(0), random)?;
        let blocks = storage.blocks;
        run(host, net, control, bulk, Parts { peer, blocks, connected, wakes, woken, clock })
    }

    async fn find_ring(&mut self) -> Result<(RingSettings, Start), StartError> {
        match self.known_ring {
            Some(settings) => Ok((settings, Start::Resume(memory::hosts(&self.storage.keys)?))),
            None if self.config.join.is_empty() => Ok((found(&self.config, &self.host)?, Start::Found)),
            None => {
                let (settings, hosts) = self.join().await?;
                Ok((settings, Start::Join(hosts)))
            }
        }
    }

    /// Asks the given peers, one after the other and again, for what a member must know.
    async fn join(&mut self) -> Result<(RingSettings, Vec<Host>), StartError> {
        let mut pause = JOIN_PAUSE.0;
        loop {
            for address in self.config.join.clone() {
                match self.join_through(&address).await {
                    Ok(welcome) => return Ok(welcome),
                    Err(source) if is_final(&source) => return Err(StartError::Join { address, source }),
                    Err(error) => {
                        tracing::warn!(address, %error, ?pause, "cannot join yet; trying again");
                        self.progress.send_replace(format!("joining through {address}: {error}"));
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(JOIN_PAUSE.1);
        }
    }

    async fn join_through(&mut self, address: &str) -> Result<(RingSettings, Vec<Host>), NetError> {
        self.progress.send_replace(format!("joining through {address}: waiting for its answer"));
        let peer = self.connect(address).await?;
        let introduce = difuse_wire::encode(&[Message::Introduce { host: self.host.clone() }]);
        // Whether it was sent shows in the answer.
        let _ = self.net.send(peer, Class::Control, introduce);
        let silent = || {
            let reason = "it is connected, but does not answer".into();
            NetError::Unreachable { address: address.to_string(), reason }
        };
        self.await_welcome().await.ok_or_else(silent)
    }

    /// Connects while reading events, as the transport asks for.
    async fn connect(&mut self, address: &str) -> Result<NodeId, NetError> {
        let net = self.net.clone();
        let connecting = net.connect(address);
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                result = &mut connecting => return result,
                event = self.control.recv() => self.note_event(&event.ok_or(NetError::Closed)?),
            }
        }
    }

    async fn await_welcome(&mut self) -> Option<(RingSettings, Vec<Host>)> {
        let waiting = async {
            while let Some(event) = self.control.recv().await {
                self.note_event(&event);
                let Event::Frame { frame, .. } = event else { continue };
                if let Some(welcome) = find_welcome(&frame) {
                    return Some(welcome);
                }
            }
            None
        };
        tokio::time::timeout(WELCOME_TIMEOUT, waiting).await.ok().flatten()
    }

    /// Who is connected is told only once, and of use when the node runs.
    fn note_event(&mut self, event: &Event) {
        match event {
            Event::Connected { node, role: Role::Peer, .. } => drop(self.connected.insert(*node)),
            Event::Disconnected { node } => drop(self.connected.remove(node)),
            Event::Connected { .. } | Event::Frame { .. } => {}
        }
    }
}

struct Parts {
    peer: Peer<KeyStore>,
    blocks: difuse_storage::BlockStore,
    connected: BTreeSet<NodeId>,
    wakes: mpsc::UnboundedSender<Wake>,
    woken: mpsc::UnboundedReceiver<Wake>,
    clock: Clock,
}

fn run(
    host: Host,
    net: Net,
    control: mpsc::Receiver<Event>,
    bulk: mpsc::Receiver<Event>,
    parts: Parts,
) -> Result<Node, StartError> {
    let (calls, called) = mpsc::channel(CALLS_MAX);
    let (readiness_sender, readiness) = watch::channel(vec!["starting".to_string()]);
    let (stopped_sender, stopped) = watch::channel(None);
    let stop = CancellationToken::new();
    let shared = Arc::new(Shared::default());
    let address = net.local_address().unwrap_or_else(|| ([0, 0, 0, 0], 0).into());
    let mut runtime =
        Runtime::new(parts.peer, parts.blocks, net.clone(), shared.clone(), parts.wakes, parts.clock, readiness_sender)
            .map_err(|error| StartError::System(error.to_string()))?;
    parts.connected.into_iter().for_each(|node| runtime.note_connected(node));
    let ended = stop.clone();
    tokio::spawn(runtime.run(control, bulk, called, parts.woken, ended, stopped_sender));
    Ok(Node { id: host.node, address, calls, net, shared, readiness, stopped, stop })
}

async fn open_storage(config: &NodeConfig, wakes: mpsc::UnboundedSender<Wake>) -> Result<Storage, StartError> {
    let path = config.data_dir.clone();
    let options = Options { reserve_bytes: config.keep_free, ..Options::default() };
    let report = move |result: Result<WriteSequence, StoreError>| {
        // The receiver is gone only when the node stops.
        let _ = wakes.send(match result {
            Ok(sequence) => Wake::Durable(sequence),
            Err(error) => Wake::Failed(error),
        });
    };
    let opening = tokio::task::spawn_blocking(move || Storage::open(&path, &options, Box::new(report)));
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

fn find_welcome(frame: &Bytes) -> Option<(RingSettings, Vec<Host>)> {
    difuse_wire::decode(frame).ok()?.into_iter().find_map(|message| match message {
        Message::Welcome { settings, hosts } => Some((settings, hosts)),
        _ => None,
    })
}

/// A restarted node knows where its peers were; the ones it is told to join through may know better, and are tried
/// until they answer: the others may all have moved. If all of them are of another ring, it is not wanted there.
fn redial(config: &NodeConfig, net: &Net, wakes: &mpsc::UnboundedSender<Wake>) {
    let mut dials = JoinSet::new();
    for address in config.join.clone() {
        let net = net.clone();
        dials.spawn(async move {
            let mut pause = JOIN_PAUSE.0;
            loop {
                let error = net.connect(&address).await.err()?;
                if pause < JOIN_PAUSE.1 {
                    tracing::warn!(address, %error, ?pause, "cannot reach a peer that was given to join through");
                } else {
                    // It may have gone for good, and this node does without it.
                    tracing::debug!(address, %error, ?pause, "cannot reach a peer that was given to join through");
                }
                if is_final(&error) || matches!(error, NetError::Closed) {
                    return Some((address, error.to_string(), matches!(error, NetError::OtherRing { .. })));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(JOIN_PAUSE.1);
            }
        });
    }
    let (data_dir, wakes) = (config.data_dir.display().to_string(), wakes.clone());
    tokio::spawn(async move {
        let failures: Vec<_> = dials.join_all().await;
        // One that is of the same ring, or may be, is enough.
        if let Some(Some((address, error, _))) = failures.first()
            && failures.iter().all(|failure| matches!(failure, Some((_, _, true))))
        {
            let reason = format!(
                "{data_dir} belongs to another ring than {address} ({error}): give this node a --data-dir of its own \
                 to join there, or start it without --join to go on in its ring"
            );
            // The receiver is gone only when the node stops.
            let _ = wakes.send(Wake::Refused(reason));
        }
    });
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
