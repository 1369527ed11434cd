use difuse_gateway::resp::Settings;
use difuse_types::Hash;

use super::client::Server;

async fn guarded() -> Server {
    Server::start_with(Settings { password: Some(Hash::of(b"secret")), ..Settings::default() }).await
}

#[tokio::test]
async fn nothing_is_served_without_the_password() {
    let server = guarded().await;
    let mut client = server.client().await;
    const WRONG: &str = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";
    for (line, expected) in [
        ("PING", "-NOAUTH Authentication required.\r\n"),
        ("GET k", "-NOAUTH Authentication required.\r\n"),
        ("AUTH wrong", WRONG),
        ("AUTH somebody secret", WRONG),
        ("AUTH", "-ERR wrong number of arguments for 'auth' command\r\n"),
        ("AUTH a b c", "-ERR syntax error\r\n"),
        ("HELLO 3 AUTH default wrong", WRONG),
        ("GET k", "-NOAUTH Authentication required.\r\n"),
        ("AUTH secret", "+OK\r\n"),
        ("GET k", "$-1\r\n"),
        ("RESET", "+RESET\r\n"),
        ("GET k", "-NOAUTH Authentication required.\r\n"),
        ("AUTH default secret", "+OK\r\n"),
        ("ACL WHOAMI", "$7\r\ndefault\r\n"),
    ] {
        client.check(line, expected).await;
    }
    let mut other = server.client().await;
    other.ask("HELLO 3").await;
    assert!(other.line().await.starts_with("-NOAUTH HELLO must be called"));
    other.check("HELLO 3 AUTH default secret", "%7\r\n").await;
}

#[tokio::test]
async fn strangers_may_send_little() {
    let server = guarded().await;
    for (input, expected) in [
        ("*11\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n"),
        ("*1\r\n$20000\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"),
    ] {
        let mut client = server.client().await;
        client.send(input).await;
        assert_eq!(client.rest().await, expected);
    }
}

#[tokio::test]
async fn without_a_password_none_is_asked() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.ask("AUTH x").await;
    assert!(client.line().await.contains("without any password configured"));
    client.check("AUTH default x", "+OK\r\n").await;
}
