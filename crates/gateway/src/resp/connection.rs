//! One connection: bytes in, commands begun, answers out, in order.

use std::{io, net::SocketAddr, sync::Arc, sync::atomic::Ordering, time::Duration};

use bytes::{Buf, Bytes, BytesMut};
use difuse_api::{
    structures::{Command, Flag, Reply},
    values,
};
use difuse_types::Key;
use futures::{FutureExt, TryStreamExt, future::BoxFuture};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    sync::{Notify, OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Shared,
    answer::{Answer, Content, Part},
    call::Call,
    catalogue::{AtOnce, Entry, Run, keys_of},
    commands::{keys_in, tell_of},
    encode::{self, Protocol, encode as encode_reply, encode_push},
    failure::{Failure, Outcome},
    hub::{Message, Subscription},
    input::{Arrived, Input},
    pipeline::{Pipeline, Ticket, UsedKey},
    session::{Levels, Replies, Session, namespace_of},
};

/// While more than this waits to be written, in bytes, nothing is read and no answer is fetched.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
/// How long a client may take to read a part of a long string.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// How much is read, in bytes, while a command waits for other clients.
const READ_AHEAD_BYTES: usize = 16 << 10;
/// How long what a client still sends is thrown away after the last answer.
const LINGER: Duration = Duration::from_millis(500);

/// One connection.
pub(super) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    session: Session,
    input: Input,
    output: BytesMut,
    pipeline: Pipeline,
    /// A request that waits for those before it.
    waiting: Option<Arrived>,
    /// Whether requests may have arrived that were not begun because too much was under way.
    is_held: bool,
}

/// Why a connection goes on.
enum Event {
    Answer(Option<(Ticket, Answer)>),
    Message(Message),
    Overflown,
    Ready(io::Result<tokio::io::Ready>),
    Room(Option<OwnedSemaphorePermit>),
    OutOfPatience,
    Killed,
    Stopped,
}

