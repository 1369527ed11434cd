//! One connection: bytes in, commands begun, answers out, in order.

use std::{io, net::SocketAddr, sync::Arc, sync::atomic::Ordering, time::Duration};

use bytes::BytesMut;
use difuse_api::structures::Reply;
use futures::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
    sync::{Notify, OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Shared,
    answer::Answer,
    hub::{Message, Subscription},
    input::{Arrived, Input},
    pipeline::{Pipeline, Ticket},
    request::ProtocolError,
    session::Session,
};

mod begin;
mod series;
mod write;

/// While more than this waits to be written, in bytes, nothing is read and no answer is fetched.
const OUTPUT_BYTES_MAX: usize = 256 << 10;
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
    /// What is wrong with what follows.
    broken: Option<ProtocolError>,
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
        Self { stream, session, input, output, pipeline, waiting: None, broken: None, is_held: false, shared }
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
            let next = match (self.waiting.take(), self.broken.take()) {
                (Some(waiting), broken) => {
                    self.broken = broken;
                    Ok(Some(waiting))
                }
                (None, Some(error)) => Err(error),
                (None, None) => {
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

    /// Ends the connection with an error, after the answers to what came before.
    fn refuse(&mut self, text: &str) {
        self.session.is_closing = true;
        self.waiting = None;
        let ticket = Ticket { protocol: self.session.protocol, ..Ticket::default() };
        self.answer_at_once(ticket, Answer::Reply(Reply::Error(text.into())));
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
