//! Slots that lost their majority for ever, by an operator's word: what is kept, what is lost, and who finds out.

use std::collections::BTreeSet;

use difuse_keylog::{
    Anchor, Answer, Condition, Configuration, Failure, Job, Operation, Store, Submission, Transaction,
    generation_operation, store::MemoryStore,
};
use difuse_types::{Key, Level};

use super::{Group, SLOT, dropping::grow_old_and_drop, height_of, key, node, retries::present, submission};

impl Group {
    /// What an operator's command does: the survivors are told of the recovery; each says whether it entered it.
    pub(super) fn recover(&mut self, survivors: &[u8], drawn: u32) -> Vec<bool> {
        let known = survivors.iter().filter_map(|name| self.replicas[&node(*name)].configuration(SLOT));
        let lost = known.max_by_key(|known| known.epoch).unwrap().clone();
        self.recover_from(&lost, survivors, drawn)
    }

    fn recover_from(&mut self, lost: &Configuration, survivors: &[u8], drawn: u32) -> Vec<bool> {
        let members = survivors.iter().map(|name| node(*name)).collect();
        let recovered = lost.recovered(members, drawn).unwrap();
        let recover = |name: &u8| {
            let replica = self.replicas.get_mut(&node(*name)).unwrap();
            replica.recover(lost.clone(), recovered.clone()).unwrap()
        };
        survivors.iter().map(recover).collect()
    }

    fn epochs(&self, names: &[u8]) -> BTreeSet<u64> {
        names.iter().map(|name| self.replicas[&node(*name)].configuration(SLOT).unwrap().epoch).collect()
    }
}

/// The last write is held by one of the survivors alone: it was committed with those who are lost.
#[test]
fn survivors_of_a_lost_majority_are_revived_with_all_that_any_of_them_holds() {
    for seed in 0..8 {
        let mut group = Group::joined(&[1, 2, 3, 4, 5], seed);
        group.append(1, &key("early"), 1, Condition::None);
        for from in [1, 3, 4, 5] {
            group.cut.insert((node(from), node(2)));
        }
        group.append(1, &key("late"), 2, Condition::None);
        let (late, _) = group.head(1, &key("late")).unwrap();
        assert_eq!(group.recover(&[1, 2], 7), [false, false], "a group with a majority needs no recovery");
        for name in [3, 4, 5] {
            group.kill(name);
        }
        group.cut.clear();
        assert_eq!(group.recover(&[1, 2], 7), [true, true]);
        assert_eq!(group.recover(&[1, 2], 9), [false, false], "seed {seed}: it has a majority again");
        assert_eq!(group.head(2, &key("late")).map(|(hash, _)| hash), Some(late), "seed {seed}");
        group.append(2, &key("late"), 3, Condition::Head(late));
        group.place(&[1, 2]);
        group.run_until(|group| group.is_settled_with(&[1, 2]));
        assert_eq!(group.log(1, &key("early")).len() + group.log(1, &key("late")).len(), 3);
        let configuration = group.replicas[&node(1)].configuration(SLOT).unwrap();
        assert_eq!((configuration.recoveries(), configuration.is_recovery()), (1, false));

        // One that was believed to be lost for ever comes back: it learns that it is no member any more.
        group.restart(3);
        group.run_until(|group| group.epochs(&[1, 2, 3]).len() == 1);
        assert!(!group.replicas[&node(3)].configuration(SLOT).unwrap().contains(&node(3)));
    }
}

/// Cuts all ways between two sides, and lets them suspect each other; or heals them.
fn part(group: &mut Group, sides: [&[u8]; 2], is_cut: bool) {
    for (one, other) in sides[0].iter().flat_map(|one| sides[1].iter().map(move |other| (*one, *other))) {
        for (from, to) in [(one, other), (other, one)] {
            if is_cut {
                group.cut.insert((node(from), node(to)));
            } else {
                group.cut.remove(&(node(from), node(to)));
            }
            group.replicas.get_mut(&node(from)).unwrap().handle_suspicion(node(to), is_cut).unwrap();
        }
    }
}

