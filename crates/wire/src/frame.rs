use bytes::Bytes;
use difuse_types::Key;
use flatbuffers::{Follow, Vector};

use crate::{
    error::{WireError, check},
    limits::{KEY_PREFIX_BYTES_MAX, REASON_BYTES_MAX},
};

/// Byte strings from this length on are slices of the frame that they came in; shorter ones are copied, so that a key
/// that is kept for years does not keep the two megabytes that came with it.
const SLICE_BYTES_MIN: usize = 16 << 10;

/// A verified frame, of which byte strings are taken.
pub(crate) struct Frame<'a>(pub(crate) &'a Bytes);

impl Frame<'_> {
    /// A byte string of at most `bytes_max` bytes.
    pub(crate) fn bytes(
        &self,
        part: Vector<'_, u8>,
        bytes_max: usize,
        field: &'static str,
    ) -> Result<Bytes, WireError> {
        let part = part.bytes();
        check(part.len() <= bytes_max, field)?;
        // `slice_ref` wants a part of this very frame, which every vector of a verified frame is.
        Ok(if part.len() < SLICE_BYTES_MIN { Bytes::copy_from_slice(part) } else { self.0.slice_ref(part) })
    }

    /// A key.
    pub(crate) fn key(&self, part: Vector<'_, u8>) -> Result<Key, WireError> {
        let bytes = self.bytes(part, KEY_PREFIX_BYTES_MAX, "key")?;
        Key::from_encoded(bytes).map_err(|_| WireError::OutOfBounds { field: "key" })
    }

    /// A key that may be absent.
    pub(crate) fn key_option(&self, part: Option<Vector<'_, u8>>) -> Result<Option<Key>, WireError> {
        part.map(|part| self.key(part)).transpose()
    }
}

/// A string of at most `bytes_max` bytes.
pub(crate) fn text(text: &str, bytes_max: usize, field: &'static str) -> Result<String, WireError> {
    check(text.len() <= bytes_max, field)?;
    Ok(text.into())
}

/// A reason, for people.
pub(crate) fn reason(reason: &str) -> Result<String, WireError> {
    text(reason, REASON_BYTES_MAX, "reason")
}

/// How many elements a list has room for before any is translated: a short frame may say that it has many.
const ROOM_MAX: usize = 256;

/// Every element of a list of at most `count_max`, translated.
pub(crate) fn list<'a, T: Follow<'a> + 'a, U>(
    elements: Vector<'a, T>,
    count_max: usize,
    field: &'static str,
    translate: impl FnMut(T::Inner) -> Result<U, WireError>,
) -> Result<Vec<U>, WireError> {
    check(elements.len() <= count_max, field)?;
    let mut translated = Vec::with_capacity(elements.len().min(ROOM_MAX));
    for element in elements.iter().map(translate) {
        translated.push(element?);
    }
    Ok(translated)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use difuse_protocol::{
        message::{Message, Outcome},
        request::Reply,
    };

    use super::SLICE_BYTES_MIN;
    use crate::{decode, encode};

    /// Whether a block of this length is, once decoded, part of the frame's memory.
    fn is_slice(length: usize) -> bool {
        let outcome = Outcome::Reply(Reply::Block(Some(Bytes::from(vec![7; length]))));
        let frame = encode(&[Message::Response { id: 1, outcome }]);
        let Ok([Message::Response { outcome: Outcome::Reply(Reply::Block(Some(block))), .. }]) =
            decode(&frame).as_deref().map(|messages| <&[Message; 1]>::try_from(messages).unwrap()).cloned()
        else {
            panic!("the block does not come back");
        };
        frame.as_ptr_range().contains(&block.as_ptr())
    }

    #[test]
    fn long_byte_strings_are_sliced_and_short_ones_copied() {
        assert!(is_slice(SLICE_BYTES_MIN));
        assert!(is_slice(1 << 20));
        assert!(!is_slice(SLICE_BYTES_MIN - 1));
    }
}
