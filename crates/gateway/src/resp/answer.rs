use std::ops::Range;

use difuse_api::{keylog::Value, structures::Reply};
use difuse_types::Level;

/// What a command comes to, before it is written in the protocol of its client.
#[derive(Debug)]
pub(super) enum Answer {
    /// A reply.
    Reply(Reply),
    /// Several, as to `SUBSCRIBE`: they are no answers but messages for a client of version 3.
    Pushes(Vec<Vec<Reply>>),
    /// A long string, which is read while it is written.
    Content(Content),
}

/// A part of a string that lives in blocks.
#[derive(Debug)]
pub(super) struct Content {
    /// What names the blocks.
    pub(super) value: Value,
    /// Which of its bytes.
    pub(super) range: Range<u64>,
    /// Who stands behind them.
    pub(super) level: Level,
}

impl Answer {
    /// `+OK`.
    pub(super) fn ok() -> Self {
        Self::Reply(Reply::ok())
    }

    /// Whether it is an error.
    pub(super) fn is_error(&self) -> bool {
        matches!(self, Self::Reply(Reply::Error(_)))
    }
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self::Reply(reply)
    }
}
