//! Whether a local ring serves.

use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use super::plan::PlannedNode;

const POLL: Duration = Duration::from_millis(50);
/// After how many polls without success a line is printed; the next one after twice as many, and so on.
const POLLS_BEFORE_REMARK: u32 = 200;

/// Resolves when every node is ready and the ring has all of them and is settled.
pub async fn until_ready(nodes: &[PlannedNode]) {
    let client = Client::builder().timeout(Duration::from_secs(1)).build().unwrap_or_default();
    let mut ticks = interval(POLL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut polls, mut next_remark) = (0_u32, POLLS_BEFORE_REMARK);
    loop {
        ticks.tick().await;
        let Some(reason) = first_reason_to_wait(&client, nodes).await else { return };
        polls = polls.saturating_add(1);
        if polls == next_remark {
            eprintln!("still waiting: {reason}");
            next_remark = next_remark.saturating_mul(2);
        }
    }
}

async fn first_reason_to_wait(client: &Client, nodes: &[PlannedNode]) -> Option<String> {
    for node in nodes {
        match client.get(format!("http://{}/readyz", node.http)).send().await {
            Err(_) => {
                return Some(format!("node {} does not answer yet (its log: {})", node.number, node.log.display()));
            }
            Ok(answer) if !answer.status().is_success() => {
                return Some(format!("node {} is not ready yet", node.number));
            }
            Ok(_) => {}
        }
    }
    let url = format!("http://{}/v1/ring", nodes.first()?.http);
    let ring: Value = match client.get(url).send().await {
        Ok(answer) => answer.json().await.unwrap_or_default(),
        Err(_) => return Some("the ring cannot be asked".into()),
    };
    let hosts = ring["hosts"].as_array().map_or(0, Vec::len);
    if hosts < nodes.len() {
        return Some(format!("the ring has {hosts} of {} nodes", nodes.len()));
    }
    (ring["settled"] != Value::Bool(true)).then(|| "the ring is not settled yet".into())
}
