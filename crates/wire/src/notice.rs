//! What gateways tell each other.

use difuse_protocol::notice::{Notice, PUBLISHED_BYTES_MAX};

use crate::{
    builder::{Builder, Offset, write_bytes},
    error::{WireError, check, present},
    frame::Frame,
    generated::difuse::notice as fb,
    types::write_key,
};

/// Writes a notice.
pub(crate) fn write(builder: &mut Builder, notice: &Notice) -> Offset<fb::Notice<'static>> {
    let (body_type, body) = match notice {
        Notice::Published { channel, message } => {
            let channel = Some(write_bytes(builder, channel));
            let message = Some(write_bytes(builder, message));
            let published = fb::Published::create(builder, &fb::PublishedArgs { channel, message });
            (fb::NoticeBody::Published, published.as_union_value())
        }
        Notice::Waiting { key } => {
            let key = Some(write_key(builder, key));
            (fb::NoticeBody::Waiting, fb::Waiting::create(builder, &fb::WaitingArgs { key }).as_union_value())
        }
        Notice::Added { key } => {
            let key = Some(write_key(builder, key));
            (fb::NoticeBody::Added, fb::Added::create(builder, &fb::AddedArgs { key }).as_union_value())
        }
    };
    fb::Notice::create(builder, &fb::NoticeArgs { body_type, body: Some(body) })
}

/// Reads a notice.
pub(crate) fn read(frame: &Frame<'_>, notice: fb::Notice<'_>) -> Result<Notice, WireError> {
    const WHAT: &str = "a notice without its body";
    Ok(match notice.body_type() {
        fb::NoticeBody::Published => {
            let published = present(notice.body_as_published(), WHAT)?;
            let (channel, message) = (published.channel(), published.message());
            check(channel.len().saturating_add(message.len()) <= PUBLISHED_BYTES_MAX, "message")?;
            Notice::Published {
                channel: frame.bytes(channel, PUBLISHED_BYTES_MAX, "channel")?,
                message: frame.bytes(message, PUBLISHED_BYTES_MAX, "message")?,
            }
        }
        fb::NoticeBody::Waiting => Notice::Waiting { key: frame.key(present(notice.body_as_waiting(), WHAT)?.key())? },
        fb::NoticeBody::Added => Notice::Added { key: frame.key(present(notice.body_as_added(), WHAT)?.key())? },
        _ => return Err(WireError::malformed("an unknown notice")),
    })
}
