//! Going through a whole namespace, through any node, while others write and a node stops; and what is exported, structures and
//! all, is the same once it is imported.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use difuse_tests::{Cluster, Http, free_port};
use serde_json::{Value, json};

/// Keys that are there all the time, of so many bytes each: more than sockets hold.
const STABLE: usize = 4_000;
const VALUE_BYTES: usize = 3_000;

fn stable_value(number: usize, round: u64) -> String {
    format!("{number} {round} {}", "x".repeat(VALUE_BYTES))
}

async fn fill(http: &Http) {
    for part in (0..STABLE).collect::<Vec<_>>().chunks(1000) {
        let line = |number: &usize| {
            json!({ "op": "put", "key": format!("stable {number:05}"), "value": stable_value(*number, 0) }).to_string()
        };
        let body: Vec<String> = part.iter().map(line).collect();
        let answers = http.post("/v1/batch?namespace=walk", body.join("\n")).await.expect(200).text();
        assert!(answers.lines().all(|line| line.contains("\"status\":201")), "{answers}");
    }
}

/// Changes keys that stay, and adds and deletes others, until it is told to stop; what fails while a node goes is tried no more.
async fn write_on(http: Http, is_over: Arc<AtomicBool>) -> u64 {
    let mut round = 0;
    while !is_over.load(Ordering::Relaxed) {
        round += 1;
        let number = usize::try_from(round * 7919).unwrap_or_default() % STABLE;
        let other = (number + 1000) % STABLE;
        let lines = [
            json!({ "op": "put", "key": format!("stable {number:05}"), "value": stable_value(number, round) }),
            json!({ "op": "put", "key": format!("stable {number:05} new"), "value": "new" }),
            json!({ "op": "delete", "key": format!("stable {other:05} new") }),
        ];
        let body: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let _ = http.send(reqwest::Method::POST, "/v1/batch?namespace=walk", &[], body).await;
    }
    round
}

/// Every key that stays, once, in order, each with a value that it was given.
fn check(lines: &[Value]) {
    let names: Vec<_> = lines.iter().map(|line| line["key"].as_str().expect("a key")).collect();
    assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "not in order, or twice");
    let stable: Vec<_> =
        lines.iter().filter(|line| !line["key"].as_str().is_some_and(|key| key.ends_with("new"))).collect();
    assert_eq!(stable.len(), STABLE);
    for (number, line) in stable.iter().enumerate() {
        assert_eq!(line["key"], format!("stable {number:05}"));
        let value = line["value"].as_str().expect("a value");
        let round = value.split(' ').nth(1).and_then(|round| round.parse().ok()).expect("a round");
        assert!(value == stable_value(number, round), "{value:.40}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_gone_through_while_others_write_and_a_node_stops() {
    let mut cluster = Cluster::start(3).await;
    fill(&cluster.http(0)).await;
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write_on(cluster.http(1), is_over.clone()));

    // Through node 1, and node 2 is killed when some has been read.
    let url = format!("http://{}/v1/export?namespace=walk", cluster.node(1).settings.http);
    let mut response =
        reqwest::Client::builder().no_proxy().build().expect("a client").get(url).send().await.expect("200");
    let mut text = Vec::new();
    let mut is_killed = false;
    while let Some(part) = response.chunk().await.expect("a part") {
        text.extend_from_slice(&part);
        if !is_killed && text.len() > 500_000 {
            cluster.kill9(2);
            is_killed = true;
        }
    }
    let text = String::from_utf8(text).expect("text");
    let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let end = lines.pop().expect("an end");
    assert_eq!((&end["end"], &end["items"]), (&json!(true), &lines.len().into()), "{end}");
    check(&lines);

    // On the command line, through another node, with one of three gone.
    let (code, exported, said) = cluster.difuse(0).args(["export", "--namespace", "walk"]).run().await;
    assert_eq!(code, 0, "{said}");
    check(&exported.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<_>>());
    is_over.store(true, Ordering::Relaxed);
    let rounds = writer.await.expect("the writer");
    assert!(rounds > 10, "{rounds} rounds were written meanwhile");
    cluster.assert_running(&[0, 1]);
}

