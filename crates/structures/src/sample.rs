//! Random choices out of so many entries: a seed decides them.

use std::collections::BTreeSet;

use crate::{Arguments, CommandError};

/// How many entries may be chosen with repetitions. Redis knows no bound, and is killed for memory it does not have.
const REPEATED_MAX: u64 = 1 << 20;

/// The argument that says how many are to be chosen; negative: with repetitions.
pub(crate) fn count(arguments: &mut Arguments<'_>) -> Result<i64, CommandError> {
    let count = arguments.integer()?;
    if count == i64::MIN {
        let max = i64::MAX;
        return Err(CommandError::new(format_args!("value is out of range, value must between -{max} and {max}")));
    }
    Ok(count)
}

/// How many are to be chosen, and whether their values are answered too, from all arguments that are left.
pub(crate) fn count_and_word(arguments: &mut Arguments<'_>, word: &str) -> Result<(i64, bool), CommandError> {
    let count = count(arguments)?;
    let has_word = arguments.take_word(word);
    arguments.finish()?;
    if has_word && count.unsigned_abs() > (i64::MAX / 2).unsigned_abs() {
        return Err(CommandError::new("value is out of range"));
    }
    Ok((count, has_word))
}

/// Indexes of `count` of `length` entries: different ones, or, if it is negative, any.
pub(crate) fn indexes(length: usize, count: i64, seed: u64) -> Result<Vec<usize>, CommandError> {
    let wanted = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if length == 0 || wanted == 0 {
        return Ok(Vec::new());
    }
    let mut random = fastrand::Rng::with_seed(seed);
    if count < 0 {
        if count.unsigned_abs() > REPEATED_MAX {
            return Err(CommandError::new("value is out of range"));
        }
        return Ok((0..wanted).map(|_| random.usize(..length)).collect());
    }
    Ok(distinct(length, wanted, &mut random))
}

/// The index of one of `length` entries, of which there is one at least.
pub(crate) fn index(length: usize, seed: u64) -> usize {
    fastrand::Rng::with_seed(seed).usize(..length.max(1))
}

/// Different ones: all if so many are wanted; drawn again until new while most are free, else from the shuffled rest.
fn distinct(length: usize, wanted: usize, random: &mut fastrand::Rng) -> Vec<usize> {
    if wanted >= length {
        return (0..length).collect();
    }
    if wanted > length / 3 {
        let mut all: Vec<usize> = (0..length).collect();
        random.shuffle(&mut all);
        all.truncate(wanted);
        return all;
    }
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::with_capacity(wanted);
    while chosen.len() < wanted {
        let index = random.usize(..length);
        if seen.insert(index) {
            chosen.push(index);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_ones_are_different_and_all_come_up() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            for count in [1, 3, 9, 10, 20] {
                let chosen = indexes(10, count, seed).unwrap();
                let different: BTreeSet<_> = chosen.iter().copied().collect();
                assert_eq!(different.len(), chosen.len());
                assert_eq!(chosen.len() as i64, count.min(10));
                assert!(chosen.iter().all(|index| *index < 10));
                seen.extend(chosen.first().copied());
            }
        }
        assert_eq!(seen.len(), 10);
    }

    #[test]
    fn repetitions_are_bounded() {
        assert_eq!(indexes(3, -50, 1).unwrap().len(), 50);
        assert!(indexes(3, i64::MIN + 1, 1).is_err());
        assert_eq!(indexes(0, -50, 1).unwrap(), []);
    }
}
