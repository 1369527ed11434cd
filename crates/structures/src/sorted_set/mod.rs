//! Sorted sets: members, each once, in the order of their scores.

mod add;
mod bounds;
mod combine;
mod ranges;
mod ranked;
mod read;
mod remove;
mod several;

use std::cmp::Ordering;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{CommandError, KeyCommand, KeysCommand, Plan, Rebuilding, Structure, format_double, in_commands};
use ranked::Ranked;

/// Members with scores, in the order of scores, then of members.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Checkpoint")]
pub struct SortedSet {
    scores: IndexMap<Bytes, f64>,
    /// Whether it has once been too large for what Redis calls a listpack, and so is a skip list for good.
    is_table: bool,
    /// All members in their order: follows from the scores.
    #[serde(skip)]
    ranked: Ranked<Entry>,
    /// Bytes of all members: follows from them.
    #[serde(skip)]
    bytes: usize,
}

/// A member and its score.
#[derive(Clone, Debug)]
struct Entry {
    score: f64,
    member: Bytes,
}

impl Entry {
    /// Scores are never `NaN`.
    fn compare(&self, score: f64, member: &[u8]) -> Ordering {
        let by_score = self.score.partial_cmp(&score).unwrap_or(Ordering::Equal);
        by_score.then_with(|| self.member.as_ref().cmp(member))
    }
}

/// What a checkpoint has of a sorted set.
#[derive(Deserialize)]
struct Checkpoint {
    scores: IndexMap<Bytes, f64>,
    is_table: bool,
}

impl From<Checkpoint> for SortedSet {
    fn from(checkpoint: Checkpoint) -> Self {
        let mut scores = checkpoint.scores;
        scores.retain(|_, score| !score.is_nan());
        let mut entries: Vec<Entry> =
            scores.iter().map(|(member, score)| Entry { score: *score, member: member.clone() }).collect();
        entries.sort_by(|first, second| first.compare(second.score, &second.member));
        let bytes = scores.keys().map(Bytes::len).sum();
        Self { scores, is_table: checkpoint.is_table, ranked: entries.into_iter().collect(), bytes }
    }
}

/// What the log of a sorted set consists of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SortedSetOperation {
    /// These members have these scores from now on.
    Set(Vec<(Bytes, f64)>),
    /// These are no members any more.
    Remove(Vec<Bytes>),
    /// So many members go, from this rank on, counted from 0.
    RemoveRanks(u64, u64),
}

type Planned = Result<Plan<SortedSetOperation>, CommandError>;

/// Redis's bounds of a listpack: how many members, how many bytes of one.
const LISTPACK_MEMBERS_MAX: usize = 128;
const LISTPACK_BYTES_MAX: usize = 64;

impl SortedSet {
    fn set(&mut self, member: Bytes, score: f64) {
        if score.is_nan() {
            return;
        }
        let is_new = !self.scores.contains_key(&member);
        self.is_table |= is_new && (member.len() > LISTPACK_BYTES_MAX || self.scores.len() >= LISTPACK_MEMBERS_MAX);
        // A listpack does not know a zero below zero.
        let score = if self.is_table { score } else { score + 0.0 };
        match self.scores.insert(member.clone(), score) {
            Some(before) => self.unrank(before, &member),
            None => self.bytes += member.len(),
        }
        let rank = self.rank_of(score, &member);
        self.ranked.insert(rank, Entry { score, member });
    }

    fn remove(&mut self, member: &Bytes) {
        if let Some(score) = self.scores.swap_remove(member) {
            self.bytes -= member.len();
            self.unrank(score, member);
        }
    }

    fn remove_ranks(&mut self, from: usize, count: usize) {
        let left = self.ranked.len().saturating_sub(from);
        for _ in 0..count.min(left) {
            if let Some(entry) = self.ranked.remove(from) {
                self.bytes -= entry.member.len();
                self.scores.swap_remove(&entry.member);
            }
        }
    }

