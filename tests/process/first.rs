//! What a user does first: any node answers for everything.

use difuse_tests::{Cluster, Dump, until};
use serde_json::Value;

use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(20);

fn names(listing: &Value, list: &str, field: &str) -> Vec<String> {
    let entries = listing[list].as_array().expect("a listing");
    entries.iter().map(|entry| entry[field].as_str().expect("a name").to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_answers_for_any_key_block_and_file() {
    let mut cluster = Cluster::start(3).await;
    let nodes = cluster.all_http();
    for number in 0..60 {
        let path = format!("/v1/keys/key-{number}");
        nodes[number % 3].put(&path, format!("value {number}")).await.expect(201);
        let answer = nodes[(number + 1) % 3].get(&path).await.expect(200);
        assert_eq!((answer.text(), answer.header("difuse-height")), (format!("value {number}"), "1"));
    }
    set_on_one_stat_on_another(&cluster).await;
    delete_once(&cluster).await;
    files_are_replaced(&cluster).await;
    the_same_block_is_stored_once(&cluster).await;
    directories_list_what_is_in_them(&cluster).await;
    every_node_knows_every_other(&cluster).await;
    for number in 0..3 {
        cluster.stop(number).await;
    }
}

async fn set_on_one_stat_on_another(cluster: &Cluster) {
    let written = cluster.http(0).put("/v1/keys/set%20here", "stat there").await.expect(201).json();
    let stat = cluster.http(1).get("/v1/stat/set%20here").await.expect(200).json();
    assert_eq!((&stat["hash"], &stat["height"], &stat["size"]), (&written["hash"], &1.into(), &10.into()));
}

async fn delete_once(cluster: &Cluster) {
    cluster.http(0).put("/v1/keys/short-lived", "x").await.expect(201);
    cluster.http(1).delete("/v1/keys/short-lived").await.expect(204);
    cluster.http(1).delete("/v1/keys/short-lived").await.expect_problem(
        404,
        "no_such_key",
        "never written, or was deleted",
    );
    cluster.http(2).get("/v1/keys/short-lived").await.expect_problem(404, "no_such_key", "deleted");
    let history = cluster.http(2).get("/v1/log/short-lived").await.expect(200).json();
    assert_eq!(names(&history, "transactions", "operation"), ["set", "delete"]);
    let (code, output, errors) = cluster.difuse(2).args(["kv", "verify", "short-lived"]).run().await;
    assert_eq!(code, 0, "{output}{errors}");
}

async fn files_are_replaced(cluster: &Cluster) {
    for round in 0..3 {
        let content = vec![round; 10_000];
        let answer = cluster.http(round as usize).put("/v1/files/replaced", content.clone()).await;
        let answer = answer.expect(if round == 0 { 201 } else { 200 });
        assert_eq!(answer.header("difuse-height"), (round + 1).to_string());
        let read = cluster.http((round as usize + 1) % 3).get("/v1/files/replaced").await.expect(200);
        assert_eq!(read.body, content);
    }
    cluster.http(0).delete("/v1/files/replaced").await.expect(204);
}

async fn the_same_block_is_stored_once(cluster: &Cluster) {
    let content = vec![7; 100_000];
    let first = cluster.http(0).post("/v1/blocks", content.clone()).await.expect(201);
    let again = cluster.http(1).post("/v1/blocks", content.clone()).await.expect(200);
    let hash = first.json()["hash"].as_str().expect("a hash").to_string();
    assert_eq!(again.json()["hash"], hash);
    assert_eq!(first.header("location"), format!("/v1/blocks/{hash}"));
    assert_eq!(cluster.http(2).get(&format!("/v1/blocks/{hash}")).await.expect(200).body, content);
    until("the block on all three", PATIENCE, async || {
        let dumps = [cluster.dump(0).await, cluster.dump(1).await, cluster.dump(2).await];
        Dump::on_exactly(3, &dumps)?;
        // `Dump` panics when a node names a block twice.
        dumps.iter().all(|dump| dump.blocks.get(&hash) == Some(&100_000)).then_some(()).ok_or(format!("{dumps:?}"))
    })
    .await;
}

async fn directories_list_what_is_in_them(cluster: &Cluster) {
    cluster.http(0).put("/v1/files/foo/bar/baz", "1").await.expect(201);
    cluster.http(1).put("/v1/files/foo/bar/film", "2").await.expect(201);
    let root = cluster.http(2).get("/v1/files/").await.expect(200).json();
    assert_eq!(names(&root, "entries", "name"), ["foo"]);
    let inner = cluster.http(2).get("/v1/files/foo/bar").await.expect(200).json();
    assert_eq!(names(&inner, "entries", "name"), ["baz", "film"]);
    cluster.http(0).delete("/v1/files/foo/bar").await.expect_problem(409, "directory_not_empty", "not empty");
    cluster.http(0).delete("/v1/files/foo?recursive=true").await.expect(204);
    cluster.http(1).get("/v1/files/foo/bar/baz").await.expect_problem(404, "no_such_file", "");
}

/// Each node was given the address of one other.
async fn every_node_knows_every_other(cluster: &Cluster) {
    let mut views = Vec::new();
    for number in 0..3 {
        let ring = cluster.http(number).get("/v1/ring").await.expect(200).json();
        assert_eq!((&ring["replicas"], &ring["slots"], &ring["settled"]), (&3.into(), &32.into(), &true.into()));
        let mut known = names(&ring, "hosts", "http");
        known.sort();
        views.push((ring["id"].clone(), known));
        assert_eq!(ring["node"], cluster.http(number).get("/livez").await.header("difuse-node"));
    }
    let mut expected: Vec<_> = (0..3).map(|number| cluster.node(number).settings.http.to_string()).collect();
    expected.sort();
    assert!(views.iter().all(|(id, known)| *id == views[0].0 && *known == expected), "{views:?} {expected:?}");
}
