use difuse_api::{
    keylog::{Ballot, Term},
    request::{Anchor, Quota, RequestError},
    testing::content,
};
use difuse_types::{Hash, Key, NodeId, OperationId, SlotId, WallTime};
use serde_json::Value;

use crate::server::{Answer, Server};

#[tokio::test]
async fn a_key_lives_and_dies() {
    let server = Server::start().await;
    server.call("GET", "/v1/keys/k").await.expect_problem(404, "no_such_key", "no value");
    let created = server.put("/v1/keys/k", "one").await.expect(201);
    assert_eq!(created.header("difuse-height"), "1");
    assert_eq!(created.json()["height"], 1);
    assert_eq!(created.header("etag"), format!("\"{}\"", created.json()["hash"].as_str().unwrap()));
    let changed = server.put("/v1/keys/k", "two").await.expect(200);
    for method in ["GET", "HEAD"] {
        let read = server.call(method, "/v1/keys/k?consistency=quorum").await.expect(200);
        assert_eq!(read.text(), if method == "GET" { "two" } else { "" });
        assert_eq!((read.header("etag"), read.header("difuse-height")), (changed.header("etag"), "2"));
        assert_eq!(read.header("content-length"), "3");
    }
    server.call("DELETE", "/v1/keys/k").await.expect(204);
    server.call("GET", "/v1/keys/k").await.expect(404);
    server.call("HEAD", "/v1/keys/k").await.expect(404);
    server.call("DELETE", "/v1/keys/k").await.expect_problem(404, "no_such_key", "PUT");
    server.call("DELETE", "/v1/keys/never").await.expect(404);
    assert_eq!(server.put("/v1/keys/k", "three").await.expect(201).json()["height"], 4);
}

#[tokio::test]
async fn a_key_says_when_it_expires() {
    let server = Server::start().await;
    server.put("/v1/keys/k?ttl=1h", "short-lived").await.expect(201);
    let read = server.call("GET", "/v1/keys/k").await.expect(200);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    let deadline: u64 = read.header("difuse-deadline").parse().unwrap();
    assert!((now + 3_500_000..=now + 3_600_000).contains(&deadline), "{deadline}");
    let listing = server.call("GET", "/v1/keys").await.expect(200).json();
    assert_eq!(listing["keys"][0]["deadline_ms"], deadline);
    let log = server.call("GET", "/v1/log/k").await.expect(200).json();
    assert_eq!(log["transactions"][0]["deadline_ms"], deadline);
    assert_eq!(recompute(&log, &log["transactions"][0]).to_string(), log["transactions"][0]["hash"]);
    server.put("/v1/keys/k", "for ever").await.expect(200);
    assert!(!server.call("GET", "/v1/keys/k").await.expect(200).headers.contains_key("difuse-deadline"));
    for ttl in ["0", "soon", "-1", "0ms", "99999999999999999999"] {
        server.put(&format!("/v1/keys/k?ttl={ttl}"), "x").await.expect_problem(400, "bad_parameter", "ttl");
    }
}

#[tokio::test]
async fn names_are_bytes() {
    let server = Server::start().await;
    let paths = ["a/b", "a%2Fb%2F", "%00", "%ff%fe", "gr%C3%BC%C3%9Fe", "a%20b", "%3Fx%23", "a//b", "{tag}x"];
    for path in paths {
        server.put(&format!("/v1/keys/{path}"), path).await.expect(201);
    }
    for path in paths {
        assert_eq!(server.call("GET", &format!("/v1/keys/{path}")).await.expect(200).text(), path);
    }
    assert_eq!(server.call("GET", "/v1/keys/a%2Fb").await.text(), "a/b");
    // What the listing says leads back to each of them.
    let listing = server.call("GET", "/v1/keys").await.expect(200).json();
    assert_eq!(listing["keys"].as_array().unwrap().len(), paths.len());
    for key in listing["keys"].as_array().unwrap() {
        server.call("GET", key["href"].as_str().unwrap()).await.expect(200);
    }
}

