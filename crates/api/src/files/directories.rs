//! Making directories.

use difuse_blocks::Inode;
use difuse_keylog::Operation;
use difuse_protocol::request::{Condition, RequestError};
use difuse_types::{Key, Level};

use super::{DIRECTORY_MODE, FileError, FileKind, Files, absolute};
use crate::{
    Datastore,
    keys::{self, new_operation_id},
    values::inode_value,
};

impl<D: Datastore + Clone> Files<D> {
    /// Makes the directory at `path` and those above it; whether it was not there before.
    pub async fn make_directory(&self, path: &str) -> Result<bool, FileError> {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return Ok(false);
        }
        Key::of_path(path)?;
        self.make_parents(path).await?;
        let created = self.make_one(path).await?;
        self.keep_parent(path).await?;
        self.remember(path);
        Ok(created)
    }

    /// Makes all directories above `path` that are not there. The nearest one that is there is looked for upwards,
    /// nearly always the first; what is missing is made downwards, so that no directory is ever without its parent.
    pub(super) async fn make_parents(&self, path: &str) -> Result<(), FileError> {
        let mut missing = Vec::new();
        let mut directory = parent(path);
        while !directory.is_empty() && !self.is_known(directory) && !self.is_directory(directory).await? {
            missing.push(directory);
            directory = parent(directory);
        }
        if !directory.is_empty() {
            self.remember(directory);
        }
        for directory in missing.into_iter().rev() {
            self.make_one(directory).await?;
            self.remember(directory);
        }
        Ok(())
    }

    /// After `path` was written: makes the directory that it is in again if it was removed meanwhile, here or through
    /// another node, so that a file is never without a listing that shows it.
    pub(super) async fn keep_parent(&self, path: &str) -> Result<(), FileError> {
        let directory = parent(path);
        // At level lazy it may be on its way.
        if directory.is_empty() || self.consistency.set_inode == Level::Lazy || self.is_directory(directory).await? {
            return Ok(());
        }
        self.forget_directories();
        self.make_parents(path).await
    }

    /// Whether a directory is at `path`; an error if a file is.
    async fn is_directory(&self, path: &str) -> Result<bool, FileError> {
        match self.stat(path).await {
            Ok(found) if found.kind == FileKind::Directory => Ok(true),
            Ok(_) => Err(FileError::NotADirectory { path: absolute(path) }),
            Err(FileError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn make_one(&self, path: &str) -> Result<bool, FileError> {
        let (key, operation) =
            (Key::of_path(path)?, Operation::Set(inode_value(&Inode::directory(DIRECTORY_MODE, 0)?)?));
        let id = new_operation_id();
        match keys::submit(&self.datastore, key, operation, Condition::Absent, id, self.consistency.set_inode).await {
            Ok(_) => Ok(true),
            // Somebody else made it, or a file came there.
            Err(RequestError::Conflict { .. }) => self.is_directory(path).await.map(|_| false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The path of the directory that `path` is in; empty for the root.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}
