use difuse_api::{
    namespaces::{self, Settings},
    request::Condition,
};
use difuse_types::Level;

use super::client::Server;

#[tokio::test]
async fn levels_belong_to_the_connection() {
    let server = Server::start().await;
    let (mut client, mut other) = (server.client().await, server.client().await);
    client.check("DIFUSE.CONSISTENCY", "*2\r\n$6\r\nquorum\r\n$6\r\nquorum\r\n").await;
    client.check("DIFUSE.CONSISTENCY leader ALL", "*2\r\n$6\r\nleader\r\n$3\r\nall\r\n").await;
    client.ask("DIFUSE.CONSISTENCY most all").await;
    assert!(client.line().await.starts_with("-ERR "));
    client.check("DIFUSE.CONSISTENCY", "*2\r\n$6\r\nleader\r\n$3\r\nall\r\n").await;
    other.check("DIFUSE.CONSISTENCY", "*2\r\n$6\r\nquorum\r\n$6\r\nquorum\r\n").await;
    client.check("DIFUSE.CONSISTENCY lazy lazy", "*2\r\n$4\r\nlazy\r\n$4\r\nlazy\r\n").await;
    client.check("SET k v", "+OK\r\n").await;
    client.check("GET k", "$-1\r\n").await;
    server.datastore.apply_queued();
    client.check("GET k", "$1\r\nv\r\n").await;
}

#[tokio::test]
async fn histories_are_read_and_verified() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.check("SET k a", "+OK\r\n").await;
    client.check("DEL k", ":1\r\n").await;
    client.ask("DIFUSE.LOG k").await;
    client.expect("*2\r\n*18\r\n$6\r\nheight\r\n:1\r\n$4\r\nhash\r\n$64\r\n").await;
    let first = client.line().await;
    client.expect("$8\r\nprevious\r\n$64\r\n").await;
    assert_eq!(client.line().await, "0".repeat(64));
    client.expect("$9\r\noperation\r\n$3\r\nset\r\n$5\r\nvalue\r\n$1\r\na\r\n").await;
    let mut second = server.client().await;
    second.ask("DIFUSE.LOG k 2 5").await;
    second.expect("*1\r\n*18\r\n$6\r\nheight\r\n:2\r\n$4\r\nhash\r\n$64\r\n").await;
    let head = second.line().await;
    second.expect(&format!("$8\r\nprevious\r\n$64\r\n{first}\r\n$9\r\noperation\r\n$6\r\ndelete\r\n")).await;
    let mut third = server.client().await;
    let verified = format!("*6\r\n$6\r\nheight\r\n:2\r\n$4\r\nhash\r\n$64\r\n{head}\r\n$13\r\nverified_from\r\n:1\r\n");
    third.check("DIFUSE.VERIFY k", &verified).await;
    server.datastore.tamper_with(&difuse_types::Key::new(b"k").unwrap(), 1);
    third.ask("DIFUSE.VERIFY k").await;
    let line = third.line().await;
    assert!(line.starts_with("-BROKEN "), "{line}");
}

#[tokio::test]
async fn a_head_is_compared_and_set() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.ask("DIFUSE.CAS k absent one").await;
    client.expect("*4\r\n$6\r\nheight\r\n:1\r\n$4\r\nhash\r\n$64\r\n").await;
    let head = client.line().await;
    client.ask("DIFUSE.CAS k absent two").await;
    assert!(client.line().await.starts_with("-CONFLICT the condition does not hold"));
    client.ask(&format!("DIFUSE.CAS k {head} two")).await;
    client.expect("*4\r\n$6\r\nheight\r\n:2\r\n$4\r\nhash\r\n$64\r\n").await;
    client.line().await;
    client.ask(&format!("DIFUSE.CAS k {head} three")).await;
    assert!(client.line().await.starts_with("-CONFLICT"));
    client.check("GET k", "$3\r\ntwo\r\n").await;
    client.ask("DIFUSE.CAS k nonsense three").await;
    assert!(client.line().await.starts_with("-ERR"));
    client.check("DIFUSE.LOCATE k", "*12\r\n$4\r\nslot\r\n").await;
}

#[tokio::test]
async fn a_database_has_levels_until_a_connection_chooses_its_own() {
    let server = Server::start().await;
    let (read_level, write_level) = (Some(Level::Leader), Some(Level::Lazy));
    let settings = Settings { read_level, write_level, ..Settings::default() };
    namespaces::set(&*server.datastore, "1", settings, Condition::None).await.unwrap();
    let mut client = server.client().await;
    let quorum = "*2\r\n$6\r\nquorum\r\n$6\r\nquorum\r\n";
    let leader_lazy = "*2\r\n$6\r\nleader\r\n$4\r\nlazy\r\n";
    client.check("DIFUSE.CONSISTENCY", quorum).await;
    client.check("SELECT 1", "+OK\r\n").await;
    client.check("DIFUSE.CONSISTENCY", leader_lazy).await;
    client.check("SET k v", "+OK\r\n").await;
    client.check("GET k", "$-1\r\n").await;
    server.datastore.apply_queued();
    client.check("GET k", "$1\r\nv\r\n").await;
    client.check("DIFUSE.CONSISTENCY default all", "*2\r\n$6\r\nleader\r\n$3\r\nall\r\n").await;
    client.check("DIFUSE.CONSISTENCY default default", leader_lazy).await;
    client.check("DIFUSE.CONSISTENCY quorum quorum", quorum).await;
    client.check("SET k w", "+OK\r\n").await;
    client.check("GET k", "$1\r\nw\r\n").await;
    // A database that is emptied stays what it is set to.
    client.check("FLUSHDB", "+OK\r\n").await;
    client.check("RESET", "+RESET\r\n").await;
    client.check("SELECT 1", "+OK\r\n").await;
    client.check("DIFUSE.CONSISTENCY", leader_lazy).await;
    client.check("MULTI", "+OK\r\n").await;
    client.check("DIFUSE.CONSISTENCY", "+QUEUED\r\n").await;
    client.check("EXEC", &format!("*1\r\n{leader_lazy}")).await;
}
