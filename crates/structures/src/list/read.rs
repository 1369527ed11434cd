use bytes::Bytes;

use super::{Fast, Flag, List, Planned, ReadOnly};
use crate::{Arguments, Command, CommandError, Context, Key, KeyCommand, Plan, Reply, range};

pub(super) fn commands() -> Vec<KeyCommand> {
    let command = |name, arity, flags, since, complexity, summary| {
        Command::on_key(name, arity, flags).documented("list", since, complexity, summary)
    };
    const FAST: &[Flag] = &[ReadOnly, Fast];
    const SLOW: &[Flag] = &[ReadOnly];
    vec![
        KeyCommand::on(command("llen", 2, FAST, "1.0.0", "O(1)", "Counts the items of a list"), llen),
        KeyCommand::on(command("lindex", 3, SLOW, "1.0.0", "O(1)", "Reads an item of a list"), lindex),
        KeyCommand::on(
            command("lrange", 4, SLOW, "1.0.0", "O(N) for N items answered", "Reads a range of a list"),
            lrange,
        ),
        KeyCommand::on(
            command("lpos", -3, SLOW, "6.0.6", "O(N) for N items", "Finds where items of a list are equal to one"),
            lpos,
        ),
    ]
}

fn llen(key: &Key<'_, List>, _: &mut Arguments<'_>, _: &Context) -> Planned {
    Ok(Plan::reply(Reply::count(key.state()?.items.len())))
}

fn lindex(key: &Key<'_, List>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let Some(list) = key.find()? else { return Ok(Plan::reply(Reply::Null)) };
    let index = list.index(arguments.integer()?);
    Ok(Plan::reply(Reply::bulk_or_null(index.and_then(|index| list.items.get(index)).cloned())))
}

fn lrange(key: &Key<'_, List>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let (start, stop) = (arguments.integer()?, arguments.integer()?);
    let list = key.state()?;
    let range = range::positions(start, stop, list.items.len());
    Ok(Plan::reply(Reply::bulks(list.items.range(range).cloned())))
}

/// What `LPOS` looks for.
struct Search<'a> {
    item: &'a Bytes,
    /// Matches that are passed over.
    skipped: u64,
    is_from_end: bool,
    /// How many are answered, 0 for all; `None`: one, not as a list.
    count: Option<usize>,
    /// How many items are looked at; 0 for all.
    length_max: usize,
}

impl<'a> Search<'a> {
    fn read(arguments: &mut Arguments<'a>) -> Result<Self, CommandError> {
        let item = arguments.next_bytes()?;
        let mut search = Self { item, skipped: 0, is_from_end: false, count: None, length_max: 0 };
        let mut is_lowest_rank = false;
        while !arguments.is_empty() {
            if arguments.take_option("rank", 1) {
                let rank = arguments.integer()?;
                if rank == 0 {
                    return Err(CommandError::new(RANK_IS_ZERO));
                }
                search.is_from_end = rank < 0;
                // The lowest rank of all has no counterpart: Redis takes it for one that every match has, and counts none.
                is_lowest_rank = rank == i64::MIN;
                search.skipped = u64::try_from(rank.wrapping_abs()).map_or(0, |rank| rank - 1);
            } else if arguments.take_option("count", 1) {
                search.count = Some(arguments.count_or("COUNT can't be negative")?);
            } else if arguments.take_option("maxlen", 1) {
                search.length_max = arguments.count_or("MAXLEN can't be negative")?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if is_lowest_rank {
            search.count = search.count.map(|_| 0);
        }
        Ok(search)
    }

    fn matches(&self, list: &List) -> Vec<Reply> {
        let all = |bound: usize| if bound == 0 { usize::MAX } else { bound };
        let length = list.items.len();
        let looked_at = all(self.length_max).min(length);
        let position = |distance: usize| if self.is_from_end { length - 1 - distance } else { distance };
        (0..looked_at)
            .map(position)
            .filter(|position| list.items.get(*position) == Some(self.item))
            .skip(usize::try_from(self.skipped).unwrap_or(usize::MAX))
            .take(all(self.count.unwrap_or(1)))
            .map(Reply::count)
            .collect()
    }
}

const RANK_IS_ZERO: &str = "RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
                            or use negative to start from the end of the list";

fn lpos(key: &Key<'_, List>, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let search = Search::read(arguments)?;
    let mut matches = search.matches(&*key.state()?);
    Ok(Plan::reply(match search.count {
        Some(_) => Reply::Array(matches),
        None => matches.pop().unwrap_or(Reply::Null),
    }))
}
