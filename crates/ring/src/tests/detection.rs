use super::network::{Network, SECOND, node};
use crate::{DeclareGoneError, HostState, RingOutput};

#[test]
fn a_broken_connection_is_suspect_at_once_and_cleared_by_an_answer() {
    let mut network = Network::settled(1, 3);
    network.call(0, |ring, now, out| ring.handle_disconnected(now, node(1), out));
    assert_eq!(network.state(0, 1), Some(HostState::Suspect));
    let suspicion = RingOutput::SuspicionChanged { node: node(1), suspect: true };
    assert!(network.outputs[&node(0)].contains(&suspicion));
    network.run_until("cleared", SECOND, |network| network.state(0, 1) == Some(HostState::Up));
}

#[test]
fn a_paused_node_does_not_blame_others() {
    let mut network = Network::settled(2, 3);
    network.now = network.now + 10 * SECOND;
    network.run_for(5 * SECOND);
    let suspicion = |output: &RingOutput| matches!(output, RingOutput::SuspicionChanged { .. });
    assert!(!network.outputs.values().flatten().any(suspicion));
}

#[test]
fn a_dead_host_is_given_up_after_its_time_and_placement_changes_once() {
    let mut network = Network::new(3);
    network.gone_after = 10 * SECOND;
    network.found(0);
    (1..4).for_each(|number| network.join(number, 0));
    network.run_until_settled(20 * SECOND);
    let before = network.rings[&node(0)].placement_version();
    let known = network.kill(3);
    network.run_for(8 * SECOND);
    assert_eq!(network.state(0, 3), Some(HostState::Suspect));
    network.run_until("gone", 10 * SECOND, |n| (0..3).all(|of| n.state(of, 3) == Some(HostState::Gone)));
    assert_eq!(network.rings[&node(0)].placement_version(), before + 1);
    network.run_until_settled(10 * SECOND);
    network.resume(3, known);
    network.run_until("back", 20 * SECOND, |n| (0..4).all(|of| n.state(of, 3) == Some(HostState::Up)));
    network.run_until_settled(20 * SECOND);
}

#[test]
fn one_of_two_never_gives_up_the_other() {
    let mut network = Network::new(4);
    network.gone_after = 5 * SECOND;
    network.found(0);
    network.join(1, 0);
    network.run_until_settled(20 * SECOND);
    network.kill(1);
    network.run_for(60 * SECOND);
    assert_eq!(network.state(0, 1), Some(HostState::Suspect));
}

#[test]
fn a_partition_heals_to_one_ring() {
    for seed in 0..5 {
        let mut network = Network::settled(seed, 8);
        (0..4).for_each(|number| _ = network.groups.insert(node(number), 1));
        network.run_for(20 * SECOND);
        assert!(!network.is_settled(), "two rings");
        assert_eq!(network.state(0, 7), Some(HostState::Suspect));
        network.groups.clear();
        network.run_until_settled(30 * SECOND);
        network.run_until("trust", 5 * SECOND, |n| (0..8).all(|of| n.state(0, of) == Some(HostState::Up)));
    }
}

#[test]
fn a_minority_gives_up_nobody_and_returns_after_being_given_up() {
    let mut network = Network::new(9);
    network.gone_after = 5 * SECOND;
    network.found(0);
    (1..5).for_each(|number| network.join(number, 0));
    network.run_until_settled(20 * SECOND);
    network.groups.insert(node(3), 1);
    network.groups.insert(node(4), 1);
    network.run_for(30 * SECOND);
    for about in 0..3 {
        assert_eq!(network.state(3, about), Some(HostState::Suspect));
    }
    assert_eq!(network.state(0, 3), Some(HostState::Gone));
    network.groups.clear();
    network.run_until("all back", 30 * SECOND, |network| {
        (0..5).all(|of| (0..5).all(|about| network.state(of, about) == Some(HostState::Up)))
    });
    network.run_until_settled(30 * SECOND);
    assert!(network.rings[&node(3)].me().incarnation.0 > 1);
}

#[test]
fn an_operator_may_declare_a_host_gone() {
    let mut network = Network::settled(5, 3);
    let declare = |network: &mut Network, about| network.call(0, |r, now, out| r.declare_gone(now, node(about), out));
    assert_eq!(declare(&mut network, 0), Err(DeclareGoneError::Myself));
    assert_eq!(declare(&mut network, 9), Err(DeclareGoneError::Unknown));
    network.kill(2);
    assert_eq!(declare(&mut network, 2), Ok(()));
    assert_eq!(declare(&mut network, 2), Err(DeclareGoneError::AlreadyAway));
    network.run_until("told", SECOND, |network| network.state(1, 2) == Some(HostState::Gone));
    network.run_until_settled(10 * SECOND);
}
