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
