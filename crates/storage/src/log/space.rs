use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use difuse_keylog::StoreError;

/// How long an answer of the file system counts.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Watches the free space of a file system.
#[derive(Debug)]
pub(super) struct FreeSpace {
    directory: PathBuf,
    reserve_bytes: u64,
    checked: Option<(Instant, u64)>,
}

impl FreeSpace {
    pub fn new(directory: &Path, reserve_bytes: u64) -> Self {
        Self { directory: directory.to_path_buf(), reserve_bytes, checked: None }
    }

    /// Fails with [`StoreError::Full`] when less than the reserve is free.
    pub fn check(&mut self) -> Result<(), StoreError> {
        let free = self.free_bytes()?;
        if free >= self.reserve_bytes {
            return Ok(());
        }
        let (free, reserve) = (free >> 20, self.reserve_bytes >> 20);
        Err(StoreError::Full(format!("{}: {free} MiB free, {reserve} MiB are kept free", self.directory.display())))
    }

    /// Whether less than twice the reserve is free.
    pub fn is_short(&mut self) -> bool {
        let enough = self.reserve_bytes.saturating_mul(2);
        self.free_bytes().is_ok_and(|free| free < enough)
    }

    /// What the file system says is free, at most a tenth of a second ago.
    pub fn free_bytes(&mut self) -> Result<u64, StoreError> {
        if let Some((_, free)) = self.checked.filter(|(when, _)| when.elapsed() < CHECK_EVERY) {
            return Ok(free);
        }
        let status = rustix::fs::statvfs(&self.directory)
            .map_err(|error| StoreError::Failed(format!("{}: {error}", self.directory.display())))?;
        let free = status.f_bavail.saturating_mul(status.f_frsize);
        self.checked = Some((Instant::now(), free));
        Ok(free)
    }
}

#[cfg(test)]
mod tests {
    use difuse_keylog::StoreError;

    use super::FreeSpace;

    #[test]
    fn refuses_below_the_reserve() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(FreeSpace::new(directory.path(), 0).check(), Ok(()));
        assert!(matches!(FreeSpace::new(directory.path(), u64::MAX).check(), Err(StoreError::Full(_))));
        assert!(!FreeSpace::new(directory.path(), 0).is_short());
        assert!(FreeSpace::new(directory.path(), u64::MAX / 2).is_short());
    }
}
