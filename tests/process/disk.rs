//! Disks that fill, fail and vanish under a running node.

use std::{fs, process::Command, time::Duration};

use difuse_tests::{Cluster, Http, NodeProcess, SmallDisk, until};

use crate::collection::{content, deleted, gc};

const PATIENCE: Duration = Duration::from_secs(30);
/// Exit codes, as `difused --help` and `difuse --help` document them.
const STORAGE_FAILED: i32 = 5;
const REFUSED: i32 = 6;
const FULL: i32 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_writes_and_goes_on_when_there_is_room() {
    let mut cluster = Cluster::start(0).await;
    let Some(disk) = SmallDisk::mount(&cluster.folder().join("small"), 64) else { return };
    let node = cluster.add_with(|settings| on_disk(settings, &disk)).await;
    let http = cluster.http(node);
    http.put("/v1/keys/kept", "before").await.expect(201);
    http.put("/v1/files/kept", vec![7; 100_000]).await.expect(201);
    // Once below what is to be kept free, once with not a byte left.
    for left in [4, 0] {
        disk.fill(left);
        let path = disk.path().display().to_string();
        until("a refusal", PATIENCE, async || refuses(&http).await).await;
        http.put("/v1/keys/kept", "after").await.expect_problem(507, "full", &path);
        http.put("/v1/keys/new", "x").await.expect_problem(507, "full", "MiB");
        http.post("/v1/blocks", vec![left as u8; 50_000]).await.expect_problem(507, "full", &path);
        http.put("/v1/files/new", vec![8; 100_000]).await.expect_problem(507, "full", "nothing was changed");
        let (code, output, errors) = cluster.difuse(node).args(["kv", "set", "new", "x"]).run().await;
        assert_eq!(code, FULL, "{output}{errors}");
        assert!(errors.contains(&path), "{errors}");
        assert_eq!(http.get("/v1/keys/kept").await.expect(200).text(), "before");
        assert_eq!(http.get("/v1/files/kept").await.expect(200).body, vec![7; 100_000]);
        http.get("/v1/keys/new").await.expect(404);
        http.get("/v1/files/new").await.expect(404);
        let ring = http.get("/v1/ring").await.expect(200).json();
        assert_eq!(ring["short_of_room"], serde_json::json!([ring["node"]]));
    }
    disk.clear();
    until("a write", PATIENCE, async || has_room(&http).await).await;
    http.put("/v1/files/again", vec![9; 100_000]).await.expect(201);
    cluster.assert_running(&[node]);
}

/// What was deleted gives room to new writes: deletes, and collections of what they leave, go into the room that is kept free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_mended_by_deleting() {
    let mut cluster = Cluster::start(0).await;
    let Some(disk) = SmallDisk::mount(&cluster.folder().join("small"), 96) else { return };
    let node = cluster.add_with(|settings| on_disk(settings, &disk)).await;
    let http = cluster.http(node);
    http.put("/v1/files/kept", vec![7; 100_000]).await.expect(201);
    http.put("/v1/keys/key", "x").await.expect(201);
    http.put("/v1/files/large", content(1)).await.expect(201);
    http.put("/v1/files/larger", [content(2), content(3)].concat()).await.expect(201);
    disk.fill(6);
    until("a refusal", PATIENCE, async || refuses(&http).await).await;
    for path in ["/v1/files/large", "/v1/files/larger", "/v1/keys/key"] {
        http.delete(path).await.expect(204);
    }
    refuses(&http).await.expect("nothing was given back yet");
    let mut freed = 0;
    for _ in 0..2 {
        freed += deleted(&gc(&cluster, node).await);
    }
    assert!(freed > 17_000_000, "{freed} bytes");
    until("a write", PATIENCE, async || has_room(&http).await).await;
    http.put("/v1/files/again", content(4)).await.expect(201);
    assert_eq!(http.get("/v1/files/kept").await.expect(200).body, vec![7; 100_000]);
    cluster.assert_running(&[node]);
}

/// The others go on for the slots that they lead; the one that was full catches up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_member_holds_up_nobody_and_a_full_newcomer_is_given_nothing() {
    let mut cluster = Cluster::start(2).await;
    let Some(disk) = SmallDisk::mount(&cluster.folder().join("small"), 64) else { return };
    disk.fill(12);
    let full = cluster.add_with(|settings| on_disk(settings, &disk)).await;
    let http = cluster.http(0);
    let id = cluster.http(full).get("/v1/ring").await.expect(200).json()["node"].clone();
    until("the newcomer's word", PATIENCE, async || {
        let ring = http.get("/v1/ring").await.expect(200).json();
        let is_told = ring["short_of_room"] == serde_json::json!([id]) && ring["settled"] == false;
        if is_told { Ok(()) } else { Err(ring.to_string()) }
    })
    .await;
    // What moves when there is room has had the time to move.
    for index in 0..20 {
        http.put(&format!("/v1/keys/early{index}"), "x").await.expect(201);
    }
    assert!(cluster.dump(full).await.is_empty(), "it is given slots though it has no room");
    disk.clear();
    cluster.settled(3).await;
    assert!(!cluster.dump(full).await.is_empty());

    disk.fill(2);
    until("the member's word", PATIENCE, async || {
        let ring = http.get("/v1/ring").await.expect(200).json();
        if ring["short_of_room"] == serde_json::json!([id]) { Ok(()) } else { Err(ring.to_string()) }
    })
    .await;
    let mut written = Vec::new();
    for index in 0..60 {
        let path = format!("/v1/keys/late{index}");
        let answer = http.put(&path, "y").await;
        match answer.status {
            201 => written.push(path),
            _ => answer.expect_problem(507, "full", &disk.path().display().to_string()),
        }
    }
    assert!((10..60).contains(&written.len()), "{} of 60 were written", written.len());
    disk.clear();
    cluster.settled(3).await;
    for path in written {
        assert_eq!(cluster.http(full).get(&path).await.expect(200).text(), "y");
    }
    cluster.assert_running(&[0, 1, full]);
}

