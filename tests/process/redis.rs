//! Clients of Redis, unmodified, at any node of a ring.

use std::{collections::HashMap, path::Path, process::Command, time::Duration};

use difuse_tests::{Cluster, free_port, until};
use futures::StreamExt;
use redis::{
    AsyncCommands, AsyncConnectionConfig, Client, RedisResult, aio::MultiplexedConnection, cmd, pipe,
    streams::StreamReadReply,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A ring whose nodes serve clients of Redis.
async fn ring(count: usize) -> Cluster {
    let mut cluster = Cluster::start(0).await;
    for _ in 0..count {
        cluster.add_with(|settings| settings.resp = Some(([127, 0, 0, 1], free_port()).into())).await;
    }
    cluster.settled(count).await;
    cluster
}

fn port(cluster: &Cluster, node: usize) -> u16 {
    cluster.node(node).settings.resp.expect("every node has one").port()
}

async fn connect(cluster: &Cluster, node: usize, parameters: &str) -> MultiplexedConnection {
    let client = Client::open(format!("redis://127.0.0.1:{}/0{parameters}", port(cluster, node))).unwrap();
    // The client's own limit is shorter than a node looks for a majority.
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    client.get_multiplexed_async_connection_with_config(&config).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_node_serves_clients_of_redis() {
    let mut cluster = ring(3).await;
    let mut connections = Vec::new();
    for (node, parameters) in ["", "?protocol=resp3", ""].into_iter().enumerate() {
        connections.push(connect(&cluster, node, parameters).await);
    }
    strings_and_structures(&mut connections).await.unwrap();
    pipelines(&mut connections).await.unwrap();
    http_and_redis_see_the_same(&cluster, &mut connections[2]).await;
    steps_are_whole_at_every_node(&mut connections).await.unwrap();
    pops_wait_for_pushes_at_other_nodes(&cluster, &mut connections).await.unwrap();
    streams_are_read_and_shared_at_all_nodes(&cluster, &mut connections).await.unwrap();
    channels_reach_all_nodes(&cluster, &mut connections).await.unwrap();
    the_tools_of_redis_work(&cluster);
    clients_of_other_languages_work(&cluster);
    a_killed_node_is_survived(&mut cluster).await;
}

/// As many connections as a node takes, of which none does anything: each is there when it is needed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_are_held() {
    /// What a node takes by default.
    const MAX: u64 = 10_000;
    /// Files that the two processes have open besides.
    const OTHERS: u64 = 1_200;
    let files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    setrlimit(Resource::Nofile, Rlimit { current: Some(files), maximum: Some(files) }).unwrap();
    let count = MAX.min(files.saturating_sub(OTHERS));
    let cluster = ring(1).await;
    let address = ("127.0.0.1", port(&cluster, 0));
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = TcpStream::connect(address).await.unwrap();
        ping(&mut client).await.unwrap();
        clients.push(client);
    }
    if count == MAX {
        let refused = ping(&mut TcpStream::connect(address).await.unwrap()).await.unwrap_err();
        assert!(refused.contains("max number of clients reached"), "{refused}");
    }
    for client in clients.iter_mut().rev() {
        ping(client).await.unwrap();
    }
    drop(clients);
    until("room for another client", PATIENCE, async || match TcpStream::connect(address).await {
        Ok(mut client) => ping(&mut client).await,
        Err(error) => Err(error.to_string()),
    })
    .await;
}

/// Asks whether a connection is served; else what came instead.
async fn ping(client: &mut TcpStream) -> Result<(), String> {
    let mut answer = [0; 64];
    client.write_all(b"PING\r\n").await.map_err(|error| error.to_string())?;
    let length = client.read(&mut answer).await.map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer[..length]);
    if answer == "+PONG\r\n" { Ok(()) } else { Err(answer.into_owned()) }
}

async fn strings_and_structures(nodes: &mut [MultiplexedConnection]) -> RedisResult<()> {
    for number in 0..12 {
        let (here, there) = (number % 3, (number + 1) % 3);
        let key = format!("key-{number}");
        let _: () = nodes[here].set_ex(&key, number, 1000).await?;
        assert_eq!(nodes[there].incr::<_, _, i64>(&key, 1).await?, number as i64 + 1);
        assert!((900..=1000).contains(&nodes[here].ttl::<_, i64>(&key).await?));
        let hash = format!("hash-{number}");
        let _: () = nodes[here].hset(&hash, "field", number).await?;
        assert_eq!(nodes[there].hset::<_, _, _, i64>(&hash, "field", 7).await?, 0);
        assert_eq!(nodes[here].hgetall::<_, HashMap<String, i64>>(&hash).await?, HashMap::from([("field".into(), 7)]));
        let list = format!("list-{number}");
        assert_eq!(nodes[here].rpush::<_, _, i64>(&list, &["a", "b"]).await?, 2);
        assert_eq!(nodes[there].lpop::<_, String>(&list, None).await?, "a");
        let ranked = format!("ranked-{number}");
        let _: () = nodes[here].zadd_multiple(&ranked, &[(2.5, "b"), (1.0, "a")]).await?;
        let expected = vec![("a".to_string(), 1.0), ("b".into(), 2.5)];
        assert_eq!(nodes[there].zrange_withscores::<_, Vec<(String, f64)>>(&ranked, 0, -1).await?, expected);
    }
    let long: String = ('a'..='z').cycle().take(500_000).collect();
    let _: () = nodes[0].set("long", &long).await?;
    assert_eq!(nodes[1].get::<_, String>("long").await?, long);
    assert_eq!(nodes[2].append::<_, _, usize>("long", "!").await?, long.len() + 1);
    assert_eq!(nodes[0].getrange::<_, String>("long", -2, -1).await?, format!("{}!", &long[long.len() - 1..]));
    Ok(())
}

