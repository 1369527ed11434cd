//! The task that owns the swarm: dials, accepts, closes.

use std::{collections::HashMap, error::Error, io, net::SocketAddr, sync::Arc};

use difuse_types::NodeId;
use futures::StreamExt;
use libp2p::{
    Stream, Swarm,
    core::ConnectedPoint,
    swarm::{
        ConnectionId, DialError, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Class, NetError,
    accept::accept,
    address::{multiaddr_of, socket_of},
    behaviour::{Behaviour, BehaviourEvent, LineEvent},
    handler::HandlerEvent,
    identity::{node_of, peer_of},
    shared::Shared,
};

/// Commands that may wait for the driver.
pub(crate) const COMMANDS_MAX: usize = 1024;

/// What the driver is asked to do.
pub(crate) enum Command {
    /// Connect and open a stream.
    Dial { socket: SocketAddr, node: Option<NodeId>, class: Class, reply: oneshot::Sender<Result<Line, NetError>> },
    /// Close a connection.
    Close(ConnectionId),
}

/// A connection to a node, with its one stream. Dropping it closes the connection.
pub(crate) struct Line {
    pub node: NodeId,
    pub address: SocketAddr,
    pub stream: Stream,
    pub closer: Closer,
}

/// Closes a connection when dropped.
pub(crate) struct Closer {
    connection: ConnectionId,
    commands: mpsc::Sender<Command>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        // If there is no room, the connection is closed a little later: it has no stream any more.
        let _ = self.commands.try_send(Command::Close(self.connection));
    }
}

struct Dialling {
    socket: SocketAddr,
    expected: Option<NodeId>,
    reply: oneshot::Sender<Result<Line, NetError>>,
}

pub(crate) struct Driver {
    pub swarm: Swarm<Behaviour>,
    pub commands: mpsc::Receiver<Command>,
    pub shared: Arc<Shared>,
    dialling: HashMap<ConnectionId, Dialling>,
    /// Where the connections come from that are there.
    remotes: HashMap<ConnectionId, SocketAddr>,
}

impl Driver {
    pub(crate) fn new(swarm: Swarm<Behaviour>, commands: mpsc::Receiver<Command>, shared: Arc<Shared>) -> Self {
        Self { swarm, commands, shared, dialling: HashMap::new(), remotes: HashMap::new() }
    }

    /// Runs until the transport is shut down; then all connections are dropped.
    pub(crate) async fn run(mut self) {
        let stop = self.shared.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(command) = self.commands.recv() => self.handle_command(command),
                event = self.swarm.select_next_some() => self.handle_event(event),
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Dial { socket, node, class, reply } => {
                self.dial(Dialling { socket, expected: node, reply }, class);
            }
            Command::Close(connection) => {
                self.swarm.close_connection(connection);
            }
        }
    }

    fn dial(&mut self, dialling: Dialling, class: Class) {
        let address = multiaddr_of(dialling.socket);
        let options: DialOpts = match dialling.expected {
            Some(node) => DialOpts::peer_id(peer_of(node))
                .condition(PeerCondition::Always)
                .addresses(vec![address])
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id().address(address).allocate_new_port().build(),
        };
        let connection = options.connection_id();
        self.swarm.behaviour_mut().lines.expect(connection, class);
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dialling.insert(connection, dialling);
            }
            Err(error) => {
                self.swarm.behaviour_mut().lines.forget(connection);
                fail(dialling, &error);
            }
        }
    }

    fn handle_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Lines(event)) => self.handle_line(event),
            SwarmEvent::ConnectionEstablished { connection_id, endpoint, .. } => {
                self.handle_established(connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => self.handle_closed(connection_id),
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                if let Some(dialling) = self.dialling.remove(&connection_id) {
                    fail(dialling, &error);
                }
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                tracing::debug!(from = %send_back_addr, %error, "a connection was not set up");
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "accepting connections failed"),
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => tracing::error!(%error, "no longer listening"),
            _ => {}
        }
    }

    fn handle_established(&mut self, connection: ConnectionId, endpoint: &ConnectedPoint) {
        if let Some(socket) = socket_of(endpoint.get_remote_address()) {
            self.remotes.insert(connection, socket);
        }
    }

    fn handle_closed(&mut self, connection: ConnectionId) {
        self.remotes.remove(&connection);
        if let Some(Dialling { socket, reply, .. }) = self.dialling.remove(&connection) {
            let reason = "the connection was closed at once".into();
            // The caller may have given up.
            let _ = reply.send(Err(NetError::Unreachable { address: socket.to_string(), reason }));
        }
    }

    fn handle_line(&mut self, LineEvent { peer, connection, event }: LineEvent) {
        let closer = Closer { connection, commands: self.shared.commands.clone() };
        let (Some(node), Some(address)) = (node_of(&peer), self.remotes.get(&connection).copied()) else {
            return;
        };
        match event {
            HandlerEvent::Accepted(class, stream) => {
                let line = Line { node, address, stream, closer };
                self.shared.tasks.spawn(accept(self.shared.clone(), class, line));
            }
            HandlerEvent::Opened(stream) => {
                if let Some(dialling) = self.dialling.remove(&connection) {
                    // A caller that has given up drops the line, which closes it.
                    let _ = dialling.reply.send(Ok(Line { node, address, stream, closer }));
                }
            }
            HandlerEvent::Failed(reason) => {
                if let Some(dialling) = self.dialling.remove(&connection) {
                    let address = dialling.socket.to_string();
                    let _ = dialling.reply.send(Err(NetError::NotDifuse { address, reason }));
                }
            }
        }
    }
}

fn fail(dialling: Dialling, error: &DialError) {
    // The caller may have given up.
    let _ = dialling.reply.send(Err(explain(dialling.socket, dialling.expected, error)));
}

fn explain(socket: SocketAddr, expected: Option<NodeId>, error: &DialError) -> NetError {
    let address = socket.to_string();
    match error {
        // libp2p takes the addresses that we listen on out of those to dial, and there is only the one.
        DialError::LocalPeerId { .. } | DialError::NoAddresses => NetError::Ourselves,
        DialError::Denied { .. } => NetError::Full,
        DialError::WrongPeerId { obtained, .. } => match (expected, node_of(obtained)) {
            (Some(expected), Some(found)) => NetError::OtherNode { address, expected, found },
            _ => NetError::NotDifuse { address, reason: format!("its peer id is {obtained}") },
        },
        DialError::Transport(errors) => match errors.first() {
            Some((_, libp2p::TransportError::Other(error))) => explain_io(address, error),
            _ => NetError::Unreachable { address, reason: "the address cannot be dialled".into() },
        },
        other => NetError::Unreachable { address, reason: other.to_string() },
    }
}

/// libp2p wraps the causes of a failed dial in one another; the innermost tell whether there was a connection.
fn explain_io(address: String, error: &io::Error) -> NetError {
    let causes = causes(error);
    let upgrading = causes.iter().any(|cause| cause.contains("Multistream") || cause.contains("Handshake failed"));
    let reason = causes.last().cloned().unwrap_or_default();
    if upgrading { NetError::NotDifuse { address, reason } } else { NetError::Unreachable { address, reason } }
}

fn causes(error: &io::Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut cause: Option<&(dyn Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts
}
