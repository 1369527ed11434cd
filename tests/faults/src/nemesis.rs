//! Doing harm: rounds of several faults at once, drawn from one seed, each round followed by healing.
//!
//! What no store survives is not done: a second disk is lost only after the ring has settled, at most two processes
//! are stopped at a time, and four nodes always stay.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use difuse_tests::Http;
use reqwest::Method;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    fault::{FaultKind, between, list},
    gateways::Gateways,
    journal::Journal,
    network::{Cuts, PLACES, Place},
    ring::Ring,
};

/// How long nothing happens before each round.
const CALM: Duration = Duration::from_secs(2);
/// Within how long after its beginning every fault of a round begins.
const BEGIN_MS_MAX: u64 = 5000;
/// How long a fault lasts.
const LAST_MS: std::ops::Range<u64> = 1000..8000;
/// How many faults a round has.
const FAULTS: std::ops::RangeInclusive<usize> = 3..=5;
/// How many processes are stopped at a time at most, and how many nodes stay at least.
const STOPPED_MAX: usize = 2;
const NODES_MIN: usize = 4;
/// Within how long after a round the ring must be settled: far more than it takes, for machines that have much else to
/// do. How long it took is in the report.
const SETTLE_PATIENCE: Duration = Duration::from_secs(180);
/// How many times a flapping node goes down.
const FLAPS: u32 = 3;
/// How far clocks jump, in seconds.
const JUMPS: [i64; 6] = [3600, -3600, 86_400 * 30, -86_400 * 400, 5, -5];

/// Something to do at a time of a round.
struct Step {
    at: Duration,
    /// Which of the round's faults.
    fault: usize,
    action: Action,
}

#[derive(Clone)]
enum Action {
    Kill(Place),
    Restart(Place),
    Pause(Place),
    Resume(Place),
    Cut(Cuts),
    Mend(Cuts),
    Clock(Place, i64),
    Join(Place),
    Leave(Place),
    Wipe(Place),
}

/// A fault of a round.
struct Planned {
    kind: FaultKind,
    detail: String,
    /// In the order of their times.
    steps: Vec<(Duration, Action)>,
}

/// Does harm to a ring.
pub struct Nemesis {
    /// The ring.
    pub ring: Ring,
    random: fastrand::Rng,
    journal: Arc<Journal>,
    gateways: Arc<Gateways>,
    /// Kinds that are still to be used before all are used again.
    deck: Vec<FaultKind>,
    /// Leaves under way, with their faults' numbers in the journal.
    leaves: BTreeMap<Place, (usize, JoinHandle<()>)>,
    /// Nodes that were started and do not serve yet, with the same.
    joins: BTreeMap<Place, usize>,
}

