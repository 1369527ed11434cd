//! A host that is gone is replaced; one that only restarts, or goes up and down, is not.

use std::{collections::BTreeMap, time::Duration};

use difuse_tests::{Cluster, Dump, Http, until};
use futures::{StreamExt, stream};
use serde_json::Value;

const REPLICAS: usize = 3;
const VICTIM: usize = 3;
const SURVIVORS: [usize; 3] = [0, 1, 2];
/// More keys than there are slots: they lie in nearly all of them.
const KEYS: usize = 160;
const FILES: u64 = 24;
const FILE_BYTES: usize = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(120);
/// How many times the flapping host goes down.
const FLAPS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_gone_is_replaced_in_every_slot() {
    let mut cluster = Cluster::start_with(4, &["--gone-after", "3s"]).await;
    let files = fill(&cluster).await;
    cluster.settled(4).await;
    let lost = cluster.dump(VICTIM).await;
    assert!(!lost.is_empty(), "the host that is lost must hold something");
    let lost_id = identity(&cluster, VICTIM).await;
    cluster.kill9(VICTIM);

    // Progress can be watched while it lasts.
    let http = cluster.http(0);
    let mut has_shown_progress = false;
    until("a ring without the lost host", PATIENCE, async || {
        let ring = ring(&http).await;
        let moving = &ring["moving"];
        has_shown_progress |= number(&moving["slots"]) > 0 && number(&moving["bytes_total"]) > 0;
        assert!(number(&moving["bytes_done"]) <= number(&moving["bytes_total"]), "{ring:#}");
        let is_gone = state_of(&ring, &lost_id) == "gone";
        if is_gone && ring["settled"] == true { Ok(()) } else { Err(format!("{ring:#}")) }
    })
    .await;
    assert!(has_shown_progress, "/v1/ring never told of slots and bytes on the move");
    cluster.settled(3).await;

    until("everything on three hosts", PATIENCE, async || {
        let dumps = [cluster.dump(0).await, cluster.dump(1).await, cluster.dump(2).await];
        Dump::on_exactly(REPLICAS, &dumps)?;
        let is_held = lost.blocks.keys().all(|hash| dumps[0].blocks.contains_key(hash));
        if is_held { Ok(()) } else { Err("a block that the lost host held is missing".into()) }
    })
    .await;
    for (key, (members, _)) in groups(&cluster.http(1)).await {
        assert_eq!(members.len(), REPLICAS, "{key}");
        assert!(!members.contains(&lost_id), "{key} still counts on the lost host: {members:?}");
    }
    for (path, content) in &files {
        for survivor in SURVIVORS {
            let read = cluster.http(survivor).get(path).await.expect(200);
            assert!(read.body == *content, "{path} through node {survivor}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_only_restarts_moves_nothing() {
    let mut cluster = Cluster::start_with(4, &["--gone-after", "10m"]).await;
    fill(&cluster).await;
    cluster.settled(4).await;
    let before = groups(&cluster.http(0)).await;
    let held = cluster.dump(VICTIM).await;
    cluster.kill9(VICTIM);
    seen_as(&cluster, VICTIM, "suspect").await;
    cluster.restart(&[VICTIM]).await;
    cluster.settled(4).await;
    assert_eq!(groups(&cluster.http(0)).await, before, "a configuration has changed");
    assert_eq!(cluster.dump(VICTIM).await.blocks, held.blocks);
}

/// Down for less than --gone-after, several times: routed around each time, never replaced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_host_moves_nothing_back_and_forth() {
    let mut cluster = Cluster::start_with(4, &["--gone-after", "10m"]).await;
    fill(&cluster).await;
    cluster.settled(4).await;
    let before = groups(&cluster.http(0)).await;
    for _ in 0..FLAPS {
        cluster.kill9(VICTIM);
        seen_as(&cluster, VICTIM, "suspect").await;
        cluster.restart(&[VICTIM]).await;
        seen_as(&cluster, VICTIM, "up").await;
    }
    cluster.settled(4).await;
    assert_eq!(groups(&cluster.http(0)).await, before, "a configuration has changed");
}

/// Puts keys and files into the ring; returns the files.
async fn fill(cluster: &Cluster) -> BTreeMap<String, bytes::Bytes> {
    let puts = (0..KEYS).map(|key| {
        let http = cluster.http(key % 4);
        async move { http.put(&format!("/v1/keys/{}", name(key)), "value").await.expect(201) }
    });
    stream::iter(puts).buffer_unordered(8).collect::<Vec<_>>().await;
    let mut files = BTreeMap::new();
    for number in 0..FILES {
        let mut content = vec![0; FILE_BYTES];
        fastrand::Rng::with_seed(number).fill(&mut content);
        let (path, content) = (format!("/v1/files/healing/{number}"), bytes::Bytes::from(content));
        cluster.http(0).put(&path, content.clone()).await.expect(201);
        files.insert(path, content);
    }
    files
}

fn name(key: usize) -> String {
    format!("healing-{key}")
}

async fn ring(http: &Http) -> Value {
    http.get("/v1/ring").await.expect(200).json()
}

fn number(field: &Value) -> u64 {
    field.as_u64().unwrap_or_else(|| panic!("a number: {field}"))
}

/// Who a node is, as node 0 knows it.
async fn identity(cluster: &Cluster, node: usize) -> String {
    let (ring, gateway) = (ring(&cluster.http(0)).await, cluster.node(node).settings.http.to_string());
    let hosts = ring["hosts"].as_array().expect("hosts");
    let host = hosts.iter().find(|host| host["http"] == gateway.as_str()).expect("a host with this gateway");
    host["id"].as_str().expect("an id").to_string()
}

fn state_of(ring: &Value, id: &str) -> String {
    let hosts = ring["hosts"].as_array().expect("hosts");
    let host = hosts.iter().find(|host| host["id"] == id);
    host.and_then(|host| host["state"].as_str()).unwrap_or_default().to_string()
}

/// Waits until node 0 has this to say of a node.
async fn seen_as(cluster: &Cluster, node: usize, state: &str) {
    let http = cluster.http(0);
    let gateway = cluster.node(node).settings.http.to_string();
    until(&format!("node {node} {state}"), PATIENCE, async || {
        let ring = ring(&http).await;
        assert_eq!(number(&ring["moving"]["slots"]), 0, "slots move because of a host that is only away: {ring:#}");
        let hosts = ring["hosts"].as_array().expect("hosts");
        let is_it = hosts.iter().any(|host| host["http"] == gateway.as_str() && host["state"] == state);
        if is_it { Ok(()) } else { Err(format!("{ring:#}")) }
    })
    .await;
}

/// The members and the epoch of the group of each key.
async fn groups(http: &Http) -> BTreeMap<String, (Vec<String>, u64)> {
    let mut groups = BTreeMap::new();
    for key in 0..KEYS {
        let located = http.get(&format!("/v1/leader/{}", name(key))).await.expect(200).json();
        let members = located["members"].as_array().expect("members").iter();
        let members = members.map(|member| member.as_str().unwrap_or_default().to_string()).collect();
        assert_eq!(located["joint"].as_array().map(Vec::len), Some(0), "{located}");
        groups.insert(name(key), (members, number(&located["epoch"])));
    }
    groups
}
