//! Unions, intersections and differences of sorted sets, and of sets, whose members count as having a score of 1.

use bytes::Bytes;
use indexmap::IndexMap;

use super::SortedSet;
use crate::{
    Arguments, Command, CommandError,
    Flag::{self, DenyOom, MovableKeys, ReadOnly, Write},
    KeyPositions, Keys, KeysCommand, KeysOutcome, Reply, Set, View,
    number::{parse_float, parse_integer},
};

pub(super) fn commands() -> Vec<KeysCommand> {
    const READS: &[Flag] = &[ReadOnly, MovableKeys];
    const STORES: &[Flag] = &[Write, DenyOom, MovableKeys];
    let command = |name, arity, flags, keys, since, summary| {
        let complexity = "O(N log N) for N members of all sets";
        Command { keys, ..Command::on_key(name, arity, flags) }.documented("sorted-set", since, complexity, summary)
    };
    let read = |name, summary, kind| {
        let command = command(name, -3, READS, KeyPositions::NONE, "6.2.0", summary);
        KeysCommand::new(command, move |keys, arguments, _| {
            let combination = Combination::read(keys, arguments, kind, Purpose::Read)?;
            Ok(KeysOutcome::reply(combination.listed()))
        })
        .finding_keys(|command, arguments| counted(command, arguments, 1))
    };
    let store = |name, since, summary, kind| {
        let command = command(name, -4, STORES, KeyPositions::ONE, since, summary);
        KeysCommand::new(command, move |keys, arguments, _| {
            let combination = Combination::read(keys, arguments, kind, Purpose::Store)?;
            let set = SortedSet::of(combination.scores());
            Ok(KeysOutcome::new(Reply::count(set.scores.len()), keys.hold(0, &set, None)))
        })
        .finding_keys(|command, arguments| {
            let keys = counted(command, arguments, 2)?;
            Ok([1].into_iter().chain(keys).collect())
        })
    };
    let count = command("zintercard", -3, READS, KeyPositions::NONE, "7.0.0", "Counts the common members");
    let count = KeysCommand::new(count, |keys, arguments, _| {
        let combination = Combination::read(keys, arguments, Kind::Intersection, Purpose::Count)?;
        let limit = if combination.limit == 0 { usize::MAX } else { combination.limit };
        Ok(KeysOutcome::reply(Reply::count(combination.scores().len().min(limit))))
    });
    vec![
        read("zunion", "Reads the members of several sorted sets", Kind::Union),
        read("zinter", "Reads the common members of sorted sets", Kind::Intersection),
        read("zdiff", "Reads the members of the first sorted set only", Kind::Difference),
        store("zunionstore", "2.0.0", "Stores the members of several sorted sets", Kind::Union),
        store("zinterstore", "2.0.0", "Stores the common members of sorted sets", Kind::Intersection),
        store("zdiffstore", "6.2.0", "Stores the members of the first sorted set only", Kind::Difference),
        count.finding_keys(|command, arguments| counted(command, arguments, 1)),
    ]
}

/// The keys that the argument at this position counts.
fn counted(command: &Command, arguments: &[Bytes], position: usize) -> Result<Vec<usize>, CommandError> {
    let count = arguments.get(position).and_then(|count| parse_integer(count)).ok_or(CommandError::NotInteger)?;
    let Some(count) = usize::try_from(count).ok().filter(|count| *count > 0) else {
        let text = format_args!("at least 1 input key is needed for '{}' command", command.name);
        return Err(CommandError::new(text));
    };
    if count > arguments.len() - position - 1 {
        return Err(CommandError::Syntax);
    }
    Ok((position + 1..=position + count).collect())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Union,
    Intersection,
    Difference,
}

/// What becomes of what comes out: other options belong to each.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Read,
    Store,
    Count,
}

/// One of the sets.
struct Source<'a> {
    members: Members<'a>,
    weight: f64,
}

#[derive(Clone, Copy)]
enum Members<'a> {
    None,
    Plain(&'a Set),
    Sorted(&'a SortedSet),
}

impl<'a> Members<'a> {
    fn of(view: View<'a>) -> Result<Self, CommandError> {
        match view.structure::<SortedSet>() {
            Ok(set) => Ok(set.map_or(Self::None, Self::Sorted)),
            Err(_) => Ok(view.structure::<Set>()?.map_or(Self::None, Self::Plain)),
        }
    }

    fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Plain(set) => set.members().len(),
            Self::Sorted(set) => set.scores.len(),
        }
    }

    fn score(self, member: &Bytes) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Plain(set) => set.contains(member).then_some(1.0),
            Self::Sorted(set) => set.scores.get(member).copied(),
        }
    }

    fn scores(self) -> Box<dyn Iterator<Item = (&'a Bytes, f64)> + 'a> {
        match self {
            Self::None => Box::new(std::iter::empty()),
            Self::Plain(set) => Box::new(set.members().map(|member| (member, 1.0))),
            Self::Sorted(set) => Box::new(set.scores.iter().map(|(member, score)| (member, *score))),
        }
    }
}

