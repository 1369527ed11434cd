//! Hashes: fields with values.

use bytes::Bytes;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{
    Arguments, Command, Context,
    Flag::{DenyOom, Fast, ReadOnly, Write},
    KeyCommand, KeyPositions, Plan, Reply, Structure,
};

/// Fields with values, in the order in which they came in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hash {
    fields: IndexMap<Bytes, Bytes>,
    /// Bytes of all fields and values.
    bytes: usize,
}

/// What the log of a hash consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HashOperation {
    /// These fields have these values from now on.
    Set(Vec<(Bytes, Bytes)>),
    /// These fields are gone.
    Remove(Vec<Bytes>),
}

type Planned = crate::Planned<Hash>;

impl Structure for Hash {
    const ID: u8 = 1;
    const NAME: &'static str = "hash";
    type Operation = HashOperation;

    fn apply(&mut self, operation: HashOperation) {
        match operation {
            HashOperation::Set(fields) => {
                for (field, value) in fields {
                    self.bytes += field.len() + value.len();
                    let length = field.len();
                    if let Some(before) = self.fields.insert(field, value) {
                        self.bytes -= length + before.len();
                    }
                }
            }
            HashOperation::Remove(fields) => {
                for field in fields {
                    if let Some(value) = self.fields.shift_remove(&field) {
                        self.bytes -= field.len() + value.len();
                    }
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn weight(&self) -> usize {
        self.bytes + 100 * self.fields.len()
    }

    fn encoding(&self) -> &'static str {
        let is_short = |text: &Bytes| text.len() <= 64;
        let is_small =
            self.fields.len() <= 128 && self.fields.iter().all(|(field, value)| is_short(field) && is_short(value));
        if is_small { "listpack" } else { "hashtable" }
    }

    fn commands() -> Vec<KeyCommand> {
        let command = |name, arity, flags, since, complexity, summary| Command {
            name,
            arity,
            flags,
            keys: KeyPositions::ONE,
            group: "hash",
            since,
            complexity,
            summary,
        };
        vec![
            KeyCommand::on(
                command("hset", -4, &[Write, DenyOom, Fast], "2.0.0", "O(1) for each field", "Sets fields of a hash"),
                hset,
            ),
            KeyCommand::on(command("hget", 3, &[ReadOnly, Fast], "2.0.0", "O(1)", "Reads a field of a hash"), hget),
        ]
    }
}

fn hset(hash: &Hash, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let pairs = arguments.take_pairs()?;
    let mut created = std::collections::BTreeSet::new();
    created.extend(pairs.clone().map(|(field, _)| field).filter(|field| !hash.fields.contains_key(*field)));
    let fields = pairs.map(|(field, value)| (field.clone(), value.clone())).collect();
    Ok(Plan::new(Reply::count(created.len()), HashOperation::Set(fields)))
}

fn hget(hash: &Hash, arguments: &mut Arguments<'_>, _: &Context) -> Planned {
    let field = arguments.next_bytes()?;
    Ok(Plan::reply(Reply::bulk_or_null(hash.fields.get(field).cloned())))
}
