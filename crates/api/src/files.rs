//! A tree of directories and files: each is an inode at its path's key, and a directory's entries are one range of one
//! slot.
//!
//! A put uploads the content first and names it last, so that a put that ends in the middle changes nothing. What
//! happens to one path is linearizable; between paths nothing is promised, but that a put ends with its directory in
//! place: one that was removed meanwhile, by whomever, is made again.

use std::{
    ops::Range,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use bytes::Bytes;
use difuse_blocks::{Inode, InodeError, Kind};
use difuse_keylog::{Operation, Value};
use difuse_protocol::request::{Condition, Entry, RequestError};
use difuse_types::{BoundedMap, Key, KeyError, Level, Slots};
use futures::{Stream, stream::BoxStream};

use crate::{
    Consistency, Datastore,
    keys::{self, Attempt, Submitted, new_operation_id},
    values::{self, SourceError, Upload, ValueError, inode_of, inode_value},
};

mod directories;
mod remove;

/// The mode of a directory that nobody gave one.
const DIRECTORY_MODE: u32 = 0o755;
/// The mode of a file that nobody gave one.
const FILE_MODE: u32 = 0o644;
/// The mode of a symbolic link that nobody gave one.
const SYMLINK_MODE: u32 = 0o777;
/// How often a put is tried again when others keep changing the same path.
const ATTEMPTS_MAX: usize = 16;
/// Directories that are known to exist.
const DIRECTORIES_KNOWN_MAX: usize = 4096;

/// Why something was not done to a file or directory.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The datastore refused a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The content could not be stored or read.
    #[error(transparent)]
    Value(ValueError),
    /// The path is none.
    #[error(transparent)]
    Path(#[from] KeyError),
    /// What is to be said of the file is out of bounds.
    #[error(transparent)]
    Options(#[from] InodeError),
    /// Nothing is there.
    #[error("there is nothing at {path}")]
    NotFound {
        /// The path.
        path: String,
    },
    /// A file is wanted, and a directory is there.
    #[error("{path} is a directory: name a file in it")]
    IsADirectory {
        /// The path.
        path: String,
    },
    /// A directory is wanted, and a file is there.
    #[error("{path} is a file, not a directory: choose another path, or remove it first")]
    NotADirectory {
        /// The path.
        path: String,
    },
    /// The directory has entries.
    #[error("the directory {path} is not empty: remove it recursively, or its entries first")]
    NotEmpty {
        /// The path.
        path: String,
    },
    /// What is there was not put there as a file or directory.
    #[error("what is at {path} is neither file nor directory: {reason}")]
    NotAFile {
        /// The path.
        path: String,
        /// Why.
        reason: String,
    },
}

impl From<ValueError> for FileError {
    fn from(error: ValueError) -> Self {
        match error {
            ValueError::Request(error) => Self::Request(error),
            error => Self::Value(error),
        }
    }
}

/// What is at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link: its content is its target. It is never followed here.
    Symlink,
}

/// One file or directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileEntry {
    /// The last part of its path; empty for the root.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
    /// Length of the content in bytes; 0 for a directory.
    pub size: u64,
    /// Permission bits; `None` for the root.
    pub mode: Option<u32>,
    /// When it was changed, in milliseconds since the Unix epoch, by whoever put it; `None` for the root.
    pub modified_ms: Option<u64>,
    /// Media type, if one was given.
    pub media_type: Option<String>,
    /// The head of its key; `None` for the root, which is always there.
    pub entry: Option<Entry>,
}

/// How to put a file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PutOptions {
    /// Permission bits, at most 7777 (octal); 644 by default.
    pub mode: Option<u32>,
    /// Media type: at most 128 printable ASCII characters.
    pub media_type: Option<String>,
    /// When it was changed, in milliseconds since the Unix epoch; by default, when it is put.
    pub modified_ms: Option<u64>,
    /// What must hold of what is there.
    pub condition: Condition,
    /// Names the write, so that it is applied once however often it is tried; by default a new one.
    pub attempt: Option<Attempt>,
}

/// How to remove something.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RemoveOptions {
    /// Whether a directory goes with all that is in it.
    pub recursive: bool,
    /// What must hold of what is there.
    pub condition: Condition,
    /// Names the write of the path itself, so that it is applied once however often it is tried; by default a new one.
    pub attempt: Option<Attempt>,
}

/// A file that was put.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Put {
    /// Its transaction; `created` if there was no file before. At level lazy it waits for its place.
    pub written: Submitted,
    /// What was moved.
    pub upload: Upload,
}

/// A part of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilePage {
    /// In the order of names.
    pub entries: Vec<FileEntry>,
    /// The name after which the next page begins; `None` if nothing follows.
    pub next: Option<String>,
}

/// The content of a file, in parts.
pub type ContentStream = BoxStream<'static, Result<Bytes, ValueError>>;

