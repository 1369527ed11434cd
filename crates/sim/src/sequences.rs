//! Lists and streams to whose end clients add items: one at a time, several as a series, or one to a list and to a stream in
//! a step. Every item is added once, and nothing is taken away, so that the items that are there in the end tell the order in
//! which everything was done (the list append of Kingsbury and Alvaro, "Elle", VLDB 2020): each answer is checked against
//! it as it comes.

use std::collections::BTreeSet;

use bytes::Bytes;
use difuse_keylog::{Step, StepCommand};
use difuse_protocol::request::{Request, Since};
use difuse_structures::{Reply as Answered, in_series};
use difuse_types::{Key, Level};

use self::order::{Item, Order, Place, items_of_list, items_of_stream, place_of_id};
use crate::{clients::operation_id, errands::Shape};

mod order;
mod requests;

/// After so many operations two keys are left, and others used.
const OPERATIONS_PER_PAIR: u32 = 40;
/// The most commands of a series.
const SERIES_MAX: usize = 5;
/// The numbers of operation ids begin here: others are smaller.
const FIRST_OPERATION: u64 = 1 << 41;

/// What a key holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    List,
    Stream,
}

/// A list and a stream of one slot.
struct Pair {
    keys: [Key; 2],
    orders: [Order; 2],
    /// Items that are added to both at once.
    in_both: BTreeSet<Item>,
    operations: u32,
}

const KINDS: [Kind; 2] = [Kind::List, Kind::Stream];

/// One command of a request: adds these items to one of the two, or reads it if there are none.
#[derive(Clone, Debug)]
struct Part {
    of: usize,
    items: Vec<Item>,
}

/// What became of the items that a request adds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// They are there.
    Added,
    /// They are not, and will not be.
    Refused,
    /// Either.
    Unknown,
}

/// What a request asks for.
#[derive(Clone)]
pub(crate) struct Asked {
    pair: usize,
    parts: Vec<Part>,
    /// The last places that it must know of: those that were known when it was first asked, unless its level asks for less.
    since: [Place; 2],
}

impl Asked {
    fn is_write(&self) -> bool {
        self.parts.iter().any(|part| !part.items.is_empty())
    }
}

/// The lists and streams of one seed. They draw from numbers of their own, so that nothing else changes with them.
pub(crate) struct Sequences {
    rng: fastrand::Rng,
    /// How many operations are still to come.
    left: u32,
    pairs: Vec<Pair>,
    /// Requests that add something and have ended.
    ended: Vec<(Asked, Outcome)>,
    last_number: u64,
    last_item: Item,
}

impl Kind {
    fn command(self, items: &[Item]) -> Vec<Bytes> {
        let items: Vec<String> = items.iter().map(Item::to_string).collect();
        let words = match (self, &items[..]) {
            (Self::List, []) => vec!["lrange", "k", "0", "-1"],
            (Self::List, _) => ["rpush", "k"].into_iter().chain(items.iter().map(String::as_str)).collect(),
            (Self::Stream, []) => vec!["xrange", "k", "-", "+"],
            (Self::Stream, [item, ..]) => vec!["xadd", "k", "*", "item", item],
        };
        words.into_iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    fn items_in(self, reply: &Answered) -> Option<Vec<(Place, Item)>> {
        match self {
            Self::List => items_of_list(reply),
            Self::Stream => items_of_stream(reply),
        }
    }

    /// Where the items stand that a command has added.
    fn places_in(self, reply: &Answered, items: &[Item]) -> Option<Vec<(Place, Item)>> {
        let places = match (self, reply) {
            (Self::List, Answered::Integer(length)) => {
                let end = Place::in_list(usize::try_from(*length).ok()?);
                (0..items.len()).rev().map(|behind| end.before(behind)).collect::<Option<Vec<_>>>()?
            }
            (Self::Stream, id) => vec![place_of_id(id)?],
            _ => return None,
        };
        Some(places.into_iter().zip(items.iter().copied()).collect())
    }
}

impl Sequences {
    pub(crate) fn new(seed: u64, count: u32) -> Self {
        let rng = fastrand::Rng::with_seed(seed.rotate_left(16) ^ !seed);
        Self { rng, left: count, pairs: Vec::new(), ended: Vec::new(), last_number: 0, last_item: 0 }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.pairs.iter().flat_map(|pair| &pair.keys)
    }

    fn next_number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    /// The two keys in use.
    fn current(&mut self) -> usize {
        if self.pairs.last().is_none_or(|pair| pair.operations >= OPERATIONS_PER_PAIR) {
            let number = self.pairs.len();
            // Short names are keys.
            let key = |name: String| Key::new(name.as_bytes()).unwrap_or_else(|error| unreachable!("{error}"));
            let keys = ["list", "stream"].map(|name| key(format!("{{sequences {number}}} {name}")));
            self.pairs.push(Pair { keys, orders: Default::default(), in_both: BTreeSet::new(), operations: 0 });
        }
        let last = self.pairs.len() - 1;
        self.pairs[last].operations += 1;
        last
    }

    /// What one command does, to the list or to the stream.
    fn draw_part(&mut self, of: usize) -> Part {
        let count = match self.rng.u32(..10) {
            0..3 => 0,
            3..5 if KINDS[of] == Kind::List => self.rng.usize(2..4),
            _ => 1,
        };
        Part { of, items: self.new_items(count) }
    }

