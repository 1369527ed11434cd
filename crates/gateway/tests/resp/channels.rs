use std::sync::{Arc, Mutex};

use difuse_api::notice::Notice;
use difuse_gateway::resp::Relay;
use difuse_types::NodeId;

use super::client::{Server, request};

#[tokio::test]
async fn messages_reach_channels_and_patterns() {
    let server = Server::start().await;
    let (mut listener, mut speaker) = (server.client().await, server.client().await);
    listener.check("SUBSCRIBE a b", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
    listener.expect("*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n").await;
    listener.check("PSUBSCRIBE a*", "*3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:3\r\n").await;
    speaker.check("PUBLISH a hi", ":2\r\n").await;
    listener.expect("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n").await;
    listener.expect("*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$1\r\na\r\n$2\r\nhi\r\n").await;
    speaker.check("PUBLISH nobody hi", ":0\r\n").await;
    speaker.check("PUBSUB CHANNELS", "*2\r\n$1\r\na\r\n$1\r\nb\r\n").await;
    speaker.check("PUBSUB NUMSUB a c", "*4\r\n$1\r\na\r\n:1\r\n$1\r\nc\r\n:0\r\n").await;
    speaker.check("PUBSUB NUMPAT", ":1\r\n").await;
    listener.ask("GET k").await;
    assert!(listener.line().await.starts_with("-ERR Can't execute 'get': only (P|S)SUBSCRIBE"));
    listener.check("PING", "*2\r\n$4\r\npong\r\n$0\r\n\r\n").await;
    listener.check("UNSUBSCRIBE a", "*3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:2\r\n").await;
    listener.check("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$1\r\nb\r\n:1\r\n").await;
    listener.check("PUNSUBSCRIBE", "*3\r\n$12\r\npunsubscribe\r\n$2\r\na*\r\n:0\r\n").await;
    listener.check("UNSUBSCRIBE", "*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:0\r\n").await;
    listener.check("GET k", "$-1\r\n").await;
    speaker.check("PUBLISH a hi", ":0\r\n").await;
}

#[tokio::test]
async fn version_3_takes_commands_beside_messages() {
    let server = Server::start().await;
    let (mut listener, mut speaker) = (server.client().await, server.client().await);
    listener.ask("HELLO 3").await;
    listener.send("\r\n").await;
    listener.ask("SUBSCRIBE a").await;
    let mut line = String::new();
    while line != ">3" {
        line = listener.line().await;
    }
    listener.expect("$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
    listener.check("SET k v", "+OK\r\n").await;
    speaker.check("PUBLISH a hi", ":1\r\n").await;
    listener.expect(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n").await;
}

#[tokio::test]
async fn messages_keep_their_place_among_the_answers() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send("HELLO 3\r\nSUBSCRIBE a\r\nPUBLISH a x\r\nUNSUBSCRIBE a\r\nPUBLISH a y\r\nPING\r\n").await;
    let mut line = String::new();
    while line != ":1" {
        line = client.line().await;
    }
    while line != ">3" {
        line = client.line().await;
    }
    client.expect("$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n>3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n:1\r\n").await;
    client.expect(">3\r\n$11\r\nunsubscribe\r\n$1\r\na\r\n:0\r\n:0\r\n+PONG\r\n").await;
}

#[tokio::test]
async fn a_subscriber_that_ends_is_forgotten() {
    let server = Server::start().await;
    let (mut listener, mut speaker) = (server.client().await, server.client().await);
    listener.check("SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
    listener.check("QUIT", "+OK\r\n").await;
    assert_eq!(listener.rest().await, "");
    speaker.check("PUBLISH a hi", ":0\r\n").await;
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_is_cut_off_and_holds_nobody_up() {
    let server = Server::start().await;
    let (mut listener, mut speaker) = (server.client().await, server.client().await);
    listener.check("SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
    let message = vec![b'x'; 1 << 20];
    let publish = request(&[b"PUBLISH", b"a", &message]);
    // More than the sockets and the queue take together.
    for _ in 0..200 {
        speaker.send(&publish).await;
        if speaker.line().await == ":0" {
            break;
        }
    }
    speaker.check("PUBSUB NUMSUB a", "*2\r\n$1\r\na\r\n:0\r\n").await;
    assert!(server.gateway.metrics().contains("difuse_resp_slow_subscribers_total 1"));
}

struct Remembered(Arc<Mutex<Vec<Notice>>>);

impl Relay for Remembered {
    fn tell_all(&self, notice: Notice) {
        self.0.lock().unwrap().push(notice);
    }

    fn tell(&self, _: NodeId, notice: Notice) {
        self.tell_all(notice);
    }
}

fn published(channel: &'static str, message: &'static str) -> Notice {
    Notice::Published { channel: channel.into(), message: message.into() }
}

#[tokio::test]
async fn other_nodes_are_told_and_tell() {
    let server = Server::start().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    server.gateway.set_relay(Box::new(Remembered(told.clone())));
    let mut client = server.client().await;
    client.check("PUBLISH a hi", ":0\r\n").await;
    assert_eq!(*told.lock().unwrap(), [published("a", "hi")]);
    client.check("SUBSCRIBE a", "*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n").await;
    server.gateway.take_notice(NodeId([7; 32]), published("a", "there"));
    client.expect("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$5\r\nthere\r\n").await;
    assert_eq!(told.lock().unwrap().len(), 1, "what comes from other nodes does not go back to them");
}
