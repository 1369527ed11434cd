//! A real source tree goes in through one node and comes out of another.

use std::fs;

use difuse_tests::{Cluster, trees};

/// How much of the sources, in MB, unless the variable says otherwise.
const TREE_MB: u64 = 25;
const TREE_MB_VARIABLE: &str = "DIFUSE_TEST_TREE_MB";
/// A tree takes longer than what people wait for.
const PATIENCE: [&str; 2] = ["--timeout", "120s"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_tree_comes_back_byte_for_byte_and_is_stored_once() {
    let cluster = Cluster::start(3).await;
    let (source, copy) = (cluster.folder().join("source"), cluster.folder().join("copy"));
    let megabytes = std::env::var(TREE_MB_VARIABLE).ok().map(|text| text.parse().expect("a number of MB"));
    let (files, bytes) = trees::collect_sources(&source, megabytes.unwrap_or(TREE_MB) * 1_000_000);
    let source_text = source.display().to_string();

    let put = cluster.difuse(0).args(PATIENCE).args(["put", &source_text, "/tree"]).json().await;
    println!("{files} files, {bytes} bytes of sources: {put}");
    assert!(put["files"].as_u64() > Some(files as u64) && put["bytes"].as_u64() > Some(bytes), "{put}");

    let got = cluster.difuse(2).args(PATIENCE).args(["get", "/tree", &copy.display().to_string()]).json().await;
    println!("fetched through another node: {got}");
    trees::assert_equal(&source, &copy);

    let again = cluster.difuse(1).args(PATIENCE).args(["put", &source_text, "/tree"]).json().await;
    let (total, new) = (again["bytes"].as_u64().expect("bytes"), again["bytes_new"].as_u64().expect("bytes_new"));
    println!("put again: {new} of {total} bytes are new");
    assert_eq!(total, put["bytes"].as_u64().expect("bytes"));
    assert!(new * 100 < total, "put again it stores {new} of {total} bytes");

    let elsewhere = cluster.difuse(1).args(PATIENCE).args(["put", &source_text, "/elsewhere"]).json().await;
    let new = elsewhere["bytes_new"].as_u64().expect("bytes_new");
    println!("put under another name: {new} of {total} bytes are new");
    assert!(new * 100 < total, "put under another name it stores {new} of {total} bytes");
    fs::remove_dir_all(&copy).expect("our own folder");
    cluster.difuse(0).args(PATIENCE).args(["get", "/elsewhere", &copy.display().to_string()]).json().await;
    trees::assert_equal(&source, &copy);
}