fn on_disk(settings: &mut difuse_tests::NodeSettings, disk: &SmallDisk) {
    settings.data_dir = disk.path().join("data");
    settings.more.extend(["--keep-free", "8MiB"].map(String::from));
}

async fn refuses(http: &Http) -> Result<(), String> {
    // What the disk said a moment ago still counts, of keys and of blocks each.
    let (key, block) =
        (http.put("/v1/keys/probe", "x").await, http.post("/v1/blocks", fastrand::u128(..).to_string()).await);
    if (key.status, block.status) == (507, 507) { Ok(()) } else { Err(format!("{}{}", key.text(), block.text())) }
}

/// The same of its having room again.
async fn has_room(http: &Http) -> Result<(), String> {
    accepts(http, "/v1/keys/again").await?;
    let block = http.post("/v1/blocks", fastrand::u128(..).to_string()).await;
    if block.status < 300 { Ok(()) } else { Err(block.text()) }
}

async fn accepts(http: &Http, path: &str) -> Result<(), String> {
    let answer = http.put(path, "x").await;
    if answer.status < 300 { Ok(()) } else { Err(answer.text()) }
}

/// After a flush that failed nobody knows what is on the disk: the node ends, and what it acknowledged is there when it is
/// started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_fails_ends_the_node() {
    let mut cluster = Cluster::start(0).await;
    let traced = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).status();
    if !traced.is_ok_and(|status| status.success()) {
        println!("skipped: strace does not work here");
        return;
    }
    let inject = "strace -f -qq -o /dev/null -e trace=fdatasync -e inject=fdatasync:error=EIO:when=60+";
    let under = |settings: &mut difuse_tests::NodeSettings| {
        settings.through = inject.split(' ').map(String::from).collect();
    };
    let node = cluster.add_with(under).await;
    let http = cluster.http(node);
    let mut acknowledged = 0;
    while http
        .send(reqwest::Method::PUT, &format!("/v1/keys/{acknowledged}"), &[], "x")
        .await
        .is_ok_and(|answer| answer.status == 201)
    {
        acknowledged += 1;
        assert!(acknowledged < 1000, "no flush failed");
    }
    assert!(acknowledged > 0, "the first flush failed already");
    let data = cluster.node(node).settings.data_dir.display().to_string();
    let status = cluster.node_mut(node).ended("after a failed flush", PATIENCE).await;
    assert_eq!(status.code(), Some(STORAGE_FAILED), "{}", cluster.node(node).tail());
    let said = cluster.node(node).stderr();
    assert!(said.contains(&data) && said.contains("Input/output error"), "{said}");
    cluster.node_mut(node).settings.through.clear();
    cluster.restart(&[node]).await;
    for index in 0..acknowledged {
        assert_eq!(cluster.http(node).get(&format!("/v1/keys/{index}")).await.expect(200).text(), "x");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_that_vanishes_ends_the_node_and_the_others_go_on() {
    let mut cluster = Cluster::start(2).await;
    cluster.http(0).put("/v1/keys/kept", "before").await.expect(201);
    let victim = cluster.add().await;
    cluster.settled(3).await;
    let data = cluster.node(victim).settings.data_dir.clone();
    fs::remove_dir_all(&data).expect("a folder of ours");
    let status = cluster.node_mut(victim).ended("without its directory", PATIENCE).await;
    assert_eq!(status.code(), Some(STORAGE_FAILED), "{}", cluster.node(victim).tail());
    let said = cluster.node(victim).stderr();
    assert!(said.contains(&data.display().to_string()) && said.contains("deleted"), "{said}");
    let http = cluster.http(0);
    until("a write without it", PATIENCE, async || accepts(&http, "/v1/keys/kept").await).await;
    assert_eq!(cluster.http(1).get("/v1/keys/kept").await.expect(200).text(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_of_another_ring_is_not_taken_along() {
    let mut cluster = Cluster::start(1).await;
    let mut settings = cluster.new_settings();
    let join = settings.join.take();
    let mut stranger = NodeProcess::start(settings);
    let http = stranger.http();
    until("a ring of its own", PATIENCE, async || {
        let answer = http.send(reqwest::Method::PUT, "/v1/keys/own", &[], "x").await;
        answer.map_err(|error| error.to_string()).and_then(|answer| match answer.status {
            201 => Ok(()),
            _ => Err(answer.text()),
        })
    })
    .await;
    assert!(stranger.stop().await.success());
    stranger.settings.join = join.clone();
    stranger.start_again();
    let status = stranger.ended("told to join another ring", PATIENCE).await;
    assert_eq!(status.code(), Some(REFUSED), "{}", stranger.tail());
    let said = stranger.stderr();
    assert!(said.contains("belongs to another ring") && said.contains("--data-dir"), "{said}");
    assert!(said.contains(&join.unwrap_or_default()), "{said}");
    cluster.assert_running(&[0]);
}
