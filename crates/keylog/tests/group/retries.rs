//! Appends that are sent again: each is applied once, however late; or its sender is told that nobody can tell.
//!
//! Before anchors, an append that came again after 128 others, or after the key's tombstone was dropped, was applied a
//! second time; and one with a condition was told to be refused though it had been applied.

use difuse_keylog::{
    Anchor, Answer, Ballot, Condition, Failure, Job, Operation, Store, Submission, Term, Value,
    store::RECENT_OPERATIONS_MAX,
};
use difuse_types::{Hash, Key, OperationId};

use super::{Group, SLOT, dropping, height_of, key, node, submission};

const REMEMBERED: u64 = RECENT_OPERATIONS_MAX as u64;

/// The present, as somebody is told who has read the key.
pub(super) fn present(group: &Group, name: u8, key: &Key) -> Anchor {
    let register = group.replicas[&node(name)].store().register(SLOT, key).unwrap().unwrap();
    Anchor { ballot: register.ballot, height: register.head.height }
}

fn repeat(group: &mut Group, via: u8, key: &Key, id: u8, since: Anchor) -> Result<Answer, Failure> {
    repeat_if(group, via, key, id, Condition::None, since)
}

fn repeat_if(
    group: &mut Group,
    via: u8,
    key: &Key,
    id: u8,
    condition: Condition,
    since: Anchor,
) -> Result<Answer, Failure> {
    let job = Job::Append(Submission { since: Some(since), ..submission(id, condition) });
    group.ask(via, key, job)
}

/// Moves the slot to these members, of whom some begin empty; the first one leads.
fn move_to(group: &mut Group, names: &[u8]) {
    for name in names.iter().filter(|name| !group.replicas.contains_key(&node(**name))).collect::<Vec<_>>() {
        group.start(node(*name), Default::default());
    }
    group.place(names);
    let members: Vec<_> = names.iter().map(|name| node(*name)).collect();
    let has_moved = |group: &Group, name| {
        let configuration = group.replicas[name].configuration(SLOT);
        configuration.is_some_and(|configuration| configuration.members == members && !configuration.is_joint())
    };
    group.run_until(|group| members.iter().all(|name| has_moved(group, name)));
    // A newcomer learns of the placement from the ring too.
    group.place(names);
    group.run_until(|group| group.is_settled_with(names) && group.replicas[&members[0]].is_leading(SLOT));
}

fn is_forgotten(result: &Result<Answer, Failure>) -> bool {
    matches!(result, Err(Failure::Forgotten { .. }))
}

/// Seed 400972: a leader that was cut off, and did not know that another one had applied a write, told its sender that it had
/// lapsed: that it was not applied, and would not be.
#[test]
fn a_leader_that_was_succeeded_tells_nobody_that_an_attempt_has_lapsed() {
    for seed in 0..10 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let key = key("k");
        group.append(1, &key, 1, Condition::None);
        let others = [node(2), node(3)];
        group.cut = others.iter().flat_map(|other| [(node(1), *other), (*other, node(1))]).collect();
        group.suspect(1, true);
        group.run_until(|group| others.iter().any(|other| group.replicas[other].is_leading(SLOT)));
        group.append(2, &key, 7, Condition::Present);
        let again = Job::Append(Submission { since: None, ..submission(7, Condition::Present) });
        assert!(group.replicas[&node(1)].is_leading(SLOT), "seed {seed}: it does not know of the other one");
        group.replicas.get_mut(&node(1)).unwrap().submit(1 << 50, SLOT, key.clone(), again.clone()).unwrap();
        group.run_for(500);
        group.cut.clear();
        group.suspect(1, false);
        group.run_until(|group| group.results.contains_key(&(1 << 50)));
        let result = group.results.remove(&(1 << 50)).unwrap();
        assert!(matches!(result, Err(Failure::Redirect { .. })), "seed {seed}: {result:?}");
        assert_eq!(height_of(&group.ask(1, &key, again).unwrap()), 2, "seed {seed}");
    }
}

