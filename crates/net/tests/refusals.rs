//! What a transport refuses, and what it tells whom.

mod support;

use std::{io::ErrorKind, net::SocketAddr};

use difuse_net::{Class, Config, Net, NetError, RingTag};
use difuse_types::{Hash, RingId};
use support::{client_settings, link, settings, soon, start};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Connects a node of these settings to a fresh node of those, which fails.
async fn refusal(ours: Config, theirs: Config) -> NetError {
    let (one, other) = (start(ours).await, start(theirs).await);
    soon(one.net.connect(&other.address())).await.expect_err("it is refused")
}

fn with_secret(seed: u8, secret: Option<u8>) -> Config {
    Config { secret: secret.map(|secret| [secret; 32]), ..settings(seed) }
}

fn with_ring(seed: u8, ring: u8) -> Config {
    Config { ring: RingTag(Some(RingId(Hash([ring; 32])))), ..settings(seed) }
}

#[tokio::test]
async fn who_does_not_know_the_secret_is_refused() {
    for (ours, theirs) in [(Some(1), Some(2)), (None, Some(2)), (Some(1), None)] {
        let error = refusal(with_secret(1, ours), with_secret(2, theirs)).await;
        assert!(matches!(error, NetError::WrongSecret), "{ours:?} {theirs:?}: {error}");
    }
}

#[tokio::test]
async fn another_ring_is_refused_by_name() {
    let error = refusal(with_ring(1, 1), with_ring(2, 2)).await;
    let NetError::OtherRing { ours, theirs } = error else { panic!("{error}") };
    assert_eq!((ours, theirs), (RingId(Hash([1; 32])), RingId(Hash([2; 32]))));
}

#[tokio::test]
async fn a_node_that_is_full_says_so() {
    let error = refusal(client_settings(1), Config { clients_max: 0, ..settings(2) }).await;
    assert!(matches!(error, NetError::Full), "{error}");
}

#[tokio::test]
async fn dialling_oneself_is_noticed() {
    let node = start(settings(1)).await;
    for address in [node.address(), format!("/ip4/127.0.0.1/tcp/{}", node.net.local_address().unwrap().port())] {
        let error = soon(node.net.connect(&address)).await.unwrap_err();
        assert!(matches!(error, NetError::Ourselves), "{error}");
    }
}

#[tokio::test]
async fn another_node_than_the_expected_is_named() {
    let (one, other, third) = (start(settings(1)).await, start(settings(2)).await, start(settings(3)).await);
    let port = other.net.local_address().unwrap().port();
    let error = soon(one.net.connect(&format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", third.id()))).await.unwrap_err();
    let NetError::OtherNode { expected, found, .. } = error else { panic!("{error}") };
    assert_eq!((expected, found), (third.id(), other.id()));
    let node = soon(one.net.connect(&format!("/ip4/127.0.0.1/tcp/{port}/p2p/{}", other.id()))).await.unwrap();
    assert_eq!(node, other.id());
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let node = start(settings(1)).await;
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for used in [node.net.local_address().unwrap(), plain.local_addr().unwrap()] {
        let error = Net::start(Config { listen: Some(used), ..settings(2) }).await.unwrap_err();
        assert!(matches!(error, NetError::AddressInUse(address) if address == used), "{error}");
    }
}

#[tokio::test]
async fn nobody_answers() {
    let node = start(settings(1)).await;
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = soon(node.net.connect(&free.to_string())).await.unwrap_err();
    assert!(matches!(&error, NetError::Unreachable { address, .. } if *address == free.to_string()), "{error}");
    let error = soon(node.net.connect("not an address")).await.unwrap_err();
    assert!(matches!(error, NetError::Address { .. }), "{error}");
}

#[tokio::test]
async fn a_server_of_another_kind_is_recognised() {
    let node = start(settings(1)).await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = server.local_addr().unwrap();
    let answer = async {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut request = [0; 20];
        stream.read_exact(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await.unwrap();
    };
    let address = address.to_string();
    let (result, ()) = soon(async { tokio::join!(node.net.connect(&address), answer) }).await;
    let error = result.unwrap_err();
    assert!(matches!(error, NetError::NotDifuse { .. }), "{error}");
    assert!(error.to_string().contains("name the one for the ring instead"), "{error}");
}

/// Sends bytes and waits until the node closes the connection.
async fn throw(address: SocketAddr, rubbish: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may be closed before all is written.
    let _ = stream.write_all(rubbish).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    if let Err(error) = soon(stream.read_to_end(&mut answer)).await {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn rubbish_closes_its_own_connection_only() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    let address = other.net.local_address().unwrap();
    link(&mut one, &mut other).await;
    let noise: Vec<u8> = (0..100_000_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let rubbish: [&[u8]; 6] = [
        b"",
        b"GET / HTTP/1.1\r\nHost: difuse\r\n\r\n",
        b"\x13/multistream/1.0.0\n",
        b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff\x00",
        &[0xff; 4096],
        &noise,
    ];
    for bytes in rubbish {
        throw(address, bytes).await;
    }
    one.send(other.id(), Class::Control, b"still here");
    assert_eq!(other.expect_frame(one.id(), Class::Control).await, "still here");
}

#[tokio::test]
async fn a_frame_longer_than_allowed_ends_the_link() {
    let mut small = settings(2);
    small.frame_bytes_max = 1000;
    let (mut one, mut other) = (start(settings(1)).await, start(small).await);
    link(&mut one, &mut other).await;
    one.net.send(other.id(), Class::Bulk, vec![0; 1001].into()).unwrap();
    one.expect_disconnected(other.id()).await;
    other.expect_disconnected(one.id()).await;
}

#[tokio::test]
async fn after_shutting_down_nothing_is_left() {
    let (mut one, mut other) = (start(settings(1)).await, start(settings(2)).await);
    link(&mut one, &mut other).await;
    let address = other.net.local_address().unwrap();
    soon(other.net.shutdown()).await;
    one.expect_disconnected(other.id()).await;
    let error = soon(other.net.connect(&one.address())).await.unwrap_err();
    assert!(matches!(error, NetError::Closed), "{error}");
    start(Config { listen: Some(address), ..settings(2) }).await;
}
