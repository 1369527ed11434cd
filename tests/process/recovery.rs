//! Nodes are lost for ever, with their directories, and with them the majority of slots.

use std::time::Duration;

use difuse_tests::{Cluster, NodeProcess, until};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_survivor_of_a_lost_majority_goes_on_when_an_operator_says_so() {
    let mut cluster = Cluster::start(3).await;
    cluster.http(0).put("/v1/keys/kept", "for good").await.expect(201);
    let (code, said, _) = cluster.difuse(0).args(["recover", "--yes"]).run().await;
    assert!(code == 0 && said.contains("nothing to recover"), "{said}");
    for lost in [1, 2] {
        cluster.kill9(lost);
        std::fs::remove_dir_all(&cluster.node(lost).settings.data_dir).expect("its directory can be removed");
    }
    let survivor = cluster.http(0).with_timeout(PATIENCE);
    survivor.put("/v1/keys/new", "x").await.expect_problem(503, "unavailable", "");
    survivor.get("/v1/keys/kept").await.expect_problem(503, "unavailable", "");

    // It only shows, explains and asks; without an answer nothing is done.
    let plan = survivor.get("/v1/recover").await.expect(200).json();
    let missing = plan["missing"].as_array().expect("a list").clone();
    assert_eq!((missing.len(), plan["slots"].as_array().map(Vec::len)), (2, Some(32)), "{plan}");
    let (code, _, said) = cluster.difuse(0).args(["recover"]).run().await;
    assert_eq!(code, 2, "{said}");
    for part in ["lost the majority", "survivor 12D3Koo", "missing  12D3Koo", "say --yes"] {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
    let half = serde_json::json!({ "given_up": [missing[0]] }).to_string();
    let answer = survivor.post("/v1/recover", half).await.expect(200).json();
    assert!(answer["slots"].as_array().is_some_and(|slots| slots.iter().all(|slot| slot["recovered"] == false)));
    survivor.post("/v1/recover", "{}").await.expect_problem(400, "bad_body", "given_up");

    let (code, said, errors) = cluster.difuse(0).args(["recover", "--yes"]).run().await;
    assert!(code == 0 && said.contains("32 of 32 slots go on"), "{said} {errors}");
    until("reads and writes", PATIENCE, async || {
        let read = survivor.get("/v1/keys/kept").await;
        let written = survivor.put("/v1/keys/new", "x").await;
        let is_served = read.text() == "for good" && [200, 201].contains(&written.status);
        is_served.then_some(()).ok_or(format!("{} {}", read.text(), written.text()))
    })
    .await;
    let located = survivor.get("/v1/locate/kept").await.expect(200).json();
    assert_eq!(
        (&located["recoveries"], located["members"].as_array().map(Vec::len)),
        (&1.into(), Some(1)),
        "{located}"
    );
    let (_, shown, _) = cluster.difuse(0).args(["locate", "kept"]).run().await;
    assert!(shown.contains("recovered once"), "{shown}");

    // New nodes take the places of those that are lost.
    for _ in 0..2 {
        cluster.add().await;
    }
    until("three replicas of everything", PATIENCE * 2, async || {
        let ring = survivor.get("/v1/ring").await.expect(200).json();
        (ring["settled"] == true && ring["slots_short"] == 0).then_some(()).ok_or(ring.to_string())
    })
    .await;
    let newcomer: &NodeProcess = cluster.node(4);
    assert_eq!(newcomer.http().get("/v1/keys/kept").await.expect(200).text(), "for good");
    assert_eq!(newcomer.http().get("/v1/locate/kept").await.expect(200).json()["recoveries"], 1);
}

/// Of five nodes the founder and two more are lost. Every key of which one member is left is there again; where nobody is,
/// the slot begins empty rather than answer nothing for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_slot_serves_again_after_three_of_five_nodes_are_lost() {
    const KEYS: usize = 60;
    let mut cluster = Cluster::start(5).await;
    let mut members = Vec::new();
    for index in 0..KEYS {
        cluster.http(0).put(&format!("/v1/keys/k{index}?consistency=all"), "here").await.expect(201);
        let located = cluster.http(0).get(&format!("/v1/locate/k{index}")).await.expect(200).json();
        members.push(located["members"].as_array().expect("a list").clone());
    }
    for lost in [0, 1, 2] {
        cluster.kill9(lost);
        std::fs::remove_dir_all(&cluster.node(lost).settings.data_dir).expect("its directory can be removed");
    }
    let survivor = cluster.http(3).with_timeout(PATIENCE);
    let plan = until("all that are lost are known to be", PATIENCE, async || {
        let plan = survivor.get("/v1/recover").await.expect(200).json();
        let missing = plan["missing"].as_array().map(Vec::len);
        if missing == Some(3) { Ok(plan) } else { Err(plan.to_string()) }
    })
    .await;
    let slots = plan["slots"].as_array().expect("a list");
    let is_empty = |slot: &&serde_json::Value| slot["survivors"].as_array().is_some_and(Vec::is_empty);
    let has_empty = slots.iter().any(|slot| is_empty(&slot));
    let missing = plan["missing"].as_array().expect("a list");
    let (code, said, errors) = cluster.difuse(3).args(["recover", "--yes"]).run().await;
    assert!(code == 0 && said.contains("go on with their survivors"), "{said} {errors}");
    assert_eq!(said.contains("begin empty"), has_empty, "{said} {errors}");
    for (index, members) in members.iter().enumerate() {
        let path = format!("/v1/keys/k{index}");
        let read = until("an answer", PATIENCE, async || {
            let read = survivor.get(&path).await;
            if read.status == 503 { Err(read.text()) } else { Ok(read) }
        })
        .await;
        let is_lost = members.iter().all(|member| missing.contains(member));
        assert_eq!(read.status, if is_lost { 404 } else { 200 }, "{path} on {members:?}: {}", read.text());
        until("a write", PATIENCE, async || {
            let written = survivor.put(&path, "again").await;
            if [200, 201].contains(&written.status) { Ok(()) } else { Err(written.text()) }
        })
        .await;
    }
    let (code, said, _) = cluster.difuse(4).args(["recover", "--yes"]).run().await;
    assert!(code == 0 && said.contains("nothing to recover"), "{said}");
}
