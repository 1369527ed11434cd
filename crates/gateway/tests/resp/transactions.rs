use super::client::{Server, request};

#[tokio::test]
async fn commands_are_done_together() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut other = server.client().await;
    for (line, expected) in [
        ("EXEC", "-ERR EXEC without MULTI\r\n"),
        ("DISCARD", "-ERR DISCARD without MULTI\r\n"),
        ("MULTI", "+OK\r\n"),
        ("MULTI", "-ERR MULTI calls can not be nested\r\n"),
        ("WATCH {t}a", "-ERR WATCH inside MULTI is not allowed\r\n"),
        ("SET {t}a 1", "+QUEUED\r\n"),
        ("INCR {t}a", "+QUEUED\r\n"),
        ("LPUSH {t}a x", "+QUEUED\r\n"),
        ("PING", "+QUEUED\r\n"),
        ("RPUSH {t}l a b c", "+QUEUED\r\n"),
        ("LMOVE {t}l {t}m left right", "+QUEUED\r\n"),
        ("BLPOP {t}none 0", "+QUEUED\r\n"),
        ("ZUNION 2 {t}l", "+QUEUED\r\n"),
        ("DEL {t}l {t}l {t}nothing", "+QUEUED\r\n"),
        ("PUBLISH news hi", "+QUEUED\r\n"),
    ] {
        client.check(line, expected).await;
    }
    other.check("EXISTS {t}a", ":0\r\n").await;
    client
        .check(
            "EXEC",
            "*10\r\n+OK\r\n:2\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n+PONG\r\n:3\r\n\
             $1\r\na\r\n*-1\r\n-ERR syntax error\r\n:1\r\n:0\r\n",
        )
        .await;
    other.check("GET {t}a", "$1\r\n2\r\n").await;
    other.check("LRANGE {t}m 0 -1", "*1\r\n$1\r\na\r\n").await;
    client.check("MULTI", "+OK\r\n").await;
    client.check("EXEC", "*0\r\n").await;
}

#[tokio::test]
async fn a_command_that_is_refused_lets_nothing_be_done() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let long = format!("SET a {}", "x".repeat(4097));
    for (line, refused) in [
        ("NOSUCH a", "-ERR unknown command 'NOSUCH'"),
        ("GET", "-ERR wrong number of arguments for 'get' command"),
        ("SCAN 0", "-ERR SCAN is not allowed in a transaction"),
        ("FLUSHDB", "-ERR FLUSHDB is not allowed in a transaction"),
        ("SUBSCRIBE a", "-ERR SUBSCRIBE is not allowed in a transaction"),
        ("HELLO 3", "-ERR HELLO is not allowed in a transaction"),
        ("DIFUSE.LOG a", "-ERR DIFUSE.LOG is not allowed in a transaction"),
        (&long, "-ERR a string in a transaction has at most 4096 bytes"),
    ] {
        client.check("MULTI", "+OK\r\n").await;
        client.check("SET a 1", "+QUEUED\r\n").await;
        client.ask(line).await;
        let answer = client.line().await;
        assert!(answer.starts_with(refused), "{answer}");
        client.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n").await;
        client.check("EXISTS a", ":0\r\n").await;
    }
    client.check("MULTI", "+OK\r\n").await;
    client.check("SET a 1", "+QUEUED\r\n").await;
    client.check("DISCARD", "+OK\r\n").await;
    client.check("EXEC", "-ERR EXEC without MULTI\r\n").await;
    client.check("MULTI", "+OK\r\n").await;
    client.check("RESET", "+RESET\r\n").await;
    client.check("EXISTS a", ":0\r\n").await;
}

