//! What clients write: all of it follows from a number that is used once, so that a reader can tell whose write it sees
//! and whether every byte of it is right.

use bytes::Bytes;

/// Every how many values one is so long that it does not fit into a transaction.
const LONG_EVERY: u64 = 16;
const LONG_BYTES: usize = 6000;
/// Every how many files one has the same bytes as others.
const SHARED_EVERY: u64 = 6;
const SHARED_CONTENTS: u64 = 5;
const FILE_BYTES_MAX: usize = 400_000;

/// The value number `id` of a key, with the count that it stands for (0 in a register).
pub fn value(id: u64, count: u64) -> Bytes {
    let mut text = format!("{id} {count} ");
    if id.is_multiple_of(LONG_EVERY) {
        text.extend(std::iter::repeat_n('x', LONG_BYTES));
    }
    text.into()
}

/// The number and the count of a value; none if it is not exactly as [`value`] makes it.
pub fn parse_value(bytes: &[u8]) -> Option<(u64, u64)> {
    let mut words = std::str::from_utf8(bytes).ok()?.split(' ');
    let (id, count) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (value(id, count) == bytes).then_some((id, count))
}

/// The content of file number `id`: from nothing to several blocks.
pub fn file(id: u64) -> Bytes {
    let seed = if id.is_multiple_of(SHARED_EVERY) { id / SHARED_EVERY % SHARED_CONTENTS } else { id + SHARED_CONTENTS };
    let mut random = fastrand::Rng::with_seed(seed);
    let length = match random.u8(..10) {
        0..4 => random.usize(..3000),
        4..9 => random.usize(8000..120_000),
        _ => random.usize(120_000..FILE_BYTES_MAX),
    };
    let mut bytes = vec![0; length];
    random.fill(&mut bytes);
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::{file, parse_value, value};

    #[test]
    fn values_tell_their_number() {
        for id in [1, 15, 16, 4711] {
            assert_eq!(parse_value(&value(id, id * 2)), Some((id, id * 2)));
        }
        assert_eq!(parse_value(&value(16, 0)[..5000]), None);
        assert_eq!(parse_value(b"1 2"), None);
        assert_eq!(file(7), file(7));
        assert_ne!(file(7), file(8));
        assert_eq!(file(0), file(30));
    }
}
