//! What is pinned outlives its file and every collection, and goes when it is let go of.

use difuse_tests::Cluster;
use serde_json::Value;

use crate::collection::{content, deleted, gc};

async fn pins(cluster: &Cluster, node: usize) -> Vec<Value> {
    let listed = cluster.http(node).get("/v1/pins").await.expect(200).json();
    listed["pins"].as_array().unwrap_or_else(|| panic!("{listed:#}")).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_file_outlives_its_name_until_it_is_let_go() {
    let mut cluster = Cluster::start_with(3, &["--gc-every", "off"]).await;
    let (kept, other) = (content(1), content(2));
    cluster.http(0).put("/v1/files/kept", kept.clone()).await.expect(201);
    cluster.http(0).put("/v1/files/other", other).await.expect(201);
    let pin = cluster.difuse(1).args(["pin", "add", "/kept"]).json().await;
    assert_eq!((&pin["kind"], &pin["size"], &pin["created"]), (&"tree".into(), &kept.len().into(), &true.into()));
    for path in ["/v1/files/kept", "/v1/files/other"] {
        cluster.http(2).delete(path).await.expect(204);
    }
    for _ in 0..2 {
        gc(&cluster, 0).await;
    }
    let report = gc(&cluster, 0).await;
    assert_eq!(deleted(&report), 0, "{report:#}");
    assert_eq!(report["values"], 1, "{report:#}");

    // The tree is there, whole: pinning it again reads all of it.
    let hash = pin["hash"].as_str().expect("a hash");
    let path = format!("/v1/pins/{hash}");
    let again = cluster.http(2).put(&path, Vec::new()).await.expect(200).json();
    assert_eq!((&again["hash"], &again["kind"], &again["size"]), (&pin["hash"], &pin["kind"], &pin["size"]));
    assert_eq!(pins(&cluster, 1).await.len(), 1);
    cluster.http(0).get(&format!("/v1/blocks/{hash}")).await.expect(200);
    cluster.http(0).delete(&format!("/v1/blocks/{hash}")).await.expect(409);

    cluster.difuse(0).args(["pin", "remove", hash]).json().await;
    cluster.http(1).delete(&path).await.expect(404);
    assert_eq!(pins(&cluster, 2).await, [] as [Value; 0]);
    gc(&cluster, 1).await;
    let report = gc(&cluster, 1).await;
    assert!(deleted(&report) as usize >= kept.len(), "{report:#}");
    cluster.http(0).get(&format!("/v1/blocks/{hash}")).await.expect(404);
    cluster.assert_running(&[0, 1, 2]);
}
