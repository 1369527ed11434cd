//! Commands of Redis of all kinds on few keys of one slot: one at a time, several on one key as a series, or several on all
//! keys in a step, or a plain write as over HTTP, with retries, many at once. Items are taken out of lists and moved from
//! one to the other, keys are deleted, renamed and come back with values of another kind. What clients were told must be
//! what the same commands say one after the other, in some order (Herlihy and Wing 1990).

use std::time::Duration;

use bytes::Bytes;
use difuse_keylog::{Condition, Operation, Step, StepCommand, Value};
use difuse_protocol::request::{Request, Since};
use difuse_structures::{Reply as Answered, in_series};
use difuse_types::{Key, Level, SlotId};

use self::{
    model::Contents,
    vocabulary::{KINDS, Phrase, WHOLE, name_of},
};
use crate::{
    Violation,
    clients::operation_id,
    errands::{Aim, Ending, Shape},
    search::{Model, OPEN, Span, has_order},
    simulation::{Event, Phase, Simulation},
};

mod model;
mod vocabulary;

/// How many keys there are in a group.
const KEYS: usize = 3;
/// After so many requests a group is left, and another one used, so that histories stay short.
const REQUESTS_PER_GROUP: usize = 40;
/// Nor are there more than this whose outcome is not known: each doubles what may have happened.
const OPEN_PER_GROUP: usize = 6;
/// The most commands of a series or of a step.
const COMMANDS_MAX: usize = 4;
/// The numbers of operation ids begin here: others are smaller.
const FIRST_OPERATION: u64 = 1 << 42;

/// A command, and the numbers of the keys that it names.
#[derive(Clone, Debug)]
struct Command {
    keys: Vec<usize>,
    arguments: Vec<Bytes>,
}

/// What a request asks for.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    group: usize,
    /// Of a plain write one, with the value as its only argument: without, it deletes the key.
    commands: Vec<Command>,
    shape: Shape,
    /// A key that must exist, or must not, for a step or a write to be done.
    rests_on: Option<(usize, bool)>,
    invoked_at: u64,
}

/// A request that may have done something, or that told something.
#[derive(Debug)]
struct Done {
    asked: Asked,
    is_write: bool,
    told: Option<Vec<Answered>>,
    completed_at: u64,
}

/// Keys of one slot, and what was done with them.
struct Group {
    keys: [Key; KEYS],
    kind: usize,
    requests: usize,
    under_way: usize,
    done: Vec<Done>,
}

/// The groups of one seed. They draw from numbers of their own, so that nothing else changes with them.
pub(crate) struct Commands {
    rng: fastrand::Rng,
    /// How many requests are still to come.
    left: u32,
    groups: Vec<Group>,
    last_number: u64,
}

impl Asked {
    fn is_write(&self) -> bool {
        self.shape == Shape::Write || self.commands.iter().any(|command| model::is_write(&command.arguments))
    }
}

impl Group {
    fn is_used_up(&self) -> bool {
        let unknown = self.done.iter().filter(|done| done.completed_at == OPEN).count();
        self.requests >= REQUESTS_PER_GROUP || unknown + self.under_way >= OPEN_PER_GROUP
    }

    /// Whether some order explains what clients were told.
    fn has_order(&self) -> bool {
        let span = |done: &Done| Span::new(done.asked.invoked_at, done.completed_at);
        let spans: Vec<Span> = self.done.iter().map(span).collect();
        has_order(self, &spans, Contents::new(KEYS))
    }
}

impl Model for Group {
    type State = Contents;

    fn apply(&self, operation: usize, state: &Contents) -> Option<Contents> {
        let Done { asked, told, .. } = &self.done[operation];
        let mut state = state.clone();
        let is_done = asked.rests_on.is_none_or(|(key, exists)| state.exists(key) == exists);
        let run = |command: &Command| match asked.shape {
            Shape::Write => state.write(command.keys[0], command.arguments.first().cloned()),
            _ => state.run(&command.keys, &command.arguments),
        };
        let replies = if is_done { asked.commands.iter().map(run).collect() } else { vec![] };
        told.as_ref().is_none_or(|told| *told == replies).then_some(state)
    }

