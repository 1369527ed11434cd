//! What must hold when all is over.

mod blocks;
mod chain;
mod linearizable;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use difuse_tests::{Answer, Http};
use futures::{StreamExt, stream};
use reqwest::Method;

pub use self::blocks::Counted;
use self::{
    chain::Link,
    linearizable::{DirectorySpecification, RegisterSpecification, StructureSpecification, describe, is_linearizable},
};
use crate::{
    clients::{
        Shared, content,
        directory::{Directory, DirectoryOperation, Listing, content_of, listing_of},
        object::Told,
        register::{Register, RegisterOperation},
        structure::{RedisCaller, Structure},
    },
    journal::Journal,
};

const AT_ONCE: usize = 16;
const REPLICAS: usize = 3;

/// What was checked.
#[derive(Debug, Default, Clone, Copy)]
pub struct Checked {
    /// Histories, of registers, counters, directories and structures.
    pub histories: [usize; 4],
    /// Operations in them.
    pub operations: usize,
    /// How many of them have an unknown outcome.
    pub unknown: usize,
    /// Chains that were recomputed.
    pub chains: usize,
    /// Their transactions.
    pub transactions: usize,
    /// Files that were read to the end after all faults.
    pub files: usize,
    /// Keys and blocks that were counted.
    pub counted: Counted,
    /// How far the time in a transaction was from the right time at most, in milliseconds: what clock jumps did.
    pub clock_error_ms: u64,
}

/// Reads everything once more and judges all that was seen. What is wrong goes into the journal.
pub async fn all(shared: &Arc<Shared>, nodes: Vec<Http>, began: SystemTime) -> Checked {
    let journal = shared.journal.clone();
    let mut checked = Checked::default();
    let ring = Reader { nodes, next: AtomicUsize::new(0), journal: journal.clone() };
    journal.say("reading everything once more, and every chain");
    for register in shared.registers() {
        checked.histories[usize::from(register.is_counter)] += 1;
    }
    checked.histories[2] = shared.directories().len();
    let (mut links, mut files) = (Vec::new(), 0);
    let mut registers =
        stream::iter(shared.registers()).map(|register| ring.register(register)).buffer_unordered(AT_ONCE);
    while let Some(chain) = registers.next().await {
        links.push(chain);
    }
    drop(registers);
    let mut directories =
        stream::iter(shared.directories()).map(|directory| ring.directory(directory)).buffer_unordered(AT_ONCE);
    while let Some((count, chains)) = directories.next().await {
        files += count;
        links.extend(chains);
    }
    drop(directories);
    checked.histories[3] = shared.structures().len();
    let mut reader = RedisCaller::new(shared.clone(), 0);
    for structure in shared.structures() {
        if !reader.read(&structure).await {
            journal.anomaly(format!("{} cannot be read on a settled ring", structure.name));
        }
        links.extend(ring.chain(&structure.name, "").await);
    }
    checked.files = files;
    checked.chains = links.len();
    checked.transactions = links.iter().map(Vec::len).sum();
    checked.clock_error_ms = links.iter().flatten().map(|link| clock_error(link, began)).max().unwrap_or_default();
    journal.say("checking histories");
    let judged = shared.clone();
    match tokio::task::spawn_blocking(move || judge(&judged)).await {
        Ok((operations, unknown)) => (checked.operations, checked.unknown) = (operations, unknown),
        Err(error) => journal.anomaly(format!("the checker broke: {error}")),
    }
    journal.say("counting keys and blocks");
    // A task of its own: whatever is wrong with an answer, the report is written.
    let nodes = ring.nodes.clone();
    match tokio::spawn(async move { blocks::count(&nodes, REPLICAS).await }).await {
        Ok(Ok(counted)) => checked.counted = counted,
        Ok(Err(reason)) => journal.anomaly(reason),
        Err(error) => journal.anomaly(format!("the nodes cannot be asked what they hold: {error}")),
    }
    checked
}

fn clock_error(link: &Link, began: SystemTime) -> u64 {
    let milliseconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let (first, last) = (milliseconds(began), milliseconds(SystemTime::now()));
    first.saturating_sub(link.time_ms).max(link.time_ms.saturating_sub(last))
}

/// Judges every history, on every core; how many operations there were, and how many of unknown outcome.
fn judge(shared: &Shared) -> (usize, usize) {
    let (registers, directories) = (shared.registers(), shared.directories());
    let structures = shared.structures();
    let (next, lengths) = (AtomicUsize::new(0), Mutex::new((0, 0)));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let length = if let Some(register) = registers.get(number) {
                        judge_register(register, &shared.journal)
                    } else if let Some(directory) = directories.get(number - registers.len()) {
                        judge_directory(directory, &shared.journal)
                    } else if let Some(structure) = structures.get(number - registers.len() - directories.len()) {
                        judge_structure(structure, &shared.journal)
                    } else {
                        return;
                    };
                    let mut lengths = lengths.lock().unwrap_or_else(PoisonError::into_inner);
                    *lengths = (lengths.0 + length.0, lengths.1 + length.1);
                }
            });
        }
    });
    lengths.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn judge_register(register: &Register, journal: &Journal) -> (usize, usize) {
    let entries = register.history.entries();
    if !is_linearizable::<RegisterSpecification>(&entries) {
        journal.anomaly(format!("{} is not linearizable:\n{}", register.name, describe(&entries)));
    }
    register.history.lengths()
}

