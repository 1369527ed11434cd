//! A complete link: two lines, four tasks, from the first report to the last.

use std::{sync::Arc, time::Duration};

use difuse_types::NodeId;
use futures::{AsyncReadExt, io::ReadHalf};
use libp2p::Stream;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Class, Event, Role,
    driver::{Closer, Line},
    frames::{FrameReader, write_frames},
    handshake::Greeting,
    peers::{Direction, Inserted, LinkHandle},
    queue::{QueueReader, queue},
    shared::{Shared, lock},
};

/// Bytes read at a time. A frame that is kept keeps as much.
const CONTROL_CHUNK_BYTES: usize = 64 * 1024;
const BULK_CHUNK_BYTES: usize = 1024 * 1024;

/// A link that was replaced stays for this time.
const REPLACED_TIME_MAX: Duration = Duration::from_secs(2);

/// A link whose handshakes are over.
pub(crate) struct Established {
    pub direction: Direction,
    pub greeting: Greeting,
    pub control: Line,
    pub bulk: Line,
}

/// Enters the link in the table of peers and lets it run in tasks of its own. Returns when frames can be sent.
pub(crate) async fn start(shared: &Arc<Shared>, established: Established) {
    let (entered, ready) = oneshot::channel();
    shared.tasks.spawn(run(shared.clone(), established, entered));
    // An error means that we are shutting down.
    let _ = ready.await;
}

async fn run(shared: Arc<Shared>, established: Established, entered: oneshot::Sender<()>) {
    let stop = shared.stop.clone();
    // Whatever is waited for in there, shutting down ends it; nobody is told then.
    stop.run_until_cancelled(run_until_it_ends(&shared, established, entered)).await;
}

async fn run_until_it_ends(shared: &Shared, established: Established, entered: oneshot::Sender<()>) {
    let Established { direction, greeting, control, bulk } = established;
    let node = control.node;
    let config = &shared.config;
    let (control_queue, control_reader) = queue(config.control_queue_frames_max, config.control_queue_bytes_max);
    let (bulk_queue, bulk_reader) = queue(config.bulk_queue_frames_max, config.bulk_queue_bytes_max);
    let end = shared.stop.child_token();
    let handle = LinkHandle { control: control_queue, bulk: bulk_queue, end: end.clone() };

    let reporting = shared.reporting.lock().await;
    let Inserted { id, first, replaced } = lock(&shared.peers).insert(node, greeting.role, direction, handle);
    let _ = entered.send(());
    if let Some(replaced) = replaced {
        end_later(shared, replaced);
    }
    if first {
        let (role, ring, address) = (greeting.role, greeting.ring, control.address.to_string());
        report(shared, Event::Connected { node, role, ring, address }).await;
    }
    drop(reporting);

    let mut tasks = JoinSet::new();
    let control = run_line(&mut tasks, shared, control, control_reader, Class::Control, greeting.role);
    let bulk = run_line(&mut tasks, shared, bulk, bulk_reader, Class::Bulk, greeting.role);
    tokio::select! {
        () = end.cancelled() => {}
        _ = tasks.join_next() => {}
    }
    drop((tasks, control, bulk));
    leave(shared, node, id).await;
}

/// Ends a link after the other side has had time to turn to the one that replaces it, and frames time to arrive.
fn end_later(shared: &Shared, replaced: CancellationToken) {
    shared.tasks.spawn(async move {
        let later = tokio::time::sleep(REPLACED_TIME_MAX);
        replaced.run_until_cancelled(later).await;
        replaced.cancel();
    });
}

async fn leave(shared: &Shared, node: NodeId, id: u64) {
    let reporting = shared.reporting.lock().await;
    let last = lock(&shared.peers).remove(node, id);
    if last {
        report(shared, Event::Disconnected { node }).await;
    }
    drop(reporting);
    if last {
        lock(&shared.book).wake(node);
    }
}

async fn report(shared: &Shared, event: Event) {
    // Nobody to report to: the owner dropped the receiver and will drop the rest.
    let _ = shared.control_events.send(event).await;
}

/// Reads and writes one line; when either task ends, so does the link.
fn run_line(
    tasks: &mut JoinSet<()>,
    shared: &Shared,
    line: Line,
    queue: QueueReader,
    class: Class,
    role: Role,
) -> Closer {
    let Line { node, stream, closer, .. } = line;
    let (read, mut write) = stream.split();
    let (events, chunk_bytes) = match class {
        Class::Control => (shared.control_events.clone(), CONTROL_CHUNK_BYTES),
        Class::Bulk => (shared.bulk_events.clone(), BULK_CHUNK_BYTES),
    };
    let reader = FrameReader::new(read, shared.config.frame_bytes_max, chunk_bytes);
    tasks.spawn(read_line(reader, events, node, role, class));
    tasks.spawn(async move {
        if let Err(error) = write_frames(&mut write, queue).await {
            tracing::debug!(%node, ?class, %error, "writing ended");
        }
    });
    closer
}

async fn read_line(
    mut reader: FrameReader<ReadHalf<Stream>>,
    events: mpsc::Sender<Event>,
    from: NodeId,
    role: Role,
    class: Class,
) {
    loop {
        match reader.next().await {
            Ok(frame) => {
                if events.send(Event::Frame { from, role, class, frame }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(node = %from, ?class, %error, "reading ended");
                return;
            }
        }
    }
}
