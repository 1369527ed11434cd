//! The loop that owns the peer.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use difuse_api::request::{Reply, RequestError};
use difuse_keylog::{StoreError, WriteSequence};
use difuse_net::{Event, Net, Role};
use difuse_protocol::{
    Input, Output, Peer, RequestId,
    message::{Message, Outcome},
};
use difuse_storage::{BlockStore, KeyStore};
use difuse_types::{Instant, NodeId, WallTime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    StopReason,
    disk::{Disk, Done},
    handle::{Call, Shared},
    memory,
    outbox::Outbox,
};

/// The most events of one kind that join a batch.
const BATCH_MAX: usize = 512;

/// The most frames with blocks that join a batch.
const BULK_BATCH_MAX: usize = 16;

/// Something that happened besides messages and calls.
pub(crate) enum Wake {
    /// The store has made everything up to here durable.
    Durable(WriteSequence),
    /// The store cannot go on, or is full.
    Failed(StoreError),
    /// The node is not wanted where it was told to join.
    Refused(String),
}

/// The node's clocks.
pub(crate) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { start: std::time::Instant::now() }
    }

    fn now(&self) -> Instant {
        Instant::default() + self.start.elapsed()
    }

    fn wall(&self) -> WallTime {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn until(&self, at: Instant) -> Duration {
        at.since(self.now())
    }
}

/// Where an answer goes.
enum Waiter {
    Call(oneshot::Sender<Result<Reply, RequestError>>),
    Client { node: NodeId, id: u64 },
}

pub(crate) struct Runtime {
    peer: Peer<KeyStore>,
    disk: Disk,
    net: Net,
    shared: Arc<Shared>,
    clock: Clock,
    outbox: Outbox,
    waiters: HashMap<RequestId, Waiter>,
    last_request: RequestId,
    inputs: Vec<Input>,
    done: mpsc::UnboundedReceiver<Done>,
    readiness: watch::Sender<Vec<String>>,
    /// Keeps the channel of wakes open.
    _wakes: mpsc::UnboundedSender<Wake>,
}

impl Runtime {
    /// Fails when the system gives it no threads.
    pub(crate) fn new(
        peer: Peer<KeyStore>,
        blocks: BlockStore,
        net: Net,
        shared: Arc<Shared>,
        wakes: mpsc::UnboundedSender<Wake>,
        clock: Clock,
        readiness: watch::Sender<Vec<String>>,
    ) -> io::Result<Self> {
        let (done_sender, done) = mpsc::unbounded_channel();
        let disk = Disk::new(blocks, peer.settings().slots, done_sender)?;
        Ok(Self {
            peer,
            disk,
            net,
            shared,
            clock,
            outbox: Outbox::default(),
            waiters: HashMap::new(),
            last_request: 0,
            inputs: Vec::new(),
            done,
            readiness,
            _wakes: wakes,
        })
    }

    /// Runs until stopped, or until the store cannot go on.
    pub(crate) async fn run(
        mut self,
        mut control: mpsc::Receiver<Event>,
        mut bulk: mpsc::Receiver<Event>,
        mut calls: mpsc::Receiver<Call>,
        mut wakes: mpsc::UnboundedReceiver<Wake>,
        stop: CancellationToken,
        stopped: watch::Sender<Option<StopReason>>,
    ) {
        let reason = loop {
            let patience = self.clock.until(self.peer.next_wakeup());
            let mut failure = None;
            tokio::select! {
                biased;
                () = stop.cancelled() => break None,
                Some(wake) = wakes.recv() => failure = self.note_wake(wake),
                Some(event) = control.recv() => self.note_event(event),
                Some(done) = self.done.recv() => self.note_done(done),
                Some(call) = calls.recv() => self.note_call(call),
                Some(event) = bulk.recv() => self.note_event(event),
                () = tokio::time::sleep(patience) => {}
            }
            // What has woken this task is seldom alone: everything else that is ready runs first, and whatever happens
            // meanwhile belongs to the same batch, which shares its frames and its flush.
            tokio::task::yield_now().await;
            for _ in 0..BATCH_MAX {
                let Ok(wake) = wakes.try_recv() else { break };
                failure = failure.or(self.note_wake(wake));
            }
            for _ in 0..BATCH_MAX {
                let Ok(event) = control.try_recv() else { break };
                self.note_event(event);
            }
            for _ in 0..BATCH_MAX {
                let Ok(done) = self.done.try_recv() else { break };
                self.note_done(done);
            }
            for _ in 0..BULK_BATCH_MAX {
                let Ok(event) = bulk.try_recv() else { break };
                self.note_event(event);
            }
            for _ in 0..BATCH_MAX {
                let Ok(call) = calls.try_recv() else { break };
                self.note_call(call);
            }
            if failure.is_some() {
                break failure;
            }
            if let Err(error) = self.handle_batch() {
                break Some(StopReason::Failed(error.to_string()));
            }
        };
        self.end(reason, stopped).await;
    }

    fn note_wake(&mut self, wake: Wake) -> Option<StopReason> {
        match wake {
            Wake::Durable(sequence) => {
                self.inputs.push(Input::Durable(sequence));
                None
            }
            // What was accepted waits for room; reads go on.
            Wake::Failed(StoreError::Full(what)) => {
                tracing::error!(what, "the disk is full: writes wait until there is room");
                None
            }
            Wake::Failed(error) => Some(StopReason::Failed(error.to_string())),
            Wake::Refused(reason) => Some(StopReason::Refused(reason)),
        }
    }

