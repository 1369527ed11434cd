//! Writes that are repeated, under whichever level and at whichever node they were first tried.

use std::time::Duration;

use difuse_keylog::store::RECENT_OPERATIONS_MAX;
use difuse_protocol::request::{Condition, Reply, Request, RequestError, Since};
use difuse_sim::scenario::Scenario;
use difuse_types::{Level, NodeId, OperationId};

use crate::support::{Change, height_written, not_all, read, ring_with_a_key, seen, write};

const REMEMBERED: u64 = RECENT_OPERATIONS_MAX as u64;

fn attempt(number: u64, level: Level, attempt_since: Since) -> Request {
    let mut request = write(Change::Set("value"), level, 0);
    if let Request::Write { operation_id, since, .. } = &mut request {
        *operation_id = OperationId(u128::from(number).to_le_bytes());
        *since = attempt_since;
    }
    request
}

fn write_many(ring: &mut Scenario, node: NodeId, numbers: std::ops::Range<u64>) {
    for number in numbers {
        height_written(ring.ask(node, attempt(number, Level::Quorum, Since::Now)));
    }
}

/// Whichever node it comes in at, and however little that one knows of the key.
#[test]
fn a_first_attempt_is_never_taken_for_one_that_may_be_forgotten() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(1);
    write_many(&mut ring, leader, 1000..1000 + 2 * REMEMBERED);
    let height = 1 + 2 * REMEMBERED;
    for (node, level, place) in [(second, Level::Quorum, 1), (third, Level::All, 2), (leader, Level::Leader, 3)] {
        let request = attempt(2000 + place, level, Since::Now);
        assert_eq!(height_written(ring.ask(node, request)), height + place, "{level}");
    }
}

#[test]
fn a_repeated_attempt_is_found_or_nobody_can_tell_but_never_applied_again() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(2);
    write_many(&mut ring, leader, 1000..1000 + REMEMBERED);
    for node in [leader, second, third] {
        let found = ring.ask(node, attempt(1000, Level::Quorum, Since::Unknown));
        assert_eq!(height_written(found), 2);
    }
    height_written(ring.ask(third, attempt(2000, Level::Quorum, Since::Now)));
    for level in [Level::Leader, Level::Quorum, Level::All] {
        let refused = ring.ask(second, attempt(1000, level, Since::Unknown));
        let Err(RequestError::Forgotten { operation_id, now }) = refused else { panic!("{level}: {refused:?}") };
        assert_eq!((operation_id, now.height), (OperationId(1000_u128.to_le_bytes()), 2 + REMEMBERED));
        assert!(!RequestError::Forgotten { operation_id, now }.is_transient());
    }
    // Whoever knows that a write was never sent goes by what such an answer says.
    let Err(RequestError::Forgotten { now, .. }) = ring.ask(leader, attempt(3000, Level::Quorum, Since::Unknown))
    else {
        panic!("nobody can know that it was never sent")
    };
    let written = ring.ask(leader, attempt(3000, Level::Quorum, Since::After(now)));
    assert_eq!(height_written(written), 3 + REMEMBERED);
    assert!(matches!(ring.ask(leader, attempt(3000, Level::Quorum, Since::Unknown)), Ok(Reply::Written { .. })));
}

/// Seed 20007. Its first attempt lay at a leader that did nothing for a while; at the next one it lapsed, was sent anew, and
/// was not done, because the first leader did not answer. That one came back, proposed it before it heard of the other,
/// led again, and found its proposal.
#[test]
fn what_is_not_done_after_an_attempt_that_lapsed_is_not_done_by_that_attempt() {
    let (mut ring, [leader, second, _]) = ring_with_a_key(4);
    ring.pause(leader, Duration::from_secs(3));
    let mut request = attempt(1000, Level::All, Since::Now);
    if let Request::Write { condition, .. } = &mut request {
        *condition = Condition::Present;
    }
    assert_eq!(not_all(ring.ask(second, request)), (vec![leader], vec![], false));
    ring.run_until("the first leader leads again", |ring| ring.is_leading(leader) && !ring.is_leading(second));
    ring.run_for(Duration::from_secs(3));
    assert_eq!(seen(ring.ask(second, read(Level::All))), (1, Some("first".into())));
}
