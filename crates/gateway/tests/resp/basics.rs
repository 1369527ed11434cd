use difuse_api::request::Quota;

use super::client::Server;

#[tokio::test]
async fn commands_are_answered_as_redis_answers_them() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (line, expected) in [
        ("PING", "+PONG\r\n"),
        ("ping hello", "$5\r\nhello\r\n"),
        ("ECHO hello", "$5\r\nhello\r\n"),
        ("SET k v", "+OK\r\n"),
        ("GET k", "$1\r\nv\r\n"),
        ("GET nothing", "$-1\r\n"),
        ("SET k w NX", "$-1\r\n"),
        ("SET k w XX GET", "$1\r\nv\r\n"),
        ("INCR n", ":1\r\n"),
        ("INCR k", "-ERR value is not an integer or out of range\r\n"),
        ("HSET h a 1 b 2", ":2\r\n"),
        ("HGET h b", "$1\r\n2\r\n"),
        ("GET h", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        ("HGET k a", "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"),
        ("HGETALL h", "*4\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n$1\r\n2\r\n"),
        ("ZADD z 1.5 m", ":1\r\n"),
        ("ZSCORE z m", "$3\r\n1.5\r\n"),
        ("TYPE h", "+hash\r\n"),
        ("TYPE nothing", "+none\r\n"),
        ("OBJECT ENCODING k", "$6\r\nembstr\r\n"),
        ("OBJECT ENCODING h", "$8\r\nlistpack\r\n"),
        ("TTL k", ":-1\r\n"),
        ("SET e 1 EX 100", "+OK\r\n"),
        ("TTL e", ":100\r\n"),
        ("PERSIST e", ":1\r\n"),
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command\r\n"),
        ("NOPE a b", "-ERR unknown command 'NOPE', with args beginning with: 'a' 'b' \r\n"),
        ("CONFIG FROB", "-ERR unknown subcommand 'FROB'. Try CONFIG HELP.\r\n"),
        ("OBJECT FROB k", "-ERR unknown subcommand 'FROB'. Try OBJECT HELP.\r\n"),
        ("EXEC", "-ERR EXEC without MULTI\r\n"),
        ("CLUSTER INFO", "-ERR This instance has cluster support disabled\r\n"),
        ("CONFIG GET appendonly", "*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME me", "+OK\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("COMMAND GETKEYS MSET a 1 b 2", "*2\r\n$1\r\na\r\n$1\r\nb\r\n"),
        ("COMMAND INFO nope", "*1\r\n$-1\r\n"),
        ("COMMAND GETKEYS PING x", "-ERR The command has no key arguments\r\n"),
        ("COMMAND GETKEYS GET", "-ERR wrong number of arguments for 'command|getkeys' command\r\n"),
        ("CLIENT KILL", "-ERR wrong number of arguments for 'client|kill' command\r\n"),
        ("WAIT 1 0", ":0\r\n"),
        ("WAIT -1 0", ":0\r\n"),
        ("WAIT 0 -1", "-ERR timeout is negative\r\n"),
        ("LOLWUT", "-ERR unknown command 'LOLWUT', with args beginning with: \r\n"),
    ] {
        client.check(line, expected).await;
    }
    for refused in ["SHUTDOWN", "DEBUG SLEEP 1", "MONITOR", "REPLICAOF a 1", "EVAL x 0", "CONFIG SET save 1"] {
        client.ask(refused).await;
        let line = client.line().await;
        assert!(line.starts_with("-ERR ") && line.len() > 30, "{refused}: {line}");
    }
    client.check("QUIT", "+OK\r\n").await;
    assert_eq!(client.rest().await, "");
    server.stop().await;
}

#[tokio::test]
async fn version_3_has_types_of_its_own() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("HELLO 4", "-NOPROTO unsupported protocol version\r\n").await;
    client.check("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n").await;
    client.check("HELLO 3 FROB", "-ERR Syntax error in HELLO option 'FROB'\r\n").await;
    client.check("HELLO 3 SETNAME me", "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n").await;
    client.expect("$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n").await;
    client.expect("$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n").await;
    for (line, expected) in [
        ("GET nothing", "_\r\n"),
        ("HSET h a 1", ":1\r\n"),
        ("HGETALL h", "%1\r\n$1\r\na\r\n$1\r\n1\r\n"),
        ("SADD s x", ":1\r\n"),
        ("SMEMBERS s", "~1\r\n$1\r\nx\r\n"),
        ("ZADD z 1.5 m", ":1\r\n"),
        ("ZSCORE z m", ",1.5\r\n"),
        ("CONFIG GET timeout", "%1\r\n$7\r\ntimeout\r\n$1\r\n0\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("RESET", "+RESET\r\n"),
        ("GET nothing", "$-1\r\n"),
    ] {
        client.check(line, expected).await;
    }
}

#[tokio::test]
async fn databases_are_namespaces() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for (line, expected) in [
        ("SET k 0", "+OK\r\n"),
        ("SELECT 1", "+OK\r\n"),
        ("GET k", "$-1\r\n"),
        ("SET k 1", "+OK\r\n"),
        ("SET l 1", "+OK\r\n"),
        ("DBSIZE", ":2\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("GET k", "$1\r\n0\r\n"),
        ("DBSIZE", ":1\r\n"),
        ("SELECT 16", "-ERR DB index is out of range\r\n"),
        ("SELECT -1", "-ERR DB index is out of range\r\n"),
        ("SELECT x", "-ERR value is not an integer or out of range\r\n"),
        ("FLUSHALL", "+OK\r\n"),
        ("SELECT 1", "+OK\r\n"),
        ("DBSIZE", ":0\r\n"),
    ] {
        client.check(line, expected).await;
    }
}

#[tokio::test]
async fn lines_are_commands_too() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send("\r\n  SET k \"a b\\x01\"  \nGET 'k'\r\n").await;
    client.expect("+OK\r\n$4\r\na b\x01\r\n").await;
    client.send("GET \"k\n").await;
    client.expect("-ERR Protocol error: unbalanced quotes in request\r\n").await;
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn answers_can_be_left_out() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send("CLIENT REPLY OFF\r\nPING\r\nSET k v\r\nCLIENT REPLY ON\r\nGET k\r\n").await;
    client.expect("+OK\r\n$1\r\nv\r\n").await;
    client.send("CLIENT REPLY SKIP\r\nPING\r\nECHO a\r\n").await;
    client.expect("$1\r\na\r\n").await;
}

