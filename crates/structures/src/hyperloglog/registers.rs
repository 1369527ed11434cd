//! Flajolet et al., "HyperLogLog: the analysis of a near-optimal cardinality estimation algorithm" (AofA 2007), with
//! 2^14 registers of 6 bits; the estimate is that of Ertl, "New cardinality estimation algorithms for HyperLogLog
//! sketches" (arXiv:1702.01284), algorithm 6.

use crate::CommandError;

const COUNT: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 14;
/// Bits of a hash that no index is made of.
const PATTERN_BITS: u32 = 64 - INDEX_BITS;
/// The largest value that a hash can give a register.
const VALUE_MAX: usize = PATTERN_BITS as usize + 1;

/// Magic, encoding, three bytes of nothing, and the count as it was when it was last computed, in 8 bytes; the highest
/// bit of the last one says that it has changed since.
const HEADER: usize = 16;
const MAGIC: &[u8] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const DENSE_SIZE: usize = HEADER + COUNT * 6 / 8;
/// Redis's `hll-sparse-max-bytes`, and the largest value that the sparse form has.
const SPARSE_SIZE_MAX: usize = 3000;
const SPARSE_VALUE_MAX: u8 = 32;

/// The registers of a HyperLogLog.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Registers {
    values: Vec<u8>,
    /// Once dense, it is not made sparse again.
    is_dense: bool,
}

impl Default for Registers {
    fn default() -> Self {
        Self { values: vec![0; COUNT], is_dense: false }
    }
}

fn corrupted() -> CommandError {
    CommandError::Other("INVALIDOBJ Corrupted HLL object detected".into())
}

/// The encoding, if the header is that of a HyperLogLog.
fn encoding(value: &[u8]) -> Result<u8, CommandError> {
    let error = || CommandError::Other("WRONGTYPE Key is not a valid HyperLogLog string value.".into());
    let encoding = *value.get(MAGIC.len()).ok_or_else(error)?;
    let is_one = value.len() >= HEADER
        && value.starts_with(MAGIC)
        && (encoding == SPARSE || (encoding == DENSE && value.len() == DENSE_SIZE));
    if is_one { Ok(encoding) } else { Err(error()) }
}

impl Registers {
    /// Reads a string.
    ///
    /// # Errors
    /// If it is no HyperLogLog, or one that contradicts itself.
    pub(super) fn decode(value: &[u8]) -> Result<Self, CommandError> {
        let encoding = encoding(value)?;
        let rest = &value[HEADER..];
        if encoding == DENSE {
            return Ok(Self { values: (0..COUNT).map(|index| dense_register(rest, index)).collect(), is_dense: true });
        }
        let values = read_sparse(rest).ok_or_else(corrupted)?;
        Ok(Self { values, is_dense: false })
    }

    /// The count that Redis has left in the header, if it holds.
    pub(super) fn cached_count(value: &[u8]) -> Result<Option<u64>, CommandError> {
        encoding(value)?;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&value[8..HEADER]);
        let count = u64::from_le_bytes(bytes);
        Ok((count >> 63 == 0).then_some(count))
    }

    /// As a string: sparse if it was and that is small enough. The count in the header does not hold.
    pub(super) fn encode(&self) -> Vec<u8> {
        let sparse = if self.is_dense { None } else { write_sparse(&self.values) };
        let (encoding, registers) = match sparse {
            Some(sparse) => (SPARSE, sparse),
            None => (DENSE, write_dense(&self.values)),
        };
        let mut bytes = Vec::with_capacity(HEADER + registers.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[encoding, 0, 0, 0]);
        bytes.extend_from_slice(&(1_u64 << 63).to_le_bytes());
        bytes.extend(registers);
        bytes
    }

    /// Adds an element, and tells whether that has changed anything.
    pub(super) fn add(&mut self, element: &[u8]) -> bool {
        let hash = murmur_hash(element, 0xadc8_3b19);
        let index = (hash & (COUNT as u64 - 1)) as usize;
        let pattern = hash >> INDEX_BITS | 1 << PATTERN_BITS;
        let value = pattern.trailing_zeros() as u8 + 1;
        let is_more = value > self.values[index];
        if is_more {
            self.values[index] = value;
        }
        is_more
    }

    /// Adds what was added to another one.
    pub(super) fn merge(&mut self, other: &Self) {
        self.is_dense |= other.is_dense;
        for (value, other) in self.values.iter_mut().zip(&other.values) {
            *value = (*value).max(*other);
        }
    }

    /// About how many different elements were added.
    pub(super) fn count(&self) -> u64 {
        // A register of the dense form may hold what no hash gives it, and Redis leaves that out.
        let mut histogram = [0.0; 64];
        for value in &self.values {
            histogram[usize::from(value & 63)] += 1.0;
        }
        let size = COUNT as f64;
        let mut sum = size * tau((size - histogram[VALUE_MAX]) / size);
        for registers in histogram[1..VALUE_MAX].iter().rev() {
            sum = (sum + registers) * 0.5;
        }
        sum += size * sigma(histogram[0] / size);
        (0.721_347_520_444_481_7 * size * size / sum).round() as u64
    }
}

