use std::{net::SocketAddr, sync::Arc};

use difuse_api::{Consistency, structures::Command};
use difuse_types::Level;

use super::{
    Shared,
    clients::Client,
    encode::Protocol,
    failure::Failure,
    hub::Subscription,
    transaction::{Transaction, Watched},
};

/// Who stands behind what a command reads and writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Levels {
    pub(super) read: Level,
    pub(super) write: Level,
}

/// What a connection has said of that; where it has said nothing, its namespace and then the node decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct ChosenLevels {
    pub(super) read: Option<Level>,
    pub(super) write: Option<Level>,
}

impl ChosenLevels {
    /// The levels of a command, given those that hold where the connection has said nothing.
    pub(super) fn or(self, default: &Consistency) -> Levels {
        Levels { read: self.read.unwrap_or(default.stat), write: self.write.unwrap_or(default.set_inode) }
    }

    /// The levels of a command, if the connection has said all of it.
    pub(super) fn both(self) -> Option<Levels> {
        Some(Levels { read: self.read?, write: self.write? })
    }
}

/// Which commands are answered (`CLIENT REPLY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Replies {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// Not the next one.
    SkipNext,
}

/// What is known of one connection.
pub(super) struct Session {
    /// As others see it.
    pub(super) client: Arc<Client>,
    pub(super) protocol: Protocol,
    pub(super) database: u32,
    /// The namespace of the database.
    pub(super) namespace: Arc<str>,
    pub(super) levels: ChosenLevels,
    pub(super) is_authenticated: bool,
    pub(super) replies: Replies,
    /// Channels and patterns; `None` as long as there are none.
    pub(super) subscription: Option<Subscription>,
    /// What was put aside since `MULTI`.
    pub(super) transaction: Option<Transaction>,
    pub(super) watched: Watched,
    /// Whether nothing more is read.
    pub(super) is_closing: bool,
}

impl Session {
    /// That of a new connection.
    pub(super) fn new(shared: &Shared, peer: SocketAddr, local: SocketAddr) -> Self {
        Self {
            client: shared.clients.add(peer, local),
            protocol: Protocol::default(),
            database: 0,
            namespace: "".into(),
            levels: ChosenLevels::default(),
            is_authenticated: shared.settings.password.is_none(),
            replies: Replies::default(),
            subscription: None,
            transaction: None,
            watched: Watched::default(),
            is_closing: false,
        }
    }

    /// Makes another database the current one.
    pub(super) fn select(&mut self, database: u32) {
        self.database = database;
        self.namespace = namespace_of(database).into();
        self.client.edit(|details| details.database = database);
    }

    /// Begins anew, as `RESET` does.
    pub(super) fn reset(&mut self, shared: &Shared) {
        self.select(0);
        self.protocol = Protocol::default();
        self.levels = ChosenLevels::default();
        self.is_authenticated = shared.settings.password.is_none();
        self.replies = Replies::default();
        self.subscription = None;
        self.end_transaction();
        self.watched.take();
        self.client.edit(|details| details.name.clear());
    }

    /// What was put aside since `MULTI`, if that came.
    pub(super) fn end_transaction(&mut self) -> Option<Transaction> {
        if self.transaction.is_some() {
            self.client.edit(|details| details.queued = None);
        }
        self.transaction.take()
    }

    /// Lets a transaction, if there is one, come to nothing: a command was refused.
    pub(super) fn abort_transaction(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.is_aborted = true;
        }
    }

    /// What a command that is refused is answered: `EXEC` forgets what was put aside, any other one lets it come to nothing.
    pub(super) fn refuse(&mut self, command: &Command, failure: Failure) -> Failure {
        if command.name != "exec" {
            self.abort_transaction();
            return failure;
        }
        self.end_transaction();
        self.watched.take();
        let reason = failure.0.strip_prefix("ERR ").unwrap_or(&failure.0);
        Failure(format!("EXECABORT Transaction discarded because of: {reason}"))
    }

    /// Whether it takes commands about channels alone: a client of version 2 cannot tell messages from answers.
    pub(super) fn is_subscribed_only(&self) -> bool {
        self.protocol == Protocol::Resp2 && self.subscription.as_ref().is_some_and(|own| own.count() > 0)
    }
}

/// The namespace that stands for a database.
pub(super) fn namespace_of(database: u32) -> String {
    if database == 0 { String::new() } else { database.to_string() }
}
