//! What a join and a planned leave cost the clients that work meanwhile.

use std::time::Duration;

use difuse_tests::Http;
use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::{
    Report, SETTLE_PATIENCE, all_but,
    load::{Load, Sample, gap, p99, slowest},
    milliseconds,
};
use crate::{
    network::{PLACES, Place},
    ring::Ring,
};

const CLIENTS: usize = 64;
/// For how long clients work before the change.
const BEFORE: Duration = Duration::from_secs(4);
const LEAVE_PATIENCE: Duration = Duration::from_secs(120);

/// A join and a leave, each under load.
pub async fn measure(ring: &mut Ring, report: &mut Report) -> Result<(), String> {
    let newcomer = free_place(ring)?;
    let (began, load) = begin(all_but(ring, &[])).await?;
    let start = Instant::now();
    ring.start(newcomer);
    ring.ready(newcomer).await?;
    ring.settled(SETTLE_PATIENCE).await?;
    tell(report, &format!("a join under {CLIENTS} clients"), &load.stop().await, began, start);

    // Clients stay with the node that leaves: it serves until it is stopped.
    let leaver = ring.places()[0];
    let (began, load) = begin(all_but(ring, &[])).await?;
    let start = Instant::now();
    let answer = ring.http(leaver).with_timeout(LEAVE_PATIENCE).send(Method::POST, "/v1/leave", &[], "").await;
    let answer = answer.map_err(|error| format!("leave: {error:?}"))?;
    if answer.status != 204 {
        return Err(format!("leave: {} {}", answer.status, answer.text()));
    }
    sleep(Duration::from_millis(500)).await;
    tell(report, &format!("a planned leave under {CLIENTS} clients"), &load.stop().await, began, start);
    ring.stop_for_good(leaver).await;
    ring.settled(SETTLE_PATIENCE).await
}

/// A place where no node is.
pub fn free_place(ring: &Ring) -> Result<Place, String> {
    (1..=PLACES).find(|place| !ring.places().contains(place)).ok_or_else(|| "no place is free".into())
}

async fn begin(gateways: Vec<Http>) -> Result<(Instant, Load), String> {
    let load = Load::start(CLIENTS, &gateways);
    load.recovered(Instant::now()).await?;
    let began = Instant::now();
    sleep(BEFORE).await;
    Ok((began, load))
}

fn tell(report: &mut Report, what: &str, samples: &[Sample], began: Instant, start: Instant) {
    let failed = samples.iter().filter(|sample| !sample.is_done).count();
    let lasted = samples.last().map_or(Duration::ZERO, |last| last.end.saturating_duration_since(start));
    report.line(&format!("{what}: {:.1} s, {} requests, {failed} failed", lasted.as_secs_f64(), samples.len()));
    for (is_write, name) in [(true, "writes"), (false, "reads")] {
        let of_kind = |sample: &&Sample| sample.is_write == is_write;
        let before = p99(samples.iter().filter(of_kind).filter(|sample| sample.start >= began && sample.end < start));
        let during = p99(samples.iter().filter(of_kind).filter(|sample| sample.end >= start));
        report.line(&format!(
            "  {name}: p99 {} before, {} during ({:.1} times), longest gap {}",
            milliseconds(before),
            milliseconds(during),
            during.as_secs_f64() / before.as_secs_f64().max(1e-6),
            milliseconds(gap(samples, is_write, start))
        ));
    }
    report.line(&format!("  slowest request {}", milliseconds(slowest(samples, start))));
}
