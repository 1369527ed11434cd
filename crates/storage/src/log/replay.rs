use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use bytes::Bytes;
use difuse_keylog::StoreError;

use super::{
    Position, SegmentFiles,
    files::{Torn, read_header},
    frame::{FRAME_HEADER_BYTES, FrameHeader, SEGMENT_HEADER_BYTES, checksum, possible_frames},
};
use crate::OpenError;

/// Up to where the index has seen the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    /// Where the next record begins.
    pub end: Position,
    /// The last record's sequence.
    pub sequence: u64,
}

impl Checkpoint {
    /// Before the first record.
    pub const START: Self = Self { end: Position { segment: 1, offset: SEGMENT_HEADER_BYTES }, sequence: 0 };
}

/// Hands every record after `from` to `visit`, in order, with the position of its payload and its sequence; cuts off
/// what a crash left half written at the end. Returns where the log goes on.
///
/// Damage anywhere else is [`OpenError::Corrupt`].
pub(crate) fn replay(
    files: &SegmentFiles,
    from: Checkpoint,
    mut visit: impl FnMut(Position, Checkpoint, Bytes) -> Result<(), OpenError>,
) -> Result<Checkpoint, OpenError> {
    let io = |error| OpenError::io(files.directory(), error);
    let mut numbers = files.numbers().map_err(io)?;
    remove_unborn(files, &mut numbers)?;
    numbers.retain(|number| *number >= from.end.segment);
    let mut reached = from;
    for (index, number) in numbers.iter().enumerate() {
        let expected = from.end.segment + index as u32;
        if *number != expected {
            return Err(OpenError::corrupt(files.path(expected), 0, "the file is missing"));
        }
        if index > 0 {
            reached.end = Position { segment: *number, offset: SEGMENT_HEADER_BYTES };
        }
        let is_last = index + 1 == numbers.len();
        reached = replay_segment(files, reached, is_last, &mut visit)?;
    }
    if numbers.is_empty() && from != Checkpoint::START {
        return Err(OpenError::corrupt(files.path(from.end.segment), 0, "the file is missing"));
    }
    Ok(reached)
}

/// Removes a last segment that was being created in a crash.
fn remove_unborn(files: &SegmentFiles, numbers: &mut Vec<u32>) -> Result<(), OpenError> {
    let Some(&last) = numbers.last() else { return Ok(()) };
    let path = files.path(last);
    let io = |error| OpenError::io(&path, error);
    let header = read_header(&File::open(&path).map_err(io)?).map_err(io)?;
    if header == Err(Torn::Empty) {
        std::fs::remove_file(&path).map_err(io)?;
        numbers.pop();
    }
    Ok(())
}

fn replay_segment(
    files: &SegmentFiles,
    from: Checkpoint,
    is_last: bool,
    visit: &mut impl FnMut(Position, Checkpoint, Bytes) -> Result<(), OpenError>,
) -> Result<Checkpoint, OpenError> {
    let path = files.path(from.end.segment);
    let io = |error| OpenError::io(&path, error);
    let mut segment = Segment::open(files, from.end)?;
    let mut reached = from;
    let mut is_torn = false;
    loop {
        match segment.next_record().map_err(io)? {
            Next::End => break,
            Next::Broken if is_last && !segment.is_damage(reached.end.offset).map_err(io)? => {
                is_torn = true;
                break;
            }
            Next::Broken => {
                return Err(OpenError::corrupt(path, reached.end.offset, "the record's checksum is wrong"));
            }
            Next::Record(header, _) if header.sequence != reached.sequence + 1 => {
                let what = format!("expected record {}, found {}", reached.sequence + 1, header.sequence);
                return Err(OpenError::corrupt(path, reached.end.offset, &what));
            }
            Next::Record(header, payload) => {
                let offset = reached.end.offset + FRAME_HEADER_BYTES as u32;
                let payload_at = Position { offset, ..reached.end };
                reached.end.offset = offset + header.length;
                reached.sequence = header.sequence;
                visit(payload_at, reached, payload)?;
            }
        }
    }
    if is_last {
        segment.settle(reached.end.offset, is_torn).map_err(io)?;
    }
    Ok(reached)
}

/// A segment that is written no more, to be read from its beginning.
pub(crate) struct ClosedSegment {
    segment: Segment,
    at: Position,
}

