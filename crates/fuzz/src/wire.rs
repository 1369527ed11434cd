use bytes::Bytes;

/// A frame from a peer or a client: what is accepted is the same after it was written and read once more.
pub fn wire_frame(bytes: &[u8]) {
    let Ok(messages) = difuse_wire::decode(&Bytes::copy_from_slice(bytes)) else { return };
    let again = difuse_wire::encode(&messages);
    assert_eq!(difuse_wire::decode(&again).as_ref(), Ok(&messages));
}
