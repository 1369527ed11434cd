//! What a session has seen of a slot, asked for again at a leader that does not know of it.

use super::*;

/// Reads at level leader, or lazily, for somebody who has seen the slot up to `seen`; `None` while there is no answer.
fn read_in_session(group: &mut Group, name: u8, key: &Key, seen: Option<Ballot>) -> Vec<Option<u64>> {
    let height = |head: Option<(Hash, Transaction)>| head.map_or(0, |(_, head)| head.height);
    let replica = group.replicas.get_mut(&node(name)).unwrap();
    let lazily = replica.read_lazily(SLOT, key, seen).unwrap().map(|read| height(read.head));
    group.last_ticket += 1;
    let (ticket, job) = (group.last_ticket, Job::Read { level: Level::Leader, seen });
    replica.submit(ticket, SLOT, key.clone(), job).unwrap();
    group.step();
    let as_leader = match group.results.get(&ticket) {
        Some(Ok(Answer::Head(read))) => Some(height(read.head.clone())),
        _ => None,
    };
    vec![lazily, as_leader]
}

fn mark_of(answer: Answer) -> Option<Ballot> {
    match answer {
        Answer::Head(read) => read.mark,
        Answer::Appended { mark, .. } => mark,
        other => panic!("{other:?}"),
    }
}

/// Seed 220908: a leader was cut off when all had its proposal, and before it heard so. Its successor found that committed as
/// it was, at the ballot of the old one, which showed a session that had seen it the head before.
#[test]
fn a_leader_that_was_cut_off_shows_no_session_what_is_older_than_its_successor_showed() {
    for seed in 0..10 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let key = key("k");
        group.append(1, &key, 1, Condition::None);
        group.cut = [(node(2), node(1)), (node(3), node(1))].into();
        let job = Job::Append(submission(2, Condition::None));
        group.replicas.get_mut(&node(1)).unwrap().submit(1 << 50, SLOT, key.clone(), job).unwrap();
        group.run_until(|group| [2, 3].iter().all(|name| group.accepted_height(*name, &key) == 2));
        group.cut.extend([(node(1), node(2)), (node(1), node(3))]);
        for other in [2, 3] {
            group.replicas.get_mut(&node(other)).unwrap().handle_suspicion(node(1), true).unwrap();
        }
        let read = group.ask(2, &key, Job::Read { level: Level::Quorum, seen: None }).unwrap();
        let seen = mark_of(read);
        assert!(group.replicas[&node(1)].is_leading(SLOT), "seed {seed}: it has not heard of its successor");
        assert_eq!(read_in_session(&mut group, 1, &key, None), [Some(1), Some(1)], "seed {seed}");
        assert_eq!(read_in_session(&mut group, 1, &key, seen), [None, None], "seed {seed}");
        let waits = group.last_ticket;
        group.cut.clear();
        group.run_until(|group| group.results.contains_key(&waits));
        assert!(matches!(group.results[&waits], Err(Failure::Redirect { .. })), "seed {seed}");
    }
}

/// What a session has written at level leader is answered before it is committed, and shown to nobody until then.
#[test]
fn a_session_waits_for_what_it_has_written_at_level_leader() {
    for seed in 0..10 {
        let mut group = Group::joined(&[1, 2, 3], seed);
        let [key, other] = ["k", "other"].map(key);
        group.append(1, &key, 1, Condition::None);
        group.append(1, &other, 1, Condition::None);
        group.cut = [(node(2), node(1)), (node(3), node(1))].into();
        let own = Submission { level: Level::Leader, ..submission(2, Condition::None) };
        let seen = mark_of(group.ask(1, &key, Job::Append(own)).unwrap());
        assert_eq!(read_in_session(&mut group, 1, &key, None), [Some(1), Some(1)], "seed {seed}");
        assert_eq!(read_in_session(&mut group, 1, &other, seen), [Some(1), Some(1)], "seed {seed}");
        assert_eq!(read_in_session(&mut group, 1, &key, seen), [None, None], "seed {seed}");
        let waits = group.last_ticket;
        group.cut.clear();
        group.run_until(|group| group.results.contains_key(&waits));
        let Some(Ok(Answer::Head(read))) = group.results.remove(&waits) else { panic!("seed {seed}") };
        assert_eq!(read.head.unwrap().1.height, 2, "seed {seed}");
    }
}
