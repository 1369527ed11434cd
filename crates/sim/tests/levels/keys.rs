//! Stat, SetInode and DeleteInode: reading and writing the head of a key.

use std::time::Duration;

use difuse_protocol::request::{Reply, Request};
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
fn stat_at_lazy_shows_an_older_committed_head_on_the_side_that_is_cut_off() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(40);
    ring.cut_off(&[third]);
    assert_eq!(height_written(ring.ask(leader, write(Change::Set("second"), Level::Quorum, 2))), 2);
    ring.run_until_suspect(third, leader, true);
    ring.run_until_suspect(third, second, true);
    let result = ring.ask(third, read(Level::Lazy));
    assert!(!reading(result.clone()).is_linearizable);
    assert_eq!(seen(result), (1, Some("first".into())));
    assert_unavailable(ring.ask(third, read(Level::Leader)));
    assert_unavailable(ring.ask(third, read(Level::Quorum)));
    assert_eq!(seen(ring.ask(second, read(Level::Lazy))), (2, Some("second".into())));
}

#[test]
fn stat_at_lazy_never_shows_what_is_not_committed() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(41);
    // The second member accepts the proposal, but its answer does not come back: it is not committed.
    ring.cut([(leader, third), (third, leader), (second, leader)].into());
    let proposed = ring.submit(leader, write(Change::Set("second"), Level::Quorum, 2));
    ring.run_for(Duration::from_millis(20));
    assert_eq!(ring.accepted(second, &key()).unwrap().head.height, 2);
    assert_eq!(ring.answer(proposed), None);
    for member in [leader, second, third] {
        assert_eq!(seen(ring.ask(member, read(Level::Lazy))), (1, Some("first".into())));
    }
}

#[test]
fn stat_at_lazy_asks_another_member_where_the_own_one_cannot_tell() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(42);
    // After a restart it cannot tell what is committed of what it holds.
    ring.kill(third);
    ring.cut([(leader, third)].into());
    ring.restart(third);
    ring.run_until_suspect(second, third, false);
    assert_eq!(seen(ring.ask(third, read(Level::Lazy))), (1, Some("first".into())));
    // And with nobody to ask it says so.
    ring.kill(leader);
    ring.kill(second);
    ring.run_until_suspect(third, leader, true);
    ring.run_until_suspect(third, second, true);
    assert_unavailable(ring.ask(third, read(Level::Lazy)));
}

#[test]
fn stat_at_lazy_is_never_older_than_what_was_seen() {
    let (mut ring, [leader, second, third]) = ring_with_a_key(43);
    ring.cut_off(&[third]);
    let second_write = ring.ask(second, write(Change::Set("second"), Level::Quorum, 2));
    let Ok(Reply::Written { mark: mark @ Some(_), .. }) = second_write else { panic!("{second_write:?}") };
    ring.run_until_suspect(third, leader, true);
    ring.run_until_suspect(third, second, true);
    assert_eq!(seen(ring.ask(third, read(Level::Lazy))), (1, Some("first".into())));
    let read_on = |seen| Request::Read { key: key(), level: Level::Lazy, seen };
    assert_unavailable(ring.ask(third, read_on(mark)));
    assert_eq!(seen(ring.ask(second, read_on(mark))), (2, Some("second".into())));
    // What was read has a mark as well.
    let mark = reading(ring.ask(leader, read(Level::Leader))).mark;
    assert_unavailable(ring.ask(third, read_on(mark)));
    ring.mend();
    ring.run_until_suspect(third, leader, false);
    assert_eq!(seen(ring.ask(third, read_on(mark))), (2, Some("second".into())));
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
fn stat_at_leader_is_linearizable_while_a_lease_holds() {
    let (mut ring, [leader, second, _]) = ring_with_a_key(60);
    assert!(!reading(ring.ask(leader, read(Level::Leader))).is_linearizable, "the first one asks for a lease");
    for _ in 0..20 {
        ring.run_for(Duration::from_millis(50));
        assert!(reading(ring.ask(leader, read(Level::Leader))).is_linearizable, "it is renewed while it is used");
    }
    ring.cut_off(&[leader]);
    assert!(reading(ring.ask(leader, read(Level::Leader))).is_linearizable, "it holds for a while");
    ring.run_for(Duration::from_millis(160));
    assert!(!reading(ring.ask(leader, read(Level::Leader))).is_linearizable, "and then no more");
    // Nobody has led meanwhile, and somebody does soon.
    ring.run_until_suspect(second, leader, true);
    ring.run_for(Duration::from_millis(250));
    assert!(ring.is_leading(second));
}

#[test]
fn a_lease_keeps_others_from_leading_until_it_has_run_out() {
    for seed in 61..81 {
        let (mut ring, [leader, second, third]) = ring_with_a_key(seed);
        ring.ask(leader, read(Level::Leader)).unwrap();
        ring.run_for(Duration::from_millis(100));
        assert!(reading(ring.ask(leader, read(Level::Leader))).is_linearizable);
        // The others learn at once that the leader is out of reach, and lead as soon as they may.
        ring.cut_off(&[leader]);
        ring.disconnect(leader, second);
        ring.disconnect(leader, third);
        let written = ring.submit(second, write(Change::Set("second"), Level::Quorum, 2));
        let cut_at = ring.now();
        while ring.answer(written).is_none() {
            assert!(ring.now().since(cut_at) < Duration::from_millis(250), "a lease delays the next leader but little");
            let asked_at_old = ring.submit(leader, read(Level::Leader));
            ring.run_for(Duration::from_millis(1));
            let read_at_old = reading(ring.answer(asked_at_old).unwrap());
            assert_eq!(read_at_old.entry.unwrap().height, 1);
        }
        assert_eq!(height_written(ring.answer(written).unwrap()), 2);
        assert!(!reading(ring.ask(leader, read(Level::Leader))).is_linearizable, "seed {seed}");
    }
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
