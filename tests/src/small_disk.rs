use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::fs::statvfs;

/// A file system in memory, as small as wanted, that can be filled; unmounted when dropped.
pub struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `mebibytes` on a new folder; `None`, with a printed reason, where that is not allowed.
    pub fn mount(path: &Path, mebibytes: u64) -> Option<Self> {
        fs::create_dir_all(path).expect("a folder to mount on");
        let size = format!("size={mebibytes}m");
        let output = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "difuse-tests"]).arg(path).output();
        match output {
            Ok(output) if output.status.success() => Some(Self { path: path.to_path_buf() }),
            Ok(output) => {
                println!("skipped: cannot mount a small disk: {}", String::from_utf8_lossy(&output.stderr));
                None
            }
            Err(error) => {
                println!("skipped: cannot run mount: {error}");
                None
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it until only `left` mebibytes are free.
    pub fn fill(&self, left: u64) {
        let status = statvfs(&self.path).expect("a mounted file system");
        let free = status.f_bavail * status.f_frsize;
        let ballast = File::options().create(true).append(true).open(self.ballast()).expect("a file");
        let (begin, length) = (ballast.metadata().expect("a file").len(), free.saturating_sub(left << 20));
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), begin, length.max(1))
            .expect("what is free can be taken");
    }

    /// Makes room again.
    pub fn clear(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node may still be ending.
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}
