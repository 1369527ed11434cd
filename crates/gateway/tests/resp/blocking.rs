use std::{sync::Mutex, time::Duration};

use difuse_api::notice::Notice;
use difuse_gateway::resp::Relay;
use difuse_types::{Key, NodeId};

use super::client::{Client, Server};

const NONE: &str = "*-1\r\n";

/// Waits until so many clients wait.
async fn waiting(server: &Server, count: usize) {
    let mut client = server.client().await;
    loop {
        client.ask("INFO clients").await;
        let length: usize = client.line().await[1..].parse().unwrap();
        let report = String::from_utf8(client.read(length + 2).await).unwrap();
        if report.contains(&format!("blocked_clients:{count}\r\n")) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn what_is_there_is_taken_at_once_and_nothing_after_the_time() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (line, expected) in [
        ("RPUSH {t}l a b c d", ":4\r\n"),
        ("BLPOP {t}none {t}l 0", "*2\r\n$4\r\n{t}l\r\n$1\r\na\r\n"),
        ("BRPOP {t}l 0", "*2\r\n$4\r\n{t}l\r\n$1\r\nd\r\n"),
        ("BLMOVE {t}l {t}m LEFT LEFT 0", "$1\r\nb\r\n"),
        ("BRPOPLPUSH {t}l {t}m 0", "$1\r\nc\r\n"),
        ("BLMPOP 0 1 {t}m LEFT COUNT 9", "*2\r\n$4\r\n{t}m\r\n*2\r\n$1\r\nc\r\n$1\r\nb\r\n"),
        ("ZADD {t}z 1 a 2 b 3 c", ":3\r\n"),
        ("BZPOPMIN {t}z 0", "*3\r\n$4\r\n{t}z\r\n$1\r\na\r\n$1\r\n1\r\n"),
        ("BZPOPMAX {t}z 0", "*3\r\n$4\r\n{t}z\r\n$1\r\nc\r\n$1\r\n3\r\n"),
        ("BZMPOP 0 1 {t}z MIN", "*2\r\n$4\r\n{t}z\r\n*1\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n"),
        ("BLPOP {t}l {t}m 0.01", NONE),
        ("BLMOVE {t}l {t}m LEFT LEFT 0.01", NONE),
        ("BZPOPMIN {t}z 0.01", NONE),
        ("BZMPOP 0.01 1 {t}z MIN", NONE),
        ("BLPOP {t}l x", "-ERR timeout is not a float or out of range\r\n"),
        ("BLPOP {t}l -1", "-ERR timeout is negative\r\n"),
        ("BLPOP a b 0", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("SET {t}s x", "+OK\r\n"),
        ("BLPOP {t}s 0", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
    ] {
        client.check(line, expected).await;
    }
}

#[tokio::test]
async fn those_who_wait_are_served_in_their_order() {
    let server = Server::start().await;
    let mut pusher = server.client().await;
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..5 {
        let mut client = server.client().await;
        client.ask("BLPOP {t}l {t}m 0").await;
        waiting(&server, number + 1).await;
        clients.push(client);
    }
    pusher.check("RPUSH {t}l 0 1", ":2\r\n").await;
    clients[0].expect("*2\r\n$4\r\n{t}l\r\n$1\r\n0\r\n").await;
    clients[1].expect("*2\r\n$4\r\n{t}l\r\n$1\r\n1\r\n").await;
    pusher.check("MULTI", "+OK\r\n").await;
    pusher.check("RPUSH {t}m 2", "+QUEUED\r\n").await;
    pusher.check("EXEC", "*1\r\n:1\r\n").await;
    clients[2].expect("*2\r\n$4\r\n{t}m\r\n$1\r\n2\r\n").await;
    pusher.check("RPUSH {t}other 3", ":1\r\n").await;
    pusher.check("RENAME {t}other {t}m", "+OK\r\n").await;
    clients[3].expect("*2\r\n$4\r\n{t}m\r\n$1\r\n3\r\n").await;
    pusher.check("RPUSH {t}m 4", ":1\r\n").await;
    clients[4].expect("*2\r\n$4\r\n{t}m\r\n$1\r\n4\r\n").await;
    waiting(&server, 0).await;
}

#[tokio::test]
async fn all_who_read_a_stream_get_what_comes() {
    let server = Server::start().await;
    let (mut client, mut adder) = (server.client().await, server.client().await);
    let entry =
        |id: &str| format!("*1\r\n*2\r\n$4\r\n{{t}}s\r\n*1\r\n*2\r\n$3\r\n{id}\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
    for (line, expected) in [
        ("XADD {t}s 1-1 f v", "$3\r\n1-1\r\n"),
        ("XREAD BLOCK 0 STREAMS {t}none {t}s 0 0", &entry("1-1")),
        ("XREAD STREAMS {t}s 1-1", NONE),
        ("XREAD STREAMS {t}s $", NONE),
        ("XREAD BLOCK 10 STREAMS {t}s $", NONE),
        ("XREAD BLOCK 10 STREAMS {t}none $", NONE),
        ("XREAD BLOCK x STREAMS {t}s 0", "-ERR timeout is not an integer or out of range\r\n"),
        ("XREAD BLOCK -1 STREAMS {t}s 0", "-ERR timeout is negative\r\n"),
        ("XREAD BLOCK 0 STREAMS a b $ $", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("SET {t}text x", "+OK\r\n"),
        ("XREAD BLOCK 0 STREAMS {t}text $", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        ("XDEL {t}s 1-1", ":1\r\n"),
    ] {
        client.check(line, expected).await;
    }
    // Before, between and behind others; what is the last one of a stream without entries is known all the same.
    let mut readers: Vec<Client> = Vec::new();
    for (number, line) in [
        "XREAD BLOCK 0 STREAMS {t}s $",
        "XREAD BLOCK 0 STREAMS {t}none {t}s $ 1",
        "XREAD COUNT 1 BLOCK 0 STREAMS {t}s 1-5",
    ]
    .into_iter()
    .enumerate()
    {
        let mut reader = server.client().await;
        reader.ask(line).await;
        waiting(&server, number + 1).await;
        readers.push(reader);
    }
    adder.check("XADD {t}s 2-1 f v", "$3\r\n2-1\r\n").await;
    for reader in &mut readers {
        reader.expect(&entry("2-1")).await;
    }
    waiting(&server, 0).await;
    // In the third version it is a map; one who waits for another entry waits on.
    let mut reader = server.client().await;
    reader.ask("HELLO 3").await;
    reader.ask("ECHO greeted").await;
    while reader.line().await != "greeted" {}
    reader.ask("XREAD BLOCK 0 STREAMS {t}s 3-0").await;
    waiting(&server, 1).await;
    adder.check("XADD {t}s 3-0 f v", "$3\r\n3-0\r\n").await;
    adder.check("XADD {t}s 3-1 f v", "$3\r\n3-1\r\n").await;
    reader.expect(&entry("3-1").replacen("*1\r\n*2", "%1", 1)).await;
}

#[tokio::test]
async fn a_group_shares_what_comes_to_a_stream() {
    let server = Server::start().await;
    let mut adder = server.client().await;
    adder.check("XGROUP CREATE s g $ MKSTREAM", "+OK\r\n").await;
    let mut readers: Vec<Client> = Vec::new();
    for (number, name) in ["one", "two"].into_iter().enumerate() {
        let mut reader = server.client().await;
        reader.ask(&format!("XREADGROUP GROUP g {name} BLOCK 0 COUNT 1 STREAMS s >")).await;
        waiting(&server, number + 1).await;
        readers.push(reader);
    }
    let entry = |id: &str| format!("*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n{id}\r\n*2\r\n$1\r\nf\r\n$1\r\nv\r\n");
    adder.check("XADD s 1-1 f v", "$3\r\n1-1\r\n").await;
    waiting(&server, 1).await;
    adder.check("XADD s 1-2 f v", "$3\r\n1-2\r\n").await;
    waiting(&server, 0).await;
    let mut answers = Vec::new();
    for reader in &mut readers {
        answers.push(String::from_utf8(reader.read(entry("1-1").len()).await).unwrap());
    }
    answers.sort();
    assert_eq!(answers, [entry("1-1"), entry("1-2")], "each entry goes to one of them");
    adder.check("XACK s g 1-1 1-2", ":2\r\n").await;
    // The group goes while somebody waits.
    readers[0].ask("XREADGROUP GROUP g one BLOCK 0 STREAMS s >").await;
    waiting(&server, 1).await;
    adder.check("XGROUP DESTROY s g", ":1\r\n").await;
    readers[0].expect("-NOGROUP the consumer group this client was blocked on no longer exists\r\n").await;
    // Or the stream does.
    adder.check("XGROUP CREATE s g $", "+OK\r\n").await;
    readers[0].ask("XREADGROUP GROUP g one BLOCK 0 STREAMS s >").await;
    waiting(&server, 1).await;
    adder.check("DEL s", ":1\r\n").await;
    readers[0].expect("-UNBLOCKED the stream key no longer exists\r\n").await;
}

#[tokio::test]
async fn nothing_is_taken_for_a_client_that_has_gone() {
    let server = Server::start().await;
    let mut gone = server.client().await;
    gone.ask("BLPOP {t}l 0").await;
    waiting(&server, 1).await;
    // Whatever it sent behind that is read, and not done.
    gone.ask("PING").await;
    drop(gone);
    waiting(&server, 0).await;
    let mut client = server.client().await;
    client.check("RPUSH {t}l a", ":1\r\n").await;
    client.check("LLEN {t}l", ":1\r\n").await;
}

#[tokio::test]
async fn what_follows_is_done_behind_it() {
    let server = Server::start().await;
    let (mut client, mut pusher) = (server.client().await, server.client().await);
    client.send("BRPOP {t}l 0\r\nLLEN {t}l\r\nPING\r\n").await;
    waiting(&server, 1).await;
    pusher.check("RPUSH {t}l a b", ":2\r\n").await;
    client.expect("*2\r\n$4\r\n{t}l\r\n$1\r\nb\r\n:1\r\n+PONG\r\n").await;
    client.ask("BLPOP {t}none 0").await;
    waiting(&server, 1).await;
    pusher.check("CLIENT KILL ID 1", ":1\r\n").await;
    assert_eq!(client.rest().await, "");
    waiting(&server, 0).await;
}

#[tokio::test]
async fn others_can_end_a_wait() {
    let server = Server::start().await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    client.check("CLIENT ID", ":1\r\n").await;
    for (line, answer) in [
        ("CLIENT UNBLOCK 1", NONE),
        ("CLIENT UNBLOCK 1 TIMEOUT", NONE),
        ("CLIENT UNBLOCK 1 ERROR", "-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"),
    ] {
        client.ask("BLPOP {t}l 0").await;
        waiting(&server, 1).await;
        other.ask("CLIENT LIST ID 1").await;
        other.line().await;
        let told = other.line().await;
        assert!(told.contains(" flags=b ") && told.contains(" multi=-1 "), "{told}");
        other.check(line, ":1\r\n").await;
        client.expect(answer).await;
    }
    other.check("CLIENT UNBLOCK 1", ":0\r\n").await;
    other.check("CLIENT UNBLOCK 99", ":0\r\n").await;
    other.check("CLIENT UNBLOCK x", "-ERR value is not an integer or out of range\r\n").await;
    other.check("CLIENT UNBLOCK 1 x", "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR\r\n").await;
}

#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.ask("BLPOP {t}l 0").await;
    waiting(&server, 1).await;
    server.stop().await;
    assert_eq!(client.rest().await, "");
}

struct Told(Mutex<Vec<(Option<NodeId>, Notice)>>);

impl Relay for &'static Told {
    fn tell_all(&self, notice: Notice) {
        self.0.lock().unwrap().push((None, notice));
    }

    fn tell(&self, node: NodeId, notice: Notice) {
        self.0.lock().unwrap().push((Some(node), notice));
    }
}

#[tokio::test]
async fn other_nodes_hear_of_those_who_wait_and_tell_of_items() {
    let server = Server::start().await;
    let told: &Told = Box::leak(Box::new(Told(Mutex::default())));
    server.gateway.set_relay(Box::new(told));
    let key = Key::new(b"{t}l").unwrap();
    let (mut client, mut pusher) = (server.client().await, server.client().await);
    pusher.check("RPUSH {t}l x", ":1\r\n").await;
    pusher.check("LPOP {t}l", "$1\r\nx\r\n").await;
    assert!(told.0.lock().unwrap().is_empty(), "nobody waits: nobody is told");
    client.ask("BLPOP {t}l 0").await;
    waiting(&server, 1).await;
    pusher.check("PING", "+PONG\r\n").await;
    let there = NodeId([9; 32]);
    server.gateway.take_notice(there, Notice::Waiting { key: key.clone() });
    pusher.check("RPUSH {t}l x", ":1\r\n").await;
    client.expect("*2\r\n$4\r\n{t}l\r\n$1\r\nx\r\n").await;
    pusher.check("RPUSH {t}l y", ":1\r\n").await;
    let told = told.0.lock().unwrap().clone();
    let told_of: Vec<_> = told.iter().filter(|(to, _)| *to == Some(there)).collect();
    assert!(told.contains(&(None, Notice::Waiting { key: key.clone() })), "{told:?}");
    assert_eq!(told_of, [&(Some(there), Notice::Added { key: key.clone() }), &(Some(there), Notice::Added { key })]);
}
