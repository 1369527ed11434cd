//! The ids of entries: two numbers, the first of which is a time as a rule.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{CommandError, number::parse_integer};

/// The longest text that may be an id, in bytes.
const TEXT_MAX: usize = 127;

/// The id of an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StreamId {
    /// When it came in, in milliseconds since 1970, unless a client has chosen another number.
    pub milliseconds: u64,
    /// Which one of those of that time it is.
    pub sequence: u64,
}

/// What an id that a client names for a new entry leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NewId {
    /// All.
    Any,
    /// The sequence: `5-*`.
    Sequence(u64),
    /// Nothing.
    Given(StreamId),
}

impl StreamId {
    /// The lowest one, which no entry has.
    pub(super) const ZERO: Self = Self { milliseconds: 0, sequence: 0 };
    /// The highest one.
    pub(super) const MAX: Self = Self { milliseconds: u64::MAX, sequence: u64::MAX };

    /// The next one; `None` behind the highest.
    pub(super) fn next(self) -> Option<Self> {
        match self.sequence.checked_add(1) {
            Some(sequence) => Some(Self { sequence, ..self }),
            None => Some(Self { milliseconds: self.milliseconds.checked_add(1)?, sequence: 0 }),
        }
    }

    /// The one before; `None` before the lowest.
    pub(super) fn previous(self) -> Option<Self> {
        match self.sequence.checked_sub(1) {
            Some(sequence) => Some(Self { sequence, ..self }),
            None => Some(Self { milliseconds: self.milliseconds.checked_sub(1)?, sequence: u64::MAX }),
        }
    }

    /// An id as `5` or `5-1`.
    pub(super) fn read(text: &[u8]) -> Result<Self, CommandError> {
        Self::read_missing(text, 0)
    }

    /// The same with another sequence where there is none.
    fn read_missing(text: &[u8], missing: u64) -> Result<Self, CommandError> {
        match parse(text, missing) {
            Some((id, true)) => Ok(id),
            _ => Err(invalid()),
        }
    }

    /// The lower end of a range: `-`, `5`, `5-1`, or behind a `(` what is not in it any more.
    pub(super) fn read_start(text: &[u8]) -> Result<Self, CommandError> {
        let id = match text {
            [b'(', rest @ ..] if !rest.is_empty() => Self::read(rest)?.next(),
            text => Some(read_end_of_range(text, 0)?),
        };
        id.ok_or_else(|| CommandError::new("invalid start ID for the interval"))
    }

    /// The upper end of a range.
    pub(super) fn read_stop(text: &[u8]) -> Result<Self, CommandError> {
        let id = match text {
            [b'(', rest @ ..] if !rest.is_empty() => Self::read_missing(rest, u64::MAX)?.previous(),
            text => Some(read_end_of_range(text, u64::MAX)?),
        };
        id.ok_or_else(|| CommandError::new("invalid end ID for the interval"))
    }
}

impl NewId {
    /// `*`, `5-*`, `5` or `5-1`.
    pub(super) fn read(text: &[u8]) -> Result<Self, CommandError> {
        if text == b"*" {
            return Ok(Self::Any);
        }
        match parse(text, 0) {
            Some((id, true)) => Ok(Self::Given(id)),
            Some((id, false)) => Ok(Self::Sequence(id.milliseconds)),
            None => Err(invalid()),
        }
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

fn invalid() -> CommandError {
    CommandError::new("Invalid stream ID specified as stream command argument")
}

fn read_end_of_range(text: &[u8], missing: u64) -> Result<StreamId, CommandError> {
    match text {
        b"-" => Ok(StreamId::ZERO),
        b"+" => Ok(StreamId::MAX),
        text => StreamId::read_missing(text, missing),
    }
}

/// An id, and whether its sequence is not left open by a `*`.
fn parse(text: &[u8], missing: u64) -> Option<(StreamId, bool)> {
    if text.len() > TEXT_MAX {
        return None;
    }
    // C ends a text there.
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut parts = text.splitn(2, |byte| *byte == b'-');
    let milliseconds = number(parts.next().unwrap_or_default())?;
    let (sequence, is_given) = match parts.next() {
        None => (missing, true),
        Some(b"*") => (0, false),
        Some(sequence) => (number(sequence)?, true),
    };
    Some((StreamId { milliseconds, sequence }, is_given))
}

/// A number as Redis's `string2ull` reads it: one that is written as it should be, else what C's `strtoull` makes of it.
fn number(text: &[u8]) -> Option<u64> {
    if let Some(number) = parse_integer(text) {
        return u64::try_from(number).ok();
    }
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let text = &text[text.iter().take_while(|byte| is_blank(byte)).count()..];
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if is_negative { number.wrapping_neg() } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(milliseconds: u64, sequence: u64) -> StreamId {
        StreamId { milliseconds, sequence }
    }

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        for (text, expected) in [
            ("5", Some(id(5, 0))),
            ("5-1", Some(id(5, 1))),
            ("18446744073709551615-18446744073709551615", Some(StreamId::MAX)),
            ("18446744073709551616", None),
            (" 05-+7", Some(id(5, 7))),
            ("5--7", None),
            ("5--07", Some(id(5, 0_u64.wrapping_sub(7)))),
            ("-", None),
            ("+", None),
            ("", None),
            ("5-", None),
            ("5-1-1", None),
            ("5-*", None),
            ("*", None),
            ("x", None),
        ] {
            assert_eq!(StreamId::read(text.as_bytes()).ok(), expected, "{text}");
        }
        assert_eq!(StreamId::read(&[b'1'; 128]).ok(), None);
        assert_eq!(NewId::read(b"5-*"), Ok(NewId::Sequence(5)));
        assert_eq!(NewId::read(b"*"), Ok(NewId::Any));
        assert_eq!(NewId::read(b"5-2"), Ok(NewId::Given(id(5, 2))));
    }

    #[test]
    fn ends_of_ranges_may_be_outside_of_them() {
        for (start, stop, expected) in [
            ("-", "+", Some((StreamId::ZERO, StreamId::MAX))),
            ("5", "5", Some((id(5, 0), id(5, u64::MAX)))),
            ("(5", "(5", Some((id(5, 1), id(5, u64::MAX - 1)))),
            ("(5-18446744073709551615", "(5-0", Some((id(6, 0), id(4, u64::MAX)))),
            ("(18446744073709551615-18446744073709551615", "5", None),
            ("5", "(0-0", None),
            ("(-", "+", None),
            ("(", "+", None),
        ] {
            let range = StreamId::read_start(start.as_bytes()).ok().zip(StreamId::read_stop(stop.as_bytes()).ok());
            assert_eq!(range, expected, "{start} {stop}");
        }
    }
}
