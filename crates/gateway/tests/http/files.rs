use difuse_api::testing::content;

use crate::server::{Answer, Server};

#[tokio::test]
async fn a_file_goes_in_and_comes_out() {
    let server = Server::start().await;
    server.call("GET", "/v1/files/a/f").await.expect_problem(404, "no_such_file", "/a/f");
    for size in [0, 5, 5000, 5_000_000] {
        let bytes = content(size, 1);
        let path = format!("/v1/files/a/b/{size}");
        let request = server.request("PUT", &format!("{path}?mode=755&modified_ms=1000000000000"));
        let put = Answer::of(request.header("content-type", "text/plain").body(bytes.clone())).await.expect(201);
        assert_eq!(put.json()["size"], size);
        assert_eq!(put.json()["path"], format!("/a/b/{size}"));
        let read = server.call("GET", &path).await.expect(200);
        assert!(read.body == bytes);
        assert_eq!(read.header("etag"), put.header("etag"));
        assert_eq!(read.header("content-type"), "text/plain");
        assert_eq!(read.header("last-modified"), "Sun, 09 Sep 2001 01:46:40 GMT");
        assert_eq!(read.header("accept-ranges"), "bytes");
        let head = server.call("HEAD", &path).await.expect(200);
        assert_eq!((head.header("content-length"), head.body.len()), (size.to_string().as_str(), 0));
        let again = server.put(&path, bytes).await.expect(200).json();
        assert_eq!((&again["blocks_new"], &again["bytes_new"]), (&0.into(), &0.into()));
    }
}

#[tokio::test]
async fn ranges() {
    let server = Server::start().await;
    let bytes = content(1_000_000, 1);
    server.put("/v1/files/f", bytes.clone()).await.expect(201);
    let read = |range: &'static str| {
        let server = &server;
        async move { server.call_with("GET", "/v1/files/f", &[("range", range)]).await }
    };
    for (range, expected, described) in [
        ("bytes=0-0", 0..1, "bytes 0-0/1000000"),
        ("bytes=99999-900000", 99_999..900_001, "bytes 99999-900000/1000000"),
        ("bytes=999990-", 999_990..1_000_000, "bytes 999990-999999/1000000"),
        ("bytes=-10", 999_990..1_000_000, "bytes 999990-999999/1000000"),
        ("bytes=5-9999999999999", 5..1_000_000, "bytes 5-999999/1000000"),
    ] {
        let part = read(range).await.expect(206);
        assert!(part.body == bytes[expected], "{range}");
        assert_eq!(part.header("content-range"), described);
        assert_eq!(part.header("content-length"), part.body.len().to_string());
    }
    for range in ["bytes=1000000-", "bytes=-0"] {
        let refused = read(range).await.expect_problem(416, "range_not_satisfiable", "1000000 bytes");
        assert_eq!(refused.header("content-range"), "bytes */1000000");
    }
    for range in ["bytes=a-b", "bytes=9-1", "1-2", "bytes=1-2,3-4"] {
        read(range).await.expect_problem(400, "bad_header", "range");
    }
}

