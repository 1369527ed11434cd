use difuse_api::testing::FakeDatastore;

use crate::server::{Answer, Server};

#[tokio::test]
async fn the_ring() {
    let server = Server::start().await;
    let ring = server.call("GET", "/v1/ring").await.expect(200).json();
    let settings = FakeDatastore::settings();
    assert_eq!(ring["id"], settings.id.to_string());
    assert_eq!((&ring["replicas"], &ring["slots"], &ring["settled"]), (&1.into(), &1024.into(), &true.into()));
    assert_eq!(ring["moving"], serde_json::json!({ "slots": 0, "bytes_done": 0, "bytes_total": 0 }));
    let host = &ring["hosts"][0];
    assert_eq!(host["id"], FakeDatastore::NODE.to_string());
    assert_eq!((&host["address"], &host["http"]), (&"127.0.0.1:4624".into(), &"127.0.0.1:9090".into()));
    assert_eq!((&host["zone"], &host["state"]), (&"zone".into(), &"up".into()));
    Answer::of(server.request("POST", "/v1/leave")).await.expect(204);
}

#[tokio::test]
async fn the_dump_is_complete() {
    let server = Server::start().await;
    for index in 0..1200 {
        server.put(&format!("/v1/keys/{index}"), "x").await.expect(201);
    }
    server.put("/v1/files/f", vec![1; 10_000]).await.expect(201);
    let dump = server.call("GET", "/v1/dump").await.expect(200);
    assert_eq!(dump.header("content-type"), "application/x-ndjson");
    let lines: Vec<serde_json::Value> = dump.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((count("key"), count("block")), (1201, server.datastore.block_count()));
    let last = lines.last().unwrap();
    assert_eq!((&last["kind"], &last["items"]), (&"end".into(), &(lines.len() - 1).into()));
}

#[tokio::test]
async fn scrubbing_tells_how_it_goes() {
    let server = Server::start().await;
    assert_eq!(server.call("GET", "/v1/scrub").await.expect(200).json()["pass"], 0);
    let answer = Answer::of(server.request("POST", "/v1/scrub")).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines: Vec<serde_json::Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = lines.iter().map(|line| (line["kind"].as_str().unwrap(), line["running"] == true)).collect();
    assert_eq!(kinds, [("progress", true), ("report", false)]);
    assert_eq!(server.call("GET", "/v1/scrub").await.expect(200).json()["pass"], 1);
}

#[tokio::test]
async fn probes() {
    let server = Server::start().await;
    for path in ["/livez", "/healthz", "/readyz", "/readyz?verbose"] {
        assert!(server.call("GET", path).await.expect(200).text().starts_with("ok"));
    }
    server.health.0.lock().unwrap().push("no leader is known for slot 7".into());
    server.call("GET", "/livez").await.expect(200);
    let refused = server.call("GET", "/readyz").await.expect_problem(503, "not_ready", "verbose says why");
    assert_eq!(refused.header("retry-after"), "1");
    server.call("GET", "/readyz?verbose").await.expect_problem(503, "not_ready", "no leader is known for slot 7");
}

#[tokio::test]
async fn metrics() {
    let server = Server::start().await;
    server.put("/v1/keys/a/b", "x").await.expect(201);
    server.call("GET", "/v1/keys/absent").await.expect(404);
    server.call("GET", "/nowhere").await.expect(404);
    let text = server.call("GET", "/metrics").await.expect(200).text();
    for line in [
        r#"difuse_http_requests_total{route="/v1/keys/{*key}",method="PUT",status="201"} 1"#,
        r#"difuse_http_requests_total{route="/v1/keys/{*key}",method="GET",status="404"} 1"#,
        r#"difuse_http_requests_total{route="none",method="GET",status="404"} 1"#,
        r#"difuse_http_request_duration_seconds_count{route="/v1/keys/{*key}"} 2"#,
        "difuse_http_requests_in_flight 1",
        "difuse_fake 7",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
    }
}

#[tokio::test]
async fn the_server_stops_when_it_is_told() {
    let server = Server::start().await;
    server.call("GET", "/livez").await.expect(200);
    let address = server.address.clone();
    server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
