//! Zave's invariants of the ring (arXiv 1610.01140, section V).

use difuse_ring::invariants::{VirtualNodeSnapshot, check};

use crate::Violation;

/// Checks all live members. Only for rings whose nodes fail by stopping alone: a cut makes two rings of one.
pub(crate) fn check_ring(virtual_nodes: &[VirtualNodeSnapshot]) -> Result<(), Violation> {
    match check(virtual_nodes, 1).into_iter().next() {
        Some(violation) => Err(Violation::Ring(violation)),
        None => Ok(()),
    }
}
