//! What most programs need of a ring, in one call each, at the levels of
//! [`ClientConfig::consistency`](crate::ClientConfig): quorum, which is linearizable, unless that or the namespace of a key
//! says otherwise.

use bytes::Bytes;
use difuse_api::{
    files::Files,
    iterate::{self, Item, IterateError, Range},
    keys::{self, Written},
    pins::{self, Pin, PinError},
    request::{Condition, Entry},
    values,
};
use difuse_keylog::{Operation, Transaction};
use difuse_types::{Hash, Key};
use futures::{StreamExt, stream, stream::BoxStream};

use crate::{Client, ClientError, WriteOptions};

impl Client {
    /// The value of a key of the default namespace, whole, in memory; `None` if it has none. Use
    /// [`values::stream`] with [`Client::entry`] for values that do not fit there.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ClientError> {
        self.get_in("", key).await
    }

    /// The same in another namespace.
    pub async fn get_in(&self, namespace: &str, key: &[u8]) -> Result<Option<Bytes>, ClientError> {
        let (key, levels) = (Key::in_namespace(namespace, key)?, self.levels_in(namespace).await?);
        let Some(value) = keys::read(self, key, levels.stat).await?.and_then(|entry| entry.value) else {
            return Ok(None);
        };
        Ok(Some(values::whole(self.clone(), &value, levels.get_block).await?))
    }

    /// The head of a key: height, hash, time, author and value; `None` if it was never written.
    pub async fn entry(&self, key: &[u8]) -> Result<Option<Entry>, ClientError> {
        Ok(keys::read(self, Key::new(key)?, self.levels().await?.stat).await?)
    }

    /// Gives a key a value of any size.
    pub async fn set(&self, key: &[u8], value: impl AsRef<[u8]>) -> Result<Written, ClientError> {
        self.compare_and_set(key, value, Condition::None).await
    }

    /// Gives a key a value of any size if `condition` holds, else fails with
    /// [`RequestError::Conflict`](crate::RequestError::Conflict).
    pub async fn compare_and_set(
        &self,
        key: &[u8],
        value: impl AsRef<[u8]>,
        condition: Condition,
    ) -> Result<Written, ClientError> {
        self.set_with(key, value, &WriteOptions { condition, ..WriteOptions::default() }).await
    }

    /// Gives a key a value of any size, as the options say: for how long, in which namespace, on which condition, at which
    /// levels. Not at level lazy: for that, [`keys::submit`].
    pub async fn set_with(
        &self,
        key: &[u8],
        value: impl AsRef<[u8]>,
        options: &WriteOptions,
    ) -> Result<Written, ClientError> {
        let key = Key::in_namespace(&options.namespace, key)?;
        let levels = match options.consistency {
            Some(levels) => levels,
            None => self.levels_in(&options.namespace).await?,
        };
        let deadline = match options.ttl {
            Some(ttl) => Some(keys::deadline_after(ttl).ok_or(ClientError::Ttl(ttl))?),
            None => None,
        };
        let content = stream::iter([Ok(Bytes::copy_from_slice(value.as_ref()))]);
        let stored = values::store(self, &key, content, levels.set_block).await?;
        let operation = Operation::Set(stored.value.until(deadline));
        let operation_id = keys::new_operation_id();
        Ok(keys::write(self, key, operation, options.condition, operation_id, levels.set_inode).await?)
    }

    /// All keys of a namespace whose names begin with `prefix`, with what they hold, in the order of the bytes of their names, while
    /// others write; behind the key `after`, if there is one. Values, and structures, of more than `bytes_max` come up without what is in them. See
    /// [`iterate`] for what is guaranteed.
    pub async fn items(
        &self,
        namespace: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        bytes_max: u64,
    ) -> Result<BoxStream<'static, Result<Item, (Option<Key>, IterateError)>>, ClientError> {
        let after = after.map(|after| Key::in_namespace(namespace, after)).transpose()?;
        let range = Range { prefix: Key::prefix(namespace, prefix)?, after };
        let levels = self.levels_in(namespace).await?;
        Ok(iterate::items(self.clone(), range, levels, bytes_max).boxed())
    }

    /// Deletes a key; its history stays. `None` if it had no value.
    pub async fn delete(&self, key: &[u8]) -> Result<Option<Written>, ClientError> {
        Ok(keys::delete(self, Key::new(key)?, self.levels().await?.delete_inode).await?)
    }

    /// At most `limit` transactions of a key from `from_height` (from 1), oldest first. [`RequestError::Pruned`] names the
    /// checkpoint with which the history begins if it is kept no further down.
    ///
    /// [`RequestError::Pruned`]: difuse_api::request::RequestError::Pruned
    pub async fn log(&self, key: &[u8], from_height: u64, limit: u32) -> Result<Vec<Transaction>, ClientError> {
        Ok(keys::log(self, Key::new(key)?, from_height, limit).await?.transactions)
    }

    /// Keeps a block, or the tree with this root and all that is below it, though nothing names it: see [`pins`].
    pub async fn pin(&self, hash: Hash) -> Result<Pin, PinError> {
        Ok(pins::add(self, hash).await?.0)
    }

    /// Keeps what the file at `path` contains now, whatever becomes of the file.
    pub async fn pin_file(&self, path: &str) -> Result<Pin, PinError> {
        Ok(pins::add_file(self, path).await?.0)
    }

    /// Lets go of what was pinned; whether it was.
    pub async fn unpin(&self, hash: Hash) -> Result<bool, ClientError> {
        Ok(pins::remove(self, hash).await?)
    }

    /// Files and directories.
    pub fn files(&self) -> Files<Self> {
        Files::new(self.clone()).with_consistency(self.consistency())
    }
}
