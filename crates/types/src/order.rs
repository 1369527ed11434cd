use std::cmp::Ordering;

/// The order of 32 bytes, as slices have it. Maps compare little else; four words are compared without a call.
pub(crate) fn compare(left: &[u8; 32], right: &[u8; 32]) -> Ordering {
    words(left).cmp(&words(right))
}

fn words(bytes: &[u8; 32]) -> [u64; 4] {
    let (chunks, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|index| u64::from_be_bytes(chunks[index]))
}

/// Orders a type that wraps 32 bytes by them.
macro_rules! ordered {
    ($bytes:ty) => {
        impl Ord for $bytes {
            #[inline]
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                crate::order::compare(&self.0, &other.0)
            }
        }

        impl PartialOrd for $bytes {
            #[inline]
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
    };
}

pub(crate) use ordered;
