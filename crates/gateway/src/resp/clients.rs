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

use tokio::sync::{Notify, oneshot};

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
    /// Told when it is to wait no longer, with an error or without, while it waits for items.
    waiting: Mutex<Option<oneshot::Sender<bool>>>,
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
    /// How many commands were put aside since `MULTI`, if that came.
    pub(super) queued: Option<usize>,
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
            queued: None,
        };
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (details, killed) = (Mutex::new(details), Notify::new());
        let client = Client { id, peer, local, connected_at: now, details, killed, waiting: Mutex::default() };
        let client = Arc::new(client);
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

    /// It waits for items, until this is dropped.
    pub(super) fn wait(&self) -> Wait<'_> {
        let (sender, told) = oneshot::channel();
        *lock(&self.waiting) = Some(sender);
        Wait { client: self, told }
    }

    /// Lets it wait no longer; whether it did.
    pub(super) fn unblock(&self, with_error: bool) -> bool {
        lock(&self.waiting).take().is_some_and(|waiting| waiting.send(with_error).is_ok())
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
        let flags = [
            ("P", details.channels + details.patterns > 0),
            ("x", details.queued.is_some()),
            ("b", lock(&self.waiting).is_some()),
        ];
        let flags: String = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag).collect();
        let flags = if flags.is_empty() { "N" } else { &flags };
        let multi = details.queued.map_or("-1".into(), |queued| queued.to_string());
        let Details { name, database, channels, patterns, last_command, protocol, .. } = &*details;
        format!(
            "id={id} addr={peer} laddr={local} fd=-1 name={name} age={age} idle={idle} flags={flags} db={database} \
             sub={channels} psub={patterns} ssub=0 multi={multi} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 \
             oll=0 omem=0 tot-mem=0 events=r cmd={last_command} user=default redir=-1 resp={protocol}"
        )
    }
}

/// A client that waits for items.
pub(super) struct Wait<'a> {
    client: &'a Client,
    told: oneshot::Receiver<bool>,
}

impl Wait<'_> {
    /// Resolves when another client lets it wait no longer: whether with an error.
    pub(super) async fn unblocked(&mut self) -> bool {
        match (&mut self.told).await {
            Ok(with_error) => with_error,
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        *lock(&self.client.waiting) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