/// Two operators who do not know of each other, on two sides that do not reach each other, each of which believes that the
/// other is lost. Whatever they drew, one recovery stands everywhere when they meet, and nothing of the other.
#[test]
fn of_two_recoveries_that_meet_one_stands_and_nothing_of_the_other() {
    for (drawn, winner, loser) in [([1000, 2000], 2, 1), ([2000, 1000], 1, 2)] {
        let mut group = Group::joined(&[1, 2, 3], 5);
        let untouched = key("untouched");
        for key in [&key("a"), &untouched] {
            group.append(1, key, 1, Condition::None);
        }
        group.kill(3);
        part(&mut group, [&[1], &[2]], true);
        assert_eq!((group.recover(&[1], drawn[0]), group.recover(&[2], drawn[1])), (vec![true], vec![true]));
        group.append(1, &key("a"), 2, Condition::None);
        group.append(2, &key("a"), 3, Condition::None);
        // The side that stands has not touched this one since: what the other accepted has a higher ballot.
        group.append(loser, &untouched, 4, Condition::None);
        part(&mut group, [&[1], &[2]], false);
        group.run_until(|group| group.epochs(&[1, 2]).len() == 1);
        let configuration = group.replicas[&node(loser)].configuration(SLOT).unwrap();
        assert_eq!(configuration.members, [node(winner)]);

        group.place(&[loser, winner]);
        group.run_until(|group| group.is_settled_with(&[1, 2]) && group.heads(&untouched).len() == 1);
        // Whoever comes first in the ring leads: the one that lost as well.
        group.kill(winner);
        group.restart(winner);
        let ids = |log: Vec<Transaction>| log.iter().map(|one| one.operation_id.0[0]).collect::<Vec<_>>();
        assert_eq!(ids(group.log(loser, &key("a"))), [1, winner + 1]);
        assert_eq!(ids(group.log(loser, &untouched)), [1]);
    }
}

/// Both drew the same: still only one stands, and both agree on which.
#[test]
fn of_two_recoveries_with_one_epoch_one_stands() {
    let mut group = Group::joined(&[1, 2, 3], 6);
    group.kill(3);
    part(&mut group, [&[1], &[2]], true);
    assert_eq!((group.recover(&[1], 7), group.recover(&[2], 7)), (vec![true], vec![true]));
    assert_eq!(group.epochs(&[1, 2]).len(), 1);
    part(&mut group, [&[1], &[2]], false);
    let members = |group: &Group, name| group.replicas[&node(name)].configuration(SLOT).unwrap().members.clone();
    group.run_until(|group| members(group, 1) == members(group, 2));
    let standing = members(&group, 1)[0].0[0];
    group.append(standing, &key("k"), 1, Condition::None);
}

/// Both drew the same, and one side has gone on further before they meet: it stands, and the members of the other begin anew.
/// They were taken for members of one recovery, and kept what only the other side had decided.
#[test]
fn of_two_recoveries_that_drew_the_same_nothing_is_mixed() {
    for further in [1, 2] {
        let mut group = Group::joined(&[1, 2, 3], 7);
        let untouched = key("untouched");
        group.append(1, &untouched, 1, Condition::None);
        group.run_until(|group| group.heads(&untouched).len() == 1);
        group.kill(3);
        part(&mut group, [&[1], &[2]], true);
        assert_eq!((group.recover(&[1], 7), group.recover(&[2], 7)), (vec![true], vec![true]));
        let behind = 3 - further;
        group.append(behind, &untouched, 4, Condition::None);
        group.append(further, &key("a"), 5, Condition::None);
        // A group of one moves to itself and a node that is there for it alone.
        group.start(node(4), MemoryStore::default());
        part(&mut group, [&[4], &[behind]], true);
        group.place(&[further, 4]);
        group.run_until(|group| {
            let configuration = group.replicas[&node(further)].configuration(SLOT).unwrap();
            configuration.members == [node(further), node(4)] && !configuration.is_joint()
        });
        part(&mut group, [&[1, 4], &[2, 4]], false);
        group.place(&[further, 4, behind]);
        group.run_until(|group| group.is_settled_with(&[further, 4, behind]) && group.heads(&untouched).len() == 1);
        assert_eq!(group.log(further, &untouched).len(), 1, "what the side that is given up wrote has come back");
    }
}

