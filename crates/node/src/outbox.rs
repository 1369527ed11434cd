//! Messages on their way out: all that a batch has for one receiver travels in as few frames as possible.

use std::collections::BTreeMap;

use difuse_net::{Class, Net, SendError};
use difuse_protocol::{
    message::{BlockAnswer, BlockMessage, BlockQuestion, Message, Outcome},
    request::{Reply, Request},
};
use difuse_types::NodeId;

#[derive(Default)]
pub(crate) struct Outbox {
    messages: BTreeMap<(NodeId, bool), Vec<Message>>,
    encoder: difuse_wire::Encoder,
}

impl Outbox {
    pub(crate) fn push(&mut self, to: NodeId, message: Message) {
        self.messages.entry((to, is_bulk(&message))).or_default().push(message);
    }

    /// Hands everything to the transport. What it cannot take is lost: the protocol repeats what matters.
    pub(crate) fn flush(&mut self, net: &Net) {
        for ((to, is_bulk), messages) in std::mem::take(&mut self.messages) {
            let class = if is_bulk { Class::Bulk } else { Class::Control };
            let mut rest = &messages[..];
            while !rest.is_empty() {
                let (frame, taken) = self.encoder.encode_some(rest);
                rest = &rest[taken.max(1)..];
                match net.send(to, class, frame) {
                    Ok(()) | Err(SendError::NotConnected) => {}
                    Err(error) => tracing::warn!(%to, %error, "messages were dropped"),
                }
            }
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
