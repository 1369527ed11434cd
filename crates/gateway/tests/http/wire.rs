//! What no HTTP library sends.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::server::Server;

/// Sends `bytes`, then ends, and returns all that comes back.
async fn send(server: &Server, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&server.address).await.unwrap();
    // The server may have answered and closed already.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    read.expect("the server must answer or close").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn rubbish_is_answered_clearly() {
    let server = Server::start().await;
    let mut noise = difuse_api::testing::content(100_000, 3);
    noise[0] = 0xff;
    for rubbish in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"hello\r\n\r\n", b"*1\r\n$4\r\nPING\r\n", &noise]
    {
        let answer = send(&server, rubbish).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains("application/problem+json") && answer.contains("difuse-node"), "{answer}");
        assert!(answer.contains("this port speaks HTTP/1.1"), "{answer}");
    }
    for rubbish in
        [&b"GET\r\n\r\n"[..], b"GET / HTTP/9.9\r\n\r\n", b"PUT /v1/keys/k HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
    {
        let answer = send(&server, rubbish).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    }
    let long = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(300_000));
    let answer = send(&server, long.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(send(&server, b"").await, "");
    server.call("GET", "/livez").await.expect(200);
}

#[tokio::test]
async fn a_body_that_is_cut_off_changes_nothing() {
    let server = Server::start().await;
    server.put("/v1/keys/k", "before").await.expect(201);
    let large = "x".repeat(50_000);
    for path in
        ["/v1/files/new/f", "/v1/keys/k", "/v1/blocks/0000000000000000000000000000000000000000000000000000000000000000"]
    {
        for (head, body) in [
            ("Content-Length: 100", "short"),
            ("Content-Length: 100000", large.as_str()),
            ("Transfer-Encoding: chunked", "5\r\nabcde\r\n"),
            ("Transfer-Encoding: chunked", "zz\r\nabcde\r\n"),
        ] {
            let request = format!("PUT {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{body}");
            let answer = send(&server, request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{path} {head}: {answer}");
            assert!(answer.contains("body_cut_off") && answer.contains("nothing was changed"), "{answer}");
        }
    }
    server.call("GET", "/v1/files/new").await.expect(404);
    assert_eq!(server.call("GET", "/v1/keys/k").await.expect(200).text(), "before");
    assert_eq!(server.call("GET", "/v1/keys/k").await.header("difuse-height"), "1");
}

#[tokio::test]
async fn dots_and_slashes_of_keys_are_bytes_like_others() {
    let server = Server::start().await;
    for path in ["..", "a/../b", "./", "//", "a%2f..%2Fb"] {
        let put = format!("PUT /v1/keys/{path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx");
        let answer = send(&server, put.as_bytes()).await;
        let expected = if path.contains('%') { "HTTP/1.1 200 " } else { "HTTP/1.1 201 " };
        assert!(answer.starts_with(expected), "{path}: {answer}");
    }
}

#[tokio::test]
async fn one_connection_serves_many_requests() {
    let server = Server::start().await;
    let one = "PUT /v1/keys/k HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx";
    let answers = send(&server, one.repeat(50).as_bytes()).await;
    assert_eq!(answers.matches("HTTP/1.1 20").count(), 50);
}
