use std::collections::BTreeSet;

use super::network::{MILLISECOND, Network, SECOND, host, node};
use crate::{HostState, RingOutput, invariants};

#[test]
fn a_founder_is_a_ring_of_its_own() {
    let mut network = Network::new(1);
    network.principal_hosts_required = Some(1);
    network.found(0);
    network.run_for(2 * SECOND);
    assert!(network.is_settled());
    assert!(network.outputs[&node(0)].contains(&RingOutput::Joined));
    assert_eq!(network.state(0, 0), Some(HostState::Up));
    assert_eq!(network.successors_of_all_slots(0), vec![vec![node(0)]; 64]);
}

#[test]
fn three_nodes_settle_in_a_moment() {
    let mut network = Network::new(2);
    network.principal_hosts_required = Some(1);
    network.found(0);
    network.join(1, 0);
    network.join(2, 0);
    network.run_until("all are up everywhere", 300 * MILLISECOND, |network| {
        (0..3).all(|of| (0..3).all(|about| network.state(of, about) == Some(HostState::Up)))
    });
    network.run_until_settled(3 * SECOND);
}

/// Joined all at once through one peer, with messages reordered and lost.
fn check_growth(seed: u64, hosts: u16, loss: f64, check_every_step: bool) {
    let mut network = Network::new(seed);
    network.loss = loss;
    network.principal_hosts_required = check_every_step.then_some(1);
    network.found(0);
    for number in 1..hosts {
        network.join(number, 0);
    }
    network.run_until_settled(60 * SECOND);
    let wanted = usize::from(hosts).min(6);
    assert!(invariants::principal_hosts(&network.snapshots()) >= wanted);
    let placement = network.successors_of_all_slots(0);
    for number in 0..hosts {
        assert_eq!(network.successors_of_all_slots(number), placement, "seed {seed}: views agree");
        assert!(network.outputs[&node(number)].contains(&RingOutput::Joined));
    }
    for holders in placement {
        assert_eq!(holders.iter().collect::<BTreeSet<_>>().len(), usize::from(hosts).min(3));
    }
}

#[test]
fn concurrent_joins_keep_the_invariants_at_every_step() {
    for seed in 0..8 {
        check_growth(seed, 3, 0.0, true);
        check_growth(seed, 6, 0.05, true);
    }
    check_growth(100, 10, 0.02, true);
}

#[test]
fn thirty_hosts_join_at_once() {
    check_growth(7, 30, 0.01, false);
}

#[test]
fn joining_never_costs_principals() {
    for seed in 0..3 {
        let mut network = Network::settled(seed, 7);
        network.principal_hosts_required = Some(6);
        for number in 7..11 {
            network.join(number, number % 7);
        }
        network.run_until_settled(60 * SECOND);
    }
}

#[test]
fn successors_spread_over_zones_and_labels() {
    let mut network = Network::new(5);
    network.found(0);
    for number in 1..9 {
        let zone = ["", "b", "c"][usize::from(number % 3)].to_string();
        network.join_as(difuse_types::Host { zone, label: (number / 2).to_string(), ..host(number) }, 0);
    }
    network.run_until_settled(60 * SECOND);
    for holders in network.successors_of_all_slots(4) {
        let hosts: Vec<_> = holders.iter().map(|holder| &network.rings[&node(4)].host(holder).unwrap().host).collect();
        let zones: BTreeSet<_> = hosts.iter().map(|host| &host.zone).collect();
        let labels: BTreeSet<_> = hosts.iter().map(|host| &host.label).collect();
        assert_eq!((zones.len(), labels.len()), (3, 3));
    }
}
