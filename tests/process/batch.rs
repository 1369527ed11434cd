//! Many keys at once, and keys that expire: over HTTP and on the command line, through any node.

use std::{fs, time::Duration};

use difuse_tests::{Cluster, until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const COUNT: usize = 3000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_in_as_lines_comes_out_as_lines() {
    let cluster = Cluster::start(3).await;
    let puts: String = (0..COUNT)
        .map(|n| json!({ "op": "put", "key": format!("k{n:05}"), "value": n.to_string(), "namespace": "many" }))
        .map(|line| format!("{line}\n"))
        .collect();
    let answers = cluster.http(0).post("/v1/batch", puts).await.expect(200);
    let statuses: Vec<Value> = answers
        .text()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["status"].clone())
        .collect();
    assert_eq!(statuses, vec![json!(201); COUNT]);
    assert_eq!(cluster.http(1).get("/v1/keys/k00007?namespace=many").await.expect(200).text(), "7");

    // Out through one node, in through another, under another name.
    let file = cluster.folder().join("many.jsonl");
    let path = file.to_str().expect("text");
    let export = ["export", "--namespace", "many", "--output", path];
    assert_eq!(cluster.difuse(2).args(export).run().await.0, 0);
    let exported = fs::read_to_string(&file).expect("the file");
    assert_eq!(exported.lines().count(), COUNT);
    let report = cluster.difuse(1).args(["import", path, "--namespace", "copy"]).json().await;
    assert_eq!((&report["written"], &report["failed"]), (&COUNT.into(), &0.into()));
    let (code, copied, _) = cluster.difuse(0).args(["export", "--namespace", "copy"]).run().await;
    assert!(code == 0 && copied == exported, "the copy differs");

    // An export that was cut off goes on where it was cut.
    fs::write(&file, &exported[..exported.len() / 2]).expect("the file");
    assert_eq!(cluster.difuse(2).args(export).args(["--resume"]).run().await.0, 0);
    assert_eq!(fs::read_to_string(&file).expect("the file"), exported);

    // An import goes on behind what was written, and what is wrong in a file stops nothing.
    let lines = "{\"key\":\"skipped\",\"value\":\"x\"}\nnonsense\n{\"key\":\"written\",\"value\":\"y\"}\n";
    fs::write(&file, lines).expect("the file");
    fs::write(cluster.folder().join("many.jsonl.imported"), "1\n").expect("the note");
    let (code, _, told) = cluster.difuse(0).args(["import", path, "--resume"]).run().await;
    assert!(code == 2 && told.contains("record 2"), "{code}: {told}");
    cluster.http(1).get("/v1/keys/skipped").await.expect(404);
    assert_eq!(cluster.http(1).get("/v1/keys/written").await.expect(200).text(), "y");
    assert!(!cluster.folder().join("many.jsonl.imported").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_expires_is_gone_from_every_node_and_its_history_says_so() {
    let cluster = Cluster::start(3).await;
    cluster.http(0).put("/v1/keys/short?ttl=1s", "x").await.expect(201);
    cluster.http(1).put("/v1/keys/long?ttl=1h", "x").await.expect(201);
    let (code, ..) = cluster.difuse(2).args(["kv", "set", "command", "x", "--ttl", "1s"]).run().await;
    assert_eq!(code, 0);
    for http in cluster.all_http() {
        until("the keys have expired", PATIENCE, async || {
            for key in ["short", "command"] {
                match http.get(&format!("/v1/keys/{key}")).await.status {
                    404 => {}
                    status => return Err(format!("{key}: {status}")),
                }
            }
            Ok(())
        })
        .await;
        let listing = http.get("/v1/keys").await.expect(200).json();
        let names: Vec<_> = listing["keys"].as_array().expect("keys").iter().map(|key| &key["key"]).collect();
        assert_eq!(names, ["long"]);
    }
    let operations = until("the leader deletes what has expired", PATIENCE, async || {
        let log = cluster.http(1).get("/v1/log/short").await.expect(200).json();
        let operations: Vec<_> =
            log["transactions"].as_array().expect("a log").iter().map(|entry| entry["operation"].clone()).collect();
        if operations.len() == 2 { Ok(operations) } else { Err(format!("{operations:?}")) }
    })
    .await;
    assert_eq!(operations, ["set", "delete"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_set_at_one_node_and_holds_at_another() {
    let cluster = Cluster::start(3).await;
    let set = ["namespace", "set", "fast", "--read-level", "leader"];
    let shown = cluster.difuse(0).args(set).json().await;
    assert_eq!((&shown["read_level"], &shown["write_level"]), (&"leader".into(), &Value::Null));
    let seen = cluster.difuse(2).args(["namespace", "show", "fast"]).json().await;
    assert_eq!((&seen["read_level"], &seen["keys"]), (&"leader".into(), &0.into()));
    let listed = cluster.difuse(1).args(["namespace", "list"]).json().await;
    assert_eq!(listed["namespaces"], json!([{ "namespace": "fast", "keys": 0, "bytes": 0 }]));
    let key = ["kv", "set", "k", "v", "--namespace", "fast"];
    assert_eq!(cluster.difuse(1).args(key).run().await.0, 0);
    assert_eq!(cluster.difuse(1).args(["kv", "get", "k", "--namespace", "fast"]).run().await.1, "v");
    let seen = cluster.http(0).get("/v1/namespaces/fast").await.expect(200).json();
    assert_eq!((&seen["keys"], &seen["bytes"]), (&1.into(), &2.into()), "one key, counted at its leader alone");
    let set = ["namespace", "set", "fast", "--read-level", "none", "--write-level", "lazy"];
    assert_eq!(cluster.difuse(2).args(set).json().await["write_level"], "lazy");
    until("node 1 queues what names no level", PATIENCE, async || {
        match cluster.http(1).put("/v1/keys/l?namespace=fast", "v").await.status {
            202 => Ok(()),
            status => Err(status.to_string()),
        }
    })
    .await;
    assert_eq!(cluster.difuse(0).args(["namespace", "drop", "fast", "--yes"]).run().await.0, 0);
    assert_eq!(cluster.difuse(0).args(["namespace", "show", "fast"]).json().await["write_level"], Value::Null);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_takes_no_more_than_its_quota() {
    let cluster = Cluster::start(2).await;
    let set = ["namespace", "set", "small", "--max-keys", "3"];
    assert_eq!(cluster.difuse(0).args(set).json().await["keys_max"], 3);
    let path = |number: usize| format!("/v1/keys/k{number}?namespace=small");
    let mut written = 0;
    until("a gateway refuses", PATIENCE, async || match cluster.http(written % 2).put(&path(written), "v").await {
        refused if refused.status == 507 => {
            let problem = refused.json();
            assert_eq!(problem["code"], "quota_reached");
            assert!(
                problem["detail"].as_str().expect("text").contains("namespace small has reached its quota of 3 keys")
            );
            Ok(())
        }
        answer => {
            written += usize::from(answer.expect(201).status == 201);
            Err(format!("{written} keys are written"))
        }
    })
    .await;
    assert!(written >= 3, "{written} keys");
    // What goes straight to the leader is refused as well, which may count a moment later.
    until("a leader refuses", PATIENCE, async || {
        let name = format!("k{written}");
        let (code, _, said) = cluster.difuse(1).args(["kv", "set", &name, "v", "--namespace", "small"]).run().await;
        written += usize::from(code == 0);
        if code == 8 && said.contains("quota of 3 keys") { Ok(()) } else { Err(format!("{code}: {said}")) }
    })
    .await;
    // What is there may be written, and deleted.
    cluster.http(0).put(&path(0), "w").await.expect(200);
    for number in 0..written {
        cluster.http(1).delete(&path(number)).await.expect(204);
    }
    until("there is room again", PATIENCE, async || match cluster.http(0).put(&path(0), "v").await.status {
        201 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
}
