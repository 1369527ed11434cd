//! The listener's side of setting up a link.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::{
    Class,
    connect::{dismiss, has_room, within_time},
    driver::Line,
    handshake::{self, Greeting, HandshakeError},
    link::{self, Established},
    message::{self, Message, Session},
    peers::Direction,
    shared::{Shared, lock},
};

/// Handles a stream that a remote opened, until it is part of a link or refused.
pub(crate) async fn accept(shared: Arc<Shared>, class: Class, line: Line) {
    let stop = shared.stop.clone();
    let accepted = async {
        match class {
            Class::Control => accept_control(&shared, line).await,
            Class::Bulk => accept_bulk(&shared, line).await,
        }
    };
    stop.run_until_cancelled(accepted).await;
}

async fn accept_control(shared: &Arc<Shared>, mut control: Line) {
    match within_time(greet(shared, &mut control)).await {
        Ok((greeting, bulk)) => {
            let established = Established { direction: Direction::Accepted, greeting, control, bulk };
            link::start(shared, established).await;
        }
        Err(error) => turn_away(control, error).await,
    }
}

async fn greet(shared: &Arc<Shared>, control: &mut Line) -> Result<(Greeting, Line), HandshakeError> {
    let response = handshake::respond(&mut control.stream, &shared.party(), control.node).await?;
    if !has_room(shared, control.node, response.greeting.role) {
        return Err(HandshakeError::Full);
    }
    // Wait for the bulk connection before the dialler may open it.
    let waiting = Waiting::new(shared.clone(), response.greeting.session, control);
    response.finish(&mut control.stream).await?;
    Ok((response.greeting, waiting.bulk().await?))
}

async fn accept_bulk(shared: &Shared, mut bulk: Line) {
    match within_time(find_link(shared, &mut bulk)).await {
        // The link's task may have given up in this moment; then the line is dropped, which closes it.
        Ok(link) => drop(link.send(bulk)),
        Err(error) => turn_away(bulk, error).await,
    }
}

async fn find_link(shared: &Shared, bulk: &mut Line) -> Result<oneshot::Sender<Line>, HandshakeError> {
    let session = handshake::read_attach(&mut bulk.stream).await?;
    let link = take_waiting(shared, session, bulk).ok_or(HandshakeError::UnknownSession)?;
    message::write(&mut bulk.stream, &Message::Attached).await?;
    Ok(link)
}

/// Only the node that set up a link may add to it.
fn take_waiting(shared: &Shared, session: Session, bulk: &Line) -> Option<oneshot::Sender<Line>> {
    let mut waiting = lock(&shared.waiting);
    waiting.get(&session).filter(|(node, _)| *node == bulk.node)?;
    waiting.remove(&session).map(|(_, link)| link)
}

async fn turn_away(line: Line, error: HandshakeError) {
    let (node, address) = (line.node, line.address);
    let error = dismiss(line, error).await;
    match error {
        HandshakeError::Io(_) | HandshakeError::TimedOut | HandshakeError::UnknownSession => {
            tracing::debug!(%node, %address, %error, "a handshake was not finished");
        }
        _ => tracing::warn!(%node, %address, %error, "refused a connection"),
    }
}

/// A link that waits for its bulk connection; forgotten when dropped.
struct Waiting {
    shared: Arc<Shared>,
    session: Session,
    line: oneshot::Receiver<Line>,
}

impl Waiting {
    fn new(shared: Arc<Shared>, session: Session, control: &Line) -> Self {
        let (sender, line) = oneshot::channel();
        lock(&shared.waiting).insert(session, (control.node, sender));
        Self { shared, session, line }
    }

    async fn bulk(mut self) -> Result<Line, HandshakeError> {
        (&mut self.line).await.map_err(|_| HandshakeError::TimedOut)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        lock(&self.shared.waiting).remove(&self.session);
    }
}
