use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use difuse_keylog::{StoreError, WriteSequence};

use crate::{
    BlockStore, Database, KeyStore, OpenError, Options,
    blocks::BlockIndex,
    directory::DataDirectory,
    index::{Core, CoreParts},
    keys::KeyIndex,
};

/// Called on a thread of the stores with the last batch of keys that is durable; with [`StoreError::Full`] when the disk
/// is full (what was accepted before waits for room); with another error when nothing will become durable any more, of
/// keys or of blocks. It must not call the stores.
pub type OnDurable = Box<dyn Fn(Result<WriteSequence, StoreError>) + Send>;

/// The stores of one data directory. It stays locked until both are dropped.
#[derive(Debug)]
pub struct Storage {
    /// The store of keys.
    pub keys: KeyStore,
    /// The store of blocks.
    pub blocks: BlockStore,
}

impl Storage {
    /// Opens the data directory `path`, or makes it if it is not there or empty, and brings it back to exactly what
    /// was acknowledged. It stays locked until both stores are dropped.
    pub fn open(path: &Path, options: &Options, on_durable: OnDurable) -> Result<Self, OpenError> {
        let directory = DataDirectory::open(path)?;
        let database = Arc::new(Database::open(directory, options.index_cache_bytes)?);
        let on_durable = Arc::new(Mutex::new(on_durable));
        let report = move |report| {
            let on_durable = on_durable.lock().unwrap_or_else(PoisonError::into_inner);
            on_durable(report);
        };
        let report_of_blocks = report.clone();
        let keys = CoreParts {
            directory: database.directory.keys(),
            index: KeyIndex::new(database.tree("keys")?),
            segment_bytes: options.key_segment_bytes,
            makes_room: true,
            database: database.clone(),
            on_durable: Box::new(move |durable| report(durable.map(WriteSequence))),
        };
        let blocks = CoreParts {
            directory: database.directory.blocks(),
            index: BlockIndex::new(database.tree("blocks")?),
            segment_bytes: options.block_segment_bytes,
            makes_room: false,
            database: database.clone(),
            on_durable: Box::new(move |durable| match durable {
                // Whoever stores a block waits for it.
                Ok(_) | Err(StoreError::Full(_)) => {}
                Err(error) => report_of_blocks(Err(error)),
            }),
        };
        let failed = |directory: PathBuf| move |error| OpenError::io(&directory, error);
        let blocks = BlockStore::start(Core::open(blocks, options)?, options);
        let blocks = blocks.map_err(failed(database.directory.blocks()))?;
        let keys = KeyStore::start(Core::open(keys, options)?, options);
        Ok(Self { keys: keys.map_err(failed(database.directory.keys()))?, blocks })
    }
}