impl Nemesis {
    /// One that `seed` decides.
    pub fn new(ring: Ring, seed: u64, journal: Arc<Journal>, gateways: Arc<Gateways>) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { ring, random, journal, gateways, deck: Vec::new(), leaves: BTreeMap::new(), joins: BTreeMap::new() }
    }

    /// One round. An error ends the run: the ring did not recover.
    pub async fn round(&mut self) -> Result<(), String> {
        sleep(CALM).await;
        let planned = self.plan();
        let begin = Instant::now();
        let mut steps: Vec<_> =
            planned.iter().enumerate().flat_map(|(fault, planned)| steps_of(fault, planned)).collect();
        steps.sort_by_key(|step| step.at);
        let mut spans: BTreeMap<usize, usize> = BTreeMap::new();
        let mut left: Vec<_> = planned.iter().map(|planned| planned.steps.len()).collect();
        for step in steps {
            sleep_until(begin + step.at).await;
            let fault = &planned[step.fault];
            let journal = &self.journal;
            let span =
                *spans.entry(step.fault).or_insert_with(|| journal.begin(fault.kind.name(), fault.detail.clone()));
            self.perform(step.action, span);
            left[step.fault] -= 1;
            if left[step.fault] == 0 && !fault.kind.changes_members() {
                self.journal.end(span);
            }
        }
        self.recover().await
    }

    /// Ends all faults and waits until the ring is settled.
    pub async fn recover(&mut self) -> Result<(), String> {
        self.report_fallen()?;
        self.ring.heal();
        let healed = Instant::now();
        for place in self.ring.places() {
            self.ring.ready(place).await?;
        }
        for (_, span) in std::mem::take(&mut self.joins) {
            self.journal.end(span);
        }
        while let Some((place, (span, mut leave))) = self.leaves.pop_first() {
            let patience = SETTLE_PATIENCE.saturating_sub(healed.elapsed());
            if tokio::time::timeout(patience, &mut leave).await.is_err() {
                leave.abort();
                return Err(format!("node {place} has not left within {SETTLE_PATIENCE:?}"));
            }
            self.journal.end(span);
            self.ring.stop_for_good(place).await;
        }
        let patience = SETTLE_PATIENCE.saturating_sub(healed.elapsed());
        if let Err(reason) = self.ring.settled(patience).await {
            let later = self.ring.settled(SETTLE_PATIENCE).await;
            let later = later.map_or("nor later".into(), |()| format!("but after {:?}", healed.elapsed()));
            let why = self.ring.unsettled().await;
            return Err(format!("the ring is not settled after a round: {reason}; {later}; {why}"));
        }
        self.journal.settled(healed.elapsed());
        Ok(())
    }

    fn report_fallen(&mut self) -> Result<(), String> {
        self.ring.fallen().into_iter().next().map_or(Ok(()), Err)
    }

    fn perform(&mut self, action: Action, span: usize) {
        match action {
            Action::Kill(place) => self.ring.kill(place),
            Action::Restart(place) => self.ring.restart(place),
            Action::Pause(place) => self.ring.pause(place),
            Action::Resume(place) => self.ring.resume(place),
            Action::Cut(cuts) => self.ring.cut(&cuts),
            Action::Mend(cuts) => self.ring.mend(&cuts),
            Action::Clock(place, seconds) => self.ring.set_clock(place, seconds),
            Action::Wipe(place) => {
                self.gateways.remove(place);
                self.ring.wipe(place);
            }
            Action::Join(place) => {
                self.ring.start(place);
                // Clients may try it at once.
                self.gateways.add(place, self.ring.http(place));
                self.joins.insert(place, span);
            }
            Action::Leave(place) => {
                let leave = tokio::spawn(leave(self.ring.http(place)));
                self.leaves.insert(place, (span, leave));
            }
        }
    }

    /// The faults of a round.
    fn plan(&mut self) -> Vec<Planned> {
        let count = self.random.usize(FAULTS);
        let (mut planned, mut kept) = (Vec::new(), Vec::new());
        let (mut stopped, mut has_change) = (0, false);
        // Each node is the victim of one fault to its process at most.
        let mut victims = self.ring.places();
        self.random.shuffle(&mut victims);
        for _ in 0..FaultKind::ALL.len() * 2 {
            if planned.len() == count {
                break;
            }
            let kind = self.draw();
            let is_possible = self.is_possible(kind)
                && !(kind.stops_process() && stopped == STOPPED_MAX)
                && !(kind.changes_members() && has_change);
            let fault = if is_possible { self.plan_one(kind, &mut victims) } else { None };
            match fault {
                Some(fault) => {
                    stopped += usize::from(kind.stops_process());
                    has_change |= kind.changes_members();
                    planned.push(fault);
                }
                None => kept.push(kind),
            }
        }
        // The last ones drawn are the next ones.
        kept.retain(|kind| self.ring.network().has_cables() || !kind.needs_cables());
        kept.dedup();
        self.deck.extend(kept);
        planned
    }

    fn draw(&mut self) -> FaultKind {
        if self.deck.is_empty() {
            self.deck = FaultKind::ALL.to_vec();
            self.random.shuffle(&mut self.deck);
        }
        self.deck.pop().unwrap_or(FaultKind::Kill)
    }

    fn is_possible(&self, kind: FaultKind) -> bool {
        match kind {
            FaultKind::Clock => self.ring.has_clocks(),
            FaultKind::Join => self.ring.places().len() < usize::from(PLACES) - 1,
            FaultKind::Leave => self.ring.places().len() > NODES_MIN,
            kind => self.ring.network().has_cables() || !kind.needs_cables(),
        }
    }

    fn plan_one(&mut self, kind: FaultKind, victims: &mut Vec<Place>) -> Option<Planned> {
        let begin = Duration::from_millis(self.random.u64(..BEGIN_MS_MAX));
        let end = begin + Duration::from_millis(self.random.u64(LAST_MS));
        let fault = |detail, steps| Some(Planned { kind, detail, steps });
        let lasting = |detail, first, last| fault(detail, vec![(begin, first), (end, last)]);
        let cutting = |detail, cuts: Cuts| lasting(detail, Action::Cut(cuts.clone()), Action::Mend(cuts));
        match kind {
            FaultKind::Kill => {
                let place = victims.pop()?;
                lasting(format!("node {place}"), Action::Kill(place), Action::Restart(place))
            }
            FaultKind::Pause => {
                let place = victims.pop()?;
                lasting(format!("node {place}"), Action::Pause(place), Action::Resume(place))
            }
            FaultKind::Flap => {
                let place = victims.pop()?;
                let half = (end - begin) / (2 * FLAPS);
                let flap = |turn: u32| {
                    let down = begin + half * 2 * turn;
                    [(down, Action::Kill(place)), (down + half, Action::Restart(place))]
                };
                fault(format!("node {place}"), (0..FLAPS).flat_map(flap).collect())
            }
            FaultKind::Clock => {
                let places = self.ring.places();
                let (place, jump) = (*self.random.choice(&places)?, *self.random.choice(&JUMPS)?);
                let (first, last) = (Action::Clock(place, jump), Action::Clock(place, 0));
                lasting(format!("node {place} by {jump} s"), first, last)
            }
            FaultKind::Join => {
                let place = (1..=PLACES).find(|place| !self.ring.places().contains(place))?;
                fault(format!("node {place}"), vec![(begin, Action::Join(place))])
            }
            FaultKind::Leave => {
                let place = victims.pop()?;
                fault(format!("node {place}"), vec![(begin, Action::Leave(place))])
            }
            FaultKind::Replace => {
                let place = victims.pop()?;
                lasting(format!("node {place}"), Action::Wipe(place), Action::Join(place))
            }
            FaultKind::OneWay | FaultKind::TwoWay | FaultKind::Isolate | FaultKind::Split | FaultKind::Bridge => {
                let (detail, cuts) = self.plan_cuts(kind);
                cutting(detail, cuts)
            }
        }
    }

    fn plan_cuts(&mut self, kind: FaultKind) -> (String, Cuts) {
        let mut places = self.ring.places();
        self.random.shuffle(&mut places);
        let (first, rest) = (places[0], &places[1..]);
        let middle = places.len() / 2;
        match kind {
            FaultKind::OneWay => (format!("{first} to {}", rest[0]), Cuts::from([(first, rest[0])])),
            FaultKind::TwoWay => (format!("{first} and {}", rest[0]), between(&[first], &rest[..1])),
            FaultKind::Isolate => (format!("node {first}"), between(&[first], rest)),
            FaultKind::Bridge => {
                let (left, right) = rest.split_at(rest.len() / 2);
                (format!("{} | {first} | {}", list(left), list(right)), between(left, right))
            }
            _ => {
                let (left, right) = places.split_at(middle);
                (format!("{} | {}", list(left), list(right)), between(left, right))
            }
        }
    }
}

fn steps_of(fault: usize, planned: &Planned) -> impl Iterator<Item = Step> {
    planned.steps.iter().map(move |(at, action)| Step { at: *at, fault, action: action.clone() })
}

/// Asks a node to leave until it has, whatever happens to it meanwhile.
async fn leave(http: Http) {
    let http = http.with_timeout(Duration::from_secs(30));
    while !http.send(Method::POST, "/v1/leave", &[], "").await.is_ok_and(|answer| answer.status == 204) {
        sleep(Duration::from_millis(100)).await;
    }
}
