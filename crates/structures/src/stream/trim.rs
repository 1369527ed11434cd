//! How many entries go from the beginning of a stream, as `XADD` and `XTRIM` are told.

use std::ops::Bound;

use bytes::Bytes;

use super::{NODE_ENTRIES_MAX, Stream, StreamId, id::NewId};
use crate::{CommandError, number::parse_integer};

/// So many entries go at once about (`~`), unless a command says otherwise.
const LIMIT: u64 = 100 * NODE_ENTRIES_MAX as u64;

/// What is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trim {
    to: Target,
    is_about: bool,
    /// The most that go at once; 0: as many as there are.
    limit: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Length(u64),
    From(StreamId),
}

/// What stands before the fields of `XADD`, or behind the key of `XTRIM`.
#[derive(Debug)]
pub(super) struct Options {
    pub(super) trim: Option<Trim>,
    pub(super) may_create: bool,
    /// Of `XADD`; `None`: there was none.
    pub(super) id: Option<NewId>,
    /// How many arguments were read.
    pub(super) count: usize,
}

/// Reads them.
pub(super) fn read(arguments: &[Bytes], is_add: bool) -> Result<Options, CommandError> {
    let mut options = Options { trim: None, may_create: true, id: None, count: 0 };
    let (mut target, mut is_about, mut limit) = (None, false, None);
    let mut rest = arguments;
    while let [option, following @ ..] = rest {
        rest = following;
        let is = |word: &str| option.eq_ignore_ascii_case(word.as_bytes()) && !following.is_empty();
        if is("maxlen") || is("minid") {
            if target.is_some() {
                let text = "syntax error, MAXLEN and MINID options at the same time are not compatible";
                return Err(CommandError::new(text));
            }
            is_about = false;
            if let [sign, following @ ..] = rest
                && !following.is_empty()
                && matches!(&sign[..], b"~" | b"=")
            {
                (rest, is_about) = (following, &sign[..] == b"~");
            }
            let [value, following @ ..] = rest else { return Err(CommandError::Syntax) };
            rest = following;
            target = Some(if is("maxlen") { length(value)? } else { Target::From(StreamId::read(value)?) });
        } else if is("limit") {
            let [value, following @ ..] = rest else { return Err(CommandError::Syntax) };
            rest = following;
            let value = parse_integer(value).ok_or(CommandError::NotInteger)?;
            let value = u64::try_from(value);
            limit = Some(value.map_err(|_| CommandError::new("The LIMIT argument must be >= 0."))?);
        } else if is_add && option.eq_ignore_ascii_case(b"nomkstream") {
            options.may_create = false;
        } else if is_add {
            options.id = Some(NewId::read(option)?);
            break;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    options.count = arguments.len() - rest.len();
    options.trim = trim(target, is_about, limit, is_add)?;
    Ok(options)
}

fn length(value: &[u8]) -> Result<Target, CommandError> {
    let length = parse_integer(value).ok_or(CommandError::NotInteger)?;
    let length = u64::try_from(length).map_err(|_| CommandError::new("The MAXLEN argument must be >= 0."))?;
    Ok(Target::Length(length))
}

fn trim(
    target: Option<Target>,
    is_about: bool,
    limit: Option<u64>,
    is_add: bool,
) -> Result<Option<Trim>, CommandError> {
    let error = |text: &str| Err(CommandError::new(format_args!("syntax error, {text}")));
    if target.is_none() && limit.is_some_and(|limit| limit > 0) {
        return error("LIMIT cannot be used without specifying a trimming strategy");
    }
    if target.is_none() && !is_add {
        return error("XTRIM must be called with a trimming strategy");
    }
    if limit.is_some() && !is_about {
        return error("LIMIT cannot be used without the special ~ option");
    }
    let limit = limit.unwrap_or(if is_about { LIMIT } else { 0 });
    Ok(target.map(|to| Trim { to, is_about, limit }))
}

impl Stream {
    /// How many entries go from the beginning once one with the id `added`, if any, stands at the end.
    pub(super) fn count_to_trim(&self, trim: &Trim, added: Option<StreamId>) -> u64 {
        let length = self.entries.len() as u64 + u64::from(added.is_some());
        let mut gone = 0;
        for (count, last, start) in self.nodes_with(added) {
            let left = length - gone;
            let is_enough = matches!(trim.to, Target::Length(length_max) if left <= length_max);
            if is_enough || (trim.limit > 0 && gone + count > trim.limit) {
                break;
            }
            let goes_whole = match trim.to {
                Target::Length(length_max) => left.saturating_sub(count) >= length_max,
                Target::From(id) => last < id,
            };
            if goes_whole {
                gone += count;
                continue;
            }
            if !trim.is_about {
                gone = match trim.to {
                    Target::Length(length_max) => length.saturating_sub(length_max),
                    Target::From(id) if start < id => {
                        let below = self.entries.range(start..id).count() as u64;
                        gone + below + u64::from(added.is_some_and(|added| added < id))
                    }
                    Target::From(_) => gone,
                };
            }
            break;
        }
        gone
    }

    /// What Redis would keep together: how many entries are left of it, the last one that was in it, and its first one; with
    /// another one at the end.
    fn nodes_with(&self, added: Option<StreamId>) -> impl Iterator<Item = (u64, StreamId, StreamId)> {
        let last_start = self.nodes.last_key_value().map(|(start, _)| *start);
        let joins = self.nodes.last_key_value().is_some_and(|(_, node)| node.total < NODE_ENTRIES_MAX);
        let nodes = self.nodes.iter().map(move |(start, node)| {
            let next = self.nodes.range((Bound::Excluded(*start), Bound::Unbounded)).next();
            let end = next.map_or(Bound::Unbounded, |(next, _)| Bound::Excluded(*next));
            let count = self.entries.range((Bound::Included(*start), end)).count() as u64;
            match added.filter(|_| joins && last_start == Some(*start)) {
                Some(added) => (count + 1, added, *start),
                None => (count, node.last, *start),
            }
        });
        nodes.chain(added.filter(|_| !joins).map(|added| (1, added, added)))
    }
}