#[tokio::test]
async fn conditions() {
    let server = Server::start().await;
    let put = |name: &'static str, value: String| {
        Answer::of(server.request("PUT", "/v1/keys/k").header(name, value).body("x"))
    };
    put("if-match", "*".into()).await.expect_problem(412, "condition_failed", "never written");
    let first = put("if-none-match", "*".into()).await.expect(201);
    let tag = first.header("etag").to_owned();
    let failed = put("if-none-match", "*".into()).await.expect_problem(412, "condition_failed", "height 1");
    assert_eq!((failed.header("etag"), failed.header("difuse-height")), (tag.as_str(), "1"));
    let second = put("if-match", tag.clone()).await.expect(200).header("etag").to_owned();
    put("if-match", tag.clone()).await.expect(412);
    put("if-match", "*".into()).await.expect(200);
    for (name, value) in [
        ("if-match", "rubbish".to_owned()),
        ("if-match", format!("\"{}\"", "z".repeat(64))),
        ("if-none-match", tag.clone()),
        ("difuse-operation-id", "short".to_owned()),
    ] {
        put(name, value).await.expect_problem(400, "bad_header", name);
    }
    let failed = server.call_with("DELETE", "/v1/keys/k", &[("if-match", &second)]).await;
    let current = failed.expect_problem(412, "condition_failed", "height 3").header("etag").to_owned();
    let read = |name: &'static str, value: String| {
        let server = &server;
        async move { server.call_with("GET", "/v1/keys/k", &[(name, &value)]).await }
    };
    let unchanged = read("if-none-match", current.clone()).await.expect(304);
    assert_eq!((unchanged.header("etag"), unchanged.body.len()), (current.as_str(), 0));
    read("if-none-match", tag.clone()).await.expect(200);
    read("if-match", tag).await.expect_problem(412, "condition_failed", "height 3");
    read("if-none-match", "rubbish".into()).await.expect_problem(400, "bad_header", "if-none-match");
    server.call_with("DELETE", "/v1/keys/k", &[("if-match", &current)]).await.expect(204);
    server.call_with("DELETE", "/v1/keys/k", &[("if-match", &current)]).await.expect(404);
}

#[tokio::test]
async fn a_retry_is_applied_once() {
    let server = Server::start().await;
    let id = "00112233445566778899aabbccddeeff";
    for status in [201, 201] {
        let put = server.request("PUT", "/v1/keys/k").header("difuse-operation-id", id).body("x");
        let answer = Answer::of(put).await.expect(status);
        assert_eq!((answer.header("difuse-operation-id"), answer.header("difuse-height")), (id, "1"));
    }
    let delete = [("difuse-operation-id", "ff112233445566778899aabbccddeeff")];
    for _ in 0..2 {
        let answer = server.call_with("DELETE", "/v1/keys/k", &delete).await.expect(204);
        assert_eq!(answer.header("difuse-height"), "2");
    }
    assert_eq!(server.put("/v1/keys/other", "x").await.header("difuse-operation-id").len(), 32);
}

#[tokio::test]
async fn bad_input() {
    let server = Server::start().await;
    for method in ["GET", "PUT", "DELETE"] {
        server.call(method, "/v1/keys/").await.expect_problem(400, "empty_key", "empty");
        let long = format!("/v1/keys/{}", "k".repeat(1025));
        server.call(method, &long).await.expect_problem(400, "key_too_long", "at most 1024");
        let unknown = server.call(method, "/v1/keys/k?consistency=most").await;
        unknown.expect_problem(400, "bad_parameter", "use lazy, leader, quorum or all");
        let namespace = format!("/v1/keys/k?namespace={}", "n".repeat(65));
        server.call(method, &namespace).await.expect_problem(400, "key_too_long", "namespace");
    }
    server.put(&format!("/v1/keys/{}", "k".repeat(1024)), "x").await.expect(201);
    for path in ["/", "/v1", "/v2/keys/k", "/v1/key/k", "/v1/keys%2Fk"] {
        server.call("GET", path).await.expect_problem(404, "no_such_route", "/v1/");
    }
    for (method, path, allowed) in [
        ("POST", "/v1/keys/k", "GET"),
        ("PATCH", "/v1/blocks/00", "PUT"),
        ("DELETE", "/v1/ring", "GET"),
        ("GET", "/v1/leave", "POST"),
        ("PUT", "/v1/blocks", "POST"),
        ("NONSENSE", "/v1/files/x", "DELETE"),
    ] {
        let refused = server.call(method, path).await.expect_problem(405, "method_not_allowed", "Allow");
        assert!(refused.header("allow").contains(allowed), "{method} {path}: {}", refused.header("allow"));
    }
}

