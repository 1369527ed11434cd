//! Quotas of namespaces: every node counts what they hold, so that the leaders among them refuse what would add to one that
//! is full.

use std::{convert::Infallible, time::Duration};

use difuse_api::{keys, namespaces};
use difuse_node::Node;

/// How often it counts, in rings of up to ten nodes.
const COUNT_EVERY: Duration = Duration::from_secs(5);
/// For how long a node waits for each node of its ring, so that nobody is asked more than about twice a second.
const PAUSE_PER_NODE: Duration = Duration::from_millis(500);

/// Counts for ever. What was found last holds on while nothing can be counted.
pub async fn run(node: Node) -> Infallible {
    let mut pause = COUNT_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        let Ok(routes) = keys::routes(&node).await else { continue };
        let hosts = u32::try_from(routes.hosts.len()).unwrap_or(u32::MAX);
        pause = COUNT_EVERY.max(PAUSE_PER_NODE.saturating_mul(hosts));
        match namespaces::quotas_reached(&node, routes.settings.slots).await {
            Ok(reached) => node.set_quotas_reached(reached),
            Err(error) => tracing::debug!(%error, "what namespaces hold could not be counted"),
        }
    }
}
