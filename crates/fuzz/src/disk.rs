use difuse_storage::fuzzing;

/// Most records of a segment under test.
const RECORDS_MAX: usize = 6;
/// The longest record.
const RECORD_BYTES_MAX: usize = 64;

/// A segment of a log that was damaged: the first byte is how many records there were, the next ones how long they were,
/// then two bytes say where it was cut off (if at all), and the rest says what was changed where.
pub fn disk_log(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let mut next = || usize::from(bytes.next().unwrap_or_default());
    let lengths: Vec<usize> = (0..next() % RECORDS_MAX).map(|_| next() % RECORD_BYTES_MAX).collect();
    let cut = next() << 8 | next();
    let rest: Vec<u8> = bytes.collect();
    let contents: Vec<Vec<u8>> = lengths.iter().zip(1..).map(|(length, fill)| vec![fill; *length]).collect();
    let payloads: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    let edits: Vec<&[u8]> = rest.chunks_exact(3).collect();
    let folder = tempfile::tempdir().expect("a folder for a segment");
    let damage = |segment: &mut Vec<u8>| {
        for edit in &edits {
            let at = (usize::from(edit[0]) << 8 | usize::from(edit[1])) % segment.len();
            segment[at] ^= edit[2];
        }
        if cut != 0 {
            segment.truncate(cut);
        }
    };
    fuzzing::log(folder.path(), &payloads, damage, edits.len() <= 1);
}

/// What a record of the logs holds, whose checksum was right.
pub fn disk_records(bytes: &[u8]) {
    fuzzing::batch(bytes);
    fuzzing::block_record(bytes);
}
