//! `HSCAN`, `SSCAN` and `ZSCAN`: walking through a structure in steps, while it changes.
//!
//! What is walked through is an `IndexMap` whose removals move the last entry into the gap. The walk goes from the last
//! index down to 0, and the cursor is how many entries are left: an entry that is there from the first step to the last
//! is answered at least once, because it can only be moved to a lower index from the place that it is visited at or
//! from one above. (A walk upwards would miss an entry that moves from the end into what is done already.)

use bytes::Bytes;

use crate::{Arguments, CommandError, Reply, glob};

/// Entries of one step, unless `COUNT` says otherwise.
const COUNT: usize = 10;

/// The next argument as a cursor, as C's `strtoul` reads it.
pub(crate) fn cursor(arguments: &mut Arguments<'_>) -> Result<u64, CommandError> {
    let bytes = arguments.next_bytes()?;
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    parse_cursor(text).ok_or_else(|| CommandError::new("invalid cursor"))
}

fn parse_cursor(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return Some(0);
    }
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(if is_negative { number.wrapping_neg() } else { number })
}

/// What a walk through a key that does not exist answers.
pub(crate) fn nothing() -> Reply {
    reply(0, Vec::new())
}

fn reply(cursor: usize, items: Vec<Bytes>) -> Reply {
    Reply::Array(vec![Reply::bulk(cursor.to_string()), Reply::bulks(items)])
}

/// One step through `length` entries. The rest of the arguments says how long it is and which entries are answered.
/// `is_small`: all at once, whatever they say. `entry` gives an entry's name, and its value if the reply has values.
pub(crate) fn step(
    arguments: &mut Arguments<'_>,
    cursor: u64,
    length: usize,
    is_small: bool,
    entry: impl Fn(usize) -> Option<(Bytes, Option<Bytes>)>,
) -> Result<Reply, CommandError> {
    let (count, pattern) = options(arguments)?;
    let left = match usize::try_from(cursor) {
        _ if is_small => length,
        Ok(left @ 1..) => left.min(length),
        Ok(0) => length,
        Err(_) => length,
    };
    let next = if is_small { 0 } else { left.saturating_sub(count) };
    let mut items = Vec::new();
    for (name, value) in (next..left).rev().filter_map(entry) {
        if pattern.is_none_or(|pattern| glob::matches(pattern, &name)) {
            items.push(name);
            items.extend(value);
        }
    }
    Ok(reply(next, items))
}

/// `COUNT`, and the pattern of `MATCH` unless everything matches it.
fn options<'a>(arguments: &mut Arguments<'a>) -> Result<(usize, Option<&'a Bytes>), CommandError> {
    let mut count = COUNT;
    let mut pattern = None;
    while !arguments.is_empty() {
        if arguments.take_option("count", 1) {
            let number = arguments.integer()?;
            if number < 1 {
                return Err(CommandError::Syntax);
            }
            count = usize::try_from(number).unwrap_or(usize::MAX);
        } else if arguments.take_option("match", 1) {
            pattern = Some(arguments.next_bytes()?).filter(|pattern| **pattern != b"*"[..]);
        } else {
            return Err(CommandError::Syntax);
        }
    }
    Ok((count, pattern))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use indexmap::IndexSet;

    use super::*;

    fn word(text: String) -> Bytes {
        text.into()
    }

    /// One step: the next cursor and what was answered.
    fn walk(members: &IndexSet<Bytes>, cursor: u64, options: &[&str]) -> (u64, Vec<Bytes>) {
        let options: Vec<Bytes> = options.iter().map(|option| word(option.to_string())).collect();
        let mut arguments = Arguments::new("sscan", &options);
        let entry = |index| members.get_index(index).map(|member| (member.clone(), None));
        let reply = step(&mut arguments, cursor, members.len(), false, entry).expect("well-formed");
        let Reply::Array(parts) = reply else { panic!("{reply:?}") };
        let [Reply::Bulk(next), Reply::Array(items)] = &parts[..] else { panic!("{parts:?}") };
        let items = items.iter().map(|item| match item {
            Reply::Bulk(item) => item.clone(),
            other => panic!("{other:?}"),
        });
        (parse_cursor(next).expect("a cursor"), items.collect())
    }

    #[test]
    fn what_stays_is_answered_while_others_come_and_go() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut members: IndexSet<Bytes> = (0..500).map(|number| word(number.to_string())).collect();
            let mut stayed: BTreeSet<Bytes> = members.iter().cloned().collect();
            let mut answered = BTreeSet::new();
            let mut cursor = 0;
            loop {
                let (next, items) = walk(&members, cursor, &["count", "7"]);
                answered.extend(items);
                cursor = next;
                if cursor == 0 {
                    break;
                }
                for _ in 0..random.u8(..6) {
                    let gone = members.swap_remove_index(random.usize(..members.len())).expect("one is left");
                    stayed.remove(&gone);
                    members.insert(word(format!("new {}", random.u64(..))));
                }
            }
            assert!(stayed.len() > 100);
            assert!(stayed.is_subset(&answered), "seed {seed} misses {:?}", stayed.difference(&answered));
        }
    }

    #[test]
    fn a_walk_takes_options_and_any_cursor() {
        let members: IndexSet<Bytes> = (0..30).map(|number| word(number.to_string())).collect();
        assert_eq!(walk(&members, 0, &[]).1.len(), COUNT);
        assert_eq!(walk(&members, 25, &["COUNT", "5"]), (20, (20..25).rev().map(|n| word(n.to_string())).collect()));
        assert_eq!(walk(&members, 0, &["count", "100", "match", "?"]).1.len(), 10);
        assert_eq!(walk(&members, u64::MAX, &["count", "100"]).1.len(), 30);
    }

    #[test]
    fn cursors_are_read_as_c_reads_them() {
        for (text, cursor) in [("", 0), ("0", 0), ("+7", 7), ("-1", u64::MAX), ("18446744073709551615", u64::MAX)] {
            assert_eq!(parse_cursor(text.as_bytes()), Some(cursor), "{text:?}");
        }
        for text in [" 1", "1 ", "a", "-", "--1", "18446744073709551616"] {
            assert_eq!(parse_cursor(text.as_bytes()), None, "{text:?}");
        }
    }
}
