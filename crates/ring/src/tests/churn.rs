use super::network::{MILLISECOND, Network, SECOND, node};
use crate::{HostState, RingOutput, VirtualNode};

#[test]
fn a_killed_node_comes_back_under_its_identity() {
    for seed in 0..5 {
        let mut network = Network::settled(seed, 5);
        let placement = network.successors_of_all_slots(0);
        network.principal_hosts_required = Some(1);
        let known = network.kill(3);
        network.run_until("suspect", 2 * SECOND, |network| network.rings[&node(0)].is_suspect(&node(3)));
        assert_eq!(network.successors_of_all_slots(0), placement, "suspicion does not move data");
        network.run_for(3 * SECOND);
        network.resume(3, known);
        network.run_until_settled(20 * SECOND);
        network.run_until("trusted again", 5 * SECOND, |network| {
            network.rings.values().all(|ring| !ring.is_suspect(&node(3)))
        });
        assert_eq!(network.successors_of_all_slots(3), placement);
    }
}

#[test]
fn a_restart_that_nobody_noticed_is_mended() {
    let mut network = Network::settled(3, 4);
    network.principal_hosts_required = Some(1);
    let known = network.kill(2);
    network.resume(2, known);
    network.run_until_settled(20 * SECOND);
}

#[test]
fn all_nodes_killed_at_once_find_each_other_again() {
    for hosts in [1, 3, 8] {
        let mut network = Network::settled(4, hosts);
        let placement = network.successors_of_all_slots(0);
        let memories: Vec<_> = (0..hosts).map(|number| network.kill(number)).collect();
        for (number, known) in (0..hosts).zip(memories) {
            network.resume(number, known);
        }
        network.run_until_settled(20 * SECOND);
        assert_eq!(network.successors_of_all_slots(0), placement);
    }
}

#[test]
fn a_restarted_minority_waits_for_nobody_for_ever() {
    let mut network = Network::settled(5, 3);
    let memories: Vec<_> = (0..3).map(|number| network.kill(number)).collect();
    network.resume(0, memories[0].clone());
    network.run_until("alone", 5 * SECOND, |network| network.rings[&node(0)].is_member());
    network.resume(1, memories[1].clone());
    network.resume(2, memories[2].clone());
    network.run_until_settled(20 * SECOND);
}

/// A simulated ring came to this. Those who had restarted saw that the newcomer is a member, and waited for it, but asked only
/// each other for a place.
#[test]
fn a_minority_that_restarts_joins_a_newcomer_that_was_left_alone_while_it_joined() {
    for seed in 0..5 {
        let mut network = Network::settled(seed, 5);
        network.join(5, 0);
        let members = |network: &Network| {
            let own = network.snapshots().into_iter().filter(|own| own.place.node() == node(5) && own.member);
            own.count()
        };
        network.run_until("a member in part", SECOND, |network| members(network) > 0);
        let memories: Vec<_> = (0..5).map(|number| network.kill(number)).collect();
        for (number, known) in (0..2).zip(memories) {
            network.resume(number, known);
        }
        network.run_until("members", 60 * SECOND, |network| network.rings.values().all(|ring| ring.is_member()));
    }
}

/// A simulated ring whose nodes restarted one after the other, each too soon to be missed, came to this. The virtual node
/// asked the successors it knew, for ever, and those were to join behind it.
#[test]
fn a_virtual_node_all_of_whose_successors_restarted_finds_the_next_one() {
    let restarted = 6..10;
    let mut has_come_to_it = false;
    for seed in 0..3 {
        let mut network = Network::of_replicas(1, seed, 10);
        let memories: Vec<_> = restarted.clone().map(|number| network.kill(number)).collect();
        for (number, known) in restarted.clone().zip(memories) {
            network.resume(number, known);
        }
        let is_member = |place: &VirtualNode| (0..6).any(|number| node(number) == place.node());
        has_come_to_it |= network.snapshots().iter().any(|own| own.member && !own.successors.iter().any(is_member));
        network.run_until_settled(20 * SECOND);
    }
    assert!(has_come_to_it);
}

#[test]
fn a_planned_leave_moves_placement_first_and_membership_last() {
    let mut network = Network::settled(6, 7);
    network.principal_hosts_required = Some(5);
    network.call(2, |ring, now, out| ring.leave(now, out));
    network.run_until("told", SECOND, |network| network.state(5, 2) == Some(HostState::Leaving));
    assert!(network.successors_of_all_slots(5).iter().flatten().all(|holder| *holder != node(2)));
    assert!(network.rings[&node(2)].is_member(), "still serving");
    network.call(2, |ring, now, out| ring.left(now, out));
    network.run_until("told", SECOND, |network| {
        network.rings.values().all(|ring| ring.host(&node(2)).unwrap().state == HostState::Left)
    });
    network.kill(2);
    network.run_until_settled(20 * SECOND);
    assert!(network.outputs[&node(5)].contains(&RingOutput::Forget { node: node(2) }));
}

/// A simulated ring took a node that had left for one that leaves, until it was given up: the word was lost on all ways,
/// and the node stopped.
#[test]
fn that_a_node_has_left_is_told_again_when_it_was_lost() {
    let mut network = Network::settled(7, 3);
    network.call(2, |ring, now, out| ring.leave(now, out));
    network.run_until("told", SECOND, |network| (0..2).all(|of| network.state(of, 2) == Some(HostState::Leaving)));
    network.loss = 1.0;
    network.call(2, |ring, now, out| ring.left(now, out));
    network.run_for(MILLISECOND * 10);
    network.loss = 0.0;
    network.call(2, |ring, now, out| ring.left(now, out));
    network.kill(2);
    network.run_until("told", SECOND, |network| (0..2).all(|of| network.state(of, 2) == Some(HostState::Left)));
}

#[test]
fn members_come_and_go_with_lost_messages() {
    for seed in 0..6 {
        let mut network = Network::settled(seed, 8);
        network.loss = 0.05;
        network.principal_hosts_required = Some(1);
        let known = network.kill(1);
        network.join(20, 3);
        network.run_for(2 * SECOND);
        network.resume(1, known);
        network.join(21, 20);
        let known = network.kill(4);
        network.run_for(4 * SECOND);
        network.resume(4, known);
        network.run_until_settled(60 * SECOND);
    }
}
