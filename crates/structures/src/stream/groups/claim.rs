//! `XCLAIM` and `XAUTOCLAIM`: what one consumer has not acknowledged goes to another one.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use super::{Done, changed, find, manage::integer_or, no_group};
use crate::{
    Arguments, Command, CommandError, Context,
    Flag::{Fast, Write},
    Keys, KeysCommand, Reply,
    stream::{GroupOperation, Stream, StreamId, entry_reply, id_reply},
};

/// How many entries are claimed at once unless a command says otherwise.
const COUNT: usize = 100;
/// For each of those, so many are looked at.
const ATTEMPTS: usize = 10;

pub(super) fn commands() -> Vec<KeysCommand> {
    let command = |name, arity, since, summary| {
        Command::on_key(name, arity, &[Write, Fast]).documented("stream", since, "O(log N) for each entry", summary)
    };
    vec![
        KeysCommand::new(command("xclaim", -6, "5.0.0", "Gives entries to another consumer"), claim),
        KeysCommand::new(command("xautoclaim", -6, "6.2.0", "The same with entries that are idle"), claim_idle),
    ]
}

/// What becomes of entries that are claimed.
struct Claim<'a> {
    stream: &'a Stream,
    group: &'a super::Group,
    now: u64,
    idle_min: u64,
    given_at: u64,
    count: Option<u64>,
    only_ids: bool,
    given: BTreeMap<StreamId, u64>,
    gone: Vec<StreamId>,
    reply: Vec<Reply>,
}

impl<'a> Claim<'a> {
    fn new(stream: &'a Stream, group: &'a super::Group, now: u64, idle_min: i64) -> Self {
        Self {
            stream,
            group,
            now,
            idle_min: u64::try_from(idle_min).unwrap_or(0),
            given_at: now,
            count: None,
            only_ids: false,
            given: BTreeMap::new(),
            gone: Vec::new(),
            reply: Vec::new(),
        }
    }

    /// Claims one entry if it is there and idle for long enough; one that is with nobody only if `is_forced`. Tells whether
    /// it was looked at for the last time: claimed, or gone.
    fn take(&mut self, id: StreamId, is_forced: bool) -> bool {
        let known = self.group.pending().get(&id).map(|pending| (pending.given_at, pending.count));
        let known = self.given.get(&id).map(|count| (self.given_at, *count)).or(known);
        let known = known.filter(|_| !self.gone.contains(&id));
        let Some(entry) = self.stream.entries.get_key_value(&id) else {
            if known.is_some() {
                self.gone.push(id);
            }
            return known.is_some();
        };
        let count = match known {
            Some((given_at, _)) if self.idle_min > 0 && self.now.saturating_sub(given_at) < self.idle_min => {
                return false;
            }
            Some((_, count)) => count,
            None if is_forced => 1,
            None => return false,
        };
        let count = self.count.unwrap_or(if self.only_ids { count } else { count.saturating_add(1) });
        self.given.insert(id, count);
        self.reply.push(if self.only_ids { id_reply(id) } else { entry_reply(entry) });
        true
    }

    /// What happens, if anything: who claims nothing is no consumer for that.
    fn operation(self, consumer: &Bytes, last: Option<(StreamId, Option<u64>)>) -> Option<GroupOperation> {
        if self.given.is_empty() && self.gone.is_empty() && last.is_none() {
            return None;
        }
        let seen = (!self.given.is_empty()).then(|| (consumer.clone(), self.now));
        let entries = self.given.into_iter().collect();
        Some(GroupOperation::Give { seen, given_at: self.given_at, entries, last, gone: self.gone })
    }
}