#[tokio::test]
async fn long_values_become_blocks() {
    let server = Server::start().await;
    for size in [0, 4096, 4097, 3_000_000] {
        let bytes = content(size, 9);
        let path = format!("/v1/keys/{size}");
        server.put(&path, bytes.clone()).await.expect(201);
        let read = server.call("GET", &path).await.expect(200);
        assert!(read.body == bytes, "{size}");
        assert_eq!(server.call("HEAD", &path).await.expect(200).header("content-length"), size.to_string());
        let part = server.call_with("GET", &path, &[("range", "bytes=-7")]).await;
        if size > 0 {
            assert!(part.expect(206).body == bytes[size - 7..]);
        }
    }
    assert!(server.datastore.block_count() > 1);
}

#[tokio::test]
async fn listings_have_pages() {
    let server = Server::start().await;
    for index in 0..25 {
        server.put(&format!("/v1/keys/list%20{index:02}"), "value").await.expect(201);
        server.put(&format!("/v1/keys/inside?namespace=n{index}"), "x").await.expect(201);
    }
    server.put("/v1/keys/other", "x").await.expect(201);
    server.call("DELETE", "/v1/keys/list%2013").await.expect(204);
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page =
            server.call("GET", &format!("/v1/keys?prefix=list%20&limit=10&after={after}")).await.expect(200).json();
        found.extend(page["keys"].as_array().unwrap().iter().map(|key| key["key"].as_str().unwrap().to_owned()));
        match &page["next"] {
            Value::String(next) => after.clone_from(next),
            _ => break,
        }
    }
    let expected: Vec<_> = (0..25).filter(|index| *index != 13).map(|index| format!("list {index:02}")).collect();
    assert_eq!(found, expected);
    let page = server.call("GET", "/v1/keys?after=list%2023&limit=1").await.json();
    assert_eq!(page["keys"][0]["key"], "list 24");
    assert_eq!(page["keys"][0]["size"], 5);
    assert_eq!(
        server.call("GET", "/v1/keys?namespace=n7").await.json()["keys"][0]["href"],
        "/v1/keys/inside?namespace=n7"
    );
    for query in ["limit=0", "limit=1001", "limit=x", "after=~*"] {
        let refused = server.call("GET", &format!("/v1/keys?{query}")).await;
        refused.expect_problem(400, "bad_parameter", query.split('=').next().unwrap());
    }
}

#[tokio::test]
async fn the_log_is_enough_to_recompute_every_hash() {
    let server = Server::start().await;
    server.call("GET", "/v1/log/k").await.expect_problem(404, "no_such_key", "no history");
    for value in ["one", "two"] {
        server.put("/v1/keys/k", value).await;
    }
    server.call("DELETE", "/v1/keys/k").await.expect(204);
    let head = server.put("/v1/keys/k", content(5000, 1)).await.expect(201);
    let mut previous = Hash::ZERO.to_string();
    let mut from = Some(1);
    while let Some(start) = from {
        let page = server.call("GET", &format!("/v1/log/k?from={start}&limit=3")).await.expect(200).json();
        assert_eq!((&page["key"], &page["head_height"]), (&"k".into(), &4.into()));
        for transaction in page["transactions"].as_array().unwrap() {
            assert_eq!(transaction["previous"], previous);
            previous = recompute(&page, transaction).to_string();
            assert_eq!(transaction["hash"], previous);
        }
        from = page["next"].as_u64();
    }
    assert_eq!(head.json()["hash"], previous);
}

#[tokio::test]
async fn a_pruned_history_says_where_it_begins() {
    let server = Server::start().await;
    for value in 0..120 {
        server.put("/v1/keys/k", value.to_string()).await;
    }
    let whole = server.call("GET", "/v1/log/k?limit=1000").await.expect(200).json();
    assert_eq!(whole["base"], Value::Null);
    let first = &whole["transactions"][99];
    server.datastore.prune(&Key::new(b"k").unwrap(), 100);
    for from in [1, 99] {
        let answer = server.call("GET", &format!("/v1/log/k?from={from}")).await;
        let problem = answer.expect_problem(410, "pruned", "below height 100").json();
        assert_eq!(problem["base"]["height"], 100);
        assert_eq!((&problem["base"]["hash"], &problem["base"]["state"]), (&first["hash"], &first["checkpoint"]));
    }
    let kept = server.call("GET", "/v1/log/k").await.expect(200).json();
    assert_eq!((&kept["base"]["height"], &kept["transactions"][0]), (&100.into(), first));
    assert_eq!(recompute(&kept, first).to_string(), first["hash"], "the checkpoint is part of the hash");
    let later = server.call("GET", "/v1/log/k?from=100&limit=1").await.expect(200).json();
    assert_eq!((&later["transactions"][0], &later["next"]), (first, &101.into()));
}

