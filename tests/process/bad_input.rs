//! Bad input of every kind, to a ring that holds something: clear errors, nothing lost, no crash.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use difuse_tests::{Answer, Cluster, NodeProcess, NodeSettings, free_port, until};
use reqwest::Method;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const PATIENCE: Duration = Duration::from_secs(30);
/// Exit codes, as `difused --help` documents them.
const PORT_TAKEN: i32 = 3;
const DIRECTORY_UNUSABLE: i32 = 4;
const REFUSED: i32 = 6;

/// A ring that holds a key, a file and a block, which must survive what is done to it.
struct Ring {
    cluster: Cluster,
    file: Vec<u8>,
    block_path: String,
}

impl Ring {
    async fn start(count: usize) -> Self {
        let cluster = Cluster::start(count).await;
        let file: Vec<u8> = (0..400_000_u32).map(|index| (index / 7) as u8).collect();
        cluster.http(0).put("/v1/keys/kept", "for good").await.expect(201);
        cluster.http(0).put("/v1/files/kept/file", file.clone()).await.expect(201);
        let hash = cluster.http(0).post("/v1/blocks", "a block").await.expect(201).json()["hash"].clone();
        Self { cluster, file, block_path: format!("/v1/blocks/{}", hash.as_str().expect("a hash")) }
    }