impl ClosedSegment {
    /// Opens it. Fails with [`StoreError::Corrupt`] if its header is damaged.
    pub fn open(files: &SegmentFiles, number: u32) -> Result<Self, StoreError> {
        let at = Position { segment: number, offset: SEGMENT_HEADER_BYTES };
        let segment = Segment::open(files, at).map_err(|error| StoreError::Corrupt(error.to_string()))?;
        Ok(Self { segment, at })
    }

    /// The next payload and where it lies; `None` at the end.
    pub fn next_record(&mut self) -> Result<Option<(Position, Bytes)>, StoreError> {
        let next = self.segment.next_record();
        let damaged = |what: &dyn std::fmt::Display| {
            StoreError::Corrupt(format!("{} at offset {}: {what}", self.segment.path.display(), self.at.offset))
        };
        match next {
            Ok(Next::End) => Ok(None),
            Ok(Next::Record(header, payload)) => {
                let at = Position { offset: self.at.offset + FRAME_HEADER_BYTES as u32, ..self.at };
                self.at.offset = at.offset + header.length;
                Ok(Some((at, payload)))
            }
            Ok(Next::Broken) => Err(damaged(&"the record's checksum is wrong")),
            Err(error) => Err(damaged(&error)),
        }
    }
}

enum Next {
    Record(FrameHeader, Bytes),
    Broken,
    End,
}

/// A segment that is being read.
struct Segment {
    file: File,
    reader: BufReader<File>,
    salt: u32,
    path: PathBuf,
}

impl Segment {
    fn open(files: &SegmentFiles, at: Position) -> Result<Self, OpenError> {
        let path = files.path(at.segment);
        let io = |error| OpenError::io(&path, error);
        let file = files.open_for_writing(at.segment).map_err(io)?;
        let header = read_header(&file).map_err(io)?.ok().filter(|header| header.number == at.segment);
        let salt = header.ok_or_else(|| OpenError::corrupt(path.clone(), 0, "the file's header is damaged"))?.salt;
        let length = file.metadata().map_err(io)?.len();
        if length < u64::from(at.offset) {
            return Err(OpenError::corrupt(path, at.offset, "the file ends before what the index has seen of it"));
        }
        let mut reader = BufReader::with_capacity(1 << 20, file.try_clone().map_err(io)?);
        reader.seek(SeekFrom::Start(u64::from(at.offset))).map_err(io)?;
        Ok(Self { file, reader, salt, path })
    }

    fn next_record(&mut self) -> io::Result<Next> {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let count = read_up_to(&mut self.reader, &mut bytes)?;
        if is_blank(&bytes) && self.is_rest_blank()? {
            return Ok(Next::End);
        }
        if count < FRAME_HEADER_BYTES {
            return Ok(Next::Broken);
        }
        let Some(header) = FrameHeader::decode(&bytes, self.salt) else { return Ok(Next::Broken) };
        let mut payload = vec![0; header.length as usize];
        let complete = read_up_to(&mut self.reader, &mut payload)? == payload.len();
        let sound = complete && checksum(self.salt, &[&payload]) == header.payload_crc;
        Ok(if sound { Next::Record(header, payload.into()) } else { Next::Broken })
    }

    /// Whether nothing follows but the room that was made for records: then nothing is read any more.
    fn is_rest_blank(&mut self) -> io::Result<bool> {
        let mut bytes = [0; 4096];
        loop {
            match read_up_to(&mut self.reader, &mut bytes)? {
                0 => return Ok(true),
                count if !is_blank(&bytes[..count]) => return Ok(false),
                _ => {}
            }
        }
    }

    /// Whether the broken record at `offset` had been durable: a sound frame after it says so.
    fn is_damage(&self, offset: u32) -> io::Result<bool> {
        let mut rest = vec![0; self.file.metadata()?.len().saturating_sub(u64::from(offset)) as usize];
        self.file.read_exact_at(&mut rest, u64::from(offset))?;
        let mut frames = possible_frames(&rest).filter_map(|at| FrameHeader::decode(&rest[at..], self.salt));
        Ok(frames.any(|header| header.group_start > offset))
    }

    /// Ends the file at `offset` and makes what is before it durable: a crash may have left it in memory only.
    fn settle(&self, offset: u32, is_torn: bool) -> io::Result<()> {
        if is_torn {
            tracing::warn!(path = %self.path.display(), offset, "cutting off what a crash left half written");
        }
        if self.file.metadata()?.len() > u64::from(offset) {
            self.file.set_len(u64::from(offset))?;
        }
        self.file.sync_all()
    }
}

fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Reads until `buffer` is full or the file ends; returns the number of bytes.
fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
