//! The seam between what the client decides and how requests travel.

use async_trait::async_trait;
use difuse_api::request::Request;
use difuse_protocol::message::Outcome;
use difuse_types::NodeId;

/// Carries requests to nodes. Production uses libp2p; tests a fake.
#[async_trait]
pub(crate) trait Exchange: Send + Sync + 'static {
    /// Connects to the node at `address` (`host:port` or a multiaddr) and tells which one it is; the error is for people.
    async fn connect(&self, address: &str) -> Result<NodeId, String>;

    /// Whether there is a connection to `node` now.
    fn is_connected(&self, node: &NodeId) -> bool;

    /// The nodes connected now, in order.
    fn connected(&self) -> Vec<NodeId>;

    /// Sends one request and waits for its outcome, without a deadline of its own.
    async fn exchange(&self, node: NodeId, request: Request) -> Result<Outcome, ExchangeError>;
}

/// Why there is no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// The request was not sent.
    #[error("the request could not be sent: {0}")]
    NotSent(String),
    /// The request was sent, and the connection ended before the answer.
    #[error("the connection ended before the answer")]
    Disconnected,
    /// The request was sent, and no answer came in time.
    #[error("no answer in time")]
    TimedOut,
}
