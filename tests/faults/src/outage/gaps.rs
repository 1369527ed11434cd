//! For how long no client of the survivors is answered after a node was killed, hangs, or is cut off.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Report, SETTLE_PATIENCE, all_but,
    load::{Load, gap, slowest},
    middle_and_worst,
};
use crate::{arguments::OutageOptions, fault::between, network::Place, ring::Ring};

const CLIENTS: usize = 32;
/// For how long clients work before the fault.
const BEFORE: Duration = Duration::from_millis(500);
/// How many times as seldom as kills the slower faults are repeated.
const SLOWER: u32 = 5;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Freeze,
    CutOff,
}

/// Measures each fault several times, at one node after the other.
pub async fn measure(ring: &mut Ring, options: &OutageOptions, report: &mut Report) -> Result<(), String> {
    report.line(&format!(
        "longest time without any acknowledged write | read of {CLIENTS} clients at the survivors | slowest request"
    ));
    let slower = (options.times / SLOWER).max(1);
    for (fault, name, times) in [
        (Fault::Kill, "kill -9 of a node", options.times),
        (Fault::Freeze, "a node freezes (SIGSTOP)", slower),
        (Fault::CutOff, "a node is cut off", slower),
    ] {
        if fault == Fault::CutOff && !ring.network().has_cables() {
            continue;
        }
        let (mut writes, mut reads, mut slow) = (Vec::new(), Vec::new(), Vec::new());
        let places = ring.places();
        for time in 0..times as usize {
            let (write, read, slowest) = once(ring, fault, places[time % places.len()]).await?;
            writes.push(write);
            reads.push(read);
            slow.push(slowest);
        }
        let [writes, reads, slow] = [writes, reads, slow].map(middle_and_worst);
        report.line(&format!("  {name}, {times} times: writes {writes} | reads {reads} | slowest {slow}"));
    }
    Ok(())
}

/// One fault: the longest time without a write, that without a read, and the slowest request.
async fn once(ring: &mut Ring, fault: Fault, victim: Place) -> Result<(Duration, Duration, Duration), String> {
    let others: Vec<_> = ring.places().into_iter().filter(|place| *place != victim).collect();
    let cuts = between(&[victim], &others);
    let load = Load::start(CLIENTS, &all_but(ring, &[victim]));
    load.recovered(Instant::now()).await?;
    sleep(BEFORE).await;
    let since = Instant::now();
    match fault {
        Fault::Kill => ring.kill(victim),
        Fault::Freeze => ring.pause(victim),
        Fault::CutOff => ring.cut(&cuts),
    }
    // Until everybody was answered who asked when all had noticed.
    load.recovered(since).await?;
    sleep(BEFORE).await;
    load.recovered(Instant::now()).await?;
    let samples = load.stop().await;
    ring.heal();
    ring.ready(victim).await?;
    ring.settled(SETTLE_PATIENCE).await?;
    Ok((gap(&samples, true, since), gap(&samples, false, since), slowest(&samples, since)))
}
