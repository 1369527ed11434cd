//! How a request is begun: at once, as a task of the pipeline, or put aside for `EXEC`.

use bytes::Bytes;
use difuse_api::structures::{Command, Flag, Reply};
use futures::{FutureExt, future::BoxFuture};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{Connection, series::may_lead};
use crate::resp::{
    answer::Answer,
    call::Call,
    catalogue::{AtOnce, Entry, Run, keys_of},
    commands::{keyed, keys_in},
    failure::Failure,
    input::Arrived,
    pipeline::{Ticket, UsedKey},
    session::{Levels, Replies},
};

impl Connection {
    /// Begins one request; gives it back if it must wait for those before it.
    pub(super) fn begin(&mut self, arguments: Vec<Bytes>, reserved: Option<OwnedSemaphorePermit>) -> Option<Arrived> {
        let shared = self.shared.clone();
        let found = shared.catalogue.find_command(&arguments);
        let Some((index, entry)) = found else {
            if is_of_a_browser(&arguments) {
                self.session.is_closing = true;
                return None;
            }
            let ticket = self.ticket(None);
            self.session.abort_transaction();
            let error = shared.registry.unknown(&arguments);
            self.answer_at_once(ticket, Failure::from(error).into());
            return None;
        };
        if self.session.transaction.is_some() && !is_done_in_transactions(entry.command.name) {
            self.put_aside(index, entry, arguments);
            return None;
        }
        let keys = keys_of(&shared.registry, &entry.command, &arguments);
        let keys: Vec<UsedKey> = keys.into_iter().map(|key| (self.session.database, key.clone())).collect();
        let must_wait = match entry.run {
            Run::AtOnce(_) | Run::Told(..) => false,
            Run::InOrder(_) | Run::Alone(_) | Run::Waiting(_) | Run::Transaction(_) => !self.pipeline.is_empty(),
            Run::OnKey | Run::OnKeys(_) => self.pipeline.conflicts(&keys, entry.command.is_write()),
        };
        if must_wait {
            return Some((arguments, reserved));
        }
        let mut ticket = self.ticket(Some(index));
        if let Err(failure) = self.check(entry, arguments.len()) {
            let failure = self.session.refuse(&entry.command, failure);
            self.answer_at_once(ticket, failure.into());
            return None;
        }
        self.note_command(entry);
        match entry.run {
            Run::AtOnce(run) | Run::InOrder(run) => self.do_at_once(entry, run, ticket, &arguments),
            Run::Told(run, task) => match run(&mut self.session, &shared, &arguments) {
                Ok(_) => {
                    let task = self.with_levels(entry, arguments, task);
                    self.pipeline.push(ticket, task.map(|outcome| outcome.unwrap_or_else(Answer::from)));
                }
                Err(failure) => self.answer_at_once(ticket, failure.into()),
            },
            Run::OnKey if may_lead(&entry.command, &arguments) => {
                ticket.bytes = arguments.iter().map(Bytes::len).sum();
                (ticket.is_write, ticket.may_add) = (true, may_add(&entry.command));
                (ticket.keys, ticket.reserved, ticket.started) = (keys, reserved, Some(Instant::now()));
                self.begin_series(entry, ticket, arguments);
            }
            Run::OnKey | Run::OnKeys(_) | Run::Alone(_) | Run::Waiting(_) => {
                let task = match entry.run {
                    Run::OnKeys(task) | Run::Alone(task) | Run::Waiting(task) => task,
                    _ => keyed,
                };
                ticket.bytes = arguments.iter().map(Bytes::len).sum();
                ticket.is_waiting = matches!(entry.run, Run::Waiting(_));
                ticket.is_alone = ticket.is_waiting || matches!(entry.run, Run::Alone(_));
                (ticket.is_write, ticket.may_add) = (entry.command.is_write(), may_add(&entry.command));
                (ticket.keys, ticket.reserved) = (keys, reserved);
                // How long a client waits for others says nothing of the node.
                ticket.started = (!ticket.is_waiting).then(Instant::now);
                let task = self.with_levels(entry, arguments, task);
                self.pipeline.push(ticket, task.map(|outcome| outcome.unwrap_or_else(Answer::from)));
            }
            Run::Transaction(exec) => {
                let transaction = self.session.end_transaction();
                let database = self.session.database;
                ticket.keys = transaction.as_ref().map(|one| keys_in(&shared, database, one)).unwrap_or_default();
                (ticket.is_alone, ticket.may_add, ticket.started) = (true, true, Some(Instant::now()));
                let task = self.with_levels(entry, arguments, move |call| exec(call, transaction));
                self.pipeline.push(ticket, task.map(|outcome| outcome.unwrap_or_else(Answer::from)));
            }
        }
        None
    }

    /// For `CLIENT LIST`.
    pub(super) fn note_command(&self, entry: &Entry) {
        self.session.client.edit(|details| {
            details.last_command = entry.command.name;
            details.last_active = std::time::Instant::now();
        });
    }

