use super::{Entry, Planned, SortedSet, bounds::Bounds};
use crate::{
    Arguments, Command, CommandError, Context,
    Flag::{self, ReadOnly},
    Key, KeyCommand, Plan, Reply,
};

pub(super) fn commands() -> Vec<KeyCommand> {
    const SLOW: &[Flag] = &[ReadOnly];
    let command = |name, since, summary| {
        let complexity = "O(log N + M) for M members answered";
        Command::on_key(name, -4, SLOW).documented("sorted-set", since, complexity, summary)
    };
    let by_rank = "Reads a range of ranks";
    let by_score = "Reads a range of scores";
    let by_lex = "Reads a range of members with equal scores";
    vec![
        KeyCommand::on(
            command("zrange", "1.2.0", "Reads a range of ranks, scores or members with equal scores"),
            zrange,
        ),
        KeyCommand::on(command("zrevrange", "1.2.0", by_rank), |key, a, _| range(key, a, Some(By::Rank), Some(true))),
        KeyCommand::on(command("zrangebyscore", "1.0.5", by_score), |key, a, _| {
            range(key, a, Some(By::Score), Some(false))
        }),
        KeyCommand::on(command("zrevrangebyscore", "2.2.0", by_score), |key, a, _| {
            range(key, a, Some(By::Score), Some(true))
        }),
        KeyCommand::on(command("zrangebylex", "2.8.9", by_lex), |key, a, _| range(key, a, Some(By::Lex), Some(false))),
        KeyCommand::on(command("zrevrangebylex", "2.8.9", by_lex), |key, a, _| {
            range(key, a, Some(By::Lex), Some(true))
        }),
    ]
}

/// What a range is a range of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

fn zrange(key: &Key<'_, SortedSet>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    range(key, arguments, None, None)
}

fn range(
    key: &Key<'_, SortedSet>,
    arguments: &mut Arguments<'_>,
    by: Option<By>,
    is_reversed: Option<bool>,
) -> Planned {
    let range = Range::read(arguments, Options { by, is_reversed, ..Options::default() })?;
    let set = key.state()?;
    let entries = range.entries(&set);
    Ok(Plan::reply(if range.options.has_scores {
        Reply::Pairs(entries.map(|entry| (Reply::bulk(entry.member.clone()), Reply::Double(entry.score))).collect())
    } else {
        Reply::bulks(entries.map(|entry| entry.member.clone()))
    }))
}

/// What follows the two ends of a range.
struct Options {
    by: Option<By>,
    is_reversed: Option<bool>,
    has_scores: bool,
    /// Whether scores go without saying, as what is chosen is stored.
    is_stored: bool,
    offset: i64,
    /// Negative: all.
    limit: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self { by: None, is_reversed: None, has_scores: false, is_stored: false, offset: 0, limit: -1 }
    }
}

impl Options {
    /// Reads those that the command's name does not say.
    fn read(&mut self, arguments: &mut Arguments<'_>) -> Result<(), CommandError> {
        while !arguments.is_empty() {
            if !self.is_stored && arguments.take_word("withscores") {
                self.has_scores = true;
            } else if arguments.take_option("limit", 2) {
                self.offset = arguments.integer()?;
                self.limit = arguments.integer()?;
            } else if self.is_reversed.is_none() && arguments.take_word("rev") {
                self.is_reversed = Some(true);
            } else if self.by.is_none() && arguments.take_word("bylex") {
                self.by = Some(By::Lex);
            } else if self.by.is_none() && arguments.take_word("byscore") {
                self.by = Some(By::Score);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        let by = self.by.unwrap_or(By::Rank);
        if self.limit != -1 && by == By::Rank {
            let text = "syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
            return Err(CommandError::new(text));
        }
        if self.has_scores && by == By::Lex {
            return Err(CommandError::new("syntax error, WITHSCORES not supported in combination with BYLEX"));
        }
        Ok(())
    }
}

/// What a client asks for of a sorted set.
pub(super) struct Range {
    bounds: Bounds,
    is_reversed: bool,
    options: Options,
}

impl Range {
    /// What `ZRANGESTORE` stores.
    pub(super) fn to_store(arguments: &mut Arguments<'_>) -> Result<Self, CommandError> {
        Self::read(arguments, Options { is_stored: true, ..Options::default() })
    }

    fn read(arguments: &mut Arguments<'_>, options: Options) -> Result<Self, CommandError> {
        let (first, second) = (arguments.next_bytes()?, arguments.next_bytes()?);
        let mut options = options;
        options.read(arguments)?;
        let is_reversed = options.is_reversed.unwrap_or(false);
        let (min, max) = if is_reversed { (second, first) } else { (first, second) };
        let bounds = match options.by.unwrap_or(By::Rank) {
            By::Rank => {
                let mut ends = Arguments::new(arguments.command(), std::slice::from_ref(first));
                let start = ends.integer()?;
                let mut ends = Arguments::new(arguments.command(), std::slice::from_ref(second));
                Bounds::Ranks(start, ends.integer()?)
            }
            By::Score => Bounds::scores(min, max)?,
            By::Lex => Bounds::lex(min, max)?,
        };
        Ok(Self { bounds, is_reversed, options })
    }

    /// What is in it, in the order that is asked for.
    pub(super) fn entries<'a>(&self, set: &'a SortedSet) -> Box<dyn Iterator<Item = &'a Entry> + 'a> {
        let (offset, limit) = match self.bounds {
            // A limit of -1 is accepted of these, and nothing comes of its offset.
            Bounds::Ranks(..) => (0, -1),
            _ => (self.options.offset, self.options.limit),
        };
        let Ok(offset) = usize::try_from(offset) else { return Box::new(std::iter::empty()) };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let ranks = self.bounds.ranks(set);
        let ranks = match self.bounds {
            // Ranks are counted from the other end.
            Bounds::Ranks(..) if self.is_reversed => {
                let length = set.ranked.len();
                length - ranks.end..length - ranks.start
            }
            _ => ranks,
        };
        let entries = set.ranked.range(ranks);
        if self.is_reversed {
            Box::new(entries.rev().skip(offset).take(limit))
        } else {
            Box::new(entries.skip(offset).take(limit))
        }
    }
}
