//! SetInode and DeleteInode at level lazy: durably queued by one node, applied or refused later, once.

use std::time::Duration;

use difuse_protocol::request::{Condition, OperationState, Reply, Request, RequestError};
use difuse_sim::scenario::Scenario;
use difuse_types::{Hash, Level, NodeId, OperationId};

use crate::support::{Change, height_written, read, ring_with_a_key, seen, write};

const CHANGES: [(Change, Option<&str>); 2] = [(Change::Set("second"), Some("second")), (Change::Delete, None)];

/// Cuts a node off, and waits until it knows.
fn cut_off(ring: &mut Scenario, node: NodeId, others: &[NodeId]) {
    ring.cut_off(&[node]);
    for other in others {
        ring.run_until_suspect(node, *other, true);
    }
}

#[track_caller]
fn queued(result: Result<Reply, RequestError>) -> OperationId {
    match result {
        Ok(Reply::Queued { operation_id }) => operation_id,
        other => panic!("not queued: {other:?}"),
    }
}

fn state(ring: &mut Scenario, node: NodeId, operation_id: OperationId) -> Option<OperationState> {
    match ring.ask(node, Request::Operation { operation_id }) {
        Ok(Reply::Operation(outcome)) => outcome.map(|outcome| outcome.state),
        other => panic!("no outcome: {other:?}"),
    }
}

fn wait_for_outcome(ring: &mut Scenario, node: NodeId, operation_id: OperationId) -> OperationState {
    for _ in 0..1000 {
        match state(ring, node, operation_id) {
            Some(OperationState::Queued) => ring.run_for(Duration::from_millis(100)),
            Some(decided) => return decided,
            None => panic!("nobody knows of it"),
        }
    }
    panic!("it is never decided")
}

#[test]
fn a_lazy_write_is_accepted_by_a_node_alone_and_takes_its_place_when_the_group_is_back() {
    for (change, value) in CHANGES {
        let (mut ring, [leader, second, third]) = ring_with_a_key(50);
        cut_off(&mut ring, third, &[leader, second]);
        let operation_id = queued(ring.ask(third, write(change, Level::Lazy, 2)));
        assert_eq!(state(&mut ring, third, operation_id), Some(OperationState::Queued));
        // It has no place yet, and others go on.
        assert_eq!(seen(ring.ask(third, read(Level::Lazy))), (1, Some("first".into())));
        assert_eq!(height_written(ring.ask(leader, write(Change::Set("meanwhile"), Level::Quorum, 3))), 2);
        ring.mend();
        ring.run_until_suspect(third, leader, false);
        let outcome = wait_for_outcome(&mut ring, third, operation_id);
        assert!(matches!(outcome, OperationState::Applied { height: 3, .. }), "{outcome:?}");
        assert_eq!(seen(ring.ask(leader, read(Level::Quorum))), (3, value.map(Into::into)), "{change:?}");
        // Any node tells.
        assert_eq!(state(&mut ring, second, operation_id), Some(outcome));
    }
}

#[test]
fn a_lazy_write_survives_the_death_of_the_node_that_took_it() {
    for (change, value) in CHANGES {
        let (mut ring, [leader, second, third]) = ring_with_a_key(51);
        cut_off(&mut ring, third, &[leader, second]);
        let operation_id = queued(ring.ask(third, write(change, Level::Lazy, 2)));
        ring.kill(third);
        ring.mend();
        ring.restart(third);
        ring.run_until_suspect(leader, third, false);
        let outcome = wait_for_outcome(&mut ring, leader, operation_id);
        assert!(matches!(outcome, OperationState::Applied { height: 2, .. }), "{outcome:?}");
        assert_eq!(seen(ring.ask(leader, read(Level::Quorum))), (2, value.map(Into::into)));
        // So does its outcome.
        ring.kill(third);
        ring.restart(third);
        ring.run_until_suspect(leader, third, false);
        assert_eq!(state(&mut ring, third, operation_id), Some(outcome));
    }
}

#[test]
fn a_lazy_write_with_a_condition_may_be_refused_later() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(52);
    cut_off(&mut ring, third, &[leader, second]);
    let head = ring.accepted(third, &crate::support::key()).unwrap().head.hash;
    let conditional = |id, condition| match write(Change::Set("mine"), Level::Lazy, id) {
        Request::Write { key, operation, operation_id, level, since, .. } => {
            Request::Write { key, operation, condition, operation_id, level, since }
        }
        other => other,
    };
    let late = queued(ring.ask(third, conditional(2, Condition::Head(head))));
    let impossible = queued(ring.ask(third, conditional(3, Condition::Head(Hash::ZERO))));
    assert_eq!(height_written(ring.ask(leader, write(Change::Set("other"), Level::Quorum, 4))), 2);
    ring.mend();
    ring.run_until_suspect(third, leader, false);
    for operation_id in [late, impossible] {
        let outcome = wait_for_outcome(&mut ring, third, operation_id);
        let OperationState::Refused { reason, current: Some((2, _, true)) } = outcome else { panic!("{outcome:?}") };
        assert!(reason.contains("condition"), "{reason}");
    }
    assert_eq!(seen(ring.ask(leader, read(Level::Quorum))), (2, Some("other".into())));
}

#[test]
fn lazy_writes_of_a_key_keep_their_order_and_are_applied_once() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(53);
    cut_off(&mut ring, third, &[leader, second]);
    let first = queued(ring.ask(third, write(Change::Set("a"), Level::Lazy, 2)));
    let last = queued(ring.ask(third, write(Change::Set("b"), Level::Lazy, 3)));
    // A client that asks again asks for the same.
    assert_eq!(queued(ring.ask(third, write(Change::Set("a"), Level::Lazy, 2))), first);
    ring.mend();
    ring.run_until_suspect(third, leader, false);
    ring.run_until_suspect(second, third, false);
    let heights = [first, last].map(|id| match wait_for_outcome(&mut ring, second, id) {
        OperationState::Applied { height, .. } => height,
        other => panic!("{other:?}"),
    });
    assert_eq!(heights, [2, 3]);
    assert_eq!(seen(ring.ask(leader, read(Level::Quorum))), (3, Some("b".into())));
}

#[test]
fn nobody_knows_of_an_operation_that_never_was() {
    let (mut ring, [leader, ..]) = ring_with_a_key(54);
    assert_eq!(state(&mut ring, leader, OperationId([9; 16])), None);
}