#[tokio::test]
async fn keys_of_several_slots_and_strings_in_blocks_are_no_step() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("MULTI", "+OK\r\n").await;
    client.check("SET a 1", "+QUEUED\r\n").await;
    client.check("SET b 1", "+QUEUED\r\n").await;
    client.check("EXEC", "-CROSSSLOT Keys in request don't hash to the same slot\r\n").await;
    client.check("WATCH b", "+OK\r\n").await;
    client.check("MULTI", "+OK\r\n").await;
    client.check("SET a 1", "+QUEUED\r\n").await;
    client.check("EXEC", "-CROSSSLOT Keys in request don't hash to the same slot\r\n").await;
    client.check("EXISTS a b", ":0\r\n").await;
    client.send(request(&[b"SET", b"long", &[b'x'; 5000]])).await;
    client.expect("+OK\r\n").await;
    client.check("MULTI", "+OK\r\n").await;
    client.check("APPEND long y", "+QUEUED\r\n").await;
    client.ask("EXEC").await;
    let answer = client.line().await;
    assert!(answer.starts_with("-ERR a string in a transaction has at most 4096 bytes"), "{answer}");
    client.check("STRLEN long", ":5000\r\n").await;
}

#[tokio::test]
async fn a_watched_key_that_changes_lets_nothing_be_done() {
    let server = Server::start().await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    for (meanwhile, answer, expected) in [
        ("GET {t}a", "*1\r\n+OK\r\n", "mine"),
        ("SET {t}a theirs", "*-1\r\n", "theirs"),
        ("DEL {t}a", "*-1\r\n", ""),
        ("SET {t}a back", "*-1\r\n", "back"),
    ] {
        client.check("WATCH {t}a {t}b", "+OK\r\n").await;
        client.check("MULTI", "+OK\r\n").await;
        client.check("SET {t}a mine", "+QUEUED\r\n").await;
        other.ask(meanwhile).await;
        other.line().await;
        client.check("EXEC", answer).await;
        let mut fresh = server.client().await;
        let text = match expected {
            "" => "$-1\r\n".to_string(),
            text => format!("${}\r\n{text}\r\n", text.len()),
        };
        fresh.check("GET {t}a", &text).await;
    }
    client.check("WATCH {t}a", "+OK\r\n").await;
    client.check("UNWATCH", "+OK\r\n").await;
    other.check("SET {t}a x", "+OK\r\n").await;
    client.check("MULTI", "+OK\r\n").await;
    client.check("GET {t}a", "+QUEUED\r\n").await;
    client.check("EXEC", "*1\r\n$1\r\nx\r\n").await;
    // Without commands on keys, what is watched counts all the same.
    client.check("WATCH {t}a", "+OK\r\n").await;
    other.check("SET {t}a y", "+OK\r\n").await;
    client.check("MULTI", "+OK\r\n").await;
    client.check("EXEC", "*-1\r\n").await;
}

#[tokio::test]
async fn databases_and_pipelines_keep_their_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client
        .send(
            "SELECT 1\r\nSET {t}a 1\r\nSELECT 0\r\nMULTI\r\nSELECT 1\r\nINCR {t}a\r\nSELECT 99\r\nGET {t}a\r\nEXEC\r\nGET {t}a\r\n\
             SELECT 0\r\nGET {t}a\r\n",
        )
        .await;
    client.expect("+OK\r\n+OK\r\n+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n").await;
    client.expect("*4\r\n+OK\r\n:2\r\n-ERR DB index is out of range\r\n$1\r\n2\r\n").await;
    client.expect("$1\r\n2\r\n+OK\r\n$-1\r\n").await;
}

#[tokio::test]
async fn what_is_put_aside_is_bounded() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("MULTI", "+OK\r\n").await;
    let put = request(&[b"SADD", b"k", &[b'x'; 100_000]]);
    for _ in 0..7 {
        client.send(&put).await;
        client.expect("+QUEUED\r\n").await;
    }
    client.send(&put).await;
    let refused = client.line().await;
    assert!(refused.starts_with("-ERR a transaction has at most 4096 commands, 3072 keys and"), "{refused}");
    client.check("EXEC", "-EXECABORT Transaction discarded because of previous errors.\r\n").await;
    for number in 0..32 {
        client.ask_words(&[b"WATCH", format!("{number}{}", "x".repeat(1000)).as_bytes()]).await;
        let answer = client.line().await;
        assert_eq!(answer, "+OK", "{number}");
    }
    client.ask_words(&[b"WATCH", &[b'y'; 1000]]).await;
    assert!(client.line().await.starts_with("-ERR a connection watches 1024 keys of 32768 bytes at most"));
}
