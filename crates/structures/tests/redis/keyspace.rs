//! Keys in memory, and commands evaluated on them as the leader of a key does.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use difuse_structures::{Context, Deadline, Effect, Held, Outcome, Registry, Reply, State, View};
use difuse_types::WallTime;

enum Content {
    String(Bytes),
    Structure(Box<dyn State>),
}

struct Entry {
    content: Content,
    deadline: Option<WallTime>,
    /// The operations that the structure is the fold of.
    log: Vec<(u8, Vec<u8>)>,
}

/// Keys and what they hold.
pub struct Keyspace {
    registry: Registry,
    entries: BTreeMap<Bytes, Entry>,
    seed: u64,
}

fn now() -> WallTime {
    WallTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

impl Keyspace {
    /// No keys.
    pub fn new(seed: u64) -> Self {
        Self { registry: Registry::builtin(), entries: BTreeMap::new(), seed }
    }

    /// What a command would come to.
    pub fn evaluate(&mut self, arguments: &[Bytes]) -> Outcome {
        self.seed = self.seed.wrapping_add(1);
        let context = Context::new(now(), self.seed);
        let key = self.key(arguments);
        self.entries.retain(|_, entry| entry.deadline.is_none_or(|deadline| deadline > context.now));
        let entry = self.entries.get(&key);
        let view = View {
            held: entry.map(|entry| match &entry.content {
                Content::String(bytes) => Held::String(bytes),
                Content::Structure(state) => Held::Structure(&**state),
            }),
            deadline: entry.and_then(|entry| entry.deadline),
        };
        let outcome = self.registry.evaluate(&view, arguments, &context).expect("nothing lives in blocks");
        let again = self.registry.evaluate(&view, arguments, &context).expect("nothing lives in blocks");
        assert_eq!(format!("{outcome:?}"), format!("{again:?}"), "not decided by its inputs: {arguments:?}");
        outcome
    }

    /// Evaluates a command and does it.
    pub fn execute(&mut self, arguments: &[Bytes]) -> Reply {
        let outcome = self.evaluate(arguments);
        let key = self.key(arguments);
        self.apply(key, outcome.effect);
        Reply::decode(&outcome.reply.encode()).expect("replies travel")
    }

    fn key(&self, arguments: &[Bytes]) -> Bytes {
        let first = self.registry.command(arguments).map_or(1, |command| command.keys.first);
        arguments.get(usize::try_from(first).unwrap_or(1)).cloned().unwrap_or_default()
    }

    fn apply(&mut self, key: Bytes, effect: Effect) {
        match effect {
            Effect::Nothing => {}
            Effect::Delete => {
                self.entries.remove(&key).expect("what is deleted was there");
            }
            Effect::Expire(deadline) => self.entries.get_mut(&key).expect("what expires is there").deadline = deadline,
            Effect::Set(bytes, deadline) => {
                let before = self.entries.get(&key).and_then(|entry| entry.deadline);
                let deadline = match deadline {
                    Deadline::Keep => before,
                    Deadline::None => None,
                    Deadline::At(moment) => Some(moment),
                };
                self.entries.insert(key, Entry { content: Content::String(bytes), deadline, log: Vec::new() });
            }
            Effect::Apply { structure, operation } => {
                let empty = || Entry {
                    content: Content::Structure(self.registry.empty_state(structure).expect("a structure of ours")),
                    deadline: None,
                    log: Vec::new(),
                };
                let entry = self.entries.entry(key.clone()).or_insert_with(empty);
                let Content::Structure(state) = &mut entry.content else { panic!("an operation on a string") };
                state.apply_encoded(&operation).expect("what was planned can be applied");
                entry.log.push((structure, operation));
                if state.is_nothing() {
                    self.entries.remove(&key);
                }
            }
        }
    }

    /// The operations of all structures, key by key, each with its structure's number.
    pub fn operations(&self) -> Vec<(u8, Vec<u8>)> {
        self.entries.values().flat_map(|entry| entry.log.clone()).collect()
    }

    /// The checkpoint form of all structures, key by key, each with its structure's number.
    pub fn checkpoints(&self) -> Vec<(u8, Vec<u8>)> {
        let states = self.entries.values().filter_map(|entry| match &entry.content {
            Content::Structure(state) => Some((state.id(), state.encode())),
            Content::String(_) => None,
        });
        states.collect()
    }

    /// Every state is the fold of its operations, and reads back from its checkpoint form.
    pub fn check(&self) {
        for (key, entry) in &self.entries {
            let Content::Structure(state) = &entry.content else { continue };
            let mut folded = self.registry.empty_state(state.id()).expect("a structure of ours");
            for (_, operation) in &entry.log {
                folded.apply_encoded(operation).expect("what was logged can be applied");
            }
            assert_eq!(folded.encode(), state.encode(), "the fold of {key:?} is another state");
            let read = self.registry.decode_state(state.id(), &state.encode()).expect("known").expect("well-formed");
            assert_eq!(read.encode(), state.encode(), "the checkpoint of {key:?} is another state");
            assert_eq!((read.memory(), read.encoding_name()), (state.memory(), state.encoding_name()));
            assert!(!state.is_nothing(), "an empty {key:?} was kept");
        }
    }
}
