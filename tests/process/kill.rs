//! kill -9 of any one node while clients write through all; a node that hangs.

use std::time::Duration;

use difuse_tests::{Cluster, Dump, Load, Sample, Written, until};
use tokio::time::Instant;

const NODES: [usize; 3] = [0, 1, 2];
/// Two writers stay with each node as long as it serves.
const WRITERS: usize = 6;
/// Within how long writes go on through the others, at the default of --suspect-after.
const GAP_MAX: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_costs_no_acknowledged_write_and_comes_back_repaired() {
    let mut cluster = Cluster::start(3).await;
    let mut all = Written::default();
    for victim in NODES {
        let survivors: Vec<_> = NODES.into_iter().filter(|node| *node != victim).collect();
        let load = Load::start(&format!("victim{victim}"), clients(&cluster));
        let everybody: Vec<_> = (0..WRITERS).collect();
        load.progress(&everybody, Load::TURN).await;
        let killed = Instant::now();
        cluster.kill9(victim);
        load.progress(&everybody, Load::TURN).await;
        let (written, samples) = load.stop().await;
        assert!(written.failures.is_empty(), "{:#?}", written.failures);
        let through_survivors = samples.iter().filter(|sample| sample.writer % 3 != victim);
        report_gap(&format!("{victim} killed"), killed, through_survivors);
        all.extend(written);
        for survivor in &survivors {
            all.assert_all_at(&cluster.http(*survivor)).await;
        }

        // It comes back to writes that go on.
        let load = Load::start(&format!("return{victim}"), clients(&cluster));
        cluster.restart(&[victim]).await;
        load.progress(&everybody, Load::TURN).await;
        let (written, _) = load.stop().await;
        assert!(written.failures.is_empty(), "{:#?}", written.failures);
        all.extend(written);
        cluster.settled(3).await;
        all.assert_all_at(&cluster.http(victim)).await;
        everything_is_on_all_nodes(&cluster).await;
    }
    cluster.assert_running(&NODES);
}

/// A node that hangs keeps its connections: only its silence tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_node_is_routed_around_and_does_no_harm_when_it_goes_on() {
    let mut cluster = Cluster::start(3).await;
    let (victim, survivors) = (0, [1, 2]);
    let clients = (0..WRITERS).map(|writer| cluster.retrying(survivors[writer % 2], &survivors)).collect();
    let load = Load::start("hang", clients);
    let everybody: Vec<_> = (0..WRITERS).collect();
    load.progress(&everybody, Load::TURN).await;
    let paused = Instant::now();
    cluster.node_mut(victim).pause();
    load.progress(&everybody, Load::TURN).await;
    cluster.node_mut(victim).resume();
    load.progress(&everybody, Load::TURN).await;
    let (written, samples) = load.stop().await;
    assert!(written.failures.is_empty(), "{:#?}", written.failures);
    report_gap("hangs", paused, samples.iter());
    cluster.settled(3).await;
    for node in NODES {
        written.assert_all_at(&cluster.http(node)).await;
    }
    everything_is_on_all_nodes(&cluster).await;
}

/// Writer n prefers node n modulo 3.
fn clients(cluster: &Cluster) -> Vec<difuse_tests::Retrying> {
    (0..WRITERS).map(|writer| cluster.retrying(writer % 3, &NODES)).collect()
}

/// The longest time in which nothing was acknowledged through the survivors, and the slowest single write.
fn report_gap<'a>(what: &str, since: Instant, through_survivors: impl Iterator<Item = &'a Sample>) {
    let after: Vec<_> = through_survivors.filter(|sample| sample.end > since).collect();
    let mut ends: Vec<_> = after.iter().map(|sample| sample.end).collect();
    ends.push(since);
    ends.sort();
    let gap = ends.windows(2).map(|pair| pair[1] - pair[0]).max().expect("writes after the kill");
    let slowest = after.iter().map(|sample| sample.end - sample.start).max().expect("writes after the kill");
    println!("node {what}: longest gap without an acknowledged write {gap:?}, slowest write {slowest:?}");
    assert!(gap < GAP_MAX, "for {gap:?} no write was acknowledged");
    assert!(slowest < GAP_MAX, "a write through a survivor took {slowest:?}");
}

/// A ring of three with three replicas: the nodes hold the same, the one that was away included.
async fn everything_is_on_all_nodes(cluster: &Cluster) {
    until("the same on all nodes", PATIENCE, async || {
        let dumps = [cluster.dump(0).await, cluster.dump(1).await, cluster.dump(2).await];
        Dump::on_exactly(3, &dumps)
    })
    .await;
}
