//! Clients that race on few things at a time, and write down what they did and were told.

pub mod caller;
pub mod content;
pub mod directory;
pub mod object;
pub mod register;
pub mod structure;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use difuse_tests::Answer;
use tokio::{task::JoinHandle, time::sleep};

use self::{
    directory::{Directory, DirectoryClient},
    object::Group,
    register::{Register, RegisterClient},
    structure::{Shape, Structure, StructureClient},
};
use crate::{
    gateways::Gateways,
    journal::{Class, Journal},
};

/// How many clients race on one object.
const RIVALS: usize = 3;
/// How many objects of each class there are at a time.
const GROUPS: [(Class, usize); 4] =
    [(Class::Registers, 3), (Class::Counters, 2), (Class::Files, 2), (Class::Structures, 3)];
/// The longest pause of a client between two operations, in milliseconds.
const PAUSE_MS_MAX: u64 = 40;

/// What all clients share.
pub struct Shared {
    /// Where they write down what happens.
    pub journal: Arc<Journal>,
    /// The nodes.
    pub gateways: Arc<Gateways>,
    /// Where the node at each place, from 1, listens for clients of Redis.
    pub resp: Vec<SocketAddr>,
    seed: u64,
    next_id: AtomicU64,
    next_name: AtomicU64,
    is_over: AtomicBool,
    registers: Mutex<Vec<Arc<Register>>>,
    directories: Mutex<Vec<Arc<Directory>>>,
    structures: Mutex<Vec<Arc<Structure>>>,
}

impl Shared {
    /// Whether clients are to stop.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// A number for a content: used once.
    pub fn new_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// An operation id.
    pub fn new_operation_id(&self) -> String {
        format!("{:032x}", fastrand::u128(..))
    }

    /// The random numbers of client `number`.
    pub fn random(&self, number: usize) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_mul(1000).wrapping_add(number as u64))
    }

    /// What a client does between two operations: nothing, for a while.
    pub async fn pause(&self, random: &mut fastrand::Rng) {
        sleep(Duration::from_millis(random.u64(..PAUSE_MS_MAX))).await;
    }

    /// An answer that nothing explains is an anomaly.
    pub fn unexpected(&self, name: &str, what: &str, answer: &Answer) {
        self.journal.anomaly(format!("{name}: {what} was answered with {} {}", answer.status, answer.text()));
    }

    /// All keys that clients have raced on.
    pub fn registers(&self) -> Vec<Arc<Register>> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All directories that they have.
    pub fn directories(&self) -> Vec<Arc<Directory>> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All counters, sets and lists that they have.
    pub fn structures(&self) -> Vec<Arc<Structure>> {
        self.structures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn new_structure(&self, shape: Shape) -> Arc<Structure> {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed);
        let structure = Arc::new(Structure::new(format!("structure-{number}"), shape));
        self.structures.lock().unwrap_or_else(PoisonError::into_inner).push(structure.clone());
        structure
    }

    fn new_register(&self, is_counter: bool) -> Arc<Register> {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed);
        let kind = if is_counter { "counter" } else { "register" };
        let register = Arc::new(Register { name: format!("{kind}-{number}"), is_counter, ..Register::default() });
        self.registers.lock().unwrap_or_else(PoisonError::into_inner).push(register.clone());
        register
    }

    fn new_directory(&self) -> Arc<Directory> {
        let number = self.next_name.fetch_add(1, Ordering::Relaxed);
        let directory = Arc::new(Directory { path: format!("set-{number}"), ..Directory::default() });
        self.directories.lock().unwrap_or_else(PoisonError::into_inner).push(directory.clone());
        directory
    }
}

/// Clients at work.
pub struct Clients {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts them, `times` as many as usual.
    pub fn start(
        journal: Arc<Journal>,
        gateways: Arc<Gateways>,
        resp: Vec<SocketAddr>,
        seed: u64,
        times: usize,
    ) -> Self {
        let shared = Arc::new(Shared {
            journal,
            gateways,
            resp,
            seed,
            next_id: AtomicU64::new(1),
            next_name: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            registers: Mutex::default(),
            directories: Mutex::default(),
            structures: Mutex::default(),
        });
        let mut clients = Self { shared, tasks: Vec::new() };
        for (class, groups) in GROUPS {
            for group in 0..groups * times {
                clients.start_group(class, group);
            }
        }
        clients
    }

    fn start_group(&mut self, class: Class, group: usize) {
        let (shared, first) = (self.shared.clone(), self.tasks.len());
        let numbers = first..first + RIVALS;
        if class == Class::Structures {
            let shape = [Shape::Counter, Shape::Set, Shape::List][group % 3];
            let group = Arc::new(Group::new(move || shared.new_structure(shape)));
            let client = |number| StructureClient::new(self.shared.clone(), group.clone(), number);
            self.tasks.extend(numbers.map(|number| tokio::spawn(client(number).run())));
        } else if class == Class::Files {
            let group = Arc::new(Group::new(move || shared.new_directory()));
            let client = |number| DirectoryClient::new(self.shared.clone(), group.clone(), number);
            self.tasks.extend(numbers.map(|number| tokio::spawn(client(number).run())));
        } else {
            let group = Arc::new(Group::new(move || shared.new_register(class == Class::Counters)));
            let client = |number| RegisterClient::new(self.shared.clone(), group.clone(), class, number);
            self.tasks.extend(numbers.map(|number| tokio::spawn(client(number).run())));
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.tasks.len()
    }

    /// Lets every client end its operation; returns what they did.
    pub async fn stop(self) -> Arc<Shared> {
        self.shared.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            if let Err(error) = task.await {
                self.shared.journal.anomaly(format!("a client broke: {error}"));
            }
        }
        self.shared
    }
}
