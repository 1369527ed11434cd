use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Planned, SortedSet, SortedSetOperation};
use crate::{
    Arguments, Command, CommandError, Context,
    Flag::{self, DenyOom, Fast, Write},
    Key, KeyCommand, Plan, Reply,
};

pub(super) fn commands() -> Vec<KeyCommand> {
    const ADDS: &[Flag] = &[Write, DenyOom, Fast];
    let command = |name, arity, complexity, summary| {
        Command::on_key(name, arity, ADDS).documented("sorted-set", "1.2.0", complexity, summary)
    };
    vec![
        KeyCommand::on(command("zadd", -4, "O(log N) for each member", "Sets scores of members"), zadd),
        KeyCommand::on(command("zincrby", 4, "O(log N)", "Adds to the score of a member"), zincrby),
    ]
}

/// The options of `ZADD`.
#[derive(Default)]
struct Options {
    only_new: bool,
    only_there: bool,
    only_greater: bool,
    only_less: bool,
    counts_changed: bool,
    increments: bool,
}

impl Options {
    fn read(&mut self, arguments: &mut Arguments<'_>) {
        loop {
            let option = [
                ("nx", &mut self.only_new),
                ("xx", &mut self.only_there),
                ("ch", &mut self.counts_changed),
                ("incr", &mut self.increments),
                ("gt", &mut self.only_greater),
                ("lt", &mut self.only_less),
            ]
            .into_iter()
            .find(|(word, _)| arguments.take_word(word));
            match option {
                Some((_, is_set)) => *is_set = true,
                None => return,
            }
        }
    }

    fn check(&self, pairs: usize) -> Result<(), CommandError> {
        if self.only_new && self.only_there {
            return Err(CommandError::new("XX and NX options at the same time are not compatible"));
        }
        let directions = [self.only_greater, self.only_less, self.only_new];
        if directions.iter().filter(|is_set| **is_set).count() > 1 {
            return Err(CommandError::new("GT, LT, and/or NX options at the same time are not compatible"));
        }
        if self.increments && pairs > 1 {
            return Err(CommandError::new("INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score that a member has then; `None` if it is left alone.
    fn score(&self, before: Option<f64>, score: f64) -> Result<Option<f64>, CommandError> {
        let Some(before) = before else { return Ok((!self.only_there).then_some(score)) };
        if self.only_new {
            return Ok(None);
        }
        let score = if self.increments { before + score } else { score };
        if score.is_nan() {
            return Err(CommandError::new("resulting score is not a number (NaN)"));
        }
        let is_refused = (self.only_less && score >= before) || (self.only_greater && score <= before);
        Ok((!is_refused).then_some(score))
    }
}

fn zadd(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    add(key, arguments, Options::default())
}

fn zincrby(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    add(key, arguments, Options { increments: true, ..Options::default() })
}

fn add(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, options: Options) -> Planned {
    let mut options = options;
    options.read(arguments);
    if arguments.is_empty() || !arguments.len().is_multiple_of(2) {
        return Err(CommandError::Syntax);
    }
    options.check(arguments.len() / 2)?;
    let mut pairs = Vec::with_capacity(arguments.len() / 2);
    while !arguments.is_empty() {
        let score = arguments.float()?;
        pairs.push((arguments.next_bytes()?, score));
    }
    plan(&*key.state()?, &options, pairs)
}

/// One pair after the other, each as the ones before it leave the set.
fn plan(set: &SortedSet, options: &Options, pairs: Vec<(&Bytes, f64)>) -> Planned {
    let mut changed: BTreeMap<&Bytes, f64> = BTreeMap::new();
    let mut changes = Vec::new();
    let (mut added, mut updated) = (0, 0);
    let mut last = None;
    for (member, score) in pairs {
        let before = changed.get(member).or_else(|| set.scores.get(member)).copied();
        last = options.score(before, score)?;
        let Some(score) = last else { continue };
        if before != Some(score) {
            added += usize::from(before.is_none());
            updated += usize::from(before.is_some());
            changed.insert(member, score);
            changes.push((member.clone(), score));
        }
    }
    let reply = if options.increments {
        last.map_or(Reply::Null, Reply::Double)
    } else {
        Reply::count(if options.counts_changed { added + updated } else { added })
    };
    Ok(Plan::only_if(!changes.is_empty(), reply, || SortedSetOperation::Set(changes)))
}
