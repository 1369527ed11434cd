//! Clients that race on few things at a time, and write down what they did and were told.

pub mod caller;
pub mod content;
pub mod directory;
pub mod object;
pub mod register;

use std::{
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
};
use crate::{
    gateways::Gateways,
    journal::{Class, Journal},
};

/// How many clients race on one object.
const RIVALS: usize = 3;
/// How many objects of each class there are at a time.
const GROUPS: [(Class, usize); 3] = [(Class::Registers, 3), (Class::Counters, 2), (Class::Files, 2)];
/// The longest pause of a client between two operations, in milliseconds.
const PAUSE_MS_MAX: u64 = 40;

/// What all clients share.
pub struct Shared {
    /// Where they write down what happens.
    pub journal: Arc<Journal>,
    /// The nodes.
    pub gateways: Arc<Gateways>,
    seed: u64,
    next_id: AtomicU64,
    next_name: AtomicU64,
    is_over: AtomicBool,
    registers: Mutex<Vec<Arc<Register>>>,
    directories: Mutex<Vec<Arc<Directory>>>,
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
    pub fn start(journal: Arc<Journal>, gateways: Arc<Gateways>, seed: u64, times: usize) -> Self {
        let shared = Arc::new(Shared {
            journal,
            gateways,
            seed,
            next_id: AtomicU64::new(1),
            next_name: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            registers: Mutex::default(),
            directories: Mutex::default(),
        });
        let mut clients = Self { shared, tasks: Vec::new() };
        for (class, groups) in GROUPS {
            for _ in 0..groups * times {
                clients.start_group(class);
            }
        }
        clients
    }

    fn start_group(&mut self, class: Class) {
        let (shared, first) = (self.shared.clone(), self.tasks.len());
        let numbers = first..first + RIVALS;
        if class == Class::Files {
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