    async fn assert_unharmed(&mut self) {
        let nodes: Vec<_> = (0..self.cluster.all_http().len()).collect();
        self.cluster.assert_running(&nodes);
        for node in self.cluster.all_http() {
            let key = node.get("/v1/keys/kept").await.expect(200);
            assert_eq!((key.text().as_str(), key.header("difuse-height")), ("for good", "1"));
            assert!(node.get("/v1/files/kept/file").await.expect(200).body == self.file);
            assert_eq!(node.get(&self.block_path).await.expect(200).body, "a block");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_make_no_sense_are_refused_clearly() {
    let mut ring = Ring::start(3).await;
    for node in ring.cluster.all_http() {
        let long = "k".repeat(1025);
        for (method, path, status, code, detail) in [
            (Method::PUT, "/v1/keys/kept?consistency=most", 400, "bad_parameter", "use lazy, leader, quorum or all"),
            (Method::GET, "/v1/keys/kept?consistency=most", 400, "bad_parameter", "\"most\""),
            (Method::PUT, "/v1/files/kept/file?consistency=", 400, "bad_parameter", "use lazy, leader, quorum or all"),
            (Method::PUT, "/v1/keys/", 400, "empty_key", "the key is empty"),
            (Method::PUT, &format!("/v1/keys/{long}"), 400, "key_too_long", "1025 bytes long, at most 1024"),
            (Method::PUT, "/v1/files/a//b", 400, "bad_path", "an empty part"),
            (Method::GET, "/v1/keys?limit=0", 400, "bad_parameter", "limit"),
            (Method::GET, "/v1/blocks/12", 400, "bad_hash", "64 hex digits"),
            (Method::GET, &format!("/v1/blocks/{}", "0".repeat(64)), 404, "no_such_block", "no such block"),
            (Method::PUT, &format!("/v1/blocks/{}", "0".repeat(64)), 422, "wrong_hash", &"0".repeat(64)),
            (Method::PUT, &ring.block_path, 422, "wrong_hash", &ring.block_path[11..]),
            (Method::DELETE, "/v1/files/kept", 409, "directory_not_empty", "recursive"),
            (Method::GET, "/v1/nothing", 404, "no_such_route", "/v1/"),
            (Method::POST, "/v1/keys/kept", 405, "method_not_allowed", "Allow"),
        ] {
            node.call(method, path, &[], "rubbish").await.expect_problem(status, code, detail);
        }
        headers_that_make_no_sense(&node).await;
    }
    ring.assert_unharmed().await;
}

async fn headers_that_make_no_sense(node: &difuse_tests::Http) {
    let longest_key = format!("/v1/keys/{}", "k".repeat(1024));
    node.put(&longest_key, "x").await;
    node.get(&longest_key).await.expect(200);
    for (name, value, status, code, detail) in [
        ("range", "bytes=a-b", 400, "bad_header", "range"),
        ("range", "bytes=9-1", 400, "bad_header", "bytes=<first>-<last>"),
        ("range", "400000-", 400, "bad_header", "range"),
        ("range", "bytes=0-1,5-6", 400, "bad_header", "one range"),
        ("range", "bytes=400000-", 416, "range_not_satisfiable", "400000 bytes"),
    ] {
        let answer = node.call(Method::GET, "/v1/files/kept/file", &[(name, value)], "").await;
        answer.expect_problem(status, code, detail);
    }
    for (name, value, status, code, detail) in [
        ("if-match", "nonsense", 400, "bad_header", "ETag"),
        ("if-none-match", "*", 412, "condition_failed", ""),
        ("if-match", &format!("\"{}\"", "0".repeat(64)), 412, "condition_failed", ""),
        ("difuse-operation-id", "7", 400, "bad_header", "32 hex digits"),
    ] {
        let answer = node.call(Method::PUT, "/v1/keys/kept", &[(name, value)], "changed").await;
        answer.expect_problem(status, code, detail);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_cut_off_and_rubbish_on_both_ports_harm_nothing() {
    let mut ring = Ring::start(3).await;
    let mut noise = vec![0; 200_000];
    fastrand::Rng::with_seed(6).fill(&mut noise);
    for node in 0..3 {
        let settings = ring.cluster.node(node).settings.clone();
        for path in ["/v1/keys/kept", "/v1/files/kept/file", "/v1/files/new", &ring.block_path] {
            let cut_off =
                format!("PUT {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n{}", "x".repeat(90_000));
            let answer = exchange(settings.http, cut_off.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("body_cut_off"), "{path}: {answer}");
            assert!(answer.contains("nothing was changed"), "{answer}");
        }
        noise[0] = 0xff;
        for rubbish in [&noise[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"hello\r\n\r\n", b"\0"] {
            let answer = exchange(settings.http, rubbish).await;
            assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("this port speaks HTTP/1.1"), "{answer}");
            exchange(settings.bind, rubbish).await;
        }
        rubbish_after_a_good_beginning(settings.bind, &noise).await;
        ring.cluster.http(node).get("/v1/files/new").await.expect(404);
    }
    ring.assert_unharmed().await;
}

/// What libp2p says first, then noise.
async fn rubbish_after_a_good_beginning(address: SocketAddr, noise: &[u8]) {
    let mut bytes = b"\x13/multistream/1.0.0\n\x07/noise\n".to_vec();
    bytes.extend_from_slice(noise);
    exchange(address, &bytes).await;
}

/// Sends bytes, ends, and returns all that comes back; whoever is sent rubbish may close early.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.expect("somebody listens");
    let (mut answer, mut sent) = (Vec::new(), false);
    let talk = async {
        let (mut reader, mut writer) = stream.split();
        let write = async {
            sent = writer.write_all(bytes).await.is_ok() && writer.shutdown().await.is_ok();
        };
        let read = async { drop(reader.read_to_end(&mut answer).await) };
        tokio::join!(write, read);
    };
    timeout(PATIENCE, talk).await.expect("the node must answer or close");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_cannot_run_say_why_and_harm_nobody() {
    let mut ring = Ring::start(3).await;
    let taken = ring.cluster.node(0).settings.clone();
    let fresh = ring.cluster.new_settings();

    // A second node on one directory.
    let second = NodeSettings { data_dir: taken.data_dir.clone(), ..fresh.clone() };
    assert_ends(ring.cluster.folder(), second, DIRECTORY_UNUSABLE, &["another difused is using", "--data-dir"]).await;
    // Ports in use.
    let http_taken = NodeSettings { http: taken.http, ..fresh.clone() };
    let expected = ["the HTTP gateway cannot listen", &taken.http.to_string(), "--http"];
    assert_ends(ring.cluster.folder(), http_taken, PORT_TAKEN, &expected).await;
    let bind_taken = NodeSettings { bind: taken.bind, ..fresh.clone() };
    let expected = ["the node cannot listen", &taken.bind.to_string(), "--bind"];
    assert_ends(ring.cluster.folder(), bind_taken, PORT_TAKEN, &expected).await;
    // A directory of something else.
    let foreign = ring.cluster.folder().join("foreign");
    std::fs::create_dir(&foreign).and_then(|()| std::fs::write(foreign.join("diary"), "dear diary")).expect("a folder");
    let foreign = NodeSettings { data_dir: foreign, ..fresh.clone() };
    assert_ends(ring.cluster.folder(), foreign, DIRECTORY_UNUSABLE, &["is no data directory of difuse"]).await;
    ring.assert_unharmed().await;

    another_rings_node(&mut ring, &fresh).await;
    ring.assert_unharmed().await;
}

/// A node that belongs to a ring already is sent to another one, and goes home again.
async fn another_rings_node(ring: &mut Ring, fresh: &NodeSettings) {
    let folder = ring.cluster.folder().join("other-ring");
    std::fs::create_dir(&folder).expect("a folder");
    let alone = NodeSettings { join: None, ..NodeSettings::new(&folder, "node", None) };
    let mut other = NodeProcess::start(alone.clone());
    serves(&mut other).await;
    other.http().put("/v1/keys/of-the-other", "ring").await.expect(201);
    let id = other.http().get("/v1/ring").await.expect(200).json()["id"].clone();
    assert_ne!(id, ring.cluster.http(0).get("/v1/ring").await.expect(200).json()["id"]);
    assert!(other.stop().await.success());
    drop(other);

    let astray = NodeSettings { join: fresh.join.clone(), ..alone.clone() };
    let mut astray = NodeProcess::start(astray);
    assert_eq!(astray.ended("refused", PATIENCE).await.code(), Some(REFUSED));
    let said = astray.stderr();
    assert!(said.contains("belongs to another ring than") && said.contains("--data-dir"), "{said}");
    drop(astray);
    let hosts = ring.cluster.http(0).get("/v1/ring").await.expect(200).json()["hosts"].clone();
    assert_eq!(hosts.as_array().map(Vec::len), Some(3), "{hosts}");

    let mut home = NodeProcess::start(alone);
    serves(&mut home).await;
    assert_eq!(home.http().get("/v1/keys/of-the-other").await.expect(200).text(), "ring");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_finds_nobody_to_join_goes_on_trying() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ring = Ring::start(1).await;
    let (member, empty) = (ring.cluster.node(0).settings.bind, free_port());
    let nobody = format!("127.0.0.1:{empty}");
    let mut node = NodeProcess::start(NodeSettings::new(folder.path(), "lonely", Some(nobody.clone())));
    until("two attempts to join", PATIENCE, async || {
        let said = node.stderr();
        (said.matches("cannot join yet; trying again").count() >= 2 && said.contains(&nobody)).then_some(()).ok_or(said)
    })
    .await;
    assert!(node.is_running(), "it must go on trying");

    // Whoever watches it learns what it waits for, and clients are told to come back.
    assert_eq!(node.http().get("/livez").await.expect(200).text(), "ok\n");
    let waits_for = format!("joining through {nobody}: ");
    let answer = node.http().get("/readyz?verbose").await;
    assert_eq!(answer.header("retry-after"), "1");
    answer.expect_problem(503, "not_ready", &waits_for);
    for path in ["/v1/keys/kept", "/v1/files/kept", "/v1/ring"] {
        let answer = node.http().get(path).await;
        assert_eq!(answer.header("retry-after"), "1", "{path}");
        answer.expect_problem(503, "not_serving", &waits_for);
    }

    // Something that is no node answers, then a member does: the node takes its place.
    let stranger = TcpListener::bind(("127.0.0.1", empty)).expect("the port was free");
    drop(stranger.accept().expect("an attempt"));
    drop(stranger);
    let forward = tokio::net::TcpListener::bind(("127.0.0.1", empty)).await.expect("the port was free");
    let forwarding = tokio::spawn(async move {
        while let Ok((mut from, _)) = forward.accept().await {
            tokio::spawn(async move {
                let mut to = TcpStream::connect(member).await.expect("the member listens");
                // Either side may close.
                let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            });
        }
    });
    serves(&mut node).await;
    assert_eq!(node.http().get("/v1/keys/kept").await.expect(200).text(), "for good");
    forwarding.abort();
    ring.assert_unharmed().await;

    // With a limit it gives up.
    let mut settings = NodeSettings::new(folder.path(), "impatient", Some(format!("127.0.0.1:{}", free_port())));
    settings.more.push("--join-timeout=300ms".into());
    assert_ends(folder.path(), settings, REFUSED, &["gave up joining", "no member answered at 127.0.0.1:"]).await;
}

async fn assert_ends(folder: &std::path::Path, settings: NodeSettings, code: i32, expected: &[&str]) {
    // The log must not be another node's.
    let log = folder.join(format!("refused-{}.log", settings.bind.port()));
    let mut node = NodeProcess::start_with_log(settings, log);
    let status = node.ended("which it must", PATIENCE).await;
    let said = node.stderr();
    assert_eq!(status.code(), Some(code), "{said}");
    for part in expected {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

async fn serves(node: &mut NodeProcess) {
    until("a node that serves", PATIENCE, async || {
        assert!(node.is_running(), "{}", node.stderr());
        let answer: Result<Answer, _> = node.http().send(Method::GET, "/readyz", &[], "").await;
        match answer {
            Ok(answer) if answer.status == 200 => Ok(()),
            _ => Err(node.tail()),
        }
    })
    .await;
}
