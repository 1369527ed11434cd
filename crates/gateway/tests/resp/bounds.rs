use std::time::Duration;

use difuse_gateway::resp::Settings;
use tokio::{io::AsyncWriteExt, time::timeout};

use super::client::{Client, Server, request};

#[tokio::test]
async fn rubbish_is_refused_and_harms_nobody() {
    let server = Server::start().await;
    let mut other = server.client().await;
    for (input, expected) in [
        (b"*1048577\r\n".to_vec(), "invalid multibulk length"),
        (b"*9999999999999999999999\r\n".to_vec(), "invalid multibulk length"),
        (b"*1\r\n$67108865\r\n".to_vec(), "invalid bulk length"),
        (b"*1\r\n$99999999999999999999\r\n".to_vec(), "invalid bulk length"),
        (b"*2\r\n*1\r\n$1\r\na\r\n".to_vec(), "expected '$', got '*'"),
        (b"*1\r\n:1\r\n".to_vec(), "expected '$', got ':'"),
        (vec![b'a'; 100_000], "too big inline request"),
        ([&b"*1"[..], &[b'1'; 100_000]].concat(), "too big mbulk count string"),
        (b"*1\r\n".repeat(50_000), "expected '$', got '*'"),
    ] {
        let mut client = server.client().await;
        // The connection may end before all of it is sent.
        let _ = client.0.write_all(&input).await;
        assert_eq!(client.rest().await, format!("-ERR Protocol error: {expected}\r\n"));
        other.check("PING", "+PONG\r\n").await;
    }
    let mut client = server.client().await;
    let _ = client.0.write_all(&difuse_api::testing::content(100_000, 1)).await;
    client.rest().await;
    let mut browser = server.client().await;
    browser.send("POST / HTTP/1.1\r\nHost: x\r\n\r\nSET k v\r\n").await;
    assert_eq!(browser.rest().await, "");
    other.check("GET k", "$-1\r\n").await;
    assert!(server.gateway.metrics().contains("difuse_resp_protocol_errors_total"));
}

#[tokio::test]
async fn answers_that_came_before_an_error_are_given() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send("SET k v\r\nGET k\r\n*1\r\nx").await;
    assert_eq!(client.rest().await, "+OK\r\n$1\r\nv\r\n-ERR Protocol error: expected '$', got 'x'\r\n");
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_its_answers() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send(request(&[b"INCR", b"k"]).repeat(300)).await;
    client.send("*2\r\n$3\r\nGET\r\n").await;
    client.0.shutdown().await.unwrap();
    assert_eq!(client.rest().await.lines().count(), 300);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_not_read_from() {
    let server = Server::start().await;
    let (mut slow, mut other) = (server.client().await, server.client().await);
    let value = vec![b'v'; 4000];
    slow.ask_words(&[b"SET", b"k", &value]).await;
    slow.expect("+OK\r\n").await;
    // Far more answers than the sockets take; sending gets stuck, and nothing grows.
    let requests = request(&[b"GET", b"k"]).repeat(1000);
    let mut sent = 0;
    while sent < 500 && timeout(Duration::from_millis(500), slow.0.write_all(&requests)).await.is_ok() {
        sent += 1;
    }
    assert!(sent < 500, "a client that reads nothing can send without end");
    other.check("PING", "+PONG\r\n").await;
    // What was asked is answered when the client reads at last.
    for _ in 0..1000 {
        slow.expect("$4000\r\n").await;
        assert!(slow.read(4002).await.starts_with(&value));
    }
}

#[tokio::test]
async fn one_client_too_many_is_told_so() {
    let server = Server::start_with(Settings { clients_max: 2, ..Settings::default() }).await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.check("PING", "+PONG\r\n").await;
    second.check("PING", "+PONG\r\n").await;
    let mut third = server.client().await;
    assert_eq!(third.rest().await, "-ERR max number of clients reached\r\n");
    first.check("QUIT", "+OK\r\n").await;
    first.rest().await;
    let mut fourth = served(&server).await;
    fourth.check("PING", "+PONG\r\n").await;
}

/// A connection that has found a place.
async fn served(server: &Server) -> Client {
    for _ in 0..10_000 {
        let mut client = server.client().await;
        client.ask("PING").await;
        if client.line().await == "+PONG" {
            return client;
        }
    }
    panic!("no place has become free");
}

#[tokio::test]
async fn many_idle_connections_are_held() {
    let server = Server::start().await;
    let mut clients = Vec::new();
    for _ in 0..500 {
        clients.push(server.client().await);
    }
    for client in &mut clients {
        client.check("PING", "+PONG\r\n").await;
    }
    assert!(server.gateway.metrics().contains("difuse_resp_connections 500"));
    server.stop().await;
    for client in &mut clients {
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn a_request_that_comes_slowly_holds_up_nobody() {
    let server = Server::start().await;
    let (mut slow, mut other) = (server.client().await, server.client().await);
    let whole = request(&[b"SET", b"k", b"value"]);
    for byte in &whole[..whole.len() - 1] {
        slow.send([*byte]).await;
        other.check("GET k", "$-1\r\n").await;
    }
    slow.send(b"\n").await;
    slow.expect("+OK\r\n").await;
    other.check("GET k", "$5\r\nvalue\r\n").await;
}
