use std::ops::Range;

use bytes::Bytes;
use difuse_api::{keylog::Value, structures::Reply};
use difuse_types::Level;

use super::{catalogue::AtOnce, pipeline::Ticket};

/// What a command comes to, before it is written in the protocol of its client.
#[derive(Debug)]
pub(super) enum Answer {
    /// A reply.
    Reply(Reply),
    /// Several, as to `SUBSCRIBE`: they are no answers but messages for a client of version 3.
    Pushes(Vec<Vec<Reply>>),
    /// A long string, which is read while it is written.
    Content(Content),
    /// Those to commands that were done together.
    Series(Vec<(Ticket, Answer)>),
    /// The commands of a transaction, of which the step is done.
    Parts(Vec<Part>),
}

/// A command of a transaction.
#[derive(Debug)]
pub(super) enum Part {
    /// It was done with this reply.
    Reply(Reply),
    /// It is part of the step, whose replies are not there yet.
    Missing,
    /// It is still to be done, with these arguments.
    AtOnce(AtOnce, Vec<Bytes>),
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
