use std::collections::{BTreeMap, BTreeSet};

use difuse_types::NodeId;

use super::network::{Network, SECOND, host, node};
use crate::{
    HostEntry, HostState, Ring, VirtualNode, VirtualNodeId,
    invariants::{VirtualNodeSnapshot, is_ideal},
};

/// Too many to be watched all the time, and more than anybody points at.
const HOSTS: u16 = 100;

fn converged(seed: u64) -> Network {
    let mut network = Network::new(seed);
    let place = |number, index| VirtualNode::new(VirtualNodeId { node: node(number), index });
    let mut places: Vec<_> = (0..HOSTS).flat_map(|number| (0..8).map(move |index| place(number, index))).collect();
    places.sort_by_key(|place| place.position);
    let entry = |number| HostEntry { host: host(number), state: HostState::Up, version: 1 };
    for number in 0..HOSTS {
        let known = (0..HOSTS).filter(|other| *other != number).map(entry).collect();
        let ring = Ring::converged(network.config(), host(number), known, &places, network.now, u64::from(number));
        network.rings.insert(node(number), ring);
    }
    network
}

fn points_at(ring: &Ring, host: NodeId) -> bool {
    let mut pointers = ring.virtual_nodes().flat_map(|own| own.predecessor.into_iter().chain(own.successors));
    pointers.any(|place| place.node() == host)
}

/// Hosts that nobody points at were drawn to be watched for one round, and forgotten before they could be judged.
#[test]
fn a_dead_host_is_found_out_by_those_that_do_not_point_at_it() {
    let mut network = converged(3);
    network.run_for(SECOND);
    assert!(network.rings.values().all(|ring| !ring.is_suspect(&node(7))));
    let strangers: BTreeSet<NodeId> =
        network.rings.iter().filter(|(_, ring)| !points_at(ring, node(7))).map(|(id, _)| *id).collect();
    network.kill(7);
    network.run_for(6 * SECOND);
    let found_out = strangers.iter().filter(|id| network.rings.get(id).is_some_and(|ring| ring.is_suspect(&node(7))));
    let count = found_out.count();
    assert!(count * 3 > strangers.len(), "only {count} of {} that do not point at it suspect it", strangers.len());
}

/// A node that joined told the whole table, which it had just been told itself, to everybody as news.
#[test]
fn a_joining_node_tells_of_itself_and_not_of_all_others() {
    const JOINER: u16 = 500;
    let mut network = converged(5);
    network.join(JOINER, 0);
    network.run_for(5 * SECOND);
    assert!(network.rings.values().all(|ring| ring.host(&node(JOINER)).is_some_and(|row| row.state == HostState::Up)));
    assert_eq!(network.rings[&node(JOINER)].hosts().count(), usize::from(HOSTS) + 1);
    let rows = network.rows_sent[&node(JOINER)];
    assert!(rows < 3 * usize::from(HOSTS), "{rows} rows sent");
}

#[test]
fn a_ring_made_as_if_it_had_converged_stays_as_it_is() {
    let mut network = converged(4);
    let pointers = |snapshots: Vec<VirtualNodeSnapshot>| -> BTreeMap<_, _> {
        snapshots.into_iter().map(|own| (own.place.position, (own.predecessor, own.successors))).collect()
    };
    let before = network.snapshots();
    assert!(is_ideal(&before));
    network.run_for(2 * SECOND);
    assert_eq!(pointers(network.snapshots()), pointers(before));
}
