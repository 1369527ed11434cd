use difuse_api::testing::content;
use difuse_types::Hash;

use crate::server::{Answer, Server};

#[tokio::test]
async fn a_block_lives_and_dies() {
    let server = Server::start().await;
    let hash = Hash::of(b"content");
    let path = format!("/v1/blocks/{hash}");
    server.call("GET", &path).await.expect_problem(404, "no_such_block", "never put");
    server.call("HEAD", &path).await.expect(404);
    server.call("DELETE", &path).await.expect_problem(404, "no_such_block", "never put");
    for status in [201, 200] {
        let posted = Answer::of(server.request("POST", "/v1/blocks").body("content")).await.expect(status);
        assert_eq!(posted.header("location"), path);
        assert_eq!(posted.json()["hash"], hash.to_string());
        assert_eq!(posted.json()["size"], 7);
    }
    let read = server.call("GET", &path).await.expect(200);
    assert_eq!((read.text().as_str(), read.header("etag")), ("content", format!("\"{hash}\"").as_str()));
    let head = server.call("HEAD", &path).await.expect(200);
    assert_eq!((head.header("content-length"), head.body.len()), ("7", 0));
    let known = read.header("etag").to_owned();
    server.call_with("GET", &path, &[("if-none-match", &known)]).await.expect(304);
    let located = server.call("GET", &format!("/v1/locate-block/{hash}")).await.expect(200).json();
    assert_eq!((&located["holdings"][0]["holds"], &located["holdings"][0]["size"]), (&true.into(), &7.into()));
    server.call("DELETE", &path).await.expect(204);
    server.call("GET", &path).await.expect(404);
    server.put(&path, "content").await.expect(201);
    server.put(&path, "content").await.expect(200);
}

#[tokio::test]
async fn what_is_refused() {
    let server = Server::start().await;
    let path = format!("/v1/blocks/{}", Hash::of(b"one"));
    server.put(&path, "other").await.expect_problem(422, "wrong_hash", &Hash::of(b"other").to_string());
    for hash in ["xyz", "00", "%00"] {
        for method in ["GET", "PUT", "DELETE"] {
            let refused = server.call(method, &format!("/v1/blocks/{hash}")).await;
            refused.expect_problem(400, "bad_hash", "64 hex digits");
        }
        server.call("GET", &format!("/v1/locate-block/{hash}")).await.expect(400);
    }
    server.call("GET", "/v1/blocks/").await.expect_problem(400, "bad_hash", "missing");
    let large = content((1 << 20) + 1, 1);
    let refused = Answer::of(server.request("POST", "/v1/blocks").body(large.clone())).await;
    refused.expect_problem(413, "too_large", "1048576");
    server.put(&path, large.clone()).await.expect_problem(413, "too_large", "files");
    // Without a length in front, the bound holds all the same.
    let parts = large.chunks(100_000).map(|part| Ok::<_, std::io::Error>(part.to_vec())).collect::<Vec<_>>();
    let body = reqwest::Body::wrap_stream(futures::stream::iter(parts));
    Answer::of(server.request("POST", "/v1/blocks").body(body)).await.expect(413);
    let largest = content(1 << 20, 2);
    Answer::of(server.request("POST", "/v1/blocks").body(largest)).await.expect(201);
    server.call("GET", &format!("{path}?consistency=x")).await.expect_problem(400, "bad_parameter", "quorum");
}

#[tokio::test]
async fn a_block_of_a_file_stays() {
    let server = Server::start().await;
    server.put("/v1/files/f", content(10_000, 1)).await.expect(201);
    let dump = server.call("GET", "/v1/dump").await.expect(200).text();
    let block = dump.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let block = block.filter(|line| line["kind"] == "block").map(|line| line["hash"].as_str().unwrap().to_owned());
    for hash in block {
        let refused = server.call("DELETE", &format!("/v1/blocks/{hash}")).await;
        refused.expect_problem(409, "block_referenced", "delete the file");
    }
}
