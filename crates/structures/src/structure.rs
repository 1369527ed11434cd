use std::{any::Any, fmt::Debug};

use serde::{Serialize, de::DeserializeOwned};

use crate::{KeyCommand, KeysCommand, Rebuilding};

/// Bytes that are no operation or no state of a structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no {what} of a {structure}")]
pub struct Malformed {
    /// What they should be.
    pub what: &'static str,
    /// The structure's name.
    pub structure: &'static str,
}

/// One kind of data structure. Its state is the value of the type itself; the default is the state of a key that does
/// not exist.
///
/// Operations and states are encoded as postcard encodes them, in logs and checkpoints that are kept for years: add
/// variants at the end, never change or remove one.
pub trait Structure: Clone + Debug + Default + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// Its number in logs and checkpoints, for ever. 0 to 63 are difuse's own; others are free for your own structures.
    const ID: u8;
    /// What `TYPE` answers.
    const NAME: &'static str;
    /// What its log consists of: effects, without choices or conditions.
    type Operation: Debug + Serialize + DeserializeOwned;

    /// The next state. Total: an operation that does not fit the state changes what it can and never panics, because
    /// everybody who folds a log must come to the same state.
    fn apply(&mut self, operation: Self::Operation);

    /// Whether nothing is left: then the key does not exist any more.
    fn is_empty(&self) -> bool;

    /// About how many bytes of memory it takes, in constant time.
    fn weight(&self) -> usize;

    /// What `OBJECT ENCODING` answers.
    fn encoding(&self) -> &'static str;

    /// The commands on it.
    fn commands() -> Vec<KeyCommand>;

    /// The commands on several keys of which some hold it.
    fn commands_on_keys() -> Vec<KeysCommand> {
        Vec::new()
    }

    /// Commands that make it where there is no key, one after the other: what an export writes down. `None`: there are
    /// none, and it is not exported. [`crate::in_commands`] makes them.
    fn rebuild(&self) -> Option<Vec<Rebuilding>> {
        None
    }
}

/// The state of any structure.
pub trait State: Debug + Send + Sync {
    /// The structure's number.
    fn id(&self) -> u8;
    /// The structure's name.
    fn name(&self) -> &'static str;
    /// Decodes and applies an operation.
    fn apply_encoded(&mut self, operation: &[u8]) -> Result<(), Malformed>;
    /// Whether nothing is left.
    fn is_nothing(&self) -> bool;
    /// About how many bytes of memory it takes.
    fn memory(&self) -> usize;
    /// What `OBJECT ENCODING` answers.
    fn encoding_name(&self) -> &'static str;
    /// The checkpoint form: equal histories give equal bytes.
    fn encode(&self) -> Vec<u8>;
    /// Commands that make it where there is no key; `None` if there are none.
    fn rebuilding(&self) -> Option<Vec<Rebuilding>>;
    /// A copy.
    fn duplicate(&self) -> Box<dyn State>;
    /// To find out which structure it is.
    fn as_any(&self) -> &dyn Any;
}

impl<S: Structure> State for S {
    fn id(&self) -> u8 {
        S::ID
    }

    fn name(&self) -> &'static str {
        S::NAME
    }

    fn apply_encoded(&mut self, operation: &[u8]) -> Result<(), Malformed> {
        let malformed = Malformed { what: "operation", structure: S::NAME };
        self.apply(postcard::from_bytes(operation).map_err(|_| malformed)?);
        Ok(())
    }

    fn is_nothing(&self) -> bool {
        self.is_empty()
    }

    fn memory(&self) -> usize {
        self.weight()
    }

    fn encoding_name(&self) -> &'static str {
        self.encoding()
    }

    fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    fn rebuilding(&self) -> Option<Vec<Rebuilding>> {
        self.rebuild()
    }

    fn duplicate(&self) -> Box<dyn State> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Writing to memory does not fail, and no type of a structure refuses to be serialized.
pub(crate) fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).unwrap_or_default()
}
