//! What must hold in every state.

use std::collections::BTreeSet;

use difuse_keylog::{Configuration, Store};
use difuse_types::NodeId;

use crate::{
    setup::{Setup, node},
    state::{KEY, SLOT, State},
};

/// Whether a leader of the newest configuration would find every acknowledged write, whatever quorum it asks: the value
/// at the highest ballot among any quorum has them all in its chain.
pub fn survives(state: &State) -> bool {
    let Some(newest) = newest(state) else { return true };
    let members = newest.all_members();
    (0u32..1 << members.len()).all(|chosen| {
        let quorum: BTreeSet<NodeId> =
            members.iter().enumerate().filter(|(index, _)| chosen & (1 << index) != 0).map(|(_, node)| *node).collect();
        !newest.is_quorum(&quorum) || has_all_shown(state, &quorum)
    })
}

fn newest(state: &State) -> Option<Configuration> {
    let known = state.nodes.values().filter_map(|node| node.configuration(SLOT));
    known.max_by_key(|known| known.epoch).cloned()
}

fn has_all_shown(state: &State, quorum: &BTreeSet<NodeId>) -> bool {
    let stores = quorum.iter().map(|node| state.nodes[node].store());
    let registers = stores.filter_map(|store| Some((store.register(SLOT, &KEY).ok()??.ballot, store)));
    let Some((_, best)) = registers.max_by_key(|(ballot, _)| *ballot) else { return state.seen.shown.is_empty() };
    state.seen.shown.iter().all(|(height, hash)| {
        let held = best.transaction(SLOT, &KEY, *height).ok().flatten();
        held.is_some_and(|held| held.hash() == *hash)
    })
}

/// Whether every write was acknowledged, and the slot is with whom it should be.
pub fn is_all_done(setup: &Setup, state: &State) -> bool {
    is_with_target(setup, state) && state.seen.shown.len() >= usize::from(setup.limits.writes)
}

/// Whether the slot is with whom it should be in the end.
pub fn is_with_target(setup: &Setup, state: &State) -> bool {
    let wanted = if setup.limits.placements > 0 { &setup.target } else { &setup.members };
    let wanted: BTreeSet<NodeId> = wanted.iter().map(|name| node(*name)).collect();
    newest(state)
        .is_some_and(|newest| !newest.is_joint() && newest.members.iter().copied().collect::<BTreeSet<_>>() == wanted)
}
