//! What a disk damages or loses is found though nobody reads it, and repaired from the other members.

use std::{fs, path::Path, time::Duration};

use difuse_tests::{Cluster, until};
use serde_json::Value;

use crate::damage::{damage, find, holds_everywhere, paths};

const PATIENCE: Duration = Duration::from_secs(60);
const BLOCK_BYTES: usize = 1 << 20;
/// A file of blocks holds 64 MiB: so many fill one, and begin another.
const BLOCKS: u32 = 66;

/// Bytes unlike those of any other number.
fn content(number: u32, length: usize) -> Vec<u8> {
    (0..).flat_map(|index: u32| (index ^ number.wrapping_mul(0x9e37_79b9)).to_le_bytes()).take(length).collect()
}

async fn scrub(cluster: &Cluster, node: usize) -> Value {
    cluster.difuse(node).args(["scrub"]).json().await["nodes"][0].clone()
}

fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report:#}"))
}

/// Under running nodes: bytes of a block and of a transaction change on one disk, and a whole file of blocks goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_that_nobody_reads_is_found_and_repaired() {
    let mut cluster = Cluster::start_with(3, &["--scrub-rate", "off"]).await;
    let value = "this value is damaged on one disk, and nobody reads it";
    cluster.http(0).put("/v1/keys/damaged", value).await.expect(201);
    let mut hashes = Vec::new();
    for number in 0..BLOCKS {
        let answer = cluster.http(0).post("/v1/blocks", content(number, BLOCK_BYTES)).await.expect(201).json();
        hashes.push(answer["hash"].as_str().expect("a hash").to_string());
    }
    for hash in [&hashes[0], &hashes[hashes.len() - 1]] {
        holds_everywhere(&cluster.http(0), &paths(hash).1).await;
    }
    let folder = |name: &str| cluster.node(1).settings.data_dir.join(name);

    let block = &content(0, BLOCK_BYTES)[..1000];
    damage(&folder("blocks"), block);
    damage(&folder("keys"), value.as_bytes());
    // What was written in the last seconds may still be checked in memory: the key's turn may come later.
    let (mut keys, mut blocks) = (0, 0);
    until("the damage is found", PATIENCE, async || {
        let report = scrub(&cluster, 1).await;
        keys += count(&report, "damaged_keys");
        blocks += count(&report, "damaged_blocks");
        assert_eq!(count(&report, "repaired"), count(&report, "damaged_keys") + count(&report, "damaged_blocks"));
        if keys >= 1 && blocks >= 1 { Ok(()) } else { Err(format!("{keys} keys and {blocks} blocks")) }
    })
    .await;
    find(&folder("blocks"), block).expect("the block on the disk again");
    find(&folder("keys"), value.as_bytes()).expect("the value on the disk again");

    fs::remove_file(first_segment(&folder("blocks"))).expect("a file of blocks");
    let report = scrub(&cluster, 1).await;
    assert!(count(&report, "damaged_blocks") > 50, "{report:#}");
    assert_eq!((count(&report, "repaired"), count(&report, "unrepaired")), (count(&report, "damaged_blocks"), 0));

    let reports = cluster.difuse(0).args(["scrub", "--all"]).json().await;
    let reports = reports["nodes"].as_array().expect("reports").clone();
    assert_eq!(reports.len(), 3);
    for report in &reports {
        assert_eq!(count(report, "blocks"), u64::from(BLOCKS), "{report:#}");
        assert_eq!(count(report, "damaged_blocks") + count(report, "damaged_keys"), 0, "{report:#}");
    }
    assert!(cluster.http(1).get(&paths(&hashes[0]).0).await.expect(200).body == content(0, BLOCK_BYTES));
    cluster.assert_running(&[0, 1, 2]);
}

/// A node without others cannot repair itself: it says so, and how it ends tells programs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_else_has_is_named() {
    let mut cluster = Cluster::start_with(1, &["--scrub-rate", "off"]).await;
    let content = content(7, 300_000);
    let hash = cluster.http(0).post("/v1/blocks", content.clone()).await.expect(201).json()["hash"].clone();
    let hash = hash.as_str().expect("a hash");
    damage(&cluster.node(0).settings.data_dir.join("blocks"), &content[..1000]);
    let (code, output, errors) = cluster.difuse(0).args(["scrub"]).run().await;
    assert_eq!(code, 7, "{output}\n{errors}");
    let expected = format!("block {hash} is not repaired: this node is the only member of its slot");
    assert!(output.contains(&expected), "{output}");
    assert!(errors.contains("could not be repaired"), "{errors}");
    let metrics = cluster.http(0).get("/metrics").await.expect(200).text();
    assert!(metrics.contains("difuse_node_scrub_unrepaired_total 1"), "{metrics}");
    // It can be stored again by whoever has it.
    cluster.http(0).put(&paths(hash).0, content.clone()).await.expect(201);
    assert_eq!(count(&scrub(&cluster, 0).await, "damaged_blocks"), 0);
    assert_eq!(cluster.http(0).get(&paths(hash).0).await.expect(200).body, content);
    cluster.assert_running(&[0]);
}

fn first_segment(folder: &Path) -> std::path::PathBuf {
    let entries = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path());
    let mut segments: Vec<_> = entries.filter(|path| path.extension().is_some_and(|it| it == "segment")).collect();
    segments.sort();
    assert!(segments.len() > 1, "the only file of blocks is being written: {segments:?}");
    segments.remove(0)
}