async fn pipelines(nodes: &mut [MultiplexedConnection]) -> RedisResult<()> {
    let mut asked = pipe();
    for number in 0..100 {
        asked.cmd("SET").arg(format!("p{number}")).arg(number).ignore();
        asked.cmd("INCR").arg(format!("p{number}"));
        asked.cmd("INCR").arg("sum");
    }
    let answers: Vec<i64> = asked.query_async(&mut nodes[0]).await?;
    let expected: Vec<i64> = (1..=100).flat_map(|number| [number, number]).collect();
    assert_eq!(answers, expected);
    let names: Vec<_> = (0..100).map(|number| format!("p{number}")).collect();
    let values: Vec<i64> = nodes[1].mget(&names).await?;
    assert_eq!(values, (1..=100).collect::<Vec<_>>());
    assert_eq!(nodes[2].del::<_, i64>(&names).await?, 100);
    Ok(())
}

async fn http_and_redis_see_the_same(cluster: &Cluster, node: &mut MultiplexedConnection) {
    cluster.http(0).put("/v1/keys/shared", "over HTTP").await.expect(201);
    assert_eq!(node.get::<_, String>("shared").await.unwrap(), "over HTTP");
    let _: () = node.set("shared", "by Redis").await.unwrap();
    assert_eq!(cluster.http(1).get("/v1/keys/shared").await.expect(200).text(), "by Redis");
    let verified: HashMap<String, redis::Value> = cmd("DIFUSE.VERIFY").arg("shared").query_async(node).await.unwrap();
    assert_eq!(verified["height"], redis::Value::Int(2));
}

async fn steps_are_whole_at_every_node(nodes: &mut [MultiplexedConnection]) -> RedisResult<()> {
    let (from, to, journal) = ("{bank}from", "{bank}to", "{bank}journal");
    let _: () = nodes[0].set(from, 100).await?;
    for round in 0..6 {
        let (here, there) = (round % 3, (round + 1) % 3);
        let mut transfer = pipe();
        transfer.atomic().decr(from, 10).incr(to, 10).rpush(journal, round).ignore();
        let answered: (i64, i64) = transfer.query_async(&mut nodes[here]).await?;
        assert_eq!(answered.0 + answered.1, 100);
        let seen: (i64, i64) = pipe().atomic().get(from).get(to).query_async(&mut nodes[there]).await?;
        assert_eq!(seen, answered);
    }
    // What is watched at one node is changed at another.
    for (meanwhile, is_done) in [(false, true), (true, false)] {
        cmd("WATCH").arg(from).query_async::<()>(&mut nodes[0]).await?;
        if meanwhile {
            let _: () = nodes[1].incr(from, 1).await?;
        }
        let answered: Option<(i64,)> = pipe().atomic().incr(from, 1).query_async(&mut nodes[0]).await?;
        assert_eq!(answered.is_some(), is_done);
    }
    assert_eq!(nodes[2].get::<_, i64>(from).await?, 42);
    let moved: String =
        cmd("LMOVE").arg(journal).arg("{bank}done").arg("LEFT").arg("RIGHT").query_async(&mut nodes[1]).await?;
    assert_eq!((moved.as_str(), nodes[2].llen::<_, i64>(journal).await?), ("0", 5));
    let _: () = nodes[0].rename(journal, "{bank}archive").await?;
    assert_eq!(nodes[1].lrange::<_, Vec<i64>>("{bank}archive", 0, -1).await?, [1, 2, 3, 4, 5]);
    for line in ["MULTI", "SET one 1", "SET other 1"] {
        let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<_> = rest.split_whitespace().collect();
        cmd(name).arg(&words).query_async::<()>(&mut nodes[2]).await?;
    }
    let scattered = cmd("EXEC").query_async::<()>(&mut nodes[2]).await.unwrap_err();
    assert_eq!(scattered.code(), Some("CROSSSLOT"), "{scattered}");
    assert!(!nodes[1].exists::<_, bool>(&["one", "other"]).await?, "nothing of it is done");
    Ok(())
}

