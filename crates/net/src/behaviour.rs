//! What libp2p does for us: connections that carry one stream each, within bounds.

use std::{
    collections::{HashMap, VecDeque},
    task::{Context, Poll},
};

use libp2p::{
    Multiaddr, PeerId,
    connection_limits::{self, ConnectionLimits},
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionDenied, ConnectionId, DialFailure, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
        THandlerOutEvent, ToSwarm,
    },
};

use crate::{
    Class, Config,
    handler::{Handler, HandlerEvent},
};

/// Connections that are being set up by strangers at one time.
const PENDING_INCOMING_MAX: u32 = 256;
/// Two links of two connections, as many that are being replaced, and as many that are being set up.
const CONNECTIONS_PER_PEER_MAX: u32 = 12;

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    pub(crate) lines: Lines,
}

impl Behaviour {
    pub(crate) fn new(config: &Config) -> Self {
        let remotes = config.peers_max.saturating_add(config.clients_max);
        // Besides the links that stay there are those whose handshake is going on or fails.
        let incoming =
            u32::try_from(remotes.saturating_mul(2)).unwrap_or(u32::MAX).saturating_add(PENDING_INCOMING_MAX);
        let limits = ConnectionLimits::default()
            .with_max_pending_incoming(Some(PENDING_INCOMING_MAX))
            .with_max_established_incoming(Some(incoming))
            .with_max_established_per_peer(Some(CONNECTIONS_PER_PEER_MAX));
        Self { limits: connection_limits::Behaviour::new(limits), lines: Lines::default() }
    }
}

/// Something happened to the stream of a connection.
#[derive(Debug)]
pub(crate) struct LineEvent {
    pub peer: PeerId,
    pub connection: ConnectionId,
    pub event: HandlerEvent,
}

/// Opens the stream that a connection was dialled for.
#[derive(Default)]
pub(crate) struct Lines {
    dials: HashMap<ConnectionId, Class>,
    events: VecDeque<LineEvent>,
}

impl Lines {
    /// The connection, when it is there, is to carry a stream of this class.
    pub(crate) fn expect(&mut self, connection: ConnectionId, class: Class) {
        self.dials.insert(connection, class);
    }

    /// The connection will not be there.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.dials.remove(&connection);
    }
}

impl NetworkBehaviour for Lines {
    type ConnectionHandler = Handler;
    type ToSwarm = LineEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::accepted())
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::dialled(self.dials.remove(&connection)))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::DialFailure(DialFailure { connection_id, .. }) = event {
            self.forget(connection_id);
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.events.push_back(LineEvent { peer, connection, event });
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<LineEvent, THandlerInEvent<Self>>> {
        match self.events.pop_front() {
            Some(event) => Poll::Ready(ToSwarm::GenerateEvent(event)),
            None => Poll::Pending,
        }
    }
}
