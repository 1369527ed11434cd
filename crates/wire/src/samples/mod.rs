//! One sample of every variant of every message, for tests: of this crate and of those that carry or store messages.

mod blocks;
mod keylog;
pub(crate) mod parts;
mod request;
mod ring;

use bytes::Bytes;
use difuse_protocol::{message::Message, notice::Notice};

use self::parts::{host, settings};

/// Every variant of every message at least once, optional parts both present and absent.
pub fn samples() -> Vec<Message> {
    let mut messages = vec![
        Message::Introduce { host: host(1) },
        Message::Welcome { settings: settings(), hosts: vec![host(1), host(2)] },
        Message::Welcome { settings: settings(), hosts: vec![] },
    ];
    messages.extend(ring::samples().into_iter().map(Message::Ring));
    messages.extend(keylog::samples().into_iter().map(Message::Keylog));
    messages.extend(blocks::samples().into_iter().map(Message::Block));
    messages.extend(request::requests());
    messages.extend(request::responses());
    let published = Notice::Published { channel: Bytes::from_static(b"news"), message: Bytes::from(vec![7; 20_000]) };
    let notices = [published, Notice::Waiting { key: parts::key("list") }, Notice::Added { key: parts::key("list") }];
    messages.extend(notices.map(Message::Notice));
    messages
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use flatbuffers::root;

    use super::samples;
    use crate::{
        encode,
        generated::difuse::{blocks, envelope, keylog, notice, request, ring},
    };

    /// The names of the unions' variants that the samples use.
    fn used() -> BTreeSet<String> {
        let frame = encode(&samples());
        let mut used = BTreeSet::new();
        let mut note = |variant: &dyn std::fmt::Debug, union: &str| used.insert(format!("{union} {variant:?}"));
        for message in root::<envelope::Envelope<'_>>(&frame).unwrap().messages() {
            note(&message.body_type(), "message");
            if let Some(ring) = message.body_as_ring() {
                note(&ring.body_type(), "ring");
                ring.body_as_join_reply().map(|reply| note(&reply.outcome_type(), "join"));
            }
            message.body_as_keylog().map(|keylog| note(&keylog.body_type(), "keylog"));
            message.body_as_notice().map(|notice| note(&notice.body_type(), "notice"));
            message.body_as_block_ask().map(|ask| note(&ask.question_type(), "question"));
            message.body_as_block_answer().map(|answer| note(&answer.answer_type(), "answer"));
            message.body_as_request().map(|request| note(&request.body_type(), "request"));
            if let Some(response) = message.body_as_response() {
                note(&response.outcome_type(), "outcome");
                response.outcome_as_reply().map(|reply| note(&reply.body_type(), "reply"));
                response.outcome_as_request_error().map(|error| note(&error.body_type(), "error"));
            }
        }
        used
    }

    /// The names of a union's variants but the first, which is `NONE`.
    fn variants<V: std::fmt::Debug>(union: &str, values: &[V]) -> Vec<String> {
        values[1..].iter().map(|variant| format!("{union} {variant:?}")).collect()
    }

    #[test]
    fn no_variant_is_missing() {
        let all: BTreeSet<_> = [
            variants("message", envelope::Body::ENUM_VALUES),
            variants("ring", ring::RingBody::ENUM_VALUES),
            variants("join", ring::JoinOutcome::ENUM_VALUES),
            variants("keylog", keylog::KeylogBody::ENUM_VALUES),
            variants("notice", notice::NoticeBody::ENUM_VALUES),
            variants("question", blocks::Question::ENUM_VALUES),
            variants("answer", blocks::Answer::ENUM_VALUES),
            variants("request", request::RequestBody::ENUM_VALUES),
            variants("outcome", request::Outcome::ENUM_VALUES),
            variants("reply", request::ReplyBody::ENUM_VALUES),
            variants("error", request::ErrorBody::ENUM_VALUES),
        ]
        .into_iter()
        .flatten()
        .collect();
        assert_eq!(used(), all);
    }
}
