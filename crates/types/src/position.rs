use std::fmt;

use crate::{Hash, HashContext, Key, NodeId, order::ordered};

static VIRTUAL_NODE: HashContext = HashContext::new("difuse 2026 virtual node position v1");

/// A point on the ring: a 256-bit number, big-endian, that wraps around.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RingPosition(pub [u8; 32]);

ordered!(RingPosition);

impl RingPosition {
    /// The position of virtual node `index` of `node`: any peer recomputes it from the two.
    pub fn of_virtual_node(node: &NodeId, index: u16) -> Self {
        let mut hasher = VIRTUAL_NODE.hasher();
        hasher.update(node.as_bytes());
        hasher.update(&index.to_le_bytes());
        Self(*hasher.finalize().as_bytes())
    }

    /// This position plus 2^`exponent` (exponent 0–255), wrapping: the start of a Chord finger.
    pub fn plus_power_of_two(self, exponent: u8) -> Self {
        let mut bytes = self.0;
        let mut index = 31 - usize::from(exponent / 8);
        let mut carry = 1u16 << (exponent % 8);
        loop {
            let sum = u16::from(bytes[index]) + carry;
            bytes[index] = sum.to_le_bytes()[0];
            carry = sum >> 8;
            if carry == 0 || index == 0 {
                return Self(bytes);
            }
            index -= 1;
        }
    }

    /// Clockwise distance from `self` to `other`.
    pub fn distance_to(self, other: Self) -> [u8; 32] {
        let halves = |position: &[u8; 32]| {
            let (high, low) = position.split_at(16);
            let number = |half: &[u8]| half.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
            (number(high), number(low))
        };
        let ((from_high, from_low), (to_high, to_low)) = (halves(&self.0), halves(&other.0));
        let (low, has_borrowed) = to_low.overflowing_sub(from_low);
        let high = to_high.wrapping_sub(from_high).wrapping_sub(u128::from(has_borrowed));
        let mut distance = [0; 32];
        distance[..16].copy_from_slice(&high.to_be_bytes());
        distance[16..].copy_from_slice(&low.to_be_bytes());
        distance
    }

    /// Whether `self` lies in the clockwise open interval (`from`, `to`). With `from == to` that is the whole ring
    /// but `from`, as in Zave's definition.
    pub fn is_between(self, from: Self, to: Self) -> bool {
        if from < to { from < self && self < to } else { from < self || self < to }
    }
}

impl fmt::Display for RingPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for RingPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0[..4]))
    }
}

/// One of the 2^k equal slices of the ring, numbered clockwise from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct SlotId(pub u32);

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How a ring is sliced: fixed when the ring is founded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slots {
    bits: u8,
}

impl Slots {
    /// The most slots a ring can have: 2^16.
    pub const MAX_BITS: u8 = 16;

    /// 2^`bits` slots; `None` above [`Slots::MAX_BITS`].
    pub fn with_bits(bits: u8) -> Option<Self> {
        (bits <= Self::MAX_BITS).then_some(Self { bits })
    }

    /// `count` slots; `None` unless it is a power of two, at most 2^16.
    pub fn with_count(count: u32) -> Option<Self> {
        let bits = count.checked_ilog2()?;
        (count.is_power_of_two()).then_some(())?;
        Self::with_bits(u8::try_from(bits).ok()?)
    }

    /// The base-two logarithm of the number of slots.
    pub fn bits(self) -> u8 {
        self.bits
    }

    /// The number of slots.
    pub fn count(self) -> u32 {
        1 << self.bits
    }

    /// All slots, clockwise.
    pub fn iter(self) -> impl Iterator<Item = SlotId> {
        (0..self.count()).map(SlotId)
    }

    /// Where the slot begins on the ring; its replicas are the successors of this position.
    pub fn position(self, slot: SlotId) -> RingPosition {
        let mut bytes = [0; 32];
        let start = if self.bits == 0 { 0 } else { slot.0 << (32 - self.bits) };
        bytes[..4].copy_from_slice(&start.to_be_bytes());
        RingPosition(bytes)
    }

    /// The slot that a key lives in.
    pub fn of_key(self, key: &Key) -> SlotId {
        let steps_of = key.steps_of().filter(|slot| slot.0 < self.count());
        steps_of.unwrap_or_else(|| self.of_hash(&key.placement_hash()))
    }

    /// The slot that a block lives in.
    pub fn of_block(self, hash: &Hash) -> SlotId {
        self.of_hash(hash)
    }

    fn of_hash(self, hash: &Hash) -> SlotId {
        let mut first = [0; 4];
        first.copy_from_slice(&hash.0[..4]);
        let value = u32::from_be_bytes(first);
        SlotId(if self.bits == 0 { 0 } else { value >> (32 - self.bits) })
    }
}

#[cfg(test)]
mod tests {
    use super::{RingPosition, SlotId, Slots};

    fn position(last: u8) -> RingPosition {
        let mut bytes = [0; 32];
        bytes[31] = last;
        RingPosition(bytes)
    }

    #[test]
    fn between_is_open_and_wraps() {
        assert!(position(5).is_between(position(3), position(7)));
        assert!(!position(3).is_between(position(3), position(7)));
        assert!(!position(7).is_between(position(3), position(7)));
        assert!(position(1).is_between(position(9), position(3)));
        assert!(position(1).is_between(position(4), position(4)));
        assert!(!position(4).is_between(position(4), position(4)));
    }

    #[test]
    fn powers_of_two_carry_and_wrap() {
        assert_eq!(position(255).plus_power_of_two(0).0[30], 1);
        assert_eq!(RingPosition([255; 32]).plus_power_of_two(0), RingPosition([0; 32]));
        assert_eq!(position(0).plus_power_of_two(255).0[0], 128);
    }

    #[test]
    fn distance_is_clockwise() {
        assert_eq!(position(3).distance_to(position(7))[31], 4);
        assert_eq!(position(7).distance_to(position(3)), {
            let mut distance = [255; 32];
            distance[31] = 252;
            distance
        });
    }

    #[test]
    fn slots_divide_the_ring() {
        let slots = Slots::with_count(1024).unwrap();
        assert_eq!(slots.bits(), 10);
        assert!(slots.position(SlotId(1)) < slots.position(SlotId(2)));
        assert_eq!(Slots::with_count(1000), None);
        assert_eq!(Slots::with_count(0), None);
        let one = Slots::with_count(1).unwrap();
        assert_eq!(one.iter().count(), 1);
    }
}
