use difuse_api::{keys, request::RequestError};
use difuse_types::{Key, Level, SlotId};
use serde_json::{Value, json};

use crate::server::Server;

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn command(server: &Server, namespace: &str, line: &str) {
    let words: Vec<_> = line.split(' ').map(|word| bytes::Bytes::from(word.to_string())).collect();
    let key = Key::in_namespace(namespace, &words[1]).unwrap();
    keys::command(&*server.datastore, key, words, keys::new_operation_id(), Level::Quorum).await.unwrap();
}

#[tokio::test]
async fn a_namespace_comes_as_lines_and_goes_in_again() {
    let server = Server::start().await;
    for index in 0..2_100 {
        server.put(&format!("/v1/keys/{index:04}?namespace=n"), format!("value {index}")).await.expect(201);
    }
    server.put("/v1/keys/%ff?namespace=n&ttl=1h", vec![0xff, 0]).await.expect(201);
    server.put("/v1/keys/big?namespace=n", vec![7; 5 << 20]).await.expect(201);
    server.put("/v1/keys/other", "x").await.expect(201);
    command(&server, "n", "rpush list a b").await;
    let answer = server.call("GET", "/v1/export?namespace=n").await.expect(200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let found = lines(&answer.text());
    let names: Vec<_> = found[..2_100].iter().map(|line| line["key"].as_str().unwrap().to_string()).collect();
    assert_eq!(names, (0..2_100).map(|index| format!("{index:04}")).collect::<Vec<_>>());
    assert_eq!((&found[7]["value"], &found[7]["height"]), (&json!("value 7"), &json!(1)));
    let [big, list, bytes, end] = &found[2_100..] else { panic!("{} lines", found.len()) };
    assert_eq!((&big["href"], &big["size"]), (&json!("/v1/keys/big?namespace=n"), &json!(5 << 20)));
    assert!(big["omitted"].as_str().unwrap().contains("too much"), "{big}");
    assert_eq!((&list["type"], &list["commands"]), (&json!("list"), &json!([["rpush", "a", "b"]])));
    assert_eq!((&bytes["key_base64"], &bytes["value_base64"]), (&json!("/w=="), &json!("/wA=")));
    assert!(bytes["deadline_ms"].is_u64());
    assert_eq!(end, &json!({ "end": true, "items": 2_103 }));

    // From where it was left, with a prefix.
    let found = lines(&server.call("GET", "/v1/export?namespace=n&prefix=20&after=2097").await.expect(200).text());
    assert_eq!((found.len(), &found[1]["key"]), (3, &json!("2099")));
    let found = lines(&server.call("GET", "/v1/export?namespace=n&after=2098").await.expect(200).text());
    assert_eq!(found[0]["key"], "2099");

    // A structure goes in by the line that it came out as.
    let mut put = list.clone();
    for name in ["height", "hash"] {
        put.as_object_mut().unwrap().remove(name);
    }
    put["op"] = json!("put");
    let body = format!("{put}\n{}\n", json!({ "op": "put", "key": "bad", "commands": [["nosuch", "x"]] }));
    let batch = server.request("POST", "/v1/batch?namespace=copy").body(body);
    let answers = lines(&crate::server::Answer::of(batch).await.expect(200).text());
    assert_eq!((&answers[0]["status"], &answers[1]["status"]), (&json!(200), &json!(400)), "{answers:?}");
    let copied = lines(&server.call("GET", "/v1/export?namespace=copy").await.expect(200).text());
    assert_eq!(copied[0]["commands"], list["commands"]);
}

#[tokio::test]
async fn what_is_asked_wrongly_is_refused_and_what_breaks_off_says_where_to_go_on() {
    let server = Server::start().await;
    for query in ["after=~*", "consistency=most"] {
        server.call("GET", &format!("/v1/export?{query}")).await.expect_problem(400, "bad_parameter", "");
    }
    for index in 0..1_500 {
        server.put(&format!("/v1/keys/{index:04}"), "v").await.expect(201);
    }
    let unavailable = RequestError::Unavailable { slot: SlotId(0), reason: "no majority".into() };
    server.datastore.fail_listing_after(Key::new(b"0999").unwrap(), unavailable);
    let found = lines(&server.call("GET", "/v1/export").await.expect(200).text());
    let last = found.last().unwrap();
    assert_eq!((&last["end"], &last["items"], &last["after"]), (&json!(false), &json!(1000), &json!("0999")), "{last}");
    assert_eq!(last["code"], "unavailable");
}

#[tokio::test]
async fn nothing_is_read_for_a_client_that_goes_away() {
    let server = Server::start().await;
    let value = vec![b'x'; 4000];
    for index in 0..8_000 {
        let key = Key::new(format!("{index:05}").as_bytes()).unwrap();
        keys::set(&*server.datastore, key, value.clone().into(), Level::Quorum).await.unwrap();
    }
    let calls = server.datastore.calls();
    let mut response = server.request("GET", "/v1/export").send().await.unwrap();
    response.chunk().await.unwrap().unwrap();
    drop(response);
    // Another request is served, and the permission that the first one held is free again.
    server.call("GET", "/v1/keys?limit=1").await.expect(200);
    for _ in 0..1_000 {
        if server.call("GET", "/metrics").await.text().contains("difuse_http_requests_in_flight 1\n") {
            break;
        }
    }
    let pages = server.datastore.calls() - calls;
    assert!(pages < 9, "{pages} of 9 requests were sent, though nobody read on");
}

/// Each reads up to 32 MiB ahead of a client that does not read.
#[tokio::test]
async fn only_so_many_clients_are_read_ahead_for() {
    let server = Server::start().await;
    for index in 0..64 {
        server.put(&format!("/v1/keys/{index:04}"), vec![b'x'; 1 << 20]).await.expect(201);
    }
    let mut unread = Vec::new();
    for _ in 0..32 {
        unread.push(server.request("GET", "/v1/export").send().await.unwrap());
        assert_eq!(unread.last().unwrap().status(), 200);
    }
    server.call("GET", "/v1/export").await.expect_problem(503, "busy", "try again later");
    server.call("GET", "/v1/keys?limit=1").await.expect(200);
    drop(unread.pop());
    for _ in 0..1_000 {
        if server.call("GET", "/v1/export?after=0062").await.status == 200 {
            return;
        }
    }
    panic!("what a client that has gone held is not free again");
}
