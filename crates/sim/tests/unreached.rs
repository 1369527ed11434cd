//! Nodes that no lost slot names, and that are given up by nobody without an operator's word.

use std::collections::BTreeSet;

use difuse_protocol::request::{Recovery, Reply, Request, RequestError};
use difuse_ring::HostState;
use difuse_sim::scenario::Scenario;
use difuse_types::{NodeId, SlotId};

fn recover(ring: &mut Scenario, node: NodeId, given_up: Option<BTreeSet<NodeId>>) -> Recovery {
    match ring.ask(node, Request::Recover { first: SlotId(0), given_up }) {
        Ok(Reply::Recovery(recovery)) => *recovery,
        other => panic!("{other:?}"),
    }
}

/// Of five nodes three are lost, of three members one: the slot goes on, but two of five may be the ones that are cut off, and
/// give up nobody.
#[test]
fn who_reaches_no_majority_names_those_that_an_operator_may_give_up() {
    let mut ring = Scenario::new(5, 0);
    let members = ring.members();
    let survivors: BTreeSet<NodeId> = members[..2].iter().copied().collect();
    let lost: BTreeSet<NodeId> = ring.nodes().into_iter().filter(|node| !survivors.contains(node)).collect();
    assert_eq!(recover(&mut ring, members[0], None).missing(), BTreeSet::new());
    for node in &lost {
        ring.kill(*node);
        ring.run_until_suspect(members[0], *node, true);
    }
    let plan = recover(&mut ring, members[0], None);
    assert_eq!((&plan.slots, &plan.unreached), (&Vec::new(), &lost));

    // One of them is not enough for a majority.
    let one: BTreeSet<NodeId> = lost.iter().copied().take(1).collect();
    recover(&mut ring, members[0], Some(one.clone()));
    let plan = recover(&mut ring, members[0], None);
    assert_eq!(plan.unreached, lost.difference(&one).copied().collect::<BTreeSet<_>>());
    recover(&mut ring, members[0], Some(plan.missing()));
    assert_eq!(recover(&mut ring, members[1], None).missing(), BTreeSet::new());
    ring.run_until("the slot is with the survivors alone", |ring| {
        let is_led = survivors.iter().any(|node| ring.is_leading(*node));
        is_led && ring.members().into_iter().collect::<BTreeSet<_>>() == survivors
    });
}

/// Who answers knows of a slot only whom it was with before one of them left. Where it is now, nobody says: the node that it
/// went to is down, and would lose all it holds if the slot were begun anew without it.
#[test]
fn who_may_hold_a_slot_unknown_to_others_is_given_up_by_an_operator_only() {
    let mut ring = Scenario::with(8, 8, 0, |_| {});
    let asked = ring.nodes()[0];
    let known = (0..8).map(SlotId).find_map(|slot| {
        let known = ring.configuration(asked, slot)?;
        let is_newest = ring.configuration(known.members[0], slot).as_ref() == Some(&known);
        (is_newest && !known.contains(&asked)).then_some(known)
    });
    let Some(known) = known else { panic!("the node that is asked is a member everywhere") };
    let slot = known.slot;
    let [leaver, stayed @ ..] = &known.members[..] else { panic!("{known:?}") };
    assert_eq!(ring.ask(*leaver, Request::Leave), Ok(Reply::Done));
    ring.kill(*leaver);
    let newest = ring.configuration(stayed[0], slot).unwrap();
    let holder = newest.members.iter().copied().find(|node| !known.contains(node)).unwrap();
    for node in stayed.iter().copied().chain([holder]) {
        ring.kill(node);
        ring.run_until_suspect(asked, node, true);
    }

    let find = |recovery: Recovery| recovery.slots.into_iter().find(|lost| lost.configuration.slot == slot).unwrap();
    let plan = recover(&mut ring, asked, None);
    assert!(plan.missing().contains(&holder));
    assert_eq!(find(plan).configuration, known);
    let done = find(recover(&mut ring, asked, Some(known.members.iter().copied().collect())));
    assert!(!done.recovered);

    // It comes back, and the slot goes on with what it holds.
    ring.restart(holder);
    ring.run_until_suspect(asked, holder, false);
    let plan = recover(&mut ring, asked, None);
    let missing = plan.missing();
    let survivors: Vec<NodeId> = find(plan).survivors.iter().map(|survivor| survivor.node).collect();
    assert_eq!(survivors, [holder]);
    assert!(find(recover(&mut ring, asked, Some(missing))).recovered);
    assert_eq!(ring.configuration(holder, slot).unwrap().members, [holder]);
}

/// A node that was leaving when all others were lost for ever stays: it is all that is left of the ring.
#[test]
fn the_last_node_takes_its_leave_back() {
    let mut ring = Scenario::new(3, 2);
    let [last, others @ ..] = &ring.members()[..] else { panic!("nobody leads") };
    let (last, others) = (*last, BTreeSet::from_iter(others.iter().copied()));
    let leaving = ring.submit(last, Request::Leave);
    for node in &others {
        ring.kill(*node);
        ring.run_until_suspect(last, *node, true);
    }
    recover(&mut ring, last, Some(others));
    assert!(matches!(ring.ask(last, Request::Leave), Err(RequestError::Invalid(_))));
    assert!(matches!(ring.answer(leaving), Some(Err(RequestError::Invalid(_)))));
    ring.run_until("the last node has its slot", |ring| ring.is_leading(last) && ring.members() == [last]);
    let view = ring.ask(last, Request::Ring);
    let Ok(Reply::Ring(view)) = view else { panic!("{view:?}") };
    let states = view.hosts.iter().filter(|(host, _)| host.node == last).map(|(_, state)| *state);
    assert_eq!(states.collect::<Vec<_>>(), [HostState::Up]);
}

/// Who reaches a majority gives up the others itself, when it is time.
#[test]
fn a_majority_needs_no_operator() {
    let mut ring = Scenario::new(5, 1);
    let members = ring.members();
    for node in &members[1..] {
        ring.kill(*node);
        ring.run_until_suspect(members[0], *node, true);
    }
    let plan = recover(&mut ring, members[0], None);
    assert_eq!(plan.unreached, BTreeSet::new());
    assert_eq!(plan.missing(), members[1..].iter().copied().collect::<BTreeSet<_>>());
}
