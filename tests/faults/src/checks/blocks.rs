//! Counting: every key and every block on exactly as many hosts as the ring keeps replicas.

use std::{collections::BTreeSet, time::Duration};

use difuse_tests::{Dump, Http, POLL};
use futures::{StreamExt, stream};
use reqwest::Method;
use tokio::time::{Instant, sleep};

/// How long members may take to agree after the ring has settled.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many blocks are located, spread over all.
const LOCATED_MAX: usize = 1000;
const AT_ONCE: usize = 16;

/// How many keys, and blocks with how many bytes, are there (counted once, not once per replica).
#[derive(Debug, Default, Clone, Copy)]
pub struct Counted {
    /// Keys, directories and files included.
    pub keys: usize,
    /// Blocks.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts what the nodes say that they hold; an error says what is not where it should be.
pub async fn count(nodes: &[Http], replicas: usize) -> Result<Counted, String> {
    let start = Instant::now();
    loop {
        let mut dumps = Vec::new();
        for node in nodes {
            dumps.push(Dump::of(node).await);
        }
        match Dump::on_exactly(replicas, &dumps) {
            Ok(()) => {
                let blocks: BTreeSet<_> = dumps.iter().flat_map(|dump| &dump.blocks).collect();
                locate(nodes, replicas, &blocks.iter().map(|(hash, _)| hash.as_str()).collect::<Vec<_>>()).await?;
                let keys: BTreeSet<_> = dumps.iter().flat_map(|dump| dump.keys.keys()).collect();
                let bytes = blocks.iter().map(|(_, size)| u64::from(**size)).sum();
                return Ok(Counted { keys: keys.len(), blocks: blocks.len(), bytes });
            }
            Err(reason) if start.elapsed() > PATIENCE => return Err(reason),
            Err(_) => sleep(POLL * 10).await,
        }
    }
}

/// Whether `/v1/locate-block` tells the same.
async fn locate(nodes: &[Http], replicas: usize, blocks: &[&str]) -> Result<(), String> {
    let step = blocks.len().div_ceil(LOCATED_MAX).max(1);
    let checks = blocks.iter().step_by(step).enumerate().map(|(number, hash)| {
        let http = nodes[number % nodes.len()].clone();
        let hash = hash.to_string();
        async move { located(&http, &hash, replicas).await }
    });
    let mut outcomes = stream::iter(checks.collect::<Vec<_>>()).buffer_unordered(AT_ONCE);
    while let Some(outcome) = outcomes.next().await {
        outcome?;
    }
    Ok(())
}

/// Whether a node says so of one block: it asks the members, and a slow one's answer may be missing.
async fn located(http: &Http, hash: &str, replicas: usize) -> Result<(), String> {
    let start = Instant::now();
    loop {
        let answer = http.send(Method::GET, &format!("/v1/locate-block/{hash}"), &[], "").await;
        let located = answer.map_err(|error| format!("block {hash}: {error:?}"))?.json();
        let holdings = located["holdings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let holders = holdings.iter().filter(|holding| holding["holds"] == true).count();
        if holders == replicas {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("block {hash}: {located}"));
        }
        sleep(POLL).await;
    }
}