/// A member of one recovery hears of another that drew the same, and takes part in it; then it hears how the first has gone
/// on without it. It was taken to have been there all the time, and brought along what only the other had decided.
#[test]
fn a_member_that_changes_between_recoveries_that_drew_the_same_brings_nothing_along() {
    let mut group = Group::joined(&[1, 2, 3, 4, 5], 8);
    let key = key("k");
    group.append(1, &key, 1, Condition::None);
    group.run_until(|group| group.heads(&key).len() == 1);
    group.kill(4);
    group.kill(5);
    part(&mut group, [&[1, 2], &[3]], true);
    let lost = group.replicas[&node(1)].configuration(SLOT).unwrap().clone();
    let recovered =
        |members: &[u8], drawn| lost.recovered(members.iter().map(|name| node(*name)).collect(), drawn).unwrap();
    let is_above = |drawn: &u32| recovered(&[3, 2], *drawn).supersedes(&recovered(&[1, 2], *drawn));
    let drawn = (0..).find(is_above).unwrap();
    assert_eq!(group.recover_from(&lost, &[1, 2], drawn), [true, true]);
    let other = recovered(&[3, 2], drawn);
    assert!(group.replicas.get_mut(&node(3)).unwrap().recover(lost.clone(), other.clone()).unwrap());

    // Node 2 has agreed to go on with node 1, and hears of the other recovery before it hears that this is decided.
    group.run_until(|group| group.replicas[&node(2)].store().slot(SLOT).unwrap().unwrap().proposed.is_some());
    group.cut.insert((node(1), node(2)));
    group.run_until(|group| !group.replicas[&node(1)].configuration(SLOT).unwrap().is_recovery());
    part(&mut group, [&[1], &[2]], true);
    part(&mut group, [&[3], &[2]], false);
    group.run_until(|group| *group.replicas[&node(2)].configuration(SLOT).unwrap() == other);
    group.append(3, &key, 3, Condition::None);

    part(&mut group, [&[3], &[2]], true);
    part(&mut group, [&[1], &[2]], false);
    group.place(&[1, 2]);
    group.run_until(|group| group.is_settled_with(&[1, 2]));
    group.append(1, &key, 2, Condition::None);
    let ids: Vec<u8> = group.log(1, &key).iter().map(|one| one.operation_id.0[0]).collect();
    assert_eq!(ids, [1, 2], "what was decided in the other recovery has come along");
}

/// A member that was given up by mistake and comes back as a newcomer at once brings nothing back with it: what it alone had
/// accepted has a higher ballot than what the survivors have not touched since.
#[test]
fn a_member_that_was_given_up_begins_as_a_newcomer() {
    for seed in 0..8 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let key = key("k");
        group.append(3, &key, 1, Condition::None);
        group.run_until(|group| group.heads(&key).len() == 1);
        // One that is cut off proposes what nobody else accepts, in a later term.
        part(&mut group, [&[1], &[2, 3]], true);
        group.append(3, &key, 2, Condition::None);
        part(&mut group, [&[3], &[1, 2]], true);
        let job = Job::Append(submission(3, Condition::None));
        for name in [2, 3] {
            group
                .replicas
                .get_mut(&node(name))
                .unwrap()
                .submit(u64::from(name), SLOT, key.clone(), job.clone())
                .unwrap();
        }
        group.run_for(20);
        group.kill(2);
        group.kill(3);
        assert_eq!(group.recover(&[1], 1), [true]);
        assert_eq!(group.head(1, &key).unwrap().1.height, 1, "the operator was told that writes may be lost");
        // What it did not take part in is decided before it hears of anything: it finds itself a newcomer.
        group.cut.clear();
        group.place(&[3, 1]);
        group.replicas.get_mut(&node(1)).unwrap().handle_suspicion(node(3), false).unwrap();
        group.run_until(|group| group.replicas[&node(1)].configuration(SLOT).unwrap().is_joint());
        group.restart(3);
        group.run_until(|group| group.is_settled_with(&[1, 3]) && group.heads(&key).len() == 1);
        assert_eq!(group.log(3, &key).len(), 1, "seed {seed}");
    }
}

