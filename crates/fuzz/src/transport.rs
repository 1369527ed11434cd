use difuse_net::fuzzing;

/// What somebody who dialled sends in place of a handshake.
pub fn transport_handshake(bytes: &[u8]) {
    fuzzing::handshake(bytes);
}

/// What a peer sends in place of frames.
pub fn transport_frames(bytes: &[u8]) {
    fuzzing::frames(bytes);
}
