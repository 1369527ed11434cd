use difuse_types::Level;
use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn a_namespace_is_set_and_says_so() {
    let server = Server::start().await;
    let path = "/v1/namespaces/n%20m";
    let nothing =
        json!({ "namespace": "n m", "read_level": null, "write_level": null, "keys_max": null, "bytes_max": null });
    let empty = |mut settings: serde_json::Value| {
        (settings["keys"], settings["bytes"]) = (0.into(), 0.into());
        settings
    };
    let found = server.call("GET", path).await.expect(200);
    assert_eq!((found.json(), found.header("etag")), (empty(nothing.clone()), ""));
    let set = server.put(path, r#"{"read_level":"leader"}"#).await.expect(200);
    let expected =
        json!({ "namespace": "n m", "read_level": "leader", "write_level": null, "keys_max": null, "bytes_max": null });
    assert_eq!(set.json(), expected);
    let found = server.call("GET", path).await.expect(200);
    assert_eq!((found.json(), found.header("etag")), (empty(expected), set.header("etag")));
    assert!(set.header("etag").len() > 60);
    let listed = json!([{ "namespace": "n m", "keys": 0, "bytes": 0 }]);
    assert_eq!(server.call("GET", "/v1/namespaces").await.expect(200).json()["namespaces"], listed);
    assert_eq!(server.put(path, "{}").await.expect(200).json(), nothing);
    assert_eq!(server.call("GET", "/v1/namespaces").await.expect(200).json()["namespaces"], json!([]));
}

#[tokio::test]
async fn a_namespace_tells_what_it_holds() {
    let server = Server::start().await;
    server.put("/v1/keys/key?namespace=n", "12345").await.expect(201);
    server.put("/v1/keys/long?namespace=n", vec![1; 1_000_000]).await.expect(201);
    server.put("/v1/keys/key", "1").await.expect(201);
    let found = server.call("GET", "/v1/namespaces/n").await.expect(200).json();
    assert_eq!((&found["keys"], &found["bytes"]), (&json!(2), &json!(3 + 5 + 4 + 1_000_000)));
    server.call("DELETE", "/v1/keys/long?namespace=n").await.expect(204);
    let listed = json!([
        { "namespace": "", "keys": 1, "bytes": 3 + 1 },
        { "namespace": "n", "keys": 1, "bytes": 3 + 5 },
    ]);
    assert_eq!(server.call("GET", "/v1/namespaces").await.expect(200).json()["namespaces"], listed);
}

#[tokio::test]
async fn the_default_namespace_has_no_name() {
    let server = Server::start().await;
    server.put("/v1/namespaces/", r#"{"write_level":"all","keys_max":10,"bytes_max":1000}"#).await.expect(200);
    let found = server.call("GET", "/v1/namespaces/").await.expect(200).json();
    assert_eq!((&found["namespace"], &found["write_level"]), (&json!(""), &json!("all")));
    assert_eq!((&found["keys_max"], &found["bytes_max"]), (&json!(10), &json!(1000)));
    server.call("DELETE", "/v1/namespaces/").await.expect(405);
}

#[tokio::test]
async fn settings_are_replaced_on_conditions() {
    let server = Server::start().await;
    let put = async |name: &str, value: &str, status: u16| {
        let request = server.request("PUT", "/v1/namespaces/n").header(name, value);
        let response = request.body(r#"{"read_level":"all"}"#).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{name}: {value}");
    };
    put("if-none-match", "*", 200).await;
    put("if-none-match", "*", 412).await;
    let etag = server.call("GET", "/v1/namespaces/n").await.header("etag").to_owned();
    put("if-match", &etag, 200).await;
    put("if-match", &etag, 412).await;
}

#[tokio::test]
async fn what_is_refused() {
    let server = Server::start().await;
    for (body, detail) in [
        ("", "EOF"),
        ("[]", "no object"),
        (r#"{"read_level":"most"}"#, "use lazy, leader, quorum or all"),
        (r#"{"colour":"red"}"#, "unknown field"),
        (r#"{"keys_max":-1}"#, "expected u64"),
    ] {
        server.put("/v1/namespaces/n", body).await.expect_problem(400, "bad_body", detail);
    }
    server.put("/v1/namespaces/n", " ".repeat(5000)).await.expect_problem(400, "bad_body", "limit");
    let long = format!("/v1/namespaces/{}", "n".repeat(65));
    server.put(&long, "{}").await.expect_problem(400, "bad_key", "namespace");
    server.call("GET", &long).await.expect_problem(400, "bad_key", "namespace");
    server.call("GET", "/v1/namespaces/%ff").await.expect_problem(400, "bad_key", "UTF-8");
}

#[tokio::test]
async fn requests_that_name_no_level_take_the_namespaces() {
    let server = Server::start().await;
    server.put("/v1/namespaces/fast", r#"{"read_level":"leader","write_level":"lazy"}"#).await.expect(200);
    let linearizable = async |path: &str| server.call("GET", path).await.header("difuse-linearizable").to_owned();
    server.put("/v1/keys/k?namespace=fast", "queued").await.expect(202);
    server.put("/v1/keys/k?namespace=fast&consistency=quorum", "written").await.expect(201);
    server.put("/v1/keys/k", "written").await.expect(201);
    assert_eq!(linearizable("/v1/keys/k?namespace=fast").await, "false");
    assert_eq!(linearizable("/v1/keys/k?namespace=fast&consistency=quorum").await, "true");
    assert_eq!(server.call("GET", "/v1/stat/k?namespace=fast").await.expect(200).json()["linearizable"], false);
    assert_eq!(linearizable("/v1/keys/k").await, "true");
    let lines = "{\"op\":\"put\",\"key\":\"b\",\"value\":\"1\",\"namespace\":\"fast\"}\n\
                 {\"op\":\"put\",\"key\":\"b\",\"value\":\"1\"}\n";
    let answers = server.request("POST", "/v1/batch").body(lines).send().await.unwrap().text().await.unwrap();
    let statuses: Vec<_> = answers
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["status"].clone())
        .collect();
    assert_eq!(statuses, [json!(202), json!(201)]);
    server.call("DELETE", "/v1/namespaces/fast?consistency=quorum").await.expect(200);
    server.put("/v1/keys/k?namespace=fast", "written").await.expect(201);
}

#[tokio::test]
async fn levels_that_cannot_be_read_are_not_guessed() {
    let server = Server::start().await;
    server.datastore.fail_settings(difuse_api::request::RequestError::Busy);
    server.call("GET", "/v1/keys/k?namespace=n").await.expect_problem(503, "busy", "busy");
    server.datastore.fail_settings(difuse_api::request::RequestError::Busy);
    let named = format!("/v1/keys/k?namespace=m&consistency={}", Level::Quorum);
    server.call("GET", &named).await.expect_problem(404, "no_such_key", "");
}
