//! One run: clients and faults, healing, checks, the report.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    arguments::RunOptions,
    checks::{self, Checked},
    clients::Clients,
    gateways::Gateways,
    journal::{Journal, Records},
    nemesis::Nemesis,
    network::{Network, PLACES, Place},
    picture, report,
    ring::{Ring, RingOptions},
};

const RING: RingOptions = RingOptions {
    suspect_after: Duration::from_secs(1),
    // Shorter than some faults last, so that hosts are replaced and come back.
    gone_after: Duration::from_secs(5),
    slots: 32,
    log: String::new(),
};

/// How long a ring may take to be settled when it has just begun.
const START_PATIENCE: Duration = Duration::from_secs(180);

/// How long one answer to a check may take.
const READ_PATIENCE: Duration = Duration::from_secs(120);

/// Everything that a report tells of.
pub struct Finished {
    /// What decided it.
    pub seed: u64,
    /// What was asked for.
    pub command: String,
    /// Why there were no cut cables, if there were none.
    pub shortcoming: Option<String>,
    /// Whether clocks were set.
    pub has_clocks: bool,
    /// How many clients there were.
    pub clients: usize,
    /// When faults and clients had ended.
    pub work_ended: Duration,
    /// What happened.
    pub records: Records,
    /// What was checked.
    pub checked: Checked,
}

/// Runs, reports, and tells whether all was well.
pub async fn run(options: RunOptions, network: Network, program: PathBuf) -> ExitCode {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let folder = options.output.clone().unwrap_or_else(|| PathBuf::from(format!("target/faults/{seed}")));
    if let Err(error) = std::fs::create_dir_all(&folder) {
        eprintln!("difuse-faults: {}: {error}", folder.display());
        return ExitCode::FAILURE;
    }
    let journal = Arc::new(Journal::new());
    journal.say(&format!("seed {seed}, everything in {}", folder.display()));
    if let Some(shortcoming) = network.shortcoming() {
        journal.say(&format!("NOT RUN: cut cables and clock jumps: {shortcoming}"));
        journal.say("runs on loopback instead, with the faults that need neither");
    }
    let gateways = Arc::new(Gateways::default());
    let ring_options = RingOptions { log: "info,libp2p=warn".into(), ..RING };
    let ring = Ring::new(network, program, ring_options, &folder, journal.clone(), gateways.clone());
    let ring = match ring {
        Ok(ring) => ring,
        Err(error) => {
            eprintln!("difuse-faults: {}: {error}", folder.display());
            return ExitCode::FAILURE;
        }
    };
    let finished = work(&options, seed, ring, &journal, gateways).await;
    let text = report::text(&finished);
    println!("{text}");
    let files = [("report.txt", text), ("availability.svg", picture::draw(&finished))];
    for (name, content) in files {
        if let Err(error) = std::fs::write(folder.join(name), content) {
            eprintln!("difuse-faults: {}: {error}", folder.join(name).display());
        }
    }
    if finished.records.anomalies.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn work(
    options: &RunOptions,
    seed: u64,
    mut ring: Ring,
    journal: &Arc<Journal>,
    gateways: Arc<Gateways>,
) -> Finished {
    let (began, has_clocks) = (SystemTime::now(), ring.has_clocks());
    let shortcoming = ring.network().shortcoming().map(str::to_owned);
    if shortcoming.is_none() && !has_clocks {
        journal.say("NOT RUN: clock jumps: libfaketime is not there; install: apt-get install faketime");
    }
    let mut finished = Finished {
        seed,
        command: format!("run --seconds {} --seed {seed} --nodes {}", options.duration().as_secs(), options.nodes),
        shortcoming,
        has_clocks,
        clients: 0,
        work_ended: Duration::ZERO,
        records: Records::default(),
        checked: Checked::default(),
    };
    if let Err(reason) = start(&mut ring, options.nodes).await {
        journal.anomaly(format!("the ring does not start: {reason}"));
        finished.records = journal.records();
        return finished;
    }
    let resp = (1..=PLACES).map(|place| ring.network().resp(place)).collect();
    let clients = Clients::start(journal.clone(), gateways.clone(), resp, seed, options.clients_times.into());
    finished.clients = clients.count();
    let mut nemesis = Nemesis::new(ring, seed, journal.clone(), gateways);
    let begin = journal.now();
    let mut is_well = true;
    while is_well && journal.now() - begin < options.duration() {
        if let Err(reason) = nemesis.round().await {
            journal.anomaly(reason);
            is_well = false;
        }
        let (answered, failed) = journal.counts();
        journal.say(&format!("{answered} answers, {failed} failed attempts so far"));
    }
    finished.work_ended = journal.now();
    let shared = clients.stop().await;
    if is_well && let Err(reason) = nemesis.recover().await {
        journal.anomaly(reason);
        is_well = false;
    }
    if is_well {
        let nodes = nemesis
            .ring
            .places()
            .into_iter()
            .map(|place| nemesis.ring.http(place).with_timeout(READ_PATIENCE))
            .collect();
        finished.checked = checks::all(&shared, nodes, began).await;
        nemesis.ring.fallen().into_iter().for_each(|fallen| journal.anomaly(fallen));
    }
    finished.records = journal.records();
    if finished.records.anomalies.is_empty() {
        nemesis.ring.remove_data();
    }
    finished
}

async fn start(ring: &mut Ring, nodes: Place) -> Result<(), String> {
    for place in 1..=nodes {
        ring.start(place);
        ring.ready(place).await?;
    }
    ring.settled(START_PATIENCE).await
}
