use std::cmp::Ordering;

/// The order of 32 bytes, as slices have it. Maps compare little else; four words are compared without a call.
pub(crate) fn compare(left: &[u8; 32], right: &[u8; 32]) -> Ordering {
    words(left).cmp(&words(right))
}

fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| u64::from_be_bytes(chunks[index]))
}
