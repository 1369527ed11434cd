use bytes::Bytes;
use difuse_protocol::message::Message;
use flatbuffers::{VerifierOptions, root_with_opts};

use crate::{
    VERSION, envelope,
    error::{WireError, check},
    frame::{Frame, list},
    generated::difuse::envelope::{Envelope, Header},
    limits::{APPARENT_BYTES_MAX, DEPTH_MAX, FRAME_BYTES_MAX, MESSAGES_MAX, TABLES_MAX},
};

const OPTIONS: VerifierOptions = VerifierOptions {
    max_depth: DEPTH_MAX,
    max_tables: TABLES_MAX,
    max_apparent_size: APPARENT_BYTES_MAX,
    ignore_missing_null_terminator: false,
};

/// Verifies a frame and translates its messages, in their order. Every byte of it may come from an enemy: nothing
/// beyond the bounds of [`crate::limits`] is allocated or returned. Blocks are slices of `frame`.
///
/// # Errors
/// [`WireError::Version`] if the sender speaks another version, whatever follows; else [`WireError::Malformed`] or
/// [`WireError::OutOfBounds`]. One bad message refuses the whole frame: its sender is broken or hostile.
pub fn decode(frame: &Bytes) -> Result<Vec<Message>, WireError> {
    check(frame.len() <= FRAME_BYTES_MAX, "frame")?;
    check_version(frame)?;
    let envelope = root_with_opts::<Envelope<'_>>(&OPTIONS, frame).map_err(|error| WireError::unverified(&error))?;
    let frame = Frame(frame);
    list(envelope.messages(), MESSAGES_MAX, "messages", |message| envelope::read(&frame, message))
}

