//! Figures: for how long nothing is acknowledged after a fault, what joins and leaves cost, how long healing takes.

mod gaps;
mod load;
mod membership;
mod moving;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use difuse_tests::Http;

use crate::{
    arguments::OutageOptions,
    gateways::Gateways,
    journal::Journal,
    network::{Network, Place},
    ring::{Ring, RingOptions},
};

const SETTLE_PATIENCE: Duration = Duration::from_secs(120);

/// Measures everything and prints it.
pub async fn run(options: OutageOptions, network: Network, program: PathBuf) -> ExitCode {
    let folder = options.output.clone().unwrap_or_else(|| PathBuf::from("target/faults/outage"));
    match measure(&options, network, program, &folder).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("difuse-faults: {reason}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(options: &OutageOptions, network: Network, program: PathBuf, folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let journal = Arc::new(Journal::new());
    if let Some(shortcoming) = network.shortcoming() {
        journal.say(&format!("NOT MEASURED: nodes that are cut off, and bytes on cables: {shortcoming}"));
    }
    let ring_options = RingOptions {
        suspect_after: Duration::from_secs(1),
        gone_after: options.gone_after,
        slots: options.slots,
        log: "info,libp2p=warn".into(),
    };
    let mut ring = Ring::new(network, program, ring_options, folder, journal.clone(), Arc::new(Gateways::default()))
        .map_err(|error| format!("{}: {error}", folder.display()))?;
    ring.without_clocks();
    for place in 1..=options.nodes {
        ring.start(place);
        ring.ready(place).await?;
    }
    ring.settled(SETTLE_PATIENCE).await?;
    let mut report = Report { journal, lines: Vec::new() };
    report.line(&format!(
        "{} nodes, three replicas, {} slots, --suspect-after 1s, every node a process on this machine",
        options.nodes, options.slots
    ));
    if !options.skips("gaps") {
        gaps::measure(&mut ring, options, &mut report).await?;
    }
    if !options.skips("membership") {
        membership::measure(&mut ring, &mut report).await?;
    }
    if !options.skips("moving") {
        moving::measure(&mut ring, options, &mut report).await?;
    }
    let text = report.lines.join("\n") + "\n";
    println!("{text}");
    std::fs::write(folder.join("figures.txt"), text).map_err(|error| error.to_string())?;
    ring.remove_data();
    Ok(())
}

/// What was measured so far.
struct Report {
    journal: Arc<Journal>,
    lines: Vec<String>,
}

impl Report {
    /// Adds a line, and shows it at once.
    fn line(&mut self, line: &str) {
        self.journal.say(line);
        self.lines.push(line.into());
    }
}

/// The gateways of all nodes but these.
fn all_but(ring: &Ring, left_out: &[Place]) -> Vec<Http> {
    ring.places().into_iter().filter(|place| !left_out.contains(place)).map(|place| ring.http(place)).collect()
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

/// The middle and the greatest of these.
fn middle_and_worst(mut times: Vec<Duration>) -> String {
    times.sort();
    let middle = times.get(times.len() / 2).copied().unwrap_or_default();
    let worst = times.last().copied().unwrap_or_default();
    format!("p50 {}, worst {}", milliseconds(middle), milliseconds(worst))
}