/// Ertl's σ.
fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if before == z {
            return z;
        }
    }
}

/// Ertl's τ.
fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x) * (1.0 - x) * y;
        if before == z {
            return z / 3.0;
        }
    }
}

/// 6 bits, the lowest ones first.
fn dense_register(bytes: &[u8], index: usize) -> u8 {
    let (byte, shift) = (index * 6 / 8, index * 6 % 8);
    let next = bytes.get(byte + 1).copied().unwrap_or(0);
    ((u16::from(bytes[byte]) | u16::from(next) << 8) >> shift & 63) as u8
}

fn write_dense(values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0_u8; DENSE_SIZE - HEADER];
    for (index, value) in values.iter().enumerate() {
        let (byte, shift) = (index * 6 / 8, index * 6 % 8);
        let bits = u16::from(value & 63) << shift;
        bytes[byte] |= bits as u8;
        if let Some(next) = bytes.get_mut(byte + 1) {
            *next |= (bits >> 8) as u8;
        }
    }
    bytes
}

/// Runs: `00llllll` of zeros, `01llllll llllllll` of more zeros, `1vvvvvll` of a value; each number less one.
fn read_sparse(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut values = Vec::with_capacity(COUNT);
    let mut bytes = bytes.iter().copied();
    while let Some(byte) = bytes.next() {
        let (value, length) = match byte >> 6 {
            0 => (0, usize::from(byte & 63) + 1),
            1 => (0, (usize::from(byte & 63) << 8 | usize::from(bytes.next()?)) + 1),
            _ => ((byte >> 2 & 31) + 1, usize::from(byte & 3) + 1),
        };
        if values.len() + length > COUNT {
            return None;
        }
        values.resize(values.len() + length, value);
    }
    (values.len() == COUNT).then_some(values)
}

/// `None` if that would be too large, or a value is.
fn write_sparse(values: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for run in values.chunk_by(|first, second| first == second) {
        let value = run[0];
        match (value, run.len() - 1) {
            (0, length @ ..64) => bytes.push(length as u8),
            (0, length) => bytes.extend_from_slice(&[0x40 | (length >> 8) as u8, length as u8]),
            (value, _) if value > SPARSE_VALUE_MAX => return None,
            (value, _) => bytes.extend(run.chunks(4).map(|part| 0x80 | (value - 1) << 2 | (part.len() - 1) as u8)),
        }
        if HEADER + bytes.len() > SPARSE_SIZE_MAX {
            return None;
        }
    }
    Some(bytes)
}

/// MurmurHash64A of Austin Appleby, which Redis hashes elements with.
fn murmur_hash(bytes: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = chunk.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte)).wrapping_mul(FACTOR);
        hash = (hash ^ (word ^ word >> 47).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        hash = hash.wrapping_mul(FACTOR);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(FACTOR);
    hash ^ hash >> 47
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(elements: u32) -> Registers {
        let mut registers = Registers::default();
        for number in 0..elements {
            registers.add(number.to_string().as_bytes());
        }
        registers
    }

    #[test]
    fn it_reads_what_it_writes_and_is_small_while_it_can() {
        for (elements, size) in [(0, 18), (1, 21), (300, 1500), (100_000, DENSE_SIZE)] {
            let registers = with(elements);
            let bytes = registers.encode();
            assert!(bytes.len() <= size, "{elements} take {}", bytes.len());
            let read = Registers::decode(&bytes).expect("what was written");
            assert_eq!(read.values, registers.values);
            assert_eq!(read.encode(), bytes);
            assert_eq!(Registers::cached_count(&bytes), Ok(None));
        }
    }

    #[test]
    fn its_count_is_close() {
        for elements in [0, 1, 2, 100, 10_000, 500_000] {
            let error = with(elements).count() as f64 - f64::from(elements);
            assert!(error.abs() <= 0.025 * f64::from(elements), "{elements}: {error}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let good = with(3).encode();
        for bytes in [&b""[..], b"HYLL", b"hello", &good[..HEADER - 1]] {
            assert!(Registers::decode(bytes).is_err() && Registers::cached_count(bytes).is_err());
        }
        assert_eq!(Registers::decode(&good[..good.len() - 1]), Err(corrupted()));
        assert_eq!(Registers::decode(&[&good[..], &[0]].concat()), Err(corrupted()));
    }
}
