//! Measures the transport on loopback: small round trips, bulk throughput, and small round trips while bulk runs.
//! Takes about eight seconds: `cargo run --release -p difuse-net --example net_throughput`.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use difuse_net::{Class, Config, Event, Identity, Net, NetError, SendError};
use difuse_types::NodeId;
use tokio::sync::mpsc::Receiver;

const MEASURED: Duration = Duration::from_secs(2);
const OUTSTANDING: usize = 64;
const SMALL_BYTES: usize = 100;
const BULK_BYTES: usize = 256 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (server, control, bulk) = start().await?;
    let (client, mut answers, _bulk) = start().await?;
    let address = server.local_address().ok_or("the server listens")?.to_string();
    let node = client.connect(&address).await?;
    answers.recv().await;
    tokio::spawn(echo(server, control));
    let received = Arc::new(AtomicUsize::new(0));
    tokio::spawn(count(bulk, received.clone()));

    let times = round_trips(&client, node, &mut answers, OUTSTANDING).await?;
    report("small, 64 outstanding", &times);
    let times = round_trips(&client, node, &mut answers, 1).await?;
    report("small, 1 outstanding", &times);
    let started = Instant::now();
    let before = received.load(Ordering::Relaxed);
    send_bulk(client.clone(), node).await;
    let megabytes = (received.load(Ordering::Relaxed) - before) as f64 / 1e6;
    println!("bulk: {:.0} MB/s", megabytes / started.elapsed().as_secs_f64());
    let background = tokio::spawn(send_bulk(client.clone(), node));
    let times = round_trips(&client, node, &mut answers, 1).await?;
    report("small, 1 outstanding, with bulk", &times);
    background.await?;
    client.shutdown().await;
    Ok(())
}

async fn start() -> Result<(Net, Receiver<Event>, Receiver<Event>), NetError> {
    let identity = Identity::generate().map_err(|error| NetError::Setup(error.to_string()))?;
    let mut config = Config::new(identity);
    config.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Net::start(config).await
}

/// Answers every frame with itself, until the other side is gone.
async fn echo(net: Net, mut control: Receiver<Event>) {
    while let Some(event) = control.recv().await {
        match event {
            Event::Frame { from, frame, .. } => {
                if net.send(from, Class::Control, frame).is_err() {
                    return;
                }
            }
            Event::Disconnected { .. } => return,
            Event::Connected { .. } => {}
        }
    }
}

async fn count(mut bulk: Receiver<Event>, received: Arc<AtomicUsize>) {
    while let Some(event) = bulk.recv().await {
        if let Event::Frame { frame, .. } = event {
            received.fetch_add(frame.len(), Ordering::Relaxed);
        }
    }
}

/// Keeps the bulk queue full for the time measured.
async fn send_bulk(net: Net, node: NodeId) {
    let frame = Bytes::from(vec![0x5a; BULK_BYTES]);
    let started = Instant::now();
    while started.elapsed() < MEASURED {
        match net.send(node, Class::Bulk, frame.clone()) {
            Ok(()) => {}
            Err(SendError::Full) => tokio::time::sleep(Duration::from_millis(2)).await,
            Err(_) => return,
        }
    }
}

/// How long each small round trip took, in order of length.
async fn round_trips(
    net: &Net,
    node: NodeId,
    answers: &mut Receiver<Event>,
    outstanding: usize,
) -> Result<Vec<Duration>, SendError> {
    let frame = Bytes::from(vec![1; SMALL_BYTES]);
    let started = Instant::now();
    let (mut sent, mut times) = (VecDeque::new(), Vec::new());
    for _ in 0..outstanding {
        sent.push_back(Instant::now());
        net.send(node, Class::Control, frame.clone())?;
    }
    while let Some(asked) = sent.pop_front() {
        answers.recv().await;
        times.push(asked.elapsed());
        if started.elapsed() < MEASURED {
            sent.push_back(Instant::now());
            net.send(node, Class::Control, frame.clone())?;
        }
    }
    times.sort_unstable();
    Ok(times)
}

fn report(what: &str, times: &[Duration]) {
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let per_second = times.len() as f64 / MEASURED.as_secs_f64();
    println!("{what}: {per_second:.0}/s, p50 {:?}, p99 {:?}", at(0.5), at(0.99));
}
