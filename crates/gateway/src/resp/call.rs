use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use difuse_api::{
    Datastore,
    keylog::{Operation, Value, ValueKind},
    keys::{self, Submitted},
    request::{Condition, Entry, RequestError},
    structures::{Command, Context, Reply},
    values,
};
use difuse_types::{Key, Level, OperationId, WallTime};

use super::{
    Shared, clients::Client, failure::Failure, request::BULK_BYTES_MAX, session::Levels, transaction::Watched,
};

/// One command on keys, with all that doing it takes.
pub(super) struct Call {
    pub(super) shared: Arc<Shared>,
    pub(super) database: u32,
    pub(super) namespace: Arc<str>,
    pub(super) levels: Levels,
    pub(super) watched: Watched,
    pub(super) client: Arc<Client>,
    /// Whether it came between `MULTI` and `EXEC`.
    pub(super) is_in_transaction: bool,
    /// The command's name and what follows, as many as it takes.
    pub(super) arguments: Vec<Bytes>,
    pub(super) command: Command,
}

/// What a value is to a command.
pub(super) enum Kind<'a> {
    /// A string that lives in the log.
    Text(&'a Bytes),
    /// A string that lives in blocks.
    Blocks,
    /// A structure with this number.
    Structure(u8),
}

impl Call {
    /// The datastore.
    pub(super) fn datastore(&self) -> &dyn Datastore {
        &*self.shared.datastore
    }

    /// Another command of the connection, sent right behind this one.
    pub(super) fn following(&self, command: Command, arguments: Vec<Bytes>) -> Self {
        Self {
            shared: self.shared.clone(),
            namespace: self.namespace.clone(),
            watched: self.watched.clone(),
            client: self.client.clone(),
            arguments,
            command,
            ..*self
        }
    }

    /// The key with this name in the connection's database.
    pub(super) fn key(&self, name: &[u8]) -> Result<Key, Failure> {
        Ok(Key::in_namespace(&self.namespace, name)?)
    }

    /// The head of a key at the connection's level; `None` without a value that has not expired.
    pub(super) async fn read(&self, key: Key) -> Result<Option<(Entry, Value)>, Failure> {
        let entry = keys::read(self.datastore(), key, self.levels.read).await?;
        Ok(entry.and_then(with_value))
    }

    /// Lets the leader of the key's slot evaluate the command; `None` if the value lives in blocks, or would have to.
    pub(super) async fn evaluate_at_leader(
        &self,
        key: Key,
        operation_id: OperationId,
    ) -> Result<Option<Reply>, Failure> {
        let level = if self.command.is_write() { self.levels.write } else { self.levels.read };
        match keys::command(self.datastore(), key, self.arguments.clone(), operation_id, level).await {
            Err(RequestError::InBlocks) => Ok(None),
            evaluated => Ok(Some(evaluated?.reply)),
        }
    }

    /// Appends `operation` to the key's log if `condition` holds; `None` if it does not.
    pub(super) async fn write(
        &self,
        key: Key,
        operation: Operation,
        condition: Condition,
        operation_id: OperationId,
    ) -> Result<Option<Submitted>, Failure> {
        let level = self.levels.write;
        match keys::submit(self.datastore(), key, operation, condition, operation_id, level).await {
            Err(RequestError::Conflict { .. }) => Ok(None),
            submitted => Ok(Some(submitted?)),
        }
    }

    /// A value for `bytes`, however many, to be given to `key`; long ones are stored first.
    pub(super) async fn value_of(&self, key: &Key, bytes: Bytes, deadline: Option<WallTime>) -> Result<Value, Failure> {
        let value = match keys::inline_value(bytes.clone()) {
            Some(value) => value,
            None => {
                // Blocks are there or not: what is queued cannot be referred to yet.
                let level = if self.levels.write == Level::Lazy { Level::Quorum } else { self.levels.write };
                values::store(self.datastore(), key, futures::stream::iter([Ok(bytes)]), level).await?.value
            }
        };
        Ok(value.until(deadline))
    }

    /// The time and the random choices of this command.
    pub(super) fn context(&self, operation_id: &OperationId) -> Context {
        let [a, b, c, d, e, f, g, h, ..] = operation_id.0;
        Context {
            string_bytes_max: BULK_BYTES_MAX as u64,
            ..Context::new(now(), u64::from_le_bytes([a, b, c, d, e, f, g, h]))
        }
    }
}

/// The time by this node's clock.
pub(super) fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// An entry with its value, unless there is none or it has expired.
pub(super) fn with_value(entry: Entry) -> Option<(Entry, Value)> {
    let value = entry.value.clone().filter(|value| !value.has_expired(now()))?;
    Some((entry, value))
}

/// What a value is.
pub(super) fn kind_of(value: &Value) -> Kind<'_> {
    match (value.kind, value.structure()) {
        (ValueKind::Inline, _) => Kind::Text(&value.bytes),
        (ValueKind::Inode, _) => Kind::Blocks,
        (_, structure) => Kind::Structure(structure.unwrap_or_default()),
    }
}
