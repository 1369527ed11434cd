//! The dialler's side of setting up a link.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use difuse_types::NodeId;
use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;

use crate::{
    Class, NetError, Role, address,
    driver::Line,
    handshake::{self, HandshakeError},
    link::{self, Established},
    message::VERSION,
    peers::Direction,
    shared::{Shared, lock},
};

/// Time that each of the two handshakes may take.
pub(crate) const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Time that the other side has to read why it was refused.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);

/// Sets up a link to whoever answers at `address`, or only to `expected`.
pub(crate) async fn connect(shared: &Arc<Shared>, address: &str, expected: Option<NodeId>) -> Result<NodeId, NetError> {
    let target = address::resolve(address).await?;
    let mut unreachable = NetError::Unreachable { address: address.to_string(), reason: "no address".into() };
    for socket in target.sockets {
        match connect_socket(shared, socket, expected.or(target.node)).await {
            Err(error @ NetError::Unreachable { .. }) => unreachable = error,
            result => return result,
        }
    }
    Err(unreachable)
}

async fn connect_socket(
    shared: &Arc<Shared>,
    socket: SocketAddr,
    expected: Option<NodeId>,
) -> Result<NodeId, NetError> {
    let ours = shared.party();
    let mut control = shared.dial(socket, expected, Class::Control).await?;
    let node = control.node;
    let greeting = match within_time(handshake::initiate(&mut control.stream, &ours, node)).await {
        Ok(greeting) => greeting,
        Err(error) => return Err(give_up(control, error).await),
    };
    if !has_room(shared, node, greeting.role) {
        return Err(give_up(control, HandshakeError::Full).await);
    }
    let mut bulk = shared.dial(socket, Some(node), Class::Bulk).await?;
    if let Err(error) = within_time(handshake::attach(&mut bulk.stream, greeting.session)).await {
        return Err(give_up(bulk, error).await);
    }
    link::start(shared, Established { direction: Direction::Dialled, greeting, control, bulk }).await;
    Ok(node)
}

/// Whether one more of this role may connect.
pub(crate) fn has_room(shared: &Shared, node: NodeId, role: Role) -> bool {
    let peers = lock(&shared.peers);
    let max = match role {
        Role::Peer => shared.config.peers_max,
        Role::Client => shared.config.clients_max,
    };
    peers.is_connected(node) || peers.count(role) < max
}

pub(crate) async fn within_time<T>(
    handshake: impl Future<Output = Result<T, HandshakeError>>,
) -> Result<T, HandshakeError> {
    tokio::time::timeout(HANDSHAKE_TIME_MAX, handshake).await.unwrap_or(Err(HandshakeError::TimedOut))
}

async fn give_up(line: Line, error: HandshakeError) -> NetError {
    let address = line.address.to_string();
    let error = dismiss(line, error).await;
    match error {
        HandshakeError::Io(_) | HandshakeError::TimedOut | HandshakeError::UnknownSession => {
            NetError::Unreachable { address, reason: error.to_string() }
        }
        HandshakeError::Garbage => NetError::NotDifuse { address, reason: error.to_string() },
        HandshakeError::Version { theirs } => NetError::Version { ours: VERSION, theirs },
        HandshakeError::OtherRing { ours, theirs } => NetError::OtherRing { ours, theirs },
        HandshakeError::WrongSecret => NetError::WrongSecret,
        HandshakeError::Full => NetError::Full,
    }
}

/// Tells the other side why we do not go on, and stays until it has heard or time is up: closing the connection at
/// once could overtake the message.
pub(crate) async fn dismiss(mut line: Line, error: HandshakeError) -> HandshakeError {
    if !matches!(error, HandshakeError::Io(_)) {
        let farewell = async {
            handshake::refuse(&mut line.stream, &error).await;
            // Says that nothing follows, so that two sides that dismiss each other do not wait for each other.
            let _ = line.stream.close().await;
            linger(&mut line.stream).await;
        };
        // Time is up: it does not want to hear.
        let _ = tokio::time::timeout(FAREWELL_TIME_MAX, farewell).await;
    }
    error
}

async fn linger(stream: &mut Stream) {
    let mut ignored = [0; 256];
    while matches!(stream.read(&mut ignored).await, Ok(count) if count > 0) {}
}
