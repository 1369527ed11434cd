//! One connection: exactly one stream, opened by whoever dialled.

use std::{
    collections::VecDeque,
    task::{Context, Poll},
    time::Duration,
};

use futures::future::Either;
use libp2p::{
    Stream, StreamProtocol,
    core::upgrade::{ReadyUpgrade, SelectUpgrade},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound},
    },
};

use crate::Class;

const CONTROL: StreamProtocol = StreamProtocol::new("/difuse/1/control");
const BULK: StreamProtocol = StreamProtocol::new("/difuse/1/bulk");
const NEGOTIATION_TIME_MAX: Duration = Duration::from_secs(5);

type Protocol = ReadyUpgrade<StreamProtocol>;

#[derive(Debug)]
pub(crate) enum HandlerEvent {
    /// The stream that we asked for.
    Opened(Stream),
    /// The remote's stream.
    Accepted(Class, Stream),
    /// The remote does not let us open the stream.
    Failed(String),
}

pub(crate) struct Handler {
    /// The stream still to be asked for.
    wanted: Option<Class>,
    /// Whether the remote may open a stream: once, and only when it dialled.
    accepts: bool,
    events: VecDeque<HandlerEvent>,
}

impl Handler {
    /// For a connection that we dialled to open a stream of this class; `None` for one that nobody wants any more.
    pub(crate) fn dialled(wanted: Option<Class>) -> Self {
        Self { wanted, accepts: false, events: VecDeque::new() }
    }

    /// For a connection that the remote dialled.
    pub(crate) fn accepted() -> Self {
        Self { wanted: None, accepts: true, events: VecDeque::new() }
    }

    fn handle_inbound(&mut self, class: Class, stream: Stream) {
        if self.accepts {
            self.accepts = false;
            self.events.push_back(HandlerEvent::Accepted(class, stream));
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = std::convert::Infallible;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = SelectUpgrade<Protocol, Protocol>;
    type OutboundProtocol = Protocol;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        let either = SelectUpgrade::new(ReadyUpgrade::new(CONTROL), ReadyUpgrade::new(BULK));
        SubstreamProtocol::new(either, ()).with_timeout(NEGOTIATION_TIME_MAX)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Protocol, (), HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        let Some(class) = self.wanted.take() else {
            return Poll::Pending;
        };
        let protocol = match class {
            Class::Control => CONTROL,
            Class::Bulk => BULK,
        };
        let protocol = SubstreamProtocol::new(ReadyUpgrade::new(protocol), ()).with_timeout(NEGOTIATION_TIME_MAX);
        Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {}
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Self::InboundProtocol, Protocol>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => match protocol {
                Either::Left(stream) => self.handle_inbound(Class::Control, stream),
                Either::Right(stream) => self.handle_inbound(Class::Bulk, stream),
            },
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, .. }) => {
                self.events.push_back(HandlerEvent::Opened(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { error, .. }) => {
                self.events.push_back(HandlerEvent::Failed(explain(error)));
            }
            _ => {}
        }
    }
}

fn explain(error: StreamUpgradeError<std::convert::Infallible>) -> String {
    match error {
        StreamUpgradeError::Timeout => "it does not answer".into(),
        StreamUpgradeError::NegotiationFailed => "it does not speak this protocol".into(),
        StreamUpgradeError::Io(error) => error.to_string(),
        StreamUpgradeError::Apply(never) => match never {},
    }
}