    fn is_read(&self, operation: usize) -> bool {
        !self.done[operation].is_write
    }
}

impl Commands {
    pub(crate) fn new(seed: u64, count: u32) -> Self {
        let rng = fastrand::Rng::with_seed(seed.rotate_left(24) ^ !seed);
        Self { rng, left: count, groups: Vec::new(), last_number: 0 }
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.groups.iter().flat_map(|group| &group.keys)
    }

    /// The group in use.
    fn current(&mut self) -> usize {
        if self.groups.last().is_none_or(Group::is_used_up) {
            let number = self.groups.len();
            // Short names are keys.
            let key = |name: String| Key::new(name.as_bytes()).unwrap_or_else(|error| unreachable!("{error}"));
            let keys = std::array::from_fn(|index| key(format!("{{commands {number}}} {}", name_of(index))));
            let kind = self.rng.usize(..KINDS.len());
            self.groups.push(Group { keys, kind, requests: 0, under_way: 0, done: Vec::new() });
        }
        self.groups.len() - 1
    }

    /// Thinks of a command on `keys`.
    fn draw_command(&mut self, kind: usize, keys: [usize; 3]) -> Command {
        // Now and then a key is taken for one of another kind.
        let kind = if self.rng.u32(..12) == 0 { self.rng.usize(..KINDS.len()) } else { kind };
        let template = KINDS[kind][self.rng.usize(..KINDS[kind].len())];
        self.fill_in(template, keys)
    }

    fn fill_in(&mut self, template: &str, keys: [usize; 3]) -> Command {
        let last_number = &mut self.last_number;
        let next = || {
            *last_number += 1;
            *last_number
        };
        let Phrase { words, keys } = Phrase::new(template, keys, &mut self.rng, next);
        Command { keys, arguments: words.into_iter().map(Bytes::from).collect() }
    }

    /// Thinks of something to ask for.
    fn invent(&mut self, group: usize) -> Asked {
        if self.rng.u32(..6) == 0 {
            return self.invent_write(group);
        }
        let kind = self.groups[group].kind;
        let shape = [Shape::Single, Shape::Series, Shape::Step, Shape::Step][self.rng.usize(..4)];
        let count = if shape == Shape::Single { 1 } else { self.rng.usize(1..=COMMANDS_MAX) };
        let mut keys: [usize; 3] = std::array::from_fn(|_| self.rng.usize(..KEYS));
        let mut commands = Vec::with_capacity(count);
        while commands.len() < count {
            let command = self.draw_command(kind, keys);
            match shape {
                Shape::Step => keys = std::array::from_fn(|_| self.rng.usize(..KEYS)),
                _ if command.keys.len() > 1 => continue,
                _ => {}
            }
            commands.push(command);
        }
        let rests_on = (shape == Shape::Step && self.rng.u32(..5) == 0).then(|| (keys[0], self.rng.bool()));
        Asked { group, commands, shape, rests_on, invoked_at: 0 }
    }

    /// Sets a key to a value, or deletes it.
    fn invent_write(&mut self, group: usize) -> Asked {
        let key = self.rng.usize(..KEYS);
        self.last_number += 1;
        let value = (self.rng.u32(..4) > 0).then(|| Bytes::from(self.last_number.to_string()));
        let commands = vec![Command { keys: vec![key], arguments: value.into_iter().collect() }];
        let rests_on = (self.rng.u32(..3) == 0).then(|| (key, self.rng.bool()));
        Asked { group, commands, shape: Shape::Write, rests_on, invoked_at: 0 }
    }

    /// Reads all that a group's keys hold.
    fn read_all(&mut self, group: usize) -> Asked {
        let wholes = (0..KEYS).flat_map(|key| WHOLE.map(|template| (template, [key; 3])));
        let commands = wholes.map(|(template, keys)| self.fill_in(template, keys)).collect();
        Asked { group, commands, shape: Shape::Step, rests_on: None, invoked_at: 0 }
    }

