//! What the gateways of nodes tell each other for their clients.

use bytes::Bytes;
use difuse_types::Key;

/// The longest channel and message together, in bytes, that are told to other nodes.
pub const PUBLISHED_BYTES_MAX: usize = 1 << 20;

/// Something that is told at most once: whoever is not reachable, or busy, does not hear of it, and nothing of the ring
/// depends on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A client has published a message on a channel.
    Published {
        /// The channel.
        channel: Bytes,
        /// The message.
        message: Bytes,
    },
    /// Clients of the sender wait for items of a key, for some seconds at least.
    Waiting {
        /// The key.
        key: Key,
    },
    /// Items were added to a key that clients of the receiver wait for.
    Added {
        /// The key.
        key: Key,
    },
}