async fn redis(port: u16, commands: &[&str]) -> Vec<redis::Value> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}/1")).expect("a client");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut answers = Vec::new();
    for line in commands {
        let mut words = line.split(' ');
        let mut command = redis::cmd(words.next().unwrap_or_default());
        for word in words {
            command.arg(word);
        }
        answers.push(command.query_async(&mut connection).await.unwrap_or_else(|error| panic!("{line}: {error}")));
    }
    answers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_is_the_same_once_it_is_imported() {
    let mut cluster = Cluster::start(0).await;
    for _ in 0..3 {
        cluster.add_with(|settings| settings.resp = Some(([127, 0, 0, 1], free_port()).into())).await;
    }
    cluster.settled(3).await;
    let port = cluster.node(0).settings.resp.expect("a port").port();
    redis(
        port,
        &[
            "RPUSH list a b a",
            "HSET hash f 1 g 2",
            "PEXPIREAT hash 4000000000000",
            "SADD set x y z",
            "ZADD ranked 1.5 a -inf b 2 c",
            "PFADD counted a b c d",
            "XADD stream 1-1 f v g w",
            "XADD stream 1-2 f v",
            "XADD stream 1-3 f v",
            "XDEL stream 1-2",
            "XGROUP CREATE stream group 0",
            "XREADGROUP GROUP group one COUNT 1 STREAMS stream >",
            "SET plain v",
            "PEXPIREAT plain 4000000000000",
        ],
    )
    .await;
    let file = cluster.folder().join("all.jsonl");
    let path = file.to_str().expect("text");
    let (code, _, said) = cluster.difuse(1).args(["export", "--namespace", "1", "--output", path]).run().await;
    assert_eq!(code, 0, "{said}");
    let exported = fs::read_to_string(&file).expect("the file");
    let lines: BTreeMap<String, Value> = exported
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .map(|line| (line["key"].as_str().expect("a key").to_string(), line))
        .collect();
    assert_eq!(lines.keys().collect::<Vec<_>>(), ["counted", "hash", "list", "plain", "ranked", "set", "stream"]);
    assert_eq!(lines["list"]["commands"], json!([["rpush", "a", "b", "a"]]));
    assert_eq!(
        (&lines["hash"]["type"], &lines["hash"]["deadline_ms"]),
        (&json!("hash"), &json!(4_000_000_000_000_u64))
    );

    // CSV says what it cannot hold; the rest is written.
    let (code, csv, said) = cluster.difuse(1).args(["export", "--namespace", "1", "--format", "csv"]).run().await;
    assert!(code == 1 && said.contains("CSV") && csv.contains("plain,v,4000000000000"), "{code}: {said}\n{csv}");

    let (code, _, said) = cluster.difuse(2).args(["import", path, "--namespace", "2"]).run().await;
    assert_eq!(code, 0, "{said}");
    let (code, again, _) = cluster.difuse(0).args(["export", "--namespace", "2"]).run().await;
    assert!(code == 0 && again == exported, "the copy differs:\n{again}");

    // Onto what is there, by way of HTTP, twice.
    redis(port, &["RPUSH list more", "HDEL hash f"]).await;
    let lines = cluster.http(2).get("/v1/export?namespace=2").await.expect(200).text();
    fs::write(&file, lines).expect("the file");
    for _ in 0..2 {
        let (code, _, said) = cluster.difuse(1).args(["import", path, "--namespace", "1"]).run().await;
        assert_eq!(code, 0, "{said}");
    }
    let (code, restored, _) = cluster.difuse(0).args(["export", "--namespace", "1"]).run().await;
    assert!(code == 0 && restored == exported, "what was restored differs:\n{restored}");
}
