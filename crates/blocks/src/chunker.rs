//! Content-defined chunking: FastCDC as of 2020 (Xia et al., "The Design of Fast Content-Defined Chunking for Data
//! Deduplication Based Storage Systems", IEEE TPDS 31(9)), with normalisation level 1 of its section 4.4.
//!
//! Cut points follow from the content alone, so that an insertion changes the chunks around it and no others.

use bytes::{Buf, Bytes, BytesMut};
use fastcdc::v2020::{AVERAGE_MIN, FastCDC, MAXIMUM_MIN, MINIMUM_MIN};

use crate::MAX_BLOCK_BYTES;

/// No chunk but the last of a value is shorter: 64 KiB.
pub const MIN_CHUNK_BYTES: usize = 64 << 10;
/// The length that chunks tend to: 256 KiB.
pub const AVERAGE_CHUNK_BYTES: usize = 256 << 10;
/// No chunk is longer: 1 MiB, a whole block.
pub const MAX_CHUNK_BYTES: usize = MAX_BLOCK_BYTES;

/// A long stream is gathered in pieces of memory of this many maximal chunks: what is left at the end of a piece is
/// copied to the next one, here less than a third of the stream.
const CHUNKS_PER_SEGMENT: usize = 4;

/// The bounds of chunks, in bytes. Everyone who should find the same chunks must use the same ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkSizes {
    min: usize,
    average: usize,
    max: usize,
}

/// Chunk sizes that FastCDC cannot work with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "chunk sizes must be even, with {MINIMUM_MIN} <= min <= average <= max <= {MAX_BLOCK_BYTES}, \
     average >= {AVERAGE_MIN} and max >= {MAXIMUM_MIN}"
)]
pub struct ChunkSizesError;

impl ChunkSizes {
    /// 64 KiB, 256 KiB, 1 MiB.
    pub const DEFAULT: Self = Self { min: MIN_CHUNK_BYTES, average: AVERAGE_CHUNK_BYTES, max: MAX_CHUNK_BYTES };

    /// Sizes in bytes: all even, at least 64, 256 and 1024, ascending, at most [`MAX_BLOCK_BYTES`].
    pub fn new(min: usize, average: usize, max: usize) -> Result<Self, ChunkSizesError> {
        let even = [min, average, max].iter().all(|size| size % 2 == 0);
        let bounded = min >= MINIMUM_MIN && average >= AVERAGE_MIN && (MAXIMUM_MIN..=MAX_BLOCK_BYTES).contains(&max);
        if even && bounded && min <= average && average <= max {
            Ok(Self { min, average, max })
        } else {
            Err(ChunkSizesError)
        }
    }

    /// Length of the first chunk of `bytes`. Final if there are at least `max` bytes or no more will follow.
    fn first_cut(&self, bytes: &[u8]) -> usize {
        FastCDC::new(bytes, self.min, self.average, self.max).cut(0, bytes.len()).1
    }
}

impl Default for ChunkSizes {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Cuts a stream into chunks. The cut points do not depend on how the stream was divided into pushes.
///
/// Holds at most four maximal chunks of memory. A chunk is a view, either of the input it came from or of a piece of
/// memory that it shares with its neighbours, so copy a chunk that is to be kept for long.
#[derive(Debug, Default)]
pub struct Chunker {
    sizes: ChunkSizes,
    /// Bytes not yet in a chunk; shorter than a maximal chunk between calls.
    buffer: BytesMut,
    has_cut_buffer: bool,
}

impl Chunker {
    /// A chunker for one value.
    pub fn new(sizes: ChunkSizes) -> Self {
        Self { sizes, buffer: BytesMut::new(), has_cut_buffer: false }
    }

    /// Takes the next bytes of the stream and gives the chunks that are now certain, in order.
    pub fn push(&mut self, mut input: Bytes) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        loop {
            if self.buffer.is_empty() {
                self.cut_input(&mut input, &mut chunks);
            }
            let copied = self.copy_from(&input);
            if self.buffer.len() < self.sizes.max {
                return chunks;
            }
            let cut = self.sizes.first_cut(&self.buffer);
            chunks.push(self.buffer.split_to(cut).freeze());
            self.has_cut_buffer = true;
            input.advance(self.give_back(copied));
        }
    }

    /// Ends the stream and gives its last chunks: none for an empty stream, otherwise as many as the content says
    /// within the last [`MAX_CHUNK_BYTES`]. Only the very last may be shorter than the minimum.
    pub fn finish(mut self) -> Vec<Bytes> {
        let mut chunks = Vec::new();
        while !self.buffer.is_empty() {
            let cut = self.sizes.first_cut(&self.buffer);
            chunks.push(self.buffer.split_to(cut).freeze());
        }
        chunks
    }

    /// Cuts chunks off `input` without copying, as long as it is long enough for the cuts to be final.
    fn cut_input(&self, input: &mut Bytes, chunks: &mut Vec<Bytes>) {
        while input.len() >= self.sizes.max {
            let cut = self.sizes.first_cut(input);
            chunks.push(input.split_to(cut));
        }
    }

    /// Fills the buffer up to one maximal chunk; how many bytes of `input` it took.
    fn copy_from(&mut self, input: &[u8]) -> usize {
        let length = input.len().min(self.sizes.max - self.buffer.len());
        self.reserve(length);
        self.buffer.extend_from_slice(&input[..length]);
        length
    }

