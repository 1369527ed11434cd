//! What clients see byte for byte, compared with a redis-server of version 7.0, if there is one on the `PATH`.

use std::{
    io::Write,
    net::TcpListener,
    process::{Child, Command, Stdio},
    time::Duration,
};

use difuse_api::structures::Registry;
use tokio::net::TcpStream;

use super::client::{Client, Server};

/// A server that keeps nothing, on a port that was free; it ends when this does.
struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    async fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let arguments = ["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];
        let Ok(child) = Command::new("redis-server").args(arguments).env("LC_ALL", "C").stdout(Stdio::null()).spawn()
        else {
            return nothing("there is no redis-server on the PATH");
        };
        let server = Self { child, port };
        for _ in 0..3000 {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
                let mut client = Client(stream);
                client.ask("INFO server").await;
                let length: usize = client.line().await[1..].parse().unwrap();
                let report = String::from_utf8(client.read(length).await).unwrap();
                let is_known = report.contains("redis_version:7.0.");
                return if is_known { Some(server) } else { nothing("the redis-server on the PATH is not 7.0") };
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server does not answer on port {port}");
    }

    async fn client(&self) -> Client {
        Client(TcpStream::connect(("127.0.0.1", self.port)).await.unwrap())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says so past the test's own output, which is not shown if it passes.
fn nothing(reason: &str) -> Option<Redis> {
    let _ = writeln!(std::io::stderr(), "COMPARED NOTHING: {reason}");
    None
}

/// Which connection sends a line, and the line.
const CONVERSATION: &[(usize, &str)] = &[
    (0, "XGROUP HELP"),
    (0, "XINFO HELP"),
    (0, "OBJECT HELP"),
    (0, "XGROUP HELP x"),
    // Transactions
    (0, "EXEC"),
    (0, "DISCARD"),
    (0, "UNWATCH"),
    (0, "MULTI x"),
    (0, "MULTI"),
    (0, "MULTI"),
    (0, "EXEC x"),
    (0, "WATCH a"),
    (0, "WATCH"),
    (0, "GET"),
    (0, "SET {t}a 1"),
    (0, "EXEC"),
    (0, "GET {t}a"),
    (0, "MULTI"),
    (0, "SET {t}a 1 EX 100"),
    (0, "INCRBYFLOAT {t}a 1.5"),
    (0, "TTL {t}a"),
    (0, "HSET {t}a f v"),
    (0, "HSET {t}h f v g w"),
    (0, "HGETALL {t}h"),
    (0, "ZADD {t}z 1 a 2.5 b"),
    (0, "ZRANGE {t}z 0 -1 WITHSCORES"),
    (0, "SADD {t}s x"),
    (0, "SMEMBERS {t}s"),
    (0, "PING"),
    (0, "PING hello"),
    (0, "ECHO hello"),
    (0, "SELECT 99"),
    (0, "SELECT 0"),
    (0, "UNWATCH"),
    (0, "TYPE {t}z"),
    (0, "OBJECT ENCODING {t}s"),
    (0, "EXISTS {t}a {t}a {t}none"),
    (0, "MGET {t}a {t}h {t}none"),
    (0, "MSET {t}m 1 {t}m 2"),
    (0, "MSETNX {t}m 1 {t}n 2"),
    (0, "DEL {t}m {t}m"),
    (0, "BLPOP {t}none 0"),
    (0, "BLMOVE {t}none {t}other LEFT RIGHT 0"),
    (0, "BRPOPLPUSH {t}none {t}other 0"),
    (0, "BZPOPMIN {t}z {t}none 0"),
    (0, "BLMPOP 0 1 {t}none LEFT"),
    (0, "BZMPOP 0 2 {t}none {t}z MIN COUNT 5"),
    (0, "XADD {t}stream 1-1 f v"),
    (0, "XREAD BLOCK 0 STREAMS {t}stream {t}none 0 $"),
    (0, "XREAD BLOCK 0 STREAMS {t}none $"),
    (0, "ZUNION 0 a"),
    (0, "LMPOP 9 a LEFT"),
    (0, "RENAME {t}none {t}x"),
    (0, "COPY {t}h {t}copied"),
    (0, "PUBLISH news nobody"),
    (0, "DISCARD"),
    (0, "MULTI"),
    (0, "RPUSH {t}l a b c"),
    (0, "LMOVE {t}l {t}l LEFT RIGHT"),
    (0, "LRANGE {t}l 0 -1"),
    (0, "BLPOP {t}none 0"),
    (0, "BLMOVE {t}none {t}other LEFT RIGHT 0"),
    (0, "BLMPOP 0 2 {t}none {t}l LEFT COUNT 2"),
    (0, "ZADD {t}z 1 a 2.5 b"),
    (0, "BZPOPMAX {t}z {t}none 0"),
    (0, "BZMPOP 0 2 {t}none {t}z MIN COUNT 5"),
    (0, "HSET {t}l f v"),
    (0, "HSET {t}h f v g w"),
    (0, "HGETALL {t}h"),
    (0, "HGET {t}h none"),
    (0, "SET {t}a 1 EX 100"),
    (0, "TTL {t}a"),
    (0, "PING"),
    (0, "PING hello"),
    (0, "SELECT 99"),
    (0, "UNWATCH"),
    (0, "TYPE {t}l"),
    (0, "MGET {t}a {t}h {t}none"),
    (0, "MSETNX {t}m 1 {t}a 2"),
    (0, "DEL {t}m {t}m {t}a"),
    (0, "ZUNION 0 a"),
    (0, "LMPOP 9 a LEFT"),
    (0, "RENAME {t}none {t}x"),
    (0, "COPY {t}h {t}copied"),
    (0, "HLEN {t}copied"),
    (0, "PUBLISH news nobody"),
    (0, "EXEC"),
    (0, "EXEC"),
    // What is watched
    (0, "WATCH {t}w {t}v"),
    (0, "MULTI"),
    (0, "SET {t}w mine"),
    (0, "EXEC"),
    (0, "WATCH {t}w"),
    (1, "SET {t}w theirs"),
    (0, "MULTI"),
    (0, "SET {t}w mine"),
    (0, "EXEC"),
    (0, "GET {t}w"),
    (0, "WATCH {t}w"),
    (1, "DEL {t}w"),
    (0, "MULTI"),
    (0, "EXEC"),
    (0, "WATCH {t}w"),
    (1, "DEL {t}w"),
    (0, "MULTI"),
    (0, "GET {t}w"),
    (0, "EXEC"),
    (0, "WATCH {t}w"),
    (1, "SET {t}w x"),
    (0, "UNWATCH"),
    (0, "MULTI"),
    (0, "GET {t}w"),
    (0, "EXEC"),
    (0, "WATCH {t}w"),
    (0, "SET {t}w own"),
    (0, "MULTI"),
    (0, "GET {t}w"),
    (0, "EXEC"),
    (0, "WATCH {t}w"),
    (1, "SET {t}w x"),
    (0, "MULTI"),
    (0, "DISCARD"),
    (0, "MULTI"),
    (0, "GET {t}w"),
    (0, "EXEC"),
    (0, "MULTI"),
    (0, "NOSUCH a b"),
    (0, "EXEC"),
    (0, "MULTI"),
    (0, "OBJECT NOSUCH k"),
    (0, "EXEC"),
    (0, "MULTI"),
    (0, "SELECT 1"),
    (0, "SET {t}d one"),
    (0, "EXEC"),
    (0, "GET {t}d"),
    (0, "SELECT 0"),
    (0, "GET {t}d"),
    // Those who wait
    (0, "BLPOP {t}none 0.01"),
    (0, "BRPOP {t}none {t}none2 0.01"),
    (0, "BLMOVE {t}none {t}other LEFT RIGHT 0.01"),
    (0, "BRPOPLPUSH {t}none {t}other 0.01"),
    (0, "BLMPOP 0.01 2 {t}none {t}none2 LEFT"),
    (0, "BZPOPMIN {t}none 0.01"),
    (0, "BZMPOP 0.01 1 {t}none MAX"),
    (0, "BLPOP {t}l"),
    (0, "BLPOP {t}l x"),
    (0, "BLPOP {t}l -1"),
    (0, "BLMOVE {t}l {t}l LEFT UP 0"),
    (0, "BLMPOP 0 0 {t}l LEFT"),
    (0, "BLMPOP 0 1 {t}l UP"),
    (0, "BLMPOP 0 1 {t}l LEFT COUNT 0"),
    (0, "BZMPOP 0 1 {t}l MIN"),
    (0, "BLPOP {t}h 0"),
    (0, "BLMOVE {t}l {t}h LEFT RIGHT 0"),
    (0, "BLMPOP 0 1 {t}l RIGHT COUNT 9"),
    (0, "RPUSH {t}l 1 2 3"),
    (0, "BRPOP {t}none {t}l 0"),
    (0, "BRPOPLPUSH {t}l {t}l 0"),
    (0, "CLIENT UNBLOCK 9999"),
    (0, "CLIENT UNBLOCK x"),
    (0, "CLIENT UNBLOCK 1 x"),
    (0, "CLIENT UNBLOCK"),
    (0, "COMMAND GETKEYS ZUNIONSTORE d 2 a b"),
    (0, "COMMAND GETKEYS LMPOP 2 a b LEFT"),
    (0, "COMMAND GETKEYS PING"),
    (0, "COMMAND GETKEYS SORT a LIMIT 0 1 STORE b"),
];

/// One reply as it comes, whatever lies within it.
async fn reply(client: &mut Client) -> String {
    let (mut reply, mut missing) = (String::new(), 1_i64);
    while missing > 0 {
        missing -= 1;
        let line = client.line().await;
        let count: i64 = line[1..].parse().unwrap_or_default();
        match &line[..1] {
            "*" | "~" => missing += count.max(0),
            "%" => missing += 2 * count,
            "$" | "=" if count >= 0 => {
                let text = client.read(usize::try_from(count).unwrap() + 2).await;
                reply += &String::from_utf8_lossy(&text);
            }
            _ => {}
        }
        reply += &format!("{line} ");
    }
    reply
}

async fn answers(clients: &mut [Client]) -> Vec<String> {
    let mut answers = Vec::new();
    for (client, line) in CONVERSATION {
        clients[*client].ask(line).await;
        answers.push(reply(&mut clients[*client]).await);
    }
    answers
}

#[tokio::test]
async fn a_conversation_is_answered_as_by_redis() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start().await;
    for hello in ["HELLO 2", "HELLO 3"] {
        let mut ours = [server.client().await, server.client().await];
        let mut theirs = [redis.client().await, redis.client().await];
        for client in ours.iter_mut().chain(&mut theirs) {
            client.ask(hello).await;
            client.ask("ECHO greeted").await;
            while reply(client).await != "greeted\r\n$7 " {}
            client.check("FLUSHALL", "+OK\r\n").await;
        }
        let (ours, theirs) = (answers(&mut ours).await, answers(&mut theirs).await);
        for (((_, line), ours), theirs) in CONVERSATION.iter().zip(ours).zip(theirs) {
            assert_eq!(ours, theirs, "{hello}: {line} (right: Redis's)");
        }
    }
}

/// Arity and positions of keys, by which clients find their way.
async fn numbers_of(client: &mut Client, name: &str) -> Vec<String> {
    client.ask(&format!("COMMAND INFO {name}")).await;
    let info = reply(client).await;
    info.split_whitespace().filter(|word| word.starts_with(':')).take(4).map(str::to_string).collect()
}

#[tokio::test]
async fn commands_take_what_those_of_redis_take() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::start().await;
    let (mut ours, mut theirs) = (server.client().await, redis.client().await);
    let mut compared = 0;
    for command in Registry::builtin().commands().filter(|command| !command.name.contains('|')) {
        let (own, redis) = (numbers_of(&mut ours, command.name).await, numbers_of(&mut theirs, command.name).await);
        assert_eq!(own, redis, "{} (right: Redis's)", command.name);
        compared += 1;
    }
    for name in
        ["multi", "exec", "discard", "watch", "unwatch", "publish", "subscribe", "mget", "mset", "rename", "copy"]
    {
        assert_eq!(numbers_of(&mut ours, name).await, numbers_of(&mut theirs, name).await, "{name}");
    }
    assert!(compared > 140, "{compared}");
}