impl Connection {
    /// A connection that was accepted.
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>, peer: SocketAddr, local: SocketAddr) -> Self {
        let session = Session::new(&shared, peer, local);
        let input = Input::new(shared.long_requests.clone());
        shared.metrics.connected();
        let (output, pipeline) = (BytesMut::new(), Pipeline::default());
        Self { stream, session, input, output, pipeline, waiting: None, is_held: false, shared }
    }

    /// Serves it until it ends, or the server stops. Errors are those of the socket, and say nothing more than that the
    /// other side is gone.
    pub(super) async fn serve(mut self, mut stopped: watch::Receiver<()>) -> io::Result<()> {
        loop {
            self.begin_requests();
            let has_collected = self.collect_answers().await?;
            self.flush()?;
            if self.can_go_on(has_collected) {
                continue;
            }
            if self.is_finished() {
                return self.part().await;
            }
            if self.pipeline.is_waiting() && (self.input.is_at_end || self.session.is_closing) {
                // Nothing is taken for a client that has gone.
                return Ok(());
            }
            let event = self.next_event(&mut stopped).await;
            self.handle(event).await?;
            if self.session.is_closing && self.input.reader.held() > 0 {
                self.input.reader = Default::default();
            }
        }
    }

    /// Ends the connection so that the other side gets the last answer, even if it is still sending: what arrives is
    /// thrown away for a moment.
    async fn part(mut self) -> io::Result<()> {
        self.session.subscription = None;
        self.stream.shutdown().await?;
        let mut rest = [0; 1024];
        let drain = async { while self.stream.read(&mut rest).await.is_ok_and(|count| count > 0) {} };
        // A client that goes on sending is not waited for.
        let _ = timeout(LINGER, drain).await;
        Ok(())
    }

    async fn next_event(&mut self, stopped: &mut watch::Receiver<()>) -> Event {
        let is_slow = self.output.len() > OUTPUT_BYTES_MAX;
        let wants_more = self.wants_more();
        let has_room = self.input.has_room();
        let deadline = self.input.deadline().filter(|_| wants_more);
        let interest = match (wants_more && has_room, self.output.is_empty()) {
            (true, true) => Some(Interest::READABLE),
            (true, false) => Some(Interest::READABLE | Interest::WRITABLE),
            (false, false) => Some(Interest::WRITABLE),
            (false, true) => None,
        };
        // That messages are lost is seen while the client does not read: that is when it happens.
        let overflown = self.session.subscription.as_ref().map(Subscription::overflown);
        let subscription = self.session.subscription.as_mut().filter(|_| !is_slow);
        tokio::select! {
            biased;
            () = self.session.client.killed.notified() => Event::Killed,
            answer = self.pipeline.next(), if !self.pipeline.is_empty() && !is_slow => Event::Answer(answer),
            () = told(overflown) => Event::Overflown,
            Some(message) = next_message(subscription) => Event::Message(message),
            ready = self.stream.ready(interest.unwrap_or(Interest::READABLE)), if interest.is_some() => {
                Event::Ready(ready)
            }
            room = self.input.wait_for_room(), if wants_more && !has_room => Event::Room(room),
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => Event::OutOfPatience,
            _ = stopped.changed(), if !self.session.is_closing => Event::Stopped,
        }
    }

    async fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Answer(Some((ticket, answer))) => self.finish(ticket, answer).await?,
            Event::Answer(None) => {}
            Event::Message(message) => self.push_message(&message),
            Event::Overflown => {
                self.shared.metrics.slow_subscribers.inc();
                return Err(io::Error::other("the subscriber did not read what was published"));
            }
            Event::Ready(ready) => {
                if ready?.is_readable() && self.wants_more() && self.input.has_room() {
                    let count = self.input.read(&self.stream)?;
                    self.shared.metrics.since_reset().bytes_in.fetch_add(count as u64, Ordering::Relaxed);
                }
            }
            Event::Room(more) => more.into_iter().for_each(|more| self.input.keep(more)),
            Event::OutOfPatience => {
                self.refuse("TRYAGAIN the request did not go on, or the node has no memory left for it now");
            }
            Event::Killed => return Err(io::Error::other("killed by another client")),
            Event::Stopped => self.session.is_closing = true,
        }
        Ok(())
    }

    /// Whether more is read: everything that was read before is begun, and the client reads its answers.
    fn wants_more(&self) -> bool {
        let is_open = !self.session.is_closing && !self.input.is_at_end;
        if self.pipeline.is_waiting() {
            // So that it is seen when the client goes.
            return is_open && self.input.reader.held() < READ_AHEAD_BYTES;
        }
        is_open && self.waiting.is_none() && !self.pipeline.is_full() && self.output.len() <= OUTPUT_BYTES_MAX
    }

    /// Whether requests that have arrived can be begun that could not before.
    fn can_go_on(&self, has_collected: bool) -> bool {
        let is_held_no_more = self.is_held && self.may_begin();
        is_held_no_more || (has_collected && self.waiting.is_some() && self.may_begin())
    }

    fn may_begin(&self) -> bool {
        !self.pipeline.is_full() && !self.session.is_closing && self.output.len() <= OUTPUT_BYTES_MAX
    }

    fn is_finished(&self) -> bool {
        let ends = self.session.is_closing || (self.input.is_at_end && self.waiting.is_none());
        ends && self.pipeline.is_empty() && self.output.is_empty()
    }

    /// Begins whatever can be begun.
    fn begin_requests(&mut self) {
        self.is_held = false;
        while self.may_begin() {
            let next = match self.waiting.take() {
                Some(waiting) => Ok(Some(waiting)),
                None => {
                    self.input.reader.is_known = self.session.is_authenticated;
                    self.input.next_request()
                }
            };
            match next {
                Ok(None) => return,
                Ok(Some((arguments, reserved))) => {
                    if let Some(waiting) = self.begin(arguments, reserved) {
                        self.waiting = Some(waiting);
                        return;
                    }
                }
                Err(error) => {
                    self.shared.metrics.protocol_errors.inc();
                    return self.refuse(&format!("ERR {error}"));
                }
            }
        }
        self.is_held = true;
    }

    /// Begins one request; gives it back if it must wait for those before it.
    fn begin(&mut self, arguments: Vec<Bytes>, reserved: Option<OwnedSemaphorePermit>) -> Option<Arrived> {
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
            Run::OnKeys(_) => self.pipeline.conflicts(&keys, entry.command.is_write()),
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
        self.session.client.edit(|details| {
            details.last_command = entry.command.name;
            details.last_active = std::time::Instant::now();
        });
        match entry.run {
            Run::AtOnce(run) | Run::InOrder(run) => self.do_at_once(entry, run, ticket, &arguments),
            Run::Told(run, task) => match run(&mut self.session, &shared, &arguments) {
                Ok(_) => {
                    let task = self.with_levels(entry, arguments, task);
                    self.pipeline.push(ticket, task.map(|outcome| outcome.unwrap_or_else(Answer::from)));
                }
                Err(failure) => self.answer_at_once(ticket, failure.into()),
            },
            Run::OnKeys(task) | Run::Alone(task) | Run::Waiting(task) => {
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

    fn ticket(&mut self, command: Option<usize>) -> Ticket {
        let is_silent = self.session.replies != Replies::On;
        if self.session.replies == Replies::SkipNext {
            self.session.replies = Replies::On;
        }
        Ticket { command, is_silent, protocol: self.session.protocol, ..Ticket::default() }
    }

    /// The task of a command, once its levels are known: as a rule they are.
    fn with_levels(
        &self,
        entry: &Entry,
        arguments: Vec<Bytes>,
        task: impl FnOnce(Call) -> BoxFuture<'static, Outcome> + Send + 'static,
    ) -> BoxFuture<'static, Outcome> {
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
    fn check(&self, entry: &Entry, count: usize) -> Result<(), Failure> {
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
    fn answer_at_once(&mut self, ticket: Ticket, answer: Answer) {
        if self.pipeline.is_empty() {
            self.write_answer(&ticket, answer);
        } else {
            self.pipeline.push(ticket, std::future::ready(answer));
        }
    }

    /// Takes the answers that are there already; whether there were any.
    async fn collect_answers(&mut self) -> io::Result<bool> {
        let mut has_collected = false;
        while self.output.len() <= OUTPUT_BYTES_MAX {
            let Some(Some((ticket, answer))) = self.pipeline.next().now_or_never() else { break };
            self.finish(ticket, answer).await?;
            has_collected = true;
        }
        Ok(has_collected)
    }

    async fn finish(&mut self, ticket: Ticket, answer: Answer) -> io::Result<()> {
        if let Some(started) = ticket.started {
            self.shared.metrics.observe(started.elapsed());
        }
        if ticket.may_add && self.shared.waiting.is_any() && !answer.is_error() {
            self.tell_those_who_wait(&ticket);
        }
        match answer {
            Answer::Content(content) if !ticket.is_silent => {
                self.shared.metrics.count(ticket.command, false);
                Box::pin(self.write_content(content, ticket.protocol)).await
            }
            Answer::Parts(parts) => {
                let reply = Reply::Array(parts.into_iter().map(|part| self.finish_part(part)).collect());
                self.write_answer(&ticket, reply.into());
                Ok(())
            }
            answer => {
                self.write_answer(&ticket, answer);
                Ok(())
            }
        }
    }

    /// Items may have been added to keys.
    fn tell_those_who_wait(&self, ticket: &Ticket) {
        for (database, name) in &ticket.keys {
            if let Ok(key) = Key::in_namespace(&namespace_of(*database), name) {
                tell_of(&self.shared, &key);
            }
        }
    }

    /// The reply to a command of a transaction, of which the step is done.
    fn finish_part(&mut self, part: Part) -> Reply {
        let answer = match part {
            Part::Reply(reply) => return reply,
            Part::AtOnce(run, arguments) => {
                let shared = self.shared.clone();
                run(&mut self.session, &shared, &arguments).unwrap_or_else(Answer::from)
            }
            Part::Missing => Failure::contended().into(),
        };
        match answer {
            Answer::Reply(reply) => reply,
            _ => Reply::Error(Failure::contended().0),
        }
    }

    fn write_answer(&mut self, ticket: &Ticket, answer: Answer) {
        self.shared.metrics.count(ticket.command, answer.is_error());
        if ticket.is_silent {
            return;
        }
        match answer {
            Answer::Reply(reply) => encode_reply(&mut self.output, &reply, ticket.protocol),
            Answer::Pushes(pushes) => {
                pushes.iter().for_each(|items| encode_push(&mut self.output, items, ticket.protocol));
            }
            // Long strings are written by `write_content`, and transactions are one reply by now.
            Answer::Content(_) | Answer::Parts(_) => {}
        }
    }

    /// Writes a long string as it is read. When a block fails after the first one, the connection ends: what was
    /// promised cannot be kept.
    async fn write_content(&mut self, content: Content, protocol: Protocol) -> io::Result<()> {
        let Content { value, range, level } = content;
        let _turn = self.shared.transfers.clone().acquire_owned().await;
        let size = range.end - range.start;
        let first = match values::stream(self.shared.datastore.clone(), &value, Some(range), level) {
            Ok(mut parts) => parts.try_next().await.map(|first| (first, parts)),
            Err(error) => Err(error),
        };
        let (mut next, mut parts) = match first {
            Ok(begun) => begun,
            Err(error) => {
                let reply = Reply::Error(Failure::from(error).0);
                encode_reply(&mut self.output, &reply, protocol);
                return Ok(());
            }
        };
        encode::begin_bulk(&mut self.output, size);
        self.write_all_of_output().await?;
        while let Some(part) = next {
            timeout(WRITE_TIMEOUT, self.stream.write_all(&part)).await??;
            next = parts.try_next().await.map_err(io::Error::other)?;
        }
        self.output.extend_from_slice(encode::END);
        Ok(())
    }

    async fn write_all_of_output(&mut self) -> io::Result<()> {
        timeout(WRITE_TIMEOUT, self.stream.write_all(&self.output)).await??;
        self.output.clear();
        Ok(())
    }

    fn push_ready_messages(&mut self) {
        while let Some(message) = self.session.subscription.as_mut().and_then(Subscription::ready_message) {
            self.push_message(&message);
        }
    }

    fn push_message(&mut self, message: &Message) {
        let Message { pattern, channel, message } = message;
        let bulk = |bytes: &Bytes| Reply::Bulk(bytes.clone());
        let items = match pattern {
            Some(pattern) => vec![Reply::bulk("pmessage"), bulk(pattern), bulk(channel), bulk(message)],
            None => vec![Reply::bulk("message"), bulk(channel), bulk(message)],
        };
        encode_push(&mut self.output, &items, self.session.protocol);
    }

    /// Ends the connection with an error, after the answers to what came before.
    fn refuse(&mut self, text: &str) {
        self.session.is_closing = true;
        self.waiting = None;
        let ticket = Ticket { protocol: self.session.protocol, ..Ticket::default() };
        self.answer_at_once(ticket, Answer::Reply(Reply::Error(text.into())));
    }

    /// Writes what the socket takes.
    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.try_write(&self.output) {
                Ok(count) => {
                    self.output.advance(count);
                    self.shared.metrics.since_reset().bytes_out.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        if self.pipeline.is_empty() {
            // An idle connection keeps no buffers.
            self.output = BytesMut::new();
            self.input.release_if_idle();
        }
        Ok(())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.clients.remove(self.session.client.id);
        self.shared.metrics.disconnected();
    }
}

async fn next_message(subscription: Option<&mut Subscription>) -> Option<Message> {
    match subscription {
        Some(subscription) => subscription.next_message().await,
        None => std::future::pending().await,
    }
}

async fn told(of: Option<Arc<Notify>>) {
    match of {
        Some(notify) => notify.notified().await,
        None => std::future::pending().await,
    }
}

/// Whether somebody who waits for items may find some after this command.
fn may_add(command: &Command) -> bool {
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