    fn new_items(&mut self, count: usize) -> Vec<Item> {
        let first = self.last_item + 1;
        self.last_item += count as u64;
        (first..=self.last_item).collect()
    }

    /// Thinks of something to ask for.
    fn invent(&mut self, pair: usize, steps: Key) -> (Vec<Part>, Request) {
        let of = self.rng.usize(..2);
        match self.rng.u32(..10) {
            0..4 => {
                let part = self.draw_part(of);
                let arguments = KINDS[of].command(&part.items);
                (vec![part], self.request(self.pairs[pair].keys[of].clone(), arguments))
            }
            4..7 => {
                let count = self.rng.usize(2..=SERIES_MAX);
                let parts: Vec<Part> = (0..count).map(|_| self.draw_part(of)).collect();
                let commands = parts.iter().map(|part| KINDS[of].command(&part.items)).collect();
                (parts, self.request(self.pairs[pair].keys[of].clone(), in_series(commands)))
            }
            _ => {
                let items = if self.rng.bool() { self.new_items(1) } else { Vec::new() };
                self.ask_both(pair, steps, items)
            }
        }
    }

    /// Adds the same item to the list and to the stream in one step, or reads both.
    fn ask_both(&mut self, pair: usize, steps: Key, items: Vec<Item>) -> (Vec<Part>, Request) {
        self.pairs[pair].in_both.extend(&items);
        let parts = vec![Part { of: 0, items: items.clone() }, Part { of: 1, items }];
        let command = |part: &Part| StepCommand {
            keys: vec![self.pairs[pair].keys[part.of].clone()],
            arguments: KINDS[part.of].command(&part.items),
        };
        let step = Step { unchanged: Vec::new(), commands: parts.iter().map(command).collect() };
        let request = self.request(steps, step.to_arguments());
        (parts, request)
    }

    fn request(&mut self, key: Key, arguments: Vec<Bytes>) -> Request {
        let id = FIRST_OPERATION + self.next_number();
        let operation_id = operation_id(id, &mut self.rng);
        let level = if self.rng.u32(..8) == 0 { Level::All } else { Level::Quorum };
        Request::Command { key, arguments, operation_id, level, since: Since::Now }
    }

    /// Now and then it is enough to read what was there before.
    fn weaken(&mut self, parts: &[Part], request: &mut Request) {
        let is_read = parts.iter().all(|part| part.items.is_empty());
        if let Request::Command { level, .. } = request
            && is_read
            && self.rng.u32(..3) == 0
        {
            *level = if self.rng.bool() { Level::Lazy } else { Level::Leader };
        }
    }

    /// Takes what an answer told for true, or says why it cannot be.
    fn learn(&mut self, asked: &Asked, shape: Shape, replies: &[Answered]) -> Result<(), String> {
        if replies.len() != asked.parts.len() {
            return Err(format!("{} commands have {} replies", asked.parts.len(), replies.len()));
        }
        let Pair { orders, in_both, .. } = &mut self.pairs[asked.pair];
        let mut since = asked.since;
        let mut read_in_both = Vec::new();
        for (Part { of, items }, reply) in asked.parts.iter().zip(replies) {
            let unfit = || format!("a command of a {:?} is answered with {reply:?}", KINDS[*of]);
            if items.is_empty() {
                let read = KINDS[*of].items_in(reply).ok_or_else(unfit)?;
                since[*of] = orders[*of].read(&read, since[*of])?;
                let of_both = read.iter().map(|(_, item)| *item).filter(|item| in_both.contains(item));
                read_in_both.push(of_both.collect::<BTreeSet<_>>());
                continue;
            }
            for (place, item) in KINDS[*of].places_in(reply, items).ok_or_else(unfit)? {
                if place <= since[*of] {
                    return Err(format!("item {item} is told to be at {place:?}, not behind {:?}", since[*of]));
                }
                orders[*of].learn(place, item)?;
                since[*of] = place;
            }
        }
        match &read_in_both[..] {
            [list, stream] if shape == Shape::Step && list != stream => {
                Err(format!("a step was seen in a part: of what is added to both, {list:?} and {stream:?} are there"))
            }
            _ => Ok(()),
        }
    }

    /// What the last reads have told is all there is.
    fn check_ended(&self, is_recovered: impl Fn(&Key) -> bool) -> Result<(), String> {
        for (asked, outcome) in &self.ended {
            let Pair { keys, orders, .. } = &self.pairs[asked.pair];
            if is_recovered(&keys[0]) {
                continue;
            }
            let items = |of: usize| {
                let parts = asked.parts.iter().filter(move |part| part.of == of);
                parts.flat_map(|part| part.items.iter().copied()).collect::<Vec<_>>()
            };
            let of_both = [items(0), items(1)];
            let is_there =
                of_both.iter().flatten().any(|item| orders.iter().any(|order| order.place_of(*item).is_some()));
            let is_whole = orders.iter().zip(&of_both).all(|(order, items)| order.are_together(items));
            let is_right = match outcome {
                Outcome::Added => is_whole,
                Outcome::Refused => !is_there,
                Outcome::Unknown => is_whole || !is_there,
            };
            if !is_right {
                return Err(format!(
                    "{of_both:?} of {} and its stream are {outcome:?}, but they hold {orders:?}",
                    keys[0]
                ));
            }
        }
        Ok(())
    }
}
