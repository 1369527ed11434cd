//! Stat, SetInode and DeleteInode: reading and writing the head of a key.

use std::time::Duration;

use difuse_types::Level;

use crate::support::{
    Change, assert_unavailable, height_written, key, not_all, read, reading, ring_with_a_key, seen, write,
};

const CHANGES: [Change; 2] = [Change::Set("second"), Change::Delete];

fn value_after(change: Change) -> Option<String> {
    match change {
        Change::Set(text) => Some(text.into()),
        Change::Delete => None,
    }
}

#[test]
fn stat_at_leader_asks_nobody_and_never_shows_what_is_not_committed() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(1);
    ring.cut_off(&[leader]);
    // Proposed, and accepted by nobody but the leader.
    let proposed = ring.submit(leader, write(Change::Set("second"), Level::Quorum, 2));
    ring.run_for(Duration::from_millis(20));
    assert_eq!(ring.accepted(leader, &key()).unwrap().head.height, 2);
    assert_eq!(ring.answer(proposed), None);
    let result = ring.ask(leader, read(Level::Leader));
    assert!(!reading(result.clone()).is_linearizable, "nobody has promised it the leadership for a while");
    assert_eq!(seen(result), (1, Some("first".into())));
    // Also when it knows that the others are out of reach, where quorum refuses.
    ring.run_until_suspect(leader, second, true);
    ring.run_until_suspect(leader, third, true);
    assert_eq!(seen(ring.ask(leader, read(Level::Leader))), (1, Some("first".into())));
    assert_unavailable(ring.ask(leader, read(Level::Quorum)));
}

#[test]
fn stat_at_leader_is_served_through_any_node() {
    let (mut ring, members) = ring_with_a_key(2);
    for node in members {
        assert_eq!(seen(ring.ask(node, read(Level::Leader))), (1, Some("first".into())));
    }
}

#[test]
fn stat_at_quorum_goes_on_without_one_member_and_refuses_without_two() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(3);
    ring.cut_off(&[third]);
    let result = ring.ask(leader, read(Level::Quorum));
    assert!(reading(result.clone()).is_linearizable);
    assert_eq!(seen(result), (1, Some("first".into())));
    ring.cut_off(&[second]);
    assert_unavailable(ring.ask(leader, read(Level::Quorum)));
}

#[test]
fn stat_at_all_names_a_member_that_is_cut_off() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(4);
    assert_eq!(seen(ring.ask(second, read(Level::All))), (1, Some("first".into())));
    ring.cut_off(&[third]);
    // At once after the cut it is waited for, later it is known to be out of reach.
    for _ in 0..2 {
        assert_eq!(not_all(ring.ask(leader, read(Level::All))), (vec![third], vec![], false));
        ring.run_until_suspect(leader, third, true);
    }
    assert_eq!(seen(ring.ask(leader, read(Level::Quorum))), (1, Some("first".into())));
    ring.mend();
    ring.run_until_suspect(leader, third, false);
    assert_eq!(seen(ring.ask(leader, read(Level::All))), (1, Some("first".into())));
}

#[test]
fn stat_at_all_names_a_member_that_holds_another_head() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(5);
    // The third member does not hear of the second transaction, but answers everything else.
    ring.cut([(leader, third)].into());
    assert_eq!(height_written(ring.ask(leader, write(Change::Set("second"), Level::Quorum, 2))), 2);
    ring.mend();
    assert_eq!(not_all(ring.ask(leader, read(Level::All))), (vec![], vec![third], false));
    // It is helped on, and then all agree.
    ring.run_for(Duration::from_secs(1));
    assert_eq!(seen(ring.ask(second, read(Level::All))), (2, Some("second".into())));
}

#[test]
fn writers_do_not_wait_for_a_comparison_for_ever() {
    let (mut ring, [leader, _, third]) = ring_with_a_key(6);
    ring.cut_off(&[third]);
    let compared = ring.submit(leader, read(Level::All));
    assert_eq!(height_written(ring.ask(leader, write(Change::Set("second"), Level::Quorum, 2))), 2);
    assert_eq!(not_all(ring.answer(compared).unwrap()), (vec![third], vec![], false));
}