async fn pops_wait_for_pushes_at_other_nodes(
    cluster: &Cluster,
    nodes: &mut [MultiplexedConnection],
) -> RedisResult<()> {
    for (waiting, pushing) in [(0, 1), (1, 2), (2, 2)] {
        let mut waiter = connect(cluster, waiting, "").await;
        let popped = tokio::spawn(async move {
            let popped: RedisResult<(String, String)> =
                cmd("BLPOP").arg("{jobs}urgent").arg("{jobs}usual").arg(60).query_async(&mut waiter).await;
            popped
        });
        until("a client that waits", PATIENCE, async || {
            let report: RedisResult<String> = cmd("INFO").arg("clients").query_async(&mut nodes[waiting]).await;
            let report = report.map_err(|error| error.to_string())?;
            if report.contains("blocked_clients:1\r\n") { Ok(()) } else { Err(report) }
        })
        .await;
        assert_eq!(nodes[pushing].rpush::<_, _, i64>("{jobs}usual", pushing).await?, 1);
        assert_eq!(popped.await.unwrap()?, ("{jobs}usual".to_string(), pushing.to_string()));
    }
    let nothing: Option<(String, String, f64)> =
        cmd("BZPOPMIN").arg("{jobs}none").arg(0.01).query_async(&mut nodes[0]).await?;
    assert_eq!(nothing, None);
    Ok(())
}

/// Whoever reads at whichever node sees what was added at another one; a group is given each entry once.
async fn streams_are_read_and_shared_at_all_nodes(
    cluster: &Cluster,
    nodes: &mut [MultiplexedConnection],
) -> RedisResult<()> {
    let mut ids: Vec<String> = Vec::new();
    for number in 0..30 {
        ids.push(cmd("XADD").arg("events").arg("*").arg("n").arg(number).query_async(&mut nodes[number % 3]).await?);
    }
    assert!(ids.windows(2).all(|pair| parts_of(&pair[0]) < parts_of(&pair[1])), "{ids:?}");
    let range: Vec<(String, HashMap<String, usize>)> =
        cmd("XRANGE").arg("events").arg("-").arg("+").query_async(&mut nodes[1]).await?;
    let expected = (0..30).map(|number| (ids[number].clone(), HashMap::from([("n".to_string(), number)])));
    assert_eq!(range, expected.collect::<Vec<_>>());

    let _: () = cmd("XGROUP").arg("CREATE").arg("events").arg("workers").arg(0).query_async(&mut nodes[2]).await?;
    let mut given: Vec<String> = Vec::new();
    for number in 0..10 {
        let mut read = cmd("XREADGROUP");
        read.arg("GROUP").arg("workers").arg(number % 3).arg("COUNT").arg(3).arg("STREAMS").arg("events").arg(">");
        let found: StreamReadReply = read.query_async(&mut nodes[number % 3]).await?;
        given.extend(found.keys.into_iter().flat_map(|key| key.ids).map(|entry| entry.id));
    }
    assert_eq!(given, ids, "each of them once, in order");
    let acknowledged: usize = cmd("XACK").arg("events").arg("workers").arg(&ids).query_async(&mut nodes[0]).await?;
    assert_eq!(acknowledged, 30);

    for (waiting, adding) in [(0, 1), (1, 2), (2, 2)] {
        let mut reader = connect(cluster, waiting, "").await;
        let read = tokio::spawn(async move {
            let mut read = cmd("XREAD");
            read.arg("BLOCK").arg(60_000).arg("STREAMS").arg("events").arg("$");
            let found: RedisResult<StreamReadReply> = read.query_async(&mut reader).await;
            found
        });
        until("a client that waits", PATIENCE, async || {
            let report: RedisResult<String> = cmd("INFO").arg("clients").query_async(&mut nodes[waiting]).await;
            let report = report.map_err(|error| error.to_string())?;
            if report.contains("blocked_clients:1\r\n") { Ok(()) } else { Err(report) }
        })
        .await;
        let id: String =
            cmd("XADD").arg("events").arg("*").arg("n").arg(adding).query_async(&mut nodes[adding]).await?;
        let found = read.await.unwrap()?;
        let found: Vec<_> = found.keys.iter().flat_map(|key| &key.ids).map(|entry| entry.id.clone()).collect();
        assert_eq!(found, [id]);
    }
    Ok(())
}

/// The two numbers of an entry's id.
fn parts_of(id: &str) -> (u64, u64) {
    let (milliseconds, sequence) = id.split_once('-').expect("two parts");
    (milliseconds.parse().expect("a number"), sequence.parse().expect("a number"))
}

