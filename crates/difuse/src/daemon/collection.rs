//! Collections of unnamed blocks that a ring runs by itself.

use std::{convert::Infallible, sync::Arc, time::Duration};

use difuse_api::{
    Datastore,
    collection::{Collected, collect},
    keys,
};
use difuse_types::NodeId;

/// Runs a collection every so often while this node leads the first slot: one node of a ring does it. Never returns.
pub async fn run(datastore: Arc<dyn Datastore>, node: NodeId, every: Option<Duration>) -> Infallible {
    let Some(every) = every else { return std::future::pending().await };
    loop {
        tokio::time::sleep(every).await;
        if !leads_first_slot(&*datastore, node).await {
            continue;
        }
        match collect(&*datastore, fastrand::u128(..), false, |_: &Collected| {}, tokio::time::sleep).await {
            Ok(Collected { before, deleted, generation, .. }) => tracing::info!(
                generation,
                blocks = before.blocks,
                bytes = before.bytes,
                deleted_blocks = deleted.blocks,
                deleted_bytes = deleted.bytes,
                "collected blocks that nothing names"
            ),
            Err(error) => {
                tracing::warn!(%error, "blocks that nothing names were not collected; the next try is due later")
            }
        }
    }
}

async fn leads_first_slot(datastore: &dyn Datastore, node: NodeId) -> bool {
    let Ok(routes) = keys::routes(datastore).await else { return false };
    let leader = routes.leaders.first().and_then(|leader| routes.hosts.get(*leader as usize));
    leader.is_some_and(|(host, _)| host.node == node)
}