fn claim(keys: &Keys<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Done {
    let (name, consumer) = (arguments.next_bytes()?, arguments.next_bytes()?);
    let (stream, group) = find(keys, name)?.ok_or_else(|| no_group(keys.name(0), name, ""))?;
    let idle_min = integer_or(arguments.next_bytes()?, "Invalid min-idle-time argument for XCLAIM")?;
    let mut claim = Claim::new(stream, group, context.now.0, idle_min);
    let mut ids = Vec::new();
    while let Some(Ok(id)) = arguments.peek().map(|id| StreamId::read(id)) {
        ids.push(id);
        arguments.next_bytes()?;
    }
    let (mut is_forced, mut last_id) = (false, StreamId::ZERO);
    while let Some(option) = arguments.peek() {
        if arguments.take_word("force") {
            is_forced = true;
        } else if arguments.take_word("justid") {
            claim.only_ids = true;
        } else if arguments.take_option("idle", 1) {
            let idle = integer_or(arguments.next_bytes()?, "Invalid IDLE option argument for XCLAIM")?;
            claim.given_at = moment(claim.now.cast_signed().wrapping_sub(idle), claim.now);
        } else if arguments.take_option("time", 1) {
            let time = integer_or(arguments.next_bytes()?, "Invalid TIME option argument for XCLAIM")?;
            claim.given_at = moment(time, claim.now);
        } else if arguments.take_option("retrycount", 1) {
            let count = integer_or(arguments.next_bytes()?, "Invalid RETRYCOUNT option argument for XCLAIM")?;
            claim.count = u64::try_from(count).ok();
        } else if arguments.take_option("lastid", 1) {
            last_id = StreamId::read(arguments.next_bytes()?)?;
        } else {
            let option = super::shown(option);
            return Err(CommandError::new(format_args!("Unrecognized XCLAIM option '{option}'")));
        }
    }
    for id in ids {
        claim.take(id, is_forced);
    }
    let last = (last_id > group.last_id).then_some((last_id, group.entries_read));
    let reply = Reply::Array(std::mem::take(&mut claim.reply));
    Ok(changed(reply, name, claim.operation(consumer, last)))
}

/// When entries were given, as a client says; now, if that makes no sense.
fn moment(time: i64, now: u64) -> u64 {
    u64::try_from(time).ok().filter(|time| *time <= now).unwrap_or(now)
}

fn claim_idle(keys: &Keys<'_>, arguments: &mut Arguments<'_>, context: &Context) -> Done {
    let (name, consumer) = (arguments.next_bytes()?, arguments.next_bytes()?);
    let idle_min = integer_or(arguments.next_bytes()?, "Invalid min-idle-time argument for XAUTOCLAIM")?;
    let start = StreamId::read_start(arguments.next_bytes()?)?;
    let (mut count, mut only_ids) = (COUNT, false);
    while !arguments.is_empty() {
        if arguments.take_option("count", 1) {
            count = count_of(arguments)?;
        } else if arguments.take_word("justid") {
            only_ids = true;
        } else {
            return Err(CommandError::Syntax);
        }
    }
    let (stream, group) = find(keys, name)?.ok_or_else(|| no_group(keys.name(0), name, ""))?;
    let mut claim = Claim { only_ids, ..Claim::new(stream, group, context.now.0, idle_min) };
    let mut ids = group.pending().range((Bound::Included(start), Bound::Unbounded)).map(|(id, _)| *id);
    let mut attempts = count.saturating_mul(ATTEMPTS);
    while attempts > 0 && count > 0 {
        let Some(id) = ids.next() else { break };
        attempts -= 1;
        count -= usize::from(claim.take(id, false));
    }
    let next = ids.next().unwrap_or(StreamId::ZERO);
    let gone = Reply::Array(claim.gone.iter().map(|id| id_reply(*id)).collect());
    let reply = Reply::Array(vec![id_reply(next), Reply::Array(std::mem::take(&mut claim.reply)), gone]);
    Ok(changed(reply, name, claim.operation(consumer, None)))
}

/// A count from 1 on, up to what Redis can keep in mind.
fn count_of(arguments: &mut Arguments<'_>) -> Result<usize, CommandError> {
    let error = "COUNT must be > 0";
    let count = arguments.integer_or(error)?;
    let is_right = (1..=i64::MAX / 16).contains(&count);
    usize::try_from(count).ok().filter(|_| is_right).ok_or_else(|| CommandError::new(error))
}