    fn do_at_once(&mut self, entry: &Entry, run: AtOnce, mut ticket: Ticket, arguments: &[Bytes]) {
        let (shared, before) = (self.shared.clone(), self.session.replies);
        if matches!(entry.run, Run::InOrder(_)) {
            // What was published before comes before, and nothing of a channel after its end.
            self.push_ready_messages();
        }
        let answer = run(&mut self.session, &shared, arguments).unwrap_or_else(Answer::from);
        if entry.command.name == "publish" {
            // What a client publishes to itself comes before the answer, as in Redis.
            self.push_ready_messages();
        }
        // `HELLO` is answered in the protocol that it chooses.
        ticket.protocol = self.session.protocol;
        if self.session.replies != before {
            ticket.is_silent = self.session.replies != Replies::On;
        }
        self.answer_at_once(ticket, answer);
    }

    /// Keeps a command for `EXEC`.
    fn put_aside(&mut self, index: usize, entry: &Entry, arguments: Vec<Bytes>) {
        let ticket = self.ticket(Some(index));
        let added = self.check(entry, arguments.len()).and_then(|()| match &mut self.session.transaction {
            Some(transaction) => {
                let added = transaction.add(entry, &self.shared, arguments);
                let queued = transaction.queued.len();
                self.session.client.edit(|details| details.queued = Some(queued));
                added
            }
            None => Ok(()),
        });
        let answer = match added {
            Ok(()) => Reply::Status("QUEUED".into()).into(),
            Err(failure) => {
                self.session.abort_transaction();
                failure.into()
            }
        };
        self.answer_at_once(ticket, answer);
    }

    pub(super) fn ticket(&mut self, command: Option<usize>) -> Ticket {
        let is_silent = self.session.replies != Replies::On;
        if self.session.replies == Replies::SkipNext {
            self.session.replies = Replies::On;
        }
        Ticket { command, is_silent, protocol: self.session.protocol, ..Ticket::default() }
    }

    /// The task of a command, once its levels are known: as a rule they are.
    pub(super) fn with_levels<T: 'static>(
        &self,
        entry: &Entry,
        arguments: Vec<Bytes>,
        task: impl FnOnce(Call) -> BoxFuture<'static, Result<T, Failure>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, Failure>> {
        let (chosen, shared) = (self.session.levels, &self.shared);
        let known = || shared.levels.known(&self.session.namespace).map(|default| chosen.or(&default));
        if let Some(levels) = chosen.both().or_else(known) {
            return task(self.call(entry, arguments, levels));
        }
        let mut call = self.call(entry, arguments, chosen.or(shared.levels.otherwise()));
        let wait = async move {
            let default = call.shared.levels.of(call.datastore(), &call.namespace).await?;
            call.levels = chosen.or(&default);
            task(call).await
        };
        wait.boxed()
    }

    fn call(&self, entry: &Entry, arguments: Vec<Bytes>, levels: Levels) -> Call {
        Call {
            shared: self.shared.clone(),
            database: self.session.database,
            namespace: self.session.namespace.clone(),
            levels,
            watched: self.session.watched.clone(),
            client: self.session.client.clone(),
            is_in_transaction: self.session.transaction.is_some(),
            arguments,
            command: entry.command,
        }
    }

    /// Whether the connection may send this command, with so many arguments, now.
    pub(super) fn check(&self, entry: &Entry, count: usize) -> Result<(), Failure> {
        let command = &entry.command;
        if !self.session.is_authenticated && !command.flags.contains(&Flag::NoAuth) {
            return Err(Failure("NOAUTH Authentication required.".into()));
        }
        if !command.takes(count) {
            return Err(Failure::arity(command.name));
        }
        let is_about_channels =
            command.name.ends_with("subscribe") || matches!(command.name, "ping" | "quit" | "reset");
        if self.session.is_subscribed_only() && !is_about_channels {
            return Err(Failure::new(format_args!(
                "Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
                 context",
                command.name
            )));
        }
        Ok(())
    }

    /// Answers a request that was done at once, when those before it are answered.
    pub(super) fn answer_at_once(&mut self, ticket: Ticket, answer: Answer) {
        if self.pipeline.is_empty() {
            self.write_answer(&ticket, answer);
        } else {
            self.pipeline.push(ticket, std::future::ready(answer));
        }
    }
}

/// Whether somebody who waits for items may find some after this command.
pub(super) fn may_add(command: &Command) -> bool {
    command.flags.contains(&Flag::DenyOom) || matches!(command.name, "rename" | "renamenx")
}

/// Whether a command is done between `MULTI` and `EXEC`, and not put aside.
fn is_done_in_transactions(name: &str) -> bool {
    matches!(name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

/// Whether a web page makes a browser talk to this port: then nothing of what it sends is done, as in Redis.
fn is_of_a_browser(arguments: &[Bytes]) -> bool {
    arguments.first().is_some_and(|name| name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:"))
}