/// A message may be lost, never by a ring at rest: it is published again until somebody hears it all the same.
async fn channels_reach_all_nodes(cluster: &Cluster, nodes: &mut [MultiplexedConnection]) -> RedisResult<()> {
    for here in 0..3 {
        let client = Client::open(format!("redis://127.0.0.1:{}", port(cluster, here)))?;
        let mut listener = client.get_async_pubsub().await?;
        listener.subscribe("news").await?;
        listener.psubscribe("n?ws").await?;
        let mut messages = listener.into_on_message();
        for there in (0..3).filter(|there| *there != here) {
            let heard = until("a message of another node", PATIENCE, async || {
                let counted: RedisResult<i64> = nodes[there].publish("news", format!("of node {there}")).await;
                assert_eq!(counted.unwrap(), 0, "subscribers of the other node are not counted");
                let heard = tokio::time::timeout(Duration::from_secs(5), messages.next()).await;
                heard.ok().flatten().ok_or_else(|| format!("node {here} heard nothing of node {there}"))
            })
            .await;
            assert_eq!(heard.get_payload::<String>()?, format!("of node {there}"));
            let by_pattern = messages.next().await.expect("it is also heard by the pattern");
            assert_eq!(by_pattern.get_pattern::<String>()?, "n?ws");
        }
    }
    Ok(())
}

/// Debian's redis-tools, where they are installed.
fn the_tools_of_redis_work(cluster: &Cluster) {
    for node in 0..3 {
        let port = port(cluster, node).to_string();
        let asked = [vec!["SET", "cli", "from the shell"], vec!["GET", "cli"], vec!["COMMAND", "DOCS", "get"]];
        for (words, expected) in asked.into_iter().zip(["OK", "from the shell", "summary"]) {
            let Some(output) = run("redis-cli", &[&["-p", &port], &words[..]].concat()) else { return };
            assert!(output.contains(expected), "{words:?}: {output}");
        }
        let few =
            ["-p", &port, "-n", "50", "-c", "4", "-P", "4", "-r", "20", "-q", "-t", "set,get,incr,lpush,hset,zadd"];
        let Some(output) = run("redis-benchmark", &few) else { return };
        let figures = output.matches("requests per second").count();
        assert!(figures == 6 && !output.contains("rror"), "{output}");
    }
}

/// redis-py and ioredis, where `.ci/clients` has installed them.
fn clients_of_other_languages_work(cluster: &Cluster) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (scripts, clients) = (tests.join("process/clients"), tests.join("../target/clients"));
    let ports = [0, 1, 2].map(|node| port(cluster, node).to_string());
    let mut python = Command::new(clients.join("python/bin/python"));
    if let Some(output) = said(python.arg(scripts.join("redis_py.py")).args(&ports)) {
        assert!(output.contains("is content"), "{output}");
    }
    let modules = clients.join("node/node_modules");
    if modules.join("ioredis").exists()
        && let Some(output) =
            said(Command::new("node").env("NODE_PATH", modules).arg(scripts.join("ioredis.cjs")).args(&ports))
    {
        assert!(output.contains("is content"), "{output}");
    }
}

/// What a program says if there is such a program.
fn run(program: &str, arguments: &[&str]) -> Option<String> {
    said(Command::new(program).args(arguments))
}

fn said(command: &mut Command) -> Option<String> {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{command:?}: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    Some(said)
}

/// Of three nodes one may go; without a majority the answer is `CLUSTERDOWN`, and nothing is changed.
async fn a_killed_node_is_survived(cluster: &mut Cluster) {
    let mut last = connect(cluster, 2, "").await;
    cluster.kill9(0);
    until("a ring of two that takes writes", PATIENCE, async || {
        let written: RedisResult<()> = last.set("survives", "yes").await;
        written.map_err(|error| error.to_string())
    })
    .await;
    cluster.kill9(1);
    let code = until("a node that sees that it is alone", PATIENCE, async || {
        match last.set::<_, _, ()>("survives", "no").await {
            Err(error) => error.code().map(str::to_string).ok_or_else(|| error.to_string()),
            Ok(()) => Err("a write without a majority".into()),
        }
    })
    .await;
    assert!(code == "CLUSTERDOWN" || code == "UNKNOWN", "{code}");
    let mut alone = connect(cluster, 2, "").await;
    let refused: RedisResult<()> = alone.set("survives", "never").await;
    assert_eq!(refused.unwrap_err().code(), Some("CLUSTERDOWN"));
    cluster.restart(&[0, 1]).await;
    let mut first = connect(cluster, 0, "").await;
    let found: String = until("the ring's answer", PATIENCE, async || {
        first.get("survives").await.map_err(|error: redis::RedisError| error.to_string())
    })
    .await;
    assert!(found == "yes" || (code == "UNKNOWN" && found == "no"), "{found}");
}