/// The hash of a transaction, from nothing but what the log says.
fn recompute(page: &Value, transaction: &Value) -> Hash {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use difuse_api::keylog;
    let text = |name: &str| transaction[name].as_str().unwrap();
    let bytes = |text: &str| STANDARD.decode(text).unwrap().into();
    let kind = |word: &str| keylog::ValueKind::from_word(word).unwrap();
    let deadline = transaction["deadline_ms"].as_u64().map(WallTime);
    let id = u128::from_str_radix(text("operation_id"), 16).unwrap();
    keylog::Transaction {
        key: Key::from_encoded(bytes(page["encoded_key"].as_str().unwrap())).unwrap(),
        height: transaction["height"].as_u64().unwrap(),
        previous: text("previous").parse().unwrap(),
        operation: match text("operation") {
            "set" => {
                let value = keylog::Value::new(kind(text("value_kind")), bytes(text("value")));
                keylog::Operation::Set(value.until(deadline))
            }
            _ => keylog::Operation::Delete,
        },
        author: text("author").parse::<NodeId>().unwrap(),
        time: WallTime(transaction["time_ms"].as_u64().unwrap()),
        operation_id: OperationId(id.to_be_bytes()),
        checkpoint: transaction["checkpoint"].as_str().map(|state| state.parse().unwrap()),
    }
    .hash()
}

#[tokio::test]
async fn what_is_known_of_a_key() {
    let server = Server::start().await;
    server.call("GET", "/v1/stat/k").await.expect_problem(404, "no_such_key", "no value");
    server.put("/v1/keys/k", "value").await.expect(201);
    let stat = server.call("GET", "/v1/stat/k").await.expect(200).json();
    assert_eq!((&stat["value_kind"], &stat["size"], &stat["height"]), (&"inline".into(), &5.into(), &1.into()));
    server.put("/v1/keys/large", content(100_000, 1)).await.expect(201);
    let stat = server.call("GET", "/v1/stat/large").await.expect(200).json();
    assert_eq!((&stat["value_kind"], &stat["inode"]["size"]), (&"inode".into(), &100_000.into()));
    server.put("/v1/files/a/b", "x").await.expect(201);
    let stat = server.call("GET", "/v1/stat/a?space=files").await.expect(200).json();
    assert_eq!((&stat["key"], &stat["inode"]["kind"]), (&"/a".into(), &"directory".into()));
    let node = difuse_api::testing::FakeDatastore::NODE.to_string();
    let leader = server.call("GET", "/v1/leader/k").await.expect(200).json();
    assert_eq!(
        (&leader["leader"], &leader["epoch"], &leader["holdings"]),
        (&node.clone().into(), &1.into(), &Value::Null)
    );
    let located = server.call("GET", "/v1/locate/k").await.expect(200).json();
    assert_eq!(located["slot"], leader["slot"]);
    assert_eq!(located["members"][0], node);
    assert_eq!((&located["holdings"][0]["answered"], &located["holdings"][0]["height"]), (&true.into(), &1.into()));
    server.call("GET", "/v1/stat/k?space=nowhere").await.expect_problem(400, "bad_parameter", "keys or files");
}

#[tokio::test]
async fn reads_say_whether_they_are_linearizable() {
    let server = Server::start().await;
    server.put("/v1/keys/k?consistency=all", "x").await.expect(201);
    server.put("/v1/keys/k?consistency=leader", "y").await.expect(200);
    for (level, expected) in [("lazy", "false"), ("leader", "false"), ("quorum", "true"), ("all", "true")] {
        let read = server.call("GET", &format!("/v1/keys/k?consistency={level}")).await.expect(200);
        assert_eq!((read.header("difuse-linearizable"), read.header("difuse-height")), (expected, "2"), "{level}");
        let stat = server.call("GET", &format!("/v1/stat/k?consistency={level}")).await.expect(200).json();
        assert_eq!(stat["linearizable"].to_string(), expected, "{level}");
        let absent = server.call("GET", &format!("/v1/keys/absent?consistency={level}")).await.expect(404);
        assert_eq!(absent.header("difuse-linearizable"), expected, "{level}");
    }
}

