//! The bounds of everything that a frame may carry. What is above them is refused before it is kept.

use difuse_keylog::Configuration;
use difuse_types::{MAX_NAMESPACE_BYTES, MAX_PATH_BYTES, Slots};

/// The longest frame, in bytes; longer ones are refused unseen.
pub const FRAME_BYTES_MAX: usize = (2 << 20) + (64 << 10);
/// The most messages in one frame.
pub const MESSAGES_MAX: usize = 16_384;
/// The longest byte string of a block, in bytes.
pub const BLOCK_BYTES_MAX: usize = 2 << 20;
/// The longest text of a host: its addresses, zone and label, each in bytes.
pub const HOST_TEXT_BYTES_MAX: usize = 256;
/// The longest reason, in bytes; longer ones are cut when they are sent.
pub const REASON_BYTES_MAX: usize = 1024;
/// The most hosts in one list: about as many as fit into a frame.
pub const HOSTS_MAX: usize = 16_384;

/// The most slots that a ring can have.
pub(crate) const SLOTS_MAX: usize = 1 << Slots::MAX_BITS;
/// The most virtual nodes that a node can have.
pub(crate) const VIRTUAL_NODES_MAX: u16 = 256;
/// The longest beginning of an encoded key: space, length of namespace, namespace, path, separator; in bytes.
pub(crate) const KEY_PREFIX_BYTES_MAX: usize = 2 + MAX_NAMESPACE_BYTES + MAX_PATH_BYTES + 1;
/// The most members, old and to be, that can hold something of a slot.
pub(crate) const HOLDINGS_MAX: usize = 2 * Configuration::MEMBERS_MAX;

/// How deep tables may be nested; the deepest message (a listing's value) needs 8.
pub(crate) const DEPTH_MAX: usize = 12;
/// The most tables in a frame: as many of 16 bytes as fit into it, far more than any honest frame has.
pub(crate) const TABLES_MAX: usize = FRAME_BYTES_MAX / 16;
/// The most bytes that a frame may stand for when everything in it that is referred to twice is counted twice: it
/// bounds what decoding can allocate.
pub(crate) const APPARENT_BYTES_MAX: usize = 8 * FRAME_BYTES_MAX;
