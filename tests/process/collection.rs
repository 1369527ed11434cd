//! Blocks that nothing refers to any more are deleted, and nothing else.

use std::{fs, os::unix::fs::MetadataExt, time::Duration};

use bytes::Bytes;
use difuse_tests::{Cluster, until};
use futures::StreamExt;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(60);
const BYTES: usize = 6_000_000;

/// Bytes that do not repeat, others for each seed.
pub fn content(seed: u32) -> Vec<u8> {
    let mut state = u64::from(seed) * 2 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(BYTES).collect()
}

pub async fn gc(cluster: &Cluster, node: usize) -> Value {
    cluster.difuse(node).args(["gc"]).json().await
}

pub fn deleted(report: &Value) -> u64 {
    report["deleted"]["bytes"].as_u64().unwrap_or_else(|| panic!("{report:#}"))
}

/// What the blocks of a node take on its disk.
fn on_disk(cluster: &Cluster, node: usize) -> u64 {
    let folder = cluster.node(node).settings.data_dir.join("blocks");
    let files = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry"));
    files.map(|file| file.metadata().map_or(0, |metadata| metadata.blocks() * 512)).sum()
}

/// The same bytes under two names: they stay while one of the names does, and the disks get their space back after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_two_files_share_goes_with_the_second() {
    let mut cluster = Cluster::start_with(3, &["--gc-every", "off"]).await;
    let (shared, kept) = (content(1), content(2));
    for (path, bytes) in [("/v1/files/one", &shared), ("/v1/files/two", &shared), ("/v1/files/kept", &kept)] {
        cluster.http(0).put(path, bytes.clone()).await.expect(201);
    }
    // By its hash: nothing refers to it, and it stays.
    let block = cluster.http(0).post("/v1/blocks", content(3)[..500_000].to_vec()).await.expect(201).json();
    let block = format!("/v1/blocks/{}", block["hash"].as_str().expect("a hash"));
    cluster.http(1).delete("/v1/files/one").await.expect(204);
    // The first collection leaves what was put lately to uploads that may be under way.
    gc(&cluster, 0).await;
    let report = gc(&cluster, 0).await;
    assert_eq!(deleted(&report), 0, "{report:#}");
    assert_eq!(cluster.http(2).get("/v1/files/two").await.expect(200).body, shared);
    let full: Vec<u64> = [0, 1, 2].map(|node| on_disk(&cluster, node)).to_vec();

    cluster.http(1).delete("/v1/files/two").await.expect(204);
    let report = cluster.difuse(2).args(["gc", "--dry-run"]).json().await;
    assert!(deleted(&report) as usize >= BYTES, "{report:#}");
    let report = gc(&cluster, 2).await;
    assert!(deleted(&report) as usize >= BYTES && (deleted(&report) as usize) < BYTES + 100_000, "{report:#}");
    for node in [0, 1, 2] {
        until("the space on the disk", PATIENCE, async || {
            let freed = full[node].saturating_sub(on_disk(&cluster, node));
            if freed as usize > BYTES * 9 / 10 { Ok(()) } else { Err(format!("node {node} has freed {freed} bytes")) }
        })
        .await;
    }
    assert_eq!(cluster.http(1).get("/v1/files/kept").await.expect(200).body, kept);
    cluster.http(1).get(&block).await.expect(200);
    cluster.assert_running(&[0, 1, 2]);
}

/// The first part of an upload is there, the rest comes only after a collection; its blocks are the ones of a file that
/// was deleted meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_held_open_during_a_collection_is_readable() {
    let mut cluster = Cluster::start_with(3, &["--gc-every", "off"]).await;
    let bytes = content(1);
    cluster.http(0).put("/v1/files/old", bytes.clone()).await.expect(201);
    cluster.http(0).delete("/v1/files/old").await.expect(204);
    gc(&cluster, 0).await;
    let (more, parts) = tokio::sync::mpsc::channel::<Bytes>(1);
    let parts = futures::stream::unfold(parts, |mut parts| async move { Some((parts.recv().await?, parts)) });
    let body = reqwest::Body::wrap_stream(parts.map(Ok::<_, std::io::Error>));
    let url = format!("http://{}/v1/files/new", cluster.node(0).settings.http);
    let upload = tokio::spawn(reqwest::Client::new().put(url).body(body).send());
    let (first, rest) = bytes.split_at(BYTES / 2);
    for part in first.chunks(100_000) {
        more.send(Bytes::copy_from_slice(part)).await.expect("the upload goes on");
    }
    // What was sent is cut into blocks and stored, but for the last few.
    until("blocks of the upload", PATIENCE, async || {
        let metrics = cluster.http(0).get("/metrics").await.expect(200).text();
        let in_flight = metrics.lines().any(|line| line.starts_with("difuse_http_requests_in_flight 2"));
        if in_flight { Ok(()) } else { Err("the upload is not under way".into()) }
    })
    .await;
    gc(&cluster, 1).await;
    for part in rest.chunks(100_000) {
        more.send(Bytes::copy_from_slice(part)).await.expect("the upload goes on");
    }
    drop(more);
    let answer = upload.await.expect("a task of ours").expect("an answer");
    assert_eq!(answer.status(), 201);
    gc(&cluster, 2).await;
    assert_eq!(cluster.http(2).get("/v1/files/new").await.expect(200).body, bytes);
    cluster.assert_running(&[0, 1, 2]);
}