/// A node that was to become a member again, and had not heard of it when the majority was lost, is a survivor. It went on
/// with what it held as an earlier member: a key that was deleted and forgotten meanwhile had its value again.
#[test]
fn a_survivor_that_was_to_be_a_newcomer_brings_nothing_back() {
    let mut group = Group::joined(&[1, 2, 3], 11);
    let key = key("k");
    group.append(1, &key, 1, Condition::None);
    group.run_until(|group| group.heads(&key).len() == 1);
    group.start(node(4), MemoryStore::default());
    group.replicas.get_mut(&node(3)).unwrap().store_mut().flush_all();
    group.kill(3);
    group.place(&[1, 2, 4]);
    group.run_until(|group| group.is_settled_with(&[1, 2, 4]));
    let delete = Submission { operation: Operation::Delete, ..submission(2, Condition::None) };
    height_of(&group.ask(1, &key, Job::Append(delete)).unwrap());
    grow_old_and_drop(&mut group, &key);

    group.restart(3);
    group.cut = [1, 2, 4].map(|from| (node(from), node(3))).into();
    group.place(&[1, 2, 3]);
    group.run_until(|group| group.replicas[&node(4)].configuration(SLOT).unwrap().is_joint());
    group.kill(1);
    group.kill(2);
    assert!(!group.replicas[&node(3)].configuration(SLOT).unwrap().is_joint());
    assert_eq!(group.recover(&[4, 3], 7), [true, true]);
    group.cut.clear();
    assert_eq!(group.head(4, &key), None, "what was deleted has come back");
    group.place(&[4, 3]);
    group.run_until(|group| group.is_settled_with(&[3, 4]));
}

/// What was told of a key before a recovery says nothing of it since: the key may have been set back. A write that was first
/// sent before, and applied since, was applied again after 128 others, at a height below the one that its sender knew of.
#[test]
fn a_write_from_before_a_recovery_is_applied_once() {
    let mut group = Group::joined(&[1, 2, 3], 12);
    let key = key("k");
    group.append(1, &key, 1, Condition::None);
    group.run_until(|group| group.heads(&key).len() == 1);
    part(&mut group, [&[1], &[2, 3]], true);
    group.append_many(2, &key, 200);
    let (_, last) = group.head(2, &key).unwrap();
    let ballot = group.replicas[&node(2)].store().register(SLOT, &key).unwrap().unwrap().ballot;
    let since = Some(Anchor { ballot, height: last.height });
    group.kill(2);
    group.kill(3);
    assert_eq!(group.recover(&[1], 7), [true]);
    assert_eq!(group.head(1, &key).unwrap().1.height, 1);

    let job = Job::Append(Submission { since, ..submission(77, Condition::None) });
    assert_eq!(height_of(&group.ask(1, &key, job.clone()).unwrap()), 2);
    group.append_many(1, &key, 180);
    let again = group.ask(1, &key, job);
    assert!(matches!(again, Err(Failure::Forgotten { .. })), "{again:?}");
}

/// What was told under a recovery that was lost again says nothing to a leader of another one, which did not know of it, though
/// its ballots may be lower: neither that what is forgotten came before, nor that nothing was refused or dropped since.
///
/// Seed 135249: a write that carried such an anchor was applied, and applied again after 128 others.
#[test]
fn a_write_from_another_recovery_is_applied_once() {
    for drawn in [[1000, 2000], [2000, 1000]] {
        let mut group = Group::joined(&[1, 2, 3], 12);
        let [key, dropped] = ["k", "dropped"].map(key);
        group.kill(3);
        part(&mut group, [&[1], &[2]], true);
        assert_eq!((group.recover(&[1], drawn[0]), group.recover(&[2], drawn[1])), (vec![true], vec![true]));
        group.append_many(2, &key, 200);
        let since = Some(present(&group, 2, &key));
        group.kill(2);

        let attempt = |condition| Job::Append(Submission { since, ..submission(77, condition) });
        let is_forgotten = |result| matches!(result, Err(Failure::Forgotten { .. }));
        assert_eq!(height_of(&group.ask(1, &key, attempt(Condition::None)).unwrap()), 1);
        let lapsed = group.ask(1, &key, Job::Append(Submission { since, ..submission(78, Condition::Absent) }));
        assert!(matches!(lapsed, Err(Failure::Lapsed { .. })), "{lapsed:?}");
        group.append_many(1, &key, 180);
        assert!(is_forgotten(group.ask(1, &key, attempt(Condition::None))), "it was applied 180 others ago");

        assert_eq!(height_of(&group.ask(1, &dropped, attempt(Condition::None)).unwrap()), 1);
        let delete = Submission { operation: Operation::Delete, ..submission(79, Condition::None) };
        group.ask(1, &dropped, Job::Append(delete)).unwrap();
        grow_old_and_drop(&mut group, &dropped);
        assert!(is_forgotten(group.ask(1, &dropped, attempt(Condition::None))), "it was applied, and its key dropped");
    }
}