#[test]
fn an_append_is_found_as_long_as_its_id_is_remembered_and_never_applied_again_after() {
    for leader_dies in [false, true] {
        let mut group = Group::joined(&[1, 2, 3], 1);
        let key = key("k");
        group.append(1, &key, 1, Condition::None);
        let before = present(&group, 1, &key);
        assert_eq!(height_of(&group.append(1, &key, 2, Condition::None)), 2);
        group.append_many(1, &key, REMEMBERED - 1);
        assert_eq!(height_of(&repeat(&mut group, 2, &key, 2, before).unwrap()), 2);
        group.append_many(1, &key, 1);
        let height = 2 + REMEMBERED;
        if leader_dies {
            group.kill(1);
        }
        let outcomes = [
            repeat(&mut group, 2, &key, 2, before),
            repeat_if(&mut group, 2, &key, 2, Condition::Absent, before),
            repeat_if(&mut group, 2, &key, 2, Condition::Head(Hash::ZERO), before),
        ];
        assert!(outcomes.iter().all(is_forgotten), "{outcomes:?}");
        assert_eq!(group.head(2, &key).unwrap().1.height, height);
    }
}

/// One that was lost on its way is applied when it comes again, under whatever leader: what was forgotten meanwhile came
/// before it was first sent.
#[test]
fn an_append_that_was_never_applied_is_applied_late_if_what_was_forgotten_came_before_it() {
    for leader_dies in [false, true] {
        let mut group = Group::joined(&[1, 2, 3], 2);
        let key = key("k");
        group.append_many(1, &key, 5 * REMEMBERED);
        let before = present(&group, 1, &key);
        group.append_many(1, &key, REMEMBERED);
        if leader_dies {
            group.kill(1);
        }
        assert_eq!(height_of(&repeat(&mut group, 2, &key, 1, before).unwrap()), 6 * REMEMBERED + 1);
        // One more has followed by now, so that nobody can tell any more.
        let outcome = repeat(&mut group, 2, &key, 2, before);
        assert!(is_forgotten(&outcome), "{outcome:?}");
        // Whoever knows that it was never applied goes by what the refusal says.
        let Err(Failure::Forgotten { now }) = outcome else { unreachable!() };
        assert_eq!(now.height, 6 * REMEMBERED + 1);
        assert_eq!(height_of(&repeat(&mut group, 2, &key, 2, now).unwrap()), 6 * REMEMBERED + 2);
    }
}

/// What is known of the sender does not grow old while an append waits for its turn, and two attempts that wait together
/// are one.
#[test]
fn appends_that_wait_behind_many_others_are_applied_once() {
    let mut group = Group::joined(&[1, 2, 3], 3);
    let key = key("k");
    group.append_many(1, &key, 200);
    let since = Some(present(&group, 1, &key));
    let mut ids: Vec<u8> = vec![1];
    ids.extend(std::iter::repeat_n(2, 600));
    ids.push(1);
    for (ticket, id) in (1 << 50..).zip(ids) {
        let mut one = Submission { since, ..submission(id, Condition::None) };
        if id == 2 {
            one.operation_id = OperationId(u128::from(ticket).to_le_bytes());
        }
        group.replicas.get_mut(&node(1)).unwrap().submit(ticket, SLOT, key.clone(), Job::Append(one)).unwrap();
    }
    let (first, last) = (1 << 50, (1 << 50) + 601);
    group.run_until(|group| (first..=last).all(|ticket| group.results.contains_key(&ticket)));
    let heights = [first, last].map(|ticket| height_of(group.results[&ticket].as_ref().unwrap()));
    assert_eq!(heights, [201, 201]);
    assert_eq!(group.head(2, &key).unwrap().1.height, 801);
}

