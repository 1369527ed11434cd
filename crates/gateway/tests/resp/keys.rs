use super::client::Server;

#[tokio::test]
async fn commands_on_several_keys_scatter() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (line, expected) in [
        ("MSET a 1 b 2 a 3", "+OK\r\n"),
        ("MGET a b c", "*3\r\n$1\r\n3\r\n$1\r\n2\r\n$-1\r\n"),
        ("HSET h f v", ":1\r\n"),
        ("MGET a h", "*2\r\n$1\r\n3\r\n$-1\r\n"),
        ("MSET a", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("EXISTS a a b c", ":3\r\n"),
        ("TOUCH a c", ":1\r\n"),
        ("DEL a a c", ":1\r\n"),
        ("UNLINK b", ":1\r\n"),
        ("MSETNX x 1", ":1\r\n"),
        ("MSETNX x 2", ":0\r\n"),
        ("MSETNX x 1 y 2", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("MSETNX {x}1 1 {x}2 2", ":1\r\n"),
        ("EXISTS {x}1", ":1\r\n"),
    ] {
        client.check(line, expected).await;
    }
}

#[tokio::test]
async fn a_part_that_fails_says_that_others_may_be_done() {
    use difuse_api::request::RequestError;
    let server = Server::start().await;
    let mut client = server.client().await;
    server.datastore.fail_next(RequestError::Busy);
    client.ask("MSET a 1 b 2").await;
    let answer = client.line().await;
    assert!(answer.starts_with("-TRYAGAIN") && answer.contains("other keys"), "{answer}");
}

#[tokio::test]
async fn a_database_is_walked_through() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for number in 0..25 {
        client.check(&format!("SET user:{number:02} x"), "+OK\r\n").await;
    }
    client.check("SADD other 1", ":1\r\n").await;
    client.check("DBSIZE", ":26\r\n").await;
    client.check("KEYS user:0[1-3]", "*3\r\n$7\r\nuser:01\r\n$7\r\nuser:02\r\n$7\r\nuser:03\r\n").await;
    client.check("KEYS o*", "*1\r\n$5\r\nother\r\n").await;
    let (mut cursor, mut found) = ("0".to_string(), Vec::new());
    loop {
        client.ask(&format!("SCAN {cursor} COUNT 7 MATCH user:*")).await;
        client.expect("*2\r\n").await;
        client.line().await;
        cursor = client.line().await;
        let count: usize = client.line().await[1..].parse().unwrap();
        for _ in 0..count {
            client.line().await;
            found.push(client.line().await);
        }
        if cursor == "0" {
            break;
        }
    }
    let expected: Vec<_> = (0..25).map(|number| format!("user:{number:02}")).collect();
    assert_eq!(found, expected);
    client.check("SCAN 0 TYPE set COUNT 100", "*2\r\n$1\r\n0\r\n*1\r\n$5\r\nother\r\n").await;
    client.check("SCAN 0 TYPE zset COUNT 100", "*2\r\n$1\r\n0\r\n*0\r\n").await;
    client.check("SCAN x", "-ERR invalid cursor\r\n").await;
    client.ask("SCAN 12345").await;
    assert!(client.line().await.contains("did not give it out"));
    client.check("SCAN 0 COUNT 0", "-ERR syntax error\r\n").await;
    client.check("SCAN 0 COUNT", "-ERR syntax error\r\n").await;
    client.check("FLUSHDB", "+OK\r\n").await;
    client.check("DBSIZE", ":0\r\n").await;
    client.check("RANDOMKEY", "$-1\r\n").await;
    client.check("SET only 1", "+OK\r\n").await;
    client.check("RANDOMKEY", "$4\r\nonly\r\n").await;
}

#[tokio::test]
async fn keys_of_one_slot_are_renamed_and_copied() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (line, expected) in [
        ("SET {a}1 v", "+OK\r\n"),
        ("RENAME {a}1 b", "-CROSSSLOT Keys in request don't hash to the same slot\r\n"),
        ("RENAME {a}0 {a}1", "-ERR no such key\r\n"),
        ("RENAME {a}1 {a}2", "+OK\r\n"),
        ("EXISTS {a}1", ":0\r\n"),
        ("GET {a}2", "$1\r\nv\r\n"),
        ("RENAME {a}2 {a}2", "+OK\r\n"),
        ("SET {a}3 w", "+OK\r\n"),
        ("RENAMENX {a}2 {a}3", ":0\r\n"),
        ("RENAMENX {a}2 {a}4", ":1\r\n"),
        ("COPY {a}4 {a}3", ":0\r\n"),
        ("COPY {a}4 {a}3 REPLACE", ":1\r\n"),
        ("GET {a}3", "$1\r\nv\r\n"),
        ("GET {a}4", "$1\r\nv\r\n"),
        ("COPY {a}0 {a}3 REPLACE", ":0\r\n"),
        ("COPY {a}4 {a}4", "-ERR source and destination objects are the same\r\n"),
        ("COPY {a}4 {a}5 DB 99", "-ERR DB index is out of range\r\n"),
        ("COPY {a}4 {a}5 FROB", "-ERR syntax error\r\n"),
        ("SADD {a}s 1", ":1\r\n"),
        ("RENAME {a}s {a}t", "+OK\r\n"),
        ("SISMEMBER {a}t 1", ":1\r\n"),
        ("SET {a}e 1 EX 100", "+OK\r\n"),
        ("RENAME {a}e {a}f", "+OK\r\n"),
        ("TTL {a}f", ":100\r\n"),
    ] {
        client.check(line, expected).await;
    }
}
