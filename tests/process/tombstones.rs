//! Deleted keys are forgotten by every node.

use std::time::Duration;

use difuse_tests::{Cluster, until};
use reqwest::Method;

const KEYS: usize = 2000;
const NODES: [usize; 3] = [0, 1, 2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_deleted_keys_are_gone_from_every_node() {
    let cluster = Cluster::start_with(3, &["--tombstones-kept", "2s"]).await;
    let each = |method: Method, first: usize| {
        let http = cluster.http(first % 3);
        async move {
            for number in (first..KEYS).step_by(16) {
                let path = format!("/v1/keys/deleted-{number}");
                let value = if method == Method::PUT { vec![b'v'; 500] } else { Vec::new() };
                let answer = http.call(method.clone(), &path, &[], value).await;
                assert!([200, 201, 204].contains(&answer.status), "{method} {path}: {}", answer.status);
            }
        }
    };
    for method in [Method::PUT, Method::DELETE] {
        futures::future::join_all((0..16).map(|first| each(method.clone(), first))).await;
    }
    cluster.http(0).put("/v1/keys/kept", "v").await.expect(201);

    until("the deleted keys are forgotten", Duration::from_secs(120), async || {
        let dumps = [cluster.dump(0).await, cluster.dump(1).await, cluster.dump(2).await];
        let left = dumps.each_ref().map(|dump| dump.keys.len());
        if left == [1, 1, 1] { Ok(()) } else { Err(format!("{left:?} keys are left")) }
    })
    .await;
    for node in NODES {
        let http = cluster.http(node);
        assert_eq!(http.get("/v1/ring").await.expect(200).json()["tombstones"], 0);
        assert_eq!(http.get("/v1/keys/deleted-7").await.status, 404);
        assert_eq!(http.get("/v1/log/deleted-7").await.status, 404);
        assert_eq!(http.get("/v1/keys/kept").await.expect(200).text(), "v");
    }
    let created = cluster.http(1).call(Method::PUT, "/v1/keys/deleted-7", &[("if-none-match", "*")], "anew").await;
    assert_eq!(created.status, 201);
    assert_eq!(cluster.http(2).get("/v1/keys/deleted-7").await.expect(200).text(), "anew");
}
