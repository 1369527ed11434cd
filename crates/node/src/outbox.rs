//! Messages on their way out: all that a batch has for one receiver travels in as few frames as possible.

use std::collections::BTreeMap;

use difuse_net::{Class, Net, SendError};
use difuse_protocol::{
    message::{BlockAnswer, BlockMessage, BlockQuestion, Message, Outcome},
    request::{Reply, Request},
};
use difuse_types::NodeId;

/// How often dropped messages are warned of.
const WARN_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// Room for how many messages to one receiver is kept from one batch to the next.
const KEPT_MAX: usize = 512;

#[derive(Default)]
pub(crate) struct Outbox {
    messages: BTreeMap<(NodeId, bool), Vec<Message>>,
    encoder: difuse_wire::Encoder,
    dropped: u64,
    warned_at: Option<std::time::Instant>,
}

impl Outbox {
    pub(crate) fn push(&mut self, to: NodeId, message: Message) {
        self.messages.entry((to, is_bulk(&message))).or_default().push(message);
    }

    /// Hands everything to the transport. What it cannot take is lost: the protocol repeats what matters.
    pub(crate) fn flush(&mut self, net: &Net) {
        // Who got nothing in this batch may be gone.
        self.messages.retain(|_, messages| !messages.is_empty());
        let mut queues = std::mem::take(&mut self.messages);
        for ((to, is_bulk), messages) in &mut queues {
            let (to, class) = (*to, if *is_bulk { Class::Bulk } else { Class::Control });
            let mut rest = &messages[..];
            while !rest.is_empty() {
                let (frame, taken) = self.encoder.encode_some(rest);
                rest = &rest[taken.max(1)..];
                match net.send(to, class, frame) {
                    Ok(()) | Err(SendError::NotConnected) => {}
                    Err(error) => self.note_dropped(to, &error),
                }
            }
            messages.clear();
            messages.shrink_to(KEPT_MAX);
        }
        self.messages = queues;
    }
}

impl Outbox {
    /// Says so, but not for every frame: a node that hangs takes none.
    fn note_dropped(&mut self, to: NodeId, error: &SendError) {
        self.dropped += 1;
        if self.warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            tracing::warn!(%to, %error, frames = self.dropped, "messages were dropped");
            self.dropped = 0;
            self.warned_at = Some(std::time::Instant::now());
        }
    }
}

/// Whether a message carries a block's content.
fn is_bulk(message: &Message) -> bool {
    match message {
        Message::Block(BlockMessage::Ask { question, .. }) => matches!(question, BlockQuestion::Put { .. }),
        Message::Block(BlockMessage::Answer { answer, .. }) => matches!(answer, BlockAnswer::Content { .. }),
        Message::Request { request, .. } => matches!(request, Request::PutBlock { .. }),
        Message::Response { outcome, .. } => matches!(outcome, Outcome::Reply(Reply::Block(_))),
        _ => false,
    }
}
