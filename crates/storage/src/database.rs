use std::{
    fs::File,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use difuse_keylog::StoreError;

use crate::{OpenError, directory::DataDirectory, index::failed};

/// How long to wait for a database that this process is still closing.
const CLOSING_MAX: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_millis(10);

/// The sled database behind both stores. Holds the data directory's lock until it is closed.
#[derive(Debug)]
pub(crate) struct Database {
    sled: sled::Db,
    file: PathBuf,
    /// Released after sled's own lock: fields are dropped in order.
    pub directory: DataDirectory,
}

impl Database {
    pub fn open(directory: DataDirectory, cache_bytes: u64) -> Result<Self, OpenError> {
        let path = directory.index();
        let sled = open_sled(&path, cache_bytes).map_err(|error| index_error(&path, &error))?;
        Ok(Self { sled, file: path.join("db"), directory })
    }

    pub fn tree(&self, name: &str) -> Result<sled::Tree, OpenError> {
        self.sled.open_tree(name).map_err(|error| index_error(&self.file, &error))
    }

    /// Makes the index durable. sled itself only starts the writes of file data (`sync_file_range`), which survives
    /// a killed process but not a power failure.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.sled.flush().map_err(failed)?;
        let synced = File::open(&self.file).and_then(|file| file.sync_all());
        synced.map_err(|error| StoreError::Failed(format!("{}: {error}", self.file.display())))
    }
}

fn index_error(path: &Path, error: &sled::Error) -> OpenError {
    OpenError::Index { path: path.to_path_buf(), what: error.to_string() }
}

/// sled lets go of its file a little after its last handle is dropped; nobody else can hold it, because of our lock.
fn open_sled(path: &Path, cache_bytes: u64) -> sled::Result<sled::Db> {
    let started = Instant::now();
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(cache_bytes)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(None);
    loop {
        match config.open() {
            Err(sled::Error::Io(error)) if is_locked(&error) && started.elapsed() < CLOSING_MAX => {
                thread::sleep(RETRY_AFTER);
            }
            result => return result,
        }
    }
}

fn is_locked(error: &std::io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}
