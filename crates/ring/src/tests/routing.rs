use difuse_types::{Hash, NodeId, RingPosition};

use super::network::{Network, SECOND, node};
use crate::{LookupOutcome, RingOutput, VirtualNodeId};

/// Follows fingers from node to node: the owner found, and how many other nodes were asked.
fn follow_fingers(network: &Network, from: NodeId, position: RingPosition) -> (VirtualNodeId, u32) {
    let (mut at, mut hops) = (from, 0);
    loop {
        match network.rings[&at].route_by_fingers(position) {
            LookupOutcome::Found { owner } => return (owner, hops),
            LookupOutcome::Next { next } => at = next.node,
            LookupOutcome::NotMember => panic!("all are members"),
        }
        hops += 1;
        assert!(hops < 100, "goes in circles");
    }
}

#[test]
fn fingers_need_at_most_half_the_logarithm_in_hops() {
    let mut network = Network::settled(1, 40);
    network.run_for(15 * SECOND);
    let (lookups, mut hops_in_all) = (2000u16, 0);
    for number in 0..lookups {
        let position = RingPosition(Hash::of(&[1, number.to_le_bytes()[0], number.to_le_bytes()[1]]).0);
        let from = node(number % 40);
        let LookupOutcome::Found { owner } = network.rings[&from].route(position) else { panic!("one hop by table") };
        let (by_fingers, hops) = follow_fingers(&network, from, position);
        assert_eq!(by_fingers, owner, "the table and the fingers agree");
        hops_in_all += hops;
    }
    let average = f64::from(hops_in_all) / f64::from(lookups);
    let bound = (40.0 * 8.0_f64).log2() / 2.0;
    assert!(average <= bound, "{average} hops on average, at most {bound} wanted");
}

#[test]
fn a_lookup_asks_its_way_to_the_owner() {
    let mut network = Network::settled(2, 12);
    network.run_for(10 * SECOND);
    for number in 0..20u8 {
        let position = RingPosition(Hash::of(&[number]).0);
        let id = network.call(5, |ring, now, out| ring.lookup(now, position, out));
        let found = move |network: &Network| {
            network.outputs[&node(5)].iter().find_map(|output| match output {
                RingOutput::LookupDone { lookup, owner, .. } if *lookup == id => Some(*owner),
                _ => None,
            })
        };
        network.run_until("found", SECOND, |network| found(network).is_some());
        let LookupOutcome::Found { owner } = network.rings[&node(0)].route(position) else { panic!("one hop") };
        assert_eq!(found(&network), Some(Some(owner)));
    }
}
