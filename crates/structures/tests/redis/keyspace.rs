//! Keys in memory, and commands evaluated on them as the leader of a key does.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use difuse_structures::{Context, Deadline, Effect, Held, KeysOutcome, Registry, Reply, State, View};
use difuse_types::WallTime;

enum Content {
    String(Bytes),
    Structure(Box<dyn State>),
}

struct Entry {
    content: Content,
    deadline: Option<WallTime>,
    /// The state that the structure began with, in its checkpoint form; `None`: the empty one.
    whole: Option<Vec<u8>>,
    /// The operations that the structure is the fold of.
    log: Vec<(u8, Vec<u8>)>,
}

/// Keys and what they hold.
pub struct Keyspace {
    registry: Registry,
    entries: BTreeMap<Bytes, Entry>,
    seed: u64,
    /// When commands come in; `None`: now.
    time: Option<WallTime>,
}

fn now() -> WallTime {
    WallTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64))
}

impl Keyspace {
    /// No keys.
    pub fn new(seed: u64) -> Self {
        Self { registry: Registry::builtin(), entries: BTreeMap::new(), seed, time: None }
    }

    /// No keys, and a clock that stands.
    pub fn at(seed: u64, time: WallTime) -> Self {
        Self { time: Some(time), ..Self::new(seed) }
    }

    /// What a command would come to, and the keys that it names.
    pub fn evaluate(&mut self, arguments: &[Bytes]) -> (Vec<Bytes>, KeysOutcome) {
        self.seed = self.seed.wrapping_add(1);
        let context = Context::new(self.time.unwrap_or_else(now), self.seed);
        self.entries.retain(|_, entry| entry.deadline.is_none_or(|deadline| deadline > context.now));
        let keys: Vec<Bytes> = match self.registry.key_positions(arguments) {
            Ok(positions) => positions.into_iter().map(|position| arguments[position].clone()).collect(),
            Err(error) => {
                let text = error.to_string().replace(['\r', '\n'], " ");
                return (Vec::new(), KeysOutcome::reply(Reply::Error(text)));
            }
        };
        let view = |key| {
            let entry: Option<&Entry> = self.entries.get(key);
            let held = entry.map(|entry| match &entry.content {
                Content::String(bytes) => Held::String(bytes),
                Content::Structure(state) => Held::Structure(&**state),
            });
            View { held, deadline: entry.and_then(|entry| entry.deadline) }
        };
        let views: Vec<View<'_>> = keys.iter().map(view).collect();
        let evaluate = || self.registry.evaluate_keys(&views, arguments, &context).expect("nothing lives in blocks");
        let outcome = evaluate();
        assert_eq!(format!("{outcome:?}"), format!("{:?}", evaluate()), "not decided by its inputs: {arguments:?}");
        if let [view] = &views[..] {
            let alone = self.registry.evaluate(view, arguments, &context).expect("nothing lives in blocks");
            assert_eq!(format!("{:?}", alone.reply), format!("{:?}", outcome.reply), "of one key: {arguments:?}");
        }
        (keys, outcome)
    }

    /// Evaluates a command and does it.
    pub fn execute(&mut self, arguments: &[Bytes]) -> Reply {
        let (keys, outcome) = self.evaluate(arguments);
        for (index, effect) in outcome.effects {
            self.apply(keys[index].clone(), effect);
        }
        Reply::decode(&outcome.reply.encode()).expect("replies travel")
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
                self.entries
                    .insert(key, Entry { content: Content::String(bytes), deadline, whole: None, log: Vec::new() });
            }
            Effect::Apply { structure, operation } => {
                let empty = || Entry {
                    content: Content::Structure(self.registry.empty_state(structure).expect("a structure of ours")),
                    deadline: None,
                    whole: None,
                    log: Vec::new(),
                };
                let entry = self.entries.entry(key.clone()).or_insert_with(empty);
                let Content::Structure(state) = &mut entry.content else { panic!("an operation on a string") };
                assert_eq!(state.id(), structure, "an operation on another structure");
                state.apply_encoded(&operation).expect("what was planned can be applied");
                entry.log.push((structure, operation));
                if state.is_nothing() {
                    self.entries.remove(&key);
                }
            }
            Effect::Hold { structure, state: whole, deadline } => {
                let state = self.registry.decode_state(structure, &whole).expect("a structure of ours");
                let state = state.expect("what is stored is a state");
                assert!(!state.is_nothing(), "an empty structure is stored");
                let content = Content::Structure(state);
                self.entries.insert(key, Entry { content, deadline, whole: Some(whole), log: Vec::new() });
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
            let mut folded = match &entry.whole {
                Some(whole) => self.registry.decode_state(state.id(), whole).expect("known").expect("well-formed"),
                None => self.registry.empty_state(state.id()).expect("a structure of ours"),
            };
            for (_, operation) in &entry.log {
                folded.apply_encoded(operation).expect("what was logged can be applied");
            }
            assert_eq!(folded.encode(), state.encode(), "the fold of {key:?} is another state");
            let read = self.registry.decode_state(state.id(), &state.encode()).expect("known").expect("well-formed");
            assert_eq!(read.encode(), state.encode(), "the checkpoint of {key:?} is another state");
            assert_eq!((read.memory(), read.encoding_name()), (state.memory(), state.encoding_name()));
            assert!(!state.is_nothing(), "an empty {key:?} was kept");
            self.check_rebuilding(&**state);
        }
    }

    /// The commands that it is exported as make the same again, but for how Redis would keep it.
    fn check_rebuilding(&self, state: &dyn State) {
        let mut made = self.registry.empty_state(state.id()).expect("a structure of ours");
        let commands = state.rebuilding().expect("all of ours are exported");
        for mut command in commands.clone() {
            let found = self.registry.command(&command).expect("a command of ours");
            let position = usize::try_from(found.keys.first).expect("a position");
            command.insert(position, Bytes::from_static(b"key"));
            let held = (!made.is_nothing()).then_some(Held::Structure(&*made));
            let view = View { held, deadline: None };
            let outcome = self
                .registry
                .evaluate(&view, &command, &Context::new(self.time.unwrap_or_else(now), 0))
                .expect("no blocks");
            match outcome.effect {
                Effect::Apply { operation, .. } => made.apply_encoded(&operation).expect("an operation"),
                other => panic!("{command:?} comes to {:?} and {other:?}", outcome.reply),
            }
        }
        assert_eq!(made.rebuilding(), Some(commands), "what was made again is something else");
    }
}
