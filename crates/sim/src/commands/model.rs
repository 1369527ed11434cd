//! What keys hold, and what commands on them come to, one after the other: the commands are those of production, and what
//! they do is done here without any log.

use std::sync::LazyLock;

use bytes::Bytes;
use difuse_structures::{Context, Deadline, Effect, Held, Registry, Reply, State, View};
use difuse_types::WallTime;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::builtin);

/// Whether a command may change anything.
pub(super) fn is_write(arguments: &[Bytes]) -> bool {
    REGISTRY.is_write(arguments)
}

/// The time of all commands: nothing that they let expire does so before the end.
const NOW: WallTime = WallTime(0);

/// What a key holds, and until when.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Entry {
    value: Value,
    deadline: Option<WallTime>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Value {
    String(Bytes),
    /// A structure's number and its state, encoded.
    Structure(u8, Vec<u8>),
}

/// A value as commands see it.
enum Decoded {
    String(Bytes),
    Structure(Box<dyn State>),
}

impl Decoded {
    fn held(&self) -> Held<'_> {
        match self {
            Self::String(bytes) => Held::String(bytes),
            Self::Structure(state) => Held::Structure(&**state),
        }
    }
}

/// What the keys of a group hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Contents(Vec<Option<Entry>>);

impl Value {
    fn decode(&self) -> Option<Decoded> {
        Some(match self {
            Self::String(bytes) => Decoded::String(bytes.clone()),
            Self::Structure(id, state) => Decoded::Structure(REGISTRY.decode_state(*id, state).ok()?.ok()?),
        })
    }

    /// `None` if nothing is left.
    fn of(state: &dyn State) -> Option<Self> {
        (!state.is_nothing()).then(|| Self::Structure(state.id(), state.encode()))
    }
}

impl Contents {
    /// Nothing, under so many keys.
    pub(super) fn new(keys: usize) -> Self {
        Self(vec![None; keys])
    }

    pub(super) fn exists(&self, key: usize) -> bool {
        self.0[key].is_some()
    }

    /// Does a command on these keys, in the order in which its arguments name them.
    pub(super) fn run(&mut self, keys: &[usize], arguments: &[Bytes]) -> Reply {
        let entries: Vec<Option<&Entry>> = keys.iter().map(|key| self.0[*key].as_ref()).collect();
        let decoded: Vec<Option<Decoded>> =
            entries.iter().map(|entry| entry.and_then(|it| it.value.decode())).collect();
        let views: Vec<View<'_>> = entries
            .iter()
            .zip(&decoded)
            .map(|(entry, decoded)| View {
                held: decoded.as_ref().map(Decoded::held),
                deadline: entry.and_then(|entry| entry.deadline),
            })
            .collect();
        match REGISTRY.evaluate_keys(&views, arguments, &Context::new(NOW, 0)) {
            Ok(outcome) => {
                outcome.effects.into_iter().for_each(|(index, effect)| self.apply(keys[index], effect));
                outcome.reply
            }
            Err(error) => Reply::Error(error.to_string()),
        }
    }

    /// Sets a key to a value, whatever it holds, or deletes it.
    pub(super) fn write(&mut self, key: usize, value: Option<Bytes>) -> Reply {
        self.0[key] = value.map(|bytes| Entry { value: Value::String(bytes), deadline: None });
        Reply::ok()
    }

    fn apply(&mut self, key: usize, effect: Effect) {
        let before = self.0[key].take();
        let deadline = before.as_ref().and_then(|entry| entry.deadline);
        self.0[key] = match effect {
            Effect::Nothing => before,
            Effect::Delete => None,
            Effect::Expire(deadline) => before.map(|entry| Entry { deadline, ..entry }),
            Effect::Set(bytes, new) => {
                let deadline = match new {
                    Deadline::Keep => deadline,
                    Deadline::None => None,
                    Deadline::At(at) => Some(at),
                };
                Some(Entry { value: Value::String(bytes), deadline })
            }
            Effect::Hold { structure, state, deadline } => {
                Some(Entry { value: Value::Structure(structure, state), deadline })
            }
            Effect::Apply { structure, operation } => {
                let state = match before.and_then(|entry| entry.value.decode()) {
                    Some(Decoded::Structure(state)) if state.id() == structure => Some(state),
                    _ => REGISTRY.empty_state(structure).ok(),
                };
                let value = state.and_then(|mut state| {
                    state.apply_encoded(&operation).ok()?;
                    Value::of(&*state)
                });
                value.map(|value| Entry { value, deadline })
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_structures::Reply;

    use super::Contents;

    fn run(contents: &mut Contents, keys: &[usize], line: &str) -> Reply {
        let words: Vec<Bytes> = line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect();
        contents.run(keys, &words)
    }

    #[test]
    fn commands_see_what_those_before_have_done() {
        let mut contents = Contents::new(2);
        assert_eq!(run(&mut contents, &[0], "rpush a 1 2"), Reply::Integer(2));
        assert_eq!(run(&mut contents, &[0, 1], "lmove a b left left"), Reply::bulk("1"));
        assert_eq!(run(&mut contents, &[0, 0], "lmove a a left right"), Reply::bulk("2"));
        assert_eq!(run(&mut contents, &[0], "lpop a"), Reply::bulk("2"));
        assert!(!contents.exists(0) && contents.exists(1));
        assert_eq!(run(&mut contents, &[0, 1], "rename b a"), Reply::Error("ERR no such key".into()));
        assert_eq!(run(&mut contents, &[1, 0], "rename b a"), Reply::ok());
        assert_eq!(run(&mut contents, &[1], "set b 5"), Reply::ok());
        assert_eq!(run(&mut contents, &[1], "incr b"), Reply::Integer(6));
        assert!(matches!(run(&mut contents, &[0], "incr a"), Reply::Error(_)), "a list is no number");
        assert_eq!(run(&mut contents, &[1], "expire b 100"), Reply::Integer(1));
        assert_eq!(run(&mut contents, &[1], "append b 1"), Reply::Integer(2));
        assert_eq!(run(&mut contents, &[1, 0], "rename b a"), Reply::ok());
        assert_eq!(run(&mut contents, &[0], "persist a"), Reply::Integer(1));
        assert_eq!(run(&mut contents, &[0], "persist a"), Reply::Integer(0));
    }
}
