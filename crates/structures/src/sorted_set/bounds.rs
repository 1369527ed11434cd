use std::ops::Range;

use bytes::Bytes;

use super::{Entry, SortedSet};
use crate::{CommandError, number::parse_bound};

/// Which members a client means.
pub(super) enum Bounds {
    /// Those of these ranks, as `range::positions` reads them.
    Ranks(i64, i64),
    /// Those with scores from the one to the other.
    Scores(ScoreBound, ScoreBound),
    /// Those from the one to the other, where all scores are the same.
    Lex(LexBound, LexBound),
}

/// An end of a range of scores.
pub(super) struct ScoreBound {
    score: f64,
    is_excluded: bool,
}

/// An end of a range of members.
pub(super) enum LexBound {
    /// Before all members.
    Lowest,
    /// After all members.
    Highest,
    /// This one is inside.
    Included(Bytes),
    /// This one is not.
    Excluded(Bytes),
}

impl ScoreBound {
    fn read(bytes: &[u8]) -> Option<Self> {
        let (number, is_excluded) = match bytes {
            [b'(', rest @ ..] => (rest, true),
            _ => (bytes, false),
        };
        Some(Self { score: parse_bound(number)?, is_excluded })
    }

    fn is_below(&self, score: f64) -> bool {
        if self.is_excluded { self.score < score } else { self.score <= score }
    }

    fn is_above(&self, score: f64) -> bool {
        if self.is_excluded { self.score > score } else { self.score >= score }
    }
}

impl LexBound {
    fn read(bytes: &Bytes) -> Option<Self> {
        match bytes.as_ref() {
            b"-" => Some(Self::Lowest),
            b"+" => Some(Self::Highest),
            [b'(', ..] => Some(Self::Excluded(bytes.slice(1..))),
            [b'[', ..] => Some(Self::Included(bytes.slice(1..))),
            _ => None,
        }
    }

    fn is_below(&self, member: &Bytes) -> bool {
        match self {
            Self::Lowest => true,
            Self::Highest => false,
            Self::Included(bound) => bound <= member,
            Self::Excluded(bound) => bound < member,
        }
    }

    fn is_above(&self, member: &Bytes) -> bool {
        match self {
            Self::Lowest => false,
            Self::Highest => true,
            Self::Included(bound) => bound >= member,
            Self::Excluded(bound) => bound > member,
        }
    }
}

impl Bounds {
    /// A range of scores.
    pub(super) fn scores(min: &[u8], max: &[u8]) -> Result<Self, CommandError> {
        match (ScoreBound::read(min), ScoreBound::read(max)) {
            (Some(min), Some(max)) => Ok(Self::Scores(min, max)),
            _ => Err(CommandError::new("min or max is not a float")),
        }
    }

    /// A range of members.
    pub(super) fn lex(min: &Bytes, max: &Bytes) -> Result<Self, CommandError> {
        match (LexBound::read(min), LexBound::read(max)) {
            (Some(min), Some(max)) => Ok(Self::Lex(min, max)),
            _ => Err(CommandError::new("min or max not valid string range item")),
        }
    }

    /// The ranks of what is inside.
    pub(super) fn ranks(&self, set: &SortedSet) -> Range<usize> {
        match self {
            Self::Ranks(start, stop) => crate::range::positions(*start, *stop, set.ranked.len()),
            Self::Scores(min, max) => {
                between(set, |entry| !min.is_below(entry.score), |entry| max.is_above(entry.score))
            }
            Self::Lex(min, max) => {
                between(set, |entry| !min.is_below(&entry.member), |entry| max.is_above(&entry.member))
            }
        }
    }
}

fn between(set: &SortedSet, is_before: impl Fn(&Entry) -> bool, is_up_to: impl Fn(&Entry) -> bool) -> Range<usize> {
    let start = set.ranked.partition_point(is_before);
    start..set.ranked.partition_point(is_up_to).max(start)
}
