//! Sets up libp2p: TCP, Noise, yamux, and the listening socket.

use std::{future::Future, io, net::SocketAddr, pin::Pin, time::Duration};

use futures::StreamExt;
use libp2p::{
    PeerId, Swarm, Transport,
    core::{muxing::StreamMuxerBox, transport::Boxed, upgrade::Version},
    noise,
    swarm::{self, SwarmEvent},
    tcp, yamux,
};
use tokio_util::task::TaskTracker;

use crate::{
    Config, NetError,
    address::{multiaddr_of, socket_of},
    behaviour::Behaviour,
};

/// Time to connect, encrypt and agree on multiplexing.
const SETUP_TIME_MAX: Duration = Duration::from_secs(5);
/// A connection without a stream is closed after this time.
const IDLE_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection carries one stream; the rest is room for a remote's mistakes.
const STREAMS_MAX: usize = 8;

/// A swarm whose tasks all belong to `tasks`.
pub(crate) fn swarm(config: &Config, tasks: &TaskTracker) -> Result<Swarm<Behaviour>, NetError> {
    let tasks = tasks.clone();
    let spawn = move |task: Pin<Box<dyn Future<Output = ()> + Send>>| {
        tasks.spawn(task);
    };
    let settings = swarm::Config::with_executor(spawn).with_idle_connection_timeout(IDLE_TIME_MAX);
    let peer = config.identity.keypair().public().to_peer_id();
    Ok(Swarm::new(transport(config)?, Behaviour::new(config), peer, settings))
}

fn transport(config: &Config) -> Result<Boxed<(PeerId, StreamMuxerBox)>, NetError> {
    let noise =
        noise::Config::new(config.identity.keypair()).map_err(|error| NetError::Setup(format!("noise: {error}")))?;
    Ok(tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(Version::V1Lazy)
        .authenticate(noise)
        .multiplex(multiplexing())
        .timeout(SETUP_TIME_MAX)
        .boxed())
}

fn multiplexing() -> yamux::Config {
    let mut multiplexing = yamux::Config::default();
    multiplexing.set_max_num_streams(STREAMS_MAX);
    multiplexing
}

/// Starts to listen, and waits until the address is known.
pub(crate) async fn listen(swarm: &mut Swarm<Behaviour>, wanted: SocketAddr) -> Result<SocketAddr, NetError> {
    refuse_used_port(wanted).await?;
    swarm.listen_on(multiaddr_of(wanted)).map_err(|error| match error {
        libp2p::TransportError::Other(source) => listen_error(wanted, source),
        other => listen_error(wanted, io::Error::other(other.to_string())),
    })?;
    let bound = tokio::time::timeout(SETUP_TIME_MAX, bound_port(swarm))
        .await
        .map_err(|_| listen_error(wanted, io::ErrorKind::TimedOut.into()))?
        .map_err(|source| listen_error(wanted, source))?;
    Ok(SocketAddr::new(wanted.ip(), bound))
}

/// libp2p listens with SO_REUSEPORT, with which two processes of one user share a port without noticing. A socket
/// without it cannot be bound while another listens, so it finds out.
async fn refuse_used_port(wanted: SocketAddr) -> Result<(), NetError> {
    if wanted.port() != 0 {
        tokio::net::TcpListener::bind(wanted).await.map_err(|source| listen_error(wanted, source))?;
    }
    Ok(())
}

fn listen_error(address: SocketAddr, source: io::Error) -> NetError {
    match source.kind() {
        io::ErrorKind::AddrInUse => NetError::AddressInUse(address),
        _ => NetError::Listen { address, source },
    }
}

/// When listening on "any" address there is one report per interface, all with one port.
async fn bound_port(swarm: &mut Swarm<Behaviour>) -> io::Result<u16> {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => {
                let socket = socket_of(&address).ok_or_else(|| io::Error::other("the address is not TCP"))?;
                return Ok(socket.port());
            }
            SwarmEvent::ListenerClosed { reason, .. } => {
                return Err(reason.err().unwrap_or_else(|| io::Error::other("the listener was closed")));
            }
            _ => {}
        }
    }
}