    fn request(&mut self, asked: &Asked, steps: Key) -> Request {
        self.last_number += 1;
        let operation_id = operation_id(FIRST_OPERATION + self.last_number, &mut self.rng);
        let level = if self.rng.u32(..8) == 0 { Level::All } else { Level::Quorum };
        let keys = &self.groups[asked.group].keys;
        let Some(Command { keys: named, arguments }) = asked.commands.first() else {
            unreachable!("it asks for something")
        };
        let first = keys[named[0]].clone();
        let condition = |exists| if exists { Condition::Present } else { Condition::Absent };
        let commands = asked.commands.iter();
        let (key, arguments) = match asked.shape {
            Shape::Write => {
                let value = arguments.first().map(|bytes| Operation::Set(Value::inline(bytes.clone())));
                let operation = value.unwrap_or(Operation::Delete);
                let condition = asked.rests_on.map_or(Condition::None, |(_, exists)| condition(exists));
                return Request::Write { key: first, operation, condition, operation_id, level, since: Since::Now };
            }
            Shape::Single => (first, arguments.clone()),
            Shape::Series => (first, in_series(commands.map(|command| command.arguments.clone()).collect())),
            Shape::Step => {
                let named = |command: &Command| command.keys.iter().map(|key| keys[*key].clone()).collect();
                let command =
                    |command: &Command| StepCommand { keys: named(command), arguments: command.arguments.clone() };
                let rests_on = asked.rests_on.iter().map(|(key, exists)| (keys[*key].clone(), condition(*exists)));
                let step = Step { unchanged: rests_on.collect(), commands: commands.map(command).collect() };
                (steps, step.to_arguments())
            }
        };
        Request::Command { key, arguments, operation_id, level, since: Since::Now }
    }
}

impl Simulation {
    /// The next command comes soon, if there is any left, or with others at once.
    pub(crate) fn schedule_commands(&mut self) {
        if self.commands.left > 0 {
            let pause = if self.commands.rng.bool() { 1..3 } else { 5..500 };
            let pause = Duration::from_millis(self.commands.rng.u64(pause));
            self.queue.push(self.now + pause, Event::Command);
        }
    }

    /// Asks for something.
    pub(crate) fn use_commands(&mut self) {
        if self.phase != Phase::Faults {
            return;
        }
        self.commands.left = self.commands.left.saturating_sub(1);
        let group = self.commands.current();
        let asked = self.commands.invent(group);
        self.ask_for_commands(asked);
        self.schedule_commands();
    }

    /// When all is healed, all that is there is read.
    pub(crate) fn read_what_commands_left(&mut self) {
        for group in 0..self.commands.groups.len() {
            let asked = self.commands.read_all(group);
            self.ask_for_commands(asked);
        }
    }

    fn slot_of_commands(&self, group: usize) -> SlotId {
        self.plan.settings.slots.of_key(&self.commands.groups[group].keys[0])
    }

    fn ask_for_commands(&mut self, asked: Asked) {
        let steps = Key::of_steps(self.slot_of_commands(asked.group));
        let request = self.commands.request(&asked, steps);
        let group = &mut self.commands.groups[asked.group];
        group.requests += 1;
        group.under_way += 1;
        let invoked_at = self.clients.tick();
        self.begin_errand(Aim::Commands(Asked { invoked_at, ..asked }), request);
    }

    /// What a request has come to.
    pub(crate) fn end_commands(&mut self, asked: Asked, ending: Ending) {
        let (now, is_write) = (self.clients.tick(), asked.is_write());
        let group = &mut self.commands.groups[asked.group];
        group.under_way -= 1;
        let (told, completed_at) = match ending {
            Ending::Told(replies) => (Some(replies), now),
            Ending::Applied => (None, now),
            Ending::Unknown if is_write => {
                self.figures.unknown += 1;
                (None, OPEN)
            }
            Ending::Unknown | Ending::Refused => return,
        };
        group.done.push(Done { asked, is_write, told, completed_at });
    }