/// A key that was dropped is as one that was never written, to those who write it for the first time; not to those who
/// may have written it before.
#[test]
fn an_append_to_a_key_that_was_dropped_since_is_not_applied_again() {
    for seed in 0..5 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let key = key("k");
        group.append(1, &key, 1, Condition::None);
        let before = present(&group, 1, &key);
        group.append(1, &key, 2, Condition::None);
        let job = Job::Append(Submission { operation: Operation::Delete, ..submission(3, Condition::None) });
        group.ask(1, &key, job).unwrap();
        dropping::grow_old_and_drop(&mut group, &key);
        let outcomes = [
            repeat(&mut group, 2, &key, 2, before),
            repeat_if(&mut group, 2, &key, 2, Condition::Absent, before),
            repeat_if(&mut group, 2, &key, 2, Condition::Present, before),
        ];
        assert!(outcomes.iter().all(is_forgotten), "seed {seed}: {outcomes:?}");
        assert_eq!(group.head(3, &key), None, "seed {seed}");
        // The next leader knows as well, and so does one that became a member later.
        move_to(&mut group, &[4, 2, 3]);
        assert!(is_forgotten(&repeat(&mut group, 4, &key, 2, before)), "seed {seed}");
        assert_eq!(height_of(&group.append(4, &key, 4, Condition::Absent)), 1, "seed {seed}");
        assert!(is_forgotten(&repeat(&mut group, 4, &key, 2, before)), "seed {seed}");
    }
}

/// A newcomer is told what was dropped before, so that it does not take every attempt that was first sent to another
/// leader for one that may have been forgotten.
#[test]
fn an_append_that_was_sent_before_a_move_is_applied_after_it() {
    let mut group = Group::joined(&[1, 2], 4);
    let (one, other) = (key("k"), key("other"));
    group.append(1, &one, 1, Condition::None);
    let before = present(&group, 1, &one);
    move_to(&mut group, &[3, 4]);
    assert_eq!(height_of(&repeat(&mut group, 3, &one, 2, before).unwrap()), 2);
    let before = Anchor { height: 0, ..before };
    assert_eq!(height_of(&repeat(&mut group, 4, &other, 3, before).unwrap()), 1);
}

/// One that is found when it comes in must still be found when its turn comes.
#[test]
fn an_append_that_was_applied_is_found_though_it_waits_behind_many_others() {
    let mut group = Group::joined(&[1, 2, 3], 5);
    let key = key("k");
    group.append(1, &key, 1, Condition::None);
    let since = Some(present(&group, 1, &key));
    group.append(1, &key, 2, Condition::None);
    let append =
        |ticket: u64, operation_id| (ticket, Submission { since, operation_id, ..submission(3, Condition::None) });
    let others =
        (0..500).map(|index: u64| append(1000 + index, OperationId((1 << 64 | u128::from(index)).to_le_bytes())));
    let repeated = append(2000, OperationId([2; 16]));
    for (ticket, one) in others.chain([repeated]) {
        group.replicas.get_mut(&node(1)).unwrap().submit(ticket, SLOT, key.clone(), Job::Append(one)).unwrap();
    }
    group.run_until(|group| (1000..1500).chain([2000]).all(|ticket| group.results.contains_key(&ticket)));
    assert_eq!(height_of(group.results[&2000].as_ref().unwrap()), 2);
    assert_eq!(group.head(2, &key).unwrap().1.height, 502);
}