#[tokio::test]
async fn a_lazy_write_is_accepted_and_its_outcome_can_be_asked_for() {
    let server = Server::start().await;
    let accepted = server.put("/v1/keys/k?consistency=lazy", "x").await.expect(202);
    let id = accepted.header("difuse-operation-id").to_owned();
    assert_eq!((&accepted.json()["state"], &accepted.json()["operation_id"]), (&"queued".into(), &id.clone().into()));
    let route = accepted.header("location").to_owned();
    assert_eq!(route, format!("/v1/operations/{id}"));
    assert_eq!(server.call("GET", &route).await.expect(200).json()["state"], "queued");
    server.call("GET", "/v1/keys/k").await.expect(404);
    server.datastore.apply_queued();
    let outcome = server.call("GET", &route).await.expect(200).json();
    assert_eq!((&outcome["state"], &outcome["height"], &outcome["key"]), (&"applied".into(), &1.into(), &"k".into()));
    assert_eq!(server.call("GET", "/v1/keys/k").await.expect(200).text(), "x");
    // A condition may be refused later.
    let create = server.request("PUT", "/v1/keys/k?consistency=lazy").header("if-none-match", "*").body("y");
    let route = Answer::of(create).await.expect(202).header("location").to_owned();
    server.datastore.apply_queued();
    let outcome = server.call("GET", &route).await.expect(200).json();
    assert_eq!((&outcome["state"], &outcome["height"]), (&"refused".into(), &1.into()));
    assert!(outcome["detail"].as_str().unwrap().contains("condition"));
    let accepted = server.call("DELETE", "/v1/keys/k?consistency=lazy").await.expect(202);
    server.call("GET", "/v1/keys/k").await.expect(200);
    server.datastore.apply_queued();
    server.call("GET", "/v1/keys/k").await.expect(404);
    assert_eq!(server.call("GET", accepted.header("location")).await.expect(200).json()["state"], "applied");
    let unknown = format!("/v1/operations/{}", "0".repeat(32));
    server.call("GET", &unknown).await.expect_problem(404, "no_such_operation", "lazy");
    server.call("GET", "/v1/operations/x").await.expect_problem(400, "bad_operation_id", "32 hex digits");
    let file = server.put("/v1/files/a/f?consistency=lazy", "content").await.expect(202);
    server.datastore.apply_queued();
    assert_eq!(server.call("GET", file.header("location")).await.expect(200).json()["state"], "applied");
    assert_eq!(server.call("GET", "/v1/files/a/f").await.expect(200).text(), "content");
}

#[tokio::test]
async fn an_error_at_level_all_names_the_members_and_says_what_became_of_the_write() {
    let server = Server::start().await;
    let (one, other) = (NodeId([1; 32]), NodeId([2; 32]));
    let error = |silent, differing, written: Option<(u64, Hash)>| {
        let is_applied = written.is_some();
        RequestError::NotAll { slot: SlotId(3), silent, differing, is_applied, written }
    };
    server.datastore.fail_next(error(vec![one], vec![], Some((7, Hash::of(b"x")))));
    let answer = server.put("/v1/keys/k?consistency=all", "x").await;
    let answer = answer.expect_problem(503, "members_silent", &one.to_string());
    assert_eq!(answer.header("retry-after"), "1");
    let body = answer.json();
    assert_eq!((&body["silent"][0], &body["applied"]), (&one.to_string().into(), &true.into()));
    assert_eq!((&body["height"], &body["hash"]), (&7.into(), &Hash::of(b"x").to_string().into()));
    server.datastore.fail_next(error(vec![], vec![other], None));
    let answer = server.call("GET", "/v1/keys/k?consistency=all").await;
    let answer = answer.expect_problem(409, "members_differ", &other.to_string());
    assert_eq!(
        (answer.json()["differing"][0].clone(), answer.json()["applied"].clone()),
        (other.to_string().into(), false.into())
    );
}