#[test]
fn a_write_at_leader_is_answered_before_others_have_it_and_may_be_lost_with_the_leader() {
    for change in CHANGES {
        let (mut ring, [leader, second, _]) = ring_with_a_key(7);
        ring.cut_off(&[leader]);
        assert_eq!(height_written(ring.ask(leader, write(change, Level::Leader, 2))), 2, "{change:?}");
        // Not committed, so not shown, not even here.
        assert_eq!(seen(ring.ask(leader, read(Level::Leader))), (1, Some("first".into())));
        ring.kill(leader);
        ring.run_until_suspect(second, leader, true);
        assert_eq!(seen(ring.ask(second, read(Level::Quorum))), (1, Some("first".into())));
        // The next write takes its place: one child of the first transaction, not two.
        assert_eq!(height_written(ring.ask(second, write(Change::Set("other"), Level::Quorum, 3))), 2);
        ring.restart(leader);
        ring.mend();
        ring.run_for(Duration::from_secs(5));
        assert_eq!(seen(ring.ask(leader, read(Level::All))), (2, Some("other".into())));
    }
}

#[test]
fn a_write_at_leader_is_refused_where_it_could_not_be_replicated() {
    for change in CHANGES {
        let (mut ring, [leader, second, third]) = ring_with_a_key(8);
        ring.cut_off(&[leader]);
        ring.run_until_suspect(leader, second, true);
        ring.run_until_suspect(leader, third, true);
        assert_unavailable(ring.ask(leader, write(change, Level::Leader, 2)));
        assert_eq!(ring.accepted(leader, &key()).unwrap().head.height, 1, "nothing was changed");
    }
}

#[test]
fn a_write_at_quorum_goes_on_without_one_member_and_changes_nothing_without_two() {
    for change in CHANGES {
        let (mut ring, [leader, second, third]) = ring_with_a_key(9);
        ring.cut_off(&[third]);
        assert_eq!(height_written(ring.ask(leader, write(change, Level::Quorum, 2))), 2);
        ring.run_until_suspect(leader, third, true);
        ring.cut_off(&[second]);
        ring.run_until_suspect(leader, second, true);
        assert_unavailable(ring.ask(leader, write(Change::Set("never"), Level::Quorum, 3)));
        ring.mend();
        ring.run_until_suspect(leader, second, false);
        ring.run_for(Duration::from_secs(5));
        assert_eq!(seen(ring.ask(second, read(Level::All))), (2, value_after(change)), "{change:?}");
    }
}

#[test]
fn a_write_at_all_names_the_member_that_is_cut_off_and_says_whether_it_is_applied() {
    for change in CHANGES {
        let (mut ring, [leader, second, third]) = ring_with_a_key(10);
        ring.cut_off(&[third]);
        // Nobody knows of the cut yet: it is proposed, and a majority has it.
        assert_eq!(not_all(ring.ask(second, write(change, Level::All, 2))), (vec![third], vec![], true));
        assert_eq!(seen(ring.ask(leader, read(Level::Quorum))), (2, value_after(change)));
        // Known to be out of reach: refused at once, and nothing is changed.
        ring.run_until_suspect(leader, third, true);
        let refused = ring.ask(leader, write(Change::Set("never"), Level::All, 3));
        assert_eq!(not_all(refused), (vec![third], vec![], false));
        assert_eq!(seen(ring.ask(leader, read(Level::Quorum))), (2, value_after(change)));
        // The retry of the first one finds it, and is answered when all have it.
        ring.mend();
        ring.run_until_suspect(leader, third, false);
        assert_eq!(height_written(ring.ask(second, write(change, Level::All, 2))), 2);
        for member in [leader, second, third] {
            assert_eq!(ring.accepted(member, &key()).unwrap().head.height, 2, "{change:?}");
        }
    }
}

#[test]
fn other_writers_do_not_wait_for_a_write_at_all() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(11);
    ring.cut_off(&[third]);
    let for_all = ring.submit(leader, write(Change::Set("second"), Level::All, 2));
    assert_eq!(height_written(ring.ask(second, write(Change::Set("third"), Level::Quorum, 3))), 3);
    assert_eq!(ring.answer(for_all), None);
    // The member is back in time: the later proposal carries the earlier one.
    ring.mend();
    ring.run_until("it is answered", |ring| ring.answer(for_all).is_some());
    assert_eq!(height_written(ring.answer(for_all).unwrap()), 2);
}
