//! A node joins and another leaves while clients write.

use std::time::Duration;

use difuse_tests::{Cluster, Dump, Load, Written, until};

const REPLICAS: usize = 3;
const WRITERS: [usize; 6] = [0, 1, 2, 3, 4, 5];
const PATIENCE: Duration = Duration::from_secs(30);
/// The node that leaves: the second.
const LEAVER: usize = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_and_a_leave_under_load_fail_nothing_and_move_everything() {
    let mut cluster = Cluster::start(3).await;
    let mut all = Written::default();

    let load = start_load("join", &cluster, &[0, 1, 2]);
    load.progress(&WRITERS, Load::TURN).await;
    let newcomer = cluster.add().await;
    assert_eq!(newcomer, 3);
    cluster.settled(4).await;
    load.progress(&WRITERS, Load::TURN).await;
    end_load(load, &mut all).await;
    everything_is_on_replicas(&mut cluster, &[0, 1, 2, 3]).await;
    assert!(!cluster.dump(newcomer).await.is_empty(), "the newcomer holds nothing");
    for node in 0..4 {
        all.assert_all_at(&cluster.http(node)).await;
    }

    let load = start_load("leave", &cluster, &[0, 1, 2, 3]);
    load.progress(&WRITERS, Load::TURN).await;
    let (code, output, errors) = cluster.difuse(LEAVER).args(["leave", "--yes"]).run().await;
    assert_eq!(code, 0, "{output}{errors}");
    assert!(output.contains("has left the ring"), "{output}");
    // It may be stopped as soon as the command says so.
    let held_back = cluster.dump(LEAVER).await;
    assert!(
        held_back.is_empty(),
        "the leaver still holds {} keys, {} blocks",
        held_back.keys.len(),
        held_back.blocks.len()
    );
    cluster.stop(LEAVER).await;
    load.progress(&WRITERS, Load::TURN).await;
    end_load(load, &mut all).await;
    cluster.settled_without(&[LEAVER], 3).await;
    everything_is_on_replicas(&mut cluster, &[0, 2, 3]).await;
    for node in [0, 2, 3] {
        all.assert_all_at(&cluster.http(node)).await;
    }
    cluster.assert_running(&[0, 2, 3]);
}

fn start_load(name: &str, cluster: &Cluster, nodes: &[usize]) -> Load {
    Load::start(name, WRITERS.iter().map(|writer| cluster.retrying(nodes[writer % nodes.len()], nodes)).collect())
}

async fn end_load(load: Load, all: &mut Written) {
    let (written, _) = load.stop().await;
    assert!(written.failures.is_empty(), "failed for good: {:#?}", written.failures);
    all.extend(written);
}

/// Counted over what every node says that it holds.
async fn everything_is_on_replicas(cluster: &mut Cluster, nodes: &[usize]) {
    let nodes = nodes.to_vec();
    until("everything on exactly three hosts", PATIENCE, async || {
        let mut dumps = Vec::new();
        for node in &nodes {
            dumps.push(cluster.dump(*node).await);
        }
        Dump::on_exactly(REPLICAS, &dumps)
    })
    .await;
}