fn judge_directory(directory: &Directory, journal: &Journal) -> (usize, usize) {
    let entries = directory.history.entries();
    if !is_linearizable::<DirectorySpecification>(&entries) {
        journal.anomaly(format!("{} is not linearizable:\n{}", directory.path, describe(&entries)));
    }
    directory.history.lengths()
}

fn judge_structure(structure: &Structure, journal: &Journal) -> (usize, usize) {
    let entries = structure.history.entries();
    if !is_linearizable::<StructureSpecification>(&entries) {
        let Structure { name, shape, .. } = structure;
        journal.anomaly(format!("{name}, a {shape:?}, is not linearizable:\n{}", describe(&entries)));
    }
    structure.history.lengths()
}

/// Reads from all nodes in turn.
struct Reader {
    nodes: Vec<Http>,
    next: AtomicUsize,
    journal: Arc<Journal>,
}

impl Reader {
    fn node(&self) -> &Http {
        &self.nodes[self.next.fetch_add(1, Ordering::Relaxed) % self.nodes.len()]
    }

    /// Reads what must be readable: the answer, with the times of call and answer.
    async fn get(&self, path: &str) -> Option<(Answer, Duration, Duration)> {
        let start = self.journal.now();
        match self.node().send(Method::GET, path, &[], "").await {
            Ok(answer) if matches!(answer.status, 200 | 404) => Some((answer, start, self.journal.now())),
            Ok(answer) => {
                self.journal.anomaly(format!("GET {path} on a settled ring: {} {}", answer.status, answer.text()));
                None
            }
            Err(error) => {
                self.journal.anomaly(format!("GET {path} on a settled ring: {error:?}"));
                None
            }
        }
    }

    /// Fetches a chain from two nodes, and compares it with what clients were told.
    async fn chain(&self, path: &str, query: &str) -> Option<Vec<Link>> {
        let (one, other) = (chain::fetch(self.node(), path, query).await, chain::fetch(self.node(), path, query).await);
        match (one, other) {
            (Ok(one), Ok(other)) if one == other => return Some(one),
            (Ok(_), Ok(_)) => self.journal.anomaly(format!("{path}: two nodes tell two histories")),
            (Err(reason), _) | (_, Err(reason)) => self.journal.anomaly(format!("the chain of {path}: {reason}")),
        }
        None
    }

    async fn register(&self, register: Arc<Register>) -> Vec<Link> {
        let name = &register.name;
        if let Some((answer, start, end)) = self.get(&format!("/v1/keys/{name}")).await {
            let parsed = content::parse_value(&answer.body);
            if answer.status == 200 && parsed.is_none() {
                self.journal.anomaly(format!("{name}: read {:?}", answer.text()));
            }
            register.history.add(RegisterOperation::Read(parsed.map(|(id, _)| id)), start, Some(end));
            if register.is_counter {
                self.count(&register, parsed.map_or(0, |(_, count)| count));
            }
        }
        let Some(chain) = self.chain(name, "").await else { return Vec::new() };
        let is_value = |id: u64, bytes: &[u8]| content::parse_value(bytes).is_some_and(|(found, _)| found == id);
        if let Err(reason) = chain::agrees(&chain, &register.ledger, is_value) {
            self.journal.anomaly(format!("{name}: {reason}"));
        }
        chain
    }

    /// A counter stands at the number of increments that were acknowledged, and at most as many more as are unknown.
    fn count(&self, counter: &Register, stands_at: u64) {
        let (sent, _) = counter.ledger.records();
        let number = |is_it: fn(&Told) -> bool| sent.iter().filter(|sent| is_it(&sent.told)).count() as u64;
        let done = number(|told| matches!(told, Told::Done(..)));
        let unknown = number(|told| *told == Told::Unknown);
        if stands_at < done || stands_at > done + unknown {
            let name = &counter.name;
            self.journal.anomaly(format!("{name} stands at {stands_at}: {done} increments, {unknown} unknown"));
        }
    }

    async fn directory(&self, directory: Arc<Directory>) -> (usize, Vec<Vec<Link>>) {
        let path = &directory.path;
        if let Some((answer, start, end)) = self.get(&format!("/v1/files/{path}")).await {
            let listing = if answer.status == 200 { listing_of(&answer) } else { Some(Listing::new()) };
            match listing {
                Some(listing) => directory.history.add(DirectoryOperation::List(listing), start, Some(end)),
                None => self.journal.anomaly(format!("{path}: a listing says {}", answer.text())),
            }
        }
        let (mut files, mut chains) = (0, Vec::new());
        for name in Directory::names() {
            let file = directory.file(name);
            if let Some((answer, start, end)) = self.get(&format!("/v1/files/{file}")).await {
                match if answer.status == 200 { content_of(&answer).map(Some) } else { Ok(None) } {
                    Ok(seen) => {
                        files += usize::from(seen.is_some());
                        directory.history.add(DirectoryOperation::Get(name, seen), start, Some(end));
                    }
                    Err(reason) => self.journal.anomaly(format!("{file}: {reason}")),
                }
            }
            let Some(chain) = self.chain(&file, "space=files&").await else { continue };
            // Contents are compared when they are read.
            if let Err(reason) = chain::agrees(&chain, &directory.ledgers[usize::from(name)], |_, _| true) {
                self.journal.anomaly(format!("{file}: {reason}"));
            }
            chains.push(chain);
        }
        (files, chains)
    }
}
