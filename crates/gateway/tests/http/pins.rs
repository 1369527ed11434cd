use difuse_api::testing::content;
use difuse_types::Hash;

use crate::server::Server;

#[tokio::test]
async fn a_block_is_pinned_and_let_go() {
    let server = Server::start().await;
    let block = server.call("POST", "/v1/blocks").await.expect(201).json();
    let empty = format!("/v1/pins/{}", block["hash"].as_str().unwrap());
    server.call("PUT", &empty).await.expect_problem(409, "cannot_be_pinned", "content");
    let (bytes, hash) = (content(1000, 1), Hash::of(&content(1000, 1)));
    let path = format!("/v1/pins/{hash}");
    server.call("PUT", &path).await.expect_problem(404, "no_such_block", &hash.to_string());
    server.put(&format!("/v1/blocks/{hash}"), bytes).await.expect(201);
    server.call("GET", &path).await.expect_problem(404, "no_such_pin", "pinned");
    for status in [201, 200] {
        let pinned = server.call("PUT", &path).await.expect(status);
        assert_eq!(pinned.header("location"), path);
        let body = pinned.json();
        assert_eq!(
            (&body["hash"], &body["kind"], &body["size"]),
            (&hash.to_string().into(), &"block".into(), &1000.into())
        );
    }
    assert_eq!(server.call("GET", &path).await.expect(200).json()["kind"], "block");
    server.call("DELETE", &format!("/v1/blocks/{hash}")).await.expect_problem(409, "block_referenced", "pin");
    server.call("DELETE", &path).await.expect(204);
    server.call("DELETE", &path).await.expect_problem(404, "no_such_pin", "pinned");
}

#[tokio::test]
async fn files_are_pinned_by_their_path_and_listed_in_pages() {
    let server = Server::start().await;
    for (name, seed) in [("a", 1), ("b", 2), ("c", 3)] {
        server.put(&format!("/v1/files/{name}"), content(2_000_000, seed)).await.expect(201);
        let pinned = server.call("POST", &format!("/v1/pins?path=/{name}")).await.expect(201).json();
        assert_eq!((&pinned["kind"], &pinned["size"]), (&"tree".into(), &2_000_000.into()));
    }
    let first = server.call("GET", "/v1/pins?limit=2").await.expect(200).json();
    let next = first["next"].as_str().unwrap();
    let second = server.call("GET", &format!("/v1/pins?limit=2&after={next}")).await.expect(200).json();
    let hashes: Vec<_> = [&first, &second].iter().flat_map(|page| page["pins"].as_array().unwrap().clone()).collect();
    assert_eq!((hashes.len(), &second["next"]), (3, &serde_json::Value::Null));
    assert!(hashes.is_sorted_by_key(|pin| pin["hash"].as_str().unwrap().to_owned()));
    server.call("GET", "/v1/keys").await.expect(200);
}

#[tokio::test]
async fn what_is_refused() {
    let server = Server::start().await;
    server.put("/v1/files/small", "few bytes").await.expect(201);
    server.call("POST", "/v1/pins?path=/small").await.expect_problem(409, "cannot_be_pinned", "4 KiB");
    server.call("POST", "/v1/pins?path=/none").await.expect_problem(404, "no_such_file", "/none");
    server.call("POST", "/v1/pins?path=/a/../b").await.expect_problem(400, "bad_path", "..");
    server.call("POST", "/v1/pins").await.expect_problem(400, "bad_parameter", "path");
    server.call("PUT", "/v1/pins/xyz").await.expect_problem(400, "bad_hash", "64 hex digits");
    server.call("GET", "/v1/pins?after=xyz").await.expect_problem(400, "bad_parameter", "hash");
}