    /// What was told of each group has an order.
    pub(crate) fn check_commands(&mut self) -> Result<(), Violation> {
        if self.phase != Phase::Over {
            return Ok(());
        }
        for group in 0..self.commands.groups.len() {
            if self.recoveries.is_recovered(self.slot_of_commands(group)) {
                // What was told may be lost, and of a step that was under way a survivor may hold a part.
                continue;
            }
            self.figures.histories += 1;
            let group = &self.commands.groups[group];
            if !group.has_order() {
                let history = group.done.iter().map(Done::describe).collect::<Vec<_>>().join("\n");
                return Err(Violation::NotLinearizable { key: group.keys[0].clone(), history });
            }
        }
        Ok(())
    }
}

impl Done {
    /// For people.
    fn describe(&self) -> String {
        let Self { asked: Asked { commands, shape, rests_on, invoked_at, .. }, told, completed_at, .. } = self;
        let words = |command: &Command| {
            command.arguments.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
        };
        let commands = commands.iter().map(words).collect::<Vec<_>>().join("; ");
        let until = if *completed_at == OPEN { String::new() } else { completed_at.to_string() };
        format!("  {invoked_at:>6}..{until:<6} {shape:?} {rests_on:?} [{commands}] -> {told:?}")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_structures::Reply;

    use super::{Asked, Command, Done, Group, KEYS, Key, OPEN, Shape};

    /// What each request said, what it was told, and when it began and ended.
    type History<'a> = &'a [(&'a str, Option<Reply>, u64, u64)];

    fn has_order(history: History<'_>) -> bool {
        let done = history.iter().map(|(line, told, invoked_at, completed_at)| {
            let arguments: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
            let keys = if line.starts_with("lmove") { vec![0, 1] } else { vec![0] };
            let commands = vec![Command { keys, arguments }];
            let asked = Asked { group: 0, commands, shape: Shape::Step, rests_on: None, invoked_at: *invoked_at };
            Done {
                is_write: asked.is_write(),
                asked,
                told: told.clone().map(|told| vec![told]),
                completed_at: *completed_at,
            }
        });
        let keys: [Key; KEYS] = std::array::from_fn(|_| Key::new(b"k").unwrap());
        Group { keys, kind: 0, requests: 0, under_way: 0, done: done.collect() }.has_order()
    }

    #[test]
    fn an_item_is_taken_once() {
        let push = ("rpush a 1", Some(Reply::Integer(1)), 0, 1);
        let pop = |reply: Reply, at: u64| ("lpop a", Some(reply), at, at + 5);
        assert!(has_order(&[push.clone(), pop(Reply::bulk("1"), 2), pop(Reply::Null, 3)]));
        assert!(!has_order(&[push.clone(), pop(Reply::bulk("1"), 2), pop(Reply::bulk("1"), 3)]));
        assert!(!has_order(&[push.clone(), pop(Reply::Null, 2)]));
        let lost = ("lpop a", None, 2, OPEN);
        assert!(has_order(&[push.clone(), lost.clone(), pop(Reply::Null, 9)]));
        assert!(has_order(&[push.clone(), lost.clone(), pop(Reply::bulk("1"), 9)]));
        assert!(!has_order(&[push, lost, pop(Reply::Null, 9), pop(Reply::bulk("1"), 20)]));
    }

    #[test]
    fn what_changes_nothing_now_may_do_so_later() {
        let delete = ("del a", Some(Reply::Integer(0)), 0, 10);
        let history = [("set a 1", None, 0, 10), delete, ("getdel a", Some(Reply::bulk("1")), 0, 10)];
        assert!(has_order(&history));
        let moved = ("lmove a b left right", Some(Reply::bulk("1")), 4, 10);
        assert!(has_order(&[("rpush a 1", None, 0, 3), moved.clone(), ("llen a", Some(Reply::Integer(0)), 11, 12)]));
        assert!(!has_order(&[("rpush a 1", None, 0, 3), moved, ("llen a", Some(Reply::Integer(1)), 11, 12)]));
    }
}
