//! `LCS`: the longest common subsequence of two strings, by Wagner and Fischer's table ("The string-to-string correction
//! problem", JACM 1974), walked as Redis walks it.

use bytes::Bytes;

use super::READS;
use crate::{Arguments, Command, CommandError, Held, KeyPositions, Keys, KeysCommand, KeysOutcome, Reply, View};

pub(super) fn commands() -> Vec<KeysCommand> {
    let both = KeyPositions { first: 1, last: 2, step: 1 };
    let command = Command { keys: both, ..Command::on_key("lcs", -3, READS) };
    let summary = "Finds the longest common subsequence of two strings";
    vec![KeysCommand::new(command.documented("string", "7.0.0", "O(N*M)", summary), |keys, arguments, _| {
        Ok(KeysOutcome::reply(lcs(keys, arguments)?))
    })]
}

/// The most bytes of a table: more than two strings in the log take.
const TABLE_BYTES_MAX: usize = 72 << 20;

#[derive(Default)]
struct Options {
    has_length: bool,
    has_ranges: bool,
    has_lengths_of_ranges: bool,
    /// Shorter ranges are left out.
    range_min: i64,
}

impl Options {
    fn read(arguments: &mut Arguments<'_>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        while !arguments.is_empty() {
            if arguments.take_word("idx") {
                options.has_ranges = true;
            } else if arguments.take_word("len") {
                options.has_length = true;
            } else if arguments.take_word("withmatchlen") {
                options.has_lengths_of_ranges = true;
            } else if arguments.take_option("minmatchlen", 1) {
                options.range_min = arguments.integer()?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if options.has_ranges && options.has_length {
            let text = "If you want both the length and indexes, please just use IDX.";
            return Err(CommandError::new(text));
        }
        Ok(options)
    }
}

fn text<'a>(view: &View<'a>) -> Result<&'a [u8], CommandError> {
    match view.held {
        Some(Held::Structure(_)) => Err(CommandError::new("The specified keys must contain string values")),
        _ => Ok(view.string()?.map_or(&[], |string| string)),
    }
}

fn lcs(keys: &Keys<'_>, arguments: &mut Arguments<'_>) -> Result<Reply, CommandError> {
    let is_structure = |view: &View<'_>| matches!(view.held, Some(Held::Structure(_)));
    // What is no string is complained of before what lies in blocks is fetched.
    if let Some(view) = keys.views().iter().find(|view| is_structure(view)) {
        text(view)?;
    }
    let (first, second) = (text(&keys.view(0))?, text(&keys.view(1))?);
    let options = Options::read(arguments)?;
    let table = Table::new(first, second)?;
    let length = Reply::Integer(table.length(first.len(), second.len()).into());
    if options.has_length {
        return Ok(length);
    }
    let (common, ranges) = table.walk(first, second);
    if !options.has_ranges {
        return Ok(Reply::bulk(common));
    }
    let is_long = |range: &&Range| i64::try_from(range.length).is_ok_and(|length| length >= options.range_min);
    let ranges = ranges.iter().filter(is_long).map(|range| range.reply(options.has_lengths_of_ranges));
    Ok(Reply::Map(vec![(Reply::bulk("matches"), Reply::Array(ranges.collect())), (Reply::bulk("len"), length)]))
}

/// Bytes of both strings that are the same and follow each other.
struct Range {
    first: usize,
    second: usize,
    length: usize,
}

impl Range {
    fn reply(&self, has_length: bool) -> Reply {
        let ends = |start: usize| Reply::Array(vec![Reply::count(start), Reply::count(start + self.length - 1)]);
        let length = has_length.then(|| Reply::count(self.length));
        Reply::Array([ends(self.first), ends(self.second)].into_iter().chain(length).collect())
    }
}

/// The lengths of the longest common subsequences of all beginnings of two strings.
struct Table {
    width: usize,
    lengths: Vec<u32>,
}

impl Table {
    fn new(first: &[u8], second: &[u8]) -> Result<Self, CommandError> {
        let width = second.len() + 1;
        let size = (first.len() + 1).checked_mul(width).filter(|size| *size <= TABLE_BYTES_MAX / size_of::<u32>());
        let size = size.ok_or_else(|| {
            CommandError::new("Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
        })?;
        let mut table = Self { width, lengths: vec![0; size] };
        for (row, a) in first.iter().enumerate() {
            let (above, below) = table.lengths.split_at_mut((row + 1) * width);
            let above = &above[row * width..];
            for (column, b) in second.iter().enumerate() {
                below[column + 1] = if a == b { above[column] + 1 } else { above[column + 1].max(below[column]) };
            }
        }
        Ok(table)
    }

    fn length(&self, first: usize, second: usize) -> u32 {
        self.lengths.get(first * self.width + second).copied().unwrap_or_default()
    }

    /// The subsequence, and the ranges that it consists of, the last one first.
    fn walk(&self, first: &[u8], second: &[u8]) -> (Bytes, Vec<Range>) {
        let (mut row, mut column) = (first.len(), second.len());
        let (mut common, mut ranges) = (Vec::new(), Vec::new());
        let mut open: Option<Range> = None;
        while row > 0 && column > 0 {
            if first[row - 1] == second[column - 1] {
                (row, column) = (row - 1, column - 1);
                common.push(first[row]);
                match &mut open {
                    Some(range) => *range = Range { first: row, second: column, length: range.length + 1 },
                    None => open = Some(Range { first: row, second: column, length: 1 }),
                }
            } else {
                if self.length(row - 1, column) > self.length(row, column - 1) {
                    row -= 1
                } else {
                    column -= 1
                }
                ranges.extend(open.take());
            }
        }
        ranges.extend(open);
        common.reverse();
        (common.into(), ranges)
    }
}