#[tokio::test]
async fn errors_of_the_ring_say_what_became_of_the_command() {
    use difuse_api::request::RequestError;
    use difuse_types::{OperationId, SlotId};
    let server = Server::start().await;
    let mut client = server.client().await;
    let unavailable = || RequestError::Unavailable { slot: SlotId(1), reason: "no majority".into() };
    for (error, line, code) in [
        (unavailable(), "SET k v", "-CLUSTERDOWN slot 1 is unavailable"),
        (unavailable(), "GET k", "-CLUSTERDOWN slot 1 is unavailable"),
        (unavailable(), "INCR k", "-CLUSTERDOWN slot 1 is unavailable"),
        (
            RequestError::Unknown { operation_id: OperationId([1; 16]), since: None },
            "INCR k",
            "-UNKNOWN no answer in time",
        ),
        (RequestError::Busy, "INCR k", "-TRYAGAIN the node is busy"),
        (RequestError::NotServing("joining".into()), "INCR k", "-LOADING the node is not serving: joining"),
        (RequestError::Full { reason: "the disk is full".into() }, "SET k v", "-MISCONF the disk is full"),
        (
            RequestError::QuotaReached { namespace: "3".into(), quota: Quota::Bytes(100) },
            "SET k v",
            "-OOM command not allowed: namespace 3 has reached its quota of 100 bytes",
        ),
    ] {
        server.datastore.fail_next(error);
        client.ask(line).await;
        let answer = client.line().await;
        assert!(answer.starts_with(code), "{line}: {answer}");
    }
    client.check("GET k", "$-1\r\n").await;
}

#[tokio::test]
async fn clients_see_and_end_each_other() {
    let server = Server::start().await;
    let (mut first, mut second) = (server.client().await, server.client().await);
    first.check("CLIENT ID", ":1\r\n").await;
    second.check("CLIENT ID", ":2\r\n").await;
    first.check("CLIENT SETNAME a b", "-ERR wrong number of arguments for 'client|setname' command\r\n").await;
    first.check("CLIENT KILL ID 7", ":0\r\n").await;
    first.check("CLIENT KILL ID 2", ":1\r\n").await;
    assert_eq!(second.rest().await, "");
    first.check("CLIENT KILL 1.2.3.4:5", "-ERR No such client\r\n").await;
    first.ask("CLIENT LIST").await;
    first.line().await;
    let line = first.line().await;
    assert!(line.starts_with("id=1 addr=127.0.0.1:") && line.contains(" cmd=client "), "{line}");
}

#[tokio::test]
async fn tools_are_told_what_they_ask() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.ask("COMMAND COUNT").await;
    let count: usize = client.line().await[1..].parse().unwrap();
    client.ask("COMMAND DOCS").await;
    assert_eq!(client.line().await, format!("*{}", 2 * count));
    let mut other = server.client().await;
    other.ask("COMMAND").await;
    assert_eq!(other.line().await, format!("*{count}"));
    let mut third = server.client().await;
    third.ask("COMMAND INFO get").await;
    third.expect("*1\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n").await;
    let mut fourth = server.client().await;
    fourth.ask("INFO").await;
    fourth.line().await;
    assert_eq!(fourth.line().await, "# Server");
    assert_eq!(fourth.line().await, "redis_version:7.0.15");
    let figures = server.gateway.metrics();
    assert!(figures.contains("difuse_resp_commands_total{command=\"command\",outcome=\"ok\"} 4"), "{figures}");
    assert!(figures.contains("difuse_resp_connections 4"), "{figures}");
}
