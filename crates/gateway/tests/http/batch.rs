use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};

use crate::server::{Answer, Server};

/// What a batch answers, line by line.
async fn batch(server: &Server, query: &str, body: String) -> Vec<Value> {
    let answer = Answer::of(server.request("POST", &format!("/v1/batch{query}")).body(body)).await.expect(200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn lines(items: &[Value]) -> String {
    items.iter().map(|item| format!("{item}\n")).collect()
}

#[tokio::test]
async fn every_line_is_answered_in_its_place() {
    let server = Server::start().await;
    let items = [
        json!({ "op": "put", "key": "a", "value": "1", "ttl": "1h" }),
        json!({ "op": "put", "key": "a", "value": "2", "if": "absent" }),
        json!({ "op": "get", "key": "a" }),
        json!({ "op": "get", "key": "never" }),
        json!({ "op": "frobnicate", "key": "a" }),
        json!({ "op": "put", "key": "" , "value": "x" }),
        json!({ "op": "put", "key": "b" }),
        json!({ "op": "put", "key": "c", "value": "x", "colour": "red" }),
        json!({ "op": "put", "key_base64": "/w==", "value_base64": "/v8=" }),
        json!({ "op": "get", "key_base64": "/w==" }),
        json!({ "op": "delete", "key": "a" }),
        json!({ "op": "delete", "key": "a" }),
        json!({ "op": "put", "key": "a", "value": "3", "namespace": "other" }),
    ];
    let body = format!("{}\n\nnot json\n", lines(&items));
    let answers = batch(&server, "", body).await;
    let statuses: Vec<_> = answers.iter().map(|answer| answer["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [201, 412, 200, 404, 400, 400, 400, 400, 201, 200, 200, 404, 201, 400]);
    let numbers: Vec<_> = answers.iter().map(|answer| answer["line"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=14).collect::<Vec<_>>());
    assert_eq!(answers[2]["value"], "1");
    assert!(answers[2]["deadline_ms"].is_u64());
    assert_eq!(answers[9]["value_base64"], "/v8=");
    assert_eq!((&answers[3]["code"], &answers[5]["code"]), (&"no_such_key".into(), &"empty_key".into()));
    assert_eq!(server.call("GET", "/v1/keys/a?namespace=other").await.expect(200).text(), "3");
}

#[tokio::test]
async fn thousands_of_lines_go_through_and_the_namespace_is_that_of_the_request() {
    let server = Server::start().await;
    let puts: Vec<_> =
        (0..3000).map(|n| json!({ "op": "put", "key": format!("k{n}"), "value": n.to_string() })).collect();
    let answers = batch(&server, "?namespace=many&consistency=all", lines(&puts)).await;
    assert!(answers.iter().all(|answer| answer["status"] == 201));
    let gets: Vec<_> = (0..3000).map(|n| json!({ "op": "get", "key": format!("k{n}") })).collect();
    for (n, answer) in batch(&server, "?namespace=many", lines(&gets)).await.iter().enumerate() {
        assert_eq!(answer["value"], n.to_string());
    }
    assert_eq!(server.call("GET", "/v1/keys/k7?namespace=many").await.expect(200).text(), "7");
    server.call("GET", "/v1/keys/k7").await.expect(404);
    server.call("POST", "/v1/batch?consistency=most").await.expect_problem(400, "bad_parameter", "most");
}

#[tokio::test]
async fn answers_come_while_the_request_is_still_being_sent() {
    let server = Server::start().await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<String>(1);
    let parts = futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|part| (Ok::<_, std::io::Error>(part), receiver))
    });
    sender.send(lines(&[json!({ "op": "put", "key": "a", "value": "1" })])).await.unwrap();
    let request = server.request("POST", "/v1/batch").body(reqwest::Body::wrap_stream(parts));
    let response = request.send().await.unwrap();
    let mut answers = response.bytes_stream();
    let first = tokio::time::timeout(Duration::from_secs(20), answers.next()).await.unwrap().unwrap().unwrap();
    assert!(first.starts_with(b"{\"line\":1,\"status\":201"), "{first:?}");
    sender.send(lines(&[json!({ "op": "get", "key": "a" })])).await.unwrap();
    let second = answers.next().await.unwrap().unwrap();
    assert!(second.starts_with(b"{\"line\":2,\"status\":200"), "{second:?}");
    drop(sender);
    assert!(answers.next().await.is_none());
}

#[tokio::test]
async fn a_line_that_is_too_long_costs_its_own_place_alone() {
    let server = Server::start().await;
    let long = json!({ "op": "put", "key": "long", "value": "x".repeat(9 << 20) });
    let body = lines(&[long, json!({ "op": "put", "key": "short", "value": "x" })]);
    let answers = batch(&server, "", body).await;
    assert_eq!((&answers[0]["status"], &answers[1]["status"]), (&413.into(), &201.into()), "{answers:?}");
}

/// Each may keep up to 32 MiB for a client that does not read.
#[tokio::test]
async fn only_so_many_batches_are_served_at_a_time() {
    let server = Server::start().await;
    server.put("/v1/keys/long", vec![b'x'; 4 << 20]).await.expect(201);
    let gets = r#"{"op":"get","key":"long"}
"#
    .repeat(20);
    let mut unread = Vec::new();
    for _ in 0..32 {
        unread.push(server.request("POST", "/v1/batch").body(gets.clone()).send().await.unwrap());
        assert_eq!(unread.last().unwrap().status(), 200);
    }
    server.call("POST", "/v1/batch").await.expect_problem(503, "busy", "try again later");
    let answers = unread.pop().unwrap().text().await.unwrap();
    assert_eq!(answers.lines().count(), 20);
}
