use difuse_api::testing::content;

use super::client::{Client, Server};

/// A string that does not repeat.
async fn set(client: &mut Client, key: &str, length: usize) -> Vec<u8> {
    let bytes = content(length, length as u64);
    client.ask_words(&[b"SET", key.as_bytes(), &bytes]).await;
    client.expect("+OK\r\n").await;
    bytes
}

async fn expect_bytes(client: &mut Client, line: &str, expected: &[u8]) {
    client.ask(line).await;
    client.expect(&format!("${}\r\n", expected.len())).await;
    assert!(client.read(expected.len()).await == expected, "{line}");
    client.expect("\r\n").await;
}

#[tokio::test]
async fn strings_of_any_length_are_read_and_changed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for length in [4096, 4097, 3_000_000] {
        let mut bytes = set(&mut client, "k", length).await;
        expect_bytes(&mut client, "GET k", &bytes).await;
        client.check("STRLEN k", &format!(":{length}\r\n")).await;
        expect_bytes(&mut client, "GETRANGE k 1000 2000", &bytes[1000..=2000]).await;
        expect_bytes(&mut client, "GETRANGE k -3 -1", &bytes[length - 3..]).await;
        expect_bytes(&mut client, "GETRANGE k 5 2", b"").await;
        client.check("APPEND k xyz", &format!(":{}\r\n", length + 3)).await;
        bytes.extend(b"xyz");
        client.check("SETRANGE k 2 __", &format!(":{}\r\n", length + 3)).await;
        bytes[2..4].copy_from_slice(b"__");
        expect_bytes(&mut client, "GET k", &bytes).await;
        client.check("SET k w NX", "$-1\r\n").await;
        client.check("INCR k", "-ERR value is not an integer or out of range\r\n").await;
        client.check("HGET k f", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n").await;
        client.check("LPUSH k f", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n").await;
        client.check("TYPE k", "+string\r\n").await;
        client.check("OBJECT ENCODING k", "$3\r\nraw\r\n").await;
        client.check("EXPIRE k 100", ":1\r\n").await;
        client.check("TTL k", ":100\r\n").await;
        expect_bytes(&mut client, "GETDEL k", &bytes).await;
        client.check("GET k", "$-1\r\n").await;
    }
    client.check("APPEND k 0", ":1\r\n").await;
    let long = vec![b'1'; 5000];
    client.ask_words(&[b"APPEND", b"k", &long]).await;
    client.expect(":5001\r\n").await;
    client.ask_words(&[b"GETSET", b"k", &long]).await;
    client.expect("$5001\r\n0").await;
    client.read(5002).await;
    client.ask_words(&[b"SET", b"k", &long, b"XX", b"EX", b"50"]).await;
    client.expect("+OK\r\n").await;
    client.check("TTL k", ":50\r\n").await;
}

#[tokio::test]
async fn what_was_stored_long_ago_still_gets_a_deadline() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let bytes = set(&mut client, "k", 100_000).await;
    server.datastore.raise_to(9);
    expect_bytes(&mut client, "GETEX k EX 100", &bytes).await;
    client.check("TTL k", ":100\r\n").await;
    expect_bytes(&mut client, "GET k", &bytes).await;
}

#[tokio::test]
async fn a_value_in_the_log_grows_into_blocks() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let bytes = set(&mut client, "k", 4000).await;
    client.check("EXPIRE k 100", ":1\r\n").await;
    client.ask_words(&[b"APPEND", b"k", &bytes]).await;
    client.expect(":8000\r\n").await;
    client.check("TTL k", ":100\r\n").await;
    client.check("SETBIT k 100000 1", ":0\r\n").await;
    client.check("STRLEN k", ":12501\r\n").await;
    expect_bytes(&mut client, "GETRANGE k 4000 7999", &bytes).await;
}

#[tokio::test]
async fn nothing_grows_beyond_what_can_be_sent() {
    let server = Server::start().await;
    let mut client = server.client().await;
    const TOO_LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
    client.check("SETRANGE k 67108864 x", TOO_LONG).await;
    client.check("SETBIT k 4294967295 1", TOO_LONG).await;
    client.check("SETRANGE k 67108863 x", ":67108864\r\n").await;
    client.check("APPEND k x", TOO_LONG).await;
    client.check("STRLEN k", ":67108864\r\n").await;
}

#[tokio::test]
async fn long_strings_take_part_in_commands_on_several_keys() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (first, second) = (set(&mut client, "{k}1", 100_000).await, set(&mut client, "{k}2", 10).await);
    client.ask("MGET {k}1 {k}2 none").await;
    client.expect("*3\r\n$100000\r\n").await;
    assert!(client.read(100_000).await == first);
    client.expect("\r\n$10\r\n").await;
    assert!(client.read(10).await == second);
    client.expect("\r\n$-1\r\n").await;
    client.check("COPY {k}1 {k}3", ":1\r\n").await;
    client.check("DEL {k}1", ":1\r\n").await;
    expect_bytes(&mut client, "GET {k}3", &first).await;
}

#[tokio::test]
async fn a_block_that_is_gone_is_an_error_and_not_a_wrong_value() {
    let server = Server::start().await;
    let mut client = server.client().await;
    set(&mut client, "k", 100_000).await;
    server.datastore.lose_all_blocks();
    client.ask("GET k").await;
    let line = client.line().await;
    assert!(line.starts_with("-IOERR block "), "{line}");
    client.check("PING", "+PONG\r\n").await;
}
