//! Words that every other crate shares: identifiers, ring positions, hashes, keys, time.
//!
//! *Invariant:* nothing here reads a clock, a socket, a file or a global random generator, and nothing here knows
//! what a ring, a log or a block does.

mod bounded;
mod derivation;
mod hash;
mod host;
mod key;
mod level;
mod node;
mod order;
mod position;
mod time;

pub use bounded::BoundedMap;
pub use derivation::HashContext;
pub use hash::{Hash, ParseHashError};
pub use host::{Host, Incarnation, RingId, RingSettings, SettingsError};
pub use key::{Key, KeyError, KeyPrefix, MAX_KEY_BYTES, MAX_NAMESPACE_BYTES, MAX_PATH_BYTES, Space};
pub use level::{Level, UnknownLevel};
pub use node::{NodeId, OperationId, ParseNodeIdError, ParseOperationIdError};
pub use position::{RingPosition, SlotId, Slots};
pub use time::{Instant, WallTime};