/// Reads no more than the envelope's first field, so that a frame of a version whose schema is another is told apart
/// from a malformed one.
fn check_version(frame: &[u8]) -> Result<(), WireError> {
    let header = root_with_opts::<Header<'_>>(&OPTIONS, frame).map_err(|error| WireError::unverified(&error))?;
    match header.version() {
        VERSION => Ok(()),
        theirs => Err(WireError::Version { theirs }),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_protocol::message::Message;
    use flatbuffers::FlatBufferBuilder;

    use super::decode;
    use crate::{
        VERSION, WireError, approximate_bytes, encode,
        generated::difuse::{envelope as fb, keylog, request},
        limits::{FRAME_BYTES_MAX, MESSAGES_MAX},
        samples::samples,
    };

    #[test]
    fn every_sample_round_trips_alone_and_together() {
        let all = samples();
        for message in &all {
            let frame = encode(std::slice::from_ref(message));
            assert_eq!(decode(&frame).as_deref(), Ok(std::slice::from_ref(message)));
        }
        assert_eq!(decode(&encode(&all)), Ok(all));
        assert_eq!(decode(&encode(&[])), Ok(vec![]));
    }

    /// One change of the kind that a broken or hostile sender makes.
    fn mutate(random: &mut fastrand::Rng, frame: &mut Vec<u8>) {
        match random.u8(..8) {
            0 => frame.truncate(random.usize(..=frame.len())),
            1 => frame.extend(std::iter::repeat_n(random.u8(..), random.usize(..64))),
            2..=4 if frame.len() >= 4 => {
                // A small number where an offset, a length or a type may be.
                let at = random.usize(..=frame.len() - 4) & !3;
                frame[at..at + 4].copy_from_slice(&random.u32(..128).to_le_bytes());
            }
            _ if !frame.is_empty() => {
                let at = random.usize(..frame.len());
                frame[at] ^= 1 << random.u8(..8);
            }
            _ => {}
        }
    }

    #[test]
    fn mutated_frames_decode_or_are_refused() {
        let mut random = fastrand::Rng::with_seed(1);
        let all = samples();
        let (mut accepted, mut refused) = (0, 0);
        for _ in 0..10_000 {
            let start = random.usize(..all.len());
            let end = (start + random.usize(1..4)).min(all.len());
            let mut frame = encode(&all[start..end]).to_vec();
            for _ in 0..random.usize(1..6) {
                mutate(&mut random, &mut frame);
            }
            match decode(&frame.into()) {
                Ok(messages) => {
                    // Whatever is let in is as good as what an honest peer sends.
                    assert_eq!(decode(&encode(&messages)), Ok(messages));
                    accepted += 1;
                }
                Err(_) => refused += 1,
            }
        }
        assert!(accepted > 500 && refused > 500, "{accepted} accepted, {refused} refused: the mutations are too tame");
    }

    #[test]
    fn noise_is_refused() {
        let mut random = fastrand::Rng::with_seed(2);
        for length in 0..300 {
            let noise: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            assert!(decode(&noise.into()).is_err());
            assert!(decode(&vec![0; length].into()).is_err());
        }
    }

    fn finished(
        version: u16,
        write: impl FnOnce(&mut FlatBufferBuilder<'static>) -> Vec<flatbuffers::WIPOffset<fb::MessageBox<'static>>>,
    ) -> Bytes {
        let mut builder = FlatBufferBuilder::new();
        let boxes = write(&mut builder);
        let messages = Some(builder.create_vector(&boxes));
        let envelope = fb::Envelope::create(&mut builder, &fb::EnvelopeArgs { version, messages });
        builder.finish(envelope, None);
        Bytes::copy_from_slice(builder.finished_data())
    }

    #[test]
    fn another_version_is_named_whatever_follows() {
        for theirs in [0, VERSION + 1, u16::MAX] {
            assert_eq!(decode(&finished(theirs, |_| vec![])), Err(WireError::Version { theirs }));
        }
        let mut builder = FlatBufferBuilder::new();
        let header = fb::Header::create(&mut builder, &fb::HeaderArgs { version: 9 });
        builder.finish(header, None);
        let frame = Bytes::copy_from_slice(builder.finished_data());
        assert_eq!(decode(&frame), Err(WireError::Version { theirs: 9 }));
    }

    #[test]
    fn unknown_variants_are_refused() {
        let unknown_message = finished(VERSION, |builder| {
            let table = keylog::BlocksReady::create(builder, &keylog::BlocksReadyArgs { slot: 1, epoch: 1 });
            let body = Some(table.as_union_value());
            vec![fb::MessageBox::create(builder, &fb::MessageBoxArgs { body_type: fb::Body(200), body })]
        });
        assert_eq!(decode(&unknown_message), Err(WireError::Malformed("an unknown message".into())));
        let unknown_level = finished(VERSION, |builder| {
            let hash = Some(&crate::types::hash_out(&difuse_types::Hash::ZERO));
            let level = crate::generated::difuse::types::Level(9);
            let read = request::ReadBlock::create(builder, &request::ReadBlockArgs { hash, level });
            let (body_type, body) = (request::RequestBody::ReadBlock, Some(read.as_union_value()));
            let args = request::RequestArgs { id: 1, direct: false, body_type, body };
            let body = Some(request::Request::create(builder, &args).as_union_value());
            vec![fb::MessageBox::create(builder, &fb::MessageBoxArgs { body_type: fb::Body::Request, body })]
        });
        assert_eq!(decode(&unknown_level), Err(WireError::OutOfBounds { field: "level" }));
    }

    #[test]
    fn frames_are_bounded() {
        let too_long = Bytes::from(vec![0; FRAME_BYTES_MAX + 1]);
        assert_eq!(decode(&too_long), Err(WireError::OutOfBounds { field: "frame" }));
        let ping = samples().into_iter().find(|message| matches!(message, Message::Ring(_)));
        let many: Vec<_> = ping.into_iter().cycle().take(MESSAGES_MAX + 1).collect();
        assert_eq!(decode(&encode(&many)), Err(WireError::OutOfBounds { field: "messages" }));
        assert_eq!(decode(&encode(&many[1..])).map(|messages| messages.len()), Ok(MESSAGES_MAX));
    }

    /// A short frame that names one big message again and again stands for gigabytes: it must not be unfolded.
    #[test]
    fn repetition_is_bounded() {
        let is_big = |message: &Message| approximate_bytes(message) > 2000 && !matches!(message, Message::Block(_));
        let big = samples().into_iter().find(is_big);
        let bomb = finished(VERSION, |builder| {
            let offset = big.map(|message| crate::envelope::write(builder, &message));
            offset.into_iter().cycle().take(MESSAGES_MAX).collect()
        });
        assert!(bomb.len() < 128 << 10, "{}", bomb.len());
        assert!(matches!(decode(&bomb), Err(WireError::Malformed(_))));
    }
}
