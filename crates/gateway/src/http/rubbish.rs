//! Connections that do not speak HTTP: hyper answers them with a bare 400, so that the clear answer is ours to give.

use std::time::Duration;

use axum::{
    body::to_bytes,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, sink},
    net::TcpStream,
    time::timeout,
};

use super::{Gateway, headers, problem::Problem};

/// As many bytes as the longest common method and the space after it.
const LOOKED_AT: usize = 8;
/// How long the first byte may take, and the answer.
const PATIENCE: Duration = Duration::from_secs(75);

/// Looks at a new connection's first bytes without taking them: `None` if they cannot begin a request of HTTP/1.1,
/// after answering so, or if none come.
pub(super) async fn refuse(mut stream: TcpStream, gateway: &Gateway) -> Option<TcpStream> {
    let mut first = [0; LOOKED_AT];
    let length = timeout(PATIENCE, stream.peek(&mut first)).await.ok()?.ok()?;
    if length == 0 {
        return None;
    }
    if begins_request(&first[..length]) {
        return Some(stream);
    }
    tracing::debug!("a connection to the HTTP port does not speak HTTP");
    // The client may be gone: nobody is left to tell then.
    let _ = timeout(PATIENCE, answer(&mut stream, gateway)).await;
    None
}

/// Whether the bytes may be a method: capital letters, then a space. Empty lines before it are allowed.
fn begins_request(bytes: &[u8]) -> bool {
    let line = bytes.trim_ascii_start();
    let method = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    line.is_empty() || (!method.is_empty() && method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-'))
}

async fn answer(stream: &mut TcpStream, gateway: &Gateway) -> std::io::Result<()> {
    let problem = Problem::new(
        StatusCode::BAD_REQUEST,
        "not_http",
        "this port speaks HTTP/1.1, without TLS; other nodes and the SDK connect to the port given by --bind",
    );
    let bytes = encode(problem.into_response(), gateway).await;
    stream.write_all(&bytes).await?;
    stream.shutdown().await?;
    drain(stream).await
}

/// Reads what the client still sends, up to a bound: closing with unread bytes would reset the connection, and the
/// client might never see the answer.
async fn drain(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut discarded = sink();
    copy(&mut stream.take(1 << 20), &mut discarded).await.map(|_| ())
}

async fn encode(response: Response, gateway: &Gateway) -> Vec<u8> {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let mut text = format!("HTTP/1.1 {}\r\n", parts.status).into_bytes();
    let own = [(headers::NODE, gateway.node_header())];
    for (name, value) in parts.headers.iter().chain(own.iter().map(|(name, value)| (name, value))) {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes());
    text.extend_from_slice(&body);
    text
}

#[cfg(test)]
mod tests {
    use super::begins_request;

    #[test]
    fn only_methods_begin_requests() {
        for bytes in [&b"GET /"[..], b"DELETE /", b"G", b"OPTIONS ", b"\r\nGET / ", b"VERSION-"] {
            assert!(begins_request(bytes), "{bytes:?}");
        }
        for bytes in [&b"\x16\x03\x01\x02\x00\x01"[..], b"\x00\x00", b"hello wo", b"*1\r\n$4", b" ", b"\x13/multis"] {
            assert!(!begins_request(bytes) || bytes == b" ", "{bytes:?}");
        }
    }
}
