//! Rings of real nodes in one process: sockets on loopback, directories on disk.

use std::{path::Path, time::Duration};

use difuse_api::{
    Datastore,
    request::{Condition, Reply, Request, RingView, Since},
};
use difuse_keylog::{Operation, Value};
use difuse_node::{Founding, Node, NodeConfig};
use difuse_types::{Hash, Key, Level, OperationId};

/// How long anything here may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn config(directory: &Path, join: Vec<String>) -> NodeConfig {
    NodeConfig {
        data_dir: directory.to_path_buf(),
        bind: ([127, 0, 0, 1], 0).into(),
        advertise: None,
        http: String::new(),
        join,
        zone: String::new(),
        host_label: None,
        secret: None,
        suspect_after: Duration::from_secs(1),
        gone_after: Duration::from_secs(300),
        tombstones_kept: None,
        keep_free: 0,
        scrub_rate: None,
        founding: Founding { replicas: 3, slots: 32, virtual_nodes: 4 },
    }
}

async fn ring(directories: &[tempfile::TempDir]) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for directory in directories {
        let join = nodes.first().map(|first| first.local_address().to_string()).into_iter().collect();
        nodes.push(Node::start(config(directory.path(), join)).await.unwrap());
    }
    settle(&nodes[0], directories.len()).await;
    nodes
}

async fn view(node: &Node) -> RingView {
    match node.call(Request::Ring).await.unwrap() {
        Reply::Ring(view) => *view,
        other => panic!("{other:?}"),
    }
}

async fn settle(node: &Node, hosts: usize) {
    let settling = async {
        loop {
            let view = view(node).await;
            if view.settled && view.hosts.len() == hosts {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, settling).await.is_err() {
        panic!("not settled: {:#?}", view(node).await);
    }
}

fn set(key: &Key, value: &str, id: u8) -> Request {
    Request::Write {
        key: key.clone(),
        operation: Operation::Set(Value::inline(value.as_bytes().to_vec())),
        condition: Condition::None,
        operation_id: OperationId([id; 16]),
        level: Level::Quorum,
        since: Since::Now,
    }
}

async fn read(node: &Node, key: &Key) -> Option<String> {
    match node.call(Request::Read { key: key.clone(), level: Level::Quorum, seen: None }).await.unwrap() {
        Reply::Entry(reading) => reading.entry?.value.map(|value| String::from_utf8(value.bytes.to_vec()).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn directories(count: usize) -> Vec<tempfile::TempDir> {
    (0..count).map(|_| tempfile::tempdir().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_through_one_node_is_read_through_every_other() {
    let _ = tracing_subscriber::fmt().with_test_writer().try_init();
    let directories = directories(3);
    let nodes = ring(&directories).await;
    for index in 0..50u8 {
        let key = Key::new(format!("key-{index}").as_bytes()).unwrap();
        nodes[usize::from(index) % 3].call(set(&key, &format!("value-{index}"), index)).await.unwrap();
        assert_eq!(read(&nodes[usize::from(index + 1) % 3], &key).await, Some(format!("value-{index}")));
    }
    let block = bytes::Bytes::from(vec![7; 100_000]);
    let hash = Hash::of(&block);
    let put = Request::PutBlock { hash, bytes: block.clone(), referenced: false, generation: 0, level: Level::Quorum };
    assert_eq!(nodes[0].call(put.clone()).await.unwrap(), Reply::BlockPut { created: true });
    assert_eq!(nodes[1].call(put).await.unwrap(), Reply::BlockPut { created: false });
    let get = Request::ReadBlock { hash, level: Level::Quorum };
    assert_eq!(nodes[2].call(get).await.unwrap(), Reply::Block(Some(block)));
    for node in nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_finds_its_data_when_all_its_nodes_start_again() {
    let directories = directories(3);
    let nodes = ring(&directories).await;
    let key = Key::new(b"kept").unwrap();
    nodes[0].call(set(&key, "for good", 1)).await.unwrap();
    for node in &nodes {
        node.shutdown().await;
    }
    let addresses: Vec<_> = nodes.iter().map(Node::local_address).collect();
    let mut again = Vec::new();
    for (directory, address) in directories.iter().zip(addresses) {
        let config = NodeConfig { bind: address, ..config(directory.path(), Vec::new()) };
        again.push(Node::start(config).await.unwrap());
    }
    settle(&again[2], 3).await;
    assert_eq!(read(&again[1], &key).await, Some("for good".into()));
}

/// The second of three nodes starts first, on another port, and knows only where the first one will be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_all_moved_find_each_other_through_those_they_are_told_to_join() {
    let directories = directories(3);
    let nodes = ring(&directories).await;
    let key = Key::new(b"kept").unwrap();
    nodes[0].call(set(&key, "for good", 1)).await.unwrap();
    for node in &nodes {
        node.shutdown().await;
    }
    drop(nodes);
    // Bound and released again: nobody answers there until the first node does.
    let meeting_point = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let told = vec![meeting_point.to_string()];
    let second = Node::start(config(directories[1].path(), told.clone())).await.unwrap();
    let third = Node::start(config(directories[2].path(), told)).await.unwrap();
    // They have begun rings of their own.
    second.wait_until_ready().await;
    third.wait_until_ready().await;
    let first = NodeConfig { bind: meeting_point, ..config(directories[0].path(), Vec::new()) };
    let first = Node::start(first).await.unwrap();
    settle(&third, 3).await;
    for node in [&first, &second, &third] {
        assert_eq!(read(node, &key).await, Some("for good".into()));
    }
    for node in [first, second, third] {
        node.shutdown().await;
    }
}