/// A leader stops, and with it the first attempt at a write; the next leader refuses the second one; then the first leads
/// again, and finds the condition as the attempt wants it.
#[test]
fn what_was_refused_is_not_applied_by_an_earlier_attempt_that_comes_late() {
    for condition in [Condition::Absent, Condition::Present] {
        let mut group = Group::joined(&[1, 2, 3], 7);
        let key = key("k");
        let others = |group: &mut Group, id, is_there: bool| {
            let operation = if is_there { Operation::Set(Value::inline(vec![id])) } else { Operation::Delete };
            let job = Job::Append(Submission { operation, ..submission(id, Condition::None) });
            group.ask(2, &key, job).unwrap();
        };
        let is_wanted_there = condition == Condition::Present;
        others(&mut group, 10, !is_wanted_there);
        let before = present(&group, 1, &key);
        group.kill(1);
        // It cannot be told yet whether it holds of an attempt of before: the leader was another one.
        let lapsed = repeat_if(&mut group, 2, &key, 1, condition, before);
        let Err(Failure::Lapsed { now }) = lapsed else { panic!("{lapsed:?}") };
        let refused = repeat_if(&mut group, 2, &key, 1, condition, now);
        assert!(matches!(refused, Ok(Answer::Conflict(_))), "{refused:?}");
        // It comes again to the same leader: no copy is applied, whatever the key has become.
        others(&mut group, 11, is_wanted_there);
        let again = repeat_if(&mut group, 2, &key, 1, condition, now);
        assert!(matches!(again, Ok(Answer::Conflict(_))), "{again:?}");
        group.restart(1);
        group.run_until(|group| group.is_settled_with(&[1, 2, 3]) && group.replicas[&node(1)].is_leading(SLOT));
        for since in [before, now] {
            let late = repeat_if(&mut group, 1, &key, 1, condition, since);
            assert!(matches!(late, Err(Failure::Lapsed { .. })), "{condition:?} {late:?}");
        }
        // What is anchored in the present is judged by what the key is.
        let now = group.replicas[&node(1)].known_anchor(SLOT).unwrap();
        assert_eq!(height_of(&repeat_if(&mut group, 1, &key, 2, condition, now).unwrap()), 3);
    }
}

/// A leader stops when it alone has what it began to propose; the next one knows nothing of it and says that it has lapsed,
/// and stops as well: the first one, which leads again, must not find it.
#[test]
fn what_has_lapsed_is_not_found_by_a_later_leader() {
    for seed in 0..10 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let key = key("k");
        group.append(1, &key, 10, Condition::None);
        group.run_until(|group| group.heads(&key).len() == 1);
        let before = present(&group, 1, &key);
        let attempt = Submission { since: Some(before), ..submission(1, Condition::Present) };
        group.begin_alone_and_let_lapse(&key, Job::Append(attempt));
        assert_eq!(group.head(1, &key).unwrap().1.height, 1, "seed {seed}");
        group.restart(2);
    }
}

/// The same of a key that holds nothing: no head says which leader has decided about it.
///
/// Seed 101906: a leader that was cut off began to propose a conditional write of a key that had been deleted and forgotten. The
/// next leader said that it had lapsed, and was stopped; the first one came back, led again, and found it.
#[test]
fn what_has_lapsed_where_a_key_holds_nothing_is_not_found_by_a_later_leader() {
    for seed in 0..10 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let key = key("k");
        group.append(1, &self::key("other"), 10, Condition::None);
        let before = group.replicas[&node(1)].known_anchor(SLOT).unwrap();
        let attempt = Submission { since: Some(before), ..submission(1, Condition::Absent) };
        group.begin_alone_and_let_lapse(&key, Job::Append(attempt));
        let held = group.head(1, &key).and_then(|(_, head)| head.value().cloned());
        assert_eq!(held, None, "seed {seed}");
        group.restart(2);
    }
}

/// Nothing is written for the sake of attempts that lapse where every member has told the new leader what it holds.
#[test]
fn where_all_members_are_known_to_hold_nothing_a_lapse_leaves_nothing_behind() {
    let mut group = Group::joined(&[1, 2, 3], 3);
    let key = key("k");
    let before = group.replicas[&node(1)].known_anchor(SLOT).unwrap();
    group.kill(1);
    group.run_until(|group| group.replicas[&node(2)].is_leading(SLOT));
    group.restart(1);
    group.run_until(|group| group.is_settled_with(&[1, 2, 3]) && group.replicas[&node(1)].is_leading(SLOT));
    let lapsed = repeat_if(&mut group, 1, &key, 1, Condition::Absent, before);
    let Err(Failure::Lapsed { now }) = lapsed else { panic!("{lapsed:?}") };
    assert_eq!(height_of(&repeat_if(&mut group, 1, &key, 1, Condition::Absent, now).unwrap()), 1);
}

