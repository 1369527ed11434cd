use flatbuffers::{FlatBufferBuilder, ForwardsUOffset, UnionWIPOffset, Vector, WIPOffset};

use crate::limits::REASON_BYTES_MAX;

/// What messages are written into.
pub(crate) type Builder = FlatBufferBuilder<'static>;
/// Where something was written.
pub(crate) type Offset<T> = WIPOffset<T>;
/// Where a byte string was written.
pub(crate) type BytesOffset = WIPOffset<Vector<'static, u8>>;
/// Where a variant of a union was written.
pub(crate) type UnionOffset = WIPOffset<UnionWIPOffset>;
/// Where a list of tables was written.
pub(crate) type TablesOffset<T> = WIPOffset<Vector<'static, ForwardsUOffset<T>>>;

/// Writes a byte string with one copy (the builder's own vectors of bytes are written byte by byte). The zero that
/// follows a "byte string" in FlatBuffers is not part of it.
pub(crate) fn write_bytes(builder: &mut Builder, bytes: &[u8]) -> BytesOffset {
    WIPOffset::new(builder.create_byte_string(bytes).value())
}

/// Writes a reason for people, cut to the length that receivers take.
pub(crate) fn write_reason(builder: &mut Builder, reason: &str) -> Offset<&'static str> {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    builder.create_string(&reason[..end])
}

/// Writes a list of tables, each by `write`.
pub(crate) fn write_tables<T, U>(
    builder: &mut Builder,
    items: &[T],
    mut write: impl FnMut(&mut Builder, &T) -> Offset<U>,
) -> TablesOffset<U> {
    let offsets: Vec<_> = items.iter().map(|item| write(builder, item)).collect();
    builder.create_vector(&offsets)
}
