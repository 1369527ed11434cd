//! Hashes: fields with values.

mod read;
mod write;

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{
    CommandError,
    Flag::{self, DenyOom, Fast, ReadOnly, Write},
    KeyCommand, Plan, Rebuilding, Structure, in_commands,
};

/// Fields with values. A field that goes leaves its place to the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Checkpoint")]
pub struct Hash {
    fields: IndexMap<Bytes, Bytes>,
    /// Whether it has once been too large for what Redis calls a listpack, and so is a hash table for good.
    is_table: bool,
    /// Bytes of all fields and values: follows from them.
    #[serde(skip)]
    bytes: usize,
}

/// What a checkpoint has of a hash.
#[derive(Deserialize)]
struct Checkpoint {
    fields: IndexMap<Bytes, Bytes>,
    is_table: bool,
}

impl From<Checkpoint> for Hash {
    fn from(checkpoint: Checkpoint) -> Self {
        let bytes = checkpoint.fields.iter().map(|(field, value)| field.len() + value.len()).sum();
        Self { fields: checkpoint.fields, is_table: checkpoint.is_table, bytes }
    }
}

/// What the log of a hash consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashOperation {
    /// These fields have these values from now on.
    Set(Vec<(Bytes, Bytes)>),
    /// These fields are gone.
    Remove(Vec<Bytes>),
}

type Planned = Result<Plan<HashOperation>, CommandError>;

/// Redis's bounds of a listpack: how many fields, how many bytes of one.
const LISTPACK_FIELDS_MAX: usize = 512;
const LISTPACK_BYTES_MAX: usize = 64;

impl Hash {
    fn set(&mut self, field: Bytes, value: Bytes) {
        let field_length = field.len();
        self.is_table |= field_length > LISTPACK_BYTES_MAX || value.len() > LISTPACK_BYTES_MAX;
        self.bytes += field_length + value.len();
        if let Some(before) = self.fields.insert(field, value) {
            self.bytes -= field_length + before.len();
        }
        self.is_table |= self.fields.len() > LISTPACK_FIELDS_MAX;
    }

    fn remove(&mut self, field: &Bytes) {
        if let Some(value) = self.fields.swap_remove(field) {
            self.bytes -= field.len() + value.len();
        }
    }
}

impl Structure for Hash {
    const ID: u8 = 1;
    const NAME: &'static str = "hash";
    type Operation = HashOperation;

    fn apply(&mut self, operation: HashOperation) {
        match operation {
            HashOperation::Set(fields) => fields.into_iter().for_each(|(field, value)| self.set(field, value)),
            HashOperation::Remove(fields) => fields.iter().for_each(|field| self.remove(field)),
        }
    }

    fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn weight(&self) -> usize {
        self.bytes + 100 * self.fields.len()
    }

    fn encoding(&self) -> &'static str {
        if self.is_table { "hashtable" } else { "listpack" }
    }

    fn rebuild(&self) -> Option<Vec<Rebuilding>> {
        let fields = self.fields.iter().map(|(field, value)| [field.clone(), value.clone()]);
        Some(in_commands("hset", fields))
    }

    fn commands() -> Vec<KeyCommand> {
        [write::commands(), read::commands()].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(hash: &mut Hash, field: &str, value: &str) {
        let pair = (Bytes::copy_from_slice(field.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
        hash.apply(HashOperation::Set(vec![pair]));
    }

    #[test]
    fn its_weight_follows_what_is_in_it() {
        let mut hash = Hash::default();
        set(&mut hash, "a", "12345");
        set(&mut hash, "b", "1");
        set(&mut hash, "a", "1");
        assert_eq!((hash.bytes, hash.fields.len()), (4, 2));
        hash.apply(HashOperation::Remove(vec![Bytes::from_static(b"a"), Bytes::from_static(b"nosuch")]));
        assert_eq!((hash.bytes, hash.fields.len()), (2, 1));
        hash.apply(HashOperation::Remove(vec![Bytes::from_static(b"b")]));
        assert!(hash.is_empty() && hash.bytes == 0);
    }

    #[test]
    fn once_large_it_stays_a_table() {
        let mut hash = Hash::default();
        set(&mut hash, "a", &"x".repeat(64));
        assert_eq!(hash.encoding(), "listpack");
        set(&mut hash, "a", &"x".repeat(65));
        set(&mut hash, "a", "x");
        assert_eq!(hash.encoding(), "hashtable");
        let read: Hash = postcard::from_bytes(&crate::structure::encode(&hash)).expect("a checkpoint");
        assert_eq!(read, hash);
    }
}
