use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use difuse_keylog::StoreError;

use super::{
    Location,
    frame::{SEGMENT_HEADER_BYTES, SegmentHeader},
};

/// Open files kept for reading.
const OPEN_FILES_MAX: usize = 64;
const EXTENSION: &str = "segment";

/// The segment files of one log: named by number, from 1.
#[derive(Debug)]
pub(crate) struct SegmentFiles {
    directory: PathBuf,
    open: Mutex<BTreeMap<u32, Arc<File>>>,
}

impl SegmentFiles {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, open: Mutex::new(BTreeMap::new()) }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number:08}.{EXTENSION}"))
    }

    /// The numbers of the segments that there are, in order.
    pub fn numbers(&self) -> io::Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u32>().ok());
            numbers.extend(stem.filter(|_| path.extension().is_some_and(|extension| extension == EXTENSION)));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// A new segment, durably there with its header; replaces what a failed attempt left.
    pub(super) fn create(&self, number: u32, salt: u32) -> io::Result<File> {
        let path = self.path(number);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(&SegmentHeader { number, salt }.encode(), 0)?;
        file.sync_data()?;
        File::open(&self.directory)?.sync_all()?;
        Ok(file)
    }

    /// An existing segment, to be written on.
    pub(super) fn open_for_writing(&self, number: u32) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path(number))
    }

    /// The bytes at `location`, checked.
    pub fn read(&self, location: Location) -> Result<Bytes, StoreError> {
        let segment = location.at.segment;
        let damaged = |what: &dyn std::fmt::Display| {
            let path = self.path(segment);
            StoreError::Corrupt(format!("{} at offset {}: {what}", path.display(), location.at.offset))
        };
        let failed = |error| Err(StoreError::Failed(format!("{}: {error}", self.path(segment).display())));
        let file = match self.file(segment) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(damaged(&error)),
            Err(error) => return failed(error),
        };
        let mut bytes = vec![0; location.length as usize];
        match file.read_exact_at(&mut bytes, u64::from(location.at.offset)) {
            Ok(()) if crc32fast::hash(&bytes) == location.crc => Ok(bytes.into()),
            Ok(()) => Err(damaged(&"the checksum is wrong")),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(damaged(&"the file ends too early")),
            // The disk cannot read this place any more.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Err(damaged(&error)),
            Err(error) => failed(error),
        }
    }

    /// As [`Self::read`], but takes note of a file that was deleted though it is open here: what it held reads as damaged
    /// from then on, as it will after a restart.
    pub fn read_anew(&self, location: Location) -> Result<Bytes, StoreError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_deleted = |file: &Arc<File>| file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        if open.get(&location.at.segment).is_some_and(is_deleted) {
            open.remove(&location.at.segment);
        }
        drop(open);
        self.read(location)
    }

    /// As [`Self::read_anew`], but what the system keeps of the file in memory is read from the disk again.
    pub fn read_from_disk(&self, location: Location) -> Result<Bytes, StoreError> {
        if let Some(length) = std::num::NonZeroU64::new(location.length.into())
            && let Ok(file) = self.file(location.at.segment)
        {
            // Only a hint: nothing depends on it.
            let _ = rustix::fs::fadvise(&*file, location.at.offset.into(), Some(length), rustix::fs::Advice::DontNeed);
        }
        self.read_anew(location)
    }

    /// Gives the space of a range of a segment back to the file system, in whole pages; reads give zeros there.
    pub fn punch_hole(&self, location: Location) -> io::Result<()> {
        const PAGE: u64 = 4096;
        let start = u64::from(location.at.offset).next_multiple_of(PAGE);
        let end = (u64::from(location.at.offset) + u64::from(location.length)) / PAGE * PAGE;
        if start >= end {
            return Ok(());
        }
        let file = match self.open_for_writing(location.at.segment) {
            // All of it was given back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(&file, flags, start, end - start)?)
    }

    /// How long a segment is.
    pub fn bytes(&self, number: u32) -> io::Result<u64> {
        Ok(fs::metadata(self.path(number))?.len())
    }

    /// What a segment takes on the disk, without its holes.
    pub fn bytes_on_disk(&self, number: u32) -> io::Result<u64> {
        Ok(fs::metadata(self.path(number))?.blocks() * 512)
    }

    /// Deletes a segment, durably.
    pub fn remove(&self, number: u32) -> io::Result<()> {
        fs::remove_file(self.path(number))?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        File::open(&self.directory)?.sync_all()
    }

    fn file(&self, number: u32) -> io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(file.clone());
        }
        if open.len() >= OPEN_FILES_MAX {
            open.pop_first();
        }
        let file = Arc::new(File::open(self.path(number))?);
        open.insert(number, file.clone());
        Ok(file)
    }
}

/// The header of a segment; `None` if it is torn: shorter than a header, or of its length but not valid.
pub(super) fn read_header(file: &File) -> io::Result<Result<SegmentHeader, Torn>> {
    let length = file.metadata()?.len();
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    if length >= u64::from(SEGMENT_HEADER_BYTES) {
        file.read_exact_at(&mut bytes, 0)?;
    }
    let empty = length <= u64::from(SEGMENT_HEADER_BYTES);
    Ok(SegmentHeader::decode(&bytes).ok_or(if empty { Torn::Empty } else { Torn::Damaged }))
}

/// Why a segment has no valid header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Torn {
    /// It was being created; nothing follows.
    Empty,
    /// Records follow.
    Damaged,
}
