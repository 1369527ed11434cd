//! Bytes that neither compress nor repeat.

use bytes::{Bytes, BytesMut};
use fastrand::Rng;

/// How much of a file is made at once.
const PART_BYTES: usize = 256 << 10;

/// `length` random bytes.
pub fn random_bytes(random: &mut Rng, length: usize) -> Bytes {
    let mut bytes = BytesMut::zeroed(length);
    random.fill(&mut bytes);
    bytes.freeze()
}

/// `length` random bytes in parts, in constant memory.
pub fn random_parts(seed: u64, length: u64) -> impl Iterator<Item = Bytes> + Send + use<> {
    let mut random = Rng::with_seed(seed);
    let mut left = length;
    std::iter::from_fn(move || {
        let part = usize::try_from(left).unwrap_or(PART_BYTES).min(PART_BYTES);
        left -= part as u64;
        (part > 0).then(|| random_bytes(&mut random, part))
    })
}

/// A seed that differs from run to run, so that a second run writes new content.
pub fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::random_parts;

    #[test]
    fn parts_add_up_and_differ_by_seed() {
        for length in [0, 1, 256 << 10, (600 << 10) + 7] {
            let total: usize = random_parts(1, length).map(|part| part.len()).sum();
            assert_eq!(total as u64, length);
        }
        assert_ne!(random_parts(1, 100).next(), random_parts(2, 100).next());
    }
}
