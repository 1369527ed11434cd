//! Where iterations stand: a cursor of Redis is a number, a position here is a key.

use std::sync::{Mutex, PoisonError};

use difuse_api::keys;
use difuse_types::Key;
use std::collections::{BTreeMap, VecDeque};

/// The most positions that a node remembers; the oldest are forgotten first.
const CURSORS_MAX: usize = 16_384;

/// The positions that this node has given out.
#[derive(Default)]
pub(super) struct Cursors(Mutex<Table>);

#[derive(Default)]
struct Table {
    positions: BTreeMap<u64, Key>,
    order: VecDeque<u64>,
}

impl Cursors {
    /// A number for the position after `key`. It is drawn at random, so that a cursor of another node is never taken for
    /// one of this node.
    pub(super) fn add(&self, key: Key) -> u64 {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let cursor = new_cursor();
        if table.positions.insert(cursor, key).is_none() {
            table.order.push_back(cursor);
        }
        if table.order.len() > CURSORS_MAX
            && let Some(oldest) = table.order.pop_front()
        {
            table.positions.remove(&oldest);
        }
        cursor
    }

    /// The key after which to go on; `None` if this node does not know the cursor (any more).
    pub(super) fn find(&self, cursor: u64) -> Option<Key> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).positions.get(&cursor).cloned()
    }
}

/// From 1 to 2^48: some clients keep cursors in floating-point numbers.
fn new_cursor() -> u64 {
    let [a, b, c, d, e, f, ..] = keys::new_operation_id().0;
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0]).max(1)
}
