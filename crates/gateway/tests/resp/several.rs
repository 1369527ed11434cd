use super::client::{Server, request};

#[tokio::test]
async fn commands_on_several_keys_of_a_slot_are_one_step() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (line, expected) in [
        ("SADD {t}s a b", ":2\r\n"),
        ("SADD {t}u b c", ":2\r\n"),
        ("SINTER {t}s {t}u", "*1\r\n$1\r\nb\r\n"),
        ("SUNIONSTORE {t}d {t}s {t}u", ":3\r\n"),
        ("SCARD {t}d", ":3\r\n"),
        ("SUNION a b", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("SINTERCARD 2 {t}s", "-ERR Number of keys can't be greater than number of args\r\n"),
        ("ZADD {t}z 1 a", ":1\r\n"),
        ("ZUNIONSTORE {t}y 2 {t}z {t}s", ":2\r\n"),
        ("ZRANGE {t}y 0 -1 WITHSCORES", "*4\r\n$1\r\nb\r\n$1\r\n1\r\n$1\r\na\r\n$1\r\n2\r\n"),
        ("MSETNX {t}1 x {t}2 y", ":1\r\n"),
        ("MSETNX {t}2 x {t}3 y", ":0\r\n"),
        ("BITOP OR {t}3 {t}1 {t}2", ":1\r\n"),
        ("PFADD {t}p a b", ":1\r\n"),
        ("PFADD {t}q b c", ":1\r\n"),
        ("PFCOUNT {t}p {t}q", ":3\r\n"),
        ("PFMERGE {t}p {t}q", "+OK\r\n"),
        ("PFCOUNT {t}p", ":3\r\n"),
        ("RPUSH {t}l 3 1 2", ":3\r\n"),
        ("SORT {t}l STORE {t}sorted", ":3\r\n"),
        ("LRANGE {t}sorted 0 -1", "*3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n"),
        ("LMPOP 2 {t}none {t}l RIGHT COUNT 2", "*2\r\n$4\r\n{t}l\r\n*2\r\n$1\r\n2\r\n$1\r\n1\r\n"),
        ("RENAME {t}l {t}m", "+OK\r\n"),
        ("RENAME {t}l {t}m", "-ERR no such key\r\n"),
        ("LRANGE {t}m 0 -1", "*1\r\n$1\r\n3\r\n"),
        ("RENAMENX {t}m {t}z", ":0\r\n"),
        ("COPY {t}z {t}zz", ":1\r\n"),
        ("COPY {t}z {t}z DB 1", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("COPY {t}z {t}z DB 0", "-ERR source and destination objects are the same\r\n"),
        ("COPY {t}z {t}z DB 99", "-ERR DB index is out of range\r\n"),
        ("ZCARD {t}zz", ":1\r\n"),
        ("COMMAND GETKEYS ZUNIONSTORE d 2 a b", "*3\r\n$1\r\nd\r\n$1\r\na\r\n$1\r\nb\r\n"),
    ] {
        client.check(line, expected).await;
    }
}

/// A HyperLogLog of some hundred elements is longer than the log takes.
#[tokio::test]
async fn strings_in_blocks_take_part() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let long = vec![b'\x0f'; 6000];
    client.send(request(&[b"SET", b"{t}long", &long])).await;
    client.expect("+OK\r\n").await;
    client.check("BITOP NOT {t}not {t}long", ":6000\r\n").await;
    client.check("GETBIT {t}not 0", ":1\r\n").await;
    client.check("BITOP AND {t}and {t}not {t}long", ":6000\r\n").await;
    client.check("BITCOUNT {t}and", ":0\r\n").await;
    client
        .check(
            "LCS {t}long {t}and LEN",
            "-ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len\r\n",
        )
        .await;
    client.check("SADD {t}set a", ":1\r\n").await;
    client
        .check("BITOP OR {t}d {t}long {t}set", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n")
        .await;
    client.check("RENAME {t}long {t}moved", "+OK\r\n").await;
    client.check("COPY {t}moved {t}copied", ":1\r\n").await;
    client.check("EXISTS {t}long {t}moved {t}copied", ":2\r\n").await;
    client.check("STRLEN {t}copied", ":6000\r\n").await;
    for key in ["{t}p", "{t}q"] {
        let elements: Vec<String> = (0..4000).map(|number| format!("{key}{number}")).collect();
        let words: Vec<&[u8]> =
            ["PFADD", key].into_iter().chain(elements.iter().map(|e| &**e)).map(str::as_bytes).collect();
        client.send(request(&words)).await;
        client.expect(":1\r\n").await;
    }
    client.ask("PFCOUNT {t}p {t}q").await;
    let together = client.line().await;
    client.check("PFMERGE {t}p {t}q", "+OK\r\n").await;
    client.check("PFCOUNT {t}p", &format!("{together}\r\n")).await;
    let count: i64 = together[1..].parse().unwrap();
    assert!((7600..8400).contains(&count), "{count}");
}