    fn note_done(&mut self, done: Done) {
        let input = self.disk.finish(done);
        self.inputs.push(input);
    }

    fn note_call(&mut self, (request, answer): Call) {
        let id = self.new_request(Waiter::Call(answer));
        self.inputs.push(Input::Request { id, request });
    }

    fn new_request(&mut self, waiter: Waiter) -> RequestId {
        self.last_request += 1;
        self.waiters.insert(self.last_request, waiter);
        self.last_request
    }

    /// Another node is connected.
    pub(crate) fn note_connected(&mut self, node: NodeId) {
        self.shared.notices.note_connected(node);
        self.inputs.push(Input::Connected(node));
    }

    fn note_event(&mut self, event: Event) {
        match event {
            Event::Connected { node, role: Role::Peer, .. } => self.note_connected(node),
            Event::Connected { .. } => {}
            Event::Disconnected { node } => {
                self.shared.notices.note_disconnected(node);
                self.waiters
                    .retain(|_, waiter| !matches!(waiter, Waiter::Client { node: client, .. } if *client == node));
                self.inputs.push(Input::Disconnected(node));
            }
            Event::Frame { from, role, frame, .. } => {
                self.shared.figures.frames_received.fetch_add(1, Ordering::Relaxed);
                match difuse_wire::decode(&frame) {
                    Ok(messages) => self.note_messages(from, role, messages),
                    Err(error) => {
                        tracing::warn!(%from, %error, "received a frame that cannot be read; closing the connection");
                        self.net.disconnect(from);
                    }
                }
            }
        }
    }

    fn note_messages(&mut self, from: NodeId, role: Role, messages: Vec<Message>) {
        for message in messages {
            match (role, message) {
                // A client's request is coordinated here like a call of this process.
                (_, Message::Request { id, direct: false, request }) => {
                    let id = self.new_request(Waiter::Client { node: from, id });
                    self.inputs.push(Input::Request { id, request });
                }
                (Role::Peer, Message::Notice(notice)) => self.shared.take_notice(from, notice),
                (Role::Peer, message) => self.inputs.push(Input::Message { from, message }),
                (Role::Client, _) => tracing::warn!(%from, "a client sent a message that only nodes send"),
            }
        }
    }

    fn handle_batch(&mut self) -> Result<(), StoreError> {
        let reached = self.shared.quotas_reached.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.inputs.extend(reached.map(Input::QuotasReached));
        let figures = &self.shared.figures;
        figures.batches.fetch_add(1, Ordering::Relaxed);
        figures.inputs.fetch_add(self.inputs.len() as u64, Ordering::Relaxed);
        let outputs = self.peer.handle(self.clock.now(), self.clock.wall(), self.inputs.drain(..))?;
        // Few batches are as long as the longest one.
        self.inputs.shrink_to(BATCH_MAX);
        *figures.scrub.lock().unwrap_or_else(PoisonError::into_inner) = self.peer.scrub_totals();
        let mut hosts_changed = false;
        for output in outputs {
            match output {
                Output::Send { to, message } => self.send(to, message),
                Output::Reply { id, result } => self.answer(id, result),
                Output::Block { ticket, command } => self.disk.start(ticket, command),
                Output::Dial { node, address } => {
                    if node != self.peer.id() {
                        self.net.set_address(node, &address);
                    }
                }
                Output::Forget(node) => self.net.forget(node),
                Output::HostsChanged => hosts_changed = true,
                Output::Joined => tracing::info!("this node is a member of the ring"),
                Output::Warn(text) => tracing::warn!("{text}"),
            }
        }
        if hosts_changed {
            let hosts = memory::encode_hosts(&self.peer.settings(), &self.peer.hosts());
            self.peer.remember(memory::HOSTS, hosts)?;
        }
        self.outbox.flush(&self.net);
        let reasons = self.peer.reasons_not_ready();
        self.readiness.send_if_modified(|known| {
            let is_news = *known != reasons;
            *known = reasons;
            is_news
        });
        Ok(())
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.shared.figures.messages_sent.fetch_add(1, Ordering::Relaxed);
        self.outbox.push(to, message);
    }

    fn answer(&mut self, id: RequestId, result: Result<Reply, RequestError>) {
        match self.waiters.remove(&id) {
            // Whoever asked may have given up.
            Some(Waiter::Call(answer)) => drop(answer.send(result)),
            Some(Waiter::Client { node, id }) => {
                let outcome = result.map_or_else(Outcome::Error, Outcome::Reply);
                self.send(node, Message::Response { id, outcome });
            }
            None => {}
        }
    }

    async fn end(mut self, reason: Option<StopReason>, stopped: watch::Sender<Option<StopReason>>) {
        let text = reason.as_ref().map_or_else(|| "the node has stopped".into(), ToString::to_string);
        if let Some(reason) = &reason {
            tracing::error!(%reason, "the node cannot go on and stops serving");
        }
        self.readiness.send_replace(vec![text.clone()]);
        for (_, waiter) in self.waiters.drain() {
            if let Waiter::Call(answer) = waiter {
                let _ = answer.send(Err(RequestError::NotServing(text.clone())));
            }
        }
        self.net.shutdown().await;
        let (peer, disk) = (self.peer, self.disk);
        // Closing flushes: off the runtime's threads.
        let _ = tokio::task::spawn_blocking(move || drop((peer, disk))).await;
        if reason.is_some() {
            stopped.send_replace(reason);
        }
    }
}