/// The leader that is given up is only cut off, and has a lease: nothing is committed without it while it may answer reads
/// that it believes to be linearizable.
#[test]
fn a_recovery_waits_until_no_lease_can_stand() {
    for restarts in [false, true] {
        let mut group = Group::joined(&[1, 2, 3], 9);
        let key = key("k");
        group.append(1, &key, 1, Condition::None);
        let is_linearizable = |group: &mut Group| {
            group.last_ticket += 1;
            let (ticket, job) = (group.last_ticket, Job::Read { level: Level::Leader, seen: None });
            let leader = group.replicas.get_mut(&node(1)).unwrap();
            leader.submit(ticket, SLOT, key.clone(), job).unwrap();
            leader.finish_batch().unwrap();
            group.run_until(|group| group.results.contains_key(&ticket));
            matches!(group.results.remove(&ticket), Some(Ok(Answer::Head(read))) if read.is_linearizable)
        };
        for _ in 0..1000 {
            if is_linearizable(&mut group) {
                break;
            }
            group.step();
        }
        assert!(is_linearizable(&mut group), "it has a lease");
        part(&mut group, [&[1], &[2, 3]], true);
        group.kill(3);
        assert_eq!(group.recover(&[2], 1), [true]);
        if restarts {
            let sequence = group.replicas.get_mut(&node(2)).unwrap().store_mut().flush_all();
            group.replicas.get_mut(&node(2)).unwrap().handle_durable(sequence).unwrap();
            group.kill(2);
            group.restart(2);
            part(&mut group, [&[1], &[2]], true);
        }
        let job = Job::Append(submission(2, Condition::None));
        let ticket = u64::MAX - 1;
        group.replicas.get_mut(&node(2)).unwrap().submit(ticket, SLOT, key.clone(), job).unwrap();
        while is_linearizable(&mut group) {
            assert!(!group.results.contains_key(&ticket), "a write without the leader that has a lease");
        }
        group.run_until(|group| group.results.contains_key(&ticket));
        assert!(matches!(group.results.remove(&ticket), Some(Ok(Answer::Appended { .. }))));
    }
}

/// Nobody of the slot is left: it begins empty, with a node that was no member.
#[test]
fn a_slot_without_survivors_is_begun_empty() {
    let mut group = Group::joined(&[1, 2, 3], 10);
    group.append(1, &key("k"), 1, Condition::None);
    group.start(node(4), MemoryStore::default());
    let lost = group.replicas[&node(1)].configuration(SLOT).unwrap().clone();
    assert_eq!(group.recover_from(&lost, &[4], 1), [false], "members are alive");
    for name in [1, 2, 3] {
        group.kill(name);
    }
    assert_eq!(group.recover_from(&lost, &[4], 1), [true]);
    assert_eq!(group.head(4, &key("k")), None);
    assert_eq!(height_of(&group.append(4, &key("k"), 2, Condition::Absent)), 1);
    for name in [1, 2, 3] {
        group.restart(name);
    }
    group.place(&[4, 1, 2]);
    group.run_until(|group| group.is_settled_with(&[4, 1, 2]));
    assert_eq!(group.log(1, &key("k")).len(), 1);
}

/// What the survivors know of collections may be old, and blocks that an upload has stored may be lost with the others:
/// only uploads that begin after the recovery are taken, and only a collection that takes a number above all earlier ones.
#[test]
fn a_recovered_slot_refuses_uploads_that_began_before() {
    let mut group = Group::joined(&[1, 2, 3], 7);
    group.raise(1, 5, 1);
    assert_eq!(group.upload(1, 3, 2), Err(Failure::TooOld { generation: 5 }));
    height_of(&group.upload(1, 4, 3).unwrap());
    for name in [2, 3] {
        group.kill(name);
    }
    assert_eq!(group.recover(&[1], 7), [true]);
    group.place(&[1]);
    group.run_until(|group| group.is_settled_with(&[1]));

    let recovered = 1 << 24;
    assert_eq!(group.upload(1, 5, 4), Err(Failure::TooOld { generation: recovered }));
    let lower = Submission { operation: generation_operation(6), ..submission(5, Condition::None) };
    let conflict = group.ask(1, &Key::of_generation(), Job::Append(lower));
    assert!(matches!(conflict, Ok(Answer::Conflict(_))), "{conflict:?}");
    height_of(&group.upload(1, recovered, 6).unwrap());
    group.raise(1, recovered + 2, 7);
    assert_eq!(group.upload(1, recovered, 8), Err(Failure::TooOld { generation: recovered + 2 }));
}
