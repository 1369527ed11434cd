//! How many bytes a join moves, and how long healing takes, each beside the least possible.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use difuse_tests::{Dump, Http, POLL};
use futures::{StreamExt, stream};
use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::{Report, SETTLE_PATIENCE, membership::free_place};
use crate::{
    arguments::OutageOptions,
    network::Place,
    ring::{Ring, view},
};

const MIB: u64 = 1024 * 1024;
/// How much one file has.
const FILE_MIB: u64 = 4;
const PUTS_AT_ONCE: usize = 4;
/// How long a transfer may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Fills the ring; a node joins; a host is replaced.
pub async fn measure(ring: &mut Ring, options: &OutageOptions, report: &mut Report) -> Result<(), String> {
    fill(ring, options.mib).await?;
    ring.settled(SETTLE_PATIENCE).await?;
    report.line(&format!("{} MiB in files, so {} MiB on all nodes", options.mib, options.mib * 3));
    join(ring, report).await?;
    replace(ring, report).await
}

async fn fill(ring: &Ring, mib: u64) -> Result<(), String> {
    let nodes: Vec<_> = ring.places().into_iter().map(|place| ring.http(place)).collect();
    let puts = (0..mib.div_ceil(FILE_MIB)).map(|number| {
        let http = nodes[number as usize % nodes.len()].clone().with_timeout(PATIENCE);
        async move {
            let mut content = vec![0; (FILE_MIB * MIB) as usize];
            fastrand::Rng::with_seed(number).fill(&mut content);
            put(&http, &format!("/v1/files/moving/{number}"), content.into()).await
        }
    });
    let mut puts = stream::iter(puts.collect::<Vec<_>>()).buffer_unordered(PUTS_AT_ONCE);
    while let Some(put) = puts.next().await {
        put?;
    }
    Ok(())
}

/// Puts a file. A connection that was idle for too long may be closed just when it is used again.
async fn put(http: &Http, path: &str, content: Bytes) -> Result<(), String> {
    const ATTEMPTS: usize = 5;
    let mut reason = String::new();
    for _ in 0..ATTEMPTS {
        match http.send(Method::PUT, path, &[], content.clone()).await {
            Ok(answer) if answer.status < 300 => return Ok(()),
            Ok(answer) => reason = answer.text(),
            Err(error) => reason = format!("{error:?}"),
        }
        sleep(POLL * 10).await;
    }
    Err(format!("PUT {path}: {reason}"))
}

async fn join(ring: &mut Ring, report: &mut Report) -> Result<(), String> {
    let newcomer = free_place(ring)?;
    let before = traffic(ring, newcomer);
    let start = Instant::now();
    ring.start(newcomer);
    ring.ready(newcomer).await?;
    ring.settled(PATIENCE).await?;
    let took = start.elapsed();
    let after = traffic(ring, newcomer);
    let held = held(ring, newcomer).await;
    report.line(&format!("a join: {:.1} s, the newcomer holds {:.1} MB", took.as_secs_f64(), held as f64 / 1e6));
    let received = |place: &Place| Some(after.get(place)?.saturating_sub(*before.get(place)?));
    match received(&newcomer) {
        None => report.line("  bytes moved: not measured without namespaces"),
        Some(bytes) => {
            let all: u64 = after.keys().filter_map(received).sum();
            report.line(&format!(
                "  received over the cable, headers and questions included: by the newcomer {:.3} times as much, by all \
                 nodes together {:.3} times",
                bytes as f64 / held as f64,
                all as f64 / held as f64
            ));
        }
    }
    Ok(())
}

/// What each node has received so far.
fn traffic(ring: &Ring, newcomer: Place) -> BTreeMap<Place, u64> {
    let places = ring.places().into_iter().chain([newcomer]);
    places.filter_map(|place| Some((place, ring.network().traffic(place)?.0))).collect()
}

/// How many bytes of blocks a node holds.
async fn held(ring: &Ring, place: Place) -> u64 {
    let dump = Dump::of(&ring.http(place)).await;
    dump.blocks.values().map(|size| u64::from(*size)).sum()
}

/// A host loses its data, and another one takes its place: until everything is on three hosts again.
async fn replace(ring: &mut Ring, report: &mut Report) -> Result<(), String> {
    let lost = ring.places()[1];
    let bytes = held(ring, lost).await;
    let start = Instant::now();
    ring.wipe(lost);
    ring.start(lost);
    let served = progress(ring, lost).await?;
    let took = start.elapsed();
    let folder = ring.folder().join("copy");
    let copied = tokio::task::spawn_blocking(move || copy_plainly(bytes, folder)).await;
    let copied = copied.map_err(|error| error.to_string())?.map_err(|error| format!("copying plainly: {error}"))?;
    report.line(&format!(
        "a replaced host, {:.0} MB lost: everything is on three hosts again after {:.1} s, of which {:.1} s until the old \
         host counts as gone; copying as much over one TCP connection to a flushed file takes {:.1} s",
        bytes as f64 / 1e6,
        took.as_secs_f64(),
        ring.gone_after().as_secs_f64(),
        copied.as_secs_f64()
    ));
    report.line(&format!("  /v1/ring showed slots on the move in {served} answers meanwhile"));
    Ok(())
}

/// Waits until the ring is settled; how many times it told of slots that move.
async fn progress(ring: &mut Ring, place: Place) -> Result<usize, String> {
    ring.ready(place).await?;
    let (http, start, mut moving) = (ring.http(place), Instant::now(), 0);
    loop {
        let told = view(&http).await?;
        moving += usize::from(told["moving"]["slots"].as_u64().is_some_and(|slots| slots > 0));
        let hosts = told["hosts"].as_array().map(Vec::as_slice).unwrap_or_default();
        let has_given_up = hosts.iter().any(|host| host["state"] == "gone");
        if has_given_up && told["settled"] == true {
            ring.settled(PATIENCE).await?;
            return Ok(moving);
        }
        if start.elapsed() > PATIENCE {
            return Err(format!("not healed within {PATIENCE:?}: {told}"));
        }
        sleep(POLL * 5).await;
    }
}

/// Sends so many bytes over TCP on this machine to a file, and flushes it.
fn copy_plainly(bytes: u64, to: PathBuf) -> std::io::Result<Duration> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let mut part = vec![0; MIB as usize];
    fastrand::Rng::with_seed(1).fill(&mut part);
    let start = std::time::Instant::now();
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        let mut left = bytes;
        while left > 0 {
            let now = left.min(part.len() as u64);
            stream.write_all(&part[..now as usize])?;
            left -= now;
        }
        Ok(())
    });
    let (mut stream, _) = listener.accept()?;
    let mut file = std::fs::File::create(&to)?;
    let mut buffer = vec![0; MIB as usize];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        file.write_all(&buffer[..read])?;
    }
    file.sync_all()?;
    let took = start.elapsed();
    std::fs::remove_file(to)?;
    sender.join().map_err(|_| std::io::Error::other("the sender broke"))??;
    Ok(took)
}
