//! One message in its box.

use difuse_protocol::message::Message;
use difuse_types::{Host, RingSettings};

use crate::{
    blocks,
    builder::{Builder, Offset, UnionOffset, write_tables},
    error::{WireError, present},
    frame::{Frame, list},
    generated::difuse::envelope as fb,
    keylog,
    limits::HOSTS_MAX,
    notice, request, ring,
    types::{read_host, read_settings, write_host, write_settings},
};

/// Writes a message.
pub(crate) fn write(builder: &mut Builder, message: &Message) -> Offset<fb::MessageBox<'static>> {
    let (body_type, body) = write_body(builder, message);
    fb::MessageBox::create(builder, &fb::MessageBoxArgs { body_type, body: Some(body) })
}

fn write_body(builder: &mut Builder, message: &Message) -> (fb::Body, UnionOffset) {
    match message {
        Message::Introduce { host } => (fb::Body::Introduce, introduce(builder, host)),
        Message::Welcome { settings, hosts } => (fb::Body::Welcome, welcome(builder, settings, hosts)),
        Message::Ring(message) => (fb::Body::Ring, ring::write(builder, message).as_union_value()),
        Message::Keylog(message) => (fb::Body::Keylog, keylog::write(builder, message).as_union_value()),
        Message::Request { id, direct, request } => {
            (fb::Body::Request, request::write_request(builder, *id, *direct, request).as_union_value())
        }
        Message::Response { id, outcome } => {
            (fb::Body::Response, request::write_response(builder, *id, outcome).as_union_value())
        }
        Message::Block(message) => blocks::write(builder, message),
        Message::Notice(notice) => (fb::Body::Notice, notice::write(builder, notice).as_union_value()),
    }
}

fn introduce(builder: &mut Builder, host: &Host) -> UnionOffset {
    let host = Some(write_host(builder, host));
    fb::Introduce::create(builder, &fb::IntroduceArgs { host }).as_union_value()
}

fn welcome(builder: &mut Builder, settings: &RingSettings, hosts: &[Host]) -> UnionOffset {
    let settings = Some(write_settings(builder, settings));
    let hosts = Some(write_tables(builder, hosts, write_host));
    fb::Welcome::create(builder, &fb::WelcomeArgs { settings, hosts }).as_union_value()
}

/// Reads a message.
pub(crate) fn read(frame: &Frame<'_>, message: fb::MessageBox<'_>) -> Result<Message, WireError> {
    const WHAT: &str = "a message without its body";
    Ok(match message.body_type() {
        fb::Body::Introduce => {
            let host = present(message.body_as_introduce(), WHAT)?.host();
            Message::Introduce { host: read_host(host)? }
        }
        fb::Body::Welcome => {
            let welcome = present(message.body_as_welcome(), WHAT)?;
            Message::Welcome {
                settings: read_settings(welcome.settings())?,
                hosts: list(welcome.hosts(), HOSTS_MAX, "hosts", read_host)?,
            }
        }
        fb::Body::Ring => Message::Ring(ring::read(present(message.body_as_ring(), WHAT)?)?),
        fb::Body::Keylog => Message::Keylog(keylog::read(frame, present(message.body_as_keylog(), WHAT)?)?),
        fb::Body::Request => request::read_request(frame, present(message.body_as_request(), WHAT)?)?,
        fb::Body::Response => request::read_response(frame, present(message.body_as_response(), WHAT)?)?,
        fb::Body::BlockAsk => Message::Block(blocks::read_ask(frame, present(message.body_as_block_ask(), WHAT)?)?),
        fb::Body::BlockAnswer => {
            Message::Block(blocks::read_answer(frame, present(message.body_as_block_answer(), WHAT)?)?)
        }
        fb::Body::Notice => Message::Notice(notice::read(frame, present(message.body_as_notice(), WHAT)?)?),
        _ => return Err(WireError::malformed("an unknown message")),
    })
}
