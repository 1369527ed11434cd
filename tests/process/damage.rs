//! What a disk damages is never served, and is repaired from the other members.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Duration,
};

use difuse_tests::{Cluster, Http, until};

const NODES: [usize; 3] = [0, 1, 2];
const PATIENCE: Duration = Duration::from_secs(30);

/// On each node in turn, under the running process: the block is read right through that node, and lies on its disk again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_damaged_on_disk_is_served_by_others_and_repaired() {
    let mut cluster = Cluster::start(3).await;
    let content: Vec<u8> = (0..100_000_u32).flat_map(|number| number.to_le_bytes()).take(300_000).collect();
    let hash = cluster.http(0).post("/v1/blocks", content.clone()).await.expect(201).json()["hash"].clone();
    let (block, locate) = paths(hash.as_str().expect("a hash"));
    holds_everywhere(&cluster.http(0), &locate).await;
    for node in NODES {
        let folder = cluster.node(node).settings.data_dir.join("blocks");
        damage(&folder, &content[..1000]);
        assert_eq!(cluster.http(node).get(&block).await.expect(200).body, content);
        until("the copy on disk", PATIENCE, async || find(&folder, &content[..1000]).map(drop)).await;
        holds_everywhere(&cluster.http(node), &locate).await;
        assert_eq!(cluster.http(node).get(&block).await.expect(200).body, content);
    }
    // Whoever cannot be asked is not said to lack it.
    cluster.kill9(2);
    let located = cluster.http(0).get(&locate).await.expect(200).json();
    let holdings = located["holdings"].as_array().expect("a list");
    assert_eq!(holdings.iter().filter(|holding| holding["answered"] == false).count(), 1, "{located}");
    let (code, said, _) = cluster.difuse(0).args(["block", "locate", hash.as_str().expect("a hash")]).run().await;
    assert!(code == 0 && said.contains("no answer"), "{said}");
}

/// The leader's own copy of a transaction is damaged while it is down.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_damaged_on_disk_is_fetched_again() {
    let mut cluster = Cluster::start(3).await;
    let value = "this value is damaged on one disk, and not on the others";
    cluster.http(0).put("/v1/keys/damaged", value).await.expect(201);
    let leader = cluster.http(0).get("/v1/leader/damaged").await.expect(200).json()["leader"].clone();
    let mut number = None;
    for node in NODES {
        let ring = cluster.http(node).get("/v1/ring").await.expect(200).json();
        number = number.or((ring["node"] == leader).then_some(node));
    }
    let number = number.expect("the leader is one of the three");
    cluster.stop(number).await;
    let folder = cluster.node(number).settings.data_dir.join("keys");
    damage(&folder, value.as_bytes());
    cluster.restart(&[number]).await;
    cluster.settled(3).await;
    assert_eq!(cluster.http(number).get("/v1/keys/damaged").await.expect(200).text(), value);
    until("the copy on disk", PATIENCE, async || find(&folder, value.as_bytes()).map(drop)).await;
    cluster.http(number).put("/v1/keys/damaged", "more").await.expect(200);
    let log = cluster.http(number).get("/v1/log/damaged").await.expect(200).json();
    assert_eq!(log["transactions"].as_array().map(Vec::len), Some(2), "{log}");
    cluster.assert_running(&NODES);
}

/// The only copy there is: it cannot be repaired, and the ring says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_transaction_that_nobody_else_has_is_shown() {
    let mut cluster = Cluster::start(1).await;
    let value = "this value is damaged on the only disk that has it";
    cluster.http(0).put("/v1/keys/damaged", value).await.expect(201);
    cluster.stop(0).await;
    damage(&cluster.node(0).settings.data_dir.join("keys"), value.as_bytes());
    cluster.restart(&[0]).await;
    assert_eq!(cluster.http(0).get("/v1/keys/damaged").await.status, 503);
    assert_eq!(cluster.http(0).get("/v1/ring").await.expect(200).json()["keys_damaged"], 1);
    let (_, said, _) = cluster.difuse(0).args(["ring"]).run().await;
    assert!(said.contains("1 damaged copies of keys"), "{said}");
}

pub(super) fn paths(hash: &str) -> (String, String) {
    (format!("/v1/blocks/{hash}"), format!("/v1/locate-block/{hash}"))
}

pub(super) async fn holds_everywhere(http: &Http, locate: &str) {
    until("a copy on every node", PATIENCE, async || {
        let located = http.get(locate).await.expect(200).json();
        let holdings = located["holdings"].as_array().cloned().unwrap_or_default();
        let held = holdings.iter().filter(|holding| holding["holds"] == true).count();
        if held == NODES.len() { Ok(()) } else { Err(format!("{located:#}")) }
    })
    .await;
}

/// Where some bytes lie in the files of a folder.
pub(super) fn find(folder: &Path, wanted: &[u8]) -> Result<(PathBuf, u64), String> {
    let entries = fs::read_dir(folder).map_err(|error| error.to_string())?;
    for entry in entries {
        let path = entry.map_err(|error| error.to_string())?.path();
        let bytes = fs::read(&path).map_err(|error| error.to_string())?;
        if let Some(offset) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            return Ok((path, offset as u64));
        }
    }
    Err(format!("not in the files of {}", folder.display()))
}

/// Overwrites some bytes wherever they lie in the files of a folder.
pub(super) fn damage(folder: &Path, wanted: &[u8]) {
    let mut damaged = 0;
    while let Ok((path, offset)) = find(folder, wanted) {
        let file = fs::OpenOptions::new().write(true).open(path).expect("a file of ours");
        file.write_all_at(&vec![0x55; wanted.len()], offset).expect("a write");
        damaged += 1;
    }
    assert!(damaged > 0, "nothing to damage in {}", folder.display());
}