    /// One with these members, as Redis makes it at once.
    fn of(scores: IndexMap<Bytes, f64>) -> Self {
        let is_table =
            scores.len() > LISTPACK_MEMBERS_MAX || scores.keys().any(|member| member.len() > LISTPACK_BYTES_MAX);
        let zero = if is_table { -0.0 } else { 0.0 };
        let scores = scores.into_iter().map(|(member, score)| (member, score + zero)).collect();
        Checkpoint { scores, is_table }.into()
    }

    fn unrank(&mut self, score: f64, member: &[u8]) {
        let rank = self.rank_of(score, member);
        self.ranked.remove(rank);
    }

    /// How many members stand before this one, whether it is there or not.
    fn rank_of(&self, score: f64, member: &[u8]) -> usize {
        self.ranked.partition_point(|entry| entry.compare(score, member).is_lt())
    }

    /// All members, lowest score first.
    pub(crate) fn members(&self) -> impl DoubleEndedIterator<Item = &Bytes> {
        self.ranked.range(0..self.ranked.len()).map(|entry| &entry.member)
    }
}

impl Structure for SortedSet {
    const ID: u8 = 4;
    const NAME: &'static str = "zset";
    type Operation = SortedSetOperation;

    fn apply(&mut self, operation: SortedSetOperation) {
        let position = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        match operation {
            SortedSetOperation::Set(scores) => scores.into_iter().for_each(|(member, score)| self.set(member, score)),
            SortedSetOperation::Remove(members) => members.iter().for_each(|member| self.remove(member)),
            SortedSetOperation::RemoveRanks(from, count) => self.remove_ranks(position(from), position(count)),
        }
    }

    fn is_empty(&self) -> bool {
        self.scores.is_empty()
    }

    fn weight(&self) -> usize {
        self.bytes + 130 * self.scores.len()
    }

    fn encoding(&self) -> &'static str {
        if self.is_table { "skiplist" } else { "listpack" }
    }

    fn rebuild(&self) -> Option<Vec<Rebuilding>> {
        // A small one would not keep a zero below zero.
        let members = self.scores.iter().map(|(member, score)| [format_double(score + 0.0).into(), member.clone()]);
        Some(in_commands("zadd", members))
    }

    fn commands() -> Vec<KeyCommand> {
        [add::commands(), remove::commands(), ranges::commands(), read::commands()].into_iter().flatten().collect()
    }

    fn commands_on_keys() -> Vec<KeysCommand> {
        [combine::commands(), several::commands()].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_members_are_found_by_score_and_rank() {
        let size = 1_000_000_u32;
        let member = |number: u32| Bytes::from(format!("{:07}", u64::from(number) * 7_919 % u64::from(size)));
        let scores = (0..size).map(|number| (member(number), f64::from(number / 2))).collect();
        let mut set = SortedSet::from(Checkpoint { scores, is_table: true });
        for number in (0..size).step_by(11) {
            set.apply(SortedSetOperation::Remove(vec![member(number)]));
            set.apply(SortedSetOperation::Set(vec![(member(number), f64::from(number / 2))]));
        }
        assert_eq!(set.ranked.len(), size as usize);
        for number in (0..size).step_by(99_991) {
            let rank = set.rank_of(f64::from(number / 2), &member(number));
            assert_eq!(set.ranked.range(rank..rank + 1).next().map(|entry| entry.member.clone()), Some(member(number)));
            assert_eq!(rank / 2, number as usize / 2);
        }
        set.apply(SortedSetOperation::RemoveRanks(10, 999_980));
        assert_eq!(set.scores.len(), 20);
    }

    #[test]
    fn what_is_no_number_is_not_taken() {
        let mut set = SortedSet::default();
        set.apply(SortedSetOperation::Set(vec![(Bytes::from_static(b"a"), f64::NAN)]));
        assert!(set.is_empty());
    }
}