#[tokio::test]
async fn directories() {
    let server = Server::start().await;
    for path in ["/v1/files", "/v1/files/"] {
        let root = server.call("GET", path).await.expect(200).json();
        assert_eq!((&root["path"], root["entries"].as_array().unwrap().len()), (&"/".into(), 0));
    }
    for name in ["d/1", "d/2", "d/3", "d/sub/x", "d/gr%C3%BC%C3%9Fe%20%3F"] {
        server.put(&format!("/v1/files/{name}"), "x").await.expect(201);
    }
    let page = server.call("GET", "/v1/files/d/?limit=3").await.expect(200).json();
    let names = |page: &serde_json::Value| {
        let entries = page["entries"].as_array().unwrap().clone();
        entries.into_iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&page), ["1", "2", "3"]);
    let next = page["next"].as_str().unwrap();
    let page = server.call("GET", &format!("/v1/files/d?limit=3&after={next}")).await.expect(200).json();
    assert_eq!(names(&page), ["grüße ?", "sub"]);
    assert!(page["next"].is_null());
    assert_eq!((&page["entries"][1]["kind"], &page["entries"][0]["mode"]), (&"directory".into(), &"644".into()));
    for entry in page["entries"].as_array().unwrap() {
        server.call("GET", entry["href"].as_str().unwrap()).await.expect(200);
    }
    server.call("PUT", "/v1/files/made?kind=directory").await.expect(201);
    assert!(names(&server.call("GET", "/v1/files/made").await.expect(200).json()).is_empty());
    server.call("PUT", "/v1/files/made?kind=pipe").await.expect_problem(400, "bad_parameter", "kind");

    server.put("/v1/files/d", "x").await.expect_problem(409, "is_a_directory", "/d is a directory");
    server.put("/v1/files/", "x").await.expect_problem(409, "is_a_directory", "/");
    server.put("/v1/files/d/1/x", "x").await.expect_problem(409, "not_a_directory", "/d/1 is a file");
    server.call("DELETE", "/v1/files/d").await.expect_problem(409, "directory_not_empty", "recursive");
    server.call("DELETE", "/v1/files/d?recursive=maybe").await.expect_problem(400, "bad_parameter", "recursive");
    let removed = server.call("DELETE", "/v1/files/d?recursive=true").await.expect(204);
    assert_eq!(removed.header("difuse-removed"), "7");
    server.call("GET", "/v1/files/d").await.expect(404);
    server.call("DELETE", "/v1/files/d").await.expect_problem(404, "no_such_file", "/d");
    server.call("DELETE", "/v1/files/made").await.expect(204);
}

#[tokio::test]
async fn conditions() {
    let server = Server::start().await;
    let put = |name: &'static str, value: String| {
        Answer::of(server.request("PUT", "/v1/files/f").header(name, value).body("x"))
    };
    put("if-match", "*".into()).await.expect_problem(412, "condition_failed", "never written");
    let tag = put("if-none-match", "*".into()).await.expect(201).header("etag").to_owned();
    let failed = put("if-none-match", "*".into()).await.expect_problem(412, "condition_failed", "height 1");
    assert_eq!(failed.header("etag"), tag);
    let newer = put("if-match", tag.clone()).await.expect(200).header("etag").to_owned();
    put("if-match", tag.clone()).await.expect(412);
    server.call_with("GET", "/v1/files/f", &[("if-none-match", &newer)]).await.expect(304);
    server.call_with("GET", "/v1/files/f", &[("if-none-match", &tag)]).await.expect(200);
    server.call_with("DELETE", "/v1/files/f", &[("if-match", &tag)]).await.expect(412);
    server.call_with("DELETE", "/v1/files/f", &[("if-match", &newer)]).await.expect(204);
}

#[tokio::test]
async fn bad_input() {
    let server = Server::start().await;
    for path in ["a//b", "a%00b", "%2e%2e%2fx", "%ff"] {
        for method in ["GET", "PUT", "DELETE"] {
            server.call(method, &format!("/v1/files/{path}")).await.expect_problem(400, "bad_path", "");
        }
    }
    server.put(&format!("/v1/files/{}", "p".repeat(5000)), "x").await.expect(400);
    server.put("/v1/files/f?mode=9", "x").await.expect_problem(400, "bad_parameter", "mode");
    server.put("/v1/files/f?modified_ms=now", "x").await.expect_problem(400, "bad_parameter", "modified_ms");
    server.call("GET", "/v1/files/f?consistency=x").await.expect_problem(400, "bad_parameter", "use lazy");
    assert!(server.call("GET", "/v1/files/").await.json()["entries"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn lost_blocks_are_told() {
    let server = Server::start().await;
    server.put("/v1/files/f", content(100_000, 1)).await.expect(201);
    server.datastore.lose_all_blocks();
    let response = server.request("GET", "/v1/files/f").send().await.unwrap();
    // The head is gone out already: the body breaks off, and no client can take it for complete.
    assert!(response.bytes().await.is_err());
}