/// Files and directories in a datastore; cheap to clone, and clones share what they know.
#[derive(Clone)]
pub struct Files<D> {
    datastore: D,
    consistency: Consistency,
    shared: Arc<Shared>,
}

struct Shared {
    slots: OnceLock<Slots>,
    known: Mutex<BoundedMap<String, ()>>,
}

impl<D: Datastore + Clone> Files<D> {
    /// The files in `datastore`, at level quorum.
    pub fn new(datastore: D) -> Self {
        let known = Mutex::new(BoundedMap::new(DIRECTORIES_KNOWN_MAX));
        Self {
            datastore,
            consistency: Consistency::default(),
            shared: Arc::new(Shared { slots: OnceLock::new(), known }),
        }
    }

    /// The same files, with `level` behind every answer.
    pub fn with_level(&self, level: Level) -> Self {
        self.with_consistency(Consistency::uniform(level))
    }

    /// The same files, with the level of each operation that `consistency` names.
    pub fn with_consistency(&self, consistency: Consistency) -> Self {
        Self { consistency, ..self.clone() }
    }

    /// Puts what `source` yields at `path` (`a/b/c`, with or without a slash at either end), and makes the directories
    /// above it. Nothing is changed if the content does not come to its end.
    pub async fn put(
        &self,
        path: &str,
        source: impl Stream<Item = Result<Bytes, SourceError>> + Send + Unpin,
        options: PutOptions,
    ) -> Result<Put, FileError> {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return Err(FileError::IsADirectory { path: "/".into() });
        }
        let key = Key::of_path(path)?;
        let PutOptions { mode, media_type, modified_ms, .. } = options.clone();
        let (mode, modified_ms) = (mode.unwrap_or(FILE_MODE), modified_ms.unwrap_or_default());
        // What is wrong with the options is told before anything is uploaded.
        Inode::inline_file(Bytes::new(), mode, modified_ms, media_type.clone())?;
        let uploaded = values::upload(&self.datastore, &key, source, self.consistency.set_block).await?;
        self.make_parents(path).await?;
        let (upload, hash) = (uploaded.upload, uploaded.hash_of_content);
        let inode = Inode::file(upload.size, uploaded.content, hash, mode, modified_ms, media_type)?;
        let inode = inode.stored_in(uploaded.generation);
        let written = self.name(path, key, inode_value(&inode)?, &options).await?;
        self.keep_parent(path).await?;
        Ok(Put { written, upload })
    }

    /// Puts a symbolic link to `target` (1 to 4096 bytes without NUL) at `path`, and makes the directories above it.
    pub async fn put_symlink(&self, path: &str, target: Bytes, options: PutOptions) -> Result<Submitted, FileError> {
        let path = path.trim_matches('/');
        let key = Key::of_path(path)?;
        let mode = options.mode.unwrap_or(SYMLINK_MODE);
        let inode = Inode::symlink(target, mode, options.modified_ms.unwrap_or_default())?;
        self.make_parents(path).await?;
        let written = self.name(path, key, inode_value(&inode)?, &options).await?;
        self.keep_parent(path).await?;
        Ok(written)
    }

    /// Writes `value` at `key` unless a directory is there: each attempt names the head that it was decided on, so
    /// that a directory made meanwhile is not overwritten either.
    async fn name(&self, path: &str, key: Key, value: Value, options: &PutOptions) -> Result<Submitted, FileError> {
        let attempt = options.attempt.unwrap_or_else(|| Attempt::first(new_operation_id()));
        let given = options.condition;
        // A conflict with the caller's own condition is the caller's to handle.
        let is_retried = matches!(given, Condition::None | Condition::Present);
        let mut condition = match given {
            // Most files are new: that takes no look at what is there.
            Condition::None if self.consistency.set_inode != Level::Lazy => Condition::Absent,
            Condition::Absent => Condition::Absent,
            Condition::None | Condition::Present | Condition::Head(_) => self.decide(path, given).await?,
        };
        let level = self.consistency.set_inode;
        for _ in 0..ATTEMPTS_MAX {
            let operation = Operation::Set(value.clone());
            let outcome = keys::submit(&self.datastore, key.clone(), operation, condition, attempt, level).await;
            match outcome {
                Err(RequestError::Conflict { .. }) if is_retried => condition = self.decide(path, given).await?,
                outcome => return Ok(outcome?),
            }
        }
        Err(RequestError::Busy.into())
    }

    /// The condition under which the file at `path` may be overwritten, given what is there now and what the caller
    /// demands of it.
    async fn decide(&self, path: &str, given: Condition) -> Result<Condition, FileError> {
        let entry = keys::read(&self.datastore, Key::of_path(path)?, self.consistency.stat).await?;
        let current = entry.as_ref().map(|entry| (entry.height, entry.hash, entry.value.is_some()));
        let Some(entry) = entry.filter(|entry| entry.value.is_some()) else {
            return match given {
                Condition::None => Ok(Condition::Absent),
                _ => Err(RequestError::Conflict { current }.into()),
            };
        };
        if file_entry(path, entry.clone())?.kind == FileKind::Directory {
            return Err(FileError::IsADirectory { path: absolute(path) });
        }
        match given {
            // It does not hold, and the write will say so, unless this very write was applied already.
            Condition::Head(expected) => Ok(Condition::Head(expected)),
            _ => Ok(Condition::Head(entry.hash)),
        }
    }

    /// What is at `path`; the root is always there.
    pub async fn stat(&self, path: &str) -> Result<FileEntry, FileError> {
        let path = path.trim_matches('/');
        if path.is_empty() {
            return Ok(root());
        }
        let entry = keys::read(&self.datastore, Key::of_path(path)?, self.consistency.stat).await?;
        match entry.filter(|entry| entry.value.is_some()) {
            Some(entry) => file_entry(path, entry),
            None => Err(FileError::NotFound { path: absolute(path) }),
        }
    }

    /// What is at `path`, which must be no directory, and its content, or the bytes of it in `range`.
    pub async fn open(&self, path: &str, range: Option<Range<u64>>) -> Result<(FileEntry, ContentStream), FileError> {
        let found = self.stat(path).await?;
        let value = found.entry.as_ref().and_then(|entry| entry.value.as_ref());
        match value.filter(|_| found.kind != FileKind::Directory) {
            None => Err(FileError::IsADirectory { path: absolute(path) }),
            Some(value) => {
                let content = values::stream(self.datastore.clone(), value, range, self.consistency.get_block)?;
                Ok((found, content))
            }
        }
    }

    /// A part of the directory at `path`: at most `limit` entries after the name `after`.
    pub async fn list(&self, path: &str, after: Option<&str>, limit: u32) -> Result<FilePage, FileError> {
        let path = path.trim_matches('/');
        let prefix = Key::prefix_of_directory(path)?;
        let after_key = after.map(|name| entry_key(path, name)).transpose()?;
        // Any entry's key tells the directory's slot.
        let slot = self.slots().await?.of_key(&entry_key(path, "entry")?);
        let page = keys::list(&self.datastore, prefix, after_key, limit, Some(slot)).await?;
        if page.entries.is_empty() && self.stat(path).await?.kind != FileKind::Directory {
            return Err(FileError::NotADirectory { path: absolute(path) });
        }
        let entries = page.entries.into_iter().map(|listed| file_entry(&entry_name(&listed.key), listed.entry));
        Ok(FilePage { entries: entries.collect::<Result<_, _>>()?, next: page.next.map(|key| entry_name(&key)) })
    }

    async fn slots(&self) -> Result<Slots, FileError> {
        if let Some(slots) = self.shared.slots.get() {
            return Ok(*slots);
        }
        let slots = keys::routes(&self.datastore).await?.settings.slots;
        Ok(*self.shared.slots.get_or_init(|| slots))
    }

    fn is_known(&self, directory: &str) -> bool {
        let known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&directory.to_owned()).is_some()
    }

    fn remember(&self, directory: &str) {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_owned(), ());
    }

    /// Forgets what it knows of all directories: something was removed.
    fn forget_directories(&self) {
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What `entry`, which has a value, says of the last part of `path`.
fn file_entry(path: &str, entry: Entry) -> Result<FileEntry, FileError> {
    let refuse = |reason: String| FileError::NotAFile { path: absolute(path), reason };
    let inode = match &entry.value {
        Some(value) => inode_of(value).map_err(|error| refuse(error.to_string()))?,
        None => None,
    };
    let inode = inode.ok_or_else(|| refuse("it has no inode".into()))?;
    Ok(FileEntry {
        name: path.rsplit('/').next().unwrap_or_default().to_owned(),
        kind: match inode.kind {
            Kind::File => FileKind::File,
            Kind::Directory => FileKind::Directory,
            Kind::Symlink => FileKind::Symlink,
        },
        size: inode.size,
        mode: Some(inode.mode),
        modified_ms: Some(if inode.modified_ms == 0 { entry.time.0 } else { inode.modified_ms }),
        media_type: inode.media_type,
        entry: Some(entry),
    })
}

fn root() -> FileEntry {
    FileEntry {
        name: String::new(),
        kind: FileKind::Directory,
        size: 0,
        mode: None,
        modified_ms: None,
        media_type: None,
        entry: None,
    }
}

fn entry_key(directory: &str, name: &str) -> Result<Key, FileError> {
    if name.contains('/') {
        return Err(KeyError::BadPath(name.chars().take(200).collect()).into());
    }
    Ok(Key::of_path(&join(directory, name))?)
}

fn entry_name(key: &Key) -> String {
    String::from_utf8_lossy(key.entry_name()).into_owned()
}

fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") }
}

fn absolute(path: &str) -> String {
    format!("/{}", path.trim_matches('/'))
}

#[cfg(test)]
mod tests;
