use std::time::Duration;

use difuse_api::Consistency;

/// How a [`Client`](crate::Client) behaves. The defaults suit interactive use and services alike.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// How long one request may take in all, retries included.
    pub deadline: Duration,
    /// After how long without an answer a small request is sent to another node.
    pub attempt_timeout: Duration,
    /// The same for requests that carry a block or a page of results.
    pub bulk_attempt_timeout: Duration,
    /// How long [`Client::connect`](crate::Client::connect) tries.
    pub connect_timeout: Duration,
    /// How often the routes (who leads which slot) are fetched anew; an error fetches them at once.
    pub routes_refresh: Duration,
    /// The most requests under way at once; more wait for their turn (at least 1).
    pub in_flight_max: usize,
    /// Which levels stand behind what [`Client`](crate::Client)'s own methods do; `None`: those that the default namespace
    /// is set to ([`difuse_api::namespaces`]), else quorum.
    pub consistency: Option<Consistency>,
    /// Hash of the ring's secret (see [`secret_from_text`](crate::secret_from_text)), if it has one.
    pub secret: Option<[u8; 32]>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(2),
            bulk_attempt_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            routes_refresh: Duration::from_secs(3),
            in_flight_max: 1024,
            consistency: None,
            secret: None,
        }
    }
}