#[tokio::test]
async fn what_goes_wrong_behind_the_gateway() {
    let server = Server::start().await;
    let operation_id = OperationId([7; 16]);
    let term = Term { epoch: 1, number: 2, node: NodeId([1; 32]) };
    let anchor = Anchor { ballot: Ballot { term, sequence: 3 }, height: 4 };
    for (error, status, code) in [
        (RequestError::Unavailable { slot: SlotId(3), reason: "no majority".into() }, 503, "unavailable"),
        (RequestError::Unknown { operation_id, since: Some(anchor) }, 503, "unknown_outcome"),
        (RequestError::Forgotten { operation_id, now: anchor }, 409, "forgotten_outcome"),
        (RequestError::Lapsed { operation_id, now: anchor }, 503, "lapsed_attempt"),
        (RequestError::Busy, 503, "busy"),
        (RequestError::NotServing("it is leaving".into()), 503, "not_serving"),
        (RequestError::Full { reason: "/data: 3 bytes are free".into() }, 507, "full"),
        (RequestError::QuotaReached { namespace: "n".into(), quota: Quota::Keys(7) }, 507, "quota_reached"),
        (RequestError::Storage("the log cannot be flushed".into()), 500, "storage"),
        (RequestError::Invalid("too long".into()), 400, "invalid"),
    ] {
        let text = error.to_string();
        server.datastore.fail_next(error.clone());
        let answer = server.put("/v1/keys/k", "x").await.expect_problem(status, code, &text);
        assert_eq!(answer.header("retry-after"), if status == 503 { "1" } else { "" });
        if matches!(error, RequestError::Unknown { .. } | RequestError::Forgotten { .. } | RequestError::Lapsed { .. })
        {
            assert_eq!(answer.header("difuse-operation-id"), operation_id.to_string());
            assert_eq!(answer.header("difuse-operation-since"), anchor.to_string());
        }
    }
    server.put("/v1/keys/k", "x").await.expect(201);
}

/// Nothing of it is applied: the node sends it anew if this is the first attempt, and leaves a repeated one to the client.
#[tokio::test]
async fn a_first_attempt_under_the_clients_name_that_lapses_is_sent_anew() {
    let server = Server::start().await;
    let operation_id = OperationId([7; 16]);
    let ballot = Ballot { term: Term { epoch: 1, number: 2, node: NodeId([1; 32]) }, sequence: 3 };
    let lapsed = RequestError::Lapsed { operation_id, now: Anchor { ballot, height: 4 } };
    let put = || {
        let request = server.request("PUT", "/v1/keys/k").header("difuse-operation-id", operation_id.to_string());
        request.header("if-none-match", "*").body("x")
    };
    server.datastore.fail_next(lapsed.clone());
    let repeated = put().header("difuse-operation-since", "unknown");
    let text = lapsed.to_string();
    Answer::of(repeated).await.expect_problem(503, "lapsed_attempt", &text);
    server.datastore.fail_next(lapsed);
    Answer::of(put()).await.expect(201);
}

#[tokio::test]
async fn namespaces_are_listed_and_dropped() {
    let server = Server::start().await;
    assert_eq!(server.call("GET", "/v1/namespaces").await.expect(200).json()["namespaces"], serde_json::json!([]));
    for path in ["/v1/keys/a", "/v1/keys/a?namespace=n%20m", "/v1/keys/b?namespace=n%20m"] {
        server.put(path, "value").await.expect(201);
    }
    let names = server.call("GET", "/v1/namespaces").await.expect(200).json();
    let names: Vec<_> = names["namespaces"].as_array().unwrap().iter().map(|one| &one["namespace"]).collect();
    assert_eq!(names, ["", "n m"]);
    assert_eq!(server.call("DELETE", "/v1/namespaces/n%20m").await.expect(200).json()["deleted"], 2);
    server.call("GET", "/v1/keys/a?namespace=n%20m").await.expect(404);
    server.call("GET", "/v1/keys/a").await.expect(200);
    let long = format!("/v1/namespaces/{}", "n".repeat(65));
    server.call("DELETE", &long).await.expect_problem(400, "bad_key", "namespace");
    server.call("DELETE", "/v1/namespaces/a?consistency=some").await.expect_problem(
        400,
        "bad_parameter",
        "consistency",
    );
}
