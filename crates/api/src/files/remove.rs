//! Removing files and directories.

use difuse_keylog::Operation;
use difuse_protocol::request::{Condition, RequestError};
use difuse_types::{Key, Level};
use futures::{StreamExt, TryStreamExt, stream};

use super::{FileError, FileKind, FilePage, Files, RemoveOptions, absolute, join};
use crate::{
    Datastore,
    keys::{self, Attempt, new_operation_id},
};

/// How many entries of a directory are looked at together.
const PAGE: u32 = 64;
/// How many files are removed at a time.
const FILES_IN_FLIGHT: usize = 16;

impl<D: Datastore + Clone> Files<D> {
    /// Removes what is at `path`, a directory with entries only if `options` say so; how many files and directories
    /// went. The root itself stays; what is in it goes.
    pub async fn remove(&self, path: &str, options: RemoveOptions) -> Result<u64, FileError> {
        let path = path.trim_matches('/');
        let found = self.stat(path).await?;
        let current = found.entry.as_ref().map(|entry| (entry.height, entry.hash, true));
        if !may_hold(options.condition, current) {
            return Err(RequestError::Conflict { current }.into());
        }
        let mut removed = 0;
        if found.kind == FileKind::Directory {
            self.forget_directories();
            let has_entries = !self.list(path, None, 1).await?.entries.is_empty();
            if has_entries && !options.recursive {
                return Err(FileError::NotEmpty { path: absolute(path) });
            }
            if has_entries {
                // A directory must be seen to be empty before it goes.
                let files = if self.consistency.delete_inode == Level::Lazy {
                    self.with_level(Level::Quorum)
                } else {
                    self.clone()
                };
                removed += files.remove_entries(path).await?;
            }
        }
        if !path.is_empty() {
            // A condition that names no head still removes nothing but what was found.
            let condition = current.map_or(Condition::Present, |(_, hash, _)| Condition::Head(hash));
            let attempt = options.attempt.unwrap_or_else(|| Attempt::first(new_operation_id()));
            self.delete(path, condition, attempt).await?;
            removed += 1;
        }
        self.forget_directories();
        Ok(removed)
    }

    /// Removes everything below `top`, deepest first. Keeps a list of the directories still to be done, and at most
    /// one page of entries.
    async fn remove_entries(&self, top: &str) -> Result<u64, FileError> {
        let mut pending = vec![top.to_owned()];
        let mut removed = 0;
        while let Some(directory) = pending.last().cloned() {
            let page = self.list_if_there(&directory).await?;
            removed += self.remove_files(&directory, &page).await?;
            let directories = page.entries.iter().filter(|entry| entry.kind == FileKind::Directory);
            let before = pending.len();
            pending.extend(directories.map(|entry| join(&directory, &entry.name)));
            if !page.entries.is_empty() || before < pending.len() {
                continue;
            }
            pending.pop();
            if directory != top {
                removed += u64::from(self.delete_if_there(&directory).await?);
            }
        }
        Ok(removed)
    }

    async fn list_if_there(&self, directory: &str) -> Result<FilePage, FileError> {
        match self.list(directory, None, PAGE).await {
            // Somebody else removed it.
            Err(FileError::NotFound { .. }) => Ok(FilePage { entries: Vec::new(), next: None }),
            outcome => outcome,
        }
    }

    async fn remove_files(&self, directory: &str, page: &FilePage) -> Result<u64, FileError> {
        let files = page.entries.iter().filter(|entry| entry.kind != FileKind::Directory);
        let paths: Vec<_> = files.map(|entry| join(directory, &entry.name)).collect();
        let outcomes = stream::iter(paths)
            .map(|path| async move { self.delete_if_there(&path).await })
            .buffer_unordered(FILES_IN_FLIGHT);
        outcomes.try_fold(0, |removed, existed| async move { Ok(removed + u64::from(existed)) }).await
    }

    async fn delete_if_there(&self, path: &str) -> Result<bool, FileError> {
        match self.delete(path, Condition::Present, new_operation_id().into()).await {
            Ok(()) => Ok(true),
            Err(FileError::Request(RequestError::Conflict { .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, path: &str, condition: Condition, attempt: Attempt) -> Result<(), FileError> {
        let key = Key::of_path(path)?;
        keys::submit(&self.datastore, key, Operation::Delete, condition, attempt, self.consistency.delete_inode)
            .await?;
        Ok(())
    }
}

/// Whether `condition` can hold of something that is there; the root has no head.
fn may_hold(condition: Condition, current: Option<(u64, difuse_types::Hash, bool)>) -> bool {
    match condition {
        Condition::None | Condition::Present => true,
        Condition::Absent => false,
        Condition::Head(expected) => current.is_some_and(|(_, hash, _)| hash == expected),
    }
}
