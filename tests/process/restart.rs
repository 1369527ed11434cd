//! All nodes killed at once, and started again.

use difuse_tests::{Cluster, Load, Written};

const NODES: [usize; 3] = [0, 1, 2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_survives_the_death_of_all_nodes() {
    let mut cluster = Cluster::start(3).await;
    let block = vec![3; 300_000];
    let hash = cluster.http(1).post("/v1/blocks", block.clone()).await.expect(201).json()["hash"].clone();
    let block_path = format!("/v1/blocks/{}", hash.as_str().expect("a hash"));
    let mut all = Written::default();
    for round in 0..2 {
        let clients = (0..6).map(|writer| cluster.retrying(writer % 3, &NODES)).collect();
        let load = Load::start(&format!("round{round}"), clients);
        load.progress(&[0, 1, 2, 3, 4, 5], Load::TURN).await;
        for node in NODES {
            cluster.kill9(node);
        }
        all.extend(load.stop().await.0);
        cluster.restart(&NODES).await;
        cluster.settled(3).await;
        for node in NODES {
            all.assert_all_at(&cluster.http(node)).await;
            assert_eq!(cluster.http(node).get(&block_path).await.expect(200).body, block);
        }
    }
    assert!(all.failures.is_empty(), "{:#?}", all.failures);
}