/// How the scores of a member in several sets become one.
#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn read(word: &[u8]) -> Result<Self, CommandError> {
        match &*word.to_ascii_lowercase() {
            b"sum" => Ok(Self::Sum),
            b"min" => Ok(Self::Min),
            b"max" => Ok(Self::Max),
            _ => Err(CommandError::Syntax),
        }
    }

    /// Infinities of both signs come to 0.
    fn add(self, score: f64, other: f64) -> f64 {
        match self {
            Self::Sum => not_nan(score + other),
            Self::Min if other < score => other,
            Self::Max if other > score => other,
            Self::Min | Self::Max => score,
        }
    }
}

fn not_nan(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// What is asked for.
struct Combination<'a> {
    kind: Kind,
    sources: Vec<Source<'a>>,
    aggregate: Aggregate,
    has_scores: bool,
    limit: usize,
}

impl<'a> Combination<'a> {
    fn read(
        keys: &Keys<'a>,
        arguments: &mut Arguments<'_>,
        kind: Kind,
        purpose: Purpose,
    ) -> Result<Self, CommandError> {
        let first = usize::from(purpose == Purpose::Store);
        let sources = keys.views()[first..].iter();
        let sources = sources.map(|view| Ok(Source { members: Members::of(*view)?, weight: 1.0 }));
        let sources = sources.collect::<Result<_, CommandError>>()?;
        let mut read = Self { kind, sources, aggregate: Aggregate::Sum, has_scores: false, limit: 0 };
        let has_weights = kind != Kind::Difference && purpose != Purpose::Count;
        while !arguments.is_empty() {
            if has_weights && arguments.take_option("weights", read.sources.len()) {
                for source in &mut read.sources {
                    let weight = parse_float(arguments.next_bytes()?);
                    source.weight = weight.ok_or_else(|| CommandError::new("weight value is not a float"))?;
                }
            } else if has_weights && arguments.take_option("aggregate", 1) {
                read.aggregate = Aggregate::read(arguments.next_bytes()?)?;
            } else if purpose == Purpose::Read && arguments.take_word("withscores") {
                read.has_scores = true;
            } else if purpose == Purpose::Count && arguments.take_option("limit", 1) {
                read.limit = arguments.count_or("LIMIT can't be negative")?;
            } else {
                return Err(CommandError::Syntax);
            }
        }
        if kind != Kind::Difference {
            // Sums of scores depend on their order: it is Redis's.
            read.sources.sort_by_key(|source| source.members.len());
        }
        Ok(read)
    }

    /// What comes out, in no order.
    fn scores(&self) -> IndexMap<Bytes, f64> {
        match self.kind {
            Kind::Union => self.union(),
            Kind::Intersection => self.intersection(),
            Kind::Difference => self.difference(),
        }
    }

    fn union(&self) -> IndexMap<Bytes, f64> {
        let mut scores: IndexMap<Bytes, f64> = IndexMap::new();
        for source in &self.sources {
            for (member, score) in source.members.scores() {
                let score = not_nan(source.weight * score);
                match scores.get_mut(member) {
                    Some(before) => *before = self.aggregate.add(*before, score),
                    None => drop(scores.insert(member.clone(), score)),
                }
            }
        }
        scores
    }

    fn intersection(&self) -> IndexMap<Bytes, f64> {
        let Some((first, others)) = self.sources.split_first() else { return IndexMap::new() };
        let combined = |(member, score): (&Bytes, f64)| {
            let mut combined = not_nan(first.weight * score);
            for other in others {
                combined = self.aggregate.add(combined, other.members.score(member)? * other.weight);
            }
            Some((member.clone(), combined))
        };
        first.members.scores().filter_map(combined).collect()
    }

    fn difference(&self) -> IndexMap<Bytes, f64> {
        let Some((first, others)) = self.sources.split_first() else { return IndexMap::new() };
        let is_elsewhere = |member: &Bytes| others.iter().any(|other| other.members.score(member).is_some());
        let left = first.members.scores().filter(|(member, _)| !is_elsewhere(member));
        left.map(|(member, score)| (member.clone(), score)).collect()
    }

    /// In the order of scores, then of members.
    fn listed(&self) -> Reply {
        let mut entries: Vec<(Bytes, f64)> = self.scores().into_iter().collect();
        entries.sort_by(|(first, first_score), (second, second_score)| {
            let by_score = first_score.partial_cmp(second_score).unwrap_or(std::cmp::Ordering::Equal);
            by_score.then_with(|| first.cmp(second))
        });
        if self.has_scores {
            let pair = |(member, score)| (Reply::Bulk(member), Reply::Double(score));
            Reply::Pairs(entries.into_iter().map(pair).collect())
        } else {
            Reply::bulks(entries.into_iter().map(|(member, _)| member))
        }
    }
}