    fn reserve(&mut self, additional: usize) {
        let needed = self.buffer.len() + additional;
        if needed > self.buffer.capacity() {
            let segment = self.sizes.max * CHUNKS_PER_SEGMENT;
            // A short value should not pay for a long one's memory: grow in steps until the first cut.
            let capacity = if self.has_cut_buffer { segment } else { segment.min(needed * 2) };
            // Not `BytesMut::reserve`, which may double the memory beyond a segment.
            let mut buffer = BytesMut::with_capacity(capacity);
            buffer.extend_from_slice(&self.buffer);
            self.buffer = buffer;
        }
    }

    /// After a cut: how many of the `copied` bytes need not be looked at in the input any more. What is left in the
    /// buffer is dropped if the input has all of it, since there it may be cut without copying.
    fn give_back(&mut self, copied: usize) -> usize {
        if self.buffer.len() > copied {
            return copied;
        }
        let consumed = copied - self.buffer.len();
        self.buffer.clear();
        consumed
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use difuse_types::Hash;
    use fastcdc::v2020::FastCDC;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    use super::{ChunkSizes, Chunker};

    fn random_bytes(seed: u64, length: usize) -> Bytes {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = vec![0; length];
        random.fill(&mut bytes);
        Bytes::from(bytes)
    }

    fn small() -> ChunkSizes {
        ChunkSizes::new(256, 1024, 4096).expect("valid sizes")
    }

    fn chunks_of(sizes: ChunkSizes, bytes: &Bytes, pushes: impl IntoIterator<Item = usize>) -> Vec<Bytes> {
        let mut chunker = Chunker::new(sizes);
        let mut rest = bytes.clone();
        let mut chunks = Vec::new();
        for push in pushes {
            chunks.extend(chunker.push(rest.split_to(push.min(rest.len()))));
            assert!(chunker.buffer.len() < sizes.max && chunker.buffer.capacity() <= 4 * sizes.max);
        }
        chunks.extend(chunker.push(rest));
        chunks.extend(chunker.finish());
        chunks
    }

    proptest! {
        #[test]
        fn cut_points_do_not_depend_on_the_pushes(
            seed in any::<u64>(),
            length in 0_usize..40_000,
            zeroes in 0_usize..10_000,
            pushes in prop::collection::vec(0_usize..9_000, 0..60),
        ) {
            let bytes = Bytes::from([random_bytes(seed, length), Bytes::from(vec![0; zeroes])].concat());
            let sizes = small();
            let expected: Vec<usize> =
                FastCDC::new(&bytes, sizes.min, sizes.average, sizes.max).map(|chunk| chunk.length).collect();
            let chunks = chunks_of(sizes, &bytes, pushes);
            prop_assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), expected);
            prop_assert_eq!(chunks.concat(), &bytes[..]);
            if let Some((_, all_but_last)) = chunks.split_last() {
                prop_assert!(all_but_last.iter().all(|chunk| (sizes.min..=sizes.max).contains(&chunk.len())));
            }
        }
    }

    #[test]
    fn default_sizes_agree_for_frames_and_for_one_large_push() {
        let bytes = random_bytes(1, 6 << 20);
        let whole = chunks_of(ChunkSizes::DEFAULT, &bytes, [bytes.len()]);
        for push in [16 << 10, 1 << 20, (1 << 20) + 1, 3 << 20] {
            assert_eq!(chunks_of(ChunkSizes::DEFAULT, &bytes, vec![push; (6 << 20) / push]), whole, "{push}");
        }
        assert!(whole.len() >= 12, "chunks of about 256 KiB: {}", whole.len());
    }

    #[test]
    fn a_large_push_is_not_copied() {
        let bytes = random_bytes(2, 100_000);
        let inside = bytes.as_ptr_range();
        let chunks = Chunker::new(small()).push(bytes.clone());
        assert!(!chunks.is_empty());
        assert!(chunks.iter().all(|chunk| inside.contains(&chunk.as_ptr())));
    }

    #[test]
    fn content_shifted_by_a_few_bytes_has_mostly_the_same_chunks() {
        let bytes = random_bytes(3, 1 << 20);
        let hashes = |bytes: &Bytes| -> BTreeSet<Hash> {
            chunks_of(small(), bytes, []).iter().map(|chunk| Hash::of(chunk)).collect()
        };
        let original = hashes(&bytes);
        for shift in [1, 7, 100] {
            let shifted = hashes(&Bytes::from([random_bytes(4, shift), bytes.clone()].concat()));
            let shared = original.intersection(&shifted).count();
            assert!(shared * 100 >= original.len() * 98, "shift {shift}: {shared} of {}", original.len());
        }
    }

    #[test]
    fn an_empty_value_has_no_chunks() {
        assert!(chunks_of(ChunkSizes::DEFAULT, &Bytes::new(), [0, 0]).is_empty());
    }

    #[test]
    fn refuses_sizes_that_cannot_work() {
        for (min, average, max) in
            [(63, 256, 1024), (65, 256, 1024), (64, 254, 1024), (64, 256, 1022), (512, 256, 1024), (64, 256, 1 << 21)]
        {
            assert!(ChunkSizes::new(min, average, max).is_err(), "{min} {average} {max}");
        }
    }
}
