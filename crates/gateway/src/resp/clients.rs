//! Who is connected, for `CLIENT` and `INFO`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

/// All connections.
#[derive(Default)]
pub(super) struct Clients {
    last_id: AtomicU64,
    connected: Mutex<BTreeMap<u64, Arc<Client>>>,
}

/// One connection as others see it.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    connected_at: Instant,
    details: Mutex<Details>,
    /// Told when the connection is to be ended.
    pub(super) killed: Notify,
}

/// What changes.
pub(super) struct Details {
    pub(super) name: String,
    pub(super) database: u32,
    pub(super) protocol: i64,
    pub(super) last_command: &'static str,
    pub(super) last_active: Instant,
    pub(super) channels: usize,
    pub(super) patterns: usize,
}

impl Clients {
    /// A new connection.
    pub(super) fn add(&self, peer: SocketAddr, local: SocketAddr) -> Arc<Client> {
        let now = Instant::now();
        let details = Details {
            name: String::new(),
            database: 0,
            protocol: 2,
            last_command: "NULL",
            last_active: now,
            channels: 0,
            patterns: 0,
        };
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (details, killed) = (Mutex::new(details), Notify::new());
        let client = Arc::new(Client { id, peer, local, connected_at: now, details, killed });
        lock(&self.connected).insert(id, client.clone());
        client
    }

    /// A connection has ended.
    pub(super) fn remove(&self, id: u64) {
        lock(&self.connected).remove(&id);
    }

    /// All of them, by id.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        lock(&self.connected).values().cloned().collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        lock(&self.connected).len()
    }
}

impl Client {
    /// Changes what is told of it.
    pub(super) fn edit(&self, change: impl FnOnce(&mut Details)) {
        change(&mut lock(&self.details));
    }

    /// Its name, empty if it has none.
    pub(super) fn name(&self) -> String {
        lock(&self.details).name.clone()
    }

    /// As a line of `CLIENT LIST`.
    pub(super) fn describe(&self) -> String {
        let details = lock(&self.details);
        let Self { id, peer, local, .. } = self;
        let (age, idle) = (self.connected_at.elapsed().as_secs(), details.last_active.elapsed().as_secs());
        let flags = if details.channels + details.patterns > 0 { "P" } else { "N" };
        let Details { name, database, channels, patterns, last_command, protocol, .. } = &*details;
        format!(
            "id={id} addr={peer} laddr={local} fd=-1 name={name} age={age} idle={idle} flags={flags} db={database} \
             sub={channels} psub={patterns} ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem=0 tot-mem=0 events=r cmd={last_command} user=default redir=-1 resp={protocol}"
        )
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