/// A leader that has been succeeded, and does not know it, begins to propose nothing that its successor may have refused.
#[test]
fn what_was_first_sent_under_a_later_leader_is_not_taken_up_by_an_earlier_one() {
    let mut group = Group::joined(&[1, 2, 3], 4);
    let key = key("k");
    let now = group.replicas[&node(1)].known_anchor(SLOT).unwrap();
    let term = Term { number: now.ballot.term.number + 1, node: node(2), ..now.ballot.term };
    let later = Anchor { ballot: Ballot { term, sequence: 0 }, ..now };
    let attempt = Submission { since: Some(later), ..submission(1, Condition::None) };
    let replica = group.replicas.get_mut(&node(1)).unwrap();
    replica.submit(1 << 50, SLOT, key.clone(), Job::Append(attempt)).unwrap();
    group.run_until(|group| group.results.contains_key(&(1 << 50)));
    assert_eq!(group.results.remove(&(1 << 50)), Some(Err(Failure::Redirect { leader: None, was_proposed: false })));
    assert_eq!(group.head(1, &key), None);
}

/// Two attempts wait for their turn, of which one's sender does not know how the other was anchored: it must not be told that
/// nothing of them will be applied, whichever came first.
///
/// Seed 101308: a node died when its attempt was on its way, and the client's next one, through another node, overtook it by a
/// hair. That one was told that all that was sent before had lapsed, and the first was applied right after it.
#[test]
fn an_attempt_of_unknown_age_does_not_lapse_beside_one_that_waits() {
    for is_unknown_first in [false, true] {
        let mut group = Group::joined(&[1, 2, 3], 5);
        let key = key("k");
        group.append(1, &key, 10, Condition::None);
        let mut attempts = [(1 << 51, group.replicas[&node(1)].known_anchor(SLOT)), (1 << 52, None)];
        if is_unknown_first {
            attempts.reverse();
        }
        let replica = group.replicas.get_mut(&node(1)).unwrap();
        // Something is under way, so that both wait.
        replica.submit(1 << 50, SLOT, key.clone(), Job::Append(submission(11, Condition::None))).unwrap();
        for (ticket, since) in attempts {
            let attempt = Submission { since, ..submission(1, Condition::Present) };
            replica.submit(ticket, SLOT, key.clone(), Job::Append(attempt)).unwrap();
        }
        group.run_until(|group| attempts.iter().all(|(ticket, _)| group.results.contains_key(ticket)));
        let heights = attempts.map(|(ticket, _)| height_of(group.results[&ticket].as_ref().unwrap()));
        assert_eq!(heights, [3, 3], "unknown first: {is_unknown_first}");
    }
}

/// If an attempt of unknown age lapses, so does the first one where it comes late.
#[test]
fn an_attempt_of_unknown_age_lapses_with_all_that_were_sent_before() {
    let mut group = Group::joined(&[1, 2, 3], 5);
    let key = key("k");
    group.append(1, &key, 10, Condition::None);
    let now = group.replicas[&node(1)].known_anchor(SLOT).unwrap();
    let job = Job::Append(Submission { since: None, ..submission(2, Condition::Present) });
    let replica = group.replicas.get_mut(&node(1)).unwrap();
    replica.submit(1 << 53, SLOT, key.clone(), job).unwrap();
    group.run_until(|group| group.results.contains_key(&(1 << 53)));
    assert!(matches!(group.results.remove(&(1 << 53)), Some(Err(Failure::Lapsed { .. }))));
    let late = repeat_if(&mut group, 1, &key, 2, Condition::Present, now);
    assert!(matches!(late, Err(Failure::Lapsed { .. })), "{late:?}");
}
