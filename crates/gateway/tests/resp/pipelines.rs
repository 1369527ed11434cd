use super::client::{Server, request};

#[tokio::test]
async fn answers_come_in_the_order_of_the_commands() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let (mut requests, mut expected) = (Vec::new(), String::new());
    for number in 0..1000 {
        let (key, value) = (format!("k{}", number % 7), number.to_string());
        requests.extend(request(&[b"SET", key.as_bytes(), value.as_bytes()]));
        requests.extend(request(&[b"GET", key.as_bytes()]));
        requests.extend(request(&[b"PING"]));
        requests.extend(request(&[b"INCR", b"n"]));
        expected += &format!("+OK\r\n${}\r\n{value}\r\n+PONG\r\n:{}\r\n", value.len(), number + 1);
    }
    client.send(requests).await;
    client.expect(&expected).await;
}

#[tokio::test]
async fn commands_on_different_keys_are_done_side_by_side() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let requests: Vec<_> = (0..64).flat_map(|number| request(&[b"INCR", format!("k{number}").as_bytes()])).collect();
    client.send(requests).await;
    client.expect(&":1\r\n".repeat(64)).await;
    assert!(server.datastore.in_flight_max() > 8, "{}", server.datastore.in_flight_max());
}

#[tokio::test]
async fn commands_on_one_key_are_done_one_after_the_other() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send(request(&[b"INCR", b"k"]).repeat(64)).await;
    client.expect(&(1..=64).map(|number| format!(":{number}\r\n")).collect::<String>()).await;
    assert_eq!(server.datastore.in_flight_max(), 1);
}

#[tokio::test]
async fn what_looks_at_all_keys_waits_for_what_was_asked_before() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send("SET a 1\r\nSET b 2\r\nDBSIZE\r\nDEL a\r\nKEYS *\r\nFLUSHDB\r\nSET c 1\r\nDBSIZE\r\n").await;
    client.expect("+OK\r\n+OK\r\n:2\r\n:1\r\n*1\r\n$1\r\nb\r\n+OK\r\n+OK\r\n:1\r\n").await;
}

#[tokio::test]
async fn a_change_of_the_connection_counts_from_its_place_on() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send("SET k 0\r\nSELECT 1\r\nGET k\r\nHELLO 3\r\nGET k\r\nSELECT 0\r\nGET k\r\n").await;
    client.expect("+OK\r\n+OK\r\n$-1\r\n%7\r\n").await;
    let mut line = String::new();
    while line != "_" {
        line = client.line().await;
    }
    client.expect("+OK\r\n$1\r\n0\r\n").await;
}

#[tokio::test]
async fn commands_behind_each_other_on_one_key_are_one_request() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send("LPUSH l a\r\n").await;
    client.expect(":1\r\n").await;
    let before = server.datastore.calls();
    let commands = [request(&[b"RPUSH", b"l", b"b"]), request(&[b"RPOP", b"l"])].concat();
    client.send(commands.repeat(100)).await;
    client.expect(&":2\r\n$1\r\nb\r\n".repeat(100)).await;
    let calls = server.datastore.calls() - before;
    assert!(calls < 50, "{calls} requests for 200 commands");
}

/// What cannot be done together with others is done in its place all the same.
#[tokio::test]
async fn a_row_of_commands_on_one_key_may_hold_anything() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let long = "v".repeat(5000);
    client
        .send(format!(
            "APPEND k a\r\nAPPEND k b\r\nGET k\r\nAPPEND k {long}\r\nSTRLEN k\r\nAPPEND k c\r\nSET k 1\r\nINCR k\r\n\
             LPUSH k x\r\nINCR k\r\nINCRBY k\r\nAPPEND other o\r\nAPPEND k d\r\n"
        ))
        .await;
    client
        .expect(
            ":1\r\n:2\r\n$2\r\nab\r\n:5002\r\n:5002\r\n:5003\r\n+OK\r\n:2\r\n\
             -WRONGTYPE Operation against a key holding the wrong kind of value\r\n:3\r\n\
             -ERR wrong number of arguments for 'incrby' command\r\n:1\r\n:2\r\n",
        )
        .await;
    // What a series cannot do is where its commands grow too long together.
    let part = "w".repeat(1500);
    client.send(format!("APPEND s {part}\r\n").repeat(4)).await;
    client.expect(":1500\r\n:3000\r\n:4500\r\n:6000\r\n").await;
    client
        .send("CLIENT REPLY SKIP\r\nINCR n\r\nINCR n\r\nMULTI\r\nINCR n\r\nINCR n\r\nEXEC\r\nINCR n\r\nINCR n\r\n")
        .await;
    client.expect(":2\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:3\r\n:4\r\n:5\r\n:6\r\n").await;
    client.send("INCR n\r\nINCR n\r\n*1\r\n!rubbish\r\n").await;
    client.expect(":7\r\n:8\r\n-ERR Protocol error: expected '$', got '!'\r\n").await;
}

#[tokio::test]
async fn a_series_that_fails_fails_for_each_of_its_commands() {
    use difuse_api::request::RequestError;
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send("INCR n\r\n").await;
    client.expect(":1\r\n").await;
    server.datastore.fail_next(RequestError::Busy);
    client.send([request(&[b"INCR", b"n"]), request(&[b"INCR", b"n"])].concat()).await;
    let expected = format!("-TRYAGAIN {}\r\n", RequestError::Busy);
    client.expect(&expected.repeat(2)).await;
    client.send("INCR n\r\n").await;
    client.expect(":2\r\n").await;
}
