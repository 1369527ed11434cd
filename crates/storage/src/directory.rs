use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

use difuse_keylog::StoreError;

const LOCK_FILE: &str = "lock";
const FORMAT_FILE: &str = "format";
/// The content of the format file: what the directory is, and the version of its layout.
const FORMAT: &str = "difuse data directory, version 4\n";
const KEYS: &str = "keys";
const BLOCKS: &str = "blocks";
const INDEX: &str = "index";

/// Why a data directory cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("another difused is using {}: stop it, or give this one a --data-dir of its own", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory holds something else.
    #[error("{} is not empty and is no data directory of difuse", dir.display())]
    NotOurs {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory was written by another version.
    #[error("{} has a format that this version does not know: {found:?}", dir.display())]
    OtherFormat {
        /// The directory.
        dir: PathBuf,
        /// What its format file says.
        found: String,
    },
    /// What was read is not what was written.
    #[error("{} is corrupt at offset {offset}: {what}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// Reading or writing failed.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The index failed.
    #[error("the index in {} failed: {what}", path.display())]
    Index {
        /// Its directory.
        path: PathBuf,
        /// What it says.
        what: String,
    },
}

impl OpenError {
    pub(crate) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), error }
    }

    pub(crate) fn index(path: &Path, error: &StoreError) -> Self {
        Self::Index { path: path.to_path_buf(), what: error.to_string() }
    }

    pub(crate) fn corrupt(path: PathBuf, offset: u32, what: &str) -> Self {
        Self::Corrupt { path, offset: u64::from(offset), what: what.to_string() }
    }
}

/// A data directory that no other process uses while this lives.
#[derive(Debug)]
pub(crate) struct DataDirectory {
    path: PathBuf,
    _lock: File,
}

impl DataDirectory {
    /// Locks the directory; makes it if it is not there or empty.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |error| OpenError::io(path, error);
        fs::create_dir_all(path).map_err(io)?;
        refuse_foreign(path)?;
        let lock = lock(path)?;
        check_format(path)?;
        for part in [KEYS, BLOCKS, INDEX] {
            fs::create_dir_all(path.join(part)).map_err(io)?;
        }
        sync_directory(path).map_err(io)?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    pub fn keys(&self) -> PathBuf {
        self.path.join(KEYS)
    }

    pub fn blocks(&self) -> PathBuf {
        self.path.join(BLOCKS)
    }

    pub fn index(&self) -> PathBuf {
        self.path.join(INDEX)
    }
}

/// A directory with something in it but no lock file of ours belongs to somebody else.
fn refuse_foreign(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::io(path, error);
    let mut entries = fs::read_dir(path).map_err(io)?;
    if path.join(LOCK_FILE).exists() || entries.next().is_none() {
        return Ok(());
    }
    Err(OpenError::NotOurs { dir: path.to_path_buf() })
}

fn lock(path: &Path) -> Result<File, OpenError> {
    let io = |error| OpenError::io(&path.join(LOCK_FILE), error);
    let options = OpenOptions::new().write(true).create(true).truncate(false).open(path.join(LOCK_FILE));
    let file = options.map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { dir: path.to_path_buf() }),
        Err(TryLockError::Error(error)) => Err(io(error)),
    }
}

fn check_format(path: &Path) -> Result<(), OpenError> {
    let file = path.join(FORMAT_FILE);
    let io = |error| OpenError::io(&file, error);
    match fs::read(&file) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(()),
        Ok(found) => {
            let found = String::from_utf8_lossy(&found).chars().take(100).collect();
            Err(OpenError::OtherFormat { dir: path.to_path_buf(), found })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => write_format(path, &file),
        Err(error) => Err(io(error)),
    }
}

/// Writes the format file, whole or not at all.
fn write_format(path: &Path, file: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::io(file, error);
    if [KEYS, BLOCKS, INDEX].iter().any(|part| path.join(part).exists()) {
        return Err(OpenError::NotOurs { dir: path.to_path_buf() });
    }
    let new = path.join("format.new");
    fs::write(&new, FORMAT).map_err(io)?;
    File::open(&new).and_then(|new| new.sync_all()).map_err(io)?;
    fs::rename(&new, file).map_err(io)?;
    sync_directory(path).map_err(io)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{DataDirectory, OpenError};

    #[test]
    fn one_owner_at_a_time() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("new/data");
        let first = DataDirectory::open(&path).unwrap();
        let error = DataDirectory::open(&path).unwrap_err();
        assert!(matches!(&error, OpenError::InUse { dir } if *dir == path));
        assert!(error.to_string().starts_with("another difused is using "), "{error}");
        drop(first);
        DataDirectory::open(&path).unwrap();
    }

    #[test]
    fn refuses_what_is_not_its_own() {
        let temporary = tempfile::tempdir().unwrap();
        fs::write(temporary.path().join("letter.txt"), "dear").unwrap();
        assert!(matches!(DataDirectory::open(temporary.path()), Err(OpenError::NotOurs { .. })));
        assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 1, "nothing was made there");

        let path = temporary.path().join("data");
        drop(DataDirectory::open(&path).unwrap());
        fs::write(path.join("format"), "difuse data directory, version 5\n").unwrap();
        assert!(matches!(DataDirectory::open(&path), Err(OpenError::OtherFormat { found, .. }) if found.contains('5')));
        fs::remove_file(path.join("format")).unwrap();
        assert!(matches!(DataDirectory::open(&path), Err(OpenError::NotOurs { .. })));
    }
}
