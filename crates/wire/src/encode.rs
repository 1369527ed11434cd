use bytes::Bytes;
use difuse_protocol::message::Message;

use crate::{
    VERSION,
    builder::{Builder, Offset},
    envelope,
    generated::difuse::envelope::{Envelope, EnvelopeArgs, MessageBox},
    limits::{FRAME_BYTES_MAX, MESSAGES_MAX},
    size::approximate_bytes,
};

/// From this many bytes on, a frame is built in a buffer of its own that becomes the frame, so that blocks are copied
/// once. Smaller frames are built in the encoder's buffer and copied out of it, which is cheaper than a new buffer.
const OWN_BUFFER_BYTES_MIN: usize = 64 << 10;
/// [`Encoder::encode_some`] takes no further message once a frame is about this long.
const FRAME_BYTES_ENOUGH: usize = 256 << 10;

/// Encodes frames, one after another, in a buffer that it keeps.
#[derive(Default)]
pub struct Encoder {
    builder: Builder,
    boxes: Vec<Offset<MessageBox<'static>>>,
}

impl Encoder {
    /// An encoder with an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes all `messages` as one frame. Receivers refuse frames of more than [`MESSAGES_MAX`] messages or
    /// [`FRAME_BYTES_MAX`] bytes: a sender that may have more uses [`Encoder::encode_some`].
    pub fn encode(&mut self, messages: &[Message]) -> Bytes {
        let bytes = messages.iter().map(approximate_bytes).sum();
        if bytes < OWN_BUFFER_BYTES_MIN {
            self.write(messages);
            let frame = Bytes::copy_from_slice(self.builder.finished_data());
            self.builder.reset();
            return frame;
        }
        let mut own = Self { builder: Builder::with_capacity(bytes), boxes: Vec::with_capacity(messages.len()) };
        own.write(messages);
        let (buffer, start) = own.builder.collapse();
        Bytes::from(buffer).slice(start..)
    }

    /// Encodes as many of `messages`, from the first on, as make a frame of a good size within the bounds of receivers,
    /// and returns how many these are: at least one, if there is any. Only a frame of one message alone can be longer
    /// than [`FRAME_BYTES_MAX`]; no receiver takes it.
    pub fn encode_some(&mut self, messages: &[Message]) -> (Bytes, usize) {
        let mut count = count_enough(messages);
        loop {
            let frame = self.encode(&messages[..count]);
            if frame.len() <= FRAME_BYTES_MAX || count <= 1 {
                return (frame, count);
            }
            count /= 2;
        }
    }

    fn write(&mut self, messages: &[Message]) {
        self.boxes.clear();
        for message in messages {
            self.boxes.push(envelope::write(&mut self.builder, message));
        }
        let messages = Some(self.builder.create_vector(&self.boxes));
        let envelope = Envelope::create(&mut self.builder, &EnvelopeArgs { version: VERSION, messages });
        self.builder.finish(envelope, None);
    }
}

/// How many of the first messages make a frame of a good size.
fn count_enough(messages: &[Message]) -> usize {
    let mut bytes = 0;
    let enough = messages.iter().take(MESSAGES_MAX).position(|message| {
        bytes += approximate_bytes(message);
        bytes >= FRAME_BYTES_ENOUGH
    });
    match enough {
        // The message that makes it too long waits for the next frame.
        Some(last) if bytes > FRAME_BYTES_MAX => last.max(1),
        Some(last) => last + 1,
        None => messages.len().min(MESSAGES_MAX),
    }
}

/// Encodes `messages` as one frame, as [`Encoder::encode`] does, which is faster for many frames.
pub fn encode(messages: &[Message]) -> Bytes {
    Encoder::new().encode(messages)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_protocol::{
        message::{Message, Outcome},
        request::{Reply, Request},
    };

    use super::{Encoder, encode};
    use crate::{
        decode,
        limits::{FRAME_BYTES_MAX, MESSAGES_MAX},
        samples::samples,
        size::approximate_bytes,
    };

    fn block(length: usize) -> Message {
        let bytes = Bytes::from(vec![7; length]);
        Message::Response { id: 1, outcome: Outcome::Reply(Reply::Block(Some(bytes))) }
    }

    /// Encodes everything with [`Encoder::encode_some`], decodes it again, and returns how many messages each frame had.
    fn counts(messages: &[Message]) -> Vec<usize> {
        let (mut encoder, mut rest, mut counts) = (Encoder::new(), messages, Vec::new());
        while !rest.is_empty() {
            let (frame, count) = encoder.encode_some(rest);
            assert!(frame.len() <= FRAME_BYTES_MAX);
            assert_eq!(decode(&frame).as_deref(), Ok(&rest[..count]));
            counts.push(count);
            rest = &rest[count..];
        }
        counts
    }

    #[test]
    fn long_queues_become_several_frames() {
        let ask = Message::Request { id: 1, direct: false, request: Request::Ring };
        assert_eq!(counts(&[]), vec![0; 0]);
        assert_eq!(counts(&[ask.clone(), block(1 << 20), block(2 << 20), ask.clone()]), [2, 1, 1]);
        assert_eq!(counts(&vec![block(1000); 600]).iter().sum::<usize>(), 600);
        assert_eq!(counts(&vec![ask; MESSAGES_MAX + 1]).iter().sum::<usize>(), MESSAGES_MAX + 1);
        counts(&samples());
    }

    #[test]
    fn an_encoder_forgets_what_it_encoded() {
        let all = samples();
        let mut encoder = Encoder::new();
        for message in all.iter().chain(&all) {
            let message = std::slice::from_ref(message);
            assert_eq!(encoder.encode(message), encode(message));
        }
    }

    #[test]
    fn the_approximate_size_is_near_the_truth() {
        for message in samples() {
            let (guess, truth) = (approximate_bytes(&message), encode(std::slice::from_ref(&message)).len());
            assert!(2 * guess + 1024 >= truth && guess <= 2 * truth + 1024, "{guess} for {truth}: {message:?}");
        }
    }
}
